"""A pool: the reactors of one app, and what belongs to them.

Each app of a service has a pool. The pools share the loop, the clients' connections and the
counters, and nothing else. So an app that dies, hangs, reloads or is overloaded does not affect the
others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from reactor_run.frontend.clients.context import ClientContext
from reactor_run.frontend.clients.entry import Entry
from reactor_run.frontend.command.settings import Settings
from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.exchanges.counters import Counters
from reactor_run.frontend.exchanges.dispatcher import Dispatcher
from reactor_run.frontend.exchanges.replay import METHODS
from reactor_run.frontend.launch import StartDirectory
from reactor_run.frontend.loop.epoll import Loop, Timer
from reactor_run.frontend.reactors.backoff import Backoff
from reactor_run.frontend.reactors.cpu_count import CPUCount
from reactor_run.frontend.reactors.heartbeat import Heartbeat
from reactor_run.frontend.reactors.reactor import Reactor
from reactor_run.frontend.reactors.recycling import Recycling
from reactor_run.frontend.reactors.supervisor import Supervisor

__all__ = ["Pool", "PoolOwner", "Pools", "make_dispatcher"]

_START_AGAIN: Final = Backoff(1.0, 30.0)
"""The backoff between two starts of an app that never started, beside apps that serve."""


class PoolOwner(Protocol):
    """The service, as its pools know it."""

    def pool_serves(self, pool: Pool) -> None:
        """Note that a reactor of the pool is ready."""

    def pool_failed(self, pool: Pool, error: OperatorError, details: str | None) -> bool:
        """Note that the app has not started, and never had. Return whether to try again."""

    def reactor_started(self, reactor: Reactor) -> None:
        """Note that the process of a reactor was started."""

    def reactor_exited(self, reactor: Reactor, status: int) -> None:
        """Note that the process of a reactor has ended."""

    def reactor_ended(self) -> None:
        """Note that a reactor has ended while the service stops."""

    def reload_begins(self, pool: Pool) -> None:
        """Note that a reload has begun."""

    def reload_ended(self, pool: Pool) -> None:
        """Note that a reload has ended."""


def make_dispatcher(loop: Loop, settings: Settings) -> Dispatcher:
    """Return the dispatcher of an app with these settings."""
    return Dispatcher(
        loop,
        settings.queue_size,
        METHODS[settings.replay],
        set_aside=settings.set_aside == "on",
    )


class Pool:
    """The reactors of one app. To the supervisor it is the `Operation`.

    name: of the app.
    ready: a reactor has been ready.
    failed: the app has not started, and never had.
    """

    def __init__(
        self,
        name: str,
        loop: Loop,
        context: ClientContext,
        counters: Counters,
        settings: Settings,
        place: StartDirectory,
        owner: PoolOwner,
        *,
        label: str = "",
        mount_path: str = "",
    ) -> None:
        """`context`: of the requests of this app; it has the dispatcher. `label`: precedes the
        names of its reactors. `mount_path`: the prefix of its routes."""
        self.name = name
        self.settings = settings
        self.ready = self.failed = False
        self.context = context
        self.entry = Entry(context, name)
        self.dispatcher = context.dispatcher
        self.heartbeat = Heartbeat(loop, self.dispatcher, settings.timeout)
        self.supervisor = Supervisor(
            loop,
            self.dispatcher,
            counters,
            self.heartbeat,
            settings,
            place,
            self,
            label=label,
            mount_path=mount_path,
        )
        self.scaled = False
        """The number of reactors was changed by the operator since the start."""
        self._started = False
        self._recycling = Recycling(loop, self.supervisor, settings)
        self._cpus = CPUCount(loop, self.supervisor.scale) if not settings.reactors else None
        self._loop = loop
        self._owner = owner
        self._failures = 0
        self._start_again = Timer(self.supervisor.fill)

    def start(self) -> None:
        """Start the reactors. Raises OperatorError if the kernel refuses."""
        self._started = True
        self.supervisor.start()

    def begin(self) -> None:
        """Watch the reactors from now on."""
        self._recycling.begin()
        self.heartbeat.begin(self.supervisor.at_work)
        if self._cpus is not None:
            self._cpus.begin()

    def scale(self, wanted: int) -> None:
        """Change the number of reactors, or that of `start`, whatever the settings say."""
        if self._cpus is not None:
            self._cpus.end()
            self._cpus = None
        self.scaled = True
        if self._started:
            self.supervisor.scale(wanted)
        else:
            self.supervisor.wanted = wanted

    # As the supervisor's operation ----------------------------------------------------------------

    def serves(self, interface: str) -> None:
        """Serve clients: a reactor is ready."""
        self.context.serves(interface)
        self.ready, self.failed = True, False
        self.entry.fail(False)
        self._owner.pool_serves(self)

    def fail(self, error: OperatorError, details: str | None) -> None:
        """Start the app again in a while, if other apps serve."""
        self._failures += 1
        self.failed = True
        if self._owner.pool_failed(self, error, details):
            self.entry.fail(True)
            self._loop.set_deadline(self._start_again, _START_AGAIN.pause(self._failures))

    def reactor_started(self, reactor: Reactor) -> None:
        """Tell the service that the process of a reactor was started."""
        self._owner.reactor_started(reactor)

    def reactor_exited(self, reactor: Reactor, status: int) -> None:
        """Tell the service that the process of a reactor has exited."""
        self._owner.reactor_exited(reactor, status)

    def reactor_ended(self) -> None:
        """Tell the service that a reactor has ended: the stop may be over."""
        self._owner.reactor_ended()

    def reload_begins(self) -> None:
        """Tell the service that a reload of this app begins."""
        self._owner.reload_begins(self)

    def reload_ended(self) -> None:
        """Tell the service that a reload of this app has ended."""
        self._owner.reload_ended(self)


class Pools(Sequence[Pool]):
    """All pools of a service, the first of them that of the command line's app if there is one."""

    def __init__(self, pools: Sequence[Pool] = ()) -> None:
        self._pools = [*pools]

    def __len__(self) -> int:
        return len(self._pools)

    def __getitem__(self, index: int) -> Pool:  # type: ignore[override]
        return self._pools[index]

    def add(self, pool: Pool) -> None:
        """Add a pool."""
        self._pools.append(pool)

    def named(self, name: str) -> Pool | None:
        """Return the pool of the app of this name, or None."""
        return next((pool for pool in self._pools if pool.name == name), None)

    @property
    def reactors(self) -> list[Reactor]:
        """The reactors of all pools whose process has not ended."""
        return [reactor for pool in self._pools for reactor in pool.supervisor.reactors]

    @property
    def zygotes(self) -> list[int]:
        """The process numbers of the zygotes of all pools."""
        return [zygote.pid for pool in self._pools for zygote in pool.supervisor.zygotes]

    @property
    def forking(self) -> bool:
        """Whether a zygote is about to fork a reactor."""
        return any(pool.supervisor.forking for pool in self._pools)

    @property
    def wanted(self) -> int:
        """How many reactors should serve."""
        return sum(pool.supervisor.wanted for pool in self._pools)

    @property
    def started(self) -> int:
        """How many processes were started, ever."""
        return sum(pool.supervisor.started for pool in self._pools)

    @property
    def deaths(self) -> int:
        """How many serving reactors have died, ever."""
        return sum(pool.supervisor.deaths for pool in self._pools)

    @property
    def in_flight(self) -> int:
        """The number of exchanges whose app is not done."""
        return sum(pool.supervisor.in_flight for pool in self._pools)

    @property
    def waiting(self) -> int:
        """The number of exchanges that wait for a reactor."""
        return sum(pool.dispatcher.waiting for pool in self._pools)

    @property
    def websockets(self) -> int:
        """The number of WebSockets whose app is not done."""
        return sum(pool.supervisor.websockets for pool in self._pools)

    @property
    def reloading(self) -> bool:
        """Whether a reload is in progress."""
        return any(pool.supervisor.reloading for pool in self._pools)

    @property
    def reload_failure(self) -> str | None:
        """Why the last reload of a pool failed; None if none did."""
        for pool in self._pools:
            failure = pool.supervisor.reload_failure
            if failure is not None:
                return failure if len(self._pools) == 1 else f"{pool.name}: {failure}"
        return None

    @property
    def reloads(self) -> int:
        """How many reloads have succeeded."""
        return sum(pool.supervisor.generation - 1 for pool in self._pools)

    @property
    def reload_failures(self) -> int:
        """How many reloads have failed."""
        return sum(pool.supervisor.reload_failures for pool in self._pools)

    @property
    def replays(self) -> int:
        """Retries of exchanges whose reactor died."""
        return sum(pool.dispatcher.replays for pool in self._pools)

    @property
    def moves(self) -> int:
        """Exchanges taken from a reactor that had not begun them."""
        return sum(pool.dispatcher.moves for pool in self._pools)

    @property
    def queue_size(self) -> int:
        """The most exchanges that wait, in all pools."""
        return sum(pool.settings.queue_size for pool in self._pools)

    def each(self, call: Callable[[Supervisor], None]) -> None:
        """Call a function with the supervisor of each pool."""
        for pool in self._pools:
            call(pool.supervisor)
