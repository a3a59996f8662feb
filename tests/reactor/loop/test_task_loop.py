"""The loop on asyncio and uvloop: one task per exchange, gathered output, faults that end it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from reactor_run.reactor.loop.reactor_loop import YIELD_AFTER
from reactor_run.reactor.loop.task_loop import TaskLoop
from tests.reactor.loop.standin import App, Fault, Flushes, Standin, fail

DEADLINE = 30.0
"""Seconds after which a test fails."""
MANY = 100_000
"""More exchanges than begin before a timer of one millisecond."""


class Fixture:
    """A loop that runs."""

    def __init__(self) -> None:
        self.loop = TaskLoop()
        self.flushes = Flushes(self.loop)
        self.running = asyncio.ensure_future(self.loop.run())

    def begin(self, *apps: App) -> list[Standin]:
        """Begin exchanges in one batch, when the event loop turns."""
        exchanges = [Standin(self.loop, app) for app in apps]
        self.loop.call_soon(lambda: self.loop.ready.extend(exchanges))
        return exchanges

    async def serve(self, *apps: App) -> list[Standin]:
        """Run exchanges of one batch to their ends."""
        exchanges = self.begin(*apps)
        await self.ended(exchanges)
        return exchanges

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the event loop turn until a condition holds."""
        while not condition():  # noqa: ASYNC110 - conditions of the loop set no event
            await asyncio.sleep(0)

    async def ended(self, exchanges: list[Standin]) -> None:
        """Wait until exchanges have ended."""
        await self.until(lambda: all(exchange.ended for exchange in exchanges))

    async def suspended(self, exchanges: list[Standin]) -> None:
        """Wait until the apps of exchanges have suspended."""
        await self.until(lambda: all(exchange.has_suspended for exchange in exchanges))

    async def close(self) -> None:
        self.loop.close()
        await self.running


