"""Slow clients: the minimum rate, and when time does not count against a client."""

from __future__ import annotations

import signal
from math import inf

import pytest

from reactor_run.frontend.clients.min_rate import MinimumRate
from tests.frontend.conftest import Start
from tests.frontend.standin import OK, Front, LinkEnd, StandIn, answer, get, post, pour
from tests.integration.client import Client
from tests.integration.waiting import eventually

LARGE = 1 << 20
CONTINUE = "Expect: 100-continue"


def begin(start: Start, **options: object) -> tuple[Front, Client, StandIn]:
    front = start(**options)
    return front, front.connect(), front.reactors[0]


# The rate itself ----------------------------------------------------------------------------------


def test_bytes_earn_time() -> None:
    rate = MinimumRate(30, 100)
    assert rate.due == inf
    rate.begin(1000)
    assert rate.due == 1030
    rate.moved(500, 1010)
    assert rate.due == 1035
    rate.moved(100_000, 1010)
    assert rate.due == 1040, "never more than the full measure"
    rate.moved(0, 1030)
    assert rate.due == 1040
    rate.rest()
    assert rate.due == inf
    rate.moved(1, 1050)
    assert rate.due == 1080


def test_without_a_rate_any_byte_earns_the_full_credit() -> None:
    rate = MinimumRate(30, 0)
    rate.begin(1000)
    rate.moved(1, 1029)
    assert rate.due == 1059
    rate.moved(0, 1040)
    assert rate.due == 1059


def test_without_a_timeout_the_credit_never_ends() -> None:
    rate = MinimumRate(0, 100)
    rate.begin(1000)
    rate.moved(1, 1029)
    assert rate.due == inf


# Heads --------------------------------------------------------------------------------------------


def test_the_head_timeout_of_a_pipelined_request_begins_with_its_turn(start: Start) -> None:
    """It does not begin when the first byte arrives: another request is served then."""
    front, client, reactor = begin(start, head_timeout=10.0)
    client.send(get() + b"GET /second")
    number, _ = reactor.request()
    front.pass_time(60)
    reactor.reply(number)
    assert client.response().status == 200
    for byte in b"TP/1":
        front.pass_time(2)
        client.send(bytes([byte]))
    assert front.silent(client)
    front.pass_time(4)
    assert client.response().status == 408


# Bodies -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
@pytest.mark.parametrize("lanes", ["express", "plain"])
def test_a_body_below_the_minimum_rate_is_rejected(
    start: Start, interface: str, lanes: str
) -> None:
    front, client, _ = begin(
        start, interface=interface, lanes=lanes, body_timeout=10.0, min_body_rate=100
    )
    client.send(post(b"x" * LARGE)[:-LARGE])
    seconds = 0
    while front.silent(client):
        client.send(b"x" * 50)
        front.pass_time(1)
        seconds += 1
    assert client.response().status == 408
    # It brings half of what it should: its ten seconds last for twenty.
    assert 18 <= seconds <= 23


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
def test_a_body_that_drips_before_each_check_is_rejected(start: Start, interface: str) -> None:
    """Each time that the loop checks deadlines, a byte has just arrived."""
    front, client, _ = begin(start, interface=interface, body_timeout=10.0, min_body_rate=100)
    client.send(post(b"x" * LARGE)[:-LARGE])
    for _ in range(16):
        with front.held():
            client.send(b"x")
            front.skip_time(1)
        front.settle()
    assert not front.silent(client)
    assert client.response().status == 408


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
def test_a_body_that_comes_fast_enough_may_take_its_time(start_each: Start, interface: str) -> None:
    front, client, reactor = begin(
        start_each, interface=interface, body_timeout=10.0, min_body_rate=400
    )
    client.send(post(b"x" * 160_000)[:-160_000])
    for _ in range(50):
        # It pauses, for nearly as long as it may, and then goes on.
        front.pass_time(8)
        assert front.silent(client)
        client.send(b"x" * 3200)
    lane = reactor.link()
    lane.head()
    assert len(lane.exactly(160_000)) == 160_000
    lane.send(OK)
    reactor.done(lane)
    assert client.response().status == 200


