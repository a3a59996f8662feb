"""The terminal at standard input, which a reactor may borrow for a prompt (reactor/terminal.py).

A reactor that dies at its prompt cannot give the terminal back, and may leave it without echo. Then
this file takes it back.
"""

from __future__ import annotations

import os
import signal
import termios
from typing import Any, Final

__all__ = ["TerminalLoan"]

_FD: Final = 0


class TerminalLoan:
    """The terminal of this front end."""

    def __init__(self) -> None:
        self.exists = os.isatty(_FD)
        """Standard input is a terminal."""
        self._borrowers: set[int] = set()
        """The processes that use it, or wait for it."""
        self._modes: list[Any] = []
        """The modes of the terminal before it was lent."""
        self._on_output: Any = None

    def lend(self, pid: int) -> None:
        """Note that the reactor `pid` takes the terminal."""
        if not self._borrowers:
            try:
                self._modes = termios.tcgetattr(_FD)
            except termios.error:
                # It was closed.
                return
            # In the background, tcsetpgrp(3) raises this signal, and with `stty tostop` each line
            # of the log. Otherwise it removes a reactor.
            self._on_output = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        self._borrowers.add(pid)

    def given_back(self, pid: int) -> None:
        """Note that the reactor `pid` has given the terminal back. It may take it again at once."""
        if pid in self._borrowers:
            self._borrowers.remove(pid)
            if not self._borrowers:
                signal.signal(signal.SIGTTOU, self._on_output)

    def reclaim(self, pid: int) -> None:
        """Take the terminal back if the reactor `pid`, which has ended, has it."""
        if pid not in self._borrowers:
            return
        try:
            if os.tcgetpgrp(_FD) == pid:
                os.tcsetpgrp(_FD, os.getpgrp())
                termios.tcsetattr(_FD, termios.TCSANOW, self._modes)
        except (OSError, termios.error):
            # It was closed.
            pass
        self.given_back(pid)
