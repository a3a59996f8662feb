"""A storm of clients: hundreds of connections that do legal and illegal things, all at once.

What each does, and when, follows from the seed; how it falls together does not. A legal request has
to be answered with exactly what was asked for. An illegal one has to get one of the statuses that
stand beside it, then the end of its connection. The rest only has to end.
"""

from __future__ import annotations

import random
import socket
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import shake_128
from math import inf
from urllib.parse import urlsplit

import h11
import trio

from tests.integration.apps.shared import hash_of, pattern
from tests.integration.client import request

__all__ = ["BODY_MAX", "OPTIONS", "PATIENCE", "Tally", "storm"]

PATIENCE = 3
"""Seconds that the server has patience for a head or a body."""
KEEP_ALIVE = 6
"""Seconds that it keeps a connection without a request."""
BODY_MAX = 2 << 20
OPTIONS = (
    # Its clients speak HTTP/1.1, and what is not that must be refused.
    "--http2=off",
    *("--head-timeout", str(PATIENCE), "--body-timeout", str(PATIENCE)),
    *("--keep-alive", str(KEEP_ALIVE), "--response-timeout", "6", "--max-body-size", str(BODY_MAX)),
)
"""Settings under which the storm reaches every deadline."""

_DEADLINE = 60.0
"""Seconds that any one of them may take."""


@dataclass
class Tally:
    """What came of it."""

    done: Counter[str] = field(default_factory=Counter)
    """How often each thing was done."""
    wrong: list[str] = field(default_factory=list)
    """What was answered wrongly, or not."""
    too_busy: int = 0
    """How often a client was not as fast as it meant to be."""

    def count(self, who: str, errors: list[BaseException], *, late: bool) -> None:
        """Take down what went wrong for somebody, who may have been too late for the server."""
        if late and not any(isinstance(error, trio.TooSlowError) for error in errors):
            self.too_busy += 1
        else:
            what = "; ".join(f"{type(error).__name__}: {error}" for error in errors)
            self.wrong.append(f"{who}: {what}"[:500])


