"""The parts of the worker loop that differ between Trio and asyncio.

A worker task hosts one exchange after another. Anything that an app leaves in the task would affect
the next client. So the loop takes a snapshot of the task before each exchange and another after it.
If they differ, the worker ends.

The leader waits for the reactor's epoll set. On Trio it has a shorter way than other tasks.

The implementations are on_trio.py and on_asyncio.py. Only the one in use is imported, because its
imports are most of a reactor's start time.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any, Protocol

import anyio

from reactor_run.reactor.loop.sleep import TaskSleep

__all__ = ["Hygiene", "backend_options", "claim_no_thread", "hygiene_for", "sleep_for"]


class Hygiene(Protocol):
    """Guards one worker's task: cancels its app, and finds what an app left in the task."""

    @property
    def is_cancelling(self) -> bool:
        """Whether a cancellation waits until the app leaves its shield. If so, call `deliver` after
        each step of the app."""

    def cancel(self) -> None:
        """Cancel the app that suspended in the task."""

    def deliver(self) -> None:
        """Try again to deliver the cancellation that `cancel` began."""

    @property
    def reusable_after_suspension(self) -> bool:
        """Whether a task in which an app suspended may host the next exchange."""

    @property
    def is_waited_for(self) -> bool:
        """Whether an app added a callback for the end of the task. The check is slow, so the loop
        makes it once in a batch."""

    @property
    def is_open(self) -> bool:
        """Whether an app left a cancel scope or a nursery open in the task."""

    def snapshot(self) -> object:
        """Return the state of the task. Compare the states before and after an exchange with !=."""

    async def restore(self) -> None:
        """Close what the app left open, so that the worker can end in order."""


def hygiene_for(runtime: str) -> Callable[[anyio.CancelScope], Hygiene]:
    """Return the class of the guard for `trio`, `asyncio` or `uvloop`."""
    if runtime == "trio":
        from reactor_run.reactor.loop.on_trio import TrioHygiene

        return TrioHygiene
    from reactor_run.reactor.loop.on_asyncio import AsyncioHygiene

    return AsyncioHygiene


def sleep_for(runtime: str, epoll: select.epoll, events_max: int) -> TaskSleep:
    """Return the leader's wait for `trio`, `asyncio` or `uvloop`. The runtime must be running.

    `events_max`: most events that one wait returns.
    """
    if runtime == "trio":
        from reactor_run.reactor.loop.on_trio import TrioSleep

        return TrioSleep(epoll, events_max)
    from reactor_run.reactor.loop.on_asyncio import AsyncioSleep

    return AsyncioSleep(epoll, events_max)


def backend_options(runtime: str) -> tuple[str, dict[str, Any]]:
    """Return the name of anyio's backend, and its options, for a value of `--runtime`."""
    if runtime == "uvloop":
        return "asyncio", {"use_uvloop": True}
    return runtime, {}


def claim_no_thread() -> None:
    """Remove the mark of `anyio.run`, which says that an async library runs in this context.

    Contexts are copied into threads (`asyncio.to_thread`), and the mark would be copied too. In
    such a thread `anyio.run` would raise, and sniffio would name a library that does not run there.
    Without the mark, both look for an event loop in their own thread.
    """
    try:
        from sniffio import current_async_library_cvar
    except ModuleNotFoundError:
        return  # Without sniffio, anyio sets no mark.
    current_async_library_cvar.set(None)
