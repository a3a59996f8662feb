"""Servers that are started from Python: `python -m bench.serve KIND PORT WORKERS MODULE:APP`.

fastpysgi and bjoern have no command that takes their own settings. `floor` is no server at all:
what a single-threaded epoll loop in Python needs for an exchange, parsing nothing.
"""

import importlib
import os
import select
import signal
import socket
import sys
from types import FrameType
from typing import Any, Final

_CONSTANT: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 13\r\n\r\n"
    b"Hello, world!"
)


def main(kind: str, port: int, workers: int, app: str) -> None:
    """Serve until SIGTERM."""
    module, _, attribute = app.partition(":")
    target = getattr(importlib.import_module(module), attribute)
    {"fastpysgi": _fastpysgi, "bjoern": _bjoern, "floor": _floor}[kind](target, port, workers)


def _need(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        # Of the peers that are compiled here some may be missing.
        sys.exit(f"{name} is not installed: it did not build here, see bench/README.md")


def _fastpysgi(app: Any, port: int, workers: int) -> None:
    fastpysgi = _need("fastpysgi")
    fastpysgi.server.backlog = 2048
    # The default refuses bodies beyond 10 MB.
    fastpysgi.server.max_content_length = 2 << 30

    def stop(number: int, frame: FrameType | None) -> None:
        for worker in fastpysgi.server.worker_list:
            os.kill(worker, signal.SIGKILL)
        os._exit(0)

    if workers > 1:
        signal.signal(signal.SIGTERM, stop)
    fastpysgi.run(app, "127.0.0.1", port, workers=workers)


def _bjoern(app: Any, port: int, workers: int) -> None:
    bjoern = _need("bjoern")
    # As its documentation does it: listen, fork, and run in each child.
    bjoern.listen(app, "127.0.0.1", port)
    for _ in range(workers - 1):
        if os.fork() == 0:
            break
    bjoern.run()


def _floor(app: Any, port: int, workers: int) -> None:
    with socket.create_server(("127.0.0.1", port), backlog=2048) as listener:
        listener.setblocking(False)
        poll = select.epoll()
        poll.register(listener.fileno(), select.EPOLLIN)
        clients: dict[int, socket.socket] = {}
        while True:
            for number, _ in poll.poll():
                client = clients.get(number)
                if client is None:
                    client, _ = listener.accept()
                    client.setblocking(False)
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    clients[client.fileno()] = client
                    poll.register(client.fileno(), select.EPOLLIN)
                    continue
                try:
                    if client.recv(65536):
                        client.send(_CONSTANT)
                        continue
                except OSError:
                    pass
                del clients[number]
                client.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
