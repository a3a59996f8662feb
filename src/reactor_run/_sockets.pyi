import socket

class SocketCalls:
    """Two calls of a socket that never wait."""

    def __init__(self, sock: socket.socket, /) -> None: ...
    def recv(self, size: int, /) -> bytes:
        """Return at most `size` bytes that have arrived, and at most 64 KiB; none at all: FIN.

        Raises BlockingIOError if nothing has arrived, and other OSErrors.
        """

    def send(self, data: bytes | memoryview, /) -> int:
        """Send what the kernel takes; return the number of bytes.

        Raises BlockingIOError if the kernel takes nothing, and other OSErrors.
        """
