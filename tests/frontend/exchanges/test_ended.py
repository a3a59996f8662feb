"""What observers get: a record of each exchange that has ended, once, whatever its end was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from reactor_run.frontend.exchanges.record import LINE_MAX, Record
from reactor_run.frontend.sockets.networks import parse_networks
from tests.frontend.conftest import Start
from tests.frontend.reactors.test_reactor import replacement
from tests.frontend.standin import OK, Front, answer, get, post
from tests.integration.client import Client


class Watcher:
    """An observer that keeps all records. They are not changed any more when they reach it."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.turns = 0

    def ended(self, records: Sequence[Record]) -> None:
        self.turns += 1
        self.records += records


def watch(front: Front) -> Watcher:
    watcher = Watcher()
    front.call(lambda: front.server.clients.observe(watcher))
    return watcher


@contextmanager
def only(watcher: Watcher, front: Front) -> Iterator[Callable[[], Record]]:
    """Expect one record of the block. The value of the block returns it after its end."""
    before = len(watcher.records)
    yield lambda: watcher.records[-1]
    front.settle()
    assert len(watcher.records) == before + 1


def serve(front: Front, client: Client, request: bytes = get("/")) -> None:
    client.send(request)
    number, _ = front.reactors[0].request()
    front.reactors[0].reply(number)
    assert client.response().status == 200


def test_a_whole_answer(start: Start) -> None:
    front = start()
    watcher = watch(front)
    client = front.connect()
    with only(watcher, front) as record:
        serve(front, client, get("/path?query", "X-Id: 7"))
    ended = record()
    assert (ended.request_line, ended.client) == (b"GET /path?query HTTP/1.1", b"127.0.0.1")
    assert ended.head.fields == ((b"Host", b"a"), (b"X-Id", b"7"))
    assert (ended.status, ended.reactor_name, ended.tries) == (200, "reactor 1", 1)
    assert 0.0 <= ended.queue_time <= ended.duration
    assert ended.bytes_out == len(OK)
    assert (ended.error, ended.rule) == ("", "")


def test_a_connection_without_a_proxy_header(start: Start) -> None:
    front = start(proxy_protocol=True)
    watcher = watch(front)
    client = front.connect()
    with only(watcher, front) as record:
        client.send(get("/path"))
        assert client.response().status == 400
    ended = record()
    assert (ended.request_line, ended.bytes_in) == (b"GET /path HTTP/1.1", len(get("/path")))
    assert ended.rule.startswith("proxy")


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_an_answer_that_ends_its_connection(start: Start, version: str) -> None:
    front = start()
    watcher = watch(front)
    with only(watcher, front) as record:
        serve(front, front.connect(), get("/", "Connection: close", version=version))
    assert record().request_line == f"GET / HTTP/{version}".encode()


def test_an_answer_in_pieces(start_each: Start) -> None:
    front = start_each()
    watcher = watch(front)
    client = front.connect()
    with only(watcher, front) as record:
        client.send(get("/"))
        lane = front.reactors[0].link()
        lane.head()
        raw = answer(b"x" * 100_000)
        lane.send(raw[:1000])
        front.settle()
        assert not watcher.records
        lane.send(raw[1000:])
        assert client.response().status == 200
    assert record().bytes_out == len(raw)


def test_a_direct_answer(start: Start) -> None:
    front = start()
    watcher = watch(front)
    client = front.connect()
    with only(watcher, front) as record:
        client.send(get("/"))
        lane = front.reactors[0].pieces()
        lane.head()
        raw = answer(b"x" * 1000)
        lane.begin(raw[:-500], ask=True)
        lane.granted().sendall(raw[-500:])
        lane.written(500)
        assert client.response().status == 200
    assert record().bytes_out == len(raw)


def test_one_call_tells_of_all_exchanges_of_a_turn(start: Start) -> None:
    front = start()
    watcher = watch(front)
    clients = [front.connect() for _ in range(5)]
    for client in clients:
        client.send(get("/"))
    numbers = [front.reactors[0].request()[0] for _ in clients]
    with front.held():
        for number in numbers:
            front.reactors[0].reply(number)
    for client in clients:
        assert client.response().status == 200
    front.settle()
    assert (watcher.turns, len(watcher.records)) == (1, 5)


def test_records_come_after_the_answers_were_written(start: Start) -> None:
    front = start()
    client = front.connect()
    taken: list[bytes] = []

    class Reader:
        def ended(self, records: Sequence[Record]) -> None:
            taken.append(client._sock.recv(65536))

    front.call(lambda: front.server.clients.observe(Reader()))
    client.send(get("/"))
    number, _ = front.reactors[0].request()
    front.reactors[0].reply(number)
    front.settle()
    assert taken == [OK]


