"""Answers over the express lane, whole and in pieces, and over plain lanes; and invalid ones."""

from __future__ import annotations

import pytest

from reactor_run.protocol.express import ANSWER, ANSWER_DONE, DONE, GONE, pack_message
from tests.frontend.conftest import Start
from tests.frontend.standin import OK, Front, LaneEnd, LinkEnd, StandIn, answer, get, post
from tests.integration.client import Client

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"


def begin(start: Start, request: bytes = get(), **options: object) -> tuple[Front, Client, StandIn]:
    front = start(**options)
    client = front.connect()
    client.send(request)
    return front, client, front.reactors[0]


def begin_lane(
    start: Start, request: bytes = get(), **options: object
) -> tuple[Front, Client, StandIn, LaneEnd]:
    front, client, reactor = begin(start, request, lanes="plain", **options)
    lane = reactor.lane()
    lane.head()
    return front, client, reactor, lane


def begin_link(
    start: Start, request: bytes = get(), **options: object
) -> tuple[Front, Client, StandIn, LinkEnd]:
    front, client, reactor = begin(start, request, **options)
    link = reactor.link()
    link.head()
    return front, client, reactor, link


def read_to_end(client: Client) -> bytes:
    data = b""
    while piece := client._sock.recv(65536):
        data += piece
    return data


# Express ------------------------------------------------------------------------------------------


def test_an_express_answer_is_relayed_as_it_came(start: Start) -> None:
    _, client, reactor = begin(start)
    number, payload = reactor.request()
    assert payload == get()
    reactor.reply(number, answer(b"hello", "x-app: 1"))
    assert client._sock.recv(65536) == answer(b"hello", "x-app: 1")


def test_exchanges_may_be_answered_in_any_order(start: Start) -> None:
    front = start()
    (reactor,) = front.reactors
    clients = [front.connect() for _ in range(5)]
    for index, client in enumerate(clients):
        client.send(get(f"/{index}"))
    for _ in clients:
        number, payload = reactor.request()
        name = payload.split()[1]
        with front.held():
            reactor.reply(number, answer(name), ANSWER)
            reactor.reply(number, b"", DONE)
    for index, client in enumerate(clients):
        assert client.response().body == b"/%d" % index


def test_answers_may_arrive_in_any_pieces(start: Start) -> None:
    front, client, reactor = begin(start)
    number, _ = reactor.request()
    for byte in pack_message(number, ANSWER_DONE, len(OK)) + OK:
        reactor.express.send(bytes([byte]))
        front.settle()
    assert client.response().body == b"ok"


def test_an_app_that_ends_without_an_answer_gives_502(start: Start) -> None:
    front, client, reactor = begin(start)
    number, _ = reactor.request()
    reactor.reply(number, b"", DONE)
    assert client.response().status == 502
    front.settle()
    assert front.call(lambda: reactor.inside.in_flight) == 0
    assert reactor.message() == (number, GONE, b"")
    client.send(get())
    reactor.reply(reactor.request()[0])
    assert client.response().status == 200


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("payload", [b"", b"nonsense"])
def test_an_invalid_express_answer_harms_no_other_exchange(
    start: Start, version: str, payload: bytes
) -> None:
    front, client, reactor = begin(start, get(version=version))
    other = front.connect()
    other.send(get("/other"))
    number, _ = reactor.request()
    second, _ = reactor.request()
    with front.held():
        reactor.reply(number, payload)
        reactor.reply(second)
    assert other.response().status == 200
    if version == "1.0":
        assert client.response().status == 502


# Lanes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (answer(b"hello"), b"hello"),
        (answer(b""), b""),
        (CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"abcde"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", b""),
    ],
)
@pytest.mark.parametrize("bytewise", [False, True])
def test_every_framing_is_relayed_as_it_came(
    start_each: Start, raw: bytes, body: bytes, bytewise: bool
) -> None:
    front, client, reactor, lane = begin_link(start_each)
    if bytewise:
        for index in range(len(raw)):
            lane.send(raw[index : index + 1])
            front.settle()
    else:
        lane.send(raw)
    assert client.response().body == body
    reactor.done(lane)
    front.settle()
    client.send(get("/again"))
    assert reactor.again(lane).head().startswith(b"GET /again")


