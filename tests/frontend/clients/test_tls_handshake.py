"""The handshake of a connection: its states, its deadlines, its turns, its limits."""

from __future__ import annotations

import select
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from reactor_run.frontend.clients.tls_connection import TlsConnection
from reactor_run.frontend.clients.tls_handshake import TlsHandshake, TlsHandshakeState
from tests.frontend.conftest import Start
from tests.frontend.standin import OK, Front, get
from tests.integration.certificates import Authority
from tests.integration.client import Client


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def secret(start: Start, authority: Authority) -> Callable[..., Front]:
    """`secret(**settings)`: a front end with TLS."""
    certfile, keyfile = authority.issue("localhost")

    def run(**settings: Any) -> Front:
        return start(certfile=(certfile,), keyfile=(keyfile,), **settings)

    return run


class HalfClient:
    """A client that does its handshake step by step."""

    def __init__(self, front: Front, authority: Authority) -> None:
        self.raw: Client = front.connect()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = authority.client()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")

    def hello(self) -> bytes:
        """The first message."""
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self._outgoing.read()

    def finished(self) -> bytes:
        """The last message, after those of the server have arrived."""
        while True:
            self._incoming.write(self.raw._sock.recv(65536))
            try:
                self.tls.do_handshake()
                return self._outgoing.read()
            except ssl.SSLWantReadError:
                pass

    def read(self) -> bytes:
        """All that comes up to close_notify."""
        data = b""
        while True:
            try:
                piece = self.tls.read(65536)
                if not piece:
                    return data
                data += piece
            except ssl.SSLWantReadError:
                self._incoming.write(self.raw._sock.recv(65536))


def state_of(front: Front) -> TlsHandshakeState | None:
    """The state of the handshake of the only connection; None: it is done, or there is none."""
    found = [client.protocol for client in front.server.acceptor.clients]
    return found[0].state if found and isinstance(found[0], TlsHandshake) else None


