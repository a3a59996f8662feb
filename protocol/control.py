"""The control channel between the front end and one reactor: JSON objects, one a line.

A file descriptor travels with each message that says `"fd": true`, by SCM_RIGHTS, in the order of
the messages. All numbers are finite, not negative, and at most NUMBER_MAX. docs/lanes.md describes
every message.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from typing import Any

__all__ = ["ControlDecoder", "ControlError", "encode_control"]

Message = dict[str, Any]

_LINE_MAX = 1 << 20
NUMBER_MAX = (1 << 63) - 1


class ControlError(Exception):
    """The peer's bytes are no control messages."""


def encode_control(message: Message) -> bytes:
    """Return one message as a line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


class ControlDecoder:
    """Decodes received bytes and joins each message with its descriptor."""

    def __init__(self) -> None:
        self._partial = b""
        self._descriptors: deque[int | None] = deque()

    def feed(self, data: bytes, descriptors: Iterable[int | None] = ()) -> list[Message]:
        """Return the messages that are complete now. A message holds its descriptor as `fd`.

        None among the descriptors stands for one that the kernel dropped (EMFILE). Its message gets
        `"fd": None`. Raises ControlError.
        """
        self._descriptors.extend(descriptors)
        *lines, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) > _LINE_MAX:
            raise ControlError("a control message has no end")
        return [self._read(line) for line in lines]

    def _read(self, line: bytes) -> Message:
        try:
            message = json.loads(
                line, parse_int=_read_int, parse_float=_read_float, parse_constant=_read_float
            )
        except (ValueError, RecursionError) as error:
            raise ControlError(f"not JSON, or not with such a number: {line[:80]!r}") from error
        if not isinstance(message, dict):
            raise ControlError(f"not a JSON object: {line[:80]!r}")
        if message.get("fd"):
            message["fd"] = self._descriptors.popleft() if self._descriptors else None
        return message


def _read_int(text: str) -> int:
    # Python itself raises ValueError for thousands of digits.
    number = int(text)
    if not 0 <= number <= NUMBER_MAX:
        raise ValueError(text)
    return number


def _read_float(text: str) -> float:
    """Return the number. `text` may also be NaN, Infinity or -Infinity, which JSON lacks."""
    number = float(text)
    # This comparison rejects NaN too.
    if not 0 <= number <= NUMBER_MAX:
        raise ValueError(text)
    return number
