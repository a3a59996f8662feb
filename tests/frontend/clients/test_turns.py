"""The limits on the work for one client in one turn of the loop, while others wait."""

from __future__ import annotations

import random
import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from reactor_run.frontend.clients.requester import Http1Requester
from reactor_run.frontend.exchanges.exchange import Exchange
from reactor_run.frontend.reactors.lane import Lane
from reactor_run.frontend.reactors.reactor import Reactor
from reactor_run.protocol.body import PIECES_MAX, ChunkedReader
from reactor_run.protocol.express import WINDOW
from tests.frontend.conftest import Start
from tests.frontend.standin import OK, Front, LaneEnd, LinkEnd, get, post, pour
from tests.integration.client import Client
from tests.integration.waiting import eventually

TINY = b"1\r\nx\r\n"
CHUNKED_POST = get("/upload", "Transfer-Encoding: chunked", method="POST")
SEGMENT = 60_000


class Turns:
    """Counts calls for each turn of a front end's loop."""

    def __init__(self) -> None:
        self.most = 0
        self.total = 0
        self._now = 0

    def count(self) -> None:
        self._now += 1
        self.total += 1
        self.most = max(self.most, self._now)

    def next(self) -> None:
        self._now = 0


@contextmanager
def counting(
    front: Front, monkeypatch: pytest.MonkeyPatch, kind: type, name: str
) -> Iterator[Turns]:
    """Count the calls of a method of `kind`."""
    turns = Turns()
    original: Callable[..., object] = getattr(kind, name)

    def counted(*args: object) -> object:
        turns.count()
        return original(*args)

    front.call(lambda: front.server.loop.after_batch(turns.next))
    with monkeypatch.context() as patch:
        patch.setattr(kind, name, counted)
        yield turns
        front.settle()
    front.call(lambda: front.server.loop.not_after_batch(turns.next))


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
@pytest.mark.parametrize("lanes", ["express", "plain"])
@pytest.mark.parametrize("pipelined", [False, True])
def test_a_body_in_tiny_chunks_takes_many_turns(
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    interface: str,
    lanes: str,
    pipelined: bool,
) -> None:
    front = start(interface=interface, lanes=lanes)
    (reactor,) = front.reactors
    client, other = front.connect(), front.connect()
    count = 20_000
    coded = TINY * count + b"0\r\n\r\n"
    with counting(front, monkeypatch, ChunkedReader, "_read_size_line") as turns:
        if pipelined:
            with front.held():
                client.send(CHUNKED_POST + coded[:SEGMENT])
            coded = coded[SEGMENT:]
        else:
            client.send(CHUNKED_POST)
        if interface == "asgi":
            lane = reactor.link()
            lane.head()
        with client.sending([coded]):
            if interface == "asgi":
                assert lane.exactly(6 * count + 5) == TINY * count + b"0\r\n\r\n"
                lane.send(OK)
                reactor.done(lane)
            elif lanes == "express":
                number, payload = reactor.request()
                assert payload.endswith(b"\r\n\r\n" + b"x" * count)
                reactor.reply(number)
            else:
                lane = reactor.link()
                assert f"content-length: {count}".encode() in lane.head()
                assert lane.exactly(count) == b"x" * count
                lane.send(OK)
                reactor.done(lane)
        assert client.response().status == 200
    assert turns.total > count
    assert turns.most <= 2 * PIECES_MAX
    # Both connections go on.
    for each in client, other:
        each.send(get("/next"))
        if lanes == "express":
            reactor.reply(reactor.request()[0])
        else:
            lane = lane if interface == "asgi" or lanes == "plain" else reactor.link()
            lane.head()
            lane.send(OK)
            reactor.done(lane)
        assert each.response().status == 200


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
def test_another_client_is_served_within_a_turn(
    start: Start, monkeypatch: pytest.MonkeyPatch, interface: str
) -> None:
    """Its request arrives with the tiny chunks, and does not wait until all are read."""
    front = start(interface=interface)
    (reactor,) = front.reactors
    client = front.connect()
    client.send(CHUNKED_POST)
    front.settle()
    other = front.connect()
    front.settle()
    if interface == "asgi":
        reactor.pieces()
    read_before: list[int] = []
    """How many chunks were read before each request was given to the reactor."""
    begin = Reactor.start

    def note(reactor: Reactor, exchange: Exchange) -> None:
        read_before.append(turns.total)
        begin(reactor, exchange)

    with (
        counting(front, monkeypatch, ChunkedReader, "_read_size_line") as turns,
        monkeypatch.context() as patch,
    ):
        patch.setattr(Reactor, "start", note)
        with front.held():
            client.send(TINY * 10_000)
            other.send(get("/other"))
            eventually(lambda: all(c.connection.transport.has_arrived for c in front.clients))
        other_pieces = reactor.pieces()
        assert other_pieces.head() == get("/other")
        reactor.reply(other_pieces.number)
        assert other.response().status == 200
        eventually(lambda: turns.total >= 10_000)
    assert read_before[0] <= 2 * PIECES_MAX
    client.reset()


