"""Uneven load: what the fast requests wait for, while a few are slow."""

from __future__ import annotations

from typing import ClassVar, Final

from bench.deployment import Deployment, both
from bench.load import open as open_loop
from bench.load import steady
from bench.load.answers import Answers
from bench.load.client import request
from bench.running import Running
from bench.sample import Sample, add_answers, add_wrk, watching
from bench.workload import Case, Setup, Workload, against
from bench.workloads import closed

_SLOW_MS: Final = 50
_SHARE: Final = 0.05
"""Of the requests of the open loop that are slow."""
_SHARES: Final = {"fast": 0.77, "medium": 0.2, "slow": 0.03}
"""The requests of (e), and"""
_TAKES: Final = {"medium": 6, "slow": _SLOW_MS}
"""how many milliseconds each takes."""
_WORKERS: Final = 2
_PARTS: Final = 4
"""Of a run of (a), each with new connections."""


class Uneven(Workload):
    name: ClassVar[str] = "uneven"
    title: ClassVar[str] = "Uneven load: fast requests beside slow ones"
    loop: ClassVar[str] = "(a) schedule per client, (b), (c) and (e) open, (d) and (f) closed"
    about: ClassVar[str] = (
        "Two workers each. A slow request takes 50 ms: of CPU time (burn), or of a sleep that "
        "blocks its thread (sleep). (a) One or two clients ask for something slow without pause; "
        "50 others, each on its own kept connection, ask for something fast every 100 ms, and "
        "latency counts from when that was due. Which worker a connection lands on is chance, so "
        "each run has four parts with new connections. (b) Requests arrive at random (Poisson), "
        "5 % of them slow, at a rate that keeps the two workers busy for the named share of their "
        "time (utilisation). (c) The same at 0.7, where slow requests must not pay for the fast "
        "ones, beside ours with `--set-aside off`; here a slow request blocks its worker for 50 ms "
        "without using a processor, which the load needs. (d) 64 clients whose every request "
        "blocks a worker for 6 ms: two can answer 333 requests a second. (e) 77 % fast requests, "
        "20 % that block for 6 ms and 3 % for 50 ms, at utilisation 0.5. (f) Eight clients that "
        "send fast requests without pause (wrk), beside one that burns without pause. Figures are "
        "those of the "
        "fast requests, unless they say slow; one that was given up after 5 s counts with that. "
        "Threads are for each worker, equal for all: "
        "one, as in the hello row, or two where two clients sleep."
    )
    measures: ClassVar[tuple[str, ...]] = (
        "p99", "p50", "p99.9", "slow_p50", "slow_p99", "rate", "failed", "cpu",
    )  # fmt: skip
    compared: ClassVar[tuple[str, ...]] = ("p99", "p50", "slow_p50", "rate")
    overhead: ClassVar[float] = 0.6

    def __init__(self) -> None:
        apps = both("slow")
        asgi = against("reactor-run", "uvicorn", "granian-asgi")
        wsgi = against("reactor-run-wsgi", "granian-wsgi", "gunicorn-gthread")
        one = Deployment(apps, workers=_WORKERS, cores=2)
        two = Deployment(apps, workers=_WORKERS, cores=2, threads=2)
        burn, sleep = f"/burn/{_SLOW_MS}", f"/sleep/{_SLOW_MS}"

        def steady_case(name: str, title: str, **values: object) -> Case:
            pairs = asgi if name.startswith("a-asgi") else wsgi
            deployment = two if values["clients"] == 2 else one
            peer = "uvicorn" if pairs is asgi else "gunicorn-gthread"
            quick = () if name == "a-wsgi-burn" else (peer,)
            return Case(name, title, deployment, pairs, 4, values, quick)

        def open_case(interface: str, utilisation: float) -> Case:
            return Case(
                f"b-{interface}-{utilisation:g}",
                f"(b) {interface.upper()}, burn, utilisation {utilisation:g}",
                one,
                asgi if interface == "asgi" else wsgi,
                5,
                {"slow": burn, "utilisation": utilisation},
            )

        self.cases = (
            steady_case("a-asgi-burn", "(a) ASGI, one client burns", slow=burn, clients=1),
            steady_case("a-wsgi-burn", "(a) WSGI, one client burns", slow=burn, clients=1),
            steady_case("a-wsgi-sleep", "(a) WSGI, one client sleeps", slow=sleep, clients=1),
            steady_case(
                "a-wsgi-sleep-2",
                "(a) WSGI, two clients sleep, two threads a worker",
                slow=sleep,
                clients=2,
            ),
            open_case("asgi", 0.1),
            open_case("asgi", 0.3),
            open_case("wsgi", 0.1),
            open_case("wsgi", 0.3),
            Case(
                "c-asgi-0.7",
                "(c) ASGI, block, utilisation 0.7",
                one,
                against("reactor-run", "uvicorn", "reactor-run-no-aside"),
                6,
                {"slow": f"/block/{_SLOW_MS}", "utilisation": 0.7},
            ),
            Case(
                "d-asgi-6",
                "(d) ASGI, every request blocks for 6 ms",
                one,
                against("reactor-run", "uvicorn", "reactor-run-no-aside"),
                2,
                {"connections": 64, "path": "/block/6"},
            ),
            Case(
                "e-asgi-0.5",
                "(e) ASGI, three kinds of requests, utilisation 0.5",
                one,
                against("reactor-run", "uvicorn", "reactor-run-no-aside"),
                6,
                {"slow": f"/block/{_SLOW_MS}", "medium": "/block/6", "utilisation": 0.5},
            ),
            Case("f-asgi", "(f) ASGI, saturated", one, asgi, 3, {"connections": 8, "slow": burn}),
            Case("f-wsgi", "(f) WSGI, saturated", one, wsgi, 3, {"connections": 8, "slow": burn}),
        )

    def sample(self, case: Case, server: Running, setup: Setup) -> Sample:
        if "connections" in case.values and "slow" in case.values:
            return saturated(case, server, setup)
        if "connections" in case.values:
            with watching(server) as sample:
                result = closed.load(case, server, setup.cores.load, setup.seconds)
            return add_wrk(sample, result)
        slow = request(case["slow"])
        with watching(server) as sample:
            if "clients" in case.values:
                answers = Answers.together(
                    [
                        steady.run(
                            server.address,
                            request("/"),
                            slow,
                            setup.seconds / _PARTS,
                            slow_clients=case["clients"],
                        )
                        for _ in range(_PARTS)
                    ]
                )
            else:
                requests = {"fast": request("/"), "slow": slow}
                if "medium" in case.values:
                    requests["medium"] = request(case["medium"])
                    arrivals = three_kinds(case["utilisation"], setup)
                else:
                    rate = arrival_rate(case["utilisation"])
                    times = open_loop.poisson(rate, setup.seconds, setup.round)
                    arrivals = open_loop.mixed(times, _SHARE, setup.round)
                answers = open_loop.run(server.address, arrivals, requests, setup.seconds)
        add_answers(sample, answers, "fast")
        add_slow(sample, answers)
        return sample


