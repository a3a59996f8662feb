"""WebSockets: what a message costs, what an idle one costs, and one that does not read."""

from __future__ import annotations

import time
from itertools import cycle
from typing import ClassVar, Final

from bench.deployment import Deployment
from bench.errors import RunFailed
from bench.load import lockstep, websockets
from bench.running import Running
from bench.sample import Sample, by_role, watching
from bench.workload import Case, Setup, Workload, against

_CPU: Final = 0.4
"""Seconds of CPU time that the lock-step load gives the server in a run."""
_FIRST: Final = 4
"""Batches that do not count."""
_QUIET: Final = 3.0
"""Seconds in which idle WebSockets are watched."""


class WebSockets(Workload):
    name: ClassVar[str] = "websockets"
    title: ClassVar[str] = "WebSockets"
    loop: ClassVar[str] = "lock-step"
    about: ClassVar[str] = (
        "The app sends back each message, or sends it to all. In lock-step a client on the "
        "server's core sends one message on each WebSocket and waits for all that come back. No "
        "two messages are alike. CPU time is that for one message which reaches a client. Memory "
        "is the share of all processes (PSS) by which they grew. uvicorn runs with its own "
        "implementation (websockets-sansio), or with wsproto where the name says so. No "
        "compression, no pings. One core, one worker."
    )
    measures: ClassVar[tuple[str, ...]] = (
        "cpu", "cpu_front", "cpu_reactors", "per_client", "cpu_second",
    )  # fmt: skip
    compared: ClassVar[tuple[str, ...]] = ("cpu", "per_client")
    start: ClassVar = "fresh"
    overhead: ClassVar[float] = 4.0

    def __init__(self) -> None:
        deployment = Deployment(
            (("asgi", "bench.apps.websockets:asgi"),),
            connections=10_000,
            flags=(
                ("ours", "--ws-ping-interval 0"),
                ("uvicorn", "--ws-ping-interval 0 --ws-per-message-deflate false"),
                ("uvicorn", "--ws websockets-sansio"),
                ("uvicorn-wsproto", "--ws wsproto"),
                ("granian", "--ws"),
            ),
        )
        small = (
            *against("reactor-run", "uvicorn", "granian-asgi", "hypercorn-trio"),
            *against("reactor-run-uvloop", "uvicorn", "granian-asgi", "hypercorn-uvloop"),
        )
        large = (
            *against("reactor-run", "uvicorn", "uvicorn-wsproto"),
            *against("reactor-run-uvloop", "uvicorn", "uvicorn-wsproto"),
        )
        both = (*against("reactor-run", "uvicorn"), *against("reactor-run-uvloop", "uvicorn"))
        self.cases = (
            Case(
                "echo-100", "64 WebSockets, echo of 100 bytes", deployment, small, 1, {"size": 100}
            ),
            Case(
                "echo-10k", "64 WebSockets, echo of 10 KiB", deployment, large, 1, {"size": 10_240}
            ),
            Case("all", "a message of 100 bytes to 5,000", deployment, both, 1, {"clients": 5000}),
            Case("idle", "9,500 that are idle", deployment, both, _QUIET, {"clients": 9500}),
        )

    def sample(self, case: Case, server: Running, setup: Setup) -> Sample:
        if case.name == "all":
            return _to_all(server, setup.scaled(case["clients"], 10), setup)
        if case.name == "idle":
            return _idle(server, setup.scaled(case["clients"], 10), setup.seconds)
        return _echo(server, case["size"], setup)


def _echo(server: Running, size: int, setup: Setup) -> Sample:
    entries = cycle(websockets.frames(size))
    with (
        websockets.connected(server.address, 64) as client,
        lockstep.on_core(setup.cores.servers[0]),
        server.preferred() as alone,
    ):
        client.run(entries, 1, _FIRST)
        begun = sum(server.clocks().values())
        client.run(entries, 1, _FIRST)
        batch = (sum(server.clocks().values()) - begun) / _FIRST
        with watching(server) as sample:
            before = server.clocks()
            done = client.run(entries, 1, max(_FIRST, round(_CPU / batch)))
            after = server.clocks()
    return _per_message(sample, before, after, done, alone)


def _to_all(server: Running, clients: int, setup: Setup) -> Sample:
    (message, *_) = websockets.frames(100)
    rounds = 4
    with (
        websockets.opened(server.address, "/all", clients) as socks,
        lockstep.on_core(setup.cores.servers[0]),
        server.preferred() as alone,
    ):
        socks[0].sendall(message)
        websockets.read_all(socks, 102)
        with watching(server) as sample:
            before = server.clocks()
            for _ in range(rounds):
                socks[0].sendall(message)
                websockets.read_all(socks, 102)
            after = server.clocks()
    return _per_message(sample, before, after, rounds * clients, alone)


def _per_message(
    sample: Sample, before: dict[str, float], after: dict[str, float], done: int, alone: bool
) -> Sample:
    used = {role: (after[role] - before.get(role, 0.0)) / done for role in after}
    sample.requests = done
    sample.measures |= {"cpu": sum(used.values())} | by_role(used)
    # What used the server's core was the client.
    sample.remarks.clear()
    sample.details["preferred"] = alone
    return sample


def _idle(server: Running, clients: int, seconds: float) -> Sample:
    with websockets.opened(server.address, "/echo", 64):
        # What is imported late is, and caches are filled.
        before = sum(memory.share for memory in server.memory().values())
        with websockets.opened(server.address, "/echo", clients):
            after = sum(memory.share for memory in server.memory().values())
            with watching(server) as sample:
                begun, began = sum(server.clocks().values()), time.monotonic()
                time.sleep(seconds)
                used = sum(server.clocks().values()) - begun
                lasted = time.monotonic() - began
    if after <= before:
        raise RunFailed("its memory did not grow")
    sample.measures |= {
        "per_client": (after - before) / clients,
        "cpu_second": used / lasted,
    }
    return sample
