"""What a child is that an app forks from a reactor: an ordinary process, and no second reactor.

A child has the reactor's stack, descriptors and signal handlers. So before the app goes on in it:

1. Each signal that the reactor has taken gets back what it had before. A handler that the app has
   set stays.
2. Each descriptor of the reactor's leads elsewhere: a socket to /dev/null, an epoll set to an empty
   one. The kernel has one set for both processes, so a change by the child would be the reactor's.
   The number stays taken: an object of ours that closes it closes no file of the app's.
3. `is_child` is true. The first of our functions that the app returns to, or raises into, calls
   `leave`, and the process ends there.

The children of multiprocessing and subprocess, and all that end by `os._exit` or exec, never come
back to us; for them only 1 and 2 matter.
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

__all__ = ["disconnect", "in_child", "is_child", "leave", "renew_epoll", "take", "watch_forks"]

is_child = False
"""This process is a child that an app has forked. To be read as `fork.is_child`."""

_taken: Final[dict[int, tuple[Any, Any]]] = {}
"""The reactor's handlers by signal, and what each signal had before."""
_parts: Final[list[Callable[[], None]]] = []
_held: Final = threading.local()
"""The signal mask of a thread that forks."""


def take(number: int, handler: Callable[..., None]) -> None:
    """Have `handler` called for a signal, in this process and in no child of its app."""
    _taken[number] = handler, signal.signal(number, handler)


def in_child(part: Callable[[], None]) -> None:
    """Have `part` called in a child before the app goes on in it, to give up what it shares."""
    _parts.append(part)


def watch_forks() -> None:
    """Make each child that this process forks from now on an ordinary process; to be called once.

    That holds for `os.fork`, and so for multiprocessing. C code that forks without Python's
    knowledge gets none of it.
    """
    os.register_at_fork(
        before=_hold_signals,
        after_in_parent=_release_signals,
        after_in_child=_become_ordinary,
    )


def _hold_signals() -> None:
    # A signal for the child that came before its handlers are gone would be lost on them.
    _held.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _taken)


def _release_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _held.mask)


def _become_ordinary() -> None:
    global is_child
    try:
        # In the child of a child all is done, and numbers that were ours may be the app's.
        if not is_child:
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
    """In a child: let sockets lead to /dev/null."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for descriptor in descriptors:
        os.dup2(null, descriptor, inheritable=False)
    os.close(null)


def renew_epoll(descriptor: int) -> None:
    """In a child: let the descriptor of an epoll set be that of an empty set."""
    with select.epoll() as empty:
        os.dup2(empty.fileno(), descriptor, inheritable=False)


def leave(error: BaseException | None = None) -> NoReturn:
    """End a child whose app has returned to us, or has raised `error`.

    As multiprocessing ends its own: threads that are no daemons are waited for, standard output and
    error are flushed. Nothing is unwound, and what was registered with `atexit` is the reactor's.
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
    """End a child that has come to the event loop: the loop is the reactor's."""
    leave(RuntimeError("a child that an app has forked cannot go on in the reactor's event loop"))


def _tell(error: BaseException | None) -> int:
    """Write what ended the child, as the interpreter would; its exit status."""
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
