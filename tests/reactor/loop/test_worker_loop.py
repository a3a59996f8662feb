"""The loop on Trio: workers that are woken together and reused, and output that is gathered."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Awaitable, Callable

import pytest
import trio

from reactor_run.reactor.loop import worker_loop
from reactor_run.reactor.loop.reactor_loop import BATCH_MAX, YIELD_AFTER
from reactor_run.reactor.loop.worker_loop import WOKEN_MAX, Worker, WorkerLoop
from tests.reactor.loop.standin import App, Fault, Flushes, Standin, fail

DEADLINE = 30.0
"""Seconds after which a test fails."""
MANY = 20_000
"""More exchanges than begin before a timer of one millisecond."""


class Fixture:
    """A loop that runs."""

    def __init__(self) -> None:
        self.loop = WorkerLoop()
        self.flushes = Flushes(self.loop)
        self.turns = 0

    async def count_turns(self) -> None:
        """Keep Trio turning."""
        while True:
            await trio.lowlevel.checkpoint()
            self.turns += 1

    def begin(self, *apps: App) -> list[Standin]:
        """Begin exchanges in one batch."""
        exchanges = [Standin(self.loop, app) for app in apps]
        self.loop.call_soon(lambda: self.loop.ready.extend(exchanges))
        return exchanges

    async def serve(self, *apps: App) -> list[Standin]:
        """Run exchanges of one batch to their ends."""
        exchanges = self.begin(*apps)
        await self.ended(exchanges)
        return exchanges

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let Trio turn until a condition holds."""
        while not condition():
            await trio.lowlevel.checkpoint()

    async def ended(self, exchanges: list[Standin]) -> None:
        """Wait until exchanges have ended."""
        await self.until(lambda: all(exchange.ended for exchange in exchanges))

    async def suspended(self, exchanges: list[Standin]) -> None:
        """Wait until the apps of exchanges have suspended."""
        await self.until(lambda: all(exchange.has_suspended for exchange in exchanges))


def run(body: Callable[[Fixture], Awaitable[None]]) -> None:
    """Run `body` beside a loop."""

    async def main() -> None:
        with trio.fail_after(DEADLINE):
            it = Fixture()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(it.loop.run)
                try:
                    await body(it)
                finally:
                    # The loop starts workers anew if others cancel them.
                    it.loop.close()

    trio.run(main)


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> list[Worker]:
    """The workers of a loop that is made later."""
    workers: list[Worker] = []

    class Counted(Worker):
        def __init__(self, scope: trio.CancelScope) -> None:
            super().__init__(scope)
            workers.append(self)

    monkeypatch.setattr(worker_loop, "Worker", Counted)
    return workers


def test_apps_that_suspend_begin_together() -> None:
    async def body(it: Fixture) -> None:
        begun: list[int] = []

        async def app(exchange: Standin) -> None:
            begun.append(it.turns)
            await trio.sleep(DEADLINE)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.count_turns)
            await it.suspended(it.begin(*[app] * 3 * WOKEN_MAX))
            nursery.cancel_scope.cancel()
        # One turn for the first app, and one for each group of workers that are woken.
        assert begun[-1] - begun[0] <= 5

    run(body)


def test_apps_that_suspend_begin_in_order() -> None:
    async def body(it: Fixture) -> None:
        begun: list[Standin] = []

        async def app(exchange: Standin) -> None:
            begun.append(exchange)
            await trio.lowlevel.checkpoint()

        async def quick(exchange: Standin) -> None:
            begun.append(exchange)

        for _ in range(10):
            exchanges = await it.serve(*[app, app, quick, app, quick, quick] * 10)
            assert begun == exchanges
            begun.clear()

    run(body)


@pytest.mark.parametrize("seconds", [0.0, 0.001])
def test_a_worker_is_reused_after_an_app_that_slept(seconds: float, workers: list[Worker]) -> None:
    """Trio throws an exception into a task whose sleep ends. For one step it keeps a reference to
    the task."""

    async def app(exchange: Standin) -> None:
        await trio.sleep(seconds)

    async def body(it: Fixture) -> None:
        for _ in range(20):
            await it.serve(app, app)

    run(body)
    assert len(workers) < 10


def test_the_output_of_apps_that_go_on_in_one_turn_is_sent_once() -> None:
    async def body(it: Fixture) -> None:
        gate = trio.Event()

        async def app(exchange: Standin) -> None:
            await gate.wait()
            exchange.reactor.write_ready(exchange)

        exchanges = it.begin(*[app] * 20)
        await it.suspended(exchanges)
        before = it.flushes.count
        gate.set()
        await it.ended(exchanges)
        # While Trio turns, the leader looks for events and flushes once in each turn. On a busy
        # machine the apps may take so long that a part is sent earlier.
        assert it.flushes.count <= before + 4
        await it.until(lambda: it.flushes.count > before)

    run(body)


