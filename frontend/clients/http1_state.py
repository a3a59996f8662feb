"""The states of an HTTP/1.1 connection, and what follows an answer.

What the connection waits for in each state, and its deadline:

    state      waits for                                  deadline
    IDLE       the client: the next request               keep-alive (head, on a new connection)
    HEAD       the client: the rest of a head             head
    BUFFERING  the client: the rest of a body, kept here  body
    BUSY       the client: the rest of a body             body
               the client: to take some of the answer     response
               a reactor: to take the exchange            queue
               the app: it answers, or reads on           first byte, request; none by default
    FLUSHING   the client: to take the rest               response
    DRAINING   the client: the rest of a body that the    body
               app did not want
    WEBSOCKET  the client or the app                      response
               nothing else: the reactor sends pings      none
    ENDED      the connection lingers, or is closed       linger (connection.py)

Each state but ENDED comes to an end. In all but two cases a deadline is set. In WEBSOCKET the
reactor keeps the deadlines: it ends a WebSocket whose client answers no ping (tunnel.py). In BUSY
the connection may wait for the app alone, without a deadline. Then the client has taken all bytes
of the answer so far. The body has arrived whole, or the app must read it on or ask for it by 100
Continue. This case ends with the exchange: at the latest when the reactor dies, the client resets
the connection, or the kernel's keep-alive probes fail.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["After", "Http1State"]


class Http1State(Enum):
    """The state of an HTTP/1.1 connection; the head of this file explains each."""

    IDLE = "idle"
    HEAD = "head"
    BUFFERING = "buffering"
    BUSY = "busy"
    FLUSHING = "flushing"
    DRAINING = "draining"
    WEBSOCKET = "websocket"
    ENDED = "ended"


class After(Enum):
    """What the connection does after the present answer."""

    NEXT = "read the next request"
    CLOSE = "close; linger first if bytes of the client are unread"
    LINGER = "linger: where the next request begins is uncertain"
    CUT = "close at once: the answer was cut"
