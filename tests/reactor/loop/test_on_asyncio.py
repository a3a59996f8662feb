"""What the loop adds to asyncio (on_asyncio.py)."""

from __future__ import annotations

import asyncio

import pytest

from reactor_run.reactor.loop.on_asyncio import OnceEvent


async def started(event: OnceEvent) -> asyncio.Task[None]:
    """Return a task that waits for the event."""
    task = asyncio.ensure_future(event.wait())
    await asyncio.sleep(0)
    assert not task.done()
    return task


def test_an_event_wakes_all_who_wait_and_lets_others_pass() -> None:
    async def main() -> None:
        event = OnceEvent(asyncio.get_running_loop())
        tasks = [await started(event), await started(event)]
        assert not event.is_set()
        event.set()
        event.set()
        assert event.is_set()
        await asyncio.gather(*tasks)
        await event.wait()

    asyncio.run(main())


def test_who_is_cancelled_takes_nobody_else_along() -> None:
    async def main() -> None:
        event = OnceEvent(asyncio.get_running_loop())
        patient, impatient = await started(event), await started(event)
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        assert len(event._waiters) == 1
        assert not patient.done()
        event.set()
        # It is woken, and cancelled before it runs.
        patient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await patient

    asyncio.run(main())
