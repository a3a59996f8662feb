"""The acceptor: the limits on connections, and what happens beyond them."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from reactor_run.frontend.clients import acceptor as module
from reactor_run.frontend.clients.acceptor import Acceptor
from reactor_run.frontend.clients.connection import Connection
from reactor_run.frontend.clients.http1 import Http1
from reactor_run.frontend.clients.per_address import network
from reactor_run.frontend.sockets.networks import parse_networks
from tests.frontend.conftest import Start
from tests.frontend.standin import Front, StandIn, get
from tests.integration.client import Client

SHORTAGES = [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM]


def acceptor(front: Front) -> Acceptor:
    return front.server.acceptor


def serve(client: Client, reactor: StandIn) -> None:
    client.send(get())
    reactor.reply(reactor.request()[0])
    assert client.response().status == 200


def occupy(client: Client, reactor: StandIn) -> int:
    """Put an exchange in flight; return its number."""
    client.send(get())
    return reactor.request()[0]


def complaints(front: Front) -> list[str]:
    return [line for line in front.log if line.startswith("warning")]


def is_closed(client: Client) -> bool:
    """Return whether the connection has ended without an answer, by FIN or reset."""
    try:
        return client.at_end()
    except ConnectionResetError:
        return True


@contextmanager
def accept_fails(monkeypatch: pytest.MonkeyPatch, error: int) -> Iterator[list[int]]:
    """Let accept() fail in the block; the list counts the tries."""
    tries: list[int] = []

    def fail(_: socket.socket) -> None:
        tries.append(error)
        raise OSError(error, "made up")

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "accept", fail)
        yield tries


# No descriptor left -------------------------------------------------------------------------------


@pytest.mark.parametrize("error", SHORTAGES, ids=errno.errorcode.get)
def test_without_descriptors_listeners_rest_and_resume(
    start: Start, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    front = start()
    (reactor,) = front.reactors
    with accept_fails(monkeypatch, error) as tries:
        client = front.connect()
        client.send(get())
        front.settle()
        for _ in range(10):
            front.pass_time(2)
        assert 5 <= len(tries) <= 22, "one try for each rest"
    assert front.silent(client)
    assert complaints(front) == ["warning no connection can be accepted (made up): new ones wait"]
    front.pass_time(3)
    reactor.reply(reactor.request()[0])
    assert client.response().status == 200


def test_a_client_that_leaves_ends_the_rest(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    front = start()
    (reactor,) = front.reactors
    busy = front.connect()
    occupy(busy, reactor)
    with accept_fails(monkeypatch, errno.EMFILE):
        waiting = front.connect()
        waiting.send(get())
        front.settle()
    assert front.silent(waiting)
    busy.reset()
    reactor.message()
    reactor.reply(reactor.request()[0])
    assert waiting.response().status == 200


def test_a_shortage_is_logged_once_a_minute(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    front = start()
    with accept_fails(monkeypatch, errno.EMFILE):
        front.connect()
        for _ in range(25):
            front.pass_time(5)
    assert len(complaints(front)) == 3


def test_without_descriptors_idle_connections_are_closed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = start()
    (reactor,) = front.reactors
    idle = front.connect()
    serve(idle, reactor)
    front.pass_time(2)
    with accept_fails(monkeypatch, errno.EMFILE):
        front.connect()
        front.settle()
    assert is_closed(idle)


@pytest.mark.parametrize("error", [errno.ECONNABORTED, errno.EPROTO, errno.EPERM])
def test_a_connection_that_ends_before_it_is_accepted_is_skipped(
    start: Start, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    front = start()
    (reactor,) = front.reactors
    accept = socket.socket.accept
    failures = [error]

    def fail_once(sock: socket.socket) -> tuple[socket.socket, object]:
        if failures:
            raise OSError(failures.pop(), "made up")
        return accept(sock)

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "accept", fail_once)
        serve(front.connect(), reactor)
    assert not complaints(front)


def test_a_connection_that_cannot_be_watched_is_closed_and_not_counted(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = start(max_connections_per_address=1)
    (reactor,) = front.reactors

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "made up")

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "_on_events", property(fail))
        assert is_closed(front.connect())
    serve(front.connect(), reactor)


# --max-connections --------------------------------------------------------------------------------


def test_connections_beyond_the_limit_wait_until_one_ends(start: Start) -> None:
    front = start()
    (reactor,) = front.reactors
    acceptor(front).connections_max = 2
    first, second, third = (front.connect() for _ in range(3))
    occupy(first, reactor)
    occupy(second, reactor)
    third.send(get())
    front.pass_time(3)
    assert front.silent(third)
    second.reset()
    reactor.message()
    reactor.reply(reactor.request()[0])
    assert third.response().status == 200
    assert complaints(front) == ["warning all 2 connections are taken: new ones wait"]


def test_the_longest_idle_connection_is_closed_first(start: Start) -> None:
    front = start()
    (reactor,) = front.reactors
    acceptor(front).connections_max = 3
    busy, idle, later = (front.connect() for _ in range(3))
    occupy(busy, reactor)
    serve(later, reactor)
    serve(idle, reactor)
    front.pass_time(2)
    serve(later, reactor)
    front.pass_time(2)
    serve(front.connect(), reactor)
    assert is_closed(idle)
    assert front.silent(later)
    assert complaints(front) == ["warning all 3 connections are taken: idle ones make room"]


@pytest.mark.parametrize("head_timeout", [10.0, 0.0])
def test_a_connection_without_a_request_is_idle_from_its_start(
    start: Start, head_timeout: float
) -> None:
    front = start(head_timeout=head_timeout, keep_alive=60.0)
    (reactor,) = front.reactors
    acceptor(front).connections_max = 2
    kept = front.connect()
    serve(kept, reactor)
    front.pass_time(2)
    new = front.connect()
    front.pass_time(2)
    third = front.connect()
    serve(third, reactor)
    assert is_closed(kept)
    serve(new, reactor)


def test_a_connection_just_served_or_accepted_is_not_closed(start: Start) -> None:
    front = start()
    (reactor,) = front.reactors
    acceptor(front).connections_max = 2
    kept, new = front.connect(), front.connect()
    serve(kept, reactor)
    third = front.connect()
    assert front.silent(third)
    serve(kept, reactor)
    serve(new, reactor)
    front.pass_time(3)
    serve(third, reactor)


def test_a_connection_with_an_unread_request_is_not_closed(start: Start) -> None:
    front = start()
    (reactor,) = front.reactors
    acceptor(front).connections_max = 1
    kept = front.connect()
    serve(kept, reactor)
    front.pass_time(2)
    with front.held():
        # The listener's event comes first.
        third = front.connect()
        kept.send(get())
    reactor.reply(reactor.request()[0])
    assert kept.response().status == 200
    front.pass_time(3)
    serve(third, reactor)


def test_the_service_stops_while_listeners_rest(start: Start) -> None:
    front = start()
    (reactor,) = front.reactors
    acceptor(front).connections_max = 1
    client, other = front.connect(), front.connect()
    number = occupy(client, reactor)
    front.settle()
    front.signal(15)
    reactor.reply(number)
    assert client.response().field("connection") == b"close"
    assert is_closed(client)
    assert is_closed(other)


def test_the_search_for_idle_connections_does_not_grow_with_new_ones(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each busy connection is checked once a second, however many new connections arrive."""
    front = start()
    (reactor,) = front.reactors
    busy = 60
    for _ in range(busy):
        occupy(front.connect(), reactor)
    acceptor(front).connections_max = busy
    front.pass_time(2)
    began = time.monotonic()
    looks = 0
    idle_since = Http1.idle_since.fget  # type: ignore[attr-defined]

    def counted(client: Http1) -> float:
        nonlocal looks
        looks += 1
        return float(idle_since(client))

    def make_room() -> None:
        acceptor(front)._make_room("as if one more had come")
        acceptor(front)._resume()

    monkeypatch.setattr(Http1, "idle_since", property(counted))
    for _ in range(100):
        front.call(make_room)
    seconds = time.monotonic() - began
    assert busy <= looks <= busy * (2 + seconds)