def saturated(case: Case, server: Running, setup: Setup) -> Sample:
    """A run of (f)."""
    with (
        steady.without_pause(server.address, request(case["slow"])) as answers,
        watching(server) as sample,
    ):
        result = closed.load(case, server, setup.cores.load, setup.seconds)
    add_wrk(sample, result)
    add_slow(sample, answers)
    return sample


def add_slow(sample: Sample, answers: Answers) -> None:
    """Take over what slow requests paid."""
    percentiles = answers.percentiles("slow")
    sample.measures |= {f"slow_{name}": percentiles[name] for name in ("p50", "p99") if percentiles}
    sample.details["slow requests"] = answers.outcomes("slow")


def arrival_rate(utilisation: float) -> float:
    """Requests a second that keep the workers busy for this share of their time.

    The fast ones take next to no time, so only the slow ones count.
    """
    return utilisation * _WORKERS / (_SHARE * _SLOW_MS / 1e3)


def three_kinds(utilisation: float, setup: Setup) -> list[tuple[float, str]]:
    """Arrivals of (e), which keep the workers busy for this share of their time."""
    mean = sum(_SHARES[kind] * milliseconds for kind, milliseconds in _TAKES.items()) / 1e3
    times = open_loop.poisson(utilisation * _WORKERS / mean, setup.seconds, setup.round)
    return open_loop.of_kinds(times, _SHARES, setup.round)
