"""A wire tap between the front end and its reactors: it passes everything on, and writes it down.

`python -m tests.integration.tap front RECORD python -m reactor_run ...` is that `reactor-run`, but
each reactor starts behind a tap: `python -m tests.integration.tap reactor RECORD COMMAND ...`.
To the front end the tap is the reactor: it holds the far ends of the control channel, of the
express lane and of every lane, and gives the real reactor others.

Each line of RECORD is one JSON object: what came over which wire from which side, written before it
is passed on. Lanes of the front end are wires F1, F2, …, those of the reactor R1, R2, ….
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from reactor_run.buffers import Buffers
from reactor_run.channel import ControlChannel
from reactor_run.frontend import cli
from reactor_run.frontend.reactors.command_line import CommandLine
from reactor_run.frontend.reactors.process import Command

_READ = 262144
_EVENTS = select.POLLIN | select.POLLRDHUP


class Record:
    """The file that everything is written to."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, wire: str, side: str, **what: Any) -> None:
        line = json.dumps({"wire": wire, "from": side, **what})
        os.write(self._file, line.encode() + b"\n")


class End:
    """The tap's end of one socket of a wire, and what waits to be sent there."""

    def __init__(self, wire: str, side: str, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.wire = wire
        self.side = side
        """Who has the other end of the socket: "front" or "reactor"."""
        self.sock = sock
        self.other: End
        self.out: deque[bytes] = deque()
        self.ended = False
        """Nothing more comes from this side."""
        self.closing = ""
        """What follows what waits: "half" a close, or a "close"."""
        self.closed = False


class Word(NamedTuple):
    """A control message as it stands on the wire."""

    json: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return self.json


class Tap:
    """One reactor, and all of its wires."""

    def __init__(self, record: Record, command: list[str]) -> None:
        self._record = record
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        (flag,) = [word for word in command if word.startswith("--control-fd=")]
        inherited = int(flag.partition("=")[2])
        os.set_inheritable(inherited, False)
        self._front = ControlChannel(socket.socket(fileno=inherited), Word)
        ours, theirs = socket.socketpair()
        self._reactor = ControlChannel(ours, Word)
        with theirs:
            number = theirs.fileno()
            words = [f"--control-fd={number}" if word == flag else word for word in command]
            self.process = subprocess.Popen(words, pass_fds=[number])
        self._pidfd = os.pidfd_open(self.process.pid)
        self._watch(self._front.fileno(), lambda _: self._hear_front())
        self._watch(self._reactor.fileno(), lambda _: self._hear_reactor())
        self._watch(self._pidfd, lambda _: None)

    def run(self) -> int:
        """Pass everything on until the reactor has ended; its exit status."""
        while True:
            for channel in (self._front, self._reactor):
                channel.flush()
                waits = select.POLLOUT if channel.waiting else 0
                self._poll.register(channel.fileno(), _EVENTS | waits)
            for fd, events in self._poll.poll():
                if fd in self._handlers:
                    self._handlers[fd](events)
            if self.process.poll() is not None:
                self._hear_reactor()
                self._front.drain(5)
                return self.process.returncode

    def _watch(self, fd: int, handler: Callable[[int], None]) -> None:
        self._handlers[fd] = handler
        self._poll.register(fd, _EVENTS)

    # The control channel -------------------------------------------------------------------------

    def _hear_front(self) -> None:
        messages = self._front.receive()
        if messages is None:
            # It tells the reactor of its end by ours.
            self.process.kill()
            return
        for message in messages:
            self._pass_on(message, "front", self._front, self._reactor)

    def _hear_reactor(self) -> None:
        """What it says over this channel may announce what it does on others: it goes first."""
        while messages := self._reactor.receive():
            for message in messages:
                self._pass_on(message, "reactor", self._reactor, self._front)

    def _pass_on(
        self, word: Word, side: str, source: ControlChannel[Word], to: ControlChannel[Word]
    ) -> None:
        message = word.json
        descriptor = message.pop("fd", None)
        self._record.write("control", side, message=message)
        if descriptor is None:
            to.send(word)
            return
        if "pulse" in message or "client" in message:
            # Memory, or a client's socket: there is nothing in between to listen to.
            to.send(Word({**message, "fd": True}), descriptor)
            os.close(descriptor)
            return
        wire = "express" if "express" in message else f"{side[0].upper()}{message['lane']}"
        ours, theirs = socket.socketpair()
        self._splice(wire, side, socket.socket(fileno=descriptor), ours)
        with theirs:
            to.send(Word({**message, "fd": True}), theirs.fileno())

    # The lanes -----------------------------------------------------------------------------------

    def _splice(self, wire: str, side: str, sock: socket.socket, ours: socket.socket) -> None:
        one = End(wire, side, sock)
        two = End(wire, "reactor" if side == "front" else "front", ours)
        one.other, two.other = two, one
        for end in (one, two):
            self._watch(end.sock.fileno(), partial(self._on_events, end))

    def _on_events(self, end: End, events: int) -> None:
        hung_up = bool(events & (select.POLLHUP | select.POLLERR))
        if events & select.POLLOUT:
            self._send(end)
        if end.closed or not events & ~select.POLLOUT:
            return
        if not end.ended:
            self._receive(end, hung_up=hung_up)
        elif hung_up:
            end.other.closing = "close"
            self._send(end.other)

    def _receive(self, end: End, *, hung_up: bool) -> None:
        try:
            data = end.sock.recv(_READ)
        except OSError:
            data, hung_up = b"", True
        if end.side == "reactor":
            self._hear_reactor()
        other = end.other
        if data:
            self._record.write(end.wire, end.side, data=data.hex())
            other.out.append(data)
        else:
            end.ended = True
            other.closing = "close" if hung_up else "half"
            self._record.write(end.wire, end.side, end=other.closing)
        self._send(other)

    def _send(self, end: End) -> None:
        """Send what waits, as far as the kernel takes it, then do what follows."""
        if end.closed:
            return
        try:
            while end.out:
                sent = end.sock.send(end.out[0])
                end.out[0] = end.out[0][sent:]
                if not end.out[0]:
                    end.out.popleft()
        except BlockingIOError:
            self._poll.register(end.sock.fileno(), _EVENTS | select.POLLOUT)
            return
        except OSError:
            # Nobody reads there any more; reading from there tells so.
            end.out.clear()
        if end.closing == "close":
            self._close(end)
            self._close(end.other)
            return
        if end.closing == "half":
            end.closing = ""
            try:
                end.sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        # A socket at its end would be readable for ever.
        self._poll.register(end.sock.fileno(), 0 if end.ended else _EVENTS)

    def _close(self, end: End) -> None:
        if not end.closed:
            end.closed = True
            self._poll.unregister(end.sock.fileno())
            del self._handlers[end.sock.fileno()]
            end.sock.close()


def front(path: str, words: list[str]) -> int:
    """The `reactor-run` of this command line, with its reactors tapped."""
    make = CommandLine.make

    def no_space(_: Buffers) -> None:
        return None

    def tapped(self: CommandLine, control_fd: int, name: str, **more: bool) -> Command:
        made = make(self, control_fd, name, **more)
        tap = [sys.executable, "-m", "tests.integration.tap", "reactor", path]
        return Command([*tap, *made.words], made.variables)

    CommandLine.make = tapped  # type: ignore[method-assign]
    # A tap does not see what goes through shared memory. Without free buffers nothing does.
    Buffers.space = no_space  # type: ignore[assignment,method-assign]
    return cli.main(words[words.index("reactor_run") + 1 :])


if __name__ == "__main__":
    role, path, *rest = sys.argv[1:]
    if role == "front":
        sys.exit(front(path, rest))
    sys.exit(Tap(Record(path), rest).run())
