"""The optional extensions in C (protocol/_*.c, _memory.c, _sockets.c), or what takes their place.

Without them, these functions accept nothing. So Python reads every head and every frame, with the
same results. Two things cause that: there was no compiler when reactor-run was installed, or
REACTOR_RUN_PURE=1 is in the environment, as it is in tests.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

__all__ = [
    "NATIVE",
    "PURE_VARIABLE",
    "Head",
    "Names",
    "SocketCalls",
    "copy_fields",
    "count_heads",
    "encode_head",
    "encode_text",
    "read_head",
    "set_malloc_bounds",
    "split_answer",
    "split_answers",
    "split_requests",
    "swap_word",
    "write_request",
]

PURE_VARIABLE: Final = "REACTOR_RUN_PURE"
"""The environment variable that switches the extensions off. It is no setting."""

NATIVE: bool
"""The extensions are in use."""

if TYPE_CHECKING:
    from reactor_run._memory import set_malloc_bounds, swap_word
    from reactor_run._sockets import SocketCalls
    from reactor_run.protocol._frames import split_answers, split_requests
    from reactor_run.protocol._head import Head, Names, read_head
    from reactor_run.protocol._http2 import count_heads, split_answer, write_request
    from reactor_run.protocol._response import copy_fields, encode_head, encode_text
else:
    try:
        if os.environ.get(PURE_VARIABLE, "0") not in ("", "0"):
            raise ImportError(f"{PURE_VARIABLE} is set")
        from reactor_run._memory import set_malloc_bounds, swap_word
        from reactor_run._sockets import SocketCalls
        from reactor_run.protocol._frames import split_answers, split_requests
        from reactor_run.protocol._head import Head, Names, read_head
        from reactor_run.protocol._http2 import count_heads, split_answer, write_request
        from reactor_run.protocol._response import copy_fields, encode_head, encode_text

        NATIVE = True
    except ImportError:
        from socket import MSG_DONTWAIT

        from reactor_run.protocol.names import FieldNameCache as Names

        NATIVE = False

        class SocketCalls:
            """Two calls of a socket that never wait."""

            __slots__ = ("_sock",)

            def __init__(self, sock, /):
                self._sock = sock

            def recv(self, size, /):
                """Return at most `size` bytes that have arrived; none at all: FIN."""
                return self._sock.recv(size, MSG_DONTWAIT)

            def send(self, data, /):
                """Send what the kernel takes; return the number of bytes."""
                return self._sock.send(data, MSG_DONTWAIT)

        class Head:
            """No head is of this class."""

        def read_head(data, bounds):
            """Leave every head to the policy."""

        def split_requests(data):
            """Leave all frames to Python."""

        def split_answers(data):
            """Leave all frames to Python."""

        def swap_word(memory, index, old, new):
            """Change nothing."""
            return False

        def set_malloc_bounds(mapped, kept):
            """Set nothing."""
            return False

        def write_request(fields, ended, size):
            """Leave all requests of HTTP/2 to Python."""

        def count_heads(data, skip):
            """Leave all frames of HTTP/2 to Python."""

        def split_answer(data):
            """Leave all answers to HTTP/2 to Python."""

        def encode_head(lines, status, fields, method, minor_version, length, date, server, reason):
            """Leave all heads of responses to Python."""

        def encode_text(lines, status, fields, method, minor_version, length, date, server, reason):
            """Leave all heads of WSGI apps to Python."""

        def copy_fields(headers):
            """Leave all fields of WSGI apps to Python."""
