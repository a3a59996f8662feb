"""HTTP/1.1 connections: pipelining, FIN and reset, bodies, early answers, deadlines, the end."""

from __future__ import annotations

import signal
import socket

import pytest

from reactor_run.frontend.reactors.lane import Lane
from reactor_run.protocol.express import ANSWER, CANCEL, DONE, FIN, GONE
from tests.frontend.conftest import Start
from tests.frontend.standin import OK, Front, LinkEnd, StandIn, answer, get, post, pour
from tests.integration.client import Client

CHUNKED_POST = get("/", "Transfer-Encoding: chunked", method="POST")
CONTINUE = "Expect: 100-continue"
LARGE = 1 << 20


def begin(start: Start, **options: object) -> tuple[Front, Client, StandIn]:
    front = start(**options)
    return front, front.connect(), front.reactors[0]


PART_OF_UPLOAD = post(b"123" + b"x" * 140_000)[:-140_000]
"""Of a body that is too large to be collected for an ASGI app."""


def begin_upload(
    start: Start, request: bytes, **options: object
) -> tuple[Front, Client, StandIn, LinkEnd]:
    """A request that is not whole, so that it goes in pieces; its head has been read."""
    front, client, reactor = begin(start, **options)
    client.send(request)
    lane = reactor.link()
    lane.head()
    return front, client, reactor, lane


# One request after another ------------------------------------------------------------------------


def test_pipelined_requests_are_answered_in_order(start: Start) -> None:
    front, client, reactor = begin(start)
    client.send(b"".join(get(f"/{index}") for index in range(16)))
    for index in range(16):
        number, payload = reactor.request()
        assert payload == get(f"/{index}")
        front.settle()
        assert reactor.silent
        reactor.reply(number, answer(b"%d" % index))
    assert [client.response().body for _ in range(16)] == [b"%d" % index for index in range(16)]


def test_pipelined_requests_may_arrive_in_any_pieces(start: Start) -> None:
    front, client, reactor = begin(start)
    for index in range(3):
        for byte in get(f"/{index}"):
            client.send(bytes([byte]))
            front.settle()
    for index in range(3):
        number, payload = reactor.request()
        assert payload == get(f"/{index}")
        reactor.reply(number)
        assert client.response().status == 200


def test_pipelined_requests_are_read_up_to_a_limit(start: Start) -> None:
    front, client, reactor = begin(start)
    flood = get("/next") * 100_000
    with client.sending([get("/first"), flood], may_be_cut=True):
        number, _ = reactor.request()
        for _ in range(50):
            front.settle()
        assert len(front.inside.held) <= 2 * 65536
        reactor.reply(number)
        assert reactor.request()[1].startswith(b"GET")
        assert client.response().status == 200


def test_requests_behind_an_upload_are_read_up_to_a_limit(start_each: Start) -> None:
    front, client, reactor, lane = begin_upload(start_each, post(b"x" * LARGE)[:-LARGE])
    with client.sending([b"x" * LARGE + get("/next") * 100_000], may_be_cut=True):
        assert len(lane.exactly(LARGE)) == LARGE
        for _ in range(50):
            front.settle()
        assert len(front.inside.held) <= 2 * 65536
        lane.send(OK)
        reactor.done(lane)
        assert client.response().status == 200


def test_connection_close_is_obeyed(start: Start) -> None:
    _, client, reactor = begin(start)
    client.send(get("/", "Connection: close"))
    reactor.reply(reactor.request()[0])
    response = client.response()
    assert response.field("connection") == b"close"
    assert client.at_end()


def test_bytes_after_a_last_request_do_not_destroy_its_answer(start: Start) -> None:
    front, client, reactor = begin(start)
    client.send(get("/", "Connection: close") + get("/ignored"))
    reactor.reply(reactor.request()[0])
    front.settle()
    client.send(b"and more")
    front.settle()
    assert client.response().body == b"ok"
    assert client.at_end()
    assert reactor.silent


