"""The entry point of `reactor-run` and `python -m reactor_run`: what must precede all imports.

It installs signal handlers first, because imports take time. Without a handler SIGTERM does not end
the first process of a container, and stopping the container would wait in vain. In any other
process Ctrl-C would show a traceback. Then it switches off garbage collection, which makes the
imports faster.
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
    # The parent may have blocked signals, or closed standard error.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    open_missing()
    # `serve` enables it again.
    gc.disable()
    from reactor_run.frontend.cli import main as command

    return command()


def _leave(number: int, _: FrameType | None) -> None:
    # Exit at once, as a process without a handler does. An exception would be lost if it were
    # raised while a finalizer runs.
    os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