def test_closed_connections_are_forgotten(start: Start) -> None:
    """The heap of connections forgets them too."""
    front = start()
    (reactor,) = front.reactors
    acceptor(front).connections_max = 2
    kept = front.connect()
    occupy(kept, reactor)
    serve(front.connect(), reactor)
    for _ in range(20):
        front.pass_time(2)
        serve(front.connect(), reactor)
        front.settle()
        assert len(acceptor(front)._idle._looks or ()) <= 5


# --max-connections-per-address --------------------------------------------------------------------


def test_connections_of_one_address_are_limited(start: Start) -> None:
    front = start(max_connections_per_address=2)
    (reactor,) = front.reactors
    first, second, third = (front.connect() for _ in range(3))
    assert is_closed(third)
    serve(first, reactor)
    serve(second, reactor)
    assert complaints(front) == ["warning 127.0.0.1 has 2 connections already: more are closed"]
    for how in "reset", "finish_sending", "close":
        getattr(first, how)()
        front.settle()
        first = front.connect()
        serve(first, reactor)
        assert is_closed(front.connect())


def test_addresses_are_counted_separately(start: Start) -> None:
    front = start(max_connections_per_address=1)
    (reactor,) = front.reactors
    clients = []
    for host in "127.0.0.1", "127.0.0.2", "127.0.0.3":
        client = front.connect(source=(host, 0))
        serve(client, reactor)
        clients.append(client)
    assert len(acceptor(front)._per_address._counts) == 3
    for client in clients:
        client.close()
    front.settle()
    assert not acceptor(front)._per_address._counts
    assert not acceptor(front)._per_address._networks