def test_http_1_0_is_kept_alive_only_if_asked(start: Start) -> None:
    _front, client, reactor = begin(start)
    client.send(get("/", "Connection: keep-alive", version="1.0"))
    reactor.reply(reactor.request()[0])
    assert client.response().field("connection") == b"keep-alive"
    client.send(get("/", version="1.0"))
    reactor.reply(reactor.request()[0])
    assert client.response().field("connection") == b"close"
    assert client.at_end()


def test_an_empty_connection_is_not_answered(start: Start) -> None:
    front, client, reactor = begin(start)
    client.finish_sending()
    assert client.at_end()
    second = front.connect()
    second.send(b"GET / HT")
    second.finish_sending()
    assert second.at_end()
    assert reactor.silent


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (get("/", "Host: b"), 400),
        (get("/", "Content-Length: 1", "Transfer-Encoding: chunked", method="POST"), 400),
        (get("/" + "x" * 9000), 414),
        (get("/", "X: " + "x" * 9000), 431),
    ],
)
def test_a_rejected_request_is_the_last(start: Start, raw: bytes, status: int) -> None:
    _, client, reactor = begin(start)
    client.send(get("/first") + raw + get("/never"))
    reactor.reply(reactor.request()[0])
    assert client.response().status == 200
    response = client.response()
    assert response.status == status
    assert response.field("connection") == b"close"
    assert client.at_end()
    assert reactor.silent


# FIN and reset ------------------------------------------------------------------------------------


def test_fin_is_passed_on_over_the_express_lane_and_the_answer_relayed(start: Start) -> None:
    _, client, reactor = begin(start)
    client.send(get())
    number, _ = reactor.request()
    client.finish_sending()
    assert reactor.message() == (number, FIN, b"")
    reactor.reply(number)
    assert client.response().body == b"ok"
    assert client.at_end()


def test_fin_in_the_same_segment_is_passed_on_too(start: Start) -> None:
    front, client, reactor = begin(start)
    with front.held():
        client.send(get())
        client.finish_sending()
    number, _ = reactor.request()
    assert reactor.message() == (number, FIN, b"")
    reactor.reply(number)
    assert client.response().body == b"ok"


def test_fin_half_closes_the_lane(start_each: Start) -> None:
    front, client, reactor = begin(start_each)
    client.send(get())
    lane = reactor.link()
    lane.head()
    client.finish_sending()
    front.settle()
    assert lane.ended
    assert not lane.closed
    lane.send(OK)
    reactor.drop(lane)
    assert client.response().body == b"ok"
    assert client.at_end()


def test_fin_counts_after_a_body_that_the_lane_has_not_taken(start_each: Start) -> None:
    body = b"x" * LARGE
    front, client, _reactor, lane = begin_upload(start_each, post(body)[:-LARGE])
    with client.sending([body]):
        front.settle()
    client.finish_sending()
    front.settle()
    assert lane.exactly(LARGE) == body
    front.settle()
    assert lane.ended
    lane.send(OK)
    assert client.response().body == b"ok"


def test_fin_is_passed_on_after_a_body_that_filled_the_lane(start: Start) -> None:
    """The whole body has arrived by then, so its client is still read."""
    front = start(lanes="plain")
    (reactor,) = front.reactors
    client = front.connect(front.unix)
    body = b"x" * 140_000
    client.send(post(body)[: -len(body)])
    lane = reactor.lane()
    lane.head()
    front.settle()
    assert front.inside.requester.exchange is not None
    link = front.inside.requester.exchange.lane
    assert isinstance(link, Lane)
    link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with front.held():
        client.send(body)
    front.settle()
    assert link.out.size
    client.finish_sending()
    front.settle()
    assert lane.exactly(len(body)) == body
    front.settle()
    assert lane.ended
    lane.send(OK)
    assert client.response().body == b"ok"


def test_fin_counts_after_pipelined_requests(start: Start) -> None:
    _, client, reactor = begin(start)
    client.send(get("/0") + get("/1"))
    client.finish_sending()
    number, _ = reactor.request()
    reactor.reply(number)
    assert client.response().status == 200
    number, payload = reactor.request()
    assert payload == get("/1")
    assert reactor.message() == (number, FIN, b"")
    reactor.reply(number)
    assert client.response().status == 200
    assert client.at_end()