Run = Callable[[Callable[[Fixture], Awaitable[None]]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """`run(body)` runs `body` beside a loop. `body` may close the loop."""

    def run(body: Callable[[Fixture], Awaitable[None]]) -> None:
        async def main() -> None:
            async with asyncio.timeout(DEADLINE):
                fixture = Fixture()
                await body(fixture)
                if not fixture.running.done():
                    await fixture.close()

        factory = uvloop.new_event_loop if request.param == "uvloop" else None
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())

    return run


def test_each_exchange_has_one_task_from_its_first_step_on(run: Run) -> None:
    tasks: list[object] = []

    async def app(exchange: Standin) -> None:
        # `asyncio.timeout` needs a task that can be cancelled.
        async with asyncio.timeout(DEADLINE):
            tasks.append(asyncio.current_task())
            await asyncio.sleep(0)
            tasks.append(asyncio.current_task())
            await asyncio.sleep(0.001)
            tasks.append(asyncio.current_task())

    async def quick(exchange: Standin) -> None:
        tasks.append(asyncio.current_task())

    async def body(it: Fixture) -> None:
        await it.serve(app, quick, quick)
        await it.serve(quick)

    run(body)
    assert None not in tasks
    assert tasks.count(tasks[0]) == 3
    # A task that the app keeps hosts no other exchange.
    assert len(set(map(id, tasks))) == 4


def test_a_timeout_in_the_first_step_ends_the_wait(run: Run) -> None:
    async def app(exchange: Standin) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.get_running_loop().create_future()

    async def body(it: Fixture) -> None:
        (exchange,) = await it.serve(app)
        assert exchange.error is None

    run(body)


def test_sleep_zero_takes_one_turn_of_the_event_loop(run: Run) -> None:
    taken = []

    async def body(it: Fixture) -> None:
        turns = 0

        def turn() -> None:
            nonlocal turns
            turns += 1
            asyncio.get_running_loop().call_soon(turn)

        async def app(exchange: Standin) -> None:
            for _ in range(3):
                before = turns
                await asyncio.sleep(0)
                taken.append(turns - before)

        turn()
        await it.serve(app)

    run(body)
    assert taken == [1, 1, 1]


def test_the_output_of_apps_that_go_on_in_one_turn_is_sent_once(run: Run) -> None:
    async def body(it: Fixture) -> None:
        gate = asyncio.Event()

        async def app(exchange: Standin) -> None:
            await gate.wait()
            exchange.reactor.write_ready(exchange)

        exchanges = it.begin(*[app] * 20)
        await it.suspended(exchanges)
        before = it.flushes.count
        gate.set()
        await it.ended(exchanges)
        # On a busy machine the apps may take so long that the loop sends a part of it earlier.
        assert it.flushes.count <= before + 2
        await it.until(lambda: it.flushes.count > before)

    run(body)


def test_output_does_not_wait_long_for_other_apps_of_its_turn(run: Run) -> None:
    async def body(it: Fixture) -> None:
        gate = asyncio.Event()
        seen = []

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


@pytest.mark.parametrize("source", ["task", "thread"])
def test_output_of_a_task_or_a_thread_that_the_app_started_is_sent(run: Run, source: str) -> None:
    async def body(it: Fixture) -> None:
        async def app(exchange: Standin) -> None:
            def put_out() -> None:
                exchange.reactor.write_ready(exchange)

            await asyncio.sleep(0)
            before = exchange.written
            if source == "task":
                asyncio.get_running_loop().call_later(0.001, put_out)
            else:
                threading.Timer(0.001, put_out).start()
            await it.until(lambda: exchange.written > before)

        await it.serve(app)

    run(body)


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("wait", ["future", "done", "sleep"])
def test_a_cancellation_right_after_the_first_step_reaches_the_app(
    run: Run, wait: str, used: bool
) -> None:
    """On Python 3.11 the task has not awaited what the app awaits yet."""

    async def body(it: Fixture) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        caught = []

        async def app(exchange: Standin) -> None:
            try:
                await (asyncio.sleep(0) if wait == "sleep" else future)
                await asyncio.sleep(DEADLINE)
            except asyncio.CancelledError:
                caught.append(exchange)
                # The app may await in its cleanup.
                await asyncio.sleep(0)
                raise

        async def other(exchange: Standin) -> None:
            if wait == "done":
                future.set_result(None)
            it.loop.cancel(cancelled)

        async def quick(exchange: Standin) -> None:
            pass

        if used:
            # On Python 3.11 the task of this exchange waits for another one.
            await it.serve(quick)
            await asyncio.sleep(0.001)
        cancelled, _ = exchanges = it.begin(app, other)
        await it.ended(exchanges)
        assert caught == [cancelled]
        assert isinstance(cancelled.error, asyncio.CancelledError)
        assert future.cancelled() == (wait == "future")

    run(body)


def test_timers_run_while_exchanges_never_end(run: Run) -> None:
    async def body(it: Fixture) -> None:
        begun = 0

        async def app(exchange: Standin) -> None:
            nonlocal begun
            begun += 1
            if begun < MANY:
                it.loop.ready.append(Standin(it.loop, app))

        it.begin(app)
        await asyncio.sleep(0.001)
        assert begun < MANY
        begun = MANY

    run(body)


def test_closing_cancels_the_apps_and_waits_for_them(run: Run) -> None:
    async def body(it: Fixture) -> None:
        ended = []

        async def app(exchange: Standin) -> None:
            try:
                await asyncio.sleep(DEADLINE)
            finally:
                await asyncio.sleep(0.001)
                ended.append(exchange)

        exchanges = it.begin(app, app)
        await it.suspended(exchanges)
        await it.close()
        assert set(ended) == set(exchanges)

    run(body)


@pytest.mark.parametrize("when", ["event", "batch", "turn", "late", "end"])
def test_a_fault_of_the_reactor_ends_the_loop(run: Run, when: str) -> None:
    """asyncio itself would only log it."""

    async def body(it: Fixture) -> None:
        cancelled = asyncio.Event()

        async def waiting(exchange: Standin) -> None:
            try:
                await asyncio.sleep(DEADLINE)
            except asyncio.CancelledError:
                cancelled.set()
                raise

        async def app(exchange: Standin) -> None:
            if when == "batch":
                it.loop.after_batch(fail)
            else:
                await asyncio.sleep(0)
                if when == "turn":
                    it.loop.after_batch(fail)
                elif when == "late":
                    it.loop.after_batch(fail)
                    exchange.reactor.write_ready(exchange)
                    time.sleep(2 * YIELD_AFTER)  # noqa: ASYNC251 - it is to stall the loop
                    await asyncio.sleep(DEADLINE)

        (first,) = it.begin(waiting)
        await it.suspended([first])
        if when == "event":
            it.loop.call_soon(fail)
        else:
            it.begin(app)[0].fails_to_end = when == "end"
        with pytest.raises(Fault):
            await it.running
        assert cancelled.is_set()

    run(body)
