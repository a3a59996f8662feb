"""A server for the load generators to be tried on: what it answers depends on the path.

One thread for each connection; it serves until the block ends.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ANSWERS = {
    "/": OK,
    "/chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "/busy": b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
    "/bare": b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
    "/wrong": b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
    "/garbled": b"hello\r\n\r\n",
}


class Tiny:
    """Where it listens, and what it has seen."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.address: tuple[str, int] = self.listener.getsockname()
        self.requests = 0
        self.connections = 0
        self.pause_until = 0.0
        """No request is answered before."""
        self.cuts = False
        """Whether bodies end a byte early, or are counted one short."""
        self._ended = threading.Event()

    def serve(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._talk, args=(sock,), daemon=True).start()

    def close(self) -> None:
        self._ended.set()
        # Closing alone does not wake a thread in accept.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _talk(self, sock: socket.socket) -> None:
        with sock:
            buffer = b""
            try:
                while True:
                    while b"\r\n\r\n" not in buffer:
                        data = sock.recv(65536)
                        if not data:
                            return
                        buffer += data
                    head, _, buffer = buffer.partition(b"\r\n\r\n")
                    self.requests += 1
                    path = head.split()[1].decode()
                    if path == "/up":
                        self._count(sock, head, len(buffer))
                        return
                    if not self._answer(sock, path):
                        return
            except OSError:
                return

    def _answer(self, sock: socket.socket, path: str) -> bool:
        """Answer; whether the connection goes on."""
        time.sleep(max(0.0, self.pause_until - time.monotonic()))
        if path in ANSWERS:
            sock.sendall(ANSWERS[path])
        elif path.startswith("/sleep/"):
            self._ended.wait(float(path.removeprefix("/sleep/")))
            sock.sendall(OK)
        elif path.startswith("/down/"):
            size = int(path.removeprefix("/down/"))
            sock.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
            sock.sendall(b"x" * (size - self.cuts))
            return False
        elif path == "/reset":
            # Closed with a linger time of 0: the kernel resets.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        elif path == "/closed":
            return False
        elif path == "/cut":
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")
            return False
        elif path == "/until-close":
            sock.sendall(b"HTTP/1.0 200 OK\r\n\r\nok")
            return False
        elif path.startswith("/events"):
            self._events(sock)
            return False
        else:
            raise AssertionError(path)
        return True

    def _count(self, sock: socket.socket, head: bytes, size: int) -> None:
        """Read a body and answer how many bytes it had."""
        expected = int(head.lower().partition(b"content-length:")[2].split()[0])
        while size < expected:
            size += len(sock.recv(65536))
        text = str(size - self.cuts).encode()
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))

    def _events(self, sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        due = time.monotonic()
        for number in range(100):
            if self._ended.wait(max(0.0, due - time.monotonic())):
                return
            sock.sendall(f"data: {number} {due:.6f}\n\n".encode())
            due += 1.0


@contextmanager
def tiny() -> Iterator[Tiny]:
    """Serve during the block."""
    server = Tiny()
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join(5)
