"""The fields that the server adds to each response of its own accord.

They are Server, Date, and the fields that the operator has chosen. A field that the app sets takes
the place of ours. Fields that frame a response cannot be chosen: the server owns the framing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from reactor_run.protocol.fields import FIELD_TEXT, TOKEN

__all__ = ["HOP_BY_HOP", "ONLY_DATE", "SIZE_MAX", "OwnFields", "read_own_field"]

HOP_BY_HOP: Final = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""RFC 9110 §7.6.1: fields of one connection, which the server sets itself."""

SIZE_MAX: Final = 16 * 1024
"""Most bytes of all chosen fields. They must leave room for the fields of the app."""

_SERVER: Final = b"server"
_PRODUCT: Final = b"reactor-run"
_NAME: Final = re.compile(TOKEN)
_VALUE: Final = re.compile(FIELD_TEXT)


class OwnFields:
    """The fields of one server.

    server: the line of the Server field with its line end; b"" for none.
    dated: responses have a Date field.
    chosen: (name in lower case, line with its line end) of each field that the operator has chosen.
    """

    __slots__ = ("chosen", "dated", "server")

    def __init__(
        self,
        chosen: Iterable[tuple[bytes, bytes]] = (),
        *,
        server: bool = True,
        dated: bool = True,
    ) -> None:
        """`chosen`: names and values that `read_own_field` has read. `server`: add a Server field
        also if it is not among them."""
        fields = [(name.lower(), value) for name, value in chosen]
        product = dict(fields).get(_SERVER, _PRODUCT if server else None)
        self.server = b"" if product is None else b"server: %b\r\n" % product
        self.dated = dated
        self.chosen = tuple(
            (name, b"%b: %b\r\n" % (name, value)) for name, value in fields if name != _SERVER
        )

    def lines_beside(self, names: Iterable[bytes]) -> bytes:
        """Return the lines of the chosen fields. `names`: of the fields that the app sets, in any
        case. They are left out."""
        taken = {name.lower() for name in names}
        return b"".join([line for name, line in self.chosen if name not in taken])


ONLY_DATE: Final = OwnFields(server=False)


def read_own_field(text: bytes) -> tuple[bytes, bytes]:
    """Read `NAME:VALUE`. White space around the value is stripped.

    Raises ValueError, which says what is wrong: no name, a character that a field cannot have
    (RFC 9110 §5.1, §5.5), or a field that cannot be chosen.
    """
    name, colon, value = text.partition(b":")
    if not colon:
        raise ValueError("expected NAME:VALUE, as in X-Frame-Options:DENY")
    if _NAME.fullmatch(name) is None:
        raise ValueError("expected a name of letters, digits and hyphens before the colon")
    value = value.strip(b" \t")
    if _VALUE.fullmatch(value) is None:
        raise ValueError("the value has a line end or another control character")
    lower = name.lower()
    if lower == b"content-length" or lower in HOP_BY_HOP:
        raise ValueError(f"the server itself sets {name.decode()}, because it frames responses")
    if lower == b"date":
        raise ValueError("the server itself sets Date; --no-date-header leaves it out")
    return name, value
