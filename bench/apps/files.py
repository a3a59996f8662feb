"""A large file by `wsgi.file_wrapper` (PEP 3333), which a server may send without reading it.

Where the server has none, which PEP 3333 allows, by the standard library's.
"""

import tempfile
from collections.abc import Callable, Iterable
from typing import IO, Any, Final
from wsgiref.util import FileWrapper

from bench.apps.hello import HELLO

_SIZE: Final = 256 << 20
"""Bytes of the file. It has no blocks on the disk; the kernel makes pages of zeros."""

_file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
_file.truncate(_SIZE)


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """`GET /file` answers the file."""
    if environ["PATH_INFO"] != "/file":
        start_response("200 OK", [("Content-Length", str(len(HELLO)))])
        return [HELLO]
    start_response("200 OK", [("Content-Length", str(_SIZE))])
    # Closed by the server: another description of the same file, with a position of its own.
    file = open(f"/proc/self/fd/{_file.fileno()}", "rb")  # noqa: SIM115
    wrapped: Iterable[bytes] = environ.get("wsgi.file_wrapper", FileWrapper)(file, 64 * 1024)
    return wrapped
