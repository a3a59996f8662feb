"""A storm of WebSockets: many clients that talk, wait, read slowly, vanish, or break the protocol.

What each does follows from the seed; how it falls together does not. Whatever a client does, its
WebSocket has to end with a close code that fits, or by a cut where a cut may be, and in time.
"""

from __future__ import annotations

import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from math import inf
from urllib.parse import urlsplit

import trio

from tests.integration.websocket import BINARY, CLOSE, PING, PONG, TEXT, handshake
from tests.protocol.websocket.frames import frame

__all__ = ["OPTIONS", "Tally", "storm"]

OPTIONS = (
    *("--ws-ping-interval", "2", "--ws-ping-timeout", "20", "--ws-close-timeout", "2"),
    *("--ws-drain", "1", "--response-timeout", "3", "--min-response-rate", "0"),
)
"""Settings under which all ends are near."""
_DEADLINE = 45.0
"""Seconds that a client may take from the end of the storm on."""
_OPENING = 256
"""The most clients that open a WebSocket at the same time: the queue for reactors is bounded."""
_LARGE = 70_000
"""Bytes of a message that comes in many pieces if the receive buffer is small."""
_TALKING = 64
"""The most clients that get a large message at the same time: all of them run in this process. If
hundreds did so, such a message would take longer than a pong may."""
_RECEIVE_BUFFERS = (8192, 65536)
"""Bytes that the kernel keeps for a client. It would keep megabytes for each that does not read."""
_BUSY = {502, 503, 504}
"""What a handshake may get while reactors are killed."""


@dataclass
class Tally:
    """What came of it."""

    done: Counter[str] = field(default_factory=Counter)
    """How often each kind of client did something."""
    ends: Counter[str] = field(default_factory=Counter)
    """How the WebSockets have ended: by code, by a cut, or as the client liked."""
    wrong: list[str] = field(default_factory=list)
    most: int = 0
    """The most WebSockets that were open at the same time."""


class Crowd:
    """All clients: how many are open, and how many may be busy at the same time."""

    def __init__(self) -> None:
        self.to_open = trio.CapacityLimiter(_OPENING)
        self.to_talk = trio.CapacityLimiter(_TALKING)
        self.open = self.most = 0
        """WebSockets that are open, and the most that ever were."""


class TooLate(Exception):
    """The storm was over before the client had connected."""


class Ended(Exception):
    """The WebSocket has ended: by a close code, or by a cut."""

    def __init__(self, end: int | str) -> None:
        super().__init__(str(end))
        self.end = end


