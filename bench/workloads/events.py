"""Server-sent events: what an event costs, and 2,000 clients with one event a second each."""

from __future__ import annotations

from typing import ClassVar

from bench.deployment import Deployment
from bench.errors import RunFailed
from bench.load import events
from bench.load.answers import percentile
from bench.running import Running
from bench.sample import Sample, by_role, watching
from bench.workload import Case, Setup, Workload, against

_LATE = 0.1
"""Seconds from which on an event is late."""


class Events(Workload):
    name: ClassVar[str] = "events"
    title: ClassVar[str] = "Server-sent events"
    loop: ClassVar[str] = "open: each event is due on a schedule of its own"
    about: ClassVar[str] = (
        "Each client has its own connection and its own schedule. CPU time per event is that of "
        "the seconds in which all clients are there, without their coming and going. An event is "
        "late if it arrives more than 100 ms after the app had it due, lost if it does not "
        "arrive. Latency is that of the events, memory is what the server grew by for each "
        "client. One core, one worker."
    )
    measures: ClassVar[tuple[str, ...]] = (
        "cpu_event", "cpu_front", "cpu_reactors", "late", "lost", "p50", "p99", "per_client",
    )  # fmt: skip
    compared: ClassVar[tuple[str, ...]] = ("cpu_event", "per_client")
    start: ClassVar = "fresh"
    overhead: ClassVar[float] = 3.0

    def __init__(self) -> None:
        deployment = Deployment(
            (("asgi", "bench.apps.events:asgi"),),
            connections=2000,
            flags=(("ours", "--concurrency 3000"),),
        )
        pairs = (
            *against("reactor-run", "uvicorn", "granian-asgi"),
            *against("reactor-run-uvloop", "uvicorn", "granian-asgi"),
        )

        def case(clients: int, period: float, seconds: float) -> Case:
            often = "one event a second" if period == 1 else f"{1 / period:g} events a second"
            title = f"{clients:,} clients, {often} each"
            values = {"clients": clients, "period": period}
            return Case(str(clients), title, deployment, pairs, seconds, values)

        self.cases = (case(500, 0.5, 2), case(1000, 0.5, 2), case(2000, 1.0, 4))

    def sample(self, case: Case, server: Running, setup: Setup) -> Sample:
        clients = setup.scaled(case["clients"], 50)
        before = sum(m.resident for m in server.memory().values())
        with server.preferred(), watching(server) as sample:
            seen = events.run(
                server.address,
                clients,
                setup.seconds,
                period=case["period"],
                clocks=server.clocks,
            )
            after = sum(m.resident for m in server.memory().values())
        if not seen.lateness:
            raise RunFailed("no event came")
        ordered = sorted(seen.lateness)
        sample.measures |= per_event(seen) | {
            "late": float(sum(late > _LATE for late in ordered)),
            "lost": float(seen.lost),
            "p50": percentile(ordered, 0.5),
            "p99": percentile(ordered, 0.99),
            "per_client": (after - before) / clients,
        }
        sample.details |= {"events": seen.arrived, "connections closed by it": seen.ended}
        return sample


def per_event(seen: events.Events) -> dict[str, float]:
    """CPU time of all processes, and of each role, for one event."""
    first, last = seen.clocks
    used = {role: (last[role] - first.get(role, 0.0)) / seen.arrived for role in last}
    return {"cpu_event": sum(used.values())} | by_role(used)