def test_pipelined_requests_of_a_proxy_name_their_own_clients(start: Start) -> None:
    front = start(forwarded_allow_from=parse_networks("127.0.0.1"))
    watcher = watch(front)
    client = front.connect()
    fields = [("X-Forwarded-For: 203.0.113.1",), ("X-Forwarded-For: unknown",), ()]
    client.send(b"".join(get("/", *each) for each in fields))
    for _ in fields:
        number, _ = front.reactors[0].request()
        front.reactors[0].reply(number)
        assert client.response().status == 200
    front.settle()
    assert [record.client for record in watcher.records] == [b"203.0.113.1", b"", b"127.0.0.1"]


def test_a_client_of_a_unix_socket_has_no_address(start: Start) -> None:
    front = start()
    watcher = watch(front)
    with only(watcher, front) as record:
        serve(front, front.connect(front.unix))
    assert record().client == b""


@pytest.mark.parametrize(
    ("sent", "status", "rule", "line", "method"),
    [
        (b"\x16\x03\x01\x02\x00", 400, None, b"\x16\x03\x01\x02\x00", b""),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "host-missing", b"GET / HTTP/1.1", b"GET"),
        (b"\r\nGET /\x01 HTTP/1.1\r\n\r\n", 400, None, b"GET /\x01 HTTP/1.1", b"GET"),
        (b"GET / HTTP/2.0\r\n\r\n", 505, "version", b"GET / HTTP/2.0", b"GET"),
        (b"GET /" + b"x" * 9000, 414, "request-line-too-long", None, b"GET"),
        (get("/", "X: " + "y" * 9000), 431, "field-too-large", b"GET / HTTP/1.1", b"GET"),
        (get("/", "Transfer-Encoding: gzip, chunked"), 501, None, b"GET / HTTP/1.1", b"GET"),
    ],
)
def test_a_request_that_was_rejected_before_it_could_be_parsed(
    start: Start, sent: bytes, status: int, rule: str | None, line: bytes | None, method: bytes
) -> None:
    front = start()
    watcher = watch(front)
    client = front.connect()
    with only(watcher, front) as record:
        client.send(sent)
        assert client.response().status == status
    ended = record()
    assert (ended.status, ended.rule) == (status, rule or ended.rule)
    assert ended.rule
    assert ended.error
    assert ended.request_line == (sent[:LINE_MAX] if line is None else line)
    assert (ended.head.method, ended.client, ended.tries) == (method, b"127.0.0.1", 0)
    assert (ended.reactor_name, ended.duration, ended.queue_time) == ("", 0.0, 0.0)
    assert ended.bytes_out > 0


def test_a_head_that_is_late(start: Start) -> None:
    front = start(head_timeout=5.0)
    watcher = watch(front)
    client = front.connect()
    client.send(b"GET /slow HT")
    with only(watcher, front) as record:
        front.pass_time(6)
        assert client.response().status == 408
    ended = record()
    assert (ended.request_line, ended.rule) == (b"GET /slow HT", "head-timeout")
    assert ended.duration >= 5


def test_a_body_that_breaks_a_rule(start_each: Start) -> None:
    front = start_each()
    watcher = watch(front)
    client = front.connect()
    with only(watcher, front) as record:
        client.send(get("/", "Transfer-Encoding: chunked", method="POST"))
        front.reactors[0].link().head()
        client.send(b"nonsense\r\n")
        assert client.response().status == 400
    ended = record()
    assert (ended.status, ended.rule, ended.tries) == (400, "chunk-size", 1)


def test_a_full_queue(start: Start) -> None:
    front = start(capacities=(1,), queue_size=0)
    watcher = watch(front)
    first, second = front.connect(), front.connect()
    first.send(get("/"))
    number, _ = front.reactors[0].request()
    with only(watcher, front) as record:
        second.send(get("/", "Connection: close"))
        assert second.response().status == 503
    assert (record().status, record().error) == (503, "Service Unavailable")
    front.reactors[0].reply(number)
    assert first.response().status == 200


def test_the_time_in_the_queue(start: Start) -> None:
    front = start(capacities=(1,), queue_timeout=10.0)
    watcher = watch(front)
    clients = [front.connect() for _ in range(3)]
    for client in clients:
        client.send(get("/"))
        front.settle()
    front.pass_time(4)
    for client in clients[:2]:
        number, _ = front.reactors[0].request()
        front.reactors[0].reply(number)
        assert client.response().status == 200
        front.settle()
        clients[2].send(b"")
    served = [record.queue_time for record in watcher.records[:2]]
    assert served[0] < 1
    assert 4 <= served[1] < 6


def test_the_time_in_the_queue_until_it_times_out(start: Start) -> None:
    front = start(capacities=(1,), queue_timeout=10.0)
    watcher = watch(front)
    first, second = front.connect(), front.connect()
    first.send(get("/"))
    number, _ = front.reactors[0].request()
    second.send(get("/"))
    with only(watcher, front) as record:
        front.pass_time(11)
        assert second.response().status == 503
    assert record().queue_time >= 9
    front.reactors[0].reply(number)
    assert first.response().status == 200


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
def test_the_body_is_no_time_in_the_queue(start: Start, interface: str) -> None:
    front = start(interface=interface)
    watcher = watch(front)
    client = front.connect()
    with only(watcher, front) as record:
        request = post(b"abc")
        client.send(request[:-1])
        front.pass_time(7)
        client.send(request[-1:])
        number, _ = front.reactors[0].request()
        front.reactors[0].reply(number)
        assert client.response().status == 200
    assert record().duration >= 7
    assert 0 <= record().queue_time < 1