def test_interim_answers_are_relayed_to_http_1_1_only(start_each: Start) -> None:
    front = start_each()
    (reactor,) = front.reactors
    for version, interim in ("1.1", [102, 103]), ("1.0", []):
        client = front.connect()
        client.send(get(version=version))
        lane = reactor.link()
        lane.head()
        lane.send(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early")
        front.settle()
        lane.send(b" Hints\r\nlink: </a>\r\n\r\n" + OK)
        response = client.response()
        assert response.interim == interim
        assert response.body == b"ok"


def test_head_has_no_body_whatever_its_fields_say(start_each: Start) -> None:
    front, client, reactor, lane = begin_link(start_each, get(method="HEAD"))
    lane.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    assert client.response("HEAD").field("content-length") == b"1000"
    reactor.done(lane)
    front.settle()
    client.send(get(method="HEAD"))
    lane = reactor.again(lane)
    lane.head()
    lane.send(CHUNKED)
    assert client.response("HEAD").status == 200


def test_done_may_arrive_before_the_answer(start: Start) -> None:
    front, client, reactor, lane = begin_lane(start)
    reactor.done(lane)
    front.settle()
    assert front.call(lambda: reactor.inside.in_flight) == 0
    lane.send(OK[:-1])
    front.settle()
    lane.send(OK[-1:])
    assert client.response().body == b"ok"
    client.send(get("/again"))
    assert lane.head().startswith(b"GET /again")


@pytest.mark.parametrize("when", ["before", "within", "after"])
def test_a_dropped_lane_is_closed_once_its_answer_was_read(start: Start, when: str) -> None:
    front, client, reactor, lane = begin_lane(start)
    if when == "before":
        reactor.drop(lane)
        front.settle()
        assert not lane.ended
    lane.send(OK[:-1])
    front.settle()
    if when == "within":
        reactor.drop(lane)
        front.settle()
        assert not lane.ended
    lane.send(OK[-1:])
    assert client.response().body == b"ok"
    front.settle()
    if when == "after":
        assert not lane.ended
        reactor.drop(lane)
        front.settle()
    assert lane.closed
    client.send(get("/again"))
    assert reactor.lane().head().startswith(b"GET /again")


def test_a_drop_for_a_free_lane_is_ignored(start: Start) -> None:
    _, client, reactor, lane = begin_lane(start)
    lane.send(OK)
    reactor.done(lane)
    assert client.response().status == 200
    lane.close()
    reactor.say(drop=[lane.number])
    client.send(get("/again"))
    second = reactor.lane()
    assert second.number != lane.number
    second.head()
    reactor.say(drop=[lane.number, 99])
    second.send(OK)
    assert client.response().status == 200


def test_a_free_lane_that_the_reactor_closes_is_not_used_again(start: Start) -> None:
    front, client, reactor, lane = begin_lane(start)
    lane.send(OK)
    reactor.done(lane)
    assert client.response().status == 200
    front.settle()
    lane.close()
    front.settle()
    client.send(get("/again"))
    assert reactor.lane().head().startswith(b"GET /again")


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("done_first", [True, False])
def test_bytes_after_an_answer_close_only_its_lane(
    start: Start, together: bool, done_first: bool
) -> None:
    front, client, reactor, lane = begin_lane(start)
    if done_first:
        reactor.done(lane)
        front.settle()
    if together:
        lane.send(OK + b"HTTP/1.1 200 OK\r\n")
    else:
        lane.send(OK)
        front.settle()
        lane.send(b"H")
    front.settle()
    assert client.response().body == b"ok"
    if not done_first:
        reactor.done(lane)
        front.settle()
    assert lane.closed
    client.send(get("/again"))
    second = reactor.lane()
    assert second.head().startswith(b"GET /again")
    second.send(answer(b"again"))
    assert client.response().body == b"again"


def test_bytes_after_a_chunked_answer_do_not_reach_the_client(start: Start) -> None:
    front, client, _, lane = begin_lane(start)
    lane.send(CHUNKED + b"2\r\nok\r\n")
    front.settle()
    lane.send(b"0\r\n\r\nexcess")
    assert client.response().body == b"ok"
    assert front.silent(client)


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\nfield: 1\n\n",
        b"HTTP/1.1 200 OK\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"x" * 70000,
        CHUNKED + b"zz\r\n",
    ],
)
def test_an_invalid_answer_gives_502(start: Start, raw: bytes) -> None:
    front, client, reactor, lane = begin_lane(start)
    lane.fill(raw)
    assert client.response().status == 502
    front.settle()
    assert lane.closed
    reactor.drop(lane)
    client.send(get("/again"))
    second = reactor.lane()
    second.head()
    second.send(OK)
    assert client.response().status == 200


