"""All workloads, in the order in which they are run and reported."""

from typing import Final

from bench.workload import Workload
from bench.workloads.edits import Edits
from bench.workloads.events import Events
from bench.workloads.gigabyte import Gigabyte
from bench.workloads.hangs import Hangs
from bench.workloads.hello import Hello
from bench.workloads.hop import Hop
from bench.workloads.http2 import Http2, Http2Idle
from bench.workloads.https import Hellos, HttpsIdle
from bench.workloads.idle import Idle
from bench.workloads.kills import Kills
from bench.workloads.overload import Overload
from bench.workloads.pools import Pools
from bench.workloads.preload import Preload
from bench.workloads.real import Real
from bench.workloads.reloads import Reloads
from bench.workloads.slow_clients import SlowClients
from bench.workloads.start import Start
from bench.workloads.static_files import StaticFiles
from bench.workloads.stops import Stops
from bench.workloads.switched_on import SwitchedOn
from bench.workloads.uneven import Uneven
from bench.workloads.websockets import WebSockets

WORKLOADS: Final[tuple[Workload, ...]] = (
    Real(),
    Hello(),
    SwitchedOn(),
    StaticFiles(),
    Uneven(),
    Gigabyte(),
    SlowClients(),
    Idle(),
    Overload(),
    Kills(),
    Hangs(),
    Reloads(),
    Stops(),
    Pools(),
    Start(),
    Preload(),
    Edits(),
    Hop(),
    Events(),
    WebSockets(),
    Hellos(),
    HttpsIdle(),
    Http2(),
    Http2Idle(),
)

BY_NAME: Final = {workload.name: workload for workload in WORKLOADS}
