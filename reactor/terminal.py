"""The terminal of the front end, lent to an app that reads from it: `breakpoint()`, pdb, `input()`.

A reactor is a background process of the terminal, so that Ctrl-C stops the service in order. A
background process cannot read. So this file replaces `builtins.input`, by which pdb and
`code.interact` read too:

1. It tells the front end, which suspends `--timeout` meanwhile: a person may think for long.
2. It makes the reactor the foreground process of the terminal. Ctrl-C interrupts the prompt then,
   and not the service.
3. After the line was read, it gives the terminal back. So a hang of the app between two prompts is
   found, and Ctrl-C stops the service.

Other debuggers (PYTHONBREAKPOINT) read without `input`. They get the terminal from `breakpoint()`
until the loop turns next. Ctrl-C interrupts only the call of the app that has called
`breakpoint()`: in the reactor itself, KeyboardInterrupt would end the loop. After that call, Ctrl-C
stops the service. If the debugger has set a handler of its own, as `continue` of pdb and ipdb does,
that one decides: it opens the prompt again, and so may stop in the reactor's code.

The front end starts a reactor so only if it is the only one, and if standard input is a terminal.
"""

from __future__ import annotations

import builtins
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import sleep
from types import FrameType
from typing import Any, Final

from reactor_run.reactor import fork

__all__ = ["BorrowedTerminal"]

_FD: Final = 0
_CANNOT_INTERRUPT: Final = b"\n(Ctrl-C cannot interrupt a prompt in a thread; in pdb, enter q)\n"
_LOOK: Final = 0.1
"""Seconds between two looks whether the front end has the terminal again."""


class BorrowedTerminal:
    """The terminal at standard input. Install it once, before the app is imported."""

    call_soon: Callable[[Callable[[], None]], None] | None = None
    """Calls a function when the loop turns next; None while there is no loop."""

    def __init__(self, tell: Callable[[bool], None]) -> None:
        """`tell`: tells the front end that the app begins, or ends, to use the terminal."""
        self._tell = tell
        self._lock = threading.RLock()
        self._held = False
        self._on_interrupt: Any = None
        """The handler of SIGINT outside of a prompt in the main thread; None there."""
        self._debugged: FrameType | None = None
        """The frame with which the call of the app begins that has another debugger."""
        self._front_end = os.getppid()
        self._input = builtins.input

    def install(self) -> None:
        """Replace `input`, and watch `breakpoint`."""
        builtins.input = self._read
        sys.addaudithook(self._watch)
        fork.take(signal.SIGINT, self._interrupted)
        # Ctrl-Z at a prompt: the shell waits for the front end, so it would not notice that the
        # reactor stops. An ignored signal would be ignored in children of the app too.
        fork.take(signal.SIGTSTP, lambda number, frame: None)

    def _interrupted(self, _number: int, _frame: object) -> None:
        """Say why Ctrl-C does nothing: Python raises KeyboardInterrupt only in the main thread."""
        if self._held:
            os.write(2, _CANNOT_INTERRUPT)

    def _read(self, prompt: object = "", /) -> str:
        if fork.is_child:
            return self._input(prompt)
        # Threads of an app take turns.
        with self._lock, self._borrowed():
            return self._input(prompt)

    @contextmanager
    def _borrowed(self) -> Iterator[None]:
        if self._held:
            yield
            return
        self._take()
        try:
            yield
        finally:
            self.give_back()

    def _watch(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Lend the terminal to another debugger, which reads after `breakpoint()` has returned.

        This is an audit hook, because a debugger stops in the frame that calls it. A function in
        the place of `sys.breakpointhook` would be that frame.
        """
        if event != "builtins.breakpoint" or fork.is_child or self._held:
            return
        named = os.environ.get("PYTHONBREAKPOINT", "")
        if arguments[0] is sys.__breakpointhook__ and named in ("", "0", "pdb.set_trace"):
            return
        self._debugged = _begin_of_call(sys._getframe(1))
        self._take()
        if self.call_soon is not None:
            self.call_soon(self.give_back)

    def _on_ctrl_c(self, number: int, frame: FrameType | None) -> None:
        """Interrupt the app. After the call that has another debugger, stop the service."""
        if self._debugged is None:
            signal.default_int_handler(number, frame)
        while frame is not None:
            if frame is self._debugged:
                signal.default_int_handler(number, frame)
            frame = frame.f_back
        self._return_terminal()
        try:
            os.kill(self._front_end, signal.SIGINT)
        except OSError:
            # The front end is gone.
            pass

    def _take(self) -> None:
        """Become the foreground process of the terminal, as soon as the front end is it."""
        self._tell(True)
        self._held = True
        try:
            while True:
                now = os.tcgetpgrp(_FD)
                if now == os.getpgid(self._front_end):
                    # A background process may do this, because it ignores SIGTTOU.
                    os.tcsetpgrp(_FD, os.getpgrp())
                    break
                if now == os.getpgrp():
                    break
                # The front end itself is in the background, or another generation reads.
                sleep(_LOOK)
        except OSError:
            # The terminal was closed, so the app reads its end. Or the front end has ended.
            pass
        if threading.current_thread() is threading.main_thread():
            # In another thread the exception would reach the loop.
            self._on_interrupt = signal.signal(signal.SIGINT, self._on_ctrl_c)

    def give_back(self) -> None:
        """Let the front end be the foreground process again, if the reactor is it."""
        if not self._held:
            return
        self._held = False
        self._debugged = None
        if self._on_interrupt is not None:
            signal.signal(signal.SIGINT, self._on_interrupt)
            self._on_interrupt = None
        self._return_terminal()
        self._tell(False)

    def _return_terminal(self) -> None:
        try:
            if os.tcgetpgrp(_FD) == os.getpgrp():
                os.tcsetpgrp(_FD, os.getpgid(self._front_end))
        except OSError:
            # The terminal or the front end is gone.
            pass


def _begin_of_call(frame: FrameType) -> FrameType:
    """Return the outermost frame of the app among those that have called `frame`."""
    while (caller := frame.f_back) is not None and not _is_ours(caller):
        frame = caller
    return frame


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith("reactor_run.")
