"""Redirects each request on a plain listener to https (`--redirect-http`).

The connections are ordinary ones. They have this context, whose `submit` answers.
"""

from __future__ import annotations

from typing import Any, Final

from reactor_run.frontend.clients.context import ClientContext
from reactor_run.frontend.clients.own_answers import OwnAnswer
from reactor_run.frontend.clients.requester import Http1Requester
from reactor_run.frontend.exchanges.exchange import Exchange
from reactor_run.protocol.target import split_target

__all__ = ["RedirectContext", "location_of"]

_HTTPS_PORT: Final = 443
_NO_HOST: Final = OwnAnswer(400, "this port only redirects to https, but there is no Host field")


class RedirectContext(ClientContext):
    """The context of connections whose requests are redirected.

    It takes all requests, also those whose bodies have not arrived. In all else it is like the
    context of the other connections, also when that changes.
    """

    def __init__(self, context: ClientContext, port: int) -> None:
        """`port`: that of the listener with TLS."""
        self._context = context
        self._port = port
        self.submit = self._redirect
        self.find_answerer = lambda _: self._redirect
        self.buffers = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def _redirect(self, exchange: Exchange) -> None:
        requester = exchange.requester
        assert isinstance(requester, Http1Requester)
        head = exchange.head
        (host,) = head.values((b"host",))
        if not host:
            requester.answer_here(_NO_HOST)
            return
        location = location_of(host, head.target, self._port)
        requester.answer_here(
            OwnAnswer(308, "", (b"location", location), text="this page has moved to https")
        )


def location_of(host: bytes, target: bytes, port: int) -> bytes:
    """Return the URL with https of a request.

    `port`: that of the listener with TLS. It counts if the client has named a port too. If not, the
    client used the port for http, so a balancer or a firewall maps ports, or none is needed.
    """
    path, query = split_target(target)
    if path[:1] != b"/":
        path = b"/"
    name, colon, _ = host.rpartition(b":")
    if not colon or host.endswith(b"]"):
        name = host
    elif port != _HTTPS_PORT:
        name = b"%b:%d" % (name, port)
    return b"https://%b%b%b" % (name, path, b"?" + query if query else b"")
