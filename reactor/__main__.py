"""`python -m reactor_run.reactor --control-fd N APP`: a reactor process, before its imports.

Importing takes most of a start. Signals must be in order before that, and the garbage collector
need not look again and again at what all stays.
"""

import faulthandler
import gc
import signal
import sys
from types import FrameType

from reactor_run.dump import DUMP, write_threads
from reactor_run.reactor import fork
from reactor_run.stdio import open_missing


def main() -> int:
    """Run one reactor; its exit status."""
    # Ctrl-C goes to every process of a terminal, and a service manager may signal every process of
    # a service; stopping is the front end's word.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        fork.take(number, _ignore)
    fork.take(signal.SIGUSR1, _write_threads)
    # A reactor has a process group of its own, so the terminal takes it for a background process,
    # and would stop it when it writes there (`stty tostop`) or reads.
    for number in (signal.SIGTTOU, signal.SIGTTIN):
        signal.signal(number, signal.SIG_IGN)
    open_missing()
    # What runs in every thread goes to the log when the process crashes, or is about to be killed.
    faulthandler.enable()
    faulthandler.register(DUMP)
    # `process` enables it again.
    gc.disable()
    from reactor_run.reactor.process import main as serve

    return serve()


def _ignore(number: int, frame: FrameType | None) -> None:
    pass


def _write_threads(number: int, frame: FrameType | None) -> None:
    write_threads(frame)


if __name__ == "__main__":
    sys.exit(main())
