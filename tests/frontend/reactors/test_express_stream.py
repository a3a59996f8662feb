"""One exchange in pieces on the express lane: windows, order, and reactors that break them."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from reactor_run.frontend.exchanges.exchange import KEPT_MAX
from reactor_run.native import NATIVE
from reactor_run.protocol.express import (
    ANSWER,
    ANSWER_DONE,
    ASK,
    BEGIN,
    BLOCKED,
    BUFFERED,
    BYTES,
    CANCEL,
    CREDIT_FOR_BODY,
    DONE,
    END,
    EXPRESS_MAX,
    FIN,
    GIVE_BACK,
    GONE,
    INTERIM,
    MOVES,
    STORED,
    WINDOW,
    WITHDRAWN,
    WRITTEN,
    pack_message,
    pack_stored,
)
from reactor_run.pulse import BUFFERS
from tests.frontend.conftest import Start
from tests.frontend.reactors.test_reactor import read_to_end, replacement
from tests.frontend.standin import OK, Front, Pieces, StandIn, answer, get, post, pour
from tests.integration.client import Client
from tests.integration.waiting import eventually

MIB = 1 << 20
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
LARGE = answer(b"x" * 16 * MIB)[: -16 * MIB]
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def begin(
    start: Start, request: bytes = get(), **options: object
) -> tuple[Front, Client, StandIn, Pieces]:
    """Return the exchange of one request. Its head has been read."""
    front = start(**options)
    client = front.connect(front.unix)
    client.send(request)
    pieces = front.reactors[0].pieces()
    pieces.head()
    return front, client, front.reactors[0], pieces


def upload(size: int, *fields: str, method: str = "POST") -> bytes:
    """The head of a request whose body has `size` bytes."""
    return get("/", f"Content-Length: {size}", *fields, method=method)


def is_served(front: Front) -> bool:
    """Return whether another client is served as if nothing had happened."""
    other = front.connect()
    other.send(get("/other"))
    reactor = front.reactors[-1]
    other_pieces = reactor.pieces()
    assert other_pieces.head() == get("/other")
    reactor.reply(other_pieces.number)
    status = other.response().status
    front.settle()
    return status == 200


# Buffers in shared memory -------------------------------------------------------------------------


@pytest.mark.skipif(not NATIVE, reason="without the C extension there are no buffers")
def test_large_pieces_of_a_request_come_in_buffers(start: Start) -> None:
    _front, client, reactor, pieces = begin(start, upload(4 * MIB))
    body = os.urandom(4 * MIB)
    with client.sending([body]):
        assert pieces.exactly(4 * MIB) == body
    assert pieces.buffered > 3 * MIB
    pieces.send(OK)
    assert client.response().status == 200
    # Each is free again.
    assert all(reactor.pulse.request_buffers.space() for _ in range(100))


def test_if_no_buffer_is_free_they_come_over_the_lane(start: Start) -> None:
    front, client, reactor, pieces = begin(start, upload(MIB))
    buffers = reactor.inside.express.buffers if reactor.inside.express else None
    assert buffers is not None
    used = front.call(lambda: [buffers.use() for _ in range(BUFFERS) if buffers.space()])
    body = os.urandom(MIB)
    with client.sending([body]):
        assert pieces.exactly(MIB) == body
    assert not pieces.buffered
    for number in used:
        reactor.pulse.request_buffers.take(number, 0)
    pieces.send(OK)
    assert client.response().status == 200


@pytest.mark.skipif(not NATIVE, reason="without the C extension there are no buffers")
def test_answers_may_be_in_buffers(start: Start) -> None:
    front = start()
    client = front.connect()
    (reactor,) = front.reactors
    buffers = reactor.pulse.answer_buffers

    def store(number: int, kind: int, data: bytes) -> None:
        buffer = buffers.put([data], len(data))
        assert buffer is not None
        reactor.express.sendall(pack_stored(number, kind, buffer, len(data)))

    whole = answer(b"y" * 70_000)
    for _ in range(2 * BUFFERS):
        client.send(get())
        number, _ = reactor.request()
        store(number, ANSWER_DONE, whole)
        assert client.response().body == b"y" * 70_000
    client.send(get())
    pieces = reactor.pieces()
    pieces.head()
    body = os.urandom(200_000)
    pieces.begin(CHUNKED)
    store(pieces.number, BYTES, b"%x\r\n%s\r\n" % (100_000, body[:100_000]))
    store(pieces.number, BYTES, b"%x\r\n%s\r\n0\r\n\r\n" % (100_000, body[100_000:]))
    pieces.end()
    pieces.done()
    assert client.response().body == body
    # One for a client that has left is free again too.
    client.send(get())
    pieces = reactor.pieces()
    client.reset()
    front.settle()
    for _ in range(2 * BUFFERS):
        store(pieces.number, ANSWER, whole)
        front.settle()


@pytest.mark.skipif(not NATIVE, reason="without the C extension there are no buffers")
@pytest.mark.parametrize(
    "message",
    [
        pack_message(1, STORED),
        pack_stored(1, ANSWER_DONE, BUFFERS, 10),
        pack_stored(1, ANSWER_DONE, 0, 10),
        pack_stored(1, DONE, 0, 10),
    ],
)
def test_a_reactor_that_names_a_wrong_buffer_is_killed(start: Start, message: bytes) -> None:
    front, client, reactor, pieces = begin(start, get(method="POST"))
    assert pieces.number == 1
    reactor.express.sendall(message)
    assert client.response("POST").status == 502
    reactor.wait_for_end()
    assert front.reactors


@pytest.mark.skipif(not NATIVE, reason="without the C extension there are no buffers")
def test_a_buffer_of_a_client_that_left_is_freed(start: Start) -> None:
    front, client, _, pieces = begin(start, upload(MIB))
    pieces.credits_body = False
    with client.sending([b"x" * 200_000]):
        front.settle()
    client.reset()
    front.settle()
    kinds = [kind for kind, _ in pieces.reactor.messages_of(pieces.number)]
    assert BUFFERED in kinds
    assert kinds[-1] == GONE


def test_a_chunked_body_in_buffers(start: Start) -> None:
    _front, client, _, pieces = begin(start, get("/", "Transfer-Encoding: chunked", method="POST"))
    body = os.urandom(2 * MIB)
    raw = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    with client.sending([raw + get("/next")]):
        assert pieces.exactly(len(raw)) == raw
    pieces.send(OK)
    assert client.response().status == 200
    number, request = pieces.reactor.request()
    assert request == get("/next")
    pieces.reactor.reply(number)
    assert client.response().status == 200


# The window of a request --------------------------------------------------------------------------


def test_a_client_that_sends_faster_than_its_app_reads_waits(start: Start) -> None:
    """At most WINDOW bytes of the body leave, and not many more are read."""
    front, client, _, pieces = begin(start, upload(8 * MIB))
    pieces.credits_body = False
    body = os.urandom(8 * MIB)
    with client.sending([body]):
        for _ in range(50):
            front.settle()
        assert pieces.unread == WINDOW
        exchange = front.inside.requester.exchange
        assert exchange is not None
        assert exchange.lane is not None
        assert not exchange.lane.out.size
        assert not front.inside.connection.reading
        pieces.credit(1000)
        front.settle()
        assert pieces.unread == WINDOW + 1000
        pieces.credit(MIB)
        for _ in range(50):
            front.settle()
        assert pieces.unread == WINDOW + 1000 + MIB
        pieces.credits_body = True
        pieces.credit(WINDOW)
        assert pieces.exactly(8 * MIB) == body
    pieces.send(OK)
    assert client.response().status == 200


def test_fin_comes_after_the_bytes_that_wait_for_credit(start: Start) -> None:
    front, client, _, pieces = begin(start, upload(WINDOW + 1000))
    pieces.credits_body = False
    with client.sending([b"x" * (WINDOW + 1000)]):
        front.settle()
    client.finish_sending()
    front.settle()
    assert pieces.unread == WINDOW
    assert FIN not in pieces.kinds
    pieces.credit(999)
    front.settle()
    assert pieces.unread == WINDOW + 999
    assert FIN not in pieces.kinds
    pieces.credit(1)
    front.settle()
    pieces.exactly(WINDOW + 1000)
    assert pieces.ended
    pieces.send(OK)
    assert client.response().status == 200


def test_the_head_comes_whole_however_long_it_is(start: Start) -> None:
    fields = [f"X-{number}: {'x' * 8000}" for number in range(7)]
    request = get("/", *fields, "Content-Length: 200000", method="POST")
    assert 50_000 < len(request) < EXPRESS_MAX
    _front, client, _, pieces = begin(start, request)
    client.send(b"y" * 200_000)
    assert pieces.exactly(200_000) == b"y" * 200_000
    pieces.send(OK)
    assert client.response().status == 200


def test_a_collected_body_in_a_file_leaves_within_the_window(start: Start) -> None:
    front = start(interface="wsgi")
    (reactor,) = front.reactors
    body = os.urandom(2 * MIB)
    client = front.connect()
    with client.sending([post(body)]):
        pieces = reactor.pieces()
    pieces.credits_body = False
    head = pieces.head()
    assert head.endswith(b"Content-Length: %d\r\n\r\n" % len(body))
    front.settle()
    # The head went apart from the body.
    assert pieces.unread == WINDOW
    pieces.credit(5)
    front.settle()
    assert pieces.unread == WINDOW + 5
    pieces.credits_body = True
    pieces.credit(WINDOW)
    assert pieces.exactly(len(body)) == body
    assert not pieces.ended
    pieces.send(OK)
    assert client.response().status == 200


def test_an_early_answer_ends_the_body_for_an_app_that_reads_on(start: Start) -> None:
    """The bytes that had no credit are dropped. The app must not wait for them."""
    size = WINDOW + 100_000
    front, client, reactor, pieces = begin(start, upload(size))
    pieces.credits_body = False
    with client.sending([b"x" * (size - 10)]):
        assert eventually(lambda: pieces.unread == WINDOW)
        pieces.send(OK)
        assert client.response().status == 200
    front.settle()
    assert pieces.unread == WINDOW
    pieces.exactly(WINDOW)
    assert pieces.kinds == [FIN]
    pieces.credit(WINDOW)
    front.settle()
    assert pieces.unread == 0
    pieces.done()
    client.send(b"x" * 10)
    client.send(get("/next"))
    assert reactor.pieces().head() == get("/next")


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
def test_an_app_may_read_a_whole_body_after_its_answer(start: Start, interface: str) -> None:
    front = start(interface=interface)
    (reactor,) = front.reactors
    client = front.connect()
    body = os.urandom(MIB)
    client.send(post(body)[:-MIB])
    if interface == "wsgi":
        with client.sending([body]):
            pieces = reactor.pieces()
    else:
        pieces = reactor.pieces()
    pieces.credits_body = False
    pieces.head()
    if interface == "asgi":
        with client.sending([body]):
            pieces.credit(MIB - WINDOW)
            front.settle()
    front.settle()
    size = MIB if interface == "asgi" else WINDOW
    assert pieces.unread == size
    pieces.send(OK)
    assert client.response().status == 200
    pieces.credit(MIB)
    assert pieces.exactly(MIB) == body
    pieces.done()
    front.settle()
    assert front.call(lambda: reactor.inside.in_flight) == 0
    assert is_served(front)


def test_a_whole_answer_ends_a_request_that_still_arrives(start: Start) -> None:
    front, client, reactor, pieces = begin(start, upload(200_000) + b"x" * 10)
    for kind in ANSWER, ANSWER_DONE:
        reactor.reply(pieces.number, OK, kind)
        assert client.response().status == 200
        pieces.exactly(10)
        front.settle()
        pieces.take_all()
        assert pieces.kinds[:1] == [FIN]
        assert front.call(lambda: reactor.inside.in_flight) == (kind == ANSWER)
        pieces.done()
        client.send(b"x" * 199_990)
        client.send(upload(200_000) + b"x" * 10)
        pieces = reactor.pieces()
        pieces.head()
    assert front.call(lambda: reactor.inside.in_flight) == 1


def test_100_continue_lets_the_client_send_its_body(start: Start) -> None:
    _front, client, reactor, pieces = begin(start, upload(10, "Expect: 100-continue"))
    reactor.reply(pieces.number, CONTINUE, INTERIM)
    assert client.informational("POST") == 100
    client.send(b"0123456789")
    assert pieces.exactly(10) == b"0123456789"
    pieces.send(OK)
    assert client.response().status == 200


# Retries of streamed requests ---------------------------------------------------------------------


@pytest.mark.parametrize("spare", [0, 1])
def test_a_streamed_request_is_retried_up_to_a_size(start: Start, spare: int) -> None:
    """The window of the next reactor is a new one."""
    size = KEPT_MAX - len(upload(KEPT_MAX, method="PUT")) + spare
    head = upload(size, method="PUT")
    front, client, reactor, pieces = begin(start, head, replay="idempotent")
    client.send(b"x" * (size - 10))
    pieces.exactly(size - 10)
    reactor.die()
    if spare:
        assert client.response().status == 502
        return
    again = replacement(front).pieces()
    assert again.head() == head
    client.send(b"y" * 10)
    assert again.exactly(size) == b"x" * (size - 10) + b"y" * 10
    again.send(OK)
    assert client.response().status == 200


def test_a_chunked_request_is_kept_up_to_a_size(start: Start) -> None:
    head = get("/", "Transfer-Encoding: chunked", method="PUT")
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    front, client, reactor, pieces = begin(start, head, replay="idempotent")
    for _ in range(KEPT_MAX // len(chunk) + 1):
        client.send(chunk)
        pieces.exactly(len(chunk))
    reactor.die()
    assert client.response().status == 502
    assert replacement(front)


def test_a_queued_request_larger_than_is_kept_arrives_whole(start: Start) -> None:
    front = start(capacities=(1,))
    (reactor,) = front.reactors
    front.connect().send(get("/first"))
    number, _ = reactor.request()
    client = front.connect()
    body = os.urandom(200_000)
    with client.sending([post(body)]):
        for _ in range(20):
            front.settle()
    reactor.reply(number)
    pieces = reactor.pieces()
    pieces.head()
    assert pieces.exactly(len(body)) == body
    reactor.die()
    # It was too large to be kept once it was sent.
    assert client.response().status == 502


def test_a_body_in_a_file_is_sent_again_from_its_begin(start: Start) -> None:
    front = start(interface="wsgi", replay="idempotent")
    (reactor,) = front.reactors
    client = front.connect()
    body = os.urandom(MIB)
    with client.sending([upload(MIB, method="PUT"), body]):
        pieces = reactor.pieces()
    pieces.head()
    assert pieces.exactly(300_000) == body[:300_000]
    reactor.die()
    front.settle()
    front.reactors[-1].ready(10, "wsgi")
    again = front.reactors[-1].pieces()
    again.head()
    assert again.exactly(MIB) == body
    again.send(OK)
    assert client.response().status == 200


def test_after_100_continue_there_is_no_retry(start: Start) -> None:
    front, client, reactor, pieces = begin(
        start, upload(10, "Expect: 100-continue", method="PUT"), replay="idempotent"
    )
    reactor.reply(pieces.number, CONTINUE, INTERIM)
    assert client.informational("PUT") == 100
    reactor.die()
    assert client.response("PUT").status == 502
    assert replacement(front).silent


# Gone, cancelled, withdrawn -----------------------------------------------------------------------


def test_a_client_that_leaves_within_its_body_is_gone(start: Start) -> None:
    front, client, reactor, pieces = begin(start, upload(MIB))
    pieces.credits_body = False
    with client.sending([b"x" * (WINDOW + 10_000)], may_be_cut=True):
        front.settle()
        client.reset()
    front.settle()
    assert pieces.unread <= WINDOW
    assert pieces.kinds == [GONE]
    # Late credit is ignored.
    pieces.credit(WINDOW)
    front.settle()
    assert reactor.silent
    assert front.call(lambda: reactor.inside.in_flight) == 1
    pieces.done()
    front.settle()
    assert front.call(lambda: reactor.inside.in_flight) == 0


def test_a_streamed_request_that_takes_too_long_is_cancelled(start: Start) -> None:
    front, client, _, pieces = begin(
        start, upload(200_000) + b"x" * 10, request_timeout=10.0, body_timeout=0.0
    )
    front.pass_time(12)
    assert client.response().status == 504
    pieces.exactly(10)
    pieces.hear(CANCEL)
    pieces.done()
    assert is_served(front)


def test_a_withdrawn_streamed_request_goes_to_another_reactor(start: Start) -> None:
    front = start(capacities=(10, 10))
    first, second = front.reactors
    front.connect().send(get("/stalls"))
    stalls = first.pieces()
    stalls.head()
    front.settle()
    # The second reactor has more to do, so the upload goes to the first.
    for _ in range(2):
        front.connect().send(get("/other"))
        second.pieces().head()
    client = front.connect()
    client.send(upload(140_000) + b"x" * 10)
    pieces = first.pieces()
    first.stall()
    front.pass_time(0.3)
    if not pieces.closed:
        pytest.fail("it was not withdrawn")
    first.reply(pieces.number, b"", WITHDRAWN)
    again = second.pieces()
    again.head()
    client.send(b"x" * 139_990)
    assert again.exactly(140_000) == b"x" * 140_000
    again.send(OK)
    assert client.response().status == 200
    assert first.inside.express is not None
    assert pieces.number not in first.inside.express.streams


# The window of an answer --------------------------------------------------------------------------


def test_credit_stops_when_the_client_does_not_read_and_comes_back(start: Start) -> None:
    front, client, _, pieces = begin(start)
    pieces.begin(LARGE)
    body = os.urandom(16 * MIB)
    taken = 0
    while sent := pieces.fill_pieces(body[taken:]):
        taken += sent
        front.settle()
    assert pieces.answer_credit == 0
    # The window, the writer up to its high-water mark and one window more, and the kernel.
    assert taken < 1.5 * MIB
    writer = front.inside.connection.writer
    assert writer is not None
    assert writer.waiting <= 768 << 10
    for _ in range(3):
        front.pass_time(1)
    pieces.take_all()
    assert pieces.answer_credit == 0
    got = bytearray()
    size = len(LARGE) + len(body)
    while len(got) < size:
        got += client._sock.recv(MIB)
        front.settle()
        pieces.take_all()
        taken += pieces.fill_pieces(body[taken:])
        front.settle()
        writer = front.inside.connection.writer
        assert writer is None or writer.waiting <= 768 << 10
    assert got == LARGE + body
    pieces.end()
    pieces.done()
    assert is_served(front)


def test_all_bytes_of_an_answer_are_credited_in_time(start: Start) -> None:
    """A fast client: the reactor never waits for credit that does not come."""
    front, client, _, pieces = begin(start)
    pieces.begin(LARGE)
    size = 1 << 16
    with client.sending([]):
        for index in range(256):
            pieces.send_piece(bytes([index]) * size)
            got = 0
            while got < size + (len(LARGE) if index == 0 else 0):
                got += len(client._sock.recv(size))
    front.settle()
    pieces.take_all()
    assert pieces.credited >= 16 * MIB - WINDOW // 4
    pieces.end()


def test_an_answer_beyond_its_window_is_relayed_all_the_same(start: Start) -> None:
    """The reactor breaks its window. The bytes that have come are not lost."""
    _front, client, _, pieces = begin(start)
    body = os.urandom(2 * MIB)
    pieces.begin(answer(body)[: -len(body)])
    with client.sending([]):
        for start_at in range(0, len(body), EXPRESS_MAX):
            pieces.more(body[start_at : start_at + EXPRESS_MAX])
        pieces.end()
        assert client.response().body == body


# Reactors that break the order --------------------------------------------------------------------

BROKEN: list[tuple[str, Callable[[Pieces], None]]] = [
    ("begin without a whole head", lambda pieces: pieces.begin(OK[:20])),
    ("begin with nothing", lambda pieces: pieces.begin(b"")),
    ("begin with nonsense", lambda pieces: pieces.begin(b"nonsense\r\n\r\n")),
    ("begin with a 1xx", lambda pieces: pieces.begin(CONTINUE)),
    ("ask without a whole head", lambda pieces: pieces.begin(OK[:20], ask=True)),
    ("ask with nonsense", lambda pieces: pieces.begin(b"nonsense\r\n\r\n", ask=True)),
    ("begin with too much", lambda pieces: pieces.begin(OK + b"x")),
    ("ask with too much", lambda pieces: pieces.begin(OK + b"x", ask=True)),
    ("bytes first", lambda pieces: pieces.more(b"x")),
    ("end first", lambda pieces: pieces.end()),
    ("abort first", lambda pieces: pieces.abort()),
    ("written first", lambda pieces: pieces.written(1)),
    ("give back first", lambda pieces: pieces.give_back(0)),
    ("blocked first", lambda pieces: pieces.blocked(0)),
    ("moves first", lambda pieces: pieces.moves(0)),
    ("a short credit", lambda pieces: pieces.say(CREDIT_FOR_BODY, b"123")),
    ("a long credit", lambda pieces: pieces.say(CREDIT_FOR_BODY, b"12345678")),
    ("an empty number", lambda pieces: pieces.say(WRITTEN, b"")),
]


@pytest.mark.parametrize("request_", [get(), upload(200_000)], ids=["whole", "streamed"])
@pytest.mark.parametrize("broken", [pytest.param(each, id=name) for name, each in BROKEN])
def test_an_answer_that_breaks_the_order_gives_502(
    start: Start, broken: Callable[[Pieces], None], request_: bytes
) -> None:
    front, client, reactor, pieces = begin(start, request_)
    broken(pieces)
    assert client.response().status == 502
    pieces.hear(GONE)
    # What the reactor says of it later is ignored.
    pieces.begin(OK)
    pieces.more(b"x")
    pieces.end()
    front.settle()
    assert front.call(lambda: reactor.inside.in_flight) == 1
    pieces.done()
    front.settle()
    assert front.call(lambda: reactor.inside.in_flight) == 0
    assert is_served(front)
    assert front.reactors == [reactor]


CUT: list[tuple[str, Callable[[Pieces], None]]] = [
    ("begin twice", lambda pieces: pieces.begin(OK)),
    ("ask after begin", lambda pieces: pieces.begin(OK, ask=True)),
    ("a whole answer", lambda pieces: pieces.say(ANSWER, OK)),
    ("a whole last answer", lambda pieces: pieces.say(ANSWER_DONE, OK)),
    ("written without a grant", lambda pieces: pieces.written(1)),
    ("give back without a grant", lambda pieces: pieces.give_back(1)),
    ("blocked without a grant", lambda pieces: pieces.blocked(1)),
    ("moves without a grant", lambda pieces: pieces.moves(1)),
    ("a short number", lambda pieces: pieces.say(WRITTEN, b"1234")),
    ("a short credit", lambda pieces: pieces.say(CREDIT_FOR_BODY, b"")),
    ("withdrawn", lambda pieces: pieces.say(WITHDRAWN, b"")),
    ("abort", lambda pieces: pieces.abort()),
]


@pytest.mark.parametrize("broken", [pytest.param(each, id=name) for name, each in CUT])
def test_an_answer_that_breaks_the_order_later_is_cut(
    start: Start, broken: Callable[[Pieces], None]
) -> None:
    front, client, reactor, pieces = begin(start)
    part = CHUNKED + b"2\r\nok\r\n"
    pieces.begin(part)
    front.settle()
    broken(pieces)
    assert read_to_end(client) == part
    pieces.hear(GONE)
    pieces.done()
    front.settle()
    assert front.call(lambda: reactor.inside.in_flight) == 0
    assert is_served(front)
    assert front.reactors == [reactor]
    assert reactor.inside.express is not None
    assert not reactor.inside.express.streams


@pytest.mark.parametrize("asks", [False, True])
def test_100_continue_behind_the_head_of_an_answer_is_dropped(start: Start, asks: bool) -> None:
    _front, client, _, pieces = begin(start)
    raw = answer(b"some")
    pieces.begin(raw[:-4] if asks else raw, ask=asks)
    pieces.say(INTERIM, CONTINUE)
    if asks:
        pieces.granted().send(b"some")
        pieces.written(4)
    else:
        pieces.end()
    assert client.response().body == b"some"


@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("body", [b"", b"123", b"12345", b"1234567890"])
def test_an_answer_of_the_wrong_length_is_cut(start: Start, body: bytes, head: bool) -> None:
    """No byte too many reaches the client, which would take it for the next answer."""
    front, client, reactor, pieces = begin(start, get(method="HEAD" if head else "GET"))
    client.send(get("/next"))
    front.settle()
    begin_of_it = answer(b"1234")[:-4]
    pieces.begin(begin_of_it)
    if body:
        pieces.more(body)
    pieces.end()
    data = read_to_end(client) if body or not head else b""
    if head:
        assert data in (begin_of_it, b"")
    else:
        assert data in (begin_of_it, begin_of_it + body[:4])
    front.settle()
    if head and not body:
        # It is complete.
        assert reactor.pieces().head() == get("/next")
        return
    pieces.hear(GONE)
    pieces.done()
    front.settle()
    assert not front.clients
    assert is_served(front)


@pytest.mark.parametrize(
    "kind", [BEGIN, ASK, BYTES, END, ANSWER, INTERIM, WRITTEN, GIVE_BACK, BLOCKED, MOVES]
)
@pytest.mark.parametrize("done", [False, True])
def test_what_comes_after_the_end_is_ignored(start: Start, kind: int, done: bool) -> None:
    front, client, reactor, pieces = begin(start)
    pieces.begin(OK)
    pieces.end()
    assert client.response().status == 200
    if done:
        pieces.done()
    client.send(get("/next"))
    after = reactor.pieces()
    assert after.head() == get("/next")
    pieces.say(kind, b"12345678" if kind in (WRITTEN, GIVE_BACK, BLOCKED, MOVES) else OK)
    assert front.silent(client)
    after.send(answer(b"next"))
    assert client.response().body == b"next"


def test_bad_credit_after_the_answer_harms_no_later_exchange(start: Start) -> None:
    front, client, reactor, pieces = begin(start, upload(200_000) + b"x" * 200_000)
    pieces.send(OK)
    assert client.response().status == 200
    client.send(get("/next"))
    after = reactor.pieces()
    after.head()
    pieces.say(CREDIT_FOR_BODY, b"1")
    assert front.silent(client)
    after.send(answer(b"next"))
    assert client.response().body == b"next"


@pytest.mark.parametrize("kind", [0xDF, 0xF0, 0xFF])
def test_an_unknown_kind_kills_the_reactor(start: Start, kind: int) -> None:
    front, client, reactor, pieces = begin(start, replay="off")
    reactor.express.sendall(pack_message(pieces.number, kind))
    reactor.wait_for_end()
    assert client.response().status == 502
    assert replacement(front)
    assert is_served(front)


def test_done_without_an_answer_gives_502(start: Start) -> None:
    front, client, reactor, pieces = begin(start, upload(200_000) + b"x")
    pieces.say(DONE, b"")
    assert client.response().status == 502
    front.settle()
    assert front.call(lambda: reactor.inside.in_flight) == 0
    assert is_served(front)


def test_a_reactor_that_dies_within_an_answer_cuts_it(start: Start) -> None:
    front, client, reactor, pieces = begin(start)
    pieces.begin(LARGE + b"x" * 100)
    pour(front, pieces, b"")
    pieces.done()
    front.settle()
    reactor.die()
    assert read_to_end(client) == LARGE + b"x" * 100
