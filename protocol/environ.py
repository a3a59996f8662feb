"""The WSGI environ of a request (PEP 3333, and RFC 3875 for what it takes from CGI).

One environ is built for each request. On this hot path a lookup replaces a call wherever possible.

Every byte of the request becomes one character of a native string, as latin-1 (PEP 3333, "Unicode
Issues"). The caller sets wsgi.input for each request, and passes the server's other variables once,
as `constants`.

What each field becomes:

    Content-Type                    CONTENT_TYPE
    Content-Length                  CONTENT_LENGTH, written from the framing that was accepted with
                                    the head, so that app and server read the same number. Absent
                                    if the body is chunked; then wsgi.input_terminated is True, and
                                    the app may read to the end
    hop-by-hop                      nothing: it belongs to the servers
    Proxy                           nothing: many HTTP clients take HTTP_PROXY for the address of
                                    their proxy ("httpoxy", CVE-2016-5385)
    a name with an underscore       nothing, unless `underscores` is "keep": X_Forwarded_For would
                                    pass for X-Forwarded-For. Even then it never stands in for one
                                    of the fields above
    the same name again             joined with ", "; Cookie with "; " (RFC 9110 section 5.3,
                                    RFC 9113 section 8.2.3)
    anything else                   HTTP_ and the name in upper case, "-" as "_"

The front end has made Host agree with an absolute-form target (RFC 9112 §3.2.2). The scheme is that
of the connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from reactor_run.native import Head, Names
from reactor_run.protocol.origin import Origin
from reactor_run.protocol.path import decode_path, mount_prefix
from reactor_run.protocol.request import RequestHead
from reactor_run.protocol.scope import HOP_BY_HOP
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
"""The variables that are set for each request. The template holds them, because copying a dict that
need not grow takes half the time."""


def _key(name: bytes) -> str:
    """Return the environ key of a field; empty if the field is not for the app."""
    name = name.lower()
    hyphenated = name.replace(b"_", b"-")
    if not name or hyphenated in _DROPPED:
        return ""
    if hyphenated in _CONTENT:
        return _CONTENT.get(name, "")
    return "HTTP_" + hyphenated.replace(b"-", b"_").upper().decode("latin-1")


def _key_without_underscores(name: bytes) -> str:
    """Return the environ key of a field; empty also if its name holds an underscore."""
    return "" if b"_" in name else _key(name)


def _read_other_form(target: bytes) -> tuple[str, str]:
    """Return path and query of a target that is no path: `*`, or a whole URI."""
    raw_path, query = split_target(target)
    return "" if raw_path == b"*" else raw_path.decode("latin-1"), query.decode("latin-1")


class EnvironBuilder:
    """Builds the environs of one reactor.

    `script_name`: the path under which a proxy has mounted the app. The proxy has removed it from
    the targets, so PATH_INFO is the path as it came. It is not percent-encoded; a slash at its end
    is removed.
    `mount_path`: the prefix of the app's routes in this server. The targets have it: it goes from
    PATH_INFO to SCRIPT_NAME.
    `multithread`, `multiprocess`: another thread of this process, or another process, may call the
    app at the same time (PEP 3333).
    `constants`: variables of every environ. All requests share their values.

    Raises ValueError if `script_name` is not empty and does not begin with a slash.
    """

    __slots__ = ("_keys", "_mount", "_template")

    def __init__(
        self,
        script_name: str = "",
        *,
        multithread: bool,
        multiprocess: bool,
        mount_path: str = "",
        underscores: Literal["drop", "keep"] = "drop",
        constants: Mapping[str, Any] | None = None,
    ) -> None:
        self._keys = Names(_key if underscores == "keep" else _key_without_underscores)
        self._mount = _latin(mount_prefix(mount_path))
        self._template: dict[str, Any] = {
            "SCRIPT_NAME": _latin(mount_prefix(script_name)) + self._mount,
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
        """Return the environ of one request, without wsgi.input.

        REMOTE_ADDR is empty if the client is unknown. If the server has no port, as on a unix
        socket, SERVER_NAME and SERVER_PORT come from HTTP_HOST. If that lacks one of them, it is
        "localhost" or the scheme's port, because neither may be empty. `*` is no path: its
        PATH_INFO is empty.
        """
        # C builds no environ if a field is repeated.
        environ = head.environ(self._template, self._keys, origin) if type(head) is Head else None
        if environ is None:
            environ = self._build(head)
        if self._mount:
            environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix(self._mount)
        # C sets the variables of a usual origin.
        if not environ["SERVER_PORT"]:
            _put_origin(environ, origin)
        return environ

    def _build(self, head: RequestHead) -> dict[str, Any]:
        """Return an environ with the constants and with what the head says."""
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


def _latin(path: str) -> str:
    """Return a path as PEP 3333 has it ("Unicode Issues"): its bytes, read as latin-1."""
    return path.encode().decode("latin-1")


def _put_origin(environ: dict[str, Any], origin: Origin) -> None:
    """Set the variables that the origin tells, and the scheme."""
    client, server, scheme, tls, http2 = origin
    if http2:
        environ["SERVER_PROTOCOL"] = "HTTP/2.0"
    environ["wsgi.url_scheme"] = scheme
    if scheme == "https":
        environ["HTTPS"] = "on"
        if tls is not None:
            environ.update(tls.environ)
    if client is not None:
        environ["REMOTE_ADDR"] = client[0]
        environ["REMOTE_PORT"] = str(client[1])
    else:
        del environ["REMOTE_PORT"]
    if server is not None and server[1] is not None:
        address, port = server
        # An IPv6 address has brackets, because a port may follow it (RFC 3875 §4.1.14).
        environ["SERVER_NAME"] = f"[{address}]" if ":" in address else address
        environ["SERVER_PORT"] = str(port)
    else:
        _name_server_by_host(environ, scheme)


def _name_server_by_host(environ: dict[str, Any], scheme: str) -> None:
    """Set SERVER_NAME and SERVER_PORT from HTTP_HOST (RFC 9110 section 7.2)."""
    host: str = environ.get("HTTP_HOST", "")
    # A colon within brackets is part of an address and does not begin a port.
    name, colon, port = host.rpartition(":")
    if not colon or port.endswith("]"):
        name, port = host, ""
    environ["SERVER_NAME"] = name or "localhost"
    environ["SERVER_PORT"] = port or _DEFAULT_PORTS[scheme]
