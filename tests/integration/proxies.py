"""Real HAProxy and nginx in front of a server, on sockets that the test has opened for them.

The sockets listen before the program runs, so clients may connect at once, and no port is guessed.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.integration.server import Server
from tests.needs import path_of

STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"


def listen(family: str, directory: Path) -> socket.socket:
    """A listening socket: tcp4, tcp6 or unix."""
    if family == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(directory / f"in-{sock.fileno()}"))
    elif family == "tcp6":
        sock = socket.socket(socket.AF_INET6)
        sock.bind(("::1", 0))
    else:
        sock = socket.socket(socket.AF_INET)
        sock.bind(("127.0.0.1", 0))
    sock.listen(64)
    return sock


def address_of(sock: socket.socket) -> str:
    """A listening socket as the test client writes it."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{name}"
    return f"http://[{name[0]}]:{name[1]}" if ":" in name[0] else f"http://{name[0]}:{name[1]}"


@contextmanager
def haproxy(directory: Path, sections: str, sockets: Sequence[socket.socket]) -> Iterator[None]:
    """HAProxy with these sections; sockets are called fd@N there."""
    defaults = "defaults\n  timeout connect 10s\n  timeout client 30s\n  timeout server 30s\n"
    with haproxy_with(directory, defaults + sections.replace("unix:", "unix@"), sockets):
        yield


@contextmanager
def haproxy_with(directory: Path, text: str, sockets: Sequence[socket.socket]) -> Iterator[None]:
    """HAProxy with the whole of a configuration."""
    program = path_of("haproxy")
    config = directory / "haproxy.cfg"
    config.write_text(text)
    with _running([program, "-db", "-f", str(config)], sockets, {}):
        yield


@contextmanager
def nginx(
    directory: Path, blocks: str, sockets: Sequence[socket.socket], *, stream: bool = False
) -> Iterator[None]:
    """nginx with these blocks; sockets are named in them by their addresses."""
    program = path_of("nginx")
    config = directory / "nginx.conf"
    head = f"load_module {path_of(STREAM_MODULE)};\n" if stream else ""
    head += f"daemon off; worker_processes 1; pid {directory}/nginx.pid; events {{}}\n"
    config.write_text(head + blocks)
    # How nginx hands its sockets to its successor when it is replaced by a newer version.
    inherited = {"NGINX": "".join(f"{sock.fileno()};" for sock in sockets)}
    with _running([program, "-e", "stderr", "-c", str(config)], sockets, inherited):
        yield


@contextmanager
def _running(
    command: list[str], sockets: Sequence[socket.socket], variables: dict[str, str]
) -> Iterator[None]:
    with tempfile.TemporaryFile() as output, ExitStack() as undo:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **variables},
            pass_fds=[sock.fileno() for sock in sockets],
        )
        undo.callback(process.wait, 20)
        undo.callback(process.terminate)
        for sock in sockets:
            # Should the program end, its clients are to be told.
            sock.close()
        try:
            yield
        finally:
            output.seek(0)
            print(output.read().decode(errors="replace"))
        assert process.poll() is None, "it has ended"


def backend_of(server: Server, family: str) -> str:
    """The listener of this family, the way that nginx writes addresses."""
    prefix = {"tcp4": "http://127", "tcp6": "http://[", "unix": "unix:"}[family]
    (address,) = (each for each in server.addresses if each.startswith(prefix))
    return address.removeprefix("http://")
