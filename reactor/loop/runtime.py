"""The choice of a loop for an ASGI app, by the value of `--runtime`.

Only the loop in use is imported, because the imports of the runtimes are most of a reactor's start
time.
"""

from __future__ import annotations

from typing import Any

from reactor_run.reactor.loop.hosted import HostLoop

__all__ = ["backend_options", "claim_no_thread", "loop_for"]


def loop_for(runtime: str) -> type[HostLoop]:
    """Return the class of the loop for `trio`, `asyncio` or `uvloop`."""
    if runtime == "trio":
        from reactor_run.reactor.loop.worker_loop import WorkerLoop

        return WorkerLoop
    from reactor_run.reactor.loop.task_loop import TaskLoop

    return TaskLoop


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
