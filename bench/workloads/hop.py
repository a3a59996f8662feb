"""A cold look at our own hop: what the front end costs, process by process."""

from __future__ import annotations

from typing import ClassVar

from bench.deployment import Deployment, both
from bench.workload import Case, against
from bench.workloads.closed import Closed


class Hop(Closed):
    name: ClassVar[str] = "hop"
    title: ClassVar[str] = "Our own hop"
    about: ClassVar[str] = (
        "The same 13 bytes by the express lane, by plain lanes, and, as a floor, from a Python "
        "loop that parses nothing and runs no app. The last column tells the processes apart."
    )

    def __init__(self) -> None:
        deployment = Deployment(both("hello"), connections=600)
        pairs = against("reactor-run", "reactor-run-plain", "floor")
        self.cases = tuple(
            Case(
                str(number),
                f"{number} connection{'s' if number > 1 else ''}",
                deployment,
                pairs,
                2,
                {"connections": number},
                ("reactor-run-plain", "floor") if number == 64 else (),
            )
            for number in (1, 64, 512)
        )
