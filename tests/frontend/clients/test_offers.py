"""Offers: a reactor writes a whole answer to the client, and tells of it afterwards."""

from __future__ import annotations

from typing import Any

import pytest

from reactor_run.frontend.reactors import express_lane, shared_clients
from reactor_run.native import NATIVE
from reactor_run.offers import OFFERED, WITHDRAWN
from reactor_run.protocol.express import (
    ANSWER,
    ANSWER_DONE,
    ASK,
    CANCEL,
    DONE,
    GONE,
    WITHDRAW,
    WRITTEN_MIN,
    pack_written,
)
from reactor_run.protocol.express import (
    WITHDRAWN as GIVEN_BACK,
)
from reactor_run.pulse import OFFER_SLOTS
from tests.frontend.clients.test_direct import answer_directly, is_closed, write
from tests.frontend.conftest import Start
from tests.frontend.reactors.test_reactor import read_to_end, replacement
from tests.frontend.standin import Front, Pieces, StandIn, answer, get, post
from tests.integration.client import Client

pytestmark = pytest.mark.skipif(not NATIVE, reason="without the C extension there are no offers")

BODY = b"x" * WRITTEN_MIN
RAW = answer(BODY)
HEAD = RAW[: -len(BODY)]


def connect(start: Start, **options: Any) -> tuple[Front, Client, StandIn]:
    """Return a client whose socket the reactor has."""
    front = start(**options)
    client = front.connect()
    reactor = front.reactors[0]
    client.send(get("/first"))
    pieces = reactor.pieces()
    pieces.head()
    answer_directly(pieces, b"first")
    assert client.response().body == b"first"
    front.settle()
    return front, client, reactor


def offered(
    start: Start, request: bytes = get(), **options: Any
) -> tuple[Front, Client, StandIn, Pieces]:
    """Return an exchange with an offer."""
    front, client, reactor = connect(start, **options)
    client.send(request)
    pieces = reactor.pieces()
    pieces.head()
    assert reactor.pulse.offers.state(pieces.number) == OFFERED
    return front, client, reactor, pieces


def take(reactor: StandIn, pieces: Pieces) -> Any:
    """Take the offer; return the client's socket."""
    duplicate = reactor.pulse.offers.take(pieces.number)
    assert duplicate
    return reactor.client(duplicate)


def write_whole(
    reactor: StandIn, pieces: Pieces, raw: bytes = RAW, *, kind: int = ANSWER_DONE
) -> None:
    """Answer as a reactor does that has taken the offer."""
    write(take(reactor, pieces), raw)
    reactor.pulse.offers.written(pieces.number)
    head = raw[: raw.index(b"\r\n\r\n") + 4]
    reactor.express.sendall(pack_written(pieces.number, kind, len(raw), head))


# Whole answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [get(), post(b"body")])
def test_a_whole_answer_is_written_by_the_reactor(start: Start, request_: bytes) -> None:
    front, client, reactor, pieces = offered(start, request_)
    exchange = front.inside.requester.exchange
    assert exchange is not None
    counters = front.inside.requester._context.counters
    grants = counters.grants
    write_whole(reactor, pieces)
    assert client.response().body == BODY
    front.settle()
    assert exchange.status == 200
    assert exchange.bytes_out == len(RAW)
    assert exchange.answer_head == HEAD
    assert front.call(lambda: reactor.inside.in_flight) == 0
    assert counters.grants == grants + 1
    for _ in range(3):
        client.send(get("/next"))
        pieces = reactor.pieces()
        pieces.head()
        write_whole(reactor, pieces)
        assert client.response().body == BODY
    assert reactor.shared == [1]


