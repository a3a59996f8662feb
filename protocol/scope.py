"""The ASGI scope of an HTTP request (ASGI HTTP & WebSocket specification 2.5).

One scope is built for each request. On this hot path a lookup replaces a call wherever possible.

The fields, as the app sees them:

    names       in lower case, through a bounded cache of the spellings seen so far
    values      unchanged, in the order sent
    hop-by-hop  the fields of HOP_BY_HOP belong to the servers and are not shown. A field that the
                client's Connection names is shown: otherwise a client could have a proxy's
                X-Forwarded-For deleted by naming it
    upgrade     a WebSocket shows Connection and Upgrade, each with the one value that matters: apps
                such as python-socketio look at them

The front end has made Host agree with an absolute-form target (RFC 9112 §3.2.2). The scheme is that
of the connection, even if an absolute-form target claims another: a client must not be able to
claim that it used TLS.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from reactor_run.native import Head, Names
from reactor_run.protocol.origin import Origin
from reactor_run.protocol.path import decode_path, mount_prefix, quote_path
from reactor_run.protocol.request import RequestHead
from reactor_run.protocol.target import split_target

__all__ = ["HOP_BY_HOP", "ScopeBuilder"]

HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Request fields of the connection, not of the request (RFC 9110 section 7.6.1), in lower case."""

_UPGRADE: Final = ((b"connection", b"Upgrade"), (b"upgrade", b"websocket"))
_ASGI: Final = {"version": "3.0", "spec_version": "2.5"}
_VERSIONS: Final = ("1.0", "1.1")
_FILLED_IN: Final = dict.fromkeys(
    (
        "http_version",
        "method",
        "scheme",
        "path",
        "raw_path",
        "query_string",
        "headers",
        "client",
        "server",
    )
)
"""The keys that C sets for each request. The template holds them, because copying a dict that need
not grow takes half the time."""


def _app_name(name: bytes) -> bytes:
    """Return the name in lower case; empty if the field is not for the app."""
    name = name.lower()
    return b"" if name in HOP_BY_HOP else name


def _read_target(target: bytes) -> tuple[str, bytes, bytes]:
    """Return path, raw path and query."""
    raw_path, query = split_target(target)
    decoded = decode_path(raw_path) if b"%" in raw_path else raw_path
    return decoded.decode("utf-8", "replace"), raw_path, query


class ScopeBuilder:
    """Builds the scopes of one reactor.

    `root_path`: the path under which a proxy has mounted the app. The proxy has removed it from the
    targets. As with uvicorn's option of that name, `path` and `raw_path` get it back, and
    `root_path` tells it. It is not percent-encoded; a slash at its end is removed.
    `mount_path`: the prefix of the app's routes in this server. The targets have it, so only
    `root_path` gets it.
    `state`: the lifespan's state, or None if the app has no lifespan. Each scope gets a shallow
    copy.
    `extensions`: the server's extensions, or None. Each scope gets a shallow copy.

    Raises ValueError if `root_path` is not empty and does not begin with a slash.
    """

    __slots__ = (
        "_extensions",
        "_names",
        "_raw_root",
        "_root",
        "_root_path",
        "_state",
        "_template",
    )

    def __init__(
        self,
        root_path: str = "",
        state: dict[str, Any] | None = None,
        extensions: Mapping[str, dict[str, Any]] | None = None,
        *,
        mount_path: str = "",
    ) -> None:
        self._root = mount_prefix(root_path)
        self._raw_root = quote_path(self._root)
        self._root_path = self._root + mount_prefix(mount_path)
        self._state = state
        self._extensions = dict(extensions or {})
        self._names = Names(_app_name)
        self._template: dict[str, Any] = {
            "type": "http",
            "asgi": _ASGI,
            "root_path": self._root_path,
            **_FILLED_IN,
        }
        """What C copies and fills in."""
        if state is not None:
            self._template["state"] = state
        if self._extensions:
            self._template["extensions"] = self._extensions

    def build(self, head: RequestHead, origin: Origin) -> dict[str, Any]:
        """Return the scope of one request. What an app sets in it is invisible to other requests.

        `path` is decoded as UTF-8, and each invalid byte becomes U+FFFD, as with uvicorn.
        `raw_path` always has the bytes as sent. Only paths that begin with a slash get the root
        path: `*` stays `*`.
        """
        if type(head) is Head:
            scope = head.scope(self._template, self._names, origin)
        else:
            scope = self._build(head, origin)
        if origin.http2:
            scope["http_version"] = "2"
        if self._root and scope["raw_path"][:1] == b"/":
            scope["path"] = self._root + scope["path"]
            scope["raw_path"] = self._raw_root + scope["raw_path"]
        if origin.tls is not None:
            scope.setdefault("extensions", {})["tls"] = origin.tls.extension.copy()
        return scope

    def build_websocket(
        self, head: RequestHead, origin: Origin, subprotocols: list[str]
    ) -> dict[str, Any]:
        """Return the scope of one WebSocket handshake. `subprotocols`: those that it offers."""
        scope = self.build(head, origin)
        scope["type"] = "websocket"
        scope["scheme"] = "wss" if scope["scheme"] == "https" else "ws"
        scope["subprotocols"] = subprotocols
        scope["headers"] += _UPGRADE
        del scope["method"]
        # Those of HTTP responses do not concern it.
        extensions = scope.get("extensions", {}).items()
        shown = {name: each for name, each in extensions if not name.startswith("http.")}
        scope["extensions"] = {"websocket.http.response": {}, **shown}
        return scope

    def _build(self, head: RequestHead, origin: Origin) -> dict[str, Any]:
        """Return what the head and the origin say, for a head that C has not read."""
        target = head.target
        if target[:1] == b"/" and b"%" not in target and target.isascii():
            # The most frequent case: nothing is encoded, and only the query must be cut off.
            raw_path, _, query = target.partition(b"?")
            path = raw_path.decode("ascii")
        else:
            path, raw_path, query = _read_target(target)
        headers = []
        names = self._names
        # A comprehension is slower: it is a function call of its own in Python 3.11.
        for name, value in head.fields:
            shown = names[name]
            if shown:
                headers.append((shown, value))
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": _ASGI.copy(),
            "http_version": _VERSIONS[head.minor_version],
            "method": head.method.decode("latin-1"),
            "scheme": origin.scheme,
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "root_path": self._root_path,
            "headers": headers,
            "client": origin.client,
            "server": origin.server,
        }
        if self._state is not None:
            scope["state"] = self._state.copy()
        if self._extensions:
            scope["extensions"] = self._extensions.copy()
        return scope
