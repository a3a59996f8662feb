"""The states of a connection that speaks HTTP/1.1, and what follows an answer.

What is awaited in each state, and what sets the deadline:

    state      what is awaited                            deadline
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
    ENDED      the connection lingers, or is closed       linger (connection.py)

Each state but ENDED has an end. Either a deadline is set, or the app alone is awaited. That is so
in BUSY if all of the body has come, or waits for the app to read on or to ask for it by 100
Continue, and the client has taken all that there is of the answer. It ends when the exchange ends:
at the latest when its reactor dies, its client resets the connection, or the kernel's keep-alive
probes fail.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["After", "Http1State"]


class Http1State(Enum):
    """What the connection is doing; see above."""

    IDLE = "idle"
    HEAD = "head"
    BUFFERING = "buffering"
    BUSY = "busy"
    FLUSHING = "flushing"
    DRAINING = "draining"
    ENDED = "ended"


class After(Enum):
    """What follows the answer that is under way."""

    NEXT = "the next request"
    CLOSE = "the end; if bytes of the client are unread, it lingers"
    LINGER = "a lingering end: where the next request begins is uncertain"
    CUT = "the end at once: the answer was cut"
