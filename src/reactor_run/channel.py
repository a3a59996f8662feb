"""One end of a control channel: JSON lines, and the descriptors that come with them.

The front end and the reactors do this I/O alike, so this file belongs to both.

A message is sent at once if the kernel takes it; otherwise it waits for the loop. Messages may be
sent from any thread, and keep their order.
"""

from __future__ import annotations

import array
import errno
import json
import os
import select
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from reactor_run.protocol.control import ControlDecoder, encode_control

__all__ = ["ControlChannel"]

_FD_SIZE = array.array("i").itemsize
_ANCILLARY = socket.CMSG_SPACE(16 * _FD_SIZE)


M = TypeVar("M")


class Word(Protocol):
    """A message to send: one of the classes of `protocol.control_messages`."""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object that is sent."""


class ControlChannel(Generic[M]):
    """A non-blocking AF_UNIX stream socket, which receives messages of type M."""

    def __init__(self, sock: socket.socket, read: Callable[[dict[str, Any]], M | None]) -> None:
        """`read`: converts a JSON object to a message, or to None if it is to be ignored."""
        sock.setblocking(False)
        self.sock = sock
        self._read = read
        self._decoder = ControlDecoder()
        self._out: deque[tuple[bytes, int | None]] = deque()
        self._lock = threading.Lock()
        self._given_up = False

    def fileno(self) -> int:
        return self.sock.fileno()

    def receive(self) -> list[M] | None:
        """Read once; return the messages that are complete now.

        The list is empty if no complete message has arrived. None means that the peer is gone.
        Raises ControlError.
        """
        try:
            data, ancillary, flags, _ = self.sock.recvmsg(
                65536, _ANCILLARY, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return []
        except OSError:
            # A reset: the peer left without reading all that we sent. What it sent was read before.
            return None
        if not data:
            return None
        descriptors: list[int | None] = []
        for _, _, raw in ancillary:
            numbers = array.array("i")
            numbers.frombytes(raw[: len(raw) - len(raw) % _FD_SIZE])
            descriptors.extend(numbers)
        if flags & socket.MSG_CTRUNC and not descriptors:
            descriptors.append(None)
        messages = []
        for words in self._decoder.feed(data, descriptors):
            message = self._read(words)
            if message is not None:
                messages.append(message)
            elif words.get("fd"):
                os.close(words["fd"])
        return messages

    def send(self, message: Word, descriptor: int | None = None) -> None:
        """Queue one message, and send what the kernel takes. Thread-safe.

        The descriptor is duplicated, so the caller may close its own at once. Raises OSError if
        there is no free descriptor for that. The message is not sent then.
        """
        with self._lock:
            if self._given_up:
                return
            kept = None if descriptor is None else os.dup(descriptor)
            self._out.append((encode_control(message.to_json()), kept))
            self._flush()

    @property
    def waiting(self) -> bool:
        """Whether messages wait that the kernel has not taken."""
        return bool(self._out)

    def flush(self) -> bool:
        """Send what waits; return whether all of it was sent."""
        with self._lock:
            self._flush()
            return not self._out

    def give_up(self) -> None:
        """Drop what waits, and send nothing from now on."""
        with self._lock:
            self._given_up = True
            self._drop()

    def in_child(self) -> list[int]:
        """Send nothing from a forked process; return the descriptors, which belong to its
        parent."""
        # At the fork another thread may have held the lock. That thread does not exist in this
        # process.
        self._lock = threading.Lock()
        self._given_up = True
        kept = [descriptor for _, descriptor in self._out if descriptor is not None]
        self._out.clear()
        return [self.sock.fileno(), *kept]

    def drain(self, seconds: float) -> None:
        """Block until all is sent, for at most so many seconds."""
        while not self.flush():
            poll = select.poll()
            poll.register(self.sock, select.POLLOUT)
            if not poll.poll(seconds * 1000):
                return

    def _flush(self) -> None:
        while self._out:
            line, descriptor = self._out[0]
            try:
                if descriptor is None:
                    sent = self.sock.send(line)
                else:
                    sent = socket.send_fds(self.sock, [line], [descriptor])
                    os.close(descriptor)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ETOOMANYREFS and descriptor is not None:
                    # Too many descriptors are on their way. The message goes without its own, and
                    # says so: otherwise it would take the descriptor of a later message.
                    os.close(descriptor)
                    self._out[0] = (encode_control({**json.loads(line), "fd": None}), None)
                    continue
                # The peer is gone: `receive` reports it.
                self._drop()
                return
            if sent < len(line):
                self._out[0] = (line[sent:], None)
            else:
                self._out.popleft()

    def _drop(self) -> None:
        for _, kept in self._out:
            if kept is not None:
                os.close(kept)
        self._out.clear()
