"""The byte stream to one client: TLS over a plain socket.

`ssl` works on two buffers in memory. So one call to the kernel receives many records, and one call
sends many. Bytes pass through the buffers in slices, since a buffer keeps its largest size as long
as the connection lives.

What differs from a plain socket:

- Bytes may be here that no event announces: `ready` says so.
- FIN of TLS is close_notify (RFC 8446 §6.1). A TCP connection that ends without it was cut. For
  the caller that is a reset.
- `send` encrypts at once. If the kernel does not take all of the result, the bytes count as not
  sent. The next call, which must begin with the same bytes, sends the rest and then counts them.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, NoReturn

from reactor_run.frontend.clients.transport import Transport

__all__ = ["TlsTransport"]

_RECORD: Final = 16384
"""The most bytes of content in one record (RFC 8446 §5.1)."""
_SLICE: Final = 16640
"""The most bytes of one encrypted record (RFC 8446 §5.2)."""
_BATCH: Final = 8 * _RECORD
"""The most bytes that are encrypted for one call to the kernel."""
_REPLIES_MAX: Final = 65536
"""Bytes of replies to key updates that a client may leave unread."""


class TlsTransport(Transport):
    """A non-blocking TLS stream, after its handshake. It is used like a `Transport`.

    ready: bytes, or the end of the stream, are here and no event will announce them.
    """

    encrypted = True

    __slots__ = (
        "_aside",
        "_broken",
        "_finished",
        "_incoming",
        "_left",
        "_outgoing",
        "_owed",
        "_passed",
        "_tls",
        "ready",
    )

    def __init__(
        self,
        sock: socket.socket,
        tls: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
    ) -> None:
        """`tls`: has done its handshake over the two buffers."""
        self.sock = sock
        self.shared = False
        self._resets = False
        self._tls = tls
        self._incoming = incoming
        self._outgoing = outgoing
        self.ready = incoming.pending > 0
        self._aside = self.ready
        """The next read is not an ordinary one."""
        self._finished = False
        """The client has sent close_notify."""
        self._broken = False
        """No further record can be sent: the stream has failed, or close_notify was sent."""
        self._left = memoryview(b"")
        """Encrypted bytes that the kernel has not taken."""
        self._owed = 0
        """The bytes of content in them, and in what the kernel has taken together with them."""
        self._passed = 0
        """The encrypted bytes that the kernel has taken together with them."""

    # In ------------------------------------------------------------------------------------------

    def recv(self, size: int) -> bytes:
        """Return at most `size` bytes from the client; none at all: close_notify.

        Raises BlockingIOError if none is here, and OSError.
        """
        if self._aside:
            data = self._read_aside(size)
            if data is not None:
                return data
        arrived = self.sock.recv(max(size - self._incoming.pending, _SLICE))
        if not arrived:
            self._broken = True
            raise ConnectionResetError(
                errno.ECONNRESET, "the connection ended without close_notify"
            )
        if len(arrived) <= _SLICE:
            self._incoming.write(arrived)
            return self._decrypt(size)
        return self._decrypt_slices(memoryview(arrived), size)

    def recv_into(self, space: memoryview, size: int = 0) -> int:
        """Do what `recv` does, into `space`; return the number of bytes."""
        data = self.recv(size or len(space))
        space[: len(data)] = data
        return len(data)

    def _decrypt(self, size: int) -> bytes:
        """Return at most `size` bytes of what has arrived. Raises as `recv` does."""
        tls, incoming = self._tls, self._incoming
        try:
            data = tls.read(min(size, _RECORD))
        except ssl.SSLWantReadError:
            self._reply()
            raise BlockingIOError from None
        except ssl.SSLError:
            self._fail()
            raise
        if not data:
            self._end()
            return b""
        if incoming.pending or tls.pending():
            parts = [data]
            left = size - len(data)
            while left and self._decrypt_more(parts, left):
                left -= len(parts[-1])
            data = b"".join(parts)
            if not left:
                self.ready = self._aside = bool(incoming.pending or tls.pending())
        self._reply()
        return data

    def _decrypt_more(self, parts: list[bytes], size: int) -> bool:
        """Append the content of the next record; return whether there may be another one.

        An error is left for the next read: the bytes before it are good.
        """
        try:
            data = self._tls.read(min(size, _RECORD))
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError:
            self._fail()
            self.ready = self._aside = True
            return False
        if not data:
            self._end()
            self.ready = True
            return False
        parts.append(data)
        return bool(self._incoming.pending or self._tls.pending())

    def _decrypt_slices(self, arrived: memoryview, size: int) -> bytes:
        """Return at most `size` bytes of what has arrived, which is more than one record."""
        parts: list[bytes] = []
        incoming = self._incoming
        for start in range(0, len(arrived), _SLICE):
            incoming.write(arrived[start : start + _SLICE])
            if size and not self._aside:
                try:
                    data = self._decrypt(size)
                except BlockingIOError:
                    continue
                except OSError:
                    if not parts:
                        raise
                    self.ready = self._aside = True
                    continue
                parts.append(data)
                size -= len(data)
        if not parts:
            raise BlockingIOError
        data = b"".join(parts)
        if self._finished:
            self.ready = bool(data)
        elif not size:
            self.ready = self._aside = True
        return data

    def _read_aside(self, size: int) -> bytes | None:
        """Read in a case that is not ordinary; return None if it is after all."""
        ready, self.ready = self.ready, False
        if self._finished:
            return b""
        if self._broken:
            if ready:
                raise ConnectionResetError(errno.ECONNRESET, "the TLS stream has failed")
            # After our close_notify: the caller drops what it reads.
            return self.sock.recv(size)
        self._aside = False
        try:
            return self._decrypt(size)
        except BlockingIOError:
            return None

    def _end(self) -> None:
        """Note close_notify of the client."""
        self._finished = self._aside = True

    def _fail(self) -> None:
        """Tell the client by an alert that the stream has failed."""
        self._broken = True
        with suppress(OSError):
            if not self._left:
                self.sock.send(self._outgoing.read())

    def _reply(self) -> None:
        """Send what reading has caused, such as the reply to a key update (RFC 8446 §4.6.3)."""
        if not self._outgoing.pending:
            return
        reply = self._outgoing.read()
        if not self._left:
            try:
                reply = reply[self.sock.send(reply) :]
            except BlockingIOError:
                pass
        if reply:
            self._left = memoryview(b"".join((self._left, reply)))
            if len(self._left) > _BATCH + _REPLIES_MAX:
                self._broken = True
                raise ConnectionResetError(errno.ECONNRESET, "the client reads no replies")

    @property
    def has_arrived(self) -> bool:
        """Whether unread bytes or FIN have arrived. Raises OSError after a reset."""
        return self.ready or self._incoming.pending > 0 or super().has_arrived

    # Out -----------------------------------------------------------------------------------------

    def send(self, data: bytes | memoryview) -> int:
        """Send `data`; return how many bytes the kernel took with all that belongs to them.

        Raises BlockingIOError if it took none, and OSError.
        """
        if self._left:
            owed = self._flush()
            if owed:
                return owed
        size = len(data)
        if size > _RECORD:
            return self._send_records(memoryview(data)[:_BATCH])
        self._tls.write(data)
        encrypted = self._outgoing.read()
        try:
            sent = self.sock.send(encrypted)
        except BlockingIOError:
            sent = 0
        if sent < len(encrypted):
            self._keep(encrypted, sent, size)
        return size

    def _send_records(self, data: memoryview) -> int:
        """Send what is more than one record. Raises as `send` does."""
        size = len(data)
        write, take = self._tls.write, self._outgoing.read
        records = []
        encrypted = 0
        for start in range(0, size, _RECORD):
            write(data[start : start + _RECORD])
            record = take()
            encrypted += len(record)
            records.append(record)
        try:
            sent = self.sock.sendmsg(records)
        except BlockingIOError:
            sent = 0
        if sent < encrypted:
            self._keep(b"".join(records), sent, size)
        return size

    def _keep(self, encrypted: bytes, sent: int, size: int) -> NoReturn:
        """Keep what the kernel has not taken of `size` bytes of content. Raises BlockingIOError."""
        self._left = memoryview(encrypted)[sent:]
        self._owed = size
        self._passed = sent
        raise BlockingIOError

    def sendmsg(self, pieces: Iterable[bytes | memoryview]) -> int:
        """Send several pieces; see `send`."""
        taken: list[bytes | memoryview] = []
        size = 0
        for piece in pieces:
            taken.append(piece)
            size += len(piece)
            if size >= _BATCH:
                break
        return self.send(b"".join(taken))

    def send_file(self, fd: int, offset: int, count: int) -> int:
        """Send at most `count` bytes of a file; see `send`."""
        return self.send(os.pread(fd, min(count, _BATCH), offset))

    def _flush(self) -> int:
        """Send encrypted bytes that are left; return how many bytes of content they carried."""
        sent = self.sock.send(self._left)
        self._passed += sent
        self._left = self._left[sent:]
        if self._left:
            raise BlockingIOError
        owed, self._owed, self._passed = self._owed, 0, 0
        return owed

    @property
    def unacknowledged(self) -> int:
        """The bytes that the kernel holds for the client, without those that `send` will count.

        It is negative if the client has taken some of these.
        """
        return super().unacknowledged - self._passed

    # The end -------------------------------------------------------------------------------------

    def shutdown(self) -> None:
        """Send close_notify and FIN after the bytes that were sent."""
        self._notify()
        self._aside = True
        self.ready = self._finished = False
        super().shutdown()

    def cut(self) -> None:
        """Leave out close_notify at the close, so that the client sees that bytes are missing."""
        self._broken = True

    def _notify(self) -> None:
        """Send close_notify, unless the stream has failed."""
        if self._broken or self._left:
            return
        self._broken = True
        # The second error is that of a stream whose client has not sent close_notify yet.
        with suppress(OSError, ValueError):
            self._tls.unwrap()
        with suppress(OSError):
            self.sock.send(self._outgoing.read())

    def close(self) -> None:
        """End the connection, and close the descriptor. A client that is not reset gets
        close_notify."""
        if not self._resets:
            self._notify()
        super().close()
        # The connection and its protocol refer to each other, so they are freed late. What OpenSSL
        # has is much larger.
        del self._tls, self._incoming, self._outgoing
