"""`reactor-run` and `python -m reactor_run`: the command, before it imports anything.

The first process of a container is not ended by SIGTERM unless it has a handler: what came before
would be lost, and whoever stops the container would wait in vain. Anywhere else Ctrl-C would show a
traceback. So this stands before everything that takes time to import, which goes faster while no
garbage is looked for.
"""

import gc
import os
import signal
import sys
from types import FrameType

from reactor_run.stdio import open_missing


def main() -> int:
    """Run the command; return its exit status."""
    if os.getpid() == 1:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _leave)
    else:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Who started this process may have blocked signals, or closed standard error.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    open_missing()
    # `serve` enables it again.
    gc.disable()
    from reactor_run.frontend.cli import main as command

    return command()


def _leave(number: int, _: FrameType | None) -> None:
    # As the kernel ends any other process: an exception is lost if a finalizer happens to run.
    os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
