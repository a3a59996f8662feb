"""An accepted WebSocket: its frames, its link to the client, and its end.

It outlasts its app: after the app has returned, the closing handshake may still be in progress. It
goes through these steps:

    open      messages go both ways
    closing   a close frame was sent, and that of the client is awaited
    ended     the link takes its last bytes, and nothing more is read

The app gets `websocket.disconnect` once the client has closed it, failed it, or vanished. The front
end is told of the end when both the WebSocket and its app have ended.

What the app does not receive is not read: at most AHEAD_MAX bytes and one message wait here, the
rest on the link, where it gets no credit, and with the client.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from reactor_run.protocol.websocket.connection import WebSocket
from reactor_run.protocol.websocket.summary import Summary
from reactor_run.reactor.links.exchange import AppLink

__all__ = ["AHEAD_MAX", "OpenWebSocket", "WebSocketUser"]

AHEAD_MAX: Final = 65536
"""Bytes that are read from the link while messages wait for the app."""
_MESSAGES_MAX: Final = 64
"""Messages that wait for the app, from which on the link is not read."""
_REPLIES_MAX: Final = 262144
"""Bytes that may wait for the client while it is read: replies to its pings are among them."""


class WebSocketUser(Protocol):
    """The exchange of a WebSocket."""

    def on_message(self) -> None:
        """Wake the app: messages or the end of the WebSocket have arrived."""

    def on_websocket_over(self, summary: Summary) -> None:
        """Handle that the WebSocket and its app have ended."""


class Keeper(Protocol):
    """Keeps the deadlines of all WebSockets of the reactor."""

    def await_close(self, websocket: OpenWebSocket) -> None:
        """Call `close_overdue` if the client does not answer the close frame."""

    def remove(self, websocket: OpenWebSocket) -> None:
        """Forget a WebSocket that has ended."""

    def flush_soon(self) -> None:
        """Flush the links before the loop waits."""

    def call_soon(self, function: Callable[[], None]) -> None:
        """Call `function` in a later turn of the loop."""


class OpenWebSocket:
    """One accepted WebSocket. It belongs to the loop's thread."""

    __slots__ = (
        "_app_ended",
        "_behind",
        "_code",
        "_continues",
        "_keeper",
        "_link",
        "_read",
        "_received",
        "_sent",
        "_user",
        "codec",
        "disconnect",
        "ended",
    )

    def __init__(self, keeper: Keeper, user: WebSocketUser, link: AppLink, codec: WebSocket):
        self.codec = codec
        self.disconnect: tuple[int, str] | None = None
        """The code and the reason that the app is told; None: the client is still there."""
        self.ended = False
        """Nothing more is read or written."""
        self._keeper = keeper
        self._user = user
        self._link = link
        self._app_ended = False
        self._continues = False
        """The loop will call `_continue`."""
        self._read = 0
        """Bytes read since the app had taken all messages."""
        self._behind = False
        """More may have arrived than was decoded."""
        self._code = 1006
        """The code of the summary."""
        self._received = self._sent = 0

    # Messages in ---------------------------------------------------------------------------------

    @property
    def waits_for_app(self) -> bool:
        """Whether frames of the client may be unread, because the app receives no messages."""
        return bool(self.codec.messages)

    def take(self) -> str | bytes:
        """Return the next message for the app. There must be one."""
        messages = self.codec.messages
        message = messages.pop(0)
        self._received += 1
        if self._behind and not messages:
            self._read = 0
            self.pull()
        return message

    def begin(self, early: bytes) -> None:
        """Decode `early`, which arrived before the app had accepted, then what has come since."""
        if early:
            self.codec.receive(early)
            self._react()
        self.pull()

    def pull(self) -> None:
        """Read and decode what has arrived, unless enough messages wait for the app."""
        codec = self.codec
        link = self._link
        self._behind = True
        while not self.ended:
            if codec.messages and (
                codec.pending or self._read >= AHEAD_MAX or len(codec.messages) >= _MESSAGES_MAX
            ):
                return
            if link.out.size > _REPLIES_MAX:
                return
            if codec.pending:
                if not self._continues:
                    self._continues = True
                    self._keeper.call_soon(self._continue)
                return
            data = link.read()
            if data is None:
                self._behind = False
                if not codec.messages:
                    self._read = 0
                return
            if not data:
                self._end((1006, ""))
                return
            self._read += len(data)
            codec.receive(data)
            if codec.out or codec.closed_by_peer is not None or codec.failed is not None:
                self._react()
            elif codec.messages:
                self._user.on_message()

    def _continue(self) -> None:
        """Decode more frames: one read can hold more than one turn of the loop should decode."""
        self._continues = False
        if not self.ended:
            self.codec.go_on()
            self._react()
            self.pull()

    def _react(self) -> None:
        """Send what the frames that were decoded call for, and wake the app."""
        codec = self.codec
        for reply in codec.out:
            self._write(reply)
        codec.out.clear()
        if codec.closed_by_peer is not None:
            self._end(codec.closed_by_peer)
        elif codec.failed is not None:
            self._end(codec.failed)
        elif codec.messages:
            self._user.on_message()

    # Messages out --------------------------------------------------------------------------------

    def send(self, message: str | bytes) -> None:
        """Send a message. Raises OSError if the client is gone."""
        frame = self.codec.send(message)
        self._sent += 1
        self._link.write_frame(frame)
        self._keeper.flush_soon()

    def ping(self) -> None:
        """Send a ping."""
        self._write(self.codec.ping())

    def _write(self, frame: bytes) -> None:
        try:
            self._link.write_frame(frame)
        except OSError:
            self.lost()
        self._keeper.flush_soon()

    # The end -------------------------------------------------------------------------------------

    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame, and await that of the client. Raises ValueError for a wrong code."""
        if self.ended or self.codec.close_sent:
            return
        frame = self.codec.close(code, reason)
        self._code = code
        try:
            self._link.write_close_frame(frame)
        except OSError:
            self.lost()
            return
        self._keeper.flush_soon()
        self._keeper.await_close(self)

    def close_now(self, code: int, reason: str = "") -> None:
        """Send a close frame, and await nothing."""
        self.close(code, reason)
        self._end((code, reason))

    def close_overdue(self) -> None:
        """End: the client has not answered the close frame."""
        self._end((1006, ""))

    def lost(self) -> None:
        """End: the client is gone."""
        self._end((1006, ""))

    def app_ended(self) -> None:
        """Note that the app has ended. If it has not closed the WebSocket, close it before."""
        self._app_ended = True
        if self.ended:
            self._tell_over()

    def _end(self, disconnect: tuple[int, str]) -> None:
        """End. `disconnect`: the code and the reason that the app is told."""
        if self.ended:
            return
        self.ended = True
        self.disconnect = disconnect
        if not self.codec.close_sent or self._code == 1006:
            self._code = disconnect[0]
        self._keeper.remove(self)
        try:
            self._link.finish(until_close=True)
        except OSError:
            # The client is gone.
            pass
        self._keeper.flush_soon()
        if self._app_ended:
            self._tell_over()
        else:
            self._user.on_message()

    def _tell_over(self) -> None:
        self._user.on_websocket_over(Summary(self._code, self._received, self._sent))
        self._keeper.flush_soon()
