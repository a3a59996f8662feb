"""The TLS stream over a socket pair, with Python's ssl at the other end."""

from __future__ import annotations

import os
import random
import select
import socket
import ssl
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reactor_run.frontend.clients.tls_transport import TlsTransport
from reactor_run.frontend.clients.transport import Transport
from reactor_run.outgoing import Outgoing
from tests.integration.certificates import Authority
from tests.integration.waiting import eventually

RECORD = 16384


class Peer:
    """The client's end. It writes and reads records by hand."""

    def __init__(self, sock: socket.socket, tls: ssl.SSLObject, buffers: Buffers) -> None:
        self.sock = sock
        self.tls = tls
        self.incoming, self.outgoing = buffers

    def seal(self, data: bytes) -> bytes:
        """Return the records of `data`."""
        if data:
            self.tls.write(data)
        return self.outgoing.read()

    def farewell(self) -> bytes:
        """Return close_notify."""
        try:
            self.tls.unwrap()
        except ssl.SSLError:
            pass
        return self.outgoing.read()

    def take(self, most: int = 1 << 20) -> bytes:
        """Read once from the socket; return the content. Raises BlockingIOError."""
        arrived = self.sock.recv(most)
        if not arrived:
            raise EOFError
        self.incoming.write(arrived)
        data = b""
        try:
            while piece := self.tls.read(RECORD):
                data += piece
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass
        return data


Buffers = tuple[ssl.MemoryBIO, ssl.MemoryBIO]
Pair = tuple[TlsTransport, Peer]


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = Authority(tmp_path_factory.mktemp("certificates"))
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(*authority.issue("localhost"))
    return server, authority.client()


@pytest.fixture(params=["1.2", "1.3"])
def pair(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], request: pytest.FixtureRequest
) -> Iterator[Callable[..., Pair]]:
    """`pair(early=b"...")`: both ends after the handshake. `early`: content that came with it."""
    socks: list[socket.socket] = []

    def make(early: bytes = b"") -> Pair:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            theirs = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
        socks.extend((ours, theirs))
        for sock in (ours, theirs):
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        buffers = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = contexts[0].wrap_bio(incoming, outgoing, server_side=True)
        client = contexts[1].wrap_bio(*buffers, server_hostname="localhost")
        if request.param == "1.2":
            client.context.maximum_version = ssl.TLSVersion.TLSv1_2
            client = client.context.wrap_bio(*buffers, server_hostname="localhost")
        done = {client: False, server: False}
        while not all(done.values()):
            for end in (client, server):
                try:
                    end.do_handshake()
                    if end is client and early and not done[client]:
                        client.write(early)
                    done[end] = True
                except ssl.SSLWantReadError:
                    pass
                incoming.write(buffers[1].read())
                buffers[0].write(outgoing.read())
        client.context.maximum_version = ssl.TLSVersion.MAXIMUM_SUPPORTED
        return TlsTransport(ours, server, incoming, outgoing), Peer(theirs, client, buffers)

    yield make
    for sock in socks:
        sock.close()


def is_ready(transport: TlsTransport) -> bool:
    """Whether bytes or the end are there that no event announces. It changes with each read."""
    return transport.ready


def test_content_that_came_with_the_handshake_is_announced(pair: Callable[..., Pair]) -> None:
    transport, _ = pair(early=b"hello")
    assert is_ready(transport)
    assert transport.has_arrived
    assert transport.recv(65536) == b"hello"
    assert not is_ready(transport)
    with pytest.raises(BlockingIOError):
        transport.recv(65536)


@pytest.mark.parametrize("size", [1, 100, RECORD, 65536, 131072])
def test_what_one_read_does_not_take_is_ready(pair: Callable[..., Pair], size: int) -> None:
    transport, peer = pair()
    sent = os.urandom(50_000)
    records = peer.seal(sent)
    received = b""
    while len(received) < len(sent):
        if records:
            try:
                records = records[peer.sock.send(records) :]
            except BlockingIOError:
                pass
        # Only if an event would come, or bytes are ready.
        while transport.ready or transport.has_arrived:
            try:
                piece = transport.recv(size)
            except BlockingIOError:
                break
            assert 0 < len(piece) <= size
            received += piece
    assert received == sent
    assert not is_ready(transport)


@pytest.mark.parametrize("seed", range(10))
def test_any_sizes_both_ways(pair: Callable[..., Pair], seed: int) -> None:
    rng = random.Random(seed)
    transport, peer = pair()
    to_server, to_client = rng.randbytes(300_000), rng.randbytes(400_000)
    unsealed, sealed = to_server, b""
    out = Outgoing()
    unsent = to_client
    at_server = at_client = b""
    space = memoryview(bytearray(131072))
    while len(at_server) < len(to_server) or len(at_client) < len(to_client):
        if not sealed and unsealed:
            size = rng.choice((1, 1000, 40_000))
            sealed, unsealed = peer.seal(unsealed[:size]), unsealed[size:]
        if sealed:
            try:
                sealed = sealed[peer.sock.send(sealed[: rng.randint(1, 30_000)]) :]
            except BlockingIOError:
                pass
        if transport.ready or transport.has_arrived:
            try:
                count = transport.recv_into(space, rng.choice((RECORD, 65536, 131072)))
                at_server += space[:count]
            except BlockingIOError:
                pass
        if unsent and rng.random() < 0.5:
            size = rng.choice((10, 3000, 70_000, 200_000))
            out.add(unsent[:size])
            unsent = unsent[size:]
        if out.size:
            try:
                assert out.send(transport) > 0
            except BlockingIOError:
                pass
        try:
            at_client += peer.take(rng.choice((1000, 100_000)))
        except BlockingIOError:
            pass
    assert at_server == to_server
    assert at_client == to_client


