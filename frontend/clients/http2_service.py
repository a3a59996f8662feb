"""Lets connections speak HTTP/2, if the library for it is installed.

The library takes a megabyte. It is imported when the first client speaks HTTP/2.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Literal

from reactor_run.frontend.clients.connection import Connection
from reactor_run.frontend.clients.context import ClientContext
from reactor_run.frontend.clients.forwarding import ConnectionOrigin
from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.log import log
from reactor_run.frontend.loop.epoll import Loop

if TYPE_CHECKING:
    from reactor_run.frontend.clients.http2 import Http2
    from reactor_run.protocol.http2.session import SessionMaker

__all__ = ["Http2Service", "open_http2"]


def open_http2(
    wanted: Literal["auto", "on", "off"], loop: Loop, *, streams_max: int
) -> Http2Service | None:
    """Return the service; None: HTTP/2 is not spoken.

    `wanted`: the setting `--http2`. `streams_max`: the most streams of a connection. Raises
    OperatorError if it is wanted and the library is not installed.
    """
    if wanted == "off":
        return None
    if importlib.util.find_spec("ngh2") is None:
        if wanted == "on":
            raise OperatorError(
                "--http2 on needs a package that is not installed; run: "
                "pip install 'reactor-run[http2]'"
            )
        return None
    return Http2Service(loop, streams_max)


class Http2Service:
    """What all HTTP/2 connections of one front end share.

    streams_max: the most streams of one connection. sessions: makes their sessions.
    """

    sessions: SessionMaker

    def __init__(self, loop: Loop, streams_max: int) -> None:
        self.streams_max = streams_max
        self._ready = False
        """`sessions` is there."""
        self._stirred: list[Http2] = []
        # Before the links send: what clients take makes room for more of their answers.
        loop.after_batch(self._flush)

    def begin(
        self, context: ClientContext, connection: Connection, origin: ConnectionOrigin, data: bytes
    ) -> Http2:
        """Speak HTTP/2 on a connection. `data`: what the client has sent, from the preface on."""
        from reactor_run.frontend.clients.http2 import Http2, session_maker

        if not self._ready:
            self.sessions = session_maker(context.limits.head_size, self.streams_max)
            self._ready = True
        http2 = Http2(self, context, connection, origin)
        connection.switch(http2)
        http2.begin(data)
        return http2

    def stir(self, http2: Http2) -> None:
        """Call `flush` of a connection at the end of the batch."""
        self._stirred.append(http2)

    def _flush(self) -> None:
        while self._stirred:
            stirred, self._stirred = self._stirred, []
            for http2 in stirred:
                try:
                    http2.flush()
                except Exception:
                    log.exception("internal error, please report it")
                    http2.connection.on_fault()
