"""Gives each request an id (`--request-id`), in the field X-Request-ID.

The app sees exactly one such field. A trusted proxy may have named the id. The field of any other
client is replaced: it could pass for another request in the log.
"""

from __future__ import annotations

import os
import re
from typing import Final, NamedTuple

from reactor_run.protocol.policy import FIELD_COUNT_MAX, Limits
from reactor_run.protocol.request import RequestHead, parse_request_head

__all__ = ["REQUEST_ID", "Identified", "RequestIds"]

REQUEST_ID: Final = b"x-request-id"
"""The name of the field, in lower case."""

_VALID: Final = re.compile(rb"[A-Za-z0-9._~+/=:@-]{1,128}").fullmatch
"""An id that a proxy may name: it is safe in a log line, and in a field of the answer."""
_ROOM: Final = 256
"""Bytes by which the field may exceed --limit-head-size."""


class Identified(NamedTuple):
    """A request with its id. `data` begins with the head."""

    request_id: str
    data: bytes
    head: RequestHead


class RequestIds:
    """Makes ids, and puts them into requests."""

    def __init__(self, limits: Limits) -> None:
        """`limits`: those that a request has kept before it gets its id."""
        self._limits = Limits(
            limits.request_line,
            min(limits.field_count + 1, FIELD_COUNT_MAX),
            max(limits.field_size, _ROOM),
            limits.head_size + _ROOM,
            limits.body_size,
            limits.path_policy,
        )

    def make(self) -> str:
        """Return a new id: 32 random hexadecimal digits."""
        return os.urandom(16).hex()

    def identify(self, data: bytes, head: RequestHead, *, trusted: bool) -> Identified:
        """Return the request with its id. `trusted`: a trusted proxy has sent it.

        Raises Rejected if no field can be added.
        """
        lines = data[: head.size]
        if REQUEST_ID in lines.lower():
            named = [value for name, value in head.fields if name.lower() == REQUEST_ID]
            if trusted and len(named) == 1 and _VALID(named[0]):
                return Identified(named[0].decode(), data, head)
            kept = [
                line
                for line in lines.split(b"\r\n")
                if line.partition(b":")[0].lower() != REQUEST_ID
            ]
            lines = b"\r\n".join(kept)
        request_id = self.make()
        # An empty line may stand before the request line.
        end = lines.index(b"\r\n", 2) + 2
        field = b"%b: %b\r\n" % (REQUEST_ID, request_id.encode())
        data = b"".join((lines[:end], field, lines[end:], data[head.size :]))
        again = parse_request_head(data, self._limits)
        assert again is not None
        return Identified(request_id, data, again)
