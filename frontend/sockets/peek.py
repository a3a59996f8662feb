"""Looks into a socket without reading from it."""

from __future__ import annotations

import socket

__all__ = ["has_bytes"]


def has_bytes(sock: socket.socket) -> bool:
    """Return whether bytes can be read at once. The end of the stream does not count."""
    try:
        return bool(sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except OSError:
        return False
