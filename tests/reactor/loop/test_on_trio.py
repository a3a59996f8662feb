"""The leader's wait on Trio: Trio's own events are handled as early as in its own loop."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
import trio
from trio._core._run import GLOBAL_RUN_CONTEXT as THEIRS

from reactor_run.reactor.loop.on_trio import TrioSleep
from reactor_run.reactor.loop.reactor_loop import Events

DEADLINE = 30.0
"""Seconds after which a test fails, because the leader has missed an event."""
MANY = 100_000
"""More events than are handled before a timer of one millisecond."""


KNOWN = ("clock", "deadlines", "instruments", "io_manager", "runq", "waiting_for_idle")
"""The parts of Trio's runner that the direct wait uses."""


class Leader:
    """Waits for the events of its epoll set again and again, as the worker loop does."""

    def __init__(self, closing: ExitStack) -> None:
        self.epoll = closing.enter_context(select.epoll())
        self.sleep = TrioSleep(self.epoll, 64)
        self.taken: list[Events] = []
        self.ours, self.theirs = socket.socketpair()
        closing.callback(self.ours.close)
        closing.callback(self.theirs.close)
        self.ours.setblocking(False)
        self.epoll.register(self.ours, select.EPOLLIN)
        self.on_events: Callable[[], None] = lambda: None

    async def lead(self) -> None:
        while True:
            events = await self.sleep.events()
            if (self.ours.fileno(), select.EPOLLIN) in events:
                self.ours.recv(65536)
                self.on_events()

    def tell(self) -> None:
        """Make an event in its epoll set."""
        self.theirs.send(b"!")


Beside = Callable[[Leader], Awaitable[None]]


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def beside(closing: ExitStack) -> Callable[[Beside], Leader]:
    """`beside(other)` runs `other` while a leader waits, and returns the leader after `other`
    ends."""

    def run(other: Beside) -> Leader:
        async def main() -> Leader:
            leader = Leader(closing)
            with trio.fail_after(DEADLINE):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(leader.lead)
                    await other(leader)
                    nursery.cancel_scope.cancel()
            return leader

        return trio.run(main)

    return run


def test_the_direct_wait_works_with_this_trio(beside: Callable[[Beside], Leader]) -> None:
    async def nothing(leader: Leader) -> None:
        await trio.sleep(0.001)

    assert beside(nothing).sleep.direct


def test_timers_run(beside: Callable[[Beside], Leader]) -> None:
    async def naps(leader: Leader) -> None:
        for _ in range(20):
            await trio.sleep(0.001)
        with trio.move_on_after(0.001):
            await trio.sleep_forever()

    beside(naps)


def test_threads_wake_their_tasks(beside: Callable[[Beside], Leader]) -> None:
    async def in_threads(leader: Leader) -> None:
        for number in range(20):
            assert await trio.to_thread.run_sync(int, number) == number

    beside(in_threads)


def test_calls_from_threads_that_trio_did_not_start_arrive(
    beside: Callable[[Beside], Leader],
) -> None:
    async def hear(leader: Leader) -> None:
        heard = trio.Event()
        token = trio.lowlevel.current_trio_token()
        threading.Timer(0.01, token.run_sync_soon, (heard.set,)).start()
        await heard.wait()

    beside(hear)


def test_descriptors_that_other_tasks_wait_for_wake_them(
    beside: Callable[[Beside], Leader],
) -> None:
    async def read(leader: Leader) -> None:
        ours, theirs = trio.socket.socketpair()
        with ours, theirs:
            for _ in range(20):
                threading.Timer(0.001, os.write, (theirs.fileno(), b"?")).start()
                assert await ours.recv(1) == b"?"

    beside(read)


def test_a_task_that_an_event_wakes_runs_before_the_next_wait(
    beside: Callable[[Beside], Leader],
) -> None:
    """Trio runs the tasks of a turn in random order, so this runs many times."""

    async def react(leader: Leader) -> None:
        for _ in range(200):
            first, second = trio.Event(), trio.Event()
            leader.on_events = first.set

            async def follow(first: trio.Event, second: trio.Event) -> None:
                await first.wait()
                second.set()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(follow, first, second)
                leader.tell()
                await first.wait()
                await second.wait()

    assert beside(react).sleep.direct


