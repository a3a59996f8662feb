"""Direct answers: a reactor writes the rest of an answer to the client's own socket."""

from __future__ import annotations

import errno
import os
import signal
import socket
from typing import Any

import pytest

from reactor_run.frontend.reactors import shared_clients
from reactor_run.protocol.express import CANCEL, FIN, GONE, GRANT, RELAY, WINDOW
from tests.frontend.conftest import Start
from tests.frontend.reactors.test_reactor import read_to_end, replacement
from tests.frontend.standin import OK, Front, Pieces, StandIn, answer, get, post
from tests.integration.client import Client
from tests.integration.waiting import eventually

MIB = 1 << 20
BODY = b"x" * 100_000
LARGE = 64 * MIB


def begin(
    start: Start, request: bytes = get(), *, unix: bool = False, **options: Any
) -> tuple[Front, Client, StandIn, Pieces]:
    """Return an exchange whose answer has not begun."""
    front = start(**options)
    client = front.connect(front.unix if unix else None)
    client.send(request)
    (reactor, *_) = front.reactors
    pieces = reactor.pieces()
    pieces.head()
    return front, client, reactor, pieces


def ask(pieces: Pieces, size: int) -> None:
    """Begin an answer whose body has `size` bytes, and ask for a grant."""
    pieces.begin(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size, ask=True)


def begin_direct(
    start: Start, size: int = len(BODY), **options: Any
) -> tuple[Front, Client, StandIn, Pieces, socket.socket]:
    """Return an exchange whose answer is granted, with the reactor's duplicate of the socket."""
    front, client, reactor, pieces = begin(start, **options)
    ask(pieces, size)
    return front, client, reactor, pieces, pieces.granted()


