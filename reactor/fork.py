"""The handling of child processes that an app forks from a reactor.

Such a child becomes an ordinary process, not a second reactor. It has the reactor's stack,
descriptors and signal handlers. So these steps come before the app goes on in the child:

1. Each signal that the reactor has taken gets its earlier handler back. A handler that the app has
   set stays.
2. Each descriptor of the reactor is replaced: a socket by /dev/null, an epoll set by an empty one.
   The kernel has one epoll set for both processes, so a change by the child would change the
   reactor's too. The number stays in use. So if an object of the reactor closes it later, this does
   not close a file of the app.
3. `is_child` becomes true. When the app returns or raises into the reactor's code, that code calls
   `leave`, and the process ends.

A child of multiprocessing or subprocess, and any child that ends by `os._exit` or exec, never
returns to the reactor's code. For it only steps 1 and 2 matter.
"""

from __future__ import annotations

import faulthandler
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final, NoReturn

from reactor_run.dump import DUMP

__all__ = [
    "disconnect",
    "forget_parts",
    "fork_own",
    "in_child",
    "is_child",
    "leave",
    "renew_epoll",
    "take",
    "watch_forks",
]

is_child = False
"""Whether this process is a child that an app has forked. Read it as `fork.is_child`, because it
changes."""

_taken: Final[dict[int, tuple[Any, Any]]] = {}
"""By signal number: the reactor's handler, and the earlier handler."""
_parts: Final[list[Callable[[], None]]] = []
"""The functions that `in_child` registered."""
_own = False
"""The child that is forked now belongs to the server."""
_held: Final = threading.local()
"""The signal mask of each thread that forks, from before the fork."""


def take(number: int, handler: Callable[..., None]) -> None:
    """Set `handler` for a signal in this process. Children of the app do not keep it: they get the
    handler from before the first call."""
    before = signal.signal(number, handler)
    _taken[number] = handler, _taken[number][1] if number in _taken else before


def in_child(part: Callable[[], None]) -> None:
    """Call `part` in each child before the app goes on in it. `part` disconnects the child from
    what it shares with the reactor."""
    _parts.append(part)


def forget_parts() -> None:
    """Call no function that `in_child` has registered so far: their objects are gone."""
    _parts.clear()


def fork_own() -> int:
    """Do what `os.fork` does, for a child that belongs to the server. Raises OSError."""
    global _own
    _own = True
    try:
        return os.fork()
    finally:
        _own = False


def watch_forks() -> None:
    """Make each child that this process forks from now on an ordinary process. Call this once.

    It works for `os.fork`, and so for multiprocessing. It does not work for C code that forks
    without Python.
    """
    os.register_at_fork(
        before=_hold_signals,
        after_in_parent=_release_signals,
        after_in_child=_become_ordinary,
    )


def _hold_signals() -> None:
    # If a signal reached the child while it has the reactor's handlers, the signal would be lost.
    _held.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _taken)


def _release_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _held.mask)


def _become_ordinary() -> None:
    global is_child
    try:
        # A child of a child needs no further change. Numbers of the reactor's descriptors may be
        # the app's there.
        if not is_child and not _own:
            is_child = True
            signal.set_wakeup_fd(-1)
            for number, (ours, before) in _taken.items():
                if signal.getsignal(number) is ours:
                    signal.signal(number, before)
            faulthandler.unregister(DUMP)
            for part in _parts:
                part()
    finally:
        _release_signals()


def disconnect(descriptors: Iterable[int]) -> None:
    """In a child: replace these sockets by /dev/null."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor in descriptors:
        os.dup2(null, descriptor, inheritable=False)
    os.close(null)


def renew_epoll(descriptor: int) -> None:
    """In a child: replace the epoll set of this descriptor by an empty set."""
    with select.epoll() as empty:
        os.dup2(empty.fileno(), descriptor, inheritable=False)


def leave(error: BaseException | None = None) -> NoReturn:
    """End a child whose app has returned to the reactor's code, or has raised `error`.

    It does what multiprocessing does at the end of a child: it waits for threads that are not
    daemons, and flushes standard output and standard error. The stack is not unwound. `atexit`
    functions do not run, because they belong to the reactor.
    """
    status = 1
    try:
        status = _tell(error)
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def leave_loop() -> NoReturn:
    """End a child whose app has returned into the event loop. The loop belongs to the reactor."""
    leave(RuntimeError("a child that an app has forked cannot go on in the reactor's event loop"))


def _tell(error: BaseException | None) -> int:
    """Report `error` as the interpreter does. Returns the exit status of the child."""
    if error is None:
        return 0
    if not isinstance(error, SystemExit):
        sys.excepthook(type(error), error, error.__traceback__)
        return 1
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1