def test_the_app_may_go_on_after_its_answer(start: Start) -> None:
    front, client, reactor, pieces = offered(start)
    write_whole(reactor, pieces, kind=ANSWER)
    assert client.response().body == BODY
    front.settle()
    assert front.call(lambda: reactor.inside.in_flight) == 1
    client.send(get("/next"))
    following = reactor.pieces()
    following.head()
    write_whole(reactor, following)
    assert client.response().body == BODY
    pieces.done()
    front.settle()
    assert front.call(lambda: reactor.inside.in_flight) == 0


def test_a_reactor_may_answer_over_the_link_all_the_same(start: Start) -> None:
    front, client, reactor, pieces = offered(start)
    reactor.reply(pieces.number)
    assert client.response().body == b"ok"
    client.send(get("/next"))
    pieces = reactor.pieces()
    pieces.head()
    reactor.pulse.offers.refuse(pieces.number)
    pieces.send(RAW)
    assert client.response().body == BODY
    front.settle()


def test_pipelined_requests_are_answered_in_order(start: Start) -> None:
    _front, client, reactor, pieces = offered(start, get() + get("/second") + get("/third"))
    write_whole(reactor, pieces)
    number, request = reactor.request()
    assert request == get("/second")
    reactor.reply(number)
    third = reactor.pieces()
    third.head()
    write_whole(reactor, third)
    assert [client.response().body for _ in range(3)] == [BODY, b"ok", BODY]


def test_an_answer_that_the_client_does_not_take_at_once(start: Start) -> None:
    """It goes on as if it had been granted."""
    front, client, reactor, pieces = offered(start)
    sock = take(reactor, pieces)
    write(sock, RAW[:1000])
    pieces.say(ASK, HEAD)
    pieces.blocked(1000)
    front.settle()
    exchange = front.inside.requester.exchange
    assert exchange is not None
    assert exchange.status == 200
    pieces.moves(1000)
    write(sock, RAW[1000:])
    pieces.written(len(RAW))
    pieces.done()
    assert client.response().body == BODY
    front.settle()
    assert exchange.bytes_out == len(RAW)
    assert front.call(lambda: reactor.inside.in_flight) == 0


def test_the_rest_is_relayed_if_the_reactor_gives_it_back(start: Start) -> None:
    _front, client, reactor, pieces = offered(start)
    write(take(reactor, pieces), RAW[:1000])
    pieces.say(ASK, HEAD)
    pieces.give_back(1000)
    pieces.more(RAW[1000:])
    pieces.end()
    pieces.done()
    assert client.response().body == BODY


@pytest.mark.parametrize("size", [len(RAW) - 1, len(RAW) + 1])
def test_an_answer_of_the_wrong_length_ends_its_connection(start: Start, size: int) -> None:
    front, client, reactor, pieces = offered(start)
    write(take(reactor, pieces), RAW)
    pieces.say(ASK, HEAD)
    pieces.written(size)
    pieces.done()
    assert read_to_end(client) == RAW
    assert not front.clients


@pytest.mark.parametrize(
    "message",
    [
        (ANSWER_DONE, b""),
        (ANSWER_DONE, bytes(19)),
        (ANSWER, b"short"),
        (ASK, HEAD + b"x"),
        (DONE, b""),
    ],
)
def test_a_reactor_that_tells_nonsense_has_its_answer_cut(
    start: Start, message: tuple[int, bytes]
) -> None:
    front, client, reactor, pieces = offered(start)
    write(take(reactor, pieces), HEAD)
    pieces.say(*message)
    assert read_to_end(client) == HEAD
    assert not front.clients


# Who gets an offer --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (get(version="1.0"), WITHDRAWN),
        (get("/", "Connection: close"), WITHDRAWN),
        (post(b"", "X: 1"), OFFERED),
    ],
    ids=["HTTP/1.0", "close", "POST"],
)
def test_requests_with_and_without_an_offer(start: Start, request_: bytes, expected: int) -> None:
    front, client, reactor = connect(start)
    client.send(request_)
    pieces = reactor.pieces()
    pieces.head()
    assert reactor.pulse.offers.state(pieces.number) == expected
    reactor.reply(pieces.number)
    assert client.response().status == 200
    front.settle()


