"""One end of a control channel: JSON lines and the descriptors that come with them.

The front end and the reactors meet only at descriptors; this is the one piece of I/O that both
sides do alike, and it belongs to neither room.

Messages go out at once where the kernel takes them, else they wait for the loop; they may be sent
from any thread, and keep their order.
"""

from __future__ import annotations

import array
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
    """What is sent: one of the classes of `protocol.control_messages`."""

    def to_json(self) -> dict[str, Any]:
        """Return what stands on the wire."""


class ControlChannel(Generic[M]):
    """One AF_UNIX stream socket, non-blocking, on which messages of type M come in."""

    def __init__(self, sock: socket.socket, read: Callable[[dict[str, Any]], M | None]) -> None:
        """`read`: makes a message of a JSON object, or None of one that is to be ignored."""
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
        """Read once: the messages that are whole now, none if nothing has come; None when the peer
        is gone. Raises ControlError."""
        try:
            data, ancillary, flags, _ = self.sock.recvmsg(
                65536, _ANCILLARY, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return []
        except OSError:
            # It left with something of ours unread; what it had sent came before.
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
        messages = map(self._read, self._decoder.feed(data, descriptors))
        return [message for message in messages if message is not None]

    def send(self, message: Word, descriptor: int | None = None) -> None:
        """Queue one message, and send what the kernel takes. Thread-safe.

        The descriptor is duplicated, so the caller may close its own at once.
        """
        with self._lock:
            if self._given_up:
                return
            kept = None if descriptor is None else os.dup(descriptor)
            self._out.append((encode_control(message.to_json()), kept))
            self._flush()

    def send_at_once(self, message: Word) -> bool:
        """Send one message if the kernel takes it now, else nothing; whether it went. Thread-safe.

        For a message that must be there before what is sent over another socket.
        """
        with self._lock:
            if self._given_up or self._out:
                return False
            line = encode_control(message.to_json())
            self._out.append((line, None))
            self._flush()
            # Linux takes all of a line as short as this, or nothing. A rest of it would wait.
            if self._out and self._out[0][0] == line:
                self._out.clear()
                return False
            return True

    @property
    def waiting(self) -> bool:
        """The kernel has not taken all that was sent."""
        return bool(self._out)

    def flush(self) -> bool:
        """Send what waits; whether all of it went."""
        with self._lock:
            self._flush()
            return not self._out

    def give_up(self) -> None:
        """Send nothing any more, nor what waits."""
        with self._lock:
            self._given_up = True
            self._drop()

    def in_child(self) -> list[int]:
        """Send nothing from a process that was forked; the descriptors, which are its parent's."""
        # Another thread may have held the lock as the process was forked, and is not here.
        self._lock = threading.Lock()
        self._given_up = True
        kept = [descriptor for _, descriptor in self._out if descriptor is not None]
        self._out.clear()
        return [self.sock.fileno(), *kept]

    def drain(self, seconds: float) -> None:
        """Block until everything went, at most so long."""
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
            except OSError:
                # The peer is gone; `receive` tells so.
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
