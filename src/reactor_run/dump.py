"""Dumps of what the threads of a process do: for an operator, and before the process is killed.

`faulthandler` writes dumps from C, while other threads go on and change what it reads. In a process
with several busy threads, one dump of a few hundred crashes it. So on an operator's SIGUSR1 a
reactor writes the dump in Python, between two instructions of the main thread. If no Python code
can run any more, only the dump in C is left. The front end asks for that by DUMP, and kills the
reactor a moment later.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType
from typing import Final

__all__ = ["DUMP", "write_threads"]

DUMP: Final = signal.SIGRTMIN + 7
"""The signal for a dump in C. It is a real-time signal, which no operator or app sends by
accident."""


def write_threads(interrupted: FrameType | None) -> None:
    """Write to standard error what each thread does. Raises nothing.

    Call it in a signal handler, with the frame that the signal interrupted.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    here = threading.get_ident()
    lines = []
    for ident, top in sys._current_frames().items():
        lines.append(f"Thread {names.get(ident, hex(ident))} (most recent call first):")
        frame = interrupted if ident == here else top
        while frame is not None:
            code = frame.f_code
            lines.append(f'  File "{code.co_filename}", line {frame.f_lineno} in {code.co_name}')
            frame = frame.f_back
    data = "\n".join([*lines, ""]).encode(errors="backslashreplace")
    # sys.stderr is not used: the signal may have interrupted a write to it.
    try:
        while data:
            data = data[os.write(2, data) :]
    except OSError:
        pass
