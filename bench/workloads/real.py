"""Requests as real services get them: one row each of the first table of a report."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import ClassVar, Final

from bench.deployment import Deployment, both
from bench.load import lockstep, requests, wrk
from bench.load.requests import Load
from bench.running import Running
from bench.sample import Sample, add_wrk, by_role, watching
from bench.workload import Case, Pair, Setup, Workload, against

_CPU: Final = 0.4
"""Seconds of CPU time that the lock-step load gives the server in a run."""
_FIRST: Final = 4
"""Batches that do not count: the first, and those that tell how much a batch is."""
_TRIO: Final = against("reactor-run", "uvicorn", "granian-asgi")
_UVLOOP: Final = against("reactor-run-uvloop", "uvicorn", "granian-asgi")
_UVICORN: Final = (
    *against("reactor-run", "uvicorn"),
    *against("reactor-run-uvloop", "uvicorn"),
)
_WSGI: Final = against("reactor-run-wsgi", "gunicorn-gthread", "granian-wsgi")


class Real(Workload):
    name: ClassVar[str] = "real"
    title: ClassVar[str] = "Requests of real services"
    loop: ClassVar[str] = "lock-step for CPU time, closed for requests/s"
    about: ClassVar[str] = (
        "One worker, one thread for WSGI (gunicorn's gthread: four, its own advice). No two "
        "requests are alike unless the title says so. CPU time per request is taken with the "
        "server on one core: a client on the same core sends one request on each connection and "
        "waits for all answers, so that the figure hardly depends on what else the machine does. "
        "requests/s and p99 come from wrk, first with the server on one core and wrk on another, "
        "then with server and wrk on any of two cores."
    )
    measures: ClassVar[tuple[str, ...]] = (
        "cpu", "cpu_front", "cpu_reactors", "rate", "p99", "rate_two", "p99_two", "cpu_two",
    )  # fmt: skip
    compared: ClassVar[tuple[str, ...]] = ("cpu", "rate", "rate_two")
    overhead: ClassVar[float] = 0.5 + 2 * _CPU
    factor: ClassVar[float] = 2.0

    def __init__(self) -> None:
        threads = (("gunicorn-gthread", "--threads 4"),)
        small = Deployment(both("real"), flags=threads, connections=200)
        hello = Deployment(both("hello"), flags=threads, connections=200)
        bodies = Deployment(both("bodies"), flags=threads, connections=200)
        orders = Deployment((("asgi", "bench.apps.fastapi_items:app"),), connections=200)
        quotes = Deployment(
            (("asgi", "bench.apps.fastapi_quotes:app"),), connections=200, backend=True
        )
        flask = Deployment((("wsgi", "bench.apps.flask_page:app"),), flags=threads)
        django = Deployment((("wsgi", "bench.apps.django_page:application"),), flags=threads)

        def row(
            name: str,
            title: str,
            deployment: Deployment,
            load: Load,
            pairs: tuple[Pair, ...],
            connections: int = 64,
            quick: tuple[str, ...] = (),
            seconds: float = 1,
        ) -> Case:
            values = {"load": load, "connections": connections}
            return Case(name, title, deployment, pairs, seconds, values, quick)

        def distinct(path: str, pipelined: int = 1) -> Load:
            return Load("distinct", path, pipelined=pipelined)

        def answers(name: str, size: int, shown: str, connections: int) -> Case:
            title = f"answers of {shown}, {connections} connections"
            return row(name, title, bodies, distinct(f"/{size}"), _TRIO, connections)

        def uploads(name: str, size: int, shown: str, connections: int) -> Case:
            title = f"uploads of {shown}, {connections} connections"
            load = Load("upload", "/up", body=size)
            return row(name, title, bodies, load, _TRIO, connections)

        self.cases = (
            row(
                "browser",
                "a browser's requests: cookies, ids, 30 % with JSON",
                small,
                Load("browser"),
                (*_TRIO, *_WSGI),
                quick=("uvicorn",),
            ),
            row(
                "api",
                "an API client's requests: tokens, ids, 30 % with JSON",
                small,
                Load("api"),
                (*_TRIO, *_WSGI),
            ),
            row(
                "orders",
                "FastAPI: orders in JSON, validated; short answers",
                orders,
                Load("orders"),
                (*_TRIO, *_UVICORN[1:]),
            ),
            row(
                "fastapi",
                "FastAPI: a validated body, an awaited call to a backend, 10 KB of JSON",
                quotes,
                Load("orders"),
                (*_TRIO, *_UVLOOP),
            ),
            row("flask", "Flask: a page of 30 KB", flask, Load("pages", "/page"), _WSGI, seconds=2),
            row(
                "django",
                "Django: a page of 30 KB",
                django,
                Load("pages", "/page"),
                _WSGI,
                seconds=2,
            ),
            row("await-0", "awaits once: sleep(0)", small, distinct("/await/0"), _UVICORN),
            row("await-5", "awaits 5 ms", small, distinct("/await/5"), _UVICORN),
            answers("answer-10k", 10_000, "10 KB", 64),
            answers("answer-64k", 65_536, "64 KiB", 16),
            answers("answer-100k", 100_000, "100 KB", 16),
            answers("answer-1m", 1_000_000, "1 MB", 16),
            uploads("upload-100k", 100_000, "100 KB", 16),
            uploads("upload-1m", 1_000_000, "1 MB", 16),
            row(
                "chunks",
                "1,000 chunks of 100 bytes, 16 connections",
                bodies,
                distinct("/chunks/1000/100"),
                _TRIO,
                16,
            ),
            row(
                "pipelined",
                "16 requests pipelined on each of 16 connections",
                small,
                distinct("/", pipelined=16),
                _UVICORN[:1],
                16,
            ),
            row(
                "api-8",
                "an API client's requests, 8 connections",
                small,
                Load("api"),
                _TRIO,
                8,
            ),
            row(
                "hello",
                "identical requests: 13 bytes, no body",
                hello,
                Load("identical"),
                (*_TRIO, *_WSGI),
            ),
            row(
                "https",
                "TLS: an API client's requests",
                Deployment(both("real"), connections=200, tls=True),
                Load("api"),
                _TRIO,
            ),
            row(
                "https-100k",
                "TLS: answers of 100 KB, 16 connections",
                Deployment(both("bodies"), connections=200, tls=True),
                distinct("/100000"),
                _TRIO,
                16,
            ),
            row(
                "https-hello",
                "TLS: identical requests, 13 bytes",
                Deployment(both("hello"), connections=200, tls=True),
                Load("identical"),
                _TRIO,
            ),
        )

    def sample(self, case: Case, server: Running, setup: Setup) -> Sample:
        secret = case.deployment.tls
        with lockstep.connected(server.address, case["connections"], secret=secret) as client:
            sample = _steady(client, case["load"], server, setup)
        if not setup.round or setup.cpu:
            return sample
        with tempfile.NamedTemporaryFile(prefix="bench-pool-") as file:
            pool = Path(file.name)
            requests.write(case["load"], pool)
            one = _closed(case, server, [setup.cores.load], pool, setup)
            with server.on_cores(setup.cores.servers) as moved:
                two = _closed(case, moved, setup.cores.servers, pool, setup)
        _add(sample, one, "rate", "p99")
        _add(sample, two, "rate", "p99", "cpu", suffix="_two")
        return sample


def _closed(case: Case, server: Running, cores: Sequence[int], pool: Path, setup: Setup) -> Sample:
    """wrk on these cores."""
    with watching(server) as sample:
        result = wrk.run(
            server.url,
            cores=cores,
            connections=case["connections"],
            seconds=setup.seconds,
            pool=pool,
        )
    return add_wrk(sample, result)


def _steady(client: lockstep.Lockstep, load: Load, server: Running, setup: Setup) -> Sample:
    """CPU time per request in lock-step, of all processes and of each role."""
    entries = cycle(requests.pool(load))
    with lockstep.on_core(setup.cores.servers[0]), server.preferred() as alone:
        # Connections are accepted, and what is imported late is.
        client.run(entries, load.pipelined, _FIRST)
        begun = sum(server.clocks().values())
        client.run(entries, load.pipelined, _FIRST)
        batch = (sum(server.clocks().values()) - begun) / _FIRST
        with watching(server) as sample:
            before = server.clocks()
            done = client.run(entries, load.pipelined, max(_FIRST, round(_CPU / batch)))
            after = server.clocks()
    used = {role: (after[role] - before.get(role, 0.0)) / done for role in after}
    sample.requests = done
    sample.measures |= {"cpu": sum(used.values())} | by_role(used)
    # What used the server's core was the client.
    sample.remarks.clear()
    sample.details["preferred"] = alone
    return sample


def _add(sample: Sample, other: Sample, *names: str, suffix: str = "") -> None:
    """Take over what another load on the same server gave."""
    found = {name: other.measures[name] for name in names if name in other.measures}
    sample.measures |= {f"{name}{suffix}": value for name, value in found.items()}
    sample.problems += other.problems
    sample.remarks += other.remarks
    sample.details |= {f"{name}{suffix}": value for name, value in other.details.items()}
