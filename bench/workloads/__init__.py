"""All workloads, in the order in which they are run and reported."""

from typing import Final

from bench.workload import Workload
from bench.workloads.bodies import Bodies
from bench.workloads.events import Events
from bench.workloads.frameworks import Frameworks
from bench.workloads.gigabyte import Gigabyte
from bench.workloads.hangs import Hangs
from bench.workloads.hello import Hello
from bench.workloads.hop import Hop
from bench.workloads.idle import Idle
from bench.workloads.kills import Kills
from bench.workloads.overload import Overload
from bench.workloads.reloads import Reloads
from bench.workloads.slow_clients import SlowClients
from bench.workloads.start import Start
from bench.workloads.stops import Stops
from bench.workloads.uneven import Uneven
from bench.workloads.waiting import Waiting

WORKLOADS: Final[tuple[Workload, ...]] = (
    Hello(),
    Uneven(),
    Frameworks(),
    Gigabyte(),
    SlowClients(),
    Idle(),
    Overload(),
    Kills(),
    Hangs(),
    Reloads(),
    Stops(),
    Start(),
    Hop(),
    Bodies(),
    Waiting(),
    Events(),
)

BY_NAME: Final = {workload.name: workload for workload in WORKLOADS}