@pytest.mark.parametrize("request_", [get(), get(version="1.0"), get(method="HEAD")])
def test_a_lane_that_is_closed_before_an_answer_gives_502(start: Start, request_: bytes) -> None:
    front, client, reactor, lane = begin_lane(start, request_, capacities=(1,))
    lane.send(b"HTTP/1.1 200 O")
    lane.close()
    reactor.drop(lane)
    assert client.response("HEAD" if b"HEAD" in request_ else "GET").status == 502
    front.connect().send(get())
    assert reactor.lane().head()


def test_a_malformed_chunk_cuts_the_answer(start: Start) -> None:
    _, client, _, lane = begin_lane(start)
    lane.send(CHUNKED + b"2\r\nok\r\n")
    client.begin()
    lane.send(b"zz\r\n")
    assert b"\r\n0\r\n" not in read_to_end(client)


@pytest.mark.parametrize("how", ["close", "half_close"])
@pytest.mark.parametrize(
    "cut", [answer(b"x" * 100)[:-1], CHUNKED + b"2\r\nok\r\n", CHUNKED + b"5\r\nok"]
)
def test_a_client_sees_that_its_answer_was_cut(start: Start, cut: bytes, how: str) -> None:
    front, client, reactor, lane = begin_lane(start)
    client.send(get("/pipelined"))
    lane.send(cut)
    front.settle()
    getattr(lane, how)()
    front.settle()
    assert read_to_end(client) == cut
    assert lane.sock.fileno() < 0 or lane.closed
    reactor.drop(lane)
    front.settle()
    assert reactor.silent


def test_an_answer_until_close_ends_with_the_connection(start_each: Start) -> None:
    front, client, reactor, lane = begin_link(start_each, get(version="1.0"))
    lane.send(UNTIL_CLOSE + b"some")
    front.settle()
    lane.send(b" more")
    lane.half_close()
    assert client.response().body == b"some more"
    front.settle()
    if isinstance(lane, LaneEnd):
        assert not lane.closed
    reactor.drop(lane)
    front.settle()
    if isinstance(lane, LaneEnd):
        assert lane.closed
    assert front.call(lambda: reactor.inside.in_flight) == 0


def test_an_answer_until_close_has_connection_close(start_each: Start) -> None:
    _, client, _, lane = begin_link(start_each, get("/", "Connection: keep-alive", version="1.0"))
    lane.send(UNTIL_CLOSE)
    lane.half_close()
    assert client.response().field("connection") == b"close"


@pytest.mark.parametrize("together", [True, False])
def test_a_cut_answer_until_close_is_a_reset(start_each: Start, together: bool) -> None:
    front, client, _, lane = begin_link(start_each, get(version="1.0"))
    if not together:
        lane.send(UNTIL_CLOSE + b"some")
        assert client.begin().status == 200
        lane.close()
    else:
        with front.held():
            lane.send(UNTIL_CLOSE + b"some")
            lane.close()
    with pytest.raises(ConnectionResetError):
        read_to_end(client)


def test_a_reactor_may_answer_a_request_that_it_does_not_read(start: Start) -> None:
    front, client, reactor, lane = begin_lane(start, post(b"x" * 140_000)[:-1])
    with front.held():
        # Closing with bytes unread resets the lane; the answer comes before that.
        lane.send(answer(b"no", status="400 No"))
        lane.close()
        reactor.drop(lane)
    assert client.response().status == 400
    client.send(b"x")
    client.send(get("/again"))
    assert reactor.lane().head().startswith(b"GET /again")