def test_many_busy_tasks_get_their_turns(beside: Callable[[Beside], Leader]) -> None:
    async def spin() -> None:
        for _ in range(50):
            await trio.lowlevel.checkpoint()

    async def many(leader: Leader) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(spin)

    beside(many)


def test_the_leader_gets_its_events_while_other_tasks_are_busy(
    beside: Callable[[Beside], Leader],
) -> None:
    async def tell(leader: Leader) -> None:
        told = trio.Event()
        leader.on_events = told.set
        leader.tell()
        while not told.is_set():
            await trio.lowlevel.checkpoint()

    beside(tell)


def test_timers_run_while_the_leaders_events_never_end(beside: Callable[[Beside], Leader]) -> None:
    """Under a high load the leader never has to wait."""

    async def flood(leader: Leader) -> None:
        events = 0

        def tell() -> None:
            nonlocal events
            events += 1
            if events < MANY:
                leader.tell()

        leader.on_events = tell
        leader.tell()
        await trio.sleep(0.001)
        assert events < MANY

    assert beside(flood).sleep.direct


def test_wait_all_tasks_blocked_returns(beside: Callable[[Beside], Leader]) -> None:
    async def wait(leader: Leader) -> None:
        await trio.testing.wait_all_tasks_blocked()
        told = trio.Event()
        leader.on_events = told.set
        leader.tell()
        await told.wait()

    assert not beside(wait).sleep.direct


def test_an_instrument_sees_every_wait(beside: Callable[[Beside], Leader]) -> None:
    class Waits(trio.abc.Instrument):
        seen = 0

        def before_io_wait(self, timeout: float) -> None:
            self.seen += timeout > 1

    waits = Waits()

    async def watch(leader: Leader) -> None:
        trio.lowlevel.add_instrument(waits)
        told = trio.Event()
        leader.on_events = told.set
        threading.Timer(0.01, leader.tell).start()
        await told.wait()

    assert not beside(watch).sleep.direct
    assert waits.seen


def test_events_during_a_yield_of_the_cpu_are_returned_too(
    closing: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Edge-triggered events are reported once: the second poll must keep those of the first."""

    async def main() -> None:
        leader = Leader(closing)
        pairs = [socket.socketpair() for _ in range(4)]
        for ours, theirs in pairs:
            closing.callback(ours.close)
            closing.callback(theirs.close)
            leader.epoll.register(ours, select.EPOLLIN | select.EPOLLET)
        late, early = pairs[-1], pairs[:-1]

        def give() -> bool:
            late[1].send(b"!")
            return True

        for _, theirs in early:
            theirs.send(b"!")
        assert len(await leader.sleep.events()) == 3
        for _, theirs in early:
            theirs.send(b"!")
        monkeypatch.setattr("reactor_run.turns.Turns.give", lambda turns: give())
        events = await leader.sleep.events()
        assert {fd for fd, _ in events} == {ours.fileno() for ours, _ in pairs}

    trio.run(main)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"io_manager": None}, id="no epoll set"),
        pytest.param({"deadlines": None}, id="no deadlines"),
        pytest.param({"clock": None}, id="no clock"),
        pytest.param({"instruments": {}}, id="other instruments"),
        pytest.param({"runq": None}, id="no queue"),
        pytest.param({}, id="another queue"),
    ],
)
def test_with_an_unknown_trio_the_leader_waits_like_any_task(
    closing: ExitStack, monkeypatch: pytest.MonkeyPatch, other: dict[str, object]
) -> None:
    async def main() -> None:
        runner = SimpleNamespace(**{name: getattr(THEIRS.runner, name) for name in KNOWN} | other)
        monkeypatch.setattr(
            "reactor_run.reactor.loop.on_trio.GLOBAL_RUN_CONTEXT", SimpleNamespace(runner=runner)
        )
        leader = Leader(closing)
        # That its queue is another one shows only when Trio turns.
        assert leader.sleep.direct == (not other)
        told = trio.Event()
        leader.on_events = told.set
        with trio.fail_after(DEADLINE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(leader.lead)
                await trio.sleep(0.001)
                leader.tell()
                await told.wait()
                nursery.cancel_scope.cancel()
        assert not leader.sleep.direct

    trio.run(main)