def test_the_address_in_a_proxy_header_is_counted(start: Start) -> None:
    """The address of the balancer, which all clients share, is not counted."""
    front = start(proxy_protocol=True, max_connections_per_address=1)
    (reactor,) = front.reactors
    clients = []
    for host, address in [
        ("192.0.2.1", front.tcp),
        ("192.0.2.2", front.tcp),
        ("192.0.2.3", front.unix),
    ]:
        header = f"PROXY TCP4 {host} 127.0.0.1 1 2\r\n".encode()
        client, second = front.connect(address), front.connect(address)
        client.send(header + get())
        reactor.reply(reactor.request()[0])
        assert client.response().status == 200
        second.send(header + get())
        assert is_closed(second)
        clients.append(client)
    assert sorted(acceptor(front)._per_address._counts.values()) == [1, 1, 1]
    for client in clients:
        client.reset()
    front.settle()
    assert not acceptor(front)._per_address._counts
    assert not acceptor(front)._per_address._networks
    assert reactor.silent


def test_trusted_proxies_are_not_counted(start: Start) -> None:
    front = start(max_connections_per_address=1, forwarded_allow_from=parse_networks("127.0.0.2"))
    (reactor,) = front.reactors
    for _ in range(3):
        serve(front.connect(source=("127.0.0.2", 0)), reactor)
    serve(front.connect(source=("127.0.0.1", 0)), reactor)
    assert is_closed(front.connect(source=("127.0.0.1", 0)))


def test_peers_on_unix_sockets_are_not_counted(start: Start) -> None:
    front = start(max_connections_per_address=1)
    (reactor,) = front.reactors
    for _ in range(3):
        serve(front.connect(front.unix), reactor)


def test_addresses_are_not_counted_without_a_limit(start: Start) -> None:
    front = start()
    (reactor,) = front.reactors
    for _ in range(3):
        serve(front.connect(), reactor)
    assert not acceptor(front)._per_address._counts


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("::1", "::2", True),
    ],
)
def test_network(one: str, other: str, same: bool) -> None:
    assert (network(one) == network(other)) is same


def test_many_connections_are_accepted_in_several_turns(start: Start) -> None:
    """There are more of them than one listener accepts in a row."""
    front = start()
    (reactor,) = front.reactors
    with front.held():
        clients = [front.connect() for _ in range(module._ACCEPTS_MAX + 6)]
    front.settle()
    assert len(front.clients) == len(clients)
    serve(clients[-1], reactor)