@pytest.mark.parametrize("options", [{"answers": "relay"}, {"request_id": True}])
def test_where_the_front_end_writes_all_answers_there_are_no_offers(
    start: Start, options: dict[str, Any]
) -> None:
    front = start(**options)
    client = front.connect()
    (reactor,) = front.reactors
    for _ in range(express_lane.SHARED_AFTER + 2):
        client.send(get())
        number, _ = reactor.request()
        assert reactor.pulse.offers.state(number) == WITHDRAWN
        reactor.reply(number, RAW)
        assert client.response().body == BODY
    assert not reactor.shared


def test_while_the_service_stops_there_are_no_offers(start: Start) -> None:
    front, client, reactor, pieces = offered(start, get() + get("/second"))
    front.call(front.server.stop)
    write_whole(reactor, pieces)
    assert client.response().body == BODY
    number, _ = reactor.request()
    assert reactor.pulse.offers.state(number) == WITHDRAWN
    reactor.reply(number, RAW)
    last = client.response()
    assert (last.body, last.field("connection")) == (BODY, b"close")


def test_a_connection_with_many_large_answers_gets_offers(start: Start) -> None:
    front = start()
    client = front.connect()
    (reactor,) = front.reactors
    for _ in range(express_lane.SHARED_AFTER):
        client.send(get())
        number, _ = reactor.request()
        assert reactor.pulse.offers.state(number) == WITHDRAWN
        assert not reactor.shared
        reactor.reply(number, RAW)
        assert client.response().body == BODY
    client.send(get())
    pieces = reactor.pieces()
    pieces.head()
    write_whole(reactor, pieces)
    assert client.response().body == BODY
    assert reactor.shared == [1]
    client.close()
    front.settle()
    reactor.hear_all()
    assert not reactor.clients


def test_small_answers_bring_no_offers(start: Start) -> None:
    front = start()
    client = front.connect()
    (reactor,) = front.reactors
    for _ in range(express_lane.SHARED_AFTER + 2):
        client.send(get())
        number, _ = reactor.request()
        reactor.reply(number, RAW[: -len(BODY)].replace(b"16384", b"16") + b"x" * 16)
        assert client.response().body == b"x" * 16
    front.settle()
    assert not reactor.shared


def test_exchanges_with_the_same_words(start: Start) -> None:
    """The later one has no offer until the earlier one is over."""
    front, client, reactor, pieces = offered(start)
    lane = reactor.inside.express
    assert lane is not None
    other = front.connect()
    front.call(lambda: setattr(lane, "carried", lane.carried + OFFER_SLOTS - 2))
    other.send(get("/first"))
    first = reactor.pieces()
    first.head()
    answer_directly(first, b"first")
    assert other.response().body == b"first"
    other.send(get())
    colliding = reactor.pieces()
    colliding.head()
    assert colliding.number == pieces.number + OFFER_SLOTS
    assert reactor.pulse.offers.state(colliding.number) == WITHDRAWN
    reactor.reply(colliding.number)
    write_whole(reactor, pieces)
    assert client.response().body == BODY
    assert other.response().body == b"ok"


def test_the_socket_of_an_exchange_with_an_offer_is_not_closed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_clients, "SHARED_MAX", 1)
    front, client, reactor, pieces = offered(start)
    other = front.connect()
    other.send(get("/other"))
    second = reactor.pieces()
    second.head()
    answer_directly(second, b"other")
    assert other.response().body == b"other"
    front.settle()
    reactor.hear_all()
    assert len(reactor.clients) == 2
    write_whole(reactor, pieces)
    assert client.response().body == BODY


# Who answers in the end ---------------------------------------------------------------------------