class Peer:
    """One connection."""

    def __init__(self, sock: trio.socket.SocketType, dice: random.Random, connected: float) -> None:
        """`connected`: a time before the connection existed, by the monotonic clock. This process
        may have been too busy to notice it at once."""
        self.sock = sock
        self.dice = dice
        self.narrow = False
        """Its receive buffer is small, so that it takes hundreds of turns to read a MiB."""
        self._connected = connected
        self._first = inf
        """When the first byte of all was sent."""
        self._parser: h11.Connection | None = None
        self._unread = b""
        self._began = inf
        """When the first byte of the request was sent, by the monotonic clock."""
        self._sent = 0.0
        """When the last one was; inf while there is something to send."""
        self._slowest = 0.0
        """Seconds that it took at most to send a request that has been answered."""

    # Sending

    async def send(self, data: bytes) -> None:
        """Send all, in one piece or in a few."""
        now = time.monotonic()
        self._first = min(self._first, now)
        self._began = min(self._began, now)
        self._sent = inf
        cuts = self.dice.randint(1, 10) if data and self.dice.random() < 0.5 else 0
        begin = 0
        for end in sorted(self.dice.randint(0, len(data)) for _ in range(cuts)):
            await self.send_at_once(memoryview(data)[begin:end])
            await self.pause(0.01)
            begin = end
        await self.send_at_once(memoryview(data)[begin:])
        self._sent = time.monotonic()

    @property
    def is_late(self) -> bool:
        """It took long to begin or to send a request, because this machine is busy.

        It may have been closed as silent, or have got 408.
        """
        silent = min(self._first, time.monotonic()) - self._connected
        return max(self._slowest, self._sending_took(), silent) > PATIENCE - 0.5

    def __str__(self) -> str:
        """For the report: seconds since it connected."""
        times = {"first": self._first, "sent": self._sent, "now": time.monotonic()}
        told = (f"{name} {at - self._connected:.2f}" for name, at in times.items())
        return f"{', '.join(told)}, slowest {self._slowest:.2f}"

    def _sending_took(self) -> float:
        """Seconds from the first byte of what is not answered yet to the last, or until now."""
        return min(self._sent, time.monotonic()) - self._began

    async def send_at_once(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            view = view[await self.sock.send(view) :]

    async def pause(self, most: float) -> None:
        await trio.sleep(self.dice.uniform(0, most))

    def finish(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    # Reading

    async def response(self, method: str = "GET", *, slowly: bool = False) -> tuple[int, bytes]:
        """The next final response, whole."""
        if self._parser is None:
            self._begin(method)
        status, body = 0, []
        while True:
            event = await self._event(slowly)
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                break
            elif not isinstance(event, h11.InformationalResponse):
                raise AssertionError(f"{event} in the place of a response")
        assert self._parser is not None
        self._unread = self._parser.trailing_data[0]
        self._parser = None
        # Behind a request that was answered others may have come, or come still.
        self._slowest = max(self._slowest, self._sending_took())
        if self._sent < inf:
            self._began = inf
        return status, b"".join(body)

    async def expect(self, body: bytes, method: str = "GET", *, slowly: bool = False) -> None:
        """The next response, which must be good and have this body."""
        status, got = await self.response(method, slowly=slowly)
        assert status == 200, f"{status}: {got[:100]!r}"
        assert got == body, f"{got[:100]!r} in the place of {body[:100]!r}"

    async def informational(self, method: str) -> int:
        """The next response, which must be a 1xx."""
        self._begin(method)
        event = await self._event(False)
        assert isinstance(event, h11.InformationalResponse), event
        return event.status_code

    def _begin(self, method: str) -> None:
        self._parser = h11.Connection(h11.CLIENT)
        self._parser.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        self._parser.send(h11.EndOfMessage())
        if self._unread:
            self._parser.receive_data(self._unread)

    async def _event(self, slowly: bool) -> h11.Event | type[h11.PAUSED]:
        assert self._parser is not None
        while (event := self._parser.next_event()) is h11.NEED_DATA:
            if slowly:
                await self.pause(0.05)
            size = self.dice.randint(1, 4096) if slowly else 65536
            self._parser.receive_data(await self.sock.recv(size))
        return event  # type: ignore[return-value]

    async def at_end(self) -> None:
        """Read the end of the connection, which must be next. A reset is an end too."""
        assert not self._unread, self._unread[:100]
        try:
            rest = await self.sock.recv(100)
        except ConnectionResetError:
            rest = b""
        assert not rest, rest


def content(dice: random.Random, most: int) -> bytes:
    """So many bytes at most, often few."""
    size = dice.randint(0, most if dice.random() < 0.3 else min(most, 2000))
    return shake_128(dice.randbytes(8)).digest(size)


def chunked(dice: random.Random, data: bytes) -> bytes:
    """`data` in the chunked coding, now and then with extensions and trailers."""
    parts = []
    while data:
        size = dice.randint(1, max(1, min(len(data), 30_000)))
        extension = b";a=b" if dice.random() < 0.1 else b""
        parts.append(b"%x%b\r\n%b\r\n" % (size, extension, data[:size]))
        data = data[size:]
    trailer = b"X-Trailer: 1\r\n" if dice.random() < 0.2 else b""
    return b"".join(parts) + b"0\r\n" + trailer + b"\r\n"


# Legal: each is answered with what it asked for


async def says_hello(peer: Peer) -> None:
    """Several requests on one connection."""
    for _ in range(peer.dice.randint(1, 6)):
        word = f"w{peer.dice.randrange(1 << 30)}"
        await peer.send(request("GET", f"/hello?say={word}"))
        await peer.expect(word.encode())
        await peer.pause(0.1)


async def pipelines(peer: Peer) -> None:
    words = [f"p{peer.dice.randrange(1 << 30)}" for _ in range(peer.dice.randint(2, 40))]
    await peer.send(b"".join(request("GET", f"/hello?say={word}") for word in words))
    for word in words:
        await peer.expect(word.encode())


async def asks_for_heads(peer: Peer) -> None:
    await peer.send(request("HEAD", "/hello") + request("GET", "/hello?say=after"))
    await peer.expect(b"", "HEAD")
    await peer.expect(b"after")


async def is_old(peer: Peer) -> None:
    """HTTP/1.0 ends with the answer."""
    await peer.send(b"GET /hello?say=old HTTP/1.0\r\n\r\n")
    await peer.expect(b"old")
    await peer.at_end()


async def closes(peer: Peer) -> None:
    last = request("GET", "/hello?say=last", [("Connection", "close")])
    await peer.send_at_once(last + b"and bytes beyond, which have to come with it")
    await peer.expect(b"last")
    await peer.at_end()


async def half_closes(peer: Peer) -> None:
    """It is answered, unless it had to wait for a reactor: then it counts as gone."""
    await peer.send(request("GET", "/hello?say=still"))
    peer.finish()
    if not await peer.sock.recv(1, socket.MSG_PEEK):
        return
    await peer.expect(b"still")
    await peer.at_end()


async def wishes_an_upgrade(peer: Peer) -> None:
    """A wish that is no handshake of WebSocket: only an ASGI app's server speaks that."""
    protocol = peer.dice.choice(["websocket", "h2c"])
    fields = [("Connection", "keep-alive, Upgrade"), ("Upgrade", protocol)]
    await peer.send(request("GET", "/hello?say=plain", fields))
    status, body = await peer.response()
    assert (status, body) == (200, b"plain") or (status, protocol) == (426, "websocket")


async def uploads(peer: Peer) -> None:
    """Content-Length or chunks; with Expect, or without; small or large."""
    for _ in range(peer.dice.randint(1, 3)):
        data = content(peer.dice, 400_000)
        fields, body = [("Content-Length", str(len(data)))], data
        if peer.dice.random() < 0.5:
            fields, body = [("Transfer-Encoding", "chunked")], chunked(peer.dice, data)
        if body and peer.dice.random() < 0.3:
            await peer.send(request("POST", "/hash", [*fields, ("Expect", "100-continue")]))
            assert await peer.informational("POST") == 100
        else:
            await peer.send(request("POST", "/hash", fields))
        await peer.send(body)
        expected = f'{{"sha256": "{hash_of(iter([data]))}", "size": {len(data)}}}'
        await peer.expect(expected.encode(), "POST")


async def is_echoed(peer: Peer) -> None:
    """Sending and reading at once."""
    data = content(peer.dice, 400_000)
    fields = [("Content-Length", str(len(data)))]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(peer.send, request("POST", "/echo", fields) + data)
        await peer.expect(data, "POST", slowly=len(data) < 20_000)


async def downloads(peer: Peer) -> None:
    """Fast, or slowly; with Content-Length or in chunks."""
    slowly = peer.dice.random() < 0.3
    size = peer.dice.randint(0, 30_000 if slowly else 1 << (18 if peer.narrow else 20))
    target = f"/download?size={size}&length={peer.dice.randint(0, 1)}"
    await peer.send(request("GET", target))
    await peer.expect(b"".join(pattern(size)), slowly=slowly)


LEGAL = [
    says_hello,
    says_hello,
    pipelines,
    asks_for_heads,
    is_old,
    closes,
    half_closes,
    wishes_an_upgrade,
    uploads,
    uploads,
    is_echoed,
    downloads,
]


# Illegal: each gets its status, and the end of the connection

CHUNKS = request("POST", "/hash", [("Transfer-Encoding", "chunked")])
ILLEGAL: dict[str, tuple[bytes, set[int]]] = {
    "nonsense": (b"nonsense\r\n\r\n", {400}),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500, {400}),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 505}),
    "PROXY v1": (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + request("GET", "/"), {400}),
    "PROXY v2": (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + b"\x7f\0\0\1" * 3, {400}),
    "bare LF": (b"GET / HTTP/1.1\nHost: a\n\n", {400}),
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", {400}),
    "two Hosts": (request("GET", "/", [("Host", "b")]), {400}),
    "obs-fold": (request("GET", "/", [("X-A", "1\r\n 2")]), {400}),
    "long line": (request("GET", "/" + "x" * 9000), {414}),
    "large field": (request("GET", "/", [("X-Large", "x" * 9000)]), {431}),
    "many fields": (request("GET", "/", [("X", "y")] * 200), {431}),
    "large head": (request("GET", "/", [(f"X-{n}", "x" * 8000) for n in range(9)]), {431}),
    "expectation": (request("GET", "/", [("Expect", "200-ok")]), {417}),
    "two framings": (CHUNKS[:-2] + b"Content-Length: 3\r\n\r\nabc", {400}),
    "two lengths": (request("POST", "/", [("Content-Length", "3")] * 2, None) + b"abc", {400}),
    "signed length": (request("POST", "/", [("Content-Length", "+3")], None) + b"abc", {400}),
    "huge length": (request("POST", "/", [("Content-Length", "9" * 30)], None), {400}),
    "too large": (request("POST", "/hash", [("Content-Length", str(BODY_MAX + 1))]), {413}),
    "coding": (request("POST", "/hash", [("Transfer-Encoding", "gzip, chunked")]), {501}),
    "bad chunk": (CHUNKS + b"zz\r\n", {400}),
    "huge chunk": (CHUNKS + b"f" * 17 + b"\r\n", {400}),
    "chunk without end": (CHUNKS + b"3\r\nabcdefg\r\n", {400}),
    "long extension": (CHUNKS + b"3;" + b"x" * 5000, {400}),
    "tiny padded chunks": (CHUNKS + b"0000000000000001\r\nx\r\n" * 30_000, {400}),
    "large chunks": (CHUNKS + (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 40, {413}),
    "large trailer": (CHUNKS + b"0\r\n" + b"X-Trailer: yyyyyyyyyyyyyyyyyyy\r\n" * 1000, {431}),
}