@pytest.mark.parametrize("lanes", ["express", "plain"])
def test_fin_within_a_body_is_a_400(start: Start, lanes: str) -> None:
    """The app has the request already, and sees that the client has left."""
    _front, client, reactor, lane = begin_upload(start, PART_OF_UPLOAD, lanes=lanes)
    assert lane.exactly(3) == b"123"
    client.finish_sending()
    response = client.response()
    assert response.status == 400
    assert response.field("connection") == b"close"
    assert client.at_end()
    assert lane.closed
    reactor.drop(lane)


def test_fin_within_a_body_leaves_an_answer_that_has_begun_to_the_app(start_each: Start) -> None:
    front, client, reactor, lane = begin_upload(start_each, PART_OF_UPLOAD)
    assert lane.exactly(3) == b"123"
    lane.send(answer(b"ok")[:-1])
    client.begin()
    client.finish_sending()
    front.settle()
    assert lane.ended
    assert not lane.closed
    lane.send(b"k")
    reactor.drop(lane)
    assert b"".join(client.pieces()) == b"ok"
    assert client.at_end()


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
@pytest.mark.parametrize("lanes", ["express", "plain"])
@pytest.mark.parametrize(
    "cut",
    [
        post(b"0123456789")[:-6],
        post(b"0123456789")[:-10],
        CHUNKED_POST + b"5\r\n01",
        CHUNKED_POST + b"1\r\nx\r\n" * 1000,
        CHUNKED_POST,
        post(b"0123456789", CONTINUE)[:-10],
    ],
    ids=["within", "before", "chunk", "many chunks", "no chunk", "continue"],
)
def test_fin_that_comes_before_its_turn_cuts_a_pipelined_body(
    start: Start, interface: str, lanes: str, cut: bytes
) -> None:
    """The FIN is read while the first exchange is in flight."""
    front, client, reactor = begin(start, interface=interface, lanes=lanes)
    with front.held():
        client.send(get("/first") + cut)
        client.finish_sending()
    front.settle()
    if lanes == "express":
        reactor.reply(reactor.request()[0])
    else:
        lane = reactor.lane()
        lane.head()
        lane.send(OK)
        reactor.done(lane)
    assert client.response().status == 200
    response = client.response()
    assert response.status == 400
    assert response.field("connection") == b"close"
    assert client.at_end()
    front.settle()
    assert not front.clients


def test_fin_within_a_drained_body_closes_the_connection(start_each: Start) -> None:
    _front, client, _reactor, lane = begin_upload(start_each, PART_OF_UPLOAD)
    lane.send(OK)
    assert client.response().status == 200
    client.finish_sending()
    assert client.at_end()


def test_fin_within_a_body_while_its_early_answer_is_still_sent(start_each: Start) -> None:
    front = start_each()
    (reactor,) = front.reactors
    client = front.connect(front.unix)
    client.send(PART_OF_UPLOAD)
    lane = reactor.link()
    lane.head()
    lane.exactly(3)
    raw = answer(b"x" * 400_000)
    while raw:
        raw = raw[lane.fill(raw) :]
        front.settle()
    reactor.drop(lane)
    front.settle()
    assert lane.ended
    client.finish_sending()
    front.settle()
    assert len(client.response().body) == 400_000
    assert client.at_end()


@pytest.mark.parametrize("answered", [False, True])
def test_reset_is_passed_on_over_the_express_lane(start: Start, answered: bool) -> None:
    front, client, reactor = begin(start)
    client.send(get())
    number, _ = reactor.request()
    if answered:
        reactor.reply(number, OK, ANSWER)
        assert client.response().status == 200
    client.reset()
    front.settle()
    if answered:
        assert reactor.silent
    else:
        assert reactor.message() == (number, GONE, b"")
    reactor.reply(number, b"", DONE)


def test_reset_closes_the_lane(start_each: Start) -> None:
    front, client, reactor, lane = begin_upload(start_each, PART_OF_UPLOAD)
    client.reset()
    front.settle()
    assert lane.closed
    reactor.drop(lane)
    front.settle()
    assert front.call(lambda: reactor.inside.in_flight) == 0