def test_a_body_that_is_dropped_takes_many_turns_too(
    start_each: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = start_each()
    (reactor,) = front.reactors
    client = front.connect()
    client.send(CHUNKED_POST)
    lane = reactor.link()
    lane.head()
    lane.send(OK)
    reactor.drop(lane)
    assert client.response().status == 200
    with counting(front, monkeypatch, ChunkedReader, "_read_size_line") as turns:
        client.send(TINY * 10_000 + b"0\r\n\r\n" + get("/next"))
        lane = reactor.link()
        assert lane.head() == get("/next")
        lane.send(OK)
        reactor.done(lane)
        assert client.response().status == 200
    assert turns.total > 10_000
    assert turns.most <= 2 * PIECES_MAX


@pytest.mark.parametrize("lanes", ["express", "plain"])
def test_a_client_that_resets_between_turns_leaves_nothing(start: Start, lanes: str) -> None:
    front = start(lanes=lanes)
    (reactor,) = front.reactors
    client = front.connect()
    client.send(CHUNKED_POST)
    lane = reactor.link()
    lane.head()
    with front.held():
        client.send(TINY * 10_000)
    client.reset()
    front.settle()
    assert not front.clients
    assert lane.closed
    reactor.drop(lane)


@pytest.mark.parametrize("bad", [b"nonsense\r\n", b"0\r\nbad trailer\r\n"])
@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
def test_an_error_late_in_a_body_is_still_rejected(
    start_each: Start, interface: str, bad: bytes
) -> None:
    front = start_each(interface=interface)
    client = front.connect()
    with front.held():
        client.send(CHUNKED_POST + TINY * 5000 + bad)
    assert client.response().status == 400
    assert client.at_end()
    if interface == "asgi":
        front.reactors[0].link()


def test_postponed_chunks_wait_while_the_app_reads_nothing(start: Start) -> None:
    """They are not passed on to a lane without room, nor kept beyond one read."""
    front = start(lanes="plain")
    (reactor,) = front.reactors
    client = front.connect()
    client.send(CHUNKED_POST)
    lane = reactor.lane()
    lane.head()
    front.settle()
    exchange = front.inside.requester.exchange
    assert exchange is not None
    assert isinstance(exchange.lane, Lane)
    exchange.lane.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    count = 100_000
    with client.sending([TINY * count + b"0\r\n\r\n"]):
        eventually(lambda: exchange.lane is not None and exchange.lane.out.size)
        for _ in range(50):
            front.settle()
            assert exchange.lane.out.size <= 6 * PIECES_MAX
            body = front.inside.requester.body
            assert body is not None
            assert body.postponed is None or len(body.postponed) <= 65536
        assert lane.exactly(6 * count + 5) == TINY * count + b"0\r\n\r\n"
    lane.send(OK)
    reactor.done(lane)
    assert client.response().status == 200


# Answers ------------------------------------------------------------------------------------------

TINY_ANSWER = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + TINY * 20_000


def begin_answer(start: Start, lanes: str) -> tuple[Front, Client, LinkEnd]:
    """A request whose answer comes in pieces."""
    front = start(lanes=lanes)
    (reactor,) = front.reactors
    client = front.connect(front.unix)
    client.send(get())
    lane = reactor.link()
    lane.head()
    return front, client, lane


@pytest.mark.parametrize("end", ["whole", "dies", "broken", "reset"])
def test_an_answer_in_tiny_chunks_takes_many_turns(
    start: Start, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """Also if its reactor has died, its client leaves, or it breaks HTTP."""
    front, client, lane = begin_answer(start, "plain")
    assert isinstance(lane, LaneEnd)
    raw = TINY_ANSWER + (b"nonsense\r\n" if end == "broken" else b"0\r\n\r\n")
    lane.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    with counting(front, monkeypatch, ChunkedReader, "_read_size_line") as turns:
        with front.held():
            assert lane.fill(raw) == len(raw)
            if end == "dies":
                front.reactors[0].die()
        if end == "reset":
            client.reset()
            front.settle()
            assert lane.closed
            return
        if end == "broken":
            assert client.rest().endswith(TINY)
        else:
            assert client.response().body == b"x" * 20_000
        front.settle()
    if end != "dies":
        assert turns.most <= 2 * PIECES_MAX


@pytest.mark.parametrize("lanes", ["express", "plain"])
def test_tiny_chunks_wait_for_a_client_that_takes_nothing(start: Start, lanes: str) -> None:
    front, client, lane = begin_answer(start, lanes)
    count = 200_000
    raw = TINY_ANSWER[: -len(TINY) * 20_000] + TINY * count + b"0\r\n\r\n"
    taken = pour(front, lane, raw)
    assert taken < len(raw)
    # At most a window more is on its way when the source is paused.
    assert front.inside.connection.unsent <= 300_000 + WINDOW
    rest = threading.Thread(target=lane.send, args=[raw[taken:]], daemon=True)
    rest.start()
    # Not by h11, which takes seconds for so many chunks.
    answer = bytearray()
    while not answer.endswith(b"\r\n0\r\n\r\n"):
        piece = client._sock.recv(1 << 20)
        assert piece, answer[-100:]
        answer += piece
    assert answer.partition(b"\r\n\r\n")[2] == TINY * count + b"0\r\n\r\n"
    rest.join(10)


# Memory -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 16])
def test_a_collected_body_takes_no_more_memory_in_small_chunks(start: Start, size: int) -> None:
    front = start(interface="wsgi")
    (reactor,) = front.reactors
    client = front.connect()
    client.send(CHUNKED_POST)
    front.settle()
    content = b"x" * 64_000
    chunk = b"%x\r\n%b\r\n" % (size, b"x" * size)
    coded = chunk * (len(content) // size)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        with client.sending([coded]):
            eventually(
                lambda: (
                    front.inside.requester.body is not None
                    and front.inside.requester.body._reader.received == len(content)
                )
            )
        front.settle()
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken < 110_000
    client.send(b"0\r\n\r\n")
    number, payload = reactor.request()
    assert payload.endswith(content)
    reactor.reply(number)
    assert client.response().status == 200


# Pipelining ---------------------------------------------------------------------------------------


def test_requests_that_need_no_reactor_take_many_turns(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are rejected because the queue is full, and each leaves its connection open."""
    front = start(capacities=(1,), queue_size=0)
    (reactor,) = front.reactors
    first, client = front.connect(), front.connect()
    first.send(get("/first"))
    number, _ = reactor.request()
    count = 1000
    with counting(front, monkeypatch, Http1Requester, "reject_overload") as turns:
        client.send(get("/refused") * count)
        assert [client.response().status for _ in range(count)] == [503] * count
    assert turns.total == count
    assert turns.most <= 32
    reactor.reply(number)
    client.send(get("/good"))
    reactor.reply(reactor.request()[0])
    assert client.response().status == 200


@pytest.mark.parametrize("seed", range(4))
def test_pipelined_requests_are_read_alike_in_any_pieces(start: Start, seed: int) -> None:
    """Requests end where their heads say, whatever their bodies look like."""
    front = start(interface="wsgi")
    (reactor,) = front.reactors
    client = front.connect()
    kinds = [
        ("GET /plain", b"", get("/plain")),
        ("GET /empty-line", b"", b"\r\n" + get("/empty-line")),
        ("POST /short", b"01234", post(b"01234", path="/short")),
        ("POST /long", b"\r\n\r\n" * 750, post(b"\r\n\r\n" * 750, path="/long")),
        ("POST /upload", b"xx", CHUNKED_POST + TINY * 2 + b"0\r\nTrailer: x\r\n\r\n"),
        ("POST /none", b"", post(b"", path="/none")),
    ]
    order = random.Random(seed)
    requests = order.choices(kinds, k=60)
    data = b"".join(raw for _, _, raw in requests)
    cuts = sorted(order.sample(range(len(data)), 10))
    pieces = [data[i:j] for i, j in zip([0, *cuts], [*cuts, None], strict=True)]
    with client.sending(pieces):
        for line, body, _ in requests:
            number, payload = reactor.request()
            head, _, content = payload.partition(b"\r\n\r\n")
            assert head.lstrip().startswith(line.encode() + b" HTTP/1.1\r\n")
            assert content == body
            reactor.reply(number)
            assert client.response().status == 200


def test_many_pipelined_requests_take_linear_time(start: Start) -> None:
    """The bytes are not copied or hashed again for each request."""
    front = start()
    (reactor,) = front.reactors
    client = front.connect()
    client.send(get("/first"))
    number, _ = reactor.request()
    request = get("/")
    client.send(request * (64_000 // len(request)))
    front.settle()
    base = front.inside.held
    reactor.reply(number)
    number, payload = reactor.request()
    assert payload == request
    held = front.inside.held
    assert isinstance(held, memoryview)
    assert held.obj is (base.obj if isinstance(base, memoryview) else base)
    client.reset()
