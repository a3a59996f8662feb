"""A backend for apps to call: `python -m bench.backend PORT`. Each line gets a line back.

It stands for a database or a cache that answers at once. Its CPU time counts for no server.
"""

from __future__ import annotations

import asyncio
import sys
import zlib


class _Backend(asyncio.Protocol):
    def __init__(self) -> None:
        self._partial = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *lines, self._partial = (self._partial + data).split(b"\n")
        self._transport.write(b"".join(b"%d.5\n" % (zlib.crc32(line) % 100) for line in lines))


async def serve(port: int) -> None:
    """Serve until the process ends."""
    server = await asyncio.get_running_loop().create_server(_Backend, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