def test_reset_within_an_answer_closes_the_lane(start_each: Start) -> None:
    front, client, reactor = begin(start_each)
    client.send(get())
    lane = reactor.link()
    lane.head()
    lane.send(answer(b"x" * LARGE)[:1000])
    client.begin()
    client.reset()
    front.settle()
    assert lane.closed


def test_a_client_that_closes_after_fin_has_left(start: Start) -> None:
    _front, client, reactor = begin(start)
    client.send(get())
    number, _ = reactor.request()
    client.finish_sending()
    assert reactor.message() == (number, FIN, b"")
    client.reset()
    assert reactor.message() == (number, GONE, b"")


def test_a_unix_client_that_closes_has_left(start: Start) -> None:
    front = start()
    (reactor,) = front.reactors
    client = front.connect(front.unix)
    client.send(get())
    number, _ = reactor.request()
    client.close()
    assert reactor.message() == (number, FIN, b"")
    assert reactor.message() == (number, GONE, b"")


# Bodies -------------------------------------------------------------------------------------------


def test_a_body_streams_to_the_app_as_it_arrives(start_each: Start) -> None:
    front, client, reactor, lane = begin_upload(start_each, CHUNKED_POST)
    for piece in b"3\r\nab", b"c\r\n", b"0\r\n", b"\r\n":
        client.send(piece)
        assert lane.exactly(len(piece)) == piece
    client.send(get("/next"))
    front.settle()
    assert lane.silent
    lane.send(OK)
    assert client.response().status == 200
    assert reactor.link().head() == get("/next")
    reactor.done(lane)


def test_a_request_that_outgrows_one_message_goes_in_pieces(start: Start) -> None:
    front, client, reactor = begin(start)
    head = len(post(b"x" * 60_000)) - 60_000
    largest = post(b"x" * (65536 - head))
    with front.held():
        client.send(largest)
    assert reactor.request() == (1, largest)
    reactor.reply(1)
    assert client.response().status == 200
    with client.sending([post(b"x" * (65537 - head))]):
        lane = reactor.link()
        assert len(lane.head()) == head
        lane.exactly(65537 - head)
    front.settle()
    assert reactor.silent


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
@pytest.mark.parametrize("framing", ["length", "chunked", "one chunk"])
def test_a_body_beyond_the_limit_gets_413(start_each: Start, interface: str, framing: str) -> None:
    front, client, reactor = begin(start_each, interface=interface, max_body_size=100)
    if framing == "length":
        client.send(post(b"x" * 101))
    elif framing == "one chunk":
        client.send(CHUNKED_POST + b"65\r\n" + b"x" * 101 + b"\r\n0\r\n\r\n")
    else:
        client.send(CHUNKED_POST)
        for _ in range(11):
            front.settle()
            client.send(b"a\r\n" + b"x" * 10 + b"\r\n")
    response = client.response()
    assert response.status == 413
    assert response.field("connection") == b"close"
    assert client.at_end()
    if reactor.lanes or not reactor.silent:
        lane = reactor.link()
        front.settle()
        assert lane.closed


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_as_large_as_the_limit_is_accepted(
    start: Start, interface: str, chunked: bool
) -> None:
    _front, client, reactor = begin(start, interface=interface, max_body_size=100)
    body = b"x" * 100
    raw = CHUNKED_POST + b"64\r\n" + body + b"\r\n0\r\n\r\n" if chunked else post(body)
    client.send(raw)
    _, payload = reactor.request()
    assert payload.endswith(body if interface == "wsgi" or not chunked else raw)


def test_a_body_beyond_the_limit_cuts_an_answer_that_has_begun(start_each: Start) -> None:
    front, client, _reactor, lane = begin_upload(start_each, CHUNKED_POST, max_body_size=100)
    lane.send(answer(b"x" * 1000)[:100])
    client.begin()
    client.send(b"65\r\n" + b"x" * 101)
    front.settle()
    assert lane.closed
    data = b""
    while piece := client._sock.recv(65536):
        data += piece
    assert len(data) < 1000


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
def test_a_malformed_chunk_gets_400(start: Start, interface: str) -> None:
    front, client, _reactor = begin(start, interface=interface)
    client.send(CHUNKED_POST + b"1\r\na\r\n")
    front.settle()
    client.send(b"zz\r\n")
    assert client.response().status == 400
    assert client.at_end()


