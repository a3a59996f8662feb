"""The grammar of field names and values, in pieces of regular expressions.

RFC 9110 §5, RFC 9112 §5. The pieces are possessive: they cannot backtrack, so a match takes time
linear in the bytes read.
"""

from __future__ import annotations

from typing import Final

__all__ = ["FIELD_LINE", "FIELD_TEXT", "QUOTED", "TOKEN"]

TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
"""RFC 9110 §5.6.2: token = 1*tchar. A field name is a token (§5.1)."""

QUOTED: Final = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+"'
"""RFC 9110 §5.6.4: quoted-string, without control characters but HTAB."""

FIELD_TEXT: Final = rb"[\t -~\x80-\xff]*+"
"""The text between the colon and the line end: OWS field-value OWS, without control characters but
HTAB (RFC 9110 §5.5). A reason phrase has the same characters (RFC 9112 §4)."""

FIELD_LINE: Final = TOKEN + rb":" + FIELD_TEXT + rb"\r\n"
"""RFC 9112 §5: field-line CRLF. No white space before the colon (§5.1), no obs-fold (§5.2)."""
