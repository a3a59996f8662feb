from collections.abc import Sequence

def write_request(
    fields: Sequence[tuple[bytes, bytes]], ended: bool, size: int | None, /
) -> tuple[bytes, bytes, int, bool, bool] | None:
    """Return what `translate_request_head` in request_head.py returns, or None: then it decides.

    Only a tuple of fields is translated here.
    """

def count_heads(data: bytes, skip: int, /) -> tuple[int, int] | None:
    """Return what `count_heads_of` in session.py returns, or None: then it decides."""

def split_answer(data: bytes, /) -> tuple[list[tuple[bytes, bytes]], bytes] | None:
    """Return the fields and the content of an answer that is here as a whole, or None: then Python
    must decide. The request was not HEAD."""
