"""Request ids and Server-Timing: what the app sees, what the client gets, what the record has."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from reactor_run.frontend.exchanges.record import Record
from reactor_run.frontend.sockets.networks import parse_networks
from tests.frontend.conftest import Start
from tests.frontend.standin import OK, Front, answer, get, post
from tests.integration.client import Client

MADE = re.compile(r"[0-9a-f]{32}")


class Watcher:
    def __init__(self, front: Front) -> None:
        self.records: list[Record] = []
        front.call(lambda: front.server.clients.observe(self))

    def ended(self, records: Sequence[Record]) -> None:
        self.records += records


def ids_in(head: bytes) -> list[str]:
    """Return the values of all X-Request-ID fields."""
    return [each.decode() for each in re.findall(rb"\r\n(?i:x-request-id):[ \t]*([^\r]*)", head)]


def serve(front: Front, client: Client, request: bytes, reply: bytes = OK) -> tuple[str, bytes]:
    """Send a request and answer it; return its id, and the request as its reactor saw it."""
    client.send(request)
    number, payload = front.reactors[0].request()
    front.reactors[0].reply(number, reply)
    response = client.response()
    assert response.status == 200
    (seen,) = ids_in(payload)
    (told,) = response.all("x-request-id")
    assert told.decode() == seen
    return seen, payload


def test_each_request_has_an_id_of_its_own(start: Start) -> None:
    front = start(request_id=True)
    watcher = Watcher(front)
    client = front.connect()
    ids = []
    for _ in range(10):
        request_id, payload = serve(front, client, get("/a", "X: y"))
        assert MADE.fullmatch(request_id)
        field = f"x-request-id: {request_id}\r\n".encode()
        assert payload.replace(field, b"") == get("/a", "X: y")
        ids.append(request_id)
    front.settle()
    assert [record.request_id for record in watcher.records] == ids
    assert len(set(ids)) == 10
    assert {record.bytes_in for record in watcher.records} == {len(get("/a", "X: y"))}
    assert all(record.bytes_out > len(OK) for record in watcher.records)


FORGED = [
    ("X-Request-ID: forged",),
    ("x-request-id: a", "X-REQUEST-ID: b"),
    ("X-Request-ID:",),
    ("X: y", "X-Request-Id:\tforged", "Z: x-request-id: z"),
]


@pytest.mark.parametrize("fields", FORGED)
def test_a_client_cannot_name_its_id(start: Start, fields: tuple[str, ...]) -> None:
    front = start(request_id=True)
    request_id, payload = serve(front, front.connect(), get("/", *fields))
    assert MADE.fullmatch(request_id)
    assert b"forged" not in payload
    assert (b"Z: x-request-id: z" in payload) is ("Z: x-request-id: z" in fields)


def test_a_trusted_proxy_names_the_id(start: Start) -> None:
    front = start(request_id=True, forwarded_allow_from=parse_networks("127.0.0.1"))
    client = front.connect()
    request = get("/", "X-Request-ID: 7f3c-Abc_1.2~+/=:@", "X-Forwarded-For: 203.0.113.7")
    request_id, payload = serve(front, client, request)
    assert request_id == "7f3c-Abc_1.2~+/=:@"
    assert payload == request
    for fields in (
        (),
        ("X-Request-ID: a", "X-Request-ID: b"),
        ("X-Request-ID: " + "a" * 129,),
        ('X-Request-ID: a"b',),
        ("X-Request-ID: a b",),
    ):
        assert MADE.fullmatch(serve(front, client, get("/", *fields))[0])


def test_bodies_of_each_kind(start_each: Start) -> None:
    front = start_each(request_id=True)
    client = front.connect()
    chunked = get("/", "Transfer-Encoding: chunked", method="POST")
    for request, body in (
        (post(b"abc"), b"abc"),
        (post(b"x" * 200_000), b"x" * 200_000),
        (chunked + b"3\r\nabc\r\n0\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n"),
    ):
        with client.sending([request]):
            lane = front.reactors[0].link()
            (seen,) = ids_in(lane.head())
            assert lane.exactly(len(body)) == body
            lane.send(OK)
            assert client.response().all("x-request-id") == [seen.encode()]


def test_a_collected_body_of_wsgi(start: Start) -> None:
    front = start(request_id=True, interface="wsgi")
    client = front.connect()
    client.send(get("/", "Transfer-Encoding: chunked", method="POST") + b"3\r\nabc\r\n")
    front.settle()
    client.send(b"0\r\n\r\n")
    number, payload = front.reactors[0].request()
    assert payload.endswith(b"\r\n\r\nabc")
    front.reactors[0].reply(number)
    assert [each.encode() for each in ids_in(payload)] == client.response().all("x-request-id")


def test_requests_in_pieces_and_pipelined(start: Start) -> None:
    front = start(request_id=True)
    watcher = Watcher(front)
    client = front.connect()
    request = get("/a") + get("/b") + post(b"abc", path="/c") + get("/d")
    for byte in range(0, len(request), 7):
        client.send(request[byte : byte + 7])
        front.settle()
    ids = []
    for path in "abcd":
        number, payload = front.reactors[0].request()
        assert payload.split(b" ")[1] == f"/{path}".encode()
        ids += ids_in(payload)
        front.reactors[0].reply(number)
        assert client.response().all("x-request-id") == [ids[-1].encode()]
    front.settle()
    assert [record.request_id for record in watcher.records] == ids
    assert len(set(ids)) == 4


def test_a_request_at_each_limit_has_room_for_its_id(start: Start) -> None:
    fields = ["A: " + "a" * 100, "B: b"]
    request = get("/", *fields)
    front = start(request_id=True, limit_field_count=3, limit_head_size=len(request))
    serve(front, front.connect(), request)
    client = front.connect()
    client.send(get("/", *fields, "C: c"))
    assert client.response().status == 431


def test_answers_of_the_front_end_have_an_id(start: Start) -> None:
    front = start(request_id=True, capacities=(1,), queue_size=0)
    watcher = Watcher(front)
    first, second, third = (front.connect() for _ in range(3))
    first.send(get("/"))
    number, _ = front.reactors[0].request()
    second.send(get("/"))
    rejected = second.response()
    third.send(b"GET / HTTP/1.1\r\n\r\n")
    refused = third.response()
    assert (rejected.status, refused.status) == (503, 400)
    front.settle()
    told = [response.all("x-request-id") for response in (rejected, refused)]
    assert told == [[record.request_id.encode()] for record in watcher.records]
    assert all(MADE.fullmatch(record.request_id) for record in watcher.records)
    front.reactors[0].reply(number)
    assert first.response().status == 200


def test_the_apps_own_field_wins(start: Start) -> None:
    front = start(request_id=True)
    client = front.connect()
    client.send(get("/"))
    number, _ = front.reactors[0].request()
    front.reactors[0].reply(number, answer(b"x", "X-Request-Id: mine"))
    assert client.response().all("x-request-id") == [b"mine"]


def test_a_retry_keeps_the_id(start: Start) -> None:
    from tests.frontend.reactors.test_reactor import replacement

    front = start(request_id=True)
    client = front.connect()
    client.send(get("/"))
    _, first = front.reactors[0].request()
    front.reactors[0].die()
    second = replacement(front)
    number, again = second.request()
    second.reply(number)
    assert first == again
    assert [each.encode() for each in ids_in(first)] == client.response().all("x-request-id")


@pytest.mark.parametrize("request_id", [False, True])
def test_direct_answers_and_timing(start: Start, request_id: bool) -> None:
    front = start(request_id=request_id, server_timing=True)
    client = front.connect()
    client.send(get("/"))
    lane = front.reactors[0].pieces()
    lane.head()
    front.pass_time(2)
    raw = answer(b"x" * 1000)
    lane.begin(raw[:-500], ask=True)
    lane.granted().sendall(raw[-500:])
    lane.written(500)
    response = client.response()
    assert response.body == b"x" * 1000
    assert len(response.all("x-request-id")) == request_id
    (timing,) = response.all("server-timing")
    match = re.fullmatch(rb"queue;dur=(\d+\.\d{3}), app;dur=(\d+\.\d{3})", timing)
    assert match is not None
    assert 0 <= float(match[1]) < 1000
    assert 2000 <= float(match[2]) < 3000


def test_timing_in_the_queue(start: Start) -> None:
    front = start(server_timing=True, capacities=(1,), queue_timeout=10.0)
    clients = [front.connect() for _ in range(3)]
    for client in clients:
        client.send(get("/", "Connection: close"))
        front.settle()
    front.pass_time(3)
    times = []
    for client in clients[:2]:
        number, _ = front.reactors[0].request()
        front.reactors[0].reply(number)
        response = client.response()
        assert response.field("connection") == b"close"
        times.append(response.field("server-timing"))
        front.settle()
    front.reactors[0].request()
    for field, least in zip(times, (0, 3000), strict=True):
        assert field is not None
        match = re.match(rb"queue;dur=([\d.]+), app;dur=", field)
        assert match is not None
        assert least <= float(match[1]) < least + 1000
    clients[2].reset()


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_without_the_switches_answers_stay_as_they_are(start: Start, version: str) -> None:
    front = start()
    client = front.connect()
    client.send(get("/", "X-Request-ID: theirs", version=version))
    number, payload = front.reactors[0].request()
    assert payload == get("/", "X-Request-ID: theirs", version=version)
    front.reactors[0].reply(number)
    response = client.response()
    assert response.all("x-request-id") == response.all("server-timing") == []


def test_http_1_0_and_the_last_answer(start: Start) -> None:
    front = start(request_id=True, server_timing=True)
    client = front.connect()
    client.send(get("/", "Connection: keep-alive", version="1.0"))
    number, _ = front.reactors[0].request()
    front.reactors[0].reply(number)
    response = client.response()
    assert response.field("connection") == b"keep-alive"
    assert len(response.all("x-request-id")) == len(response.all("server-timing")) == 1
