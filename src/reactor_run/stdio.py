"""Standard input, output and error of a process that was started without them (`2>&-`).

The kernel gives the lowest free number to the next descriptor that is opened. So a socket could
become standard error and receive log lines.
"""

from __future__ import annotations

import os
import sys

__all__ = ["open_missing"]


def open_missing() -> None:
    """Open /dev/null as each of the descriptors 0, 1 and 2 that is closed.

    Python's streams on it are set too. Call this before anything else is opened.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The kernel chooses this number: all lower ones are open by now.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - as long as the process
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - as long as the process
    if sys.stderr is None:
        sys.stderr = open(2, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115 - as long as the process