async def is_illegal(peer: Peer, name: str) -> None:
    """One illegal thing, perhaps behind a legal one."""
    data, statuses = ILLEGAL[name]
    before = peer.dice.random() < 0.3
    if before:
        data = request("GET", "/hello?say=before") + data

    async def send() -> None:
        try:
            await peer.send(data)
        except OSError:
            # It was refused before its end.
            return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        if before:
            await peer.expect(b"before")
        status, _ = await peer.response("POST")
        assert status in statuses, f"{status} in the place of {statuses}"
        await peer.at_end()


# Slow, rude or gone: it only has to end


async def stalls_in_a_head(peer: Peer) -> None:
    data = request("GET", "/hello", [("X-Long", "x" * 1000)])
    await peer.send(data[: peer.dice.randint(1, len(data) - 1)])
    assert (await peer.response())[0] == 408
    await peer.at_end()


async def drips_a_head(peer: Peer) -> None:
    """However much comes, the head as a whole has its time."""
    began = time.monotonic()
    with trio.move_on_after(PATIENCE + 8):
        async with trio.open_nursery() as nursery:

            async def drip() -> None:
                await peer.sock.send(b"GET / HTTP/1.1\r\nX-Slow: ")
                while True:
                    await trio.sleep(0.1)
                    try:
                        await peer.sock.send(b"x")
                    except OSError:
                        return

            nursery.start_soon(drip)
            assert (await peer.response())[0] == 408
            nursery.cancel_scope.cancel()
    assert time.monotonic() - began > PATIENCE - 0.5


