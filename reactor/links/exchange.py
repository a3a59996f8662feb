"""The base class of an exchange in the reactor, for every interface.

`signal_write_ready` is the only way to tell the loop that an exchange has output. It works from any
thread. It names the exchange itself, not the number of a descriptor. So a signal for an exchange
that has ended is recognised and ignored.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol, TypeAlias

from reactor_run.logs import request_name
from reactor_run.protocol.request import RequestHead
from reactor_run.pulse import Pulse
from reactor_run.reactor.links.lane import LaneEnd
from reactor_run.reactor.links.stream import StreamEnd

__all__ = ["AppExchange", "AppLane", "AppLink", "ExchangeLoop", "signal_write_ready"]


class ExchangeLoop(Protocol):
    """The part of the reactor's loop that exchanges use."""

    ready: deque[Any]
    """Exchanges whose app has not begun."""
    pulse: Pulse

    def write_ready(self, exchange: AppExchange) -> None:
        """Send the output of an exchange at the next flush. Thread-safe."""

    def flush_soon(self) -> None:
        """Flush before the loop waits, also after a step of a task that the app started."""

    def begins(self, exchange: AppExchange) -> None:
        """Tell the front end that an exchange begins. Call this before the app is called."""


class AppExchange:
    """One request and its response.

    identified: each request has an id (`--request-id`). It is the same for all exchanges.
    express: the number of the exchange on the express lane; 0 if its request came on a plain lane.
    lane: the plain lane or the stream that carries the request and the answer in pieces; None while
    one message each way is enough.
    """

    identified = False

    __slots__ = ("__weakref__", "ended", "express", "gone", "head", "lane", "reactor")

    def __init__(
        self,
        reactor: ExchangeLoop,
        head: RequestHead,
        express: int,
        lane: AppLink | None,
    ) -> None:
        self.reactor = reactor
        self.head = head
        self.express = express
        self.lane: AppLink | None = lane
        self.gone = False
        """The client does not read the answer any more. Sending raises OSError."""
        self.ended = False
        """The exchange is over. The app may still hold it, but it does not touch its lane again."""

    def take_out(self) -> bool:
        """Take the exchange out of the queue, so that it never begins.

        Returns False, and changes nothing, if it has already begun.
        """
        ready = self.reactor.ready
        if self not in ready:
            return False
        ready.remove(self)
        return True

    @property
    def name(self) -> str:
        """The method and the target for the log, as the client sent them, and the id of the
        request, if requests have ids. The app may have changed its own copies."""
        head = self.head
        return request_name(head.method, head.target, self.request_id)

    @property
    def request_id(self) -> str:
        """The id of the request; empty: requests have no ids."""
        if not self.identified:
            return ""
        (request_id,) = self.head.values((b"x-request-id",))
        return request_id.decode("latin-1")

    @property
    def relayed(self) -> bool:
        """Whether only the front end can write to the client."""
        return False

    def abandon(self) -> None:
        """Abort the answer and release the lane or the number, after `over` has failed."""
        raise NotImplementedError

    def write_out(self) -> None:
        """Send the gathered output. The loop calls this after `signal_write_ready`."""
        raise NotImplementedError

    def over(self, error: BaseException | None) -> None:
        """End the exchange: the app returned, raised `error`, or will never be called."""
        raise NotImplementedError

    def on_read_ready(self) -> None:
        """Handle that the lane has bytes, or its end, for this exchange."""

    def on_write_ready(self) -> None:
        """Handle that the lane takes bytes again."""

    def on_fin(self) -> None:
        """Handle the client's FIN: the client sends nothing more, and may still read."""

    def on_gone(self) -> None:
        """Handle that the client is gone."""
        self.gone = True


AppLane: TypeAlias = LaneEnd[AppExchange]
"""The reactor's end of a plain lane. It carries one exchange, or none."""
AppLink: TypeAlias = AppLane | StreamEnd
"""Carries one exchange in pieces."""


def signal_write_ready(exchange: AppExchange) -> None:
    """Tell the loop that `exchange` has output. Thread-safe. Ignored after the exchange has
    ended."""
    exchange.reactor.write_ready(exchange)
