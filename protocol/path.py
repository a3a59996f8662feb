"""The path of a request as an app is told it: its escapes undone, and where the app is mounted."""

from __future__ import annotations

from urllib.parse import quote, unquote_to_bytes

__all__ = ["decode_path", "mount_prefix", "quote_path"]

# RFC 3986 section 3.3: what a path may hold unescaped besides letters and digits.
_SAFE_IN_PATH = "/-._~!$&'()*+,;=:@"


def decode_path(raw_path: bytes) -> bytes:
    """Undo the percent-encoding of a path (RFC 3986 section 2.1), in one pass.

    A percent sign that begins no valid escape stays as it is.
    """
    if b"%" not in raw_path:
        return raw_path
    return unquote_to_bytes(raw_path)


def quote_path(path: str) -> bytes:
    """Percent-encode a decoded path, as UTF-8, the way it would stand in a request line."""
    return quote(path, safe=_SAFE_IN_PATH).encode("ascii")


def mount_prefix(root_path: str) -> str:
    """The path that an app is mounted at, as apps expect it: "/api" for "/api/", "" for "/".

    `root_path` is not percent-encoded. Raises ValueError if it neither is empty nor begins with a
    slash (PEP 3333, SCRIPT_NAME).
    """
    if root_path and not root_path.startswith("/"):
        raise ValueError(f"a root path begins with a slash: {root_path!r}")
    return root_path.rstrip("/")
