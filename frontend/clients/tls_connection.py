"""A connection that begins with a TLS handshake.

Its first protocol is the handshake, over the plain socket. Then the transport becomes a TLS stream,
and the connection speaks HTTP.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Final

from reactor_run.frontend.clients.connection import (
    Connection,
    ConnectionPhase,
    ConnectionProtocol,
)
from reactor_run.frontend.clients.context import ClientContext
from reactor_run.frontend.clients.tls_transport import TlsTransport
from reactor_run.frontend.clients.transport import Transport

__all__ = ["TlsConnection"]

_IN: Final = select.EPOLLIN


class TlsConnection(Connection):
    """A connection whose transport may hold bytes that no event announces."""

    __slots__ = ("_begun", "_looks")

    def __init__(
        self,
        context: ClientContext,
        transport: Transport,
        on_close: Callable[[Connection], None],
    ) -> None:
        super().__init__(context, transport, on_close)
        self._begun = False
        self._looks = False
        """The loop will call `_look`."""

    def begin(self, protocol: ConnectionProtocol) -> None:
        """Speak `protocol` from now on, also after another one. Raises OSError."""
        if self._begun:
            self.protocol = protocol
            self._on_readable = protocol.on_readable
        else:
            super().begin(protocol)
            self._begun = True

    def secure(self, transport: TlsTransport) -> None:
        """Read and write by `transport` from now on: the handshake is done."""
        self.transport = transport
        self.recv = transport.recv
        self.send = transport.send
        self.accepted = self.loop.now

    def read(self, on: bool) -> None:
        """Start or stop reading the client."""
        super().read(on)
        self.look_again()

    def _on_events(self, events: int) -> None:
        super()._on_events(events)
        self.look_again()

    def look_again(self) -> None:
        """Read on in a later turn if bytes are here that no event announces."""
        if self.transport.ready and not self._looks and self._may_read:
            self._looks = True
            self.loop.defer(self._look)

    @property
    def _may_read(self) -> bool:
        return self.phase is ConnectionPhase.OPEN and self.reading

    def _look(self) -> None:
        self._looks = False
        if self.transport.ready and self._may_read:
            self._on_events(_IN)