def test_the_states_in_order(
    secret: Callable[..., Front], authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = secret()
    client = HalfClient(front, authority)
    front.settle()
    assert state_of(front) is TlsHandshakeState.SILENT
    seen = []
    steps = front.server.loop.defer

    def defer(work: Callable[[], None]) -> None:
        seen.append(state_of(front))
        steps(work)

    monkeypatch.setattr(front.server.loop, "defer", defer)
    client.raw.send(client.hello())
    front.settle()
    assert state_of(front) is TlsHandshakeState.READING
    client.raw.send(client.finished())
    front.settle()
    assert state_of(front) is None
    assert seen == [TlsHandshakeState.QUEUED] * 2


@pytest.mark.parametrize("state", list(TlsHandshakeState))
def test_every_state_but_the_last_has_a_deadline(
    secret: Callable[..., Front],
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    state: TlsHandshakeState,
) -> None:
    front = secret(handshake_timeout=10.0)
    client = HalfClient(front, authority)
    if state is TlsHandshakeState.QUEUED:
        monkeypatch.setattr(front.server.loop, "defer", lambda work: None)
    if state is TlsHandshakeState.FLUSHING:
        # As if the client did not take the last messages of the server.
        monkeypatch.setattr(TlsConnection, "unsent", 1)
    if state is not TlsHandshakeState.SILENT:
        client.raw.send(client.hello())
    if state in (TlsHandshakeState.FLUSHING, TlsHandshakeState.ENDED):
        client.raw.send(client.finished())
    front.settle()
    if state is TlsHandshakeState.ENDED:
        assert state_of(front) is None
        return
    assert state_of(front) is state
    front.pass_time(9)
    assert state_of(front) is state
    front.pass_time(2)
    assert not front.server.acceptor.clients


def test_the_client_takes_the_last_messages_late(
    secret: Callable[..., Front], authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = secret()
    client = HalfClient(front, authority)
    client.raw.send(client.hello())
    with monkeypatch.context() as patch:
        patch.setattr(TlsConnection, "unsent", 1)
        client.raw.send(client.finished())
        front.settle()
        assert state_of(front) is TlsHandshakeState.FLUSHING
    (connection,) = front.server.acceptor.clients
    front.call(connection.protocol.on_drained)
    assert state_of(front) is None


def test_steps_take_turns_and_requests_go_first(
    secret: Callable[..., Front], authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = secret()
    kept = front.connect(tls=authority.client())
    front.settle()
    loop = front.server.loop
    events: list[tuple[str, float]] = []
    defer, submit = loop.defer, front.server.clients.submit

    def deferred(work: Callable[[], None]) -> None:
        def run() -> None:
            events.append(("step", loop.now))
            work()

        defer(run)

    def submitted(exchange: Any) -> None:
        events.append(("request", loop.now))
        submit(exchange)

    monkeypatch.setattr(loop, "defer", deferred)
    monkeypatch.setattr(front.server.clients, "submit", submitted)
    clients = [HalfClient(front, authority) for _ in range(10)]
    front.settle()
    with front.held():
        for client in clients:
            client.raw.send(client.hello())
        kept.send(get())
    front.settle()
    assert events[0][0] == "request"
    turns = [when for kind, when in events if kind == "step"]
    assert len(turns) == 10
    assert len(set(turns)) == 10
    (reactor,) = front.reactors
    reactor.reply(reactor.request()[0])
    assert kept.response().status == 200


def test_a_handshake_byte_by_byte(secret: Callable[..., Front], authority: Authority) -> None:
    front = secret()
    client = HalfClient(front, authority)
    client.raw.send_bytewise(client.hello())
    client.raw.send_bytewise(client.finished())
    front.settle()
    assert state_of(front) is None
    assert front.server.clients.counters.handshakes == {"TLSv1.3": 1}


def test_a_request_together_with_the_last_message(
    secret: Callable[..., Front], authority: Authority
) -> None:
    front = secret()
    client = HalfClient(front, authority)
    client.raw.send(client.hello())
    last = client.finished()
    client.tls.write(get())
    client.tls.write(get("/second"))
    client.raw.send(last + client._outgoing.read())
    (reactor,) = front.reactors
    for path in (b"/", b"/second"):
        number, data = reactor.request()
        assert data.startswith(b"GET %b HTTP/1.1\r\n" % path)
        reactor.reply(number)
    front.settle()


def test_failures_are_counted_by_reason(secret: Callable[..., Front], authority: Authority) -> None:
    front = secret()
    counters = front.server.clients.counters
    # A client that sends nothing did not want a handshake.
    front.connect().close()
    front.settle()
    assert not counters.failed_handshakes
    client = HalfClient(front, authority)
    client.raw.send(client.hello())
    front.settle()
    client.raw.close()
    front.settle()
    assert counters.failed_handshakes == {"the client left": 1}
    old = authority.client()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
    with pytest.raises(ssl.SSLError):
        front.connect(tls=old)
    front.settle()
    assert counters.failed_handshakes["no shared cipher"] == 1


def test_a_plain_request_is_recorded(secret: Callable[..., Front]) -> None:
    front = secret()
    client = front.connect()
    client.send(get())
    assert client.response().status == 400
    client.close()
    front.settle()
    assert front.server.clients.counters.refused == {"tls-expected": 1}


# Limits -------------------------------------------------------------------------------------------


def test_a_silent_connection_makes_room(secret: Callable[..., Front], authority: Authority) -> None:
    front = secret(handshake_timeout=100.0)
    front.call(lambda: setattr(front.server.acceptor, "connections_max", 3))
    silent = [front.connect() for _ in range(2)]
    begun = HalfClient(front, authority)
    begun.raw.send(begun.hello())
    front.settle()
    front.pass_time(2)
    late = front.connect(tls=authority.client())
    front.settle()
    # One of them, whose turn it was.
    ready, _, _ = select.select([each._sock for each in silent], [], [], 30)
    assert len(ready) == 1
    assert len(front.server.acceptor.clients) == 3
    late.close()


def test_an_idle_connection_makes_room(secret: Callable[..., Front], authority: Authority) -> None:
    front = secret(keep_alive=100.0)
    front.call(lambda: setattr(front.server.acceptor, "connections_max", 2))
    (reactor,) = front.reactors
    idle, waiting = [front.connect(tls=authority.client()) for _ in range(2)]
    idle.send(get())
    reactor.reply(reactor.request()[0], OK)
    assert idle.response().status == 200
    waiting.send(get())
    number, _ = reactor.request()
    front.pass_time(2)
    late = front.connect(tls=authority.client())
    # It has sent close_notify too: else ssl raises an error.
    assert idle.at_end()
    reactor.reply(number, OK)
    assert waiting.response().status == 200
    late.close()


def test_handshakes_count_for_an_address(
    secret: Callable[..., Front], authority: Authority
) -> None:
    front = secret(max_connections_per_address=2)
    first, second = front.connect(), HalfClient(front, authority)
    second.raw.send(second.hello())
    second.raw.send(second.finished())
    front.settle()
    assert front.connect().rest() == b""
    first.close()
    front.settle()
    assert front.connect(tls=authority.client())


def test_a_stop_ends_handshakes_in_time(secret: Callable[..., Front], authority: Authority) -> None:
    front = secret(close_grace=5.0)
    begun = HalfClient(front, authority)
    begun.raw.send(begun.hello())
    front.settle()
    front.call(front.server.stop)
    assert state_of(front) is TlsHandshakeState.READING
    # It may end, and a last request may follow.
    begun.raw.send(begun.finished())
    begun.tls.write(get())
    begun.raw.send(begun._outgoing.read())
    (reactor,) = front.reactors
    reactor.reply(reactor.request()[0], OK)
    front.settle()


def test_a_stop_without_grace_closes_handshakes(
    secret: Callable[..., Front], authority: Authority
) -> None:
    front = secret()
    begun = HalfClient(front, authority)
    begun.raw.send(begun.hello())
    front.settle()
    front.call(front.server.stop)
    assert begun.raw.rest() is not None


def test_a_request_with_the_last_message_is_served_during_a_stop(
    secret: Callable[..., Front], authority: Authority
) -> None:
    front = secret(close_grace=5.0)
    client = HalfClient(front, authority)
    client.raw.send(client.hello())
    last = client.finished()
    front.call(front.server.stop)
    # Whatever comes from now on has no time.
    front.call(lambda: setattr(front.server.clients, "close_grace", 0.0))
    client.tls.write(get())
    client.raw.send(last + client._outgoing.read())
    (reactor,) = front.reactors
    reactor.reply(reactor.request()[0], OK)
    answer = client.read()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer.lower()
