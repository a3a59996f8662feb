"""What a front end sent to its reactor, read from a tap's record by h11 and by hand.

Nothing here is the code under test: frames and PROXY headers are taken apart as docs/lanes.md has
them. It is an `AssertionError` if the front end sends anything that is no request, sends more on a
lane before the reactor has said `done`, or anything at all after `drop` or its own end.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.protocol.peers import Message, read_by_h11

__all__ = ["Recording", "Sent"]

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


@dataclass
class Sent:
    """One request on a wire; without `message.end` not all of it came."""

    wire: str
    raw: bytes = b""
    """It as it was sent, without what the lane puts before it."""
    message: Message | None = None
    """What h11 reads; None while the head is not whole. A body that h11 refuses has no end."""

    @property
    def whole(self) -> bool:
        return self.message is not None and self.message.end is not None

    def read(self) -> None:
        """Read what has come. An empty line before a request is ignored (RFC 9112 §2.2)."""
        skipped = 2 * self.raw.startswith(b"\r\n")
        reading = read_by_h11(self.raw[skipped:])
        if not reading.messages:
            assert reading.end.name == "WAITING", f"{self.wire}: not a request: {self.raw!r}"
            return
        self.message = message = reading.messages[0]
        if message.end is not None:
            message.end += skipped


@dataclass
class _Wire:
    """A lane of the front end, or the express lane."""

    unread: bytes = b""
    current: Sent | None = None
    free: bool = True
    """The reactor waits for a request."""
    over: str = ""
    """Why nothing more may come."""
    requests: int = 0
    words: int = 0
    """How many `done` and `drop` the reactor has said."""


class Recording:
    """A record that grows."""

    def __init__(self, path: Path, lane_proxy: str) -> None:
        self._file = path.open()
        self._partial = ""
        self._lane_proxy = lane_proxy
        self._wires: dict[str, _Wire] = {}
        self._sent: list[Sent] = []
        self._express: dict[bytes, Sent] = {}
        """The requests of the express lane, by the number of the exchange."""

    def close(self) -> None:
        self._file.close()

    @property
    def busy(self) -> list[str]:
        """The lanes on whose requests the reactor has not said its last word."""
        return [name for name, wire in self._wires.items() if wire.words < wire.requests]

    @property
    def reused(self) -> int:
        """How many requests found a lane that had carried another before. The express lane counts
        too."""
        lanes = sum(wire.requests - 1 for wire in self._wires.values() if wire.requests)
        return lanes + max(len(self._express) - 1, 0)

    def requests(self) -> list[Sent]:
        """The requests that were begun since the last call, in order."""
        # The last line may be on its way.
        *lines, self._partial = (self._partial + self._file.read()).split("\n")
        for line in lines:
            entry = json.loads(line)
            if entry["wire"] == "control":
                self._on_control(entry["from"], entry["message"])
            elif entry["from"] == "front" and not entry["wire"].startswith("R"):
                wire = self._wires.setdefault(entry["wire"], _Wire())
                if "end" in entry:
                    wire.over = f"the front end's {entry['end']}"
                else:
                    self._on_data(entry["wire"], wire, bytes.fromhex(entry["data"]))
        sent, self._sent = self._sent, []
        return sent

    def _on_control(self, side: str, message: dict[str, Any]) -> None:
        if side == "reactor":
            for word in ("done", "drop"):
                for number in message.get(word, ()):
                    wire = self._wires.setdefault(f"F{number}", _Wire())
                    wire.words += 1
                    if word == "done":
                        assert not wire.free, f"F{number}: done, with nothing to do"
                        wire.free = True
                    else:
                        wire.over = "the reactor's drop"

    def _on_data(self, name: str, wire: _Wire, data: bytes) -> None:
        wire.unread += data
        if name == "express":
            self._read_frames(wire)
        else:
            self._read_lane(name, wire)

    def _read_lane(self, name: str, wire: _Wire) -> None:
        if wire.current is None:
            # The rest of a body may follow `drop`, which the front end had not heard of.
            assert not wire.over, f"{name}: more after {wire.over}: {wire.unread!r}"
            assert wire.free, f"{name}: bytes beyond a request: {wire.unread!r}"
            size = self._proxy_header(wire.unread)
            if size is None:
                return
            wire.unread = wire.unread[size:]
            wire.current = Sent(name)
            wire.free = False
            wire.requests += 1
            self._sent.append(wire.current)
        wire.current.raw += wire.unread
        wire.unread = b""
        wire.current.read()
        if wire.current.whole:
            assert wire.current.message is not None
            end = wire.current.message.end
            assert end == len(wire.current.raw), f"{name}: bytes beyond {wire.current}"
            wire.current = None

    def _proxy_header(self, data: bytes) -> int | None:
        """The size of what stands before a request; None while it is not whole."""
        if self._lane_proxy == "off":
            return 0
        if self._lane_proxy == "v1":
            assert data.startswith(b"PROXY "[: len(data)]), data
            return data.find(b"\r\n") + 2 or None if b"\r\n" in data else None
        assert data.startswith(SIGNATURE[: len(data)]), data
        size = 16 + int.from_bytes(data[14:16], "big")
        return size if len(data) >= max(size, 16) else None

    def _read_frames(self, wire: _Wire) -> None:
        """The express lane: a request is one frame, or its head and pieces of its body."""
        data = wire.unread
        while len(data) >= 16:
            assert data.startswith(SIGNATURE), data
            payload = 16 + int.from_bytes(data[14:16], "big")
            if len(data) < payload:
                break
            assert data[payload - 18 : payload - 15] == b"\x05\x00\x08"
            kind, end = data[payload - 7], payload + int.from_bytes(data[payload - 4 : payload])
            if len(data) < end:
                break
            number = data[payload - 15 : payload - 7]
            if kind in (0xE0, 0xE5):
                if kind == 0xE0:
                    self._express[number] = Sent("express")
                    self._sent.append(self._express[number])
                sent = self._express[number]
                sent.raw += data[payload:end]
                sent.read()
                assert sent.message is not None, f"express: half a head: {sent}"
                if sent.whole:
                    assert sent.message.end == len(sent.raw), f"express: bytes beyond {sent}"
            else:
                # A count, the number of a client's connection, or nothing.
                assert end - payload == {0xE6: 4, 0xE7: 8}.get(kind, 0)
                assert 0xE1 <= kind <= 0xE8
            data = data[end:]
        wire.unread = data
