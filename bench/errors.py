"""What keeps a measurement from being made."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager


class CannotMeasure(Exception):
    """Nothing can be measured here; the message tells the user what to mend."""


class DidNotStart(Exception):
    """One server does not run or does not answer as it should; the others can be measured."""


class RunFailed(Exception):
    """One run gave no figures."""


@contextmanager
def time_limit(seconds: float, what: str) -> Iterator[None]:
    """Raise RunFailed in the block if it lasts longer. For the main thread.

    A timer that was set before goes on afterwards.
    """

    def give_up(number: int, frame: object) -> None:
        raise RunFailed(f"{what} took more than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, give_up)
    begin = time.monotonic()
    left, _ = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(0.001, left - (time.monotonic() - begin)))