def test_a_body_that_never_arrives_is_no_time_in_the_queue(start: Start) -> None:
    front = start(interface="wsgi", body_timeout=5.0)
    watcher = watch(front)
    client = front.connect()
    with only(watcher, front) as record:
        client.send(post(b"abc")[:-1])
        front.pass_time(6)
        assert client.response().status == 408
    assert (record().rule, record().queue_time) == ("body-timeout", 0.0)


def test_an_app_that_takes_too_long(start_each: Start) -> None:
    front = start_each(request_timeout=5.0)
    watcher = watch(front)
    client = front.connect()
    with only(watcher, front) as record:
        client.send(get("/"))
        front.reactors[0].link().head()
        front.pass_time(6)
        front.pass_time(6)
        assert client.response().status == 504
    assert (record().status, record().error) == (504, "Gateway Timeout")


def test_a_client_that_leaves_before_its_answer(start_each: Start) -> None:
    front = start_each()
    watcher = watch(front)
    client = front.connect()
    with only(watcher, front) as record:
        client.send(get("/"))
        front.reactors[0].link().head()
        client.reset()
    ended = record()
    assert (ended.status, ended.bytes_out, ended.error) == (0, 0, "the client left")


def test_a_client_that_leaves_within_its_answer(start_each: Start) -> None:
    front = start_each()
    watcher = watch(front)
    client = front.connect()
    with only(watcher, front) as record:
        client.send(get("/"))
        lane = front.reactors[0].link()
        lane.head()
        lane.send(answer(b"x" * 1000)[:500])
        client.begin()
        client.reset()
    ended = record()
    assert (ended.status, ended.bytes_out, ended.error) == (200, 500, "the client left")


def test_a_client_whose_leave_its_reactor_finds_first(start: Start) -> None:
    front = start()
    watcher = watch(front)
    client = front.connect()
    with only(watcher, front) as record:
        client.send(get("/"))
        pieces = front.reactors[0].pieces()
        pieces.head()
        pieces.begin(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", ask=True)
        pieces.granted()
        client.begin()

        def leave() -> None:
            """Both happen in one turn of the front end, and it reads the reactor first."""
            pieces.abort()
            client.reset()

        front.call(leave)
    assert (record().status, record().error) == (200, "the client left")


def test_a_client_that_leaves_while_it_waits(start: Start) -> None:
    front = start(capacities=(1,))
    watcher = watch(front)
    first, second = front.connect(), front.connect()
    first.send(get("/"))
    number, _ = front.reactors[0].request()
    second.send(get("/"))
    front.settle()
    with only(watcher, front) as record:
        second.reset()
    assert (record().status, record().tries) == (0, 0)
    front.reactors[0].reply(number)
    assert first.response().status == 200


def test_an_answer_that_its_reactor_cuts(start_each: Start) -> None:
    front = start_each()
    watcher = watch(front)
    client = front.connect()
    with only(watcher, front) as record:
        client.send(get("/"))
        lane = front.reactors[0].link()
        lane.head()
        lane.send(answer(b"x" * 1000)[:500])
        lane.close()
        assert client.rest() == answer(b"x" * 1000)[:500]
    assert (record().status, record().error) == (200, "Bad Gateway")


def test_a_retry_is_one_exchange(start: Start) -> None:
    front = start()
    watcher = watch(front)
    client = front.connect()
    with only(watcher, front) as record:
        client.send(get("/"))
        front.reactors[0].request()
        front.reactors[0].die()
        second = replacement(front)
        second.reply(second.request()[0])
        assert client.response().status == 200
    assert (record().tries, record().reactor_name) == (2, "reactor 2")


def test_a_retry_that_finds_no_reactor(start: Start) -> None:
    front = start(queue_timeout=5.0)
    watcher = watch(front)
    client = front.connect()
    with only(watcher, front) as record:
        client.send(get("/"))
        front.reactors[0].request()
        front.reactors[0].die()
        front.pass_time(6)
        assert client.response().status == 503
    assert (record().status, record().tries) == (503, 1)
    replacement(front)


def test_an_observer_that_fails_harms_no_request(start: Start) -> None:
    class Faulty:
        def ended(self, records: Sequence[Record]) -> None:
            raise RuntimeError("a fault of the test")

    front = start()
    front.call(lambda: front.server.clients.observe(Faulty()))
    watcher = watch(front)
    client = front.connect()
    for _ in range(2):
        serve(front, client)
    front.settle()
    assert len(watcher.records) == 2
    assert any("internal error in an observer" in line for line in front.log)


def test_without_an_observer_nothing_is_gathered(start: Start) -> None:
    front = start()
    serve(front, front.connect())
    context: Any = front.server.clients
    assert context.ended is None
