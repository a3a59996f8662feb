def split_requests(
    data: bytes | memoryview, /
) -> tuple[list[tuple[int, int, bytes, bytes]], int] | None:
    """Return what `read_requests` in express.py returns, or None: then it must decide."""

def split_answers(data: bytes | memoryview, /) -> tuple[list[tuple[int, int, bytes]], int] | None:
    """Return what `read_answers` in express.py returns, or None: then it must decide."""

def pack_request(prefix: bytes, exchange: int, size: int, /) -> bytes:
    """Return the frame before a request of `size` bytes."""

def pack_message(exchange: int, kind: int, size: int = 0, /) -> bytes:
    """Return the frame before any other message; its payload has `size` bytes."""

def apply_mask(data: bytes | memoryview, mask: bytes, /) -> bytes:
    """Return `data` with the mask applied or removed. `mask` has four bytes."""
