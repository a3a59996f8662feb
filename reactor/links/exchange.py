"""One exchange as the reactor sees it, whatever interface its app speaks.

`signal_write_ready` is the one way in which the app's side, from any thread, tells the loop that an
exchange has something to send. It is keyed by the exchange itself, never by a descriptor's number,
so a signal for an exchange that has ended finds it ended and is ignored.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol, TypeAlias

from reactor_run.logs import request_name
from reactor_run.protocol.request import RequestHead
from reactor_run.pulse import Pulse
from reactor_run.reactor.links.lane import LaneEnd

__all__ = ["AppExchange", "AppLane", "ExchangeLoop", "signal_write_ready"]


class ExchangeLoop(Protocol):
    """The reactor's loop, as exchanges know it."""

    ready: deque[Any]
    """Exchanges whose app has not begun."""
    pulse: Pulse

    def write_ready(self, exchange: AppExchange) -> None:
        """An exchange has output. Thread-safe."""

    def begins(self, exchange: AppExchange) -> None:
        """Tell the front end that an exchange begins."""


class AppExchange:
    """One request and its response.

    express: the exchange's number on the express lane, or 0 for one that came on a lane.
    lane: what its answer goes out on; None while it may still go express.
    """

    __slots__ = ("__weakref__", "ended", "express", "gone", "head", "lane", "reactor")

    def __init__(
        self,
        reactor: ExchangeLoop,
        head: RequestHead,
        express: int,
        lane: AppLane | None,
    ) -> None:
        self.reactor = reactor
        self.head = head
        self.express = express
        self.lane = lane
        self.gone = False
        """Nobody reads the answer any more: sending raises OSError."""
        self.ended = False

    def take_out(self) -> bool:
        """Never begin it, unless it has begun; whether it has not."""
        ready = self.reactor.ready
        if self not in ready:
            return False
        ready.remove(self)
        return True

    @property
    def name(self) -> str:
        """Method and target for the log, as they came: the app may have changed what it has."""
        return request_name(self.head.method, self.head.target)

    def abandon(self) -> None:
        """Cut the answer and free the exchange's place, because `over` failed."""
        raise NotImplementedError

    def write_out(self) -> None:
        """Send what there is to send; called by the loop after `signal_write_ready`."""
        raise NotImplementedError

    def over(self, error: BaseException | None) -> None:
        """The app returned, or raised `error`, or is never called."""
        raise NotImplementedError

    def on_read_ready(self) -> None:
        """The lane has bytes, or its end, for this exchange."""

    def on_write_ready(self) -> None:
        """The lane takes bytes again."""

    def on_fin(self) -> None:
        """The client sent FIN: it asks for nothing more, and may still read."""

    def on_gone(self) -> None:
        """The client is gone."""
        self.gone = True


AppLane: TypeAlias = LaneEnd[AppExchange]
"""The reactor's end of a lane, with an exchange on it or none."""


def signal_write_ready(exchange: AppExchange) -> None:
    """Tell the loop that `exchange` has output. Thread-safe; ignored once the exchange ended."""
    exchange.reactor.write_ready(exchange)
