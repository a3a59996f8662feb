"""What differs between Trio and asyncio under the worker loop, and nothing else.

A worker task hosts one exchange after another. Whatever an app leaves behind in the task would hit
the next client, so after each exchange the loop compares a snapshot with the one before, and a
worker that has changed ends. And the leader waits for the epoll set of the reactor, on Trio by a
shorter way than other tasks. What can be left in a task, and that way, is on_trio.py and
on_asyncio.py; only the one in use is imported, since that is most of what a start takes.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any, Protocol

import anyio

from reactor_run.reactor.loop.sleep import TaskSleep

__all__ = ["Hygiene", "backend_options", "claim_no_thread", "hygiene_for", "sleep_for"]


class Hygiene(Protocol):
    """A worker's task: how its app is cancelled, and a guard against what an app leaves in it."""

    @property
    def is_cancelling(self) -> bool:
        """A cancellation waits for the app to leave its shield: `deliver` it after each step."""

    def cancel(self) -> None:
        """Have the app that suspended in the task raise its cancellation."""

    def deliver(self) -> None:
        """Go on with `cancel`."""

    @property
    def reusable_after_suspension(self) -> bool:
        """Whether a task in which an app suspended may host the next exchange."""

    @property
    def is_waited_for(self) -> bool:
        """An app has asked to be called when the task ends. It is dear to know: once a batch."""

    @property
    def is_open(self) -> bool:
        """An app has left a cancel scope or a nursery open in the task."""

    def snapshot(self) -> object:
        """The task as it is before an exchange; compared with != afterwards."""

    async def restore(self) -> None:
        """Close what the app left open, so that the worker can end in order."""


def hygiene_for(runtime: str) -> Callable[[anyio.CancelScope], Hygiene]:
    """The guard for `trio`, `asyncio` or `uvloop`."""
    if runtime == "trio":
        from reactor_run.reactor.loop.on_trio import TrioHygiene

        return TrioHygiene
    from reactor_run.reactor.loop.on_asyncio import AsyncioHygiene

    return AsyncioHygiene


def sleep_for(runtime: str, epoll: select.epoll, events_max: int) -> TaskSleep:
    """How to wait on `trio`, `asyncio` or `uvloop`, which runs already."""
    if runtime == "trio":
        from reactor_run.reactor.loop.on_trio import TrioSleep

        return TrioSleep(epoll, events_max)
    from reactor_run.reactor.loop.on_asyncio import AsyncioSleep

    return AsyncioSleep(epoll, events_max)


def backend_options(runtime: str) -> tuple[str, dict[str, Any]]:
    """anyio's backend and its options for a `--runtime`."""
    if runtime == "uvloop":
        return "asyncio", {"use_uvloop": True}
    return runtime, {}


def claim_no_thread() -> None:
    """Take back what `anyio.run` has noted in this context, that its library runs here.

    Contexts are copied into threads (`asyncio.to_thread`), and the note would hold there too. There
    `anyio.run` would refuse to run, and sniffio would name a library that does not run. Without the
    note both look for the event loop of their thread.
    """
    try:
        from sniffio import current_async_library_cvar
    except ModuleNotFoundError:
        return  # anyio notes nothing then
    current_async_library_cvar.set(None)
