"""Detects stalled reactors by pings.

Each reactor that serves or retires gets a ping. It answers when its loop turns. Four beats make up
`--timeout`:

1. A reactor that has not answered after one beat gets no new exchanges while there are others.
2. A reactor that has not answered after all of them is killed.

Beats count, not time. If the front end itself was stopped, much time has passed when it resumes,
but only one beat: so it blames no reactor for that.

A reactor whose app uses the terminal (a debugger, `input()`) waits for a person. No beat counts
meanwhile.

The loop of a WSGI reactor with one thread cannot turn while its app runs. It gets no ping before it
has answered. Only --request-timeout limits how long that takes. A reactor that does not begin what
it was given runs no app: its beats count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from reactor_run.frontend.exchanges.dispatcher import Dispatcher
from reactor_run.frontend.exchanges.exchange import ANSWERED
from reactor_run.frontend.loop.epoll import Loop, Timer
from reactor_run.frontend.reactors.reactor import Reactor

__all__ = ["Heartbeat"]

_BEATS: Final = 4
"""Beats in one --timeout."""


class Heartbeat:
    """Pings all reactors by one timer."""

    def __init__(
        self,
        loop: Loop,
        dispatcher: Dispatcher,
        timeout: float,
    ) -> None:
        """`timeout`: seconds after which a reactor that has not answered is killed; 0: never."""
        self._loop = loop
        self._at_work: Callable[[], list[Reactor]] = list
        self._dispatcher = dispatcher
        self._timeout = timeout
        self._timer = Timer(self._beat)
        self._pings: dict[Reactor, int] = {}
        """Beats since the unanswered ping of each reactor was sent."""

    def begin(self, at_work: Callable[[], list[Reactor]]) -> None:
        """Send pings from now on, if there is a timeout. `at_work`: returns the reactors."""
        self._at_work = at_work
        self._beat_again()

    def _beat_again(self) -> None:
        self._loop.set_deadline(self._timer, self._timeout / _BEATS)

    def answered(self, reactor: Reactor) -> None:
        """Note that a reactor has answered its ping."""
        self._pings.pop(reactor, None)
        self._dispatcher.trust(reactor)

    def _beat(self) -> None:
        self._beat_again()
        dispatcher = self._dispatcher
        reactors = self._at_work()
        for gone in self._pings.keys() - set(reactors):
            del self._pings[gone]
        for reactor in reactors:
            missed = self._pings.get(reactor)
            if reactor.at_terminal or _runs_inline(reactor):
                if missed is not None:
                    self._pings[reactor] = 0
            elif missed is None:
                self._pings[reactor] = 0
                reactor.ping()
            else:
                self._pings[reactor] = missed = missed + 1
                if missed == 1:
                    dispatcher.doubt(reactor)
                elif missed >= _BEATS:
                    why = f"no answer to a ping for {self._timeout:g} s"
                    reactor.kill_stalled(why, reactor.begun)


def _runs_inline(reactor: Reactor) -> bool:
    """Whether its loop cannot turn, because it runs a WSGI app."""
    return reactor.inline and any(each.state is not ANSWERED for each in reactor.running)