def test_a_request_is_retried_if_its_reactor_dies_before_it_takes_the_offer(start: Start) -> None:
    front, client, reactor, pieces = offered(start)
    reactor.die()
    second = replacement(front)
    second.reply(second.request()[0])
    assert client.response().body == b"ok"
    assert pieces.number


@pytest.mark.parametrize("written", [0, 10, len(RAW) - 1])
def test_an_answer_is_cut_if_its_reactor_dies_after_it_has_taken_the_offer(
    start: Start, written: int
) -> None:
    """Nothing is retried, since the client may have a part of the answer."""
    front, client, reactor, pieces = offered(start)
    write(take(reactor, pieces), RAW[:written])
    reactor.die()
    assert read_to_end(client) == RAW[:written]
    assert not front.clients
    second = replacement(front)
    front.settle()
    assert second.silent


def test_a_whole_answer_is_whole_also_if_its_reactor_dies_before_it_tells(start: Start) -> None:
    front, client, reactor, pieces = offered(start)
    exchange = front.inside.requester.exchange
    assert exchange is not None
    write(take(reactor, pieces), RAW)
    reactor.pulse.offers.written(pieces.number)
    client.send(get("/next"))
    reactor.die()
    assert client.response().body == BODY
    second = replacement(front)
    number, request = second.request()
    assert request == get("/next")
    second.reply(number)
    assert client.response().body == b"ok"
    assert exchange.ended


@pytest.mark.parametrize("taken", [False, True])
def test_an_answer_that_takes_too_long(start: Start, taken: bool) -> None:
    front, client, reactor, pieces = offered(start, request_timeout=10.0)
    if taken:
        sock = take(reactor, pieces)
        write(sock, RAW[:10])
    front.pass_time(12)
    pieces.hear(CANCEL)
    if taken:
        assert read_to_end(client) == RAW[:10]
        assert is_closed(sock)
    else:
        assert client.response().status == 504
        assert not reactor.pulse.offers.take(pieces.number)
    pieces.done()
    front.settle()
    assert front.call(lambda: reactor.inside.in_flight) == 0


@pytest.mark.parametrize("taken", [False, True])
def test_a_client_that_leaves(start: Start, taken: bool) -> None:
    front, client, reactor, pieces = offered(start)
    sock = take(reactor, pieces) if taken else reactor.client(1)
    client.reset()
    front.settle()
    pieces.hear(GONE)
    assert is_closed(sock)
    pieces.done()
    front.settle()
    assert front.call(lambda: reactor.inside.in_flight) == 0


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("taken", [False, True])
def test_a_request_that_a_stalled_reactor_does_not_begin(
    start: Start, method: str, taken: bool
) -> None:
    """It moves to another one, and the stalled one cannot answer it any more, unless it already
    does."""
    front = start(capacities=(10, 10))
    first, second = front.reactors
    second.stall()
    client = front.connect()
    client.send(get("/first"))
    pieces = first.pieces()
    pieces.head()
    answer_directly(pieces, b"first")
    assert client.response().body == b"first"
    front.connect().send(get("/stalls"))
    stalls = first.pieces()
    stalls.head()
    client.send(get("/", method=method))
    pieces = first.pieces()
    pieces.head(begin=False)
    first.stall()
    second.end_stall(0.002)
    if taken:
        sock = take(first, pieces)
        write(sock, RAW[:10])
    else:
        assert first.pulse.offers.state(pieces.number) == OFFERED
    front.pass_time(0.3)
    if taken:
        assert second.silent
        write(sock, RAW[10:])
        first.pulse.offers.written(pieces.number)
        first.express.sendall(pack_written(pieces.number, ANSWER_DONE, len(RAW), HEAD))
        assert client.response().body == BODY
        return
    assert not first.pulse.offers.take(pieces.number)
    if method == "POST":
        pieces.hear(WITHDRAW)
        first.reply(pieces.number, b"", GIVEN_BACK)
    second.reply(second.request()[0])
    assert client.response().body == b"ok"