def test_a_lane_is_not_used_again_after_a_part_of_a_request(start: Start) -> None:
    front, client, reactor, lane = begin_lane(start, post(b"x" * 140_000)[:-1])
    lane.exactly(139_999)
    lane.send(OK)
    # The reactor is wrong: it cannot be ready for another request.
    reactor.done(lane)
    assert client.response().status == 200
    front.settle()
    assert lane.closed
    client.send(b"x")
    client.send(get("/again"))
    assert reactor.lane().head().startswith(b"GET /again")


def test_lanes_are_used_again_and_no_more_are_opened_than_needed(start: Start) -> None:
    front = start(lanes="plain")
    (reactor,) = front.reactors
    client = front.connect()
    for _ in range(5):
        client.send(get())
        lane = reactor.lanes[0] if reactor.lanes else reactor.lane()
        lane.head()
        lane.send(OK)
        reactor.done(lane)
        assert client.response().status == 200
        front.settle()
    assert reactor.silent


# Answers in pieces on the express lane ------------------------------------------------------------


def test_an_app_that_is_done_may_still_send_its_answer(start: Start) -> None:
    front, client, reactor = begin(start)
    pieces = reactor.pieces()
    pieces.begin(CHUNKED)
    pieces.done()
    front.settle()
    assert front.call(lambda: reactor.inside.in_flight) == 0
    pieces.more(b"2\r\nok\r\n0\r\n\r\n")
    pieces.end()
    assert client.response().body == b"ok"
    client.send(get("/again"))
    reactor.reply(reactor.request()[0])
    assert client.response().status == 200
    assert reactor.inside.express is not None
    assert not reactor.inside.express.exchanges


def test_an_answer_may_end_before_its_app_is_done(start: Start) -> None:
    front, client, reactor = begin(start)
    pieces = reactor.pieces()
    pieces.begin(OK)
    pieces.end()
    assert client.response().body == b"ok"
    client.send(get("/again"))
    reactor.reply(reactor.request()[0])
    assert client.response().status == 200
    assert front.call(lambda: reactor.inside.in_flight) == 1
    pieces.done()
    front.settle()
    assert front.call(lambda: reactor.inside.in_flight) == 0


def test_a_client_sees_that_its_answer_in_pieces_was_cut(start: Start) -> None:
    front, client, reactor = begin(start)
    pieces = reactor.pieces()
    pieces.begin(CHUNKED + b"2\r\nok\r\n")
    front.settle()
    pieces.abort()
    assert read_to_end(client) == CHUNKED + b"2\r\nok\r\n"
    pieces.hear(GONE)
    pieces.done()
    front.settle()
    assert front.call(lambda: reactor.inside.in_flight) == 0


def test_an_abort_before_the_answer_gives_502(start: Start) -> None:
    front, client, reactor = begin(start)
    pieces = reactor.pieces()
    pieces.abort()
    assert client.response().status == 502
    pieces.hear(GONE)
    pieces.done()
    client.send(get("/again"))
    reactor.reply(reactor.request()[0])
    assert client.response().status == 200
    front.settle()
    assert front.call(lambda: reactor.inside.in_flight) == 0


def test_pieces_for_a_client_that_left_are_dropped(start: Start) -> None:
    front, client, reactor = begin(start)
    pieces = reactor.pieces()
    client.reset()
    front.settle()
    assert pieces.closed
    pieces.begin(CHUNKED)
    pieces.more(b"2\r\nok\r\n0\r\n\r\n")
    pieces.end()
    front.settle()
    assert front.call(lambda: reactor.inside.in_flight) == 1
    pieces.done()
    front.settle()
    assert front.call(lambda: reactor.inside.in_flight) == 0


def test_abandoned_answers_in_pieces_leave_nothing(start: Start) -> None:
    front = start()
    (reactor,) = front.reactors
    for _ in range(3):
        client = front.connect()
        client.send(get())
        pieces = reactor.pieces()
        pieces.begin(CHUNKED)
        client.begin()
        client.reset()
        front.settle()
        assert pieces.closed
        pieces.done()
    front.settle()
    assert reactor.inside.express is not None
    assert not reactor.inside.express.exchanges
    assert not reactor.inside.express.streams