def test_a_file(pair: Callable[..., Pair], tmp_path: Path) -> None:
    content = os.urandom(300_000)
    (tmp_path / "file").write_bytes(content)
    transport, peer = pair()
    sent = 0
    received = b""
    with open(tmp_path / "file", "rb") as file:
        while len(received) < len(content):
            if sent < len(content):
                try:
                    sent += transport.send_file(file.fileno(), sent, len(content) - sent)
                except BlockingIOError:
                    pass
            try:
                received += peer.take()
            except BlockingIOError:
                pass
    assert received == content


def test_close_notify_is_the_end(pair: Callable[..., Pair]) -> None:
    transport, peer = pair()
    peer.sock.send(peer.seal(b"last") + peer.farewell())
    assert transport.recv(65536) == b"last"
    assert is_ready(transport)
    assert transport.recv(65536) == b""
    assert not is_ready(transport)
    # The other direction still works.
    assert transport.send(b"answer") == 6
    assert peer.take() == b"answer"
    transport.shutdown()
    assert peer.take() == b""
    with pytest.raises(EOFError):
        peer.take()


def test_an_end_without_close_notify_is_a_reset(pair: Callable[..., Pair]) -> None:
    transport, peer = pair()
    peer.sock.send(peer.seal(b"last"))
    peer.sock.shutdown(socket.SHUT_WR)
    assert transport.recv(65536) == b"last"
    with pytest.raises(ConnectionResetError):
        transport.recv(65536)


@pytest.mark.parametrize("before", [b"", b"good"])
def test_a_forged_record_is_an_error_after_what_is_good(
    pair: Callable[..., Pair], before: bytes
) -> None:
    transport, peer = pair()
    forged = bytearray(peer.seal(b"forged"))
    # The record before it has the next number, so it is good only if it stands alone.
    good = b""
    if before:
        transport, peer = pair()
        good = peer.seal(before)
        forged = bytearray(peer.seal(b"forged"))
    forged[-1] ^= 1
    peer.sock.send(good + bytes(forged))
    if before:
        assert transport.recv(65536) == before
        assert is_ready(transport)
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        transport.recv(65536)
    # The peer reads an alert.
    with pytest.raises(ssl.SSLError):
        peer.take()


def test_a_close_sends_close_notify_unless_bytes_are_missing(pair: Callable[..., Pair]) -> None:
    for cut in (False, True):
        transport, peer = pair()
        transport.send(b"last")
        if cut:
            transport.cut()
        transport.close()
        assert peer.take() == b"last"
        if cut:
            with pytest.raises(EOFError):
                peer.take()
        else:
            assert peer.tls.read(1) == b""


def test_what_comes_after_our_end_is_dropped_as_it_is(pair: Callable[..., Pair]) -> None:
    transport, peer = pair()
    transport.shutdown()
    sealed = peer.seal(b"more")
    peer.sock.send(sealed)
    assert transport.recv(65536) == sealed
    peer.sock.shutdown(socket.SHUT_WR)
    assert eventually(lambda: transport.recv(65536) == b"")


def test_bytes_that_are_not_counted_yet_are_not_the_kernels(
    pair: Callable[..., Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    transport, peer = pair()
    monkeypatch.setattr(Transport, "unacknowledged", 1_000_000)
    content = bytes(4_000_000)
    sent = 0
    with pytest.raises(BlockingIOError):  # noqa: PT012 - until the kernel takes no more
        while True:
            sent += transport.send(memoryview(content)[sent:])
    passed = 1_000_000 - transport.unacknowledged
    assert 0 < passed < 8 * RECORD + 1000
    # When the client reads, the rest of the batch goes out, and all of it is counted at once.
    while transport.unacknowledged < 1_000_000:
        try:
            assert transport.send(memoryview(content)[sent:]) >= RECORD
        except BlockingIOError:
            peer.sock.recv(1 << 20)


def test_a_client_that_reads_no_replies_is_lost(pair: Callable[..., Pair]) -> None:
    transport, peer = pair()
    # As if the client asked for a new key again and again: each time OpenSSL makes a reply.
    with pytest.raises(ConnectionResetError):  # noqa: PT012 - until it is enough
        for _ in range(1000):
            transport._outgoing.write(bytes(50_000))
            peer.sock.send(peer.seal(b"x"))
            select.select([transport.sock], [], [], 30)
            assert transport.recv(65536) == b"x"
    assert len(transport._left) < 400_000


def test_a_close_frees_what_openssl_has(pair: Callable[..., Pair]) -> None:
    transport, _ = pair()
    kept = weakref.ref(transport._tls)
    transport.close()
    assert kept() is None
