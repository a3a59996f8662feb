"""`wsgi.input` of a request whose body is still arriving (PEP 3333, "Input and Error Streams").

Owns the file interface over a function that returns the next bytes of the body; knows nothing of
lanes and framing. A body that is at hand as a whole needs only an io.BytesIO.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["ClientGone", "LaneInput"]

READ_AHEAD = 65536
"""Bytes asked for at once, whatever the app's own reads are; also the size of the buffer."""

ALLOCATION = 1 << 20
"""Bytes set aside for a `read(size)` before they have come."""


class ClientGone(OSError):
    """The client is gone: the body will not come to its end, or the answer not to the client.

    An OSError, as apps expect of `wsgi.input` and `write()`; a class of its own so that it can
    be told from an OSError that the app ran into elsewhere.
    """


class LaneInput(io.BufferedReader):
    """A readable byte stream that ends with the request's body (`wsgi.input_terminated`).

    `read_some(n)` blocks until it can return 1..n bytes of the body, returns `b""` at its end
    and raises OSError if the client vanished before; it is not called again after either. Every
    method then raises ClientGone, again and again: a body cut short never looks like a whole one.
    """

    def __init__(self, read_some: Callable[[int], bytes]) -> None:
        super().__init__(_Body(read_some), READ_AHEAD)

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to `size` bytes, fewer only at the end of the body; all of it without `size`.

        Memory grows with what has come: BufferedReader alone would allocate `size` at once, and
        that is often the client's Content-Length.
        """
        if size is None or size <= ALLOCATION:
            return super().read(size)
        parts: list[bytes] = []
        while size:
            part = super().read(min(size, ALLOCATION))
            if not part:
                break
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


class _Body(io.RawIOBase):
    """`read_some` as a raw stream."""

    def __init__(self, read_some: Callable[[int], bytes]) -> None:
        self._read_some = read_some
        self._ended = False
        self._gone: OSError | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        if self._ended:
            return 0
        if self._gone is not None:
            raise ClientGone(*self._gone.args)
        view = memoryview(buffer)
        try:
            data = self._read_some(view.nbytes)
        except OSError as exc:
            self._gone = exc
            raise ClientGone(*exc.args) from exc
        if not data:
            self._ended = True
            return 0
        view[: len(data)] = data
        return len(data)