# Answers that come early --------------------------------------------------------------------------


def test_a_small_unread_body_keeps_the_connection(start_each: Start) -> None:
    _front, client, reactor, lane = begin_upload(start_each, post(b"x" * 140_000)[:-140_000])
    lane.send(answer(b"no", status="403 No"))
    response = client.response()
    assert response.status == 403
    assert response.field("connection") is None
    client.send(b"x" * 140_000 + get("/next"))
    assert reactor.link().head() == get("/next")


@pytest.mark.parametrize(
    "request_",
    [post(b"x" * LARGE)[:-LARGE], CHUNKED_POST, post(b"x" * 10, CONTINUE)[:-10]],
    ids=["large", "chunked", "expected"],
)
def test_a_large_unread_body_closes_the_connection_after_the_answer(
    start_each: Start, request_: bytes
) -> None:
    front, client, _reactor, lane = begin_upload(start_each, request_)
    lane.send(answer(b"no", status="403 No"))
    front.settle()
    for _ in range(20):
        client.send(b"1\r\nx\r\n")
        front.settle()
    response = client.response()
    assert response.status == 403
    assert response.field("connection") == b"close"
    assert client.at_end()
    assert front.clients
    front.pass_time(7)
    assert not front.clients


def test_a_successful_early_answer_keeps_the_connection(start_each: Start) -> None:
    front, client, reactor, lane = begin_upload(start_each, CHUNKED_POST)
    lane.send(OK)
    assert client.response().field("connection") is None
    client.send(b"3\r\nabc\r\n")
    front.settle()
    client.send(b"0\r\n\r\n" + get("/next"))
    assert reactor.link().head() == get("/next")


def test_the_app_is_told_that_the_rest_of_its_unread_body_will_not_come(start_each: Start) -> None:
    front, client, _reactor, lane = begin_upload(start_each, CHUNKED_POST)
    lane.send(OK)
    assert client.response().status == 200
    front.settle()
    assert lane.ended
    assert not lane.closed
    client.send(b"3\r\nabc\r\n")
    front.settle()
    assert lane.ended


def test_draining_an_endless_body_stops(start_each: Start) -> None:
    front, client, _reactor, lane = begin_upload(start_each, CHUNKED_POST)
    lane.send(OK)
    assert client.response().status == 200
    for _ in range(30):
        client.send(b"4000\r\n" + b"x" * 16384 + b"\r\n")
        front.settle()
    assert client.at_end()


@pytest.mark.parametrize("slow", [False, True])
def test_a_malformed_unread_body_gets_no_second_answer(start_each: Start, slow: bool) -> None:
    front = start_each()
    (reactor,) = front.reactors
    client = front.connect(front.unix)
    client.send(CHUNKED_POST)
    lane = reactor.link()
    lane.head()
    raw = answer(b"x" * (400_000 if slow else 10))
    while raw:
        raw = raw[lane.fill(raw) :]
        front.settle()
    client.send(b"zz\r\n")
    front.settle()
    assert client.response().status == 200
    assert client.at_end()


# Deadlines ----------------------------------------------------------------------------------------


def test_a_connection_that_sends_nothing_is_closed(start: Start) -> None:
    front, client, _ = begin(start, head_timeout=10.0)
    front.pass_time(8)
    assert front.silent(client)
    front.pass_time(4)
    assert client.at_end()


def test_a_slow_head_is_limited_by_the_head_timeout(start: Start) -> None:
    front, client, _ = begin(start, head_timeout=10.0)
    for byte in b"GET / HTTP":
        client.send(bytes([byte]))
        front.pass_time(0.9)
        assert front.silent(client)
    front.pass_time(3)
    response = client.response()
    assert response.status == 408
    assert response.field("connection") == b"close"
    assert client.at_end()


