"""Three apps in one service: what the others notice while one is killed, hung and so on."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Final

from bench.deployment import Deployment
from bench.errors import RunFailed
from bench.load import open as open_loop
from bench.load.answers import Answer, Answers, Outcome
from bench.load.client import request
from bench.running import Running, at_once
from bench.sample import Sample, add_answers, watching
from bench.workload import Case, Setup, Workload

_APPS: Final = {"web": "/", "api": "/api/", "live": "/live/"}
"""Each app and its path."""
_RATE: Final = 150.0
"""Requests/s for each app: about a sixth of a core in all."""
_BURN: Final = "burn/20"
_OVERLOAD: Final = 100.0
"""Of these in a second: each takes 20 ms of a core."""
_DEADLINE: Final = 20.0
"""Seconds for all apps to be ready."""


class Pools(Workload):
    name: ClassVar[str] = "pools"
    title: ClassVar[str] = "A fault in one of three apps"
    loop: ClassVar[str] = "open"
    about: ClassVar[str] = (
        "Django in 8 threads, FastAPI on uvloop and a bare app on Trio are one service, each with "
        f"one reactor. Each gets {_RATE:g} requests/s (Poisson). In turn each is at fault: it is "
        "killed once a second; stopped with SIGSTOP every two seconds (`--timeout 1`); reloaded "
        f"every two seconds; or asked for {_OVERLOAD:g} x 20 ms of CPU a second too, twice what "
        "its process can do. Figures are those of the requests of the other two, of all three "
        "parts together. The quiet p99 is of the same apps just before each part. Failed is "
        "everything but an answer below 400. As root, the generator runs at once when it has "
        "something to do (SCHED_FIFO), as clients on other machines do."
    )
    measures: ClassVar[tuple[str, ...]] = (
        "p99_ratio", "failed", "p99", "quiet_p99", "p50", "p99.9", "victim", "actions",
    )  # fmt: skip
    compared: ClassVar[tuple[str, ...]] = ()
    start: ClassVar = "fresh"
    factor: ClassVar[float] = 1.5 * len(_APPS)
    overhead: ClassVar[float] = 8.0

    def __init__(self) -> None:
        self.cases = tuple(
            Case(
                name,
                title,
                # Only the command line of this server is used, and it names the apps by a file.
                Deployment((("asgi", ""),), cores=2, path="/up"),
                (),
                4,
                {"every": every},
                alone=("reactor-run-pools",),
            )
            for name, title, every in (
                ("kill", "kill -9 once a second", 1.0),
                ("hang", "SIGSTOP every two seconds", 2.0),
                ("reload", "a reload every two seconds", 2.0),
                ("overload", "twice what its process can do", 0.0),
            )
        )

    def sample(self, case: Case, server: Running, setup: Setup) -> Sample:
        with server.preferred() as preferred, at_once() as prompt:
            sample = self._sample(case, server, setup)
        if not (preferred and prompt):
            sample.remarks.append("others may have interrupted it: it takes CAP_SYS_NICE")
        return sample

    def _sample(self, case: Case, server: Running, setup: Setup) -> Sample:
        calm: list[Answers] = []
        others: list[Answers] = []
        own: list[Answer] = []
        actions = 0
        ratios: dict[str, float] = {}
        overload = case.name == "overload"
        with watching(server, changing=True) as sample:
            for number, victim in enumerate(_APPS):
                _await_ready(server)
                seed = setup.round * 10 + number
                quiet = _load(server, setup.seconds / 2, seed)
                calm.append(_others(quiet, victim))
                acts = _Acts(server, victim, case.name)
                with acts.every(case["every"]) as count:
                    answers = _load(server, setup.seconds, seed + 1000, victim * overload)
                    actions += count()
                others.append(_others(answers, victim))
                own += [each for each in answers.all if each.kind.startswith(victim)]
                ratios[victim] = _p99(others[-1]) / _p99(calm[-1])
        quiet = Answers.together(calm)
        add_answers(sample, Answers.together(others))
        sample.measures |= {
            "quiet_p99": _p99(quiet),
            "p99_ratio": sample.measures["p99"] / _p99(quiet),
            "actions": float(actions),
            "victim": sum(each.outcome is Outcome.OK for each in own) / len(own),
        }
        sample.details |= {"ratio by app at fault": ratios, "quiet": quiet.outcomes()}
        if quiet.failed():
            sample.remarks.append(f"{quiet.failed()} requests failed in the quiet part")
        return sample


def _p99(answers: Answers) -> float:
    found = answers.percentiles().get("p99")
    if not found:
        raise RunFailed("nothing was answered")
    return found


def _load(server: Running, seconds: float, seed: int, overload: str = "") -> Answers:
    arrivals = [
        (when, app)
        for number, app in enumerate(_APPS)
        for when in open_loop.poisson(_RATE, seconds, seed + 100 * number)
    ]
    requests = {app: request(path) for app, path in _APPS.items()}
    if overload:
        kind = f"{overload} overload"
        arrivals += [(when, kind) for when in open_loop.poisson(_OVERLOAD, seconds, seed + 500)]
        requests[kind] = request(_APPS[overload] + _BURN)
    return open_loop.run(server.address, sorted(arrivals), requests, seconds)


def _others(answers: Answers, victim: str) -> Answers:
    """The answers of the apps that are not at fault."""
    kept = [each for each in answers.all if not each.kind.startswith(victim)]
    return Answers(answers.begin, answers.end, kept, answers.remarks)


class _Acts:
    """What is done to the app at fault, by a thread beside the load."""

    def __init__(self, server: Running, victim: str, what: str) -> None:
        self._server = server
        self._victim = victim
        self._act: Callable[[], object] = {
            "kill": lambda: self._signal(signal.SIGKILL),
            "hang": lambda: self._signal(signal.SIGSTOP),
            "reload": lambda: _ask_admin(server, "POST", f"/reload?app={victim}"),
            "overload": lambda: None,
        }[what]
        self._done = 0

    def _signal(self, number: int) -> None:
        app = next(each for each in _status(self._server)["apps"] if each["name"] == self._victim)
        for each in _status(self._server)["reactors"]:
            if each["name"] in app["reactors"] and each["state"] == "ready":
                os.kill(each["pid"], number)
                return

    @contextmanager
    def every(self, seconds: float) -> Iterator[Callable[[], int]]:
        """Act so often during the block, first after half of the time; 0: never."""
        over = threading.Event()

        def act() -> None:
            due = time.monotonic() + seconds / 2
            while not over.wait(max(0.0, due - time.monotonic())):
                self._act()
                self._done += 1
                due += seconds

        thread = threading.Thread(target=act)
        if seconds:
            thread.start()
        try:
            yield lambda: self._done
        finally:
            over.set()
            if seconds:
                thread.join()


def _await_ready(server: Running) -> None:
    """Wait until each app has a reactor, all are of the present generation, and none retires."""
    end = time.monotonic() + _DEADLINE
    while time.monotonic() < end:
        report = _status(server)
        states = [each["state"] for each in report["reactors"]]
        if report["ready"] and states == ["ready"] * len(_APPS):
            return
        time.sleep(0.05)
    raise RunFailed(f"not all apps were ready within {_DEADLINE:g} s")


def _status(server: Running) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(_ask_admin(server, "GET", "/status"))
    return report


def _ask_admin(server: Running, method: str, path: str) -> bytes:
    connection = http.client.HTTPConnection("localhost", timeout=_DEADLINE)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(_DEADLINE)
    try:
        connection.sock.connect(f"{server.folder}/admin.sock")
        connection.request(method, path)
        return connection.getresponse().read()
    finally:
        connection.close()