def test_a_fast_client_earns_no_more_than_the_full_credit(start: Start) -> None:
    front, client, _ = begin(start, interface="wsgi", body_timeout=10.0, min_body_rate=1)
    client.send(post(b"x" * LARGE)[: -LARGE // 2])
    sent = LARGE - LARGE // 2
    eventually(
        lambda: any(
            body is not None and body._reader.received == sent
            for body in [each.requester.body for each in front.clients]
        )
    )
    front.pass_time(12)
    assert client.response().status == 408


def test_time_does_not_count_while_the_app_reads_nothing(start_each: Start) -> None:
    front, client, reactor = begin(start_each, body_timeout=10.0)
    client.send(post(b"x" * 4 * LARGE)[: -4 * LARGE])
    lane = reactor.link()
    lane.head()
    with client.sending([b"x" * 4 * LARGE]):
        body = front.inside.requester.body
        assert body is not None
        # The client has filled all that may wait for the app.
        assert eventually(lambda: body.rate.due == inf)
        for _ in range(20):
            front.pass_time(10)
        assert len(lane.exactly(4 * LARGE)) == 4 * LARGE
        lane.send(OK)
        reactor.done(lane)
        assert client.response().status == 200


def test_time_does_not_count_before_a_client_may_send_its_body(start_each: Start) -> None:
    front, client, reactor = begin(start_each, body_timeout=10.0)
    client.send(post(b"x" * 10, CONTINUE)[:-10])
    lane = reactor.link()
    lane.head()
    for _ in range(5):
        front.pass_time(10)
    assert front.silent(client)
    # RFC 8297: hints say nothing about the body.
    lane.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    assert client.informational("POST") == 103
    for _ in range(5):
        front.pass_time(10)
    assert front.silent(client)
    lane.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert client.informational("POST") == 100
    front.pass_time(8)
    assert front.silent(client)
    front.pass_time(4)
    assert client.response("POST").status == 408


def test_time_counts_for_a_client_that_does_not_wait_for_100_continue(start_each: Start) -> None:
    front, client, reactor = begin(start_each, body_timeout=10.0)
    client.send(post(b"x" * 10, CONTINUE)[:-10])
    reactor.link().head()
    front.pass_time(20)
    client.send(b"x")
    front.pass_time(8)
    assert front.silent(client)
    front.pass_time(4)
    assert client.response("POST").status == 408


def test_time_does_not_count_in_the_queue_before_100_continue(start_each: Start) -> None:
    front, client, reactor = begin(
        start_each, capacities=(1,), body_timeout=10.0, queue_timeout=100.0
    )
    other = front.connect()
    other.send(get())
    first = reactor.link()
    first.head()
    client.send(post(b"x" * 10, CONTINUE)[:-10])
    for _ in range(5):
        front.pass_time(10)
    assert front.silent(client)
    first.send(OK)
    reactor.drop(first)
    reactor.link().head()


def test_a_body_that_stops_while_its_early_answer_goes_out(start_each: Start) -> None:
    """The answer is complete, and reaches the client."""
    front = start_each(body_timeout=10.0, response_timeout=100.0)
    (reactor,) = front.reactors
    client = front.connect(front.unix)
    client.send(post(b"x" * 140_000)[:-5])
    lane = reactor.link()
    lane.head()
    lane.send(answer(b"y" * 300_000))
    reactor.drop(lane)
    front.pass_time(12)
    front.settle()
    assert client.response("POST").body == b"y" * 300_000
    assert client.at_end()


# Pipelined uploads --------------------------------------------------------------------------------


def test_an_upload_behind_other_requests_is_read_when_its_turn_comes(start_each: Start) -> None:
    """More bytes arrived with them than are held, so the client was not read meanwhile."""
    front, client, reactor = begin(start_each, interface="wsgi", body_timeout=10.0)
    body = b"x" * LARGE
    with client.sending([get("/first") + post(body)]):
        first = reactor.link()
        first.head()
        for _ in range(20):
            front.settle()
        first.send(OK)
        reactor.drop(first)
        lane = reactor.link()
        assert b"Content-Length: 1048576" in lane.head()
        assert lane.exactly(LARGE) == body
    assert client.response().status == 200


# Answers ------------------------------------------------------------------------------------------


def stream(front: Front, reactor: StandIn, client: Client, size: int) -> LinkEnd:
    """Begin an answer of `size` bytes. The client reads nothing of it."""
    client.send(get())
    lane = reactor.link()
    lane.head()
    lane.send(answer(b"x" * size)[:-size])
    return lane


def let_the_timeout_pass(front: Front) -> None:
    """Let a timeout of ten seconds pass twice: the client's kernel may take bytes once more."""
    for _ in range(2):
        front.pass_time(12)


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
def test_an_answer_taken_below_the_minimum_rate_is_cut(start_each: Start, interface: str) -> None:
    front = start_each(interface=interface, response_timeout=10.0, min_response_rate=10_000)
    (reactor,) = front.reactors
    client = front.connect(receive_buffer=4096)
    lane = stream(front, reactor, client, 16 * LARGE)
    pour(front, lane, b"x" * 16 * LARGE)
    seconds = 0
    while front.clients:
        client._sock.recv(2000, 0)
        front.pass_time(1)
        seconds += 1
        assert seconds < 60
    assert seconds >= 9
    if interface == "asgi":
        assert lane.closed


def test_an_answer_that_is_taken_fast_enough_may_take_its_time(start_each: Start) -> None:
    """The kernel asks for no bytes for minutes, while the client takes those in its buffer."""
    front = start_each(response_timeout=10.0, min_response_rate=100)
    (reactor,) = front.reactors
    client = front.connect(receive_buffer=4096)
    lane = stream(front, reactor, client, 16 * LARGE)
    pour(front, lane, b"x" * 16 * LARGE)
    for _ in range(20):
        taken = 0
        while taken < 8000:
            taken += len(client._sock.recv(8000))
        front.pass_time(6)
        assert front.clients


def test_a_pause_of_the_app_does_not_count_against_the_client(start_each: Start) -> None:
    front = start_each(response_timeout=10.0)
    (reactor,) = front.reactors
    client = front.connect()
    client.send(get())
    lane = reactor.link()
    lane.head()
    lane.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    client.begin()
    pieces = client.pieces()
    for _ in range(10):
        front.pass_time(20)
        lane.send(b"1\r\nx\r\n")
        assert next(pieces) == b"x"


def test_a_body_that_drips_does_not_keep_an_answer_waiting(start_each: Start) -> None:
    """Progress of the body does not extend the deadline of the answer."""
    front = start_each(response_timeout=10.0, body_timeout=10.0, min_body_rate=0)
    (reactor,) = front.reactors
    client = front.connect(front.unix)
    client.send(post(b"x" * 140_000)[:-140_000])
    lane = reactor.link()
    lane.head()
    lane.send(answer(b"x" * 8 * LARGE)[: -8 * LARGE])
    pour(front, lane, b"x" * 8 * LARGE)
    for _ in range(4):
        front.pass_time(3)
        if front.clients:
            client.send(b"x")
    front.pass_time(3)
    assert not front.clients


@pytest.mark.parametrize("head", [b"", b"content-length: 100000000\r\n"], ids=["close", "length"])
def test_a_client_below_the_minimum_rate_is_reset(start_each: Start, head: bytes) -> None:
    """Otherwise the kernel would hold its bytes on, and some answers would look complete."""
    front = start_each(response_timeout=10.0)
    (reactor,) = front.reactors
    client = front.connect(receive_buffer=4096)
    client.send(get(version="1.0"))
    lane = reactor.link()
    lane.head()
    lane.send(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
    pour(front, lane, b"x" * 16 * LARGE)
    let_the_timeout_pass(front)
    with pytest.raises(ConnectionResetError):
        b"".join(iter(lambda: client._sock.recv(65536), b""))


# Interim answers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
def test_interim_answers_wait_for_a_client_that_does_not_read(start: Start, interface: str) -> None:
    front = start(
        interface=interface, lanes="plain", response_timeout=10.0, answer_spool_size=LARGE
    )
    (reactor,) = front.reactors
    client = front.connect(receive_buffer=4096)
    client.send(get())
    lane = reactor.lane()
    lane.head()
    hint = b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n"
    flood = hint * (64 * LARGE // len(hint))
    taken = pour(front, lane, flood)
    assert taken < 16 * LARGE
    waiting = front.inside.connection.writer
    assert waiting is not None
    assert waiting.waiting < 3 * LARGE
    let_the_timeout_pass(front)
    assert lane.closed


# The end of the service ---------------------------------------------------------------------------


def test_stopping_lets_a_client_read_its_last_answer(start: Start) -> None:
    front, client, reactor = begin(start)
    client.send(b"nonsense\r\n\r\n")
    front.settle()
    client.send(b"and more of it")
    front.signal(signal.SIGTERM)
    reactor.die()
    # Still there, and neither closed nor reset.
    front.settle()
    client.send(b"and more")
    assert client.response().status == 400
    assert client.at_end()
    client.close()
    front.exit()


def test_stopping_does_not_wait_for_ever_for_a_client_to_read(start: Start) -> None:
    front, client, reactor = begin(start)
    client.send(b"nonsense\r\n\r\n")
    front.settle()
    front.signal(signal.SIGTERM)
    reactor.die()
    front.settle()
    front.exit(8)
    assert client.response().status == 400


def test_stopping_lets_a_client_that_still_sends_read_its_answer(start_each: Start) -> None:
    front, client, reactor = begin(start_each)
    client.send(post(b"x" * 140_000)[:-500])
    lane = reactor.link()
    lane.head()
    lane.send(answer(b"early", status="200 OK"))
    reactor.drop(lane)
    front.settle()
    front.signal(signal.SIGTERM)
    front.settle()
    client.send(b"x" * 100)
    front.settle()
    client.send(b"x" * 100)
    assert client.response("POST").body == b"early"
    assert client.at_end()