def write(sock: socket.socket, data: bytes) -> None:
    """Write to a client's socket as a reactor does: without O_NONBLOCK of its own."""
    while data:
        try:
            data = data[sock.send(data, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            continue


def fill(sock: socket.socket) -> int:
    """Write until the client takes no more; return how many bytes that was."""
    sent = 0
    try:
        while True:
            sent += sock.send(bytes(65536), socket.MSG_DONTWAIT)
    except BlockingIOError:
        return sent


def is_closed(sock: socket.socket) -> bool:
    """Return whether the front end has ended the connection of a duplicate, so that no byte can be
    written to it."""
    try:
        sock.send(b"x", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return False


def answer_directly(pieces: Pieces, body: bytes) -> socket.socket:
    """Answer one exchange directly; return the client's socket."""
    ask(pieces, len(body))
    sock = pieces.granted()
    write(sock, body)
    pieces.written(len(body))
    pieces.done()
    return sock


# The grant ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("unix", [False, True])
def test_an_answer_is_written_by_the_reactor(start: Start, unix: bool) -> None:
    front = start()
    client = front.connect(front.unix if unix else None)
    (reactor,) = front.reactors
    body = os.urandom(MIB)
    client.send(get())
    pieces = reactor.pieces()
    pieces.head()
    with client.sending([]):
        ask(pieces, len(body))
        sock = pieces.granted()
        assert not os.get_blocking(sock.fileno())
        half = len(body) // 2
        got = bytearray()
        for piece in body[:half], body[half:]:
            while piece:
                try:
                    piece = piece[sock.send(piece, socket.MSG_DONTWAIT) :]
                except BlockingIOError:
                    got += client._sock.recv(MIB)
        while len(got) < len(body):
            got += client._sock.recv(MIB)
    assert got.endswith(body[-1000:])
    pieces.written(len(body))
    pieces.done()
    front.settle()
    assert front.call(lambda: reactor.inside.in_flight) == 0
    client.send(get("/next"))
    reactor.reply(reactor.request()[0])
    front.settle()
    assert client._sock.recv(MIB) == OK


def test_the_head_is_there_before_the_reactor_writes(start: Start) -> None:
    """Also the bytes of the body that came with it."""
    _front, client, _, pieces = begin(start)
    raw = answer(BODY)
    pieces.begin(raw[:1000], ask=True)
    sock = pieces.granted()
    assert client._sock.recv(MIB) == raw[:1000]
    write(sock, raw[1000:])
    pieces.written(len(raw) - 1000)
    assert len(read_exactly(client, len(raw) - 1000)) == len(raw) - 1000


def read_exactly(client: Client, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = client._sock.recv(size - len(data))
        assert piece, f"the connection ended after {len(data)} bytes"
        data += piece
    return data


def test_the_front_end_writes_nothing_while_a_reactor_does(start: Start) -> None:
    """Not even for requests that it would reject at once, behind the one that is answered."""
    front, client, reactor, pieces, sock = begin_direct(start, 4)
    assert client.begin().status == 200
    client.send(get("/held") + b"nonsense\r\n\r\n")
    assert front.silent(client)
    write(sock, b"some")
    front.settle()
    pieces.written(4)
    pieces.done()
    assert b"".join(client.pieces()) == b"some"
    number, payload = reactor.request()
    assert payload == get("/held")
    reactor.reply(number)
    assert client.response().status == 200
    assert client.response().status == 400
    assert client.at_end()


REFUSED = [
    get("/", "Connection: close"),
    get(version="1.0"),
    get("/", "Connection: keep-alive", version="1.0"),
]


@pytest.mark.parametrize("request_", REFUSED, ids=["close", "1.0", "1.0 keep-alive"])
def test_an_answer_that_may_end_its_connection_is_relayed(start: Start, request_: bytes) -> None:
    _front, client, reactor, pieces = begin(start, request_)
    ask(pieces, len(BODY))
    pieces.hear(RELAY)
    pieces.more(BODY[:50_000])
    pieces.more(BODY[50_000:])
    pieces.end()
    response = client.response()
    assert response.body == BODY
    reactor.hear_all()
    assert not reactor.shared


def test_an_answer_until_close_is_relayed(start: Start) -> None:
    _front, client, _, pieces = begin(start)
    pieces.begin(b"HTTP/1.1 200 OK\r\n\r\n", ask=True)
    pieces.hear(RELAY)
    pieces.more(BODY[:60_000])
    pieces.end()
    assert client.response().body == BODY[:60_000]
    assert client.at_end()


def test_while_the_service_stops_answers_are_relayed(start: Start) -> None:
    front, client, _, pieces = begin(start)
    front.signal(signal.SIGTERM)
    front.settle()
    ask(pieces, 4)
    pieces.hear(RELAY)
    pieces.more(b"some")
    pieces.end()
    pieces.done()
    response = client.response()
    assert (response.body, response.field("connection")) == (b"some", b"close")


def test_an_answer_behind_unsent_bytes_is_relayed(start: Start) -> None:
    """The client has not taken all that came with the head."""
    front, client, _, pieces = begin(start, unix=True)
    raw = answer(b"x" * (2 * MIB))
    pieces.begin(raw[: 900 * 1024], ask=True)
    pieces.hear(RELAY)
    rest = raw[900 * 1024 :]
    sent = pieces.fill_pieces(rest)
    assert sent == WINDOW
    got = b""
    while len(got) < len(raw):
        got += client._sock.recv(MIB)
        front.settle()
        sent += pieces.fill_pieces(rest[sent:])
    assert got == raw
    pieces.end()


def test_if_the_socket_cannot_be_shared_the_answer_is_relayed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    front, client, reactor, pieces = begin(start)

    def fail(_: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "dup", fail)
        ask(pieces, 4)
        pieces.hear(RELAY)
    assert not front.inside.connection.granted
    pieces.more(b"some")
    pieces.end()
    pieces.done()
    assert client.response().body == b"some"
    # The next answer is direct.
    client.send(get())
    pieces = reactor.pieces()
    pieces.head()
    answer_directly(pieces, b"more")
    assert client.response().body == b"more"


def test_a_client_that_left_gets_no_grant(start: Start) -> None:
    front, client, reactor, pieces = begin(start)
    with front.held():
        client.reset()
        ask(pieces, 4)
    front.settle()
    pieces.hear(GONE) if GRANT not in pieces.kinds else None
    pieces.done()
    front.settle()
    assert front.call(lambda: reactor.inside.in_flight) == 0


# The duplicate ------------------------------------------------------------------------------------


def test_the_socket_is_sent_once_for_each_connection_and_reactor(start: Start) -> None:
    front = start(capacities=(1, 1))
    first, second = front.reactors
    client, other = front.connect(), front.connect()
    for _ in range(3):
        client.send(get())
        pieces = first.pieces()
        pieces.head()
        answer_directly(pieces, b"first")
        assert client.response().body == b"first"
        front.settle()
    assert len(first.shared) == 1
    # The first reactor is busy with another connection, so the second one gets a request.
    other.send(get())
    pieces = first.pieces()
    pieces.head()
    for _ in range(2):
        client.send(get())
        more = second.pieces()
        more.head()
        answer_directly(more, b"second")
        assert client.response().body == b"second"
        front.settle()
    assert second.shared == first.shared
    answer_directly(pieces, b"other")
    assert other.response().body == b"other"
    assert len(first.shared) == 2
    assert len(set(first.shared)) == 2


def test_the_duplicates_are_closed_when_the_connection_ends(start: Start) -> None:
    front, client, reactor, pieces, sock = begin_direct(start, 4)
    write(sock, b"some")
    pieces.written(4)
    pieces.done()
    assert client.response().body == b"some"
    assert len(reactor.inside.clients) == 1
    client.finish_sending()
    # The duplicate is open, and keeps nothing open.
    assert client.at_end()
    front.settle()
    assert not front.clients
    assert len(reactor.inside.clients) == 0
    assert sock.fileno() >= 0
    assert is_closed(sock)
    reactor.hear_all()
    assert not reactor.clients
    # The number is not used again.
    again = front.connect()
    again.send(get())
    more = reactor.pieces()
    more.head()
    answer_directly(more, b"again")
    assert again.response().body == b"again"
    assert reactor.shared[1] > reactor.shared[0]


@pytest.mark.parametrize("in_use", [False, True])
def test_the_duplicate_that_was_granted_longest_ago_is_closed(
    start: Start, monkeypatch: pytest.MonkeyPatch, in_use: bool
) -> None:
    monkeypatch.setattr(shared_clients, "SHARED_MAX", 2)
    front = start()
    (reactor,) = front.reactors
    clients = [front.connect() for _ in range(3)]

    def serve(client: Client) -> None:
        client.send(get())
        pieces = reactor.pieces()
        pieces.head()
        answer_directly(pieces, b"some")
        assert client.response().body == b"some"
        front.settle()

    if in_use:
        clients[0].send(get())
        held = reactor.pieces()
        held.head()
        ask(held, 4)
        sock = held.granted()
    else:
        serve(clients[0])
        serve(clients[1])
        # Now the second one was granted longest ago.
        serve(clients[0])
    if in_use:
        serve(clients[1])
    serve(clients[2])
    reactor.hear_all()
    first, second, third = reactor.shared
    if in_use:
        # The first one is in use, so it stays, and the number of duplicates exceeds the limit.
        assert set(reactor.clients) == {first, second, third}
        write(sock, b"held")
        held.written(4)
        assert clients[0].response().body == b"held"
    else:
        assert set(reactor.clients) == {first, third}
        # It is sent again with the next grant, under another number.
        serve(clients[1])
        assert reactor.shared[:3] == [first, second, third]
        (again,) = reactor.shared[3:]
        assert again not in (first, second, third)


def test_a_dead_reactor_holds_no_duplicates(start: Start) -> None:
    front, client, reactor, pieces, sock = begin_direct(start, 4)
    write(sock, b"some")
    pieces.written(4)
    pieces.done()
    assert client.response().body == b"some"
    # A child of the app keeps the duplicate.
    kept = sock.dup()
    reactor.die()
    second = replacement(front)
    client.send(get())
    more = second.pieces()
    more.head()
    answer_directly(more, b"more")
    assert client.response().body == b"more"
    client.finish_sending()
    assert client.at_end()
    kept.close()


# What the reactor says ----------------------------------------------------------------------------


def test_written_bytes_count_in_the_record_and_the_connection_goes_on(start: Start) -> None:
    front, client, reactor, pieces = begin(start, get() + get("/pipelined"))
    exchange = front.inside.requester.exchange
    assert exchange is not None
    raw = answer(BODY)
    pieces.begin(raw[:100], ask=True)
    sock = pieces.granted()
    front.pass_time(3)
    write(sock, raw[100:])
    pieces.written(len(raw) - 100)
    pieces.done()
    number, payload = reactor.request()
    assert payload == get("/pipelined")
    reactor.reply(number)
    assert client.response().body == BODY
    assert client.response().status == 200
    assert exchange.bytes_out == len(raw)
    assert exchange.status == 200
    assert exchange.ended - exchange.first_byte >= 3


def test_the_rest_is_relayed_once_the_grant_is_given_back(start: Start) -> None:
    front, client, reactor, pieces, sock = begin_direct(start)
    exchange = front.inside.requester.exchange
    assert exchange is not None
    head = exchange.bytes_out
    write(sock, BODY[:1000])
    pieces.give_back(1000)
    pieces.more(BODY[1000:60_000])
    front.settle()
    assert not front.inside.connection.granted
    pieces.more(BODY[60_000:])
    pieces.end()
    pieces.done()
    assert client.response().body == BODY
    assert exchange.bytes_out == head + len(BODY)
    counters = front.server.clients.counters
    assert (counters.in_pieces, counters.grants, counters.grants_given_back) == (1, 1, 1)
    # Its duplicate stays for the next grant.
    client.send(get())
    pieces = reactor.pieces()
    pieces.head()
    answer_directly(pieces, b"next")
    assert client.response().body == b"next"
    assert len(reactor.shared) == 1


def test_a_grant_that_is_given_back_for_a_slow_wsgi_client_is_spooled(start: Start) -> None:
    front, client, reactor, pieces, sock = begin_direct(
        start, LARGE, interface="wsgi", answer_spool_size=LARGE
    )
    sent = fill(sock)
    pieces.give_back(sent)
    left = 8 * MIB
    while left:
        left -= pieces.fill_pieces(bytes(left))
        front.settle()
    writer = front.inside.connection.writer
    assert writer is not None
    assert writer.in_file > 4 * MIB
    pieces.done()
    front.settle()
    assert front.call(lambda: reactor.inside.in_flight) == 0
    client.reset()
    front.settle()
    assert not front.clients


def test_fin_of_the_client_is_passed_on_while_a_reactor_writes(start: Start) -> None:
    _front, client, _, pieces, sock = begin_direct(start, 4)
    client.finish_sending()
    pieces.hear(FIN)
    write(sock, b"some")
    pieces.written(4)
    assert client.response().body == b"some"
    assert client.at_end()


def test_a_body_may_arrive_while_a_reactor_writes(start: Start) -> None:
    front, client, _, pieces = begin(start, post(b"x" * 140_000)[:-140_000])
    ask(pieces, 4)
    sock = pieces.granted()
    client.send(b"y" * 140_000)
    assert pieces.exactly(140_000) == b"y" * 140_000
    write(sock, b"some")
    pieces.written(4)
    pieces.done()
    assert client.response().body == b"some"
    client.send(get("/next"))
    front.settle()
    front.reactors[0].pieces()


BREAK = [
    "more",
    "end",
    "begin",
    "ask",
    "whole",
    "short number",
    "withdrawn",
    "abort",
]


@pytest.mark.parametrize("how", BREAK)
def test_a_reactor_that_breaks_its_grant_has_its_answer_cut(start: Start, how: str) -> None:
    """The front end closes the connection, and writes nothing to it."""
    front, client, reactor, pieces, sock = begin_direct(start, 1000)
    write(sock, b"some")
    {
        "more": lambda: pieces.more(b"x"),
        "end": pieces.end,
        "begin": lambda: pieces.begin(OK),
        "ask": lambda: pieces.begin(OK, ask=True),
        "whole": lambda: pieces.say(0xE1, OK),
        "short number": lambda: pieces.say(0xEE, b"x"),
        "withdrawn": lambda: pieces.say(0xE3, b""),
        "abort": pieces.abort,
    }[how]()
    assert client.begin().status == 200
    assert read_to_end(client) in (b"", b"some")
    front.settle()
    assert not front.clients
    assert is_closed(sock)
    pieces.done()
    front.settle()
    assert front.call(lambda: reactor.inside.in_flight) == 0
    assert front.reactors == [reactor]


# The end of a client or a reactor -----------------------------------------------------------------


@pytest.mark.parametrize("child", [False, True])
def test_the_death_of_a_reactor_cuts_what_it_was_writing(start: Start, child: bool) -> None:
    """`child`: a process of the app still holds the client's socket."""
    front, client, reactor, pieces, sock = begin_direct(start, 1000)
    write(sock, b"some")
    assert client.begin().status == 200
    kept = sock.dup() if child else None
    reactor.die()
    front.settle()
    data = read_to_end(client)
    assert len(data) < 1000
    assert not front.clients
    assert pieces.number
    if kept is not None:
        kept.close()


def test_an_answer_that_is_complete_before_its_reactor_dies_is_complete(start: Start) -> None:
    front, client, reactor, pieces, sock = begin_direct(start, 4)
    with front.held():
        write(sock, b"some")
        pieces.written(4)
        reactor.die()
    assert client.response().body == b"some"
    client.send(get("/next"))
    second = replacement(front)
    second.reply(second.request()[0])
    assert client.response().status == 200


@pytest.mark.parametrize("setting", ["request_timeout"])
def test_a_timeout_cuts_an_answer_that_a_reactor_writes(start: Start, setting: str) -> None:
    """A 504 is not possible any more."""
    front, client, _, pieces, sock = begin_direct(start, 1000, **{setting: 10.0})
    write(sock, b"some")
    front.pass_time(12)
    pieces.hear(CANCEL)
    assert client.begin().status == 200
    assert len(read_to_end(client)) < 1000
    assert not front.clients
    assert is_closed(sock)
    pieces.done()


def test_the_grant_ends_the_first_byte_timeout(start: Start) -> None:
    front, client, _, pieces, sock = begin_direct(start, 4, first_byte_timeout=10.0)
    front.pass_time(1000)
    write(sock, b"some")
    pieces.written(4)
    assert client.response().body == b"some"


def test_a_client_that_resets_while_a_reactor_writes_is_gone(start: Start) -> None:
    front, client, reactor, pieces, _ = begin_direct(start, LARGE)
    client.reset()
    front.settle()
    pieces.hear(GONE)
    # What the reactor says of it later is ignored.
    pieces.blocked(10)
    pieces.moves(10)
    pieces.give_back(10)
    pieces.more(b"x")
    pieces.end()
    front.settle()
    assert front.call(lambda: reactor.inside.in_flight) == 1
    pieces.done()
    front.settle()
    assert front.call(lambda: reactor.inside.in_flight) == 0
    reactor.hear_all()
    assert not reactor.clients


def test_a_cut_answer_until_close_on_a_shared_socket_is_a_reset(start: Start) -> None:
    """FIN would look like its end. A duplicate makes SO_LINGER useless."""
    front, client, reactor, pieces, sock = begin_direct(start, 4)
    write(sock, b"some")
    pieces.written(4)
    pieces.done()
    assert client.response().body == b"some"
    client.send(get("/close"))
    pieces = reactor.pieces()
    pieces.head()
    pieces.begin(b"HTTP/1.1 200 OK\r\n\r\npart", ask=True)
    pieces.hear(RELAY)
    assert client.begin().status == 200
    pieces.abort()
    with pytest.raises(ConnectionResetError):
        read_to_end(client)
    front.settle()
    assert sock.fileno() >= 0
    assert not front.clients


def test_a_client_below_the_minimum_rate_is_reset_although_its_socket_is_shared(
    start: Start,
) -> None:
    front, client, _, pieces, sock = begin_direct(start, LARGE, response_timeout=10.0)
    pieces.blocked(fill(sock))
    front.pass_time(12)
    front.pass_time(12)
    assert not front.clients
    with pytest.raises(ConnectionResetError):
        read_to_end(client)
    assert is_closed(sock)
    pieces.hear(GONE)


# Slow clients -------------------------------------------------------------------------------------


def test_a_reactor_that_pauses_does_not_count_against_the_client(start: Start) -> None:
    front, client, _, pieces, sock = begin_direct(start, 4, response_timeout=10.0)
    front.pass_time(100)
    write(sock, b"so")
    front.pass_time(100)
    write(sock, b"me")
    pieces.written(4)
    assert client.response().body == b"some"


def test_a_client_that_takes_nothing_is_waited_for_with_a_limit(start: Start) -> None:
    front, client, reactor, pieces, sock = begin_direct(start, LARGE, response_timeout=10.0)
    sent = fill(sock)
    pieces.blocked(sent)
    front.pass_time(8)
    assert front.clients
    # The client takes bytes again, and the reactor writes them.
    read = 0
    while read < sent:
        read += len(client._sock.recv(MIB))
    assert eventually(lambda: front.inside.connection.transport.unacknowledged == 0)
    pieces.moves(sent)
    front.pass_time(100)
    assert front.clients
    # It blocks for a second time, with a credit of its own.
    sent += fill(sock)
    pieces.blocked(sent)
    front.pass_time(8)
    assert front.clients
    report = front.call(lambda: front.server.status.report())["reactors"][0]
    assert report["waiting_for_client"] == 1
    front.pass_time(4)
    front.pass_time(12)
    assert not front.clients
    assert pieces.closed
    assert any("took too little" in line for line in front.log)
    pieces.done()
    front.settle()
    assert front.call(lambda: reactor.inside.in_flight) == 0


def test_a_client_that_reads_slowly_enough_is_judged_by_its_kernel(start: Start) -> None:
    """The reactor says nothing for minutes, while the client takes the bytes in the buffer."""
    front = start(response_timeout=10.0, min_response_rate=100)
    (reactor,) = front.reactors
    client = front.connect(receive_buffer=4096)
    client.send(get())
    pieces = reactor.pieces()
    pieces.head()
    ask(pieces, LARGE)
    pieces.blocked(fill(pieces.granted()))
    for _ in range(20):
        taken = 0
        while taken < 8000:
            taken += len(client._sock.recv(8000))
        front.pass_time(6)
        assert front.clients


def test_a_client_that_reads_too_slowly_is_cut(start: Start) -> None:
    front = start(response_timeout=10.0, min_response_rate=10_000)
    (reactor,) = front.reactors
    client = front.connect(receive_buffer=4096)
    client.send(get())
    pieces = reactor.pieces()
    pieces.head()
    ask(pieces, LARGE)
    sock = pieces.granted()
    sent = fill(sock)
    pieces.blocked(sent)
    seconds = 0
    while front.clients:
        client._sock.recv(2000)
        front.pass_time(1)
        try:
            sent += fill(sock)
        except OSError:
            break
        pieces.blocked(sent)
        seconds += 1
        assert seconds < 60
    assert seconds >= 9
    front.settle()
    assert not front.clients


def test_a_blocked_exchange_takes_no_capacity(start: Start) -> None:
    front, _client, reactor, pieces, sock = begin_direct(start, LARGE, capacities=(1,))
    other = front.connect()
    other.send(get("/other"))
    front.settle()
    assert front.server.dispatcher.waiting == 1
    pieces.blocked(fill(sock))
    front.pass_time(0.3)
    number, payload = reactor.request()
    assert payload == get("/other")
    reactor.reply(number)
    assert other.response().status == 200


# The end of the service ---------------------------------------------------------------------------


def test_stopping_waits_for_an_answer_that_a_reactor_writes(start: Start) -> None:
    front, client, _, pieces, sock = begin_direct(start, 4)
    front.signal(signal.SIGTERM)
    front.settle()
    write(sock, b"some")
    front.settle()
    assert front.clients
    pieces.written(4)
    pieces.done()
    assert client.response().body == b"some"
    assert client.at_end()


def test_an_answer_that_takes_too_long_is_cut_when_the_service_stops(start: Start) -> None:
    front, client, _, pieces, sock = begin_direct(start, 1000, graceful_timeout=5.0)
    write(sock, b"some")
    front.signal(signal.SIGTERM)
    front.settle()
    front.exit(60)
    assert pieces.number
    assert client.begin().status == 200
    assert len(read_to_end(client)) < 1000


# Shared connections between answers ---------------------------------------------------------------


def after_a_direct_answer(
    start: Start, *, unix: bool = False, **options: Any
) -> tuple[Front, Client, StandIn, socket.socket]:
    """Return an idle connection of which the reactor has a duplicate."""
    front, client, reactor, pieces = begin(start, unix=unix, **options)
    sock = answer_directly(pieces, b"some")
    assert client.response().body == b"some"
    front.settle()
    return front, client, reactor, sock


def test_an_idle_connection_is_closed_although_its_socket_is_shared(start: Start) -> None:
    front, client, _, sock = after_a_direct_answer(start, keep_alive=10.0)
    front.pass_time(12)
    assert client.at_end()
    assert is_closed(sock)


def test_a_shared_connection_lingers_like_others(start: Start) -> None:
    """The client that still sends can read its last answer. Then the connection ends."""
    front, client, _, sock = after_a_direct_answer(start)
    client.send(b"nonsense\r\n\r\n" + b"x" * 1000)
    assert client.response().status == 400
    assert client.at_end()
    client.send(b"x" * 1000)
    front.settle()
    assert [each.connection.state_name for each in front.clients] == ["lingering"]
    front.pass_time(7)
    assert not front.clients
    assert is_closed(sock)


def test_a_cut_answer_on_a_shared_unix_socket_ends_the_connection(start: Start) -> None:
    """A unix socket cannot be disconnected, so it is shut down."""
    front, client, reactor, sock = after_a_direct_answer(start, unix=True)
    client.send(get("/close"))
    pieces = reactor.pieces()
    pieces.head()
    pieces.begin(b"HTTP/1.1 200 OK\r\n\r\npart")
    assert client.begin().status == 200
    pieces.abort()
    front.settle()
    assert not front.clients
    assert is_closed(sock)
    try:
        read_to_end(client)
    except ConnectionResetError:
        pass


def test_a_relayed_answer_may_follow_a_direct_one(start: Start) -> None:
    front, client, reactor, _ = after_a_direct_answer(start)
    client.send(get())
    pieces = reactor.pieces()
    pieces.send(answer(BODY))
    assert client.response().body == BODY
    client.send(get())
    reactor.reply(reactor.pieces().number)
    assert client.response().status == 200
    front.settle()


# Wrong counts -------------------------------------------------------------------------------------


def test_wrong_counts_of_a_blocked_client_do_no_harm(start: Start) -> None:
    front, client, _, pieces, sock = begin_direct(start, 4, response_timeout=10.0)
    for count in 10**15, 0, (1 << 64) - 1, 3:
        pieces.blocked(count)
        front.settle()
    pieces.moves(0)
    pieces.moves(1 << 63)
    front.pass_time(100)
    write(sock, b"some")
    pieces.written(4)
    pieces.done()
    assert client.response().body == b"some"
    client.send(get())
    front.reactors[0].reply(front.reactors[0].request()[0])
    assert client.response().status == 200


@pytest.mark.parametrize("count", [0, 3, 5, (1 << 64) - 1])
@pytest.mark.parametrize("given_back", [False, True])
def test_an_answer_of_the_wrong_length_ends_its_connection(
    start: Start, count: int, given_back: bool
) -> None:
    """Otherwise the client would take the next answer for the rest of it."""
    front, client, reactor, pieces, sock = begin_direct(start, 4)
    client.send(get("/next"))
    front.settle()
    write(sock, b"some"[:count])
    if given_back:
        pieces.give_back(count)
        pieces.end()
    else:
        pieces.written(count)
    assert client.begin().status == 200
    assert len(read_to_end(client)) <= 4
    front.settle()
    pieces.hear(GONE)
    pieces.done()
    front.settle()
    assert not front.clients
    assert reactor.silent
    assert front.reactors == [reactor]


def test_without_a_response_timeout_a_client_may_take_its_time(start: Start) -> None:
    front, _client, _, pieces, sock = begin_direct(start, LARGE, response_timeout=0.0)
    pieces.blocked(fill(sock))
    front.pass_time(100_000)
    assert front.clients
