"""The WSGI environ of a request (PEP 3333, and RFC 3875 for what it takes from CGI).

One environ is built for each request, so this is a hot path: no call that a lookup can replace.
Every byte of the request becomes one character of a native string, as latin-1 (PEP 3333, "Unicode
Issues"). Whoever runs the app sets wsgi.input; what else is the server's own it names once.

What becomes of a field:

    Content-Type                    CONTENT_TYPE
    Content-Length                  CONTENT_LENGTH, rewritten from the framing that the head was
                                    accepted with, so that app and server read the same number;
                                    absent if the body is chunked (wsgi.input_terminated is True:
                                    the app may read to the end)
    hop-by-hop                      nothing: it is the servers' own
    Proxy                           nothing: HTTP_PROXY is how many HTTP clients are told to use a
                                    proxy ("httpoxy", CVE-2016-5385)
    a name with an underscore       nothing, unless `underscores` is "keep": X_Forwarded_For would
                                    pass for X-Forwarded-For. Even then it never stands in for one
                                    of the fields above
    the same name again             joined with ", "; Cookie with "; " (RFC 9110 section 5.3,
                                    RFC 9113 section 8.2.3)
    anything else                   HTTP_ and the name in upper case, "-" as "_"

The front end has made Host agree with an absolute-form target (RFC 9112 §3.2.2). The scheme is the
connection's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from reactor_run.protocol.origin import Origin
from reactor_run.protocol.path import decode_path, mount_prefix
from reactor_run.protocol.request import KnownHeads, RequestHead
from reactor_run.protocol.scope import HOP_BY_HOP, FieldNameCache
from reactor_run.protocol.target import split_target

__all__ = ["EnvironBuilder"]

_DROPPED: Final = HOP_BY_HOP | {b"proxy"}
_CONTENT: Final = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}
_PROTOCOLS: Final = ("HTTP/1.0", "HTTP/1.1")
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
_FILLED_IN: Final = dict.fromkeys(
    (
        "REQUEST_METHOD",
        "PATH_INFO",
        "QUERY_STRING",
        "REQUEST_URI",
        "RAW_URI",
        "SERVER_PROTOCOL",
        "SERVER_NAME",
        "SERVER_PORT",
        "REMOTE_ADDR",
        "REMOTE_PORT",
    ),
    "",
)
"""What is set for each request. It is in the template because a dict that need not grow for it is
made in half the time."""


def _key(name: bytes) -> str:
    """The environ key of a field; empty if the field is not for the app."""
    name = name.lower()
    hyphenated = name.replace(b"_", b"-")
    if not name or hyphenated in _DROPPED:
        return ""
    if hyphenated in _CONTENT:
        return _CONTENT.get(name, "")
    return "HTTP_" + hyphenated.replace(b"-", b"_").upper().decode("latin-1")


def _key_without_underscores(name: bytes) -> str:
    """The same, and no field whose name holds an underscore."""
    return "" if b"_" in name else _key(name)


def _read_other_form(target: bytes) -> tuple[str, str]:
    """Path and query of a target that is no path: `*`, or a whole URI."""
    raw_path, query = split_target(target)
    return "" if raw_path == b"*" else raw_path.decode("latin-1"), query.decode("latin-1")


class EnvironBuilder:
    """Builds the environs of one reactor.

    `script_name` is where a proxy has mounted the app, which it has taken off the targets, so that
    PATH_INFO is the path as it came. It is not percent-encoded; a slash at its end is taken off.
    `multithread` and `multiprocess`: the app may be called by another thread of this process, or
    by another process, at the same time (PEP 3333).
    `constants` are in every environ as they are: what they hold, all requests share.
    Raises ValueError for a `script_name` that does not begin with a slash.
    """

    __slots__ = ("_keys", "_known", "_template")

    def __init__(
        self,
        script_name: str = "",
        *,
        multithread: bool,
        multiprocess: bool,
        underscores: Literal["drop", "keep"] = "drop",
        constants: Mapping[str, Any] | None = None,
    ) -> None:
        self._keys = FieldNameCache(_key if underscores == "keep" else _key_without_underscores)
        self._known: dict[RequestHead, dict[str, Any]] = {}
        """The environs of known heads, but for the addresses."""
        self._template: dict[str, Any] = {
            # PEP 3333, "Unicode Issues": the bytes of it, seen as latin-1.
            "SCRIPT_NAME": mount_prefix(script_name).encode().decode("latin-1"),
            **_FILLED_IN,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.multithread": multithread,
            "wsgi.multiprocess": multiprocess,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
            **(constants or {}),
        }

    def build(self, head: RequestHead, origin: Origin) -> dict[str, Any]:
        """The environ of one request, all but wsgi.input.

        Without a client REMOTE_ADDR is empty. Without a server port, which is what a unix socket
        has, SERVER_NAME and SERVER_PORT are those of HTTP_HOST; what it lacks is "localhost" and
        the scheme's port (neither may be empty). `*`, which is no path, has an empty PATH_INFO.
        """
        known = self._known.get(head)
        if known is not None:
            environ = known.copy()
        else:
            environ = self._build(head)
            if head.known:
                if len(self._known) >= KnownHeads.MAX:
                    self._known.clear()
                self._known[head] = environ.copy()
        client, server, scheme = origin
        environ["wsgi.url_scheme"] = scheme
        if client is not None:
            environ["REMOTE_ADDR"] = client[0]
            environ["REMOTE_PORT"] = str(client[1])
        else:
            del environ["REMOTE_PORT"]
        if server is not None and server[1] is not None:
            address, port = server
            # An IPv6 address is bracketed wherever a port may follow it (RFC 3875 §4.1.14).
            environ["SERVER_NAME"] = f"[{address}]" if ":" in address else address
            environ["SERVER_PORT"] = str(port)
        else:
            _name_server_by_host(environ, scheme)
        return environ

    def _build(self, head: RequestHead) -> dict[str, Any]:
        """What the head says, and what is always the same."""
        target = head.target
        uri = target.decode("latin-1")
        if uri[:1] == "/":
            path, _, query = uri.partition("?")
        else:
            path, query = _read_other_form(target)
        if "%" in path:
            path = decode_path(path.encode("latin-1")).decode("latin-1")
        environ = self._template.copy()
        environ["REQUEST_METHOD"] = head.method.decode("latin-1")
        environ["PATH_INFO"] = path
        environ["QUERY_STRING"] = query
        environ["REQUEST_URI"] = uri
        environ["RAW_URI"] = uri
        environ["SERVER_PROTOCOL"] = _PROTOCOLS[head.minor_version]
        keys = self._keys
        for name, value in head.fields:
            key = keys[name]
            text = value.decode("latin-1")
            if key in environ:
                environ[key] += ("; " if key == "HTTP_COOKIE" else ", ") + text
            elif key:
                environ[key] = text
        if "CONTENT_LENGTH" in environ:
            if head.body >= 0:
                environ["CONTENT_LENGTH"] = str(head.body)
            else:
                del environ["CONTENT_LENGTH"]
        return environ


def _name_server_by_host(environ: dict[str, Any], scheme: str) -> None:
    """Set SERVER_NAME and SERVER_PORT from HTTP_HOST (RFC 9110 section 7.2)."""
    host: str = environ.get("HTTP_HOST", "")
    # A colon within brackets is part of an address, not before a port.
    name, colon, port = host.rpartition(":")
    if not colon or port.endswith("]"):
        name, port = host, ""
    environ["SERVER_NAME"] = name or "localhost"
    environ["SERVER_PORT"] = port or _DEFAULT_PORTS[scheme]