class Peer:
    """A client, with one WebSocket."""

    def __init__(
        self,
        address: tuple[str | None, int | None],
        sock: trio.socket.SocketType,
        dice: random.Random,
        ends: float,
        crowd: Crowd,
    ) -> None:
        """`ends`: when the storm ends, by trio's clock."""
        self.address = address
        self.sock = sock
        self.dice = dice
        self.ends = ends
        self.crowd = crowd
        self.is_open = False
        self._data = bytearray()

    @property
    def goes_on(self) -> bool:
        """Whether the storm goes on."""
        return trio.current_time() < self.ends

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Connect when it is this client's turn; the turn lasts as long as the block. Raises
        TooLate."""
        async with self.crowd.to_open:
            if not self.goes_on:
                raise TooLate
            await self.sock.connect(self.address)
            yield

    async def open(self, path: str, early: bytes = b"") -> None:
        async with self.connected():
            await self._open(path, early)
        self.is_open = True
        self.crowd.open += 1
        self.crowd.most = max(self.crowd.most, self.crowd.open)

    async def _open(self, path: str, early: bytes) -> None:
        await self._send(handshake(path) + early)
        while b"\r\n\r\n" not in self._data:
            await self._more()
        head, _, rest = self._data.partition(b"\r\n\r\n")
        status = int(head[9:12])
        if status in _BUSY:
            raise Ended(f"HTTP {status}")
        assert status == 101, head
        self._data = rest

    async def send(self, data: bytes) -> None:
        """Send bytes. If the server has ended the WebSocket, read how."""
        try:
            await self._send(data)
        except OSError:
            await self.read_to_end()

    async def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[await self.sock.send(view) :]

    async def _more(self, size: int = 65536) -> None:
        try:
            data = await self.sock.recv(size)
        except ConnectionResetError:
            data = b""
        if not data:
            raise Ended("cut")
        self._data += data

    async def message(self, *, slowly: bool = False) -> bytes:
        """Return the next message; answer pings. Raises Ended at the end."""
        while True:
            first, payload = await self._frame(slowly)
            if first == PING:
                try:
                    await self._send(frame(PONG, payload))
                except OSError:
                    # The end is still to be read.
                    continue
            elif first == CLOSE:
                await self._answer_close(payload)
            else:
                assert first in (TEXT, BINARY), first
                return payload

    async def _answer_close(self, payload: bytes) -> None:
        try:
            await self._send(frame(CLOSE, payload))
            self.sock.shutdown(socket.SHUT_WR)
            rest = bytes(self._data) + await self.sock.recv(100)
        except OSError:
            rest = b""
        assert not rest, f"{rest!r} after the close frame"
        raise Ended(int.from_bytes(payload[:2], "big"))

    async def _frame(self, slowly: bool) -> tuple[int, bytes]:
        data = self._data
        while True:
            if len(data) >= 2:
                assert not data[1] & 0x80, "a server does not mask"
                size, at = data[1], 2
                for short, wide in (126, 2), (127, 8):
                    if data[1] == short:
                        size, at = int.from_bytes(data[2 : 2 + wide], "big"), 2 + wide
                if len(data) >= at + size:
                    first, payload = data[0], bytes(data[at : at + size])
                    del data[: at + size]
                    return first, payload
            if slowly:
                await trio.sleep(self.dice.uniform(0, 0.2))
            await self._more(self.dice.randint(100, 4096) if slowly else 65536)

    async def read_to_end(self, *, slowly: bool = False) -> None:
        """Read until the WebSocket ends. Raises Ended."""
        while True:
            await self.message(slowly=slowly)

    async def close(self) -> None:
        """Close in order. Raises Ended."""
        await self.send(frame(CLOSE, (3000).to_bytes(2, "big")))
        await self.read_to_end()

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


# What a client does. Each raises Ended, or returns if it has left in its own way.


async def talks(peer: Peer) -> None:
    """Get back what it sends, in whole frames or in fragments."""
    await peer.open("/echo", frame(TEXT, "early"))
    assert await peer.message() == b"early"
    while peer.goes_on:
        data = peer.dice.randbytes(peer.dice.choice([0, 1, 125, 126, 1000, _LARGE]))
        if peer.dice.random() < 0.3:
            cut = peer.dice.randint(0, len(data))
            ping = frame(PING, b"between")
            message = frame(2, data[:cut]) + ping + frame(0x80, data[cut:])
        else:
            message = frame(BINARY, data)
        async with peer.crowd.to_talk if len(data) == _LARGE else nullcontext():
            await peer.send(message)
            got = await _echo(peer)
        assert got == data, f"{got[:50]!r} for {data[:50]!r}"
        await trio.sleep(peer.dice.uniform(0, 0.5))
    await peer.close()


async def _echo(peer: Peer) -> bytes:
    while True:
        first, payload = await peer._frame(False)
        if first == PING:
            await peer.send(frame(PONG, payload))
        elif first == CLOSE:
            await peer._answer_close(payload)
        elif first in (TEXT, BINARY):
            return payload
        else:
            assert (first, payload) == (PONG, b"between")


async def waits(peer: Peer) -> None:
    """Do nothing but answer pings."""
    await peer.open("/echo")
    await peer.read_to_end()


async def reads_slowly(peer: Peer) -> None:
    await peer.open("/stream")
    while peer.goes_on:
        await peer.message(slowly=True)
    await peer.read_to_end()


async def never_reads(peer: Peer) -> None:
    """Leave all in the kernel's buffers, then look how it has ended."""
    await peer.open("/stream")
    await trio.sleep_until(peer.ends + 1)
    await peer.read_to_end()


async def sends_half_a_frame(peer: Peer) -> None:
    await peer.open("/echo")
    message = frame(BINARY, bytes(100_000))
    await peer.send(message[: peer.dice.randint(1, len(message) - 1)])
    while True:
        first, payload = await peer._frame(False)
        if first == CLOSE:
            # Its answer would be a part of the frame.
            raise Ended(int.from_bytes(payload[:2], "big"))
        assert first == PING, first


async def vanishes(peer: Peer) -> None:
    """Leave by a reset or by FIN, in the middle of something."""
    await peer.open(peer.dice.choice(["/echo", "/stream"]))
    message = frame(BINARY, bytes(peer.dice.choice([0, 10, 100_000])))
    await peer.send(message[: peer.dice.randint(0, len(message))])
    await trio.sleep(peer.dice.uniform(0, 0.5))
    if peer.dice.random() < 0.5:
        peer.reset()