def test_an_idle_connection_is_closed(start: Start) -> None:
    front, client, reactor = begin(start, keep_alive=10.0, head_timeout=100.0)
    for _ in range(3):
        client.send(get())
        reactor.reply(reactor.request()[0])
        assert client.response().status == 200
        front.pass_time(8)
        assert front.silent(client)
    front.pass_time(4)
    assert client.at_end()


def test_a_request_on_an_old_connection_is_its_last(start: Start) -> None:
    front, client, reactor = begin(start, max_connection_age=100.0, keep_alive=300.0)
    for age, connection in (0, None), (90, None), (20, b"close"):
        front.pass_time(age)
        assert front.silent(client)
        client.send(get())
        reactor.reply(reactor.request()[0])
        response = client.response()
        assert (response.status, response.field("connection")) == (200, connection)
    assert client.at_end()


def test_a_request_that_comes_as_its_connection_is_closed_is_served(start: Start) -> None:
    """A proxy may not repeat a POST that it has sent, even if it got no answer."""
    front, client, reactor = begin(start, keep_alive=10.0)
    client.send(get())
    reactor.reply(reactor.request()[0])
    assert client.response().status == 200
    (connection,) = front.clients

    def at_once() -> None:
        client.send(get())
        connection.on_deadline()

    front.call(at_once)
    reactor.reply(reactor.request()[0])
    assert client.response().status == 200
    front.pass_time(12)
    assert client.at_end()


def test_the_head_of_a_later_request_has_its_own_timeout(start: Start) -> None:
    front, client, reactor = begin(start, keep_alive=10.0, head_timeout=5.0)
    client.send(get())
    reactor.reply(reactor.request()[0])
    assert client.response().status == 200
    front.pass_time(8)
    client.send(b"GET")
    front.pass_time(4)
    assert front.silent(client)
    front.pass_time(3)
    assert client.response().status == 408


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
def test_a_body_that_stops_is_rejected(start_each: Start, interface: str) -> None:
    front, client, reactor = begin(
        start_each, interface=interface, body_timeout=10.0, min_body_rate=0
    )
    client.send(post(b"x" * 140_000)[:-140_000])
    for _ in range(3):
        front.pass_time(8)
        assert front.silent(client)
        client.send(b"x")
    front.pass_time(12)
    assert client.response().status == 408
    assert client.at_end()
    if interface == "asgi":
        lane = reactor.link()
        front.settle()
        assert lane.closed


def test_a_body_that_stops_cuts_an_answer_that_has_begun(start_each: Start) -> None:
    front, client, _reactor, lane = begin_upload(start_each, PART_OF_UPLOAD, body_timeout=10.0)
    lane.send(answer(b"x" * 100)[:-1])
    client.begin()
    front.pass_time(12)
    assert lane.closed
    assert front.clients == []


def test_an_unread_body_that_stops_closes_the_connection(start_each: Start) -> None:
    front, client, _reactor, lane = begin_upload(start_each, PART_OF_UPLOAD, body_timeout=10.0)
    lane.send(OK)
    assert client.response().status == 200
    front.pass_time(12)
    assert client.at_end()


def test_an_app_has_no_deadline_by_default(start: Start) -> None:
    front, client, reactor = begin(start)
    client.send(get())
    number, _ = reactor.request()
    front.pass_time(10_000)
    assert front.silent(client)
    reactor.reply(number)
    assert client.response().status == 200


@pytest.mark.parametrize("lanes", ["express", "plain"])
def test_an_app_that_takes_too_long_gives_504_and_keeps_its_place(start: Start, lanes: str) -> None:
    front, client, reactor = begin(start, lanes=lanes, capacities=(1,), request_timeout=10.0)
    client.send(get())
    if lanes == "express":
        number, _ = reactor.request()
    else:
        lane = reactor.lane()
        lane.head()
    front.pass_time(12)
    response = client.response()
    assert response.status == 504
    assert response.field("connection") is None
    assert front.call(lambda: reactor.inside.in_flight) == 1
    client.send(get("/next"))
    front.settle()
    if lanes == "express":
        assert reactor.message() == (number, CANCEL, b"")
        assert reactor.silent
        reactor.reply(number)
        assert reactor.request()[1] == get("/next")
    else:
        assert lane.closed
        assert reactor.hear("cancel") == {"cancel": lane.number}
        reactor.drop(lane)
        assert reactor.lane().head() == get("/next")


