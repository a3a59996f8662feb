"""The record of an exchange, after each way in which an exchange may end."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from reactor_run.frontend.exchanges.exchange import Exchange
from reactor_run.frontend.exchanges.record import Record
from reactor_run.protocol.express import GONE
from tests.frontend.conftest import Start
from tests.frontend.reactors.test_reactor import replacement
from tests.frontend.standin import OK, Front, answer, get, post
from tests.integration.client import Client

CHUNKED = get("/", "Transfer-Encoding: chunked", method="POST")


def exchange_of(front: Front) -> Exchange:
    """Return the exchange of the only connection."""
    front.settle()
    exchange = front.inside.requester.exchange
    assert exchange is not None
    return exchange


class Reader:
    """An observer. Without one, some facts are not noted."""

    def ended(self, records: Sequence[Record]) -> None:
        assert records


def begin(start: Start, request: bytes, **settings: object) -> tuple[Front, Client, Exchange]:
    front = start(**settings)
    front.call(lambda: front.server.clients.observe(Reader()))
    client = front.connect()
    client.send(request)
    return front, client, exchange_of(front)


def test_the_record_of_a_waiting_request(start: Start) -> None:
    front = start(capacities=(1,))
    first, second = front.connect(), front.connect()
    first.send(get("/first"))
    front.reactors[0].request()
    second.send(get("/second"))
    front.settle()
    (waiting,) = (
        each.requester.exchange
        for each in front.clients
        if each.requester.exchange and each.requester.exchange.reactor is None
    )
    assert waiting.arrived > 0
    assert waiting.bytes_in == len(get("/second"))
    assert (waiting.dispatched, waiting.first_byte, waiting.ended) == (0.0, 0.0, 0.0)
    assert (waiting.status, waiting.tries, waiting.reactor_name, waiting.error) == (0, 0, "", "")


def test_the_record_of_a_whole_answer(start: Start) -> None:
    front, client, record = begin(start, get("/"))
    number, _ = front.reactors[0].request()
    front.pass_time(3)
    front.reactors[0].reply(number, answer(b"no", status="404 Not Found"))
    raw = client.response()
    assert raw.status == 404
    front.settle()
    assert isinstance(record, Record)
    assert record.status == 404
    assert record.bytes_in == len(get("/"))
    assert record.bytes_out == len(answer(b"no", status="404 Not Found"))
    assert record.arrived <= record.dispatched
    assert record.ended - record.dispatched >= 3
    assert record.first_byte == record.ended
    assert (record.tries, record.reactor_name, record.error) == (1, "reactor 1", "")


@pytest.mark.parametrize("lanes", ["express", "plain"])
def test_the_record_of_an_answer_in_pieces(start: Start, lanes: str) -> None:
    front, client, record = begin(start, get("/"), lanes=lanes)
    (reactor,) = front.reactors
    lane = reactor.link()
    lane.head()
    raw = answer(b"x" * 1000)
    lane.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    front.pass_time(2)
    assert record.first_byte == 0.0
    lane.send(raw[:-500])
    front.pass_time(5)
    assert record.ended == 0.0
    lane.send(raw[-500:])
    assert client.informational("GET") == 103
    assert client.response().body == b"x" * 1000
    front.settle()
    assert record.status == 200
    assert record.bytes_out == len(raw)
    assert record.first_byte - record.dispatched >= 2
    assert record.ended - record.first_byte >= 5


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
def test_bytes_of_a_body_count_as_received(start_each: Start, interface: str) -> None:
    chunks = b"5\r\nabcde\r\n" * 3 + b"0\r\n\r\n"
    front, client, record = begin(start_each, CHUNKED, interface=interface)
    client.send(chunks)
    (reactor,) = front.reactors
    lane = reactor.link()
    lane.head()
    if interface == "asgi":
        assert lane.exactly(len(chunks)) == chunks
    lane.send(OK)
    assert client.response().status == 200
    assert record.bytes_in == len(CHUNKED) + len(chunks)


def test_the_record_of_a_retry_names_the_last_reactor(start: Start) -> None:
    front, client, record = begin(start, get("/"))
    front.reactors[0].request()
    front.reactors[0].die()
    second = replacement(front)
    second.reply(second.request()[0])
    assert client.response().status == 200
    assert (record.tries, record.reactor_name, record.error) == (2, "reactor 2", "")


def test_the_record_of_a_post_whose_reactor_died(start: Start) -> None:
    front, client, record = begin(start, post(b"x"))
    number, _ = front.reactors[0].request()
    front.reactors[0].begin(number)
    front.reactors[0].die()
    assert client.response().status == 502
    assert (record.status, record.error) == (502, "Bad Gateway")
    assert record.ended >= record.dispatched > 0


def test_the_record_of_a_timeout(start: Start) -> None:
    front, client, record = begin(start, get("/"), request_timeout=5.0)
    number, _ = front.reactors[0].request()
    front.reactors[0].begin(number)
    front.pass_time(6)
    front.pass_time(6)
    assert client.response().status == 504
    assert (record.status, record.error) == (504, "Gateway Timeout")


def test_the_record_of_a_client_that_left(start: Start) -> None:
    front, client, record = begin(start, get("/"))
    number, _ = front.reactors[0].request()
    client.reset()
    assert front.reactors[0].message() == (number, GONE, b"")
    assert (record.status, record.bytes_out, record.error) == (0, 0, "the client left")
    assert record.ended > 0


def test_the_record_of_a_rejected_body(start: Start) -> None:
    front, client, record = begin(start, CHUNKED, interface="wsgi")
    client.send(b"nonsense\r\n")
    assert client.response().status == 400
    front.settle()
    assert record.status == 400
    assert record.error
    assert record.tries == 0
