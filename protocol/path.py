"""The path of a request: percent-encoding, and the prefix under which an app is mounted."""

from __future__ import annotations

from urllib.parse import quote, unquote_to_bytes

__all__ = ["decode_path", "mount_prefix", "quote_path"]

# RFC 3986 section 3.3: the characters besides letters and digits that a path may hold unescaped.
_SAFE_IN_PATH = "/-._~!$&'()*+,;=:@"


def decode_path(raw_path: bytes) -> bytes:
    """Return a path without its percent-encoding (RFC 3986 section 2.1), decoded once.

    A percent sign that begins no valid escape stays as it is.
    """
    if b"%" not in raw_path:
        return raw_path
    return unquote_to_bytes(raw_path)


def quote_path(path: str) -> bytes:
    """Return a decoded path percent-encoded, as UTF-8, as in a request line."""
    return quote(path, safe=_SAFE_IN_PATH).encode("ascii")


def mount_prefix(root_path: str) -> str:
    """Return the path under which an app is mounted: "/api" for "/api/", "" for "/".

    `root_path` is not percent-encoded. Raises ValueError if it is not empty and does not begin with
    a slash (PEP 3333, SCRIPT_NAME).
    """
    if root_path and not root_path.startswith("/"):
        raise ValueError(f"a root path begins with a slash: {root_path!r}")
    return root_path.rstrip("/")
