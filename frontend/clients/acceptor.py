"""Accepts connections from the listeners, within the limits on their number.

With `--proxy-protocol` a connection is an `InboundProxy` first, if its peer is in
`--proxy-allow-from`. Connections of other peers are closed. With TLS, a `TlsHandshake` comes next.

The limits, and what happens beyond them:

    connections, or open files         idle connections are closed, the longest idle first; if there
                                       are none, the listeners rest until a client leaves, or for
                                       _PAUSE seconds
    connections of one address         the new one is closed at once. It gets no answer: without
                                       its request read, a reset would destroy the answer. The
                                       address in a PROXY header counts, if there is one
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable, Mapping
from math import inf
from typing import TYPE_CHECKING, Final

from reactor_run.frontend.clients.connection import (
    Connection,
    ConnectionPhase,
    ConnectionProtocol,
)
from reactor_run.frontend.clients.context import ClientContext
from reactor_run.frontend.clients.forwarding import ConnectionOrigin, ForwardedOrigin, Forwarding
from reactor_run.frontend.clients.http1 import Http1
from reactor_run.frontend.clients.idle_connections import IdleConnections
from reactor_run.frontend.clients.per_address import PerAddress
from reactor_run.frontend.clients.proxy_preamble import InboundProxy, Introduced
from reactor_run.frontend.clients.reception import Reception
from reactor_run.frontend.clients.transport import Transport
from reactor_run.frontend.log import limited, log
from reactor_run.frontend.sockets.listener import Listener, Speech
from reactor_run.frontend.sockets.networks import Networks
from reactor_run.protocol.proxy import Endpoint
from reactor_run.protocol.tls import Tlvs

if TYPE_CHECKING:
    # Few services need these. The first imports ssl, which takes memory.
    from reactor_run.frontend.clients.redirect import RedirectContext
    from reactor_run.frontend.clients.tls_handshake import TlsHandshake, TlsService

__all__ = ["Acceptor"]

_ACCEPTS_MAX: Final = 64
"""The most connections accepted from one listener in a row."""
_PAUSE: Final = 1.0
"""Seconds for which listeners rest, unless a client leaves earlier."""
_SHED_PART: Final = 32
"""One in this many connections is closed at once to make room."""
_SHED_MAX: Final = 16
"""The most connections that are closed at once to make room."""
_QUIET: Final = 60.0
"""Seconds between two lines in the log about the same subject."""
_ABORTED: Final = frozenset(
    {
        errno.ECONNABORTED,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENONET,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
        errno.EPERM,
        errno.EPROTO,
    }
)
"""The errors of accept(2) that concern only the connection that it would have returned."""


class Acceptor:
    """Takes connections from the listeners, and counts them."""

    def __init__(
        self,
        context: ClientContext,
        listeners: list[Listener],
        *,
        connections_max: int,
        per_address: int,
        proxies: Networks | None,
        forwarding: Forwarding,
        on_left: Callable[[], None],
        tls: TlsService | None = None,
        redirects: RedirectContext | None = None,
        own: Mapping[str, ClientContext] | None = None,
    ) -> None:
        """`connections_max`: the most connections at once. `per_address`: the most of one address;
        0: no limit. `proxies`: the peers that may connect, each with a PROXY header first; None:
        any peer may connect, and there is no header. `forwarding`: the proxies whose fields name
        the client of a request. `on_left`: called whenever a connection has ended. `tls`: for the
        listeners that speak TLS; None: there are none. `redirects`: for those that redirect to TLS.
        `own`: for those of single apps, by name.
        """
        self.clients: set[Connection] = set()
        self._inbound: set[InboundProxy] = set()
        """Connections whose PROXY header has not arrived."""
        self.accepted = 0
        """The number of accepted connections since the start."""
        self.connections_max = connections_max
        self.deadline = self.check_at = inf
        self._context = context
        self._loop = context.loop
        self._listeners = listeners
        self._per_address = PerAddress(per_address, forwarding.proxies)
        self._idle = IdleConnections(self.clients)
        self._proxies = proxies
        self._forwarding = forwarding
        self._on_left = on_left
        self._tls = tls
        self._redirects = redirects
        self._own = {} if own is None else own
        self._begun = False
        self._resting = False
        self._quiet_until: dict[str, float] = {}

    def begin(self) -> bool:
        """Accept from now on; return False if it had begun before."""
        if self._begun:
            return False
        self._begun = True
        self._listen()
        return True

    def take_backlog(self) -> None:
        """Accept all connections in the backlog: closing the listener would reset them."""
        if self._begun and not self._resting:
            for listener in self._listeners:
                accept = self._acceptor(listener)
                before = -1
                while self._count != before:
                    before = self._count
                    accept(0)

    def end(self, *, leave: bool = False) -> None:
        """Close the listeners. `leave`: another process goes on to accept from their sockets."""
        if self._begun and not self._resting:
            self._unlisten()
        self._begun = False
        self._loop.forget(self)
        for listener in self._listeners:
            if leave:
                listener.leave()
            else:
                listener.close()

    def shut(self, grace: float) -> None:
        """Shut all connections down: the service stops.

        A connection without a request has `grace` seconds for a last one.
        """
        for client in list(self.clients):
            client.protocol.shut(grace)
        for inbound in list(self._inbound):
            inbound.shut(grace)

    def lose_all(self, error: str) -> None:
        """Close all connections at once. Their exchanges fail by `error`."""
        for client in list(self.clients):
            client.lose(error)

    @property
    def busy(self) -> bool:
        """Whether any client waits for an answer, or may still send a request."""
        return bool(self._inbound) or any(
            client.phase is not ConnectionPhase.LINGERING for client in self.clients
        )

    @property
    def _count(self) -> int:
        return len(self.clients) + len(self._inbound)

    @property
    def strangers(self) -> int:
        """The number of connections whose PROXY header has not arrived."""
        return len(self._inbound)

    @property
    def _full(self) -> bool:
        return self._count >= self.connections_max

    def left(self, client: Connection | InboundProxy) -> None:
        """Note that a connection has ended."""
        if isinstance(client, Connection):
            self.clients.discard(client)
            self._per_address.remove(client)
        else:
            self._inbound.discard(client)
        if self._resting and not self._full:
            # Its descriptor is closed at the end of the batch, so before the next event.
            self._resume()
        self._on_left()

    # Listening and resting -----------------------------------------------------------------------

    def _listen(self) -> None:
        for listener in self._listeners:
            accept = self._acceptor(listener)
            self._loop.watch(listener.socket.fileno(), select.EPOLLIN, accept)

    def _unlisten(self) -> None:
        for listener in self._listeners:
            self._loop.unwatch(listener.socket.fileno())

    def _rest(self) -> None:
        """Leave new connections in the backlog for _PAUSE seconds."""
        self._resting = True
        self._unlisten()
        self._loop.set_deadline(self, _PAUSE)

    def _resume(self) -> None:
        self._resting = False
        self._loop.forget(self)
        if self._begun:
            self._listen()

    def on_deadline(self) -> None:
        """Accept again after the rest."""
        self._resume()

    # Accepting -----------------------------------------------------------------------------------

    def _acceptor(self, listener: Listener) -> Callable[[int], None]:
        sock = listener.socket
        address = sock.getsockname()
        unix = listener.family == socket.AF_UNIX
        local: Endpoint | None = None
        if unix:
            local = (address if isinstance(address, str) else os.fsdecode(address), None)
        elif address[0] not in ("0.0.0.0", "::"):
            local = (address[0], address[1])

        reception = self._reception(listener)

        def accept(_: int) -> None:
            # A connection waits in the backlog: else there would be no event.
            if self._full:
                self._make_room(f"all {self.connections_max} connections are taken")
            for _ in range(_ACCEPTS_MAX):
                if self._full:
                    return
                try:
                    client, peer = sock.accept()
                except BlockingIOError:
                    return
                except OSError as error:
                    if error.errno in _ABORTED:
                        continue
                    # The descriptors of closed idle connections are free at the end of the batch.
                    self._make_room(f"no connection can be accepted ({error.strerror})")
                    return
                self._welcome(client, peer, local, reception)

        return accept

    def _reception(self, listener: Listener) -> Reception:
        context = self._own[listener.app] if listener.app else self._context
        if listener.speech is Speech.REDIRECT:
            assert self._redirects is not None
            context = self._redirects
        return Reception(listener.speech, context)

    def _welcome(
        self,
        sock: socket.socket,
        peer: tuple[str, int],
        local: Endpoint | None,
        reception: Reception,
    ) -> None:
        """Serve a new connection. `local`: its own end, if the listener has a fixed address."""
        source: Endpoint = ("", None) if sock.family == socket.AF_UNIX else (peer[0], peer[1])
        if self._proxies is not None and not self._proxies.cover(source):
            who = source[0] or "unix"
            self.complain(
                "stranger", f"{who} is not in --proxy-allow-from: its connections are closed"
            )
            sock.close()
            return
        if self._proxies is None and self._has_enough(source):
            sock.close()
            return
        try:
            sock.setblocking(False)
            if local is None:
                name = sock.getsockname()
                local = (name[0], name[1])
            if self._proxies is None:
                self._add(self._client(sock, source, local, reception).connection, source)
            else:
                self._inbound.add(self._inbound_proxy(sock, source, local, reception))
        except OSError as error:
            limited.error("cannot serve a connection: %s", error.strerror)
            sock.close()
            return
        self.accepted += 1

    def _client(
        self,
        sock: socket.socket,
        source: Endpoint,
        destination: Endpoint,
        reception: Reception,
        *,
        https: bool = False,
    ) -> Http1 | TlsHandshake:
        """Serve a client, or a trusted proxy that names the clients. Raises OSError."""
        context = reception.context
        if reception.speech is Speech.TLS:
            assert self._tls is not None
            return self._tls.begin(self, context, sock, source, destination, self.left)
        connection = Connection(context, Transport(sock), self.left)
        return Http1(context, connection, self._origin(source, destination, https=https))

    def speak(
        self,
        connection: Connection,
        context: ClientContext,
        source: Endpoint,
        destination: Endpoint,
        *,
        https: bool,
        tls: Tlvs,
        http2: bool = False,
    ) -> ConnectionProtocol:
        """Speak HTTP on a connection that began with a handshake. Raises OSError.

        `https`: the client uses TLS. `tls`: what reactors are told of it. `http2`: the client has
        chosen HTTP/2; else it is HTTP/1.1.
        """
        origin = self._origin(source, destination, https=https, tls=tls)
        if http2:
            assert context.http2 is not None
            client: ConnectionProtocol = context.http2.begin(context, connection, origin, b"")
            return client
        return Http1(context, connection, origin)

    def _origin(
        self, source: Endpoint, destination: Endpoint, *, https: bool, tls: Tlvs = ()
    ) -> ConnectionOrigin:
        context = self._context
        forwarding = self._forwarding
        if forwarding.proxies.cover(source):
            return ForwardedOrigin(context, source, destination, forwarding, https=https, tls=tls)
        return ConnectionOrigin(context, source, destination, https=https, tls=tls)

    def _inbound_proxy(
        self, sock: socket.socket, source: Endpoint, local: Endpoint, reception: Reception
    ) -> InboundProxy:
        """Serve a connection that must begin with a PROXY header. Raises OSError."""
        timeout = self._context.head_timeout
        return InboundProxy(self._loop, self, sock, source, local, timeout, reception)

    def introduced(
        self,
        inbound: InboundProxy,
        sock: socket.socket,
        source: Endpoint,
        destination: Endpoint,
        reception: Reception,
        *,
        https: bool,
    ) -> Introduced | None:
        """Serve a connection after its PROXY header; return None if it was closed instead."""
        if self._has_enough(source):
            inbound.close()
            return None
        try:
            client = self._client(sock, source, destination, reception, https=https)
        except OSError as error:
            limited.error("cannot serve a connection: %s", error.strerror)
            inbound.close()
            return None
        self._inbound.discard(inbound)
        self._add(client.connection, source)
        return client

    def admitted(self, client: Introduced) -> None:
        """Shut a new client down if the service stops. The bytes after its header were served."""
        if self._context.draining:
            client.shut(self._context.close_grace)

    # Limits --------------------------------------------------------------------------------------

    def _has_enough(self, source: Endpoint) -> bool:
        """Return whether its address has as many connections as it may have."""
        if not self._per_address.has_enough(source):
            return False
        limit = self._per_address.limit
        self.complain("address", f"{source[0]} has {limit} connections already: more are closed")
        return True

    def _add(self, client: Connection, source: Endpoint) -> None:
        self.clients.add(client)
        self._idle.add(client)
        self._per_address.add(client, source)

    def _make_room(self, why: str) -> None:
        """Close some idle connections. If there are none, rest."""
        count = max(1, min(self.connections_max // _SHED_PART, _SHED_MAX))
        if self._idle.close(count, self._loop.now):
            self.complain("idle", f"{why}: idle ones make room")
        else:
            self.complain("rest", f"{why}: new ones wait")
            self._rest()

    def complain(self, subject: str, line: str) -> None:
        """Log a warning for the operator, unless one on this subject was logged within _QUIET."""
        now = self._loop.now
        if now >= self._quiet_until.get(subject, 0.0):
            self._quiet_until[subject] = now + _QUIET
            log.warning("%s", line)
