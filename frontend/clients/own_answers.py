"""The answers that the front end makes itself: rejections, overload, failures and timeouts."""

from __future__ import annotations

from reactor_run.clock import date_field
from reactor_run.protocol.own_fields import OwnFields
from reactor_run.protocol.response import simple_response

__all__ = ["BAD_GATEWAY", "GATEWAY_TIMEOUT", "INSUFFICIENT_STORAGE", "OVERLOADED", "OwnAnswer"]


class OwnAnswer:
    """An answer that the front end makes: a status, text, fields."""

    __slots__ = ("_content_type", "_fields", "_text", "reason", "status")

    def __init__(
        self,
        status: int,
        reason: str,
        *fields: tuple[bytes, bytes],
        text: str = "",
        content_type: bytes = b"text/plain; charset=utf-8",
    ) -> None:
        """`reason`: the error in the record of the exchange. `text`: the body, by default the
        reason."""
        self.status = status
        self.reason = reason
        self._text = text or reason
        self._fields = fields
        self._content_type = content_type

    def encode(self, own_fields: OwnFields, *, head_only: bool) -> bytes:
        """Return the bytes of the answer. `head_only`: the request was a HEAD."""
        return simple_response(
            self.status,
            self._text.encode(errors="backslashreplace") + b"\n",
            fields=self._fields,
            date_field=date_field(),
            own_fields=own_fields,
            close=False,
            head_only=head_only,
            content_type=self._content_type,
        )


BAD_GATEWAY = OwnAnswer(502, "Bad Gateway")
"""The reactor will not complete its answer."""
OVERLOADED = OwnAnswer(503, "Service Unavailable", (b"retry-after", b"1"))
"""No reactor has room, or none had room for too long."""
GATEWAY_TIMEOUT = OwnAnswer(504, "Gateway Timeout")
"""The app took too long."""
INSUFFICIENT_STORAGE = OwnAnswer(507, "Insufficient Storage")
"""The body could not be written to a temporary file."""
