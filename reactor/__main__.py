"""`python -m reactor_run.reactor --control-fd N APP`: a reactor process, before its imports.

Importing takes most of a start. Signals must be in order before that, and the garbage collector
need not look again and again at what all stays.
"""

import faulthandler
import gc
import signal
import sys
from types import FrameType


def main() -> int:
    """Run one reactor; its exit status."""
    # Ctrl-C goes to every process of a terminal, and a service manager may signal every process of
    # a service; stopping is the front end's word. Handlers that do nothing, because children of
    # the app would inherit SIG_IGN.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _ignore)
    # What runs in every thread goes to the log when the process crashes, and when it is asked.
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    # `process` enables it again.
    gc.disable()
    from reactor_run.reactor.process import main as serve

    return serve()


def _ignore(number: int, frame: FrameType | None) -> None:
    pass


if __name__ == "__main__":
    sys.exit(main())
