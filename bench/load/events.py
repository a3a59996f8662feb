"""Clients of server-sent events, each on a connection of its own.

Every event says when it was due, on the monotonic clock of this machine, so what is counted as
late is the way from the app to its client. An event that was due and did not come is lost.
"""

from __future__ import annotations

import re
import select
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

_EVENT: Final = re.compile(rb"data: (\d+) ([\d.]+)\n\n")
_SETTLE: Final = 0.5
"""Seconds that the last events have to arrive."""


@dataclass
class Events:
    """What the clients saw."""

    clients: int
    connected: int = 0
    ended: int = 0
    """Connections that the server closed."""
    expected: int = 0
    arrived: int = 0
    """Events that came while it was listened, whenever they were due."""
    clocks: list[Mapping[str, float]] = field(default_factory=list)
    """Seconds of CPU time that the server had had before and after that, by role."""
    lateness: list[float] = field(default_factory=list)
    """Seconds, of each event that came."""

    @property
    def lost(self) -> int:
        return self.expected - len(self.lateness)


def run(
    address: tuple[str, int],
    clients: int,
    seconds: float,
    *,
    ramp: float = 1.0,
    period: float = 1.0,
    clocks: Callable[[], Mapping[str, float]] = dict,
) -> Events:
    """Connect over `ramp` seconds, then listen for `seconds` to an event every `period`.

    `clocks` tells the CPU time that each role of the server has had.
    """
    seen = Events(clients)
    poll = select.epoll()
    socks: dict[int, socket.socket] = {}
    tails: dict[int, bytes] = {}
    begin = time.monotonic()
    listen_from = begin + ramp + _SETTLE
    end = listen_from + seconds
    path = f"/events/{period * 1e3:g}"
    request = f"GET {path} HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n".encode()
    looks = [end, listen_from]

    def open_due(now: float) -> None:
        while len(tails) < clients and now >= begin + ramp * len(tails) / clients:
            sock = socket.create_connection(address, timeout=5)
            sock.sendall(request)
            sock.setblocking(False)
            socks[sock.fileno()] = sock
            tails[sock.fileno()] = b""
            poll.register(sock.fileno(), select.EPOLLIN)

    try:
        while (now := time.monotonic()) < end + _SETTLE:
            open_due(now)
            if looks and now >= looks[-1]:
                seen.clocks.append(clocks())
                looks.pop()
            for number, _ in poll.poll(0.002 if len(tails) < clients else 0.1):
                try:
                    data = socks[number].recv(64 * 1024)
                except OSError:
                    data = b""
                if not data:
                    seen.ended += 1
                    poll.unregister(number)
                    continue
                arrived = time.monotonic()
                text = tails[number] + data
                last = 0
                for match in _EVENT.finditer(text):
                    due = float(match[2])
                    seen.arrived += listen_from <= arrived < end
                    if listen_from <= due < end:
                        seen.lateness.append(arrived - due)
                    last = match.end()
                tails[number] = text[last:]
        seen.connected = len(socks)
        seen.expected = round(clients * seconds / period)
    finally:
        for sock in socks.values():
            sock.close()
        poll.close()
    return seen
