"""Cross-origin requests (CORS): what the Fetch standard, section 3.3, asks of a server.

A browser lets a page read the answer of another origin only if the answer allows it. Before a
request that a form could not make, it asks by a preflight: OPTIONS with
Access-Control-Request-Method. The front end answers preflights itself, and adds the fields to all
other answers.

    the request has        the answer gets
    no Origin              Vary: Origin, unless each origin is allowed
    an Origin, allowed     Access-Control-Allow-Origin, and what else is allowed
    an Origin, not allowed Vary: Origin alone: the browser keeps the answer from the page

An origin is never allowed because it asks: with credentials, each origin must be listed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from reactor_run.frontend.errors import OperatorError
from reactor_run.protocol.fields import TOKEN

if TYPE_CHECKING:
    from reactor_run.protocol.request import RequestHead

__all__ = ["SAFE_METHODS", "CrossOrigin"]

SAFE_METHODS: Final = ("GET", "HEAD", "POST")
"""The methods that the Fetch standard calls CORS-safelisted: a browser asks for none of them."""

_ANY: Final = "*"
_TOKEN: Final = re.compile(TOKEN)
_ORIGIN: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<wild>\*\.)?"
    r"(?P<host>[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?P<port>:[0-9]{1,5})?"
)
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}
_OWN_LINE: Final = re.compile(
    rb"\r\naccess-control-(?:allow-(?:origin|credentials|methods|headers)|expose-headers|max-age)"
    rb":[^\r]*",
    re.IGNORECASE,
)
"""A field that an app sets itself. The front end sets it instead: a browser rejects two."""


class _Wildcard(NamedTuple):
    """All subdomains of one host."""

    before: bytes
    after: bytes

    def matches(self, origin: bytes) -> bool:
        return (
            origin.startswith(self.before)
            and origin.endswith(self.after)
            and _LABELS.fullmatch(origin[len(self.before) : len(origin) - len(self.after)])
            is not None
        )


_LABELS: Final = re.compile(rb"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")


class CrossOrigin:
    """What pages of other origins may do."""

    def __init__(
        self,
        origins: Sequence[str],
        *,
        methods: Sequence[str] = (),
        fields: Sequence[str] = (),
        exposed: Sequence[str] = (),
        credentials: bool = False,
        max_age: int = 600,
    ) -> None:
        """`origins`: as in `https://shop.example`, `https://*.shop.example`, `null`, or `*` for
        each origin. `methods`: besides SAFE_METHODS. `fields`: of requests, or `*`. `exposed`:
        fields of answers that pages may read, or `*`. `credentials`: pages may send cookies.
        `max_age`: seconds for which a browser may keep the answer to a preflight.

        Raises OperatorError.
        """
        self._exact: set[bytes] = set()
        self._wild: list[_Wildcard] = []
        self.any = _ANY in origins
        if self.any and credentials:
            raise OperatorError(
                "* with credentials would let each page act for its visitor; list the origins, or "
                "leave the credentials out"
            )
        for name, values in (("fields", fields), ("exposed fields", exposed), ("methods", methods)):
            if credentials and _ANY in values:
                raise OperatorError(f"with credentials, * does not stand for all {name}; list them")
        for origin in origins:
            if origin != _ANY:
                self._add(origin)
        for name in (*methods, *fields, *exposed):
            if _TOKEN.fullmatch(name.encode(errors="replace")) is None:
                raise OperatorError(f"expected a name of letters, digits and hyphens, not {name!r}")
        self._allowing = b""
        """The lines of each allowed answer, besides the origin."""
        if credentials:
            self._allowing += b"access-control-allow-credentials: true\r\n"
        self._exposing = b""
        if exposed:
            self._exposing = b"access-control-expose-headers: %b\r\n" % ", ".join(exposed).encode()
        # HEAD, GET and POST need no line, but operators look for them.
        named = dict.fromkeys((*SAFE_METHODS, *methods))
        self._preflight = b"access-control-allow-methods: %b\r\n" % ", ".join(named).encode()
        if fields:
            # `*` does not stand for Authorization (Fetch §3.3.4).
            listed = (*fields, "Authorization") if _ANY in fields else fields
            self._preflight += b"access-control-allow-headers: %b\r\n" % ", ".join(listed).encode()
        self._preflight += b"access-control-max-age: %d\r\n" % max_age

    def _add(self, origin: str) -> None:
        if origin == "null":
            self._exact.add(b"null")
            return
        parts = _ORIGIN.fullmatch(origin)
        if parts is None:
            raise OperatorError(
                "expected an origin in lower case, as in https://shop.example or "
                f"https://*.shop.example:8443, without a path, not {origin!r}"
            )
        port = parts["port"] or ""
        if port == _DEFAULT_PORTS.get(parts["scheme"]):
            # Browsers leave it out.
            port = ""
        start = f"{parts['scheme']}://".encode()
        if parts["wild"]:
            self._wild.append(_Wildcard(start, f".{parts['host']}{port}".encode()))
        else:
            self._exact.add(start + f"{parts['host']}{port}".encode())

    def _allows(self, origin: bytes) -> bool:
        return (
            self.any
            or origin in self._exact
            or any(wildcard.matches(origin) for wildcard in self._wild)
        )

    # Answers -------------------------------------------------------------------------------------

    @staticmethod
    def is_preflight(head: RequestHead) -> bool:
        """Whether a request is a preflight (Fetch §3.3.1)."""
        if head.method != b"OPTIONS":
            return False
        origin, method = head.values((b"origin", b"access-control-request-method"))
        return bool(origin and method)

    def lines(self, head: RequestHead, *, preflight: bool = False) -> bytes:
        """Return the field lines for the answer to a request. `preflight`: to a preflight.

        A preflight may ask for what is not allowed. It gets only what is, and then the browser does
        not send the request.
        """
        (origin,) = head.values((b"origin",))
        vary = b"" if self.any else b"vary: Origin\r\n"
        if not origin or not self._allows(origin):
            return vary
        allowed = b"*" if self.any else origin
        return b"".join(
            (
                b"access-control-allow-origin: %b\r\n" % allowed,
                self._allowing,
                self._preflight if preflight else self._exposing,
                vary,
            )
        )

    def add(self, head: RequestHead, answer: bytes) -> bytes:
        """Return the answer to a request with the fields. Those that an app has set go.

        `answer` begins with a whole head. Raises ValueError if there is no head.
        """
        lines = self.lines(head)
        end = answer.index(b"\r\n\r\n")
        fields = answer[:end]
        start = fields.find(b"\r\n")
        start = end if start < 0 else start
        kept = _OWN_LINE.sub(b"", fields[start:])
        return b"".join((fields[:start], b"\r\n" if lines else b"", lines[:-2], kept, answer[end:]))
