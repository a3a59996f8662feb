"""How a process writes what its threads do, when an operator asks and before it is killed.

`faulthandler` writes that from C, while other threads go on and change what it reads: in a process
with several busy threads one dump of a few hundred crashes it. So an operator's SIGUSR1 to a
reactor is answered by Python, between two instructions of the main thread. Where no Python code can
run any more, only the dump in C is left: the front end asks for that by DUMP, and kills the reactor
a moment later. This belongs to neither room.
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
"""The signal for a dump in C. A real-time one: no operator and no app sends it by accident."""


def write_threads(interrupted: FrameType | None) -> None:
    """Write to standard error what each thread does.

    To be called by the handler of a signal, which has interrupted `interrupted`. Raises nothing.
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
    # Not through sys.stderr: the signal may have interrupted a write to it.
    try:
        while data:
            data = data[os.write(2, data) :]
    except OSError:
        pass
