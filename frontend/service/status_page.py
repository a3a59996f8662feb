"""The status page of the admin listener: one file of HTML, which asks for /status again and again.

Scripts and styles run only if they are those of the file: the policy names their hashes. The page
loads nothing from elsewhere, and no other page can show it in a frame.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from typing import Final, NamedTuple

__all__ = ["CONTENT_TYPE", "Page", "read_page"]

CONTENT_TYPE: Final = b"text/html; charset=utf-8"

_FILE: Final = os.path.join(os.path.dirname(__file__), "status_page.html")


class Page(NamedTuple):
    """The text of the page, and the fields of its response."""

    text: str
    fields: tuple[tuple[bytes, bytes], ...]


def read_page() -> Page:
    """Read the page. Raises OSError."""
    with open(_FILE, encoding="utf-8") as file:
        text = file.read()
    policy = (
        "default-src 'none'",
        f"script-src {_hash_of('script', text)}",
        f"style-src {_hash_of('style', text)}",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
    return Page(
        text.rstrip("\n"),
        (
            (b"content-security-policy", "; ".join(policy).encode()),
            (b"x-frame-options", b"DENY"),
            (b"referrer-policy", b"no-referrer"),
        ),
    )


def _hash_of(element: str, text: str) -> str:
    """Return the source expression for the one element of this name (CSP Level 3, §2.3.1)."""
    (inside,) = re.findall(f"<{element}>(.*?)</{element}>", text, re.DOTALL)
    digest = hashlib.sha256(inside.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
