"""`wsgi.input` of a request whose body is still arriving (PEP 3333, "Input and Error Streams").

It owns the file interface over a function that returns the next bytes of the body. It knows nothing
of lanes and framing. If the whole body is there, an io.BytesIO is used instead.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["ClientGone", "LaneInput"]

READ_AHEAD = 65536
"""The size of the buffer, and the bytes that one fill asks for, whatever size the app reads."""

ALLOCATION = 1 << 20
"""Most bytes that one part of a `read(size)` allocates before they have arrived."""


class ClientGone(OSError):
    """The client is gone: the body will not be complete, or the answer cannot reach the client.

    It is an OSError, because apps expect one from `wsgi.input` and `write()`. It has its own class,
    so that the reactor can tell it from an OSError of the app's own work.
    """


class LaneInput(io.BufferedReader):
    """A readable byte stream that ends with the request's body (`wsgi.input_terminated`).

    `read_some(n)` blocks until it can return 1 to n bytes of the body. It returns `b""` at the end
    of the body, and raises OSError if the client is gone before. It is not called again after
    either. After the OSError, every read raises ClientGone: a body that was cut never looks
    complete.
    """

    def __init__(self, read_some: Callable[[int], bytes]) -> None:
        super().__init__(_Body(read_some), READ_AHEAD)

    def read(self, size: int | None = -1, /) -> bytes:
        """Read `size` bytes, or fewer at the end of the body. Without `size`, read to the end.

        Memory grows only as bytes arrive. BufferedReader would allocate `size` bytes at once, and
        an app often passes the client's Content-Length as `size`. Raises ClientGone.
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
