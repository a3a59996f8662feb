"""The first steps of a reactor process: `python -m reactor_run.reactor --control-fd N APP`.

With `--zygote` as the first argument, it is a zygote (zygote.py).

The imports take most of the start. So signals are set up before them. The garbage collector is off
during them, because everything that they create stays.
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
    """Run one reactor. Returns the exit status of the process."""
    # Ctrl-C signals every process of the terminal, and a service manager may signal every process
    # of a service. The reactor ignores both, because the front end tells it when to stop.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        fork.take(number, _ignore)
    fork.take(signal.SIGUSR1, _write_threads)
    # A reactor has its own process group, so it is a background process of the terminal. By default
    # the terminal would stop it when it reads, or when it writes (`stty tostop`).
    for number in (signal.SIGTTOU, signal.SIGTTIN):
        signal.signal(number, signal.SIG_IGN)
    open_missing()
    # The stack of every thread goes to the log when the process crashes, and before it is killed.
    faulthandler.enable()
    faulthandler.register(DUMP)
    # `process.main` enables the collector again.
    gc.disable()
    if sys.argv[1:2] == ["--zygote"]:
        from reactor_run.reactor.zygote import main as import_and_fork

        return import_and_fork(sys.argv[2:])
    from reactor_run.reactor.process import main as serve

    return serve()


def _ignore(number: int, frame: FrameType | None) -> None:
    pass


def _write_threads(number: int, frame: FrameType | None) -> None:
    write_threads(frame)


if __name__ == "__main__":
    sys.exit(main())