async def stalls_in_a_body(peer: Peer) -> None:
    await peer.send(request("POST", "/hash", [("Content-Length", "1000")]))
    await peer.send(b"x" * peer.dice.randint(0, 999))
    assert (await peer.response("POST"))[0] == 408
    await peer.at_end()


async def says_nothing(peer: Peer) -> None:
    await peer.pause(PATIENCE)


async def breaks_off(peer: Peer) -> None:
    """Something legal, of which only a part is sent, then FIN, close or reset."""
    dice = peer.dice
    data = dice.choice(
        [
            request("GET", "/hello") * dice.randint(1, 50),
            request("POST", "/echo", body=content(dice, 300_000)),
            CHUNKS + chunked(dice, content(dice, 300_000)),
            request("GET", f"/download?size={dice.randint(0, 4 << 20)}"),
        ]
    )
    if dice.random() < 0.7:
        data = data[: dice.randint(0, len(data))]
    try:
        with trio.move_on_after(dice.uniform(0, 0.5)):
            await peer.send(data)
            await peer.sock.recv(dice.randint(1, 100_000))
            await peer.pause(0.2)
    except OSError:
        return
    if dice.random() < 0.6:
        peer.reset()
    elif dice.random() < 0.5:
        try:
            peer.finish()
        except OSError:
            return
        with trio.move_on_after(1):
            while await peer.sock.recv(65536):
                pass


