from collections.abc import Iterable, Mapping

def encode_head(
    lines: Mapping[int, tuple[bytes, bytes]],
    status: int,
    fields: Iterable[tuple[bytes, bytes]],
    method: bytes,
    minor_version: int,
    length: int | None,
    date: bytes,
    server: bytes,
    reason: bytes | None,
    /,
) -> tuple[bytes, int] | None:
    """Return what `encode_response_head` in response.py returns, or None: then Python must decide.

    `lines`: a dict of status lines, in two pieces, by status. `date`, `server`: whole lines, which
    the app's fields replace; empty: there is none.
    """

def encode_text(
    lines: Mapping[int, tuple[bytes, bytes]],
    status: int,
    fields: tuple[tuple[str, str], ...],
    method: bytes,
    minor_version: int,
    length: int | None,
    date: bytes,
    server: bytes,
    reason: str,
    /,
) -> tuple[bytes, int] | None:
    """Return what `encode_text_head` in response.py returns, or None: then Python must decide."""

def copy_fields(
    headers: list[tuple[str, str]], /
) -> tuple[tuple[tuple[str, str], ...], int | None] | None:
    """Return a copy of the fields of a WSGI app, and its Content-Length; None instead of both: then
    reactor/wsgi/head.py must decide."""