def test_output_does_not_wait_long_for_other_apps_of_its_turn() -> None:
    async def body(it: Fixture) -> None:
        gate = trio.Event()
        seen: list[int] = []

        async def app(exchange: Standin) -> None:
            await gate.wait()
            seen.append(it.flushes.count)
            time.sleep(2 * YIELD_AFTER)  # noqa: ASYNC251 - it is to stall the loop

        exchanges = it.begin(*[app] * 3)
        await it.suspended(exchanges)
        gate.set()
        await it.ended(exchanges)
        assert seen[0] < seen[2]

    run(body)


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("source", ["app", "task", "thread"])
def test_output_is_sent_while_the_app_waits(source: str, direct: bool) -> None:
    async def body(it: Fixture) -> None:
        if not direct:
            # The leader then waits like any task, and does not see each turn of Trio.
            await trio.testing.wait_all_tasks_blocked()
        written: list[int] = []

        async def app(exchange: Standin) -> None:
            def put_out() -> None:
                exchange.reactor.write_ready(exchange)

            async def put_out_later() -> None:
                await trio.sleep(0.001)
                put_out()

            await trio.lowlevel.checkpoint()
            before = exchange.written
            async with trio.open_nursery() as nursery:
                if source == "app":
                    put_out()
                elif source == "task":
                    nursery.start_soon(put_out_later)
                else:
                    threading.Timer(0.001, put_out).start()
                deadline = trio.current_time() + DEADLINE
                # Trio is idle meanwhile.
                while exchange.written == before and trio.current_time() < deadline:  # noqa: ASYNC110
                    await trio.sleep(0.001)
            written.append(exchange.written - before)

        await it.serve(app)
        assert written[0] > 0
        assert it.loop._sleep.direct == direct

    run(body)


def test_the_last_output_is_sent_before_trio_sleeps() -> None:
    async def body(it: Fixture) -> None:
        async def app(exchange: Standin) -> None:
            await trio.sleep(0.001)

        for _ in range(20):
            (exchange,) = it.begin(app)
            before = it.flushes.count
            while not exchange.ended:
                before = it.flushes.count
                await trio.sleep(0.0005)
            with trio.move_on_after(0.01):
                await trio.sleep_forever()
            assert it.flushes.count > before

    run(body)


def test_timers_run_while_apps_that_suspend_never_end() -> None:
    async def body(it: Fixture) -> None:
        begun = 0
        goes_on = True

        async def app(exchange: Standin) -> None:
            nonlocal begun
            begun += 1
            # Without a bound, a loop that runs no timer would never end.
            if goes_on and begun < MANY:
                it.loop.ready.append(Standin(it.loop, app))
            await trio.lowlevel.checkpoint()

        it.begin(*[app] * 3 * WOKEN_MAX)
        await trio.sleep(0.001)
        goes_on = False
        assert begun < MANY

    run(body)


def test_apps_that_give_way_need_one_worker(workers: list[Worker]) -> None:
    async def body(it: Fixture) -> None:
        async def app(exchange: Standin) -> None:
            before = it.turns
            for _ in range(5):
                await trio.lowlevel.checkpoint()
            assert it.turns >= before + 3

        async with trio.open_nursery() as nursery:
            nursery.start_soon(it.count_turns)
            exchanges = await it.serve(*[app] * 100)
            nursery.cancel_scope.cancel()
        assert [exchange.error for exchange in exchanges] == [None] * 100
        assert len(workers) == 1

    run(body)


def test_apps_that_give_way_keep_their_contexts() -> None:
    number: contextvars.ContextVar[int] = contextvars.ContextVar("number")

    async def body(it: Fixture) -> None:
        numbers = iter(range(100))

        async def app(exchange: Standin) -> None:
            mine = next(numbers)
            number.set(mine)
            await trio.lowlevel.checkpoint()
            assert number.get() == mine
            await trio.sleep(0.001)
            assert number.get() == mine

        assert {exchange.error for exchange in await it.serve(*[app] * 100)} == {None}

    run(body)


async def keep_task(go_on: Callable[[], Awaitable[None]]) -> trio.lowlevel.Task:
    task = trio.lowlevel.current_task()
    await go_on()
    assert trio.lowlevel.current_task() is task
    return task


async def open_scope(go_on: Callable[[], Awaitable[None]]) -> trio.lowlevel.Task:
    with trio.CancelScope():
        await go_on()
    return trio.lowlevel.current_task()


async def open_nursery(go_on: Callable[[], Awaitable[None]]) -> trio.lowlevel.Task:
    async with trio.open_nursery() as nursery:
        await go_on()
    return nursery.parent_task


async def hold_lock(go_on: Callable[[], Awaitable[None]]) -> trio.lowlevel.Task:
    async with trio.Lock():
        await go_on()
        return trio.lowlevel.current_task()


@pytest.mark.parametrize("hold", [keep_task, open_scope, open_nursery, hold_lock])
def test_apps_that_use_their_task_keep_it(
    hold: Callable[[Callable[[], Awaitable[None]]], Awaitable[trio.lowlevel.Task]],
) -> None:
    async def body(it: Fixture) -> None:
        tasks: list[int] = []

        async def app(exchange: Standin) -> None:
            async def go_on() -> None:
                await trio.lowlevel.checkpoint()
                tasks.append(id(trio.lowlevel.current_task()))
                await trio.lowlevel.checkpoint()

            await hold(go_on)

        exchanges = await it.serve(*[app] * 8)
        assert {exchange.error for exchange in exchanges} == {None}
        assert len(set(tasks)) == 8

    run(body)


