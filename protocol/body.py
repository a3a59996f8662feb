"""Message bodies of HTTP/1.1: where one ends and what it carries (RFC 9112 sections 6 and 7).

A framing is one int: the Content-Length, or one of the two constants below.
"""

from __future__ import annotations

CHUNKED = -1
"""Framing of a body in the chunked transfer coding (RFC 9112 section 7.1)."""

UNTIL_CLOSE = -2
"""Framing of a response body that ends with its connection (RFC 9112 section 6.3, rule 8)."""