async def never_reads(peer: Peer) -> None:
    """A large answer, or many."""
    wanted = request("GET", f"/download?size={16 << 20}")
    if peer.dice.random() < 0.3:
        wanted = request("GET", "/download?size=20000") * 300
    with trio.move_on_after(peer.dice.uniform(0.2, 3)):
        await peer.send(wanted)
        await trio.sleep_forever()


async def never_ends(peer: Peer) -> None:
    """Request upon request, and no look at an answer."""
    flood = request("GET", "/hello?say=flood") * 500
    with trio.move_on_after(peer.dice.uniform(0.1, 1)):
        while True:
            await peer.send(flood)


RUDE = [
    stalls_in_a_head,
    drips_a_head,
    stalls_in_a_body,
    says_nothing,
    breaks_off,
    breaks_off,
    breaks_off,
    never_reads,
    never_ends,
]


# All at once


@asynccontextmanager
async def connected(address: str, dice: random.Random) -> AsyncIterator[Peer]:
    unix = address.startswith("unix:")
    sock = trio.socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
    narrow = dice.random() < 0.2
    try:
        if narrow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        began = time.monotonic()
        if unix:
            await sock.connect(address.removeprefix("unix:"))
        else:
            parts = urlsplit(address)
            await sock.connect((parts.hostname, parts.port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = Peer(sock, dice, began)
        peer.narrow = narrow
        yield peer
    finally:
        sock.close()


async def storm(
    address: str, *, seconds: float, seed: int, more: float = 0, connections: int = 250
) -> Tally:
    """Let so many clients do what they like, again and again for so many seconds.

    Then what is legal or illegal comes to its end, and all else has so many seconds more.
    """
    tally = Tally()
    end = trio.current_time() + seconds

    async def client(number: int) -> None:
        dice = random.Random(f"{seed}/{number}")
        while trio.current_time() < end:
            kind = dice.random()
            do: Callable[..., Awaitable[None]]
            arguments: list[str] = []
            peers: list[Peer] = []
            last = inf
            if kind < 0.5:
                do = dice.choice(LEGAL)
            elif kind < 0.7:
                do, arguments = is_illegal, [dice.choice(list(ILLEGAL))]
            else:
                do = dice.choice(RUDE)
                last = end + more
            name = " ".join([do.__name__, *arguments])
            tally.done[name] += 1
            try:
                with trio.CancelScope(deadline=last), trio.fail_after(_DEADLINE):
                    async with connected(address, dice) as peer:
                        peers.append(peer)
                        await do(peer, *arguments)
            except* (AssertionError, OSError, h11.RemoteProtocolError, trio.TooSlowError) as group:
                tally.count(
                    f"client {number}, {name} ({', '.join(map(str, peers))})",
                    _leaves(group),
                    late=any(peer.is_late for peer in peers),
                )

    async with trio.open_nursery() as nursery:
        for number in range(connections):
            nursery.start_soon(client, number)
    return tally


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for error in group.exceptions:
        leaves += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return leaves
