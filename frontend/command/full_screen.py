"""The terminal, for a command that fills the screen: pages out, keys in.

It uses the few sequences that every terminal of today knows (ECMA-48, and xterm's alternate
screen), and not curses: a container often lacks the description of the operator's terminal.
Whatever ends the command, the terminal is as it was before.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Final

__all__ = ["FullScreen", "has_terminal"]

_ENTER: Final = "\x1b[?1049h\x1b[?25l"
"""Switch to the alternate screen, and hide the cursor."""
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_HOME: Final = "\x1b[H"
_CLEAR_LINE: Final = "\x1b[K"
_BOLD: Final = "\x1b[1m"
_PLAIN: Final = "\x1b[m"
_COLUMNS: Final = 80
_LINES: Final = 24
"""The size of a terminal that does not know its own."""
_LOCAL_FLAGS: Final = 3
"""The index of the local flags in what tcgetattr returns."""


def has_terminal() -> bool:
    """Return whether a person reads the output and can press keys."""
    return sys.stdin.isatty() and sys.stdout.isatty()


class FullScreen:
    """The screen, from `with` to the end of the block. Ctrl-C raises KeyboardInterrupt, and SIGTERM
    SystemExit."""

    def __init__(self) -> None:
        self._fd = sys.stdin.fileno()
        self._modes = termios.tcgetattr(self._fd)
        self._handlers: dict[int, object] = {}

    def __enter__(self) -> FullScreen:
        for number, handler in (
            (signal.SIGINT, signal.default_int_handler),
            (signal.SIGTERM, self._terminated),
            (signal.SIGTSTP, self._suspended),
        ):
            self._handlers[number] = signal.signal(number, handler)
        self._take()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._give_back()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _take(self) -> None:
        modes = termios.tcgetattr(self._fd)
        # Keys arrive one by one and are not shown. Ctrl-C and Ctrl-Z still send signals.
        modes[_LOCAL_FLAGS] &= ~(termios.ICANON | termios.ECHO)
        termios.tcsetattr(self._fd, termios.TCSADRAIN, modes)
        self._write(_ENTER)

    def _give_back(self) -> None:
        self._write(_LEAVE)
        # Keys that were pressed and not read are dropped: they were not meant for the shell.
        termios.tcsetattr(self._fd, termios.TCSAFLUSH, self._modes)

    def _terminated(self, number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    def _suspended(self, _number: int, _frame: FrameType | None) -> None:
        """Give the terminal back to the shell until the command is continued."""
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()

    @property
    def size(self) -> os.terminal_size:
        """The columns and lines of the terminal. Raises OSError."""
        columns, lines = os.get_terminal_size(self._fd)
        # A terminal that does not know its size, such as a serial line, says 0.
        return os.terminal_size((columns or _COLUMNS, lines or _LINES))

    def show(self, lines: Sequence[str], titles: Sequence[int] = ()) -> None:
        """Show these lines, which fit the screen. Those with the indices `titles` are bold."""
        # A line is cleared before it is written: behind a full line the cursor is on its last cell.
        shown = [
            f"{_CLEAR_LINE}{_BOLD}{line}{_PLAIN}" if index in titles else f"{_CLEAR_LINE}{line}"
            for index, line in enumerate(lines)
        ]
        shown += [_CLEAR_LINE] * (self.size.lines - len(lines))
        self._write(_HOME + "\r\n".join(shown))

    def key(self, seconds: float) -> str | None:
        """Wait for a key for so long; return None if none was pressed, and "" at the end of all
        input."""
        if not select.select([self._fd], [], [], seconds)[0]:
            return None
        return os.read(self._fd, 1).decode("latin-1")

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
