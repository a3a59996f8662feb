"""The front end's end of the control channel of one reactor. It never blocks."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from typing import Final

from reactor_run.channel import ControlChannel
from reactor_run.frontend.log import log
from reactor_run.frontend.loop.epoll import Loop
from reactor_run.frontend.reactors.events import LinkOwner
from reactor_run.frontend.sockets.peek import has_bytes
from reactor_run.protocol.control import ControlError
from reactor_run.protocol.control_messages import ToFrontEnd, ToReactor, read_for_front_end

__all__ = ["ControlLink"]

_IN: Final = select.EPOLLIN
_OUT: Final = select.EPOLLOUT


class ControlLink:
    """The control channel of one reactor: one end of an AF_UNIX stream socket."""

    def __init__(
        self,
        loop: Loop,
        owner: LinkOwner,
        sock: socket.socket,
        on_message: Callable[[ToFrontEnd], None],
    ) -> None:
        """`on_message`: called with each message of the reactor, in order. Raises OSError."""
        self._loop = loop
        self._owner = owner
        self._sock = sock
        self._channel = ControlChannel[ToFrontEnd](sock, read_for_front_end)
        self._on_message = on_message
        self._full = False
        """The kernel's buffer is full, so messages wait to be sent."""
        loop.watch(sock.fileno(), _IN, self._on_events)

    def say(self, message: ToReactor, descriptor: int | None = None) -> None:
        """Send a message. Bytes that the kernel does not take are sent later."""
        self._channel.send(message, descriptor)
        if self._channel.waiting and not self._full:
            self._full = True
            self._loop.modify(self._sock.fileno(), _IN | _OUT)

    def read(self) -> None:
        """Handle all messages that have arrived."""
        while self._read_once():
            pass

    def read_to_end(self) -> None:
        """Handle all messages that the reactor sent before it died."""
        while has_bytes(self._sock) and self._read_once() is not None:
            pass

    def _on_events(self, _: int) -> None:
        if self._full and self._channel.flush():
            self._full = False
            self._loop.modify(self._sock.fileno(), _IN)
        if self._read_once() is None:
            self._owner.hung_up()
            self._stop()

    def _read_once(self) -> int | None:
        """Read once; return the number of messages, None at the end of the channel."""
        try:
            messages = self._channel.receive()
            if messages is None:
                self._owner.hung_up()
                return None
            for message in messages:
                self._on_message(message)
            return len(messages)
        except ControlError as error:
            log.error("%s: invalid control message (%s), killing it", self._owner.name, error)
            self._owner.kill()
            return None

    def on_fault(self) -> None:
        """Kill the reactor after an internal error: some of its messages may be lost."""
        self._owner.kill()

    def give_up(self) -> None:
        """Drop all unsent messages: the reactor could not be started."""
        self._stop()

    def end(self) -> None:
        """Close the channel: the reactor has died."""
        self._stop()
        self._loop.bury(self._sock)

    def _stop(self) -> None:
        """Stop reading and sending."""
        self._loop.unwatch(self._sock.fileno())
        self._channel.give_up()
        self._full = False