def test_an_answer_that_takes_too_long_is_cut(start_each: Start) -> None:
    front, client, reactor = begin(start_each, request_timeout=10.0)
    client.send(get())
    lane = reactor.link()
    lane.head()
    for _ in range(3):
        lane.send(answer(b"x" * 100)[:40])
        front.pass_time(3)
    front.pass_time(3)
    assert lane.closed
    assert not front.clients


def test_a_request_deadline_ends_with_its_request(start: Start) -> None:
    front, client, reactor = begin(start, interface="wsgi", request_timeout=10.0)
    client.send(get())
    reactor.reply(reactor.request()[0])
    assert client.response().status == 200
    front.pass_time(20)
    client.send(post(b"xx")[:-1])
    front.pass_time(5)
    assert front.silent(client)
    client.send(b"x")
    reactor.reply(reactor.request()[0])
    assert client.response().status == 200


def test_a_client_that_takes_nothing_is_closed(start_each: Start) -> None:
    front = start_each(response_timeout=10.0)
    (reactor,) = front.reactors
    client = front.connect(front.unix)
    client.send(get())
    lane = reactor.link()
    lane.head()
    lane.send(answer(b"x" * (8 * LARGE))[:1000])
    for _ in range(3):
        pour(front, lane, b"x" * LARGE)
        front.pass_time(8)
        client._sock.recv(LARGE)
        front.settle()
        assert not lane.closed
    pour(front, lane, b"x" * LARGE)
    front.pass_time(12)
    assert lane.closed
    assert not front.clients


# The end of the service ---------------------------------------------------------------------------


def test_stopping_finishes_only_requests_in_flight(start: Start) -> None:
    front, busy, reactor = begin(start, capacities=(1,))
    idle, partial, queued = front.connect(), front.connect(), front.connect()
    busy.send(get("/busy"))
    number, _ = reactor.request()
    queued.send(get("/queued"))
    partial.send(b"GET / HT")
    idle.send(b"")
    front.settle()
    front.signal(signal.SIGTERM)
    assert idle.at_end()
    assert partial.at_end()
    with pytest.raises(ConnectionRefusedError):
        front.connect()
    reactor.reply(number)
    response = busy.response()
    assert response.body == b"ok"
    assert response.field("connection") == b"close"
    assert busy.at_end()
    reactor.reply(reactor.request()[0])
    assert queued.response().field("connection") == b"close"
    assert 1 <= reactor.hear("stop")["stop"] <= 30
    reactor.die()
    front.exit()


def test_stopping_waits_for_apps_that_have_answered(start: Start) -> None:
    front, client, reactor = begin(start)
    client.send(get())
    number, _ = reactor.request()
    reactor.reply(number, OK, ANSWER)
    assert client.response().status == 200
    front.signal(signal.SIGTERM)
    front.settle()
    assert reactor.silent
    reactor.reply(number, b"", DONE)
    reactor.hear("stop")


def test_stopping_waits_at_most_for_the_graceful_timeout(start: Start) -> None:
    front, client, reactor = begin(start, graceful_timeout=10.0)
    client.send(get())
    reactor.request()
    front.signal(signal.SIGTERM)
    front.pass_time(8)
    assert reactor.silent
    front.pass_time(4)
    assert reactor.hear("stop") == {"stop": 1.0}
    front.exit(6)


def test_a_request_that_has_arrived_is_served_without_a_grace(start: Start) -> None:
    front = start()
    (reactor,) = front.reactors
    client = front.connect()
    front.settle()

    def stop() -> None:
        # The loop has not read it yet.
        client.send(get())
        front.inside.shut(0.0)

    front.call(stop)
    number, _ = reactor.request()
    reactor.reply(number)
    assert client.response().status == 200
