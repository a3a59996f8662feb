"""Four workers of one app: the memory that they share, and how soon a dead one is replaced."""

from __future__ import annotations

import http.client
import os
import signal
import time
from typing import ClassVar, Final

from bench import proc
from bench.apps import ready_hooks
from bench.deployment import Deployment
from bench.errors import RunFailed
from bench.running import Running
from bench.sample import Sample
from bench.servers import OURS
from bench.workload import Case, Setup, Starter, Workload, against

_WORKERS: Final = 4
_REQUESTS: Final = 5000
_CONNECTIONS: Final = 20
_BATCH: Final = 25
"""Requests on a connection before it is replaced, so that each worker gets some."""
_DEADLINE: Final = 20.0
"""Seconds that a server has to replace a worker."""


class Preload(Workload):
    name: ClassVar[str] = "preload"
    title: ClassVar[str] = "Four workers: memory, and a worker's replacement"
    loop: ClassVar[str] = "closed"
    about: ClassVar[str] = (
        "FastAPI in four workers. Memory is the proportional set size of all processes after "
        f"{_REQUESTS:,} requests, the zygote of `--preload on` included. Then a worker is killed "
        "with signal 9. The replacement is ready when its app has started; only ours tells when "
        "that is."
    )
    measures: ClassVar[tuple[str, ...]] = ("rest", "replaced")
    compared: ClassVar[tuple[str, ...]] = ("rest",)
    start: ClassVar = "own"
    overhead: ClassVar[float] = 8

    def __init__(self) -> None:
        self.cases = (
            Case(
                "fastapi",
                "FastAPI",
                Deployment(
                    (("asgi", "bench.apps.fastapi_items:app"),),
                    workers=_WORKERS,
                    cores=2,
                    flags=(("ours", "--hooks bench.apps.ready_hooks"),),
                ),
                (
                    *against("reactor-run-preload", "uvicorn"),
                    *against("reactor-run-uvloop", "uvicorn"),
                ),
                0,
            ),
        )

    def sample_start(self, case: Case, start: Starter, setup: Setup) -> Sample:
        with start() as server:
            ours = server.server.name in OURS
            try:
                if ours:
                    _await_ready(server, _WORKERS)
                _ask(server)
                rest = sum(each.share for each in server.memory().values())
                measures = {"rest": float(rest)}
                if ours:
                    with server.preferred():
                        measures["replaced"] = _replace(server)
            finally:
                ready_hooks.path(server.pid).unlink(missing_ok=True)
            return Sample(measures=measures, problems=server.faults())


def _await_ready(server: Running, count: int) -> list[float]:
    """Return the times at which reactors were ready, as soon as there are `count` of them."""
    file = ready_hooks.path(server.pid)
    end = time.monotonic() + _DEADLINE
    while time.monotonic() < end:
        times = [float(line) for line in file.read_text().split()] if file.exists() else []
        if len(times) >= count:
            return times
        time.sleep(0.002)
    raise RunFailed(f"not {count} reactors were ready within {_DEADLINE:g} s")


def _ask(server: Running) -> None:
    """Send requests, each batch on new connections."""
    for _ in range(_REQUESTS // (_CONNECTIONS * _BATCH)):
        clients = [http.client.HTTPConnection(*server.address) for _ in range(_CONNECTIONS)]
        for _ in range(_BATCH):
            for client in clients:
                client.request("GET", "/")
            for client in clients:
                client.getresponse().read()
        for client in clients:
            client.close()


def _replace(server: Running) -> float:
    """Kill the worker that was started last; return the seconds until another one is ready."""
    began = time.monotonic()
    os.kill(proc.workers(server.pid)[-1], signal.SIGKILL)
    return _await_ready(server, _WORKERS + 1)[-1] - began