async def gives_up_early(peer: Peer) -> None:
    """Leave before the answer to the handshake, or a part of it."""
    request = handshake("/echo")
    async with peer.connected():
        await peer._send(request[: peer.dice.randint(1, len(request))])
    await trio.sleep(peer.dice.uniform(0, 0.05))
    peer.reset()


async def breaks_the_protocol(peer: Peer) -> None:
    await peer.open("/echo")
    bad = peer.dice.choice([frame(TEXT, b"x", mask=None), frame(TEXT | 0x40), frame(0x83)])
    await peer.send(bad)
    await peer.read_to_end()


KINDS: list[Callable[[Peer], Awaitable[None]]] = [
    talks,
    talks,
    talks,
    talks,
    waits,
    waits,
    reads_slowly,
    never_reads,
    sends_half_a_frame,
    vanishes,
    vanishes,
    gives_up_early,
    breaks_the_protocol,
]

_RESTARTED: set[int | str] = {1012, 1001}
_OVERDUE: set[int | str] = {1011, "cut"}
"""Ends of clients that do not read, or that answer no ping."""
_MAY: dict[str, set[int | str]] = {
    "talks": {3000},
    "waits": set(),
    "reads_slowly": _OVERDUE,
    "never_reads": _OVERDUE,
    "sends_half_a_frame": _OVERDUE,
    "vanishes": _OVERDUE,
    "gives_up_early": {"cut"},
    "breaks_the_protocol": {1002},
}
"""How a WebSocket of each kind of client may end, beside a restart."""


@asynccontextmanager
async def closing_peer(
    address: str, dice: random.Random, ends: float, crowd: Crowd
) -> AsyncIterator[Peer]:
    parts = urlsplit(address)
    sock = trio.socket.socket(socket.AF_INET)
    peer = Peer((parts.hostname, parts.port), sock, dice, ends, crowd)
    try:
        narrow, wide = _RECEIVE_BUFFERS
        size = narrow if dice.random() < 0.3 else wide
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        yield peer
    finally:
        crowd.open -= peer.is_open
        sock.close()


async def storm(
    address: str,
    *,
    seconds: float,
    seed: int,
    connections: int,
    last: Callable[[], None],
    kills: bool = False,
    leaves: bool = False,
    meanwhile: Callable[[int], None] | None = None,
) -> Tally:
    """Let so many clients do what they like for so many seconds, then wait until all have ended.

    `last`: called at the end of the storm; it must have the server close all WebSockets, unless
    `leaves`: then clients leave soon after the storm. `kills`: reactors are killed, so any
    WebSocket may be cut. `meanwhile`: called every 3 seconds, with the number of the call.
    """
    tally = Tally()
    end = trio.current_time() + seconds
    crowd = Crowd()

    def judge(who: str, kind: str, how: int | str) -> None:
        tally.ends[str(how)] += 1
        fine = _MAY[kind] | _RESTARTED
        if kills:
            fine |= {"cut", *(f"HTTP {status}" for status in _BUSY)}
        if how not in fine:
            tally.wrong.append(f"{who} ended with {how}")

    async def client(number: int) -> None:
        dice = random.Random(f"{seed}/{number}")
        while trio.current_time() < end:
            do = dice.choice(KINDS)
            name = do.__name__
            who = f"client {number}, {name}"
            tally.done[name] += 1
            try:
                with (
                    trio.fail_at(end + _DEADLINE),
                    trio.CancelScope(deadline=end + 1 if leaves else inf),
                ):
                    async with closing_peer(address, dice, end, crowd) as peer:
                        await do(peer)
                        tally.ends["by the client"] += 1
            except TooLate:
                return
            except Ended as ended:
                judge(who, name, ended.end)
            except ConnectionError as error:
                judge(who, name, "cut" if name == "gives_up_early" or kills else repr(error))
            except (AssertionError, trio.TooSlowError) as error:
                tally.wrong.append(f"{who}: {type(error).__name__}: {error}"[:300])

    async def weather() -> None:
        number = 0
        due = trio.current_time() + 3
        while due < end:
            await trio.sleep_until(due)
            if meanwhile is not None:
                meanwhile(number)
            number += 1
            due += 3
        await trio.sleep_until(end)
        # What is opened after `last` would stay. When all turns are taken, no client waits for one.
        for _ in range(_OPENING):
            await crowd.to_open.acquire_on_behalf_of(object())
        last()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(weather)
        for number in range(connections):
            nursery.start_soon(client, number)
    tally.most = crowd.most
    return tally
