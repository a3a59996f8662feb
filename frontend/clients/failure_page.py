"""The answer while the app does not start (`--reload`): its traceback, as a page or as text.

A traceback shows code and may show secrets. So it goes only to a client on this machine, which asks
for this machine by name: a page of another site, whose name an attacker's DNS leads here, does not.
Fields that proxies add show that the client may be elsewhere.
"""

from __future__ import annotations

import ipaddress
import socket
from html import escape
from typing import Final

from reactor_run.frontend.clients.own_answers import OwnAnswer
from reactor_run.protocol.proxy import Endpoint
from reactor_run.protocol.request import RequestHead

__all__ = ["FailurePage", "is_local"]

_ERROR: Final = "the app does not start"
_PROXY_FIELDS: Final = (b"forwarded", b"via", b"x-real-ip")
_STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem}"
    "pre{overflow-x:auto;padding:1rem;border:1px solid;border-radius:4px}"
    "h1{font-size:1.25rem}:root{color-scheme:light dark}"
)
_FIELDS: Final = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"),
    (b"x-content-type-options", b"nosniff"),
)


class FailurePage:
    """Why the app did not start."""

    def __init__(self, app: str, reason: str, details: str | None) -> None:
        """`app`: as it was given. `reason`: one line. `details`: a traceback, if there is one."""
        self._app = app
        self._reason = reason
        self._details = (details or "").rstrip()

    def answer(self, head: RequestHead) -> OwnAnswer:
        """Return the answer to a request: HTML if its Accept lists that, else text."""
        accept = b",".join(value for name, value in head.fields if name.lower() == b"accept")
        if b"text/html" in accept.lower():
            html = b"text/html; charset=utf-8"
            return OwnAnswer(500, _ERROR, *_FIELDS, text=self._html(), content_type=html)
        text = f"{self._app} does not start: {self._reason}"
        if self._details:
            text = f"{self._details}\n\n{text}"
        return OwnAnswer(500, _ERROR, *_FIELDS, text=text)

    def _html(self) -> str:
        title = escape(f"{self._app} does not start")
        details = f"<pre>{escape(self._details)}</pre>\n" if self._details else ""
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
            f"<title>{title}</title>\n"
            f'<meta name="viewport" content="width=device-width">\n<style>{_STYLE}</style></head>\n'
            f"<body><h1>{title}</h1>\n<p>{escape(self._reason)}</p>\n{details}"
            "<p>reactor-run starts the app again when a file changes.</p></body></html>"
        )


def is_local(peer: Endpoint | None, head: RequestHead) -> bool:
    """Whether a request comes from this machine, is for this machine by name, and passed no proxy.

    `peer`: the other end of the connection; None if it is not TCP.
    """
    if peer is None or not _is_loopback(peer[0]) or not head.target.startswith(b"/"):
        return False
    host = b""
    for name, value in head.fields:
        name = name.lower()
        if name == b"host":
            host = value
        elif name in _PROXY_FIELDS or name.startswith(b"x-forwarded-"):
            return False
    return _names_this_machine(host.decode("latin-1").lower())


def _names_this_machine(host: str) -> bool:
    name = host.rpartition("]")[0].removeprefix("[") or host.partition(":")[0]
    return (
        name == "localhost"
        or name.endswith(".localhost")
        or (name != "" and name == socket.gethostname().lower())
        or _is_loopback(name)
    )


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