def test_an_app_that_gives_way_can_wait_later() -> None:
    async def body(it: Fixture) -> None:
        async def app(exchange: Standin) -> None:
            for seconds in (0, 0, 0.001, 0, 0.001):
                await trio.sleep(seconds)
            with trio.move_on_after(0) as scope:
                await trio.sleep_forever()
            assert scope.cancelled_caught

        assert {exchange.error for exchange in await it.serve(*[app] * 50)} == {None}

    run(body)


def test_an_app_that_gives_way_is_cancelled_alone() -> None:
    async def body(it: Fixture) -> None:
        goes_on = True
        cancelled: list[Standin] = []

        async def app(exchange: Standin) -> None:
            try:
                while goes_on:
                    await trio.lowlevel.checkpoint()
            except trio.Cancelled:
                cancelled.append(exchange)
                raise

        exchanges = it.begin(*[app] * 5)
        await it.suspended(exchanges)
        it.loop.call_soon(lambda: it.loop.cancel(exchanges[2]))
        await it.ended([exchanges[2]])
        goes_on = False
        await it.ended(exchanges)
        assert cancelled == [exchanges[2]]
        assert isinstance(exchanges[2].error, trio.Cancelled)
        assert {exchange.error for exchange in exchanges} == {None, exchanges[2].error}

    run(body)


def test_a_cancelled_app_that_gives_way_can_finish_what_it_shields() -> None:
    async def body(it: Fixture) -> None:
        finished = False

        async def app(exchange: Standin) -> None:
            nonlocal finished
            try:
                while True:
                    await trio.lowlevel.checkpoint()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.001)
                    await trio.lowlevel.checkpoint()
                finished = True

        exchanges = it.begin(app)
        await it.suspended(exchanges)
        it.loop.call_soon(lambda: it.loop.cancel(exchanges[0]))
        await it.ended(exchanges)
        assert finished

    run(body)


def test_closing_cancels_apps_that_give_way() -> None:
    exchanges: list[Standin] = []

    async def body(it: Fixture) -> None:
        async def app(exchange: Standin) -> None:
            while True:
                await trio.lowlevel.checkpoint()

        exchanges.extend(it.begin(*[app] * 5))
        await it.suspended(exchanges)

    run(body)
    assert all(isinstance(exchange.error, trio.Cancelled) for exchange in exchanges)
    assert len(exchanges) == 5


def test_an_app_that_cancels_the_loops_tasks_while_others_give_way() -> None:
    async def body(it: Fixture) -> None:
        async def app(exchange: Standin) -> None:
            while True:
                await trio.lowlevel.checkpoint()

        async def hostile(exchange: Standin) -> None:
            nursery = trio.lowlevel.current_task().parent_nursery
            assert nursery is not None
            nursery.cancel_scope.cancel()

        async def quick(exchange: Standin) -> None:
            pass

        exchanges = it.begin(*[app] * 5, hostile)
        await it.ended(exchanges)
        assert {type(exchange.error) for exchange in exchanges[:5]} == {trio.Cancelled}
        await it.serve(quick)

    run(body)


@pytest.mark.parametrize("direct", [True, False])
def test_new_exchanges_begin_while_many_apps_give_way(direct: bool) -> None:
    async def body(it: Fixture) -> None:
        if not direct:
            await trio.testing.wait_all_tasks_blocked()
        goes_on = True

        async def app(exchange: Standin) -> None:
            while goes_on:
                await trio.lowlevel.checkpoint()

        async def quick(exchange: Standin) -> None:
            pass

        exchanges = it.begin(*[app] * 3 * BATCH_MAX)
        await it.suspended(exchanges)
        for _ in range(10):
            await trio.sleep(0.001)
            await it.serve(*[quick] * 3)
        goes_on = False
        await it.ended(exchanges)
        assert it.loop._sleep.direct == direct

    run(body)


@pytest.mark.parametrize("when", ["event", "batch", "turn", "end"])
def test_a_fault_of_the_reactor_ends_the_loop(when: str) -> None:
    cancelled: list[Standin] = []

    async def body(it: Fixture) -> None:
        async def waiting(exchange: Standin) -> None:
            try:
                await trio.sleep(DEADLINE)
            except trio.Cancelled:
                cancelled.append(exchange)
                raise

        async def app(exchange: Standin) -> None:
            if when == "batch":
                it.loop.after_batch(fail)
            else:
                await trio.lowlevel.checkpoint()
                if when == "turn":
                    it.loop.after_batch(fail)

        await it.suspended(it.begin(waiting))
        if when == "event":
            it.loop.call_soon(fail)
        else:
            it.begin(app)[0].fails_to_end = when == "end"
        await trio.sleep(DEADLINE)

    with pytest.raises(BaseExceptionGroup) as raised:
        run(body)
    assert raised.group_contains(Fault)
    assert len(cancelled) == 1
