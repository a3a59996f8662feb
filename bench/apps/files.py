"""A large file that a server may send without reading it.

By WSGI it is `wsgi.file_wrapper` (PEP 3333), or the standard library's where the server has none,
which PEP 3333 allows. By ASGI it is the extension http.response.pathsend.
"""

import tempfile
from collections.abc import Awaitable, Callable, Iterable
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


async def asgi(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """`GET /file` answers the file. The server must have the extension."""
    assert scope["type"] == "http"
    is_file = scope["path"] == "/file"
    length = b"%d" % (_SIZE if is_file else len(HELLO))
    fields = [(b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    if is_file:
        path = f"/proc/self/fd/{_file.fileno()}"
        await send({"type": "http.response.pathsend", "path": path})
    else:
        await send({"type": "http.response.body", "body": HELLO})
