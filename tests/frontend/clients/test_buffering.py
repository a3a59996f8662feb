"""Buffering for slow clients: collected bodies, spooled WSGI answers, limits for ASGI answers."""

from __future__ import annotations

import errno
import os
import socket
import tempfile

import pytest

from reactor_run.protocol.express import ANSWER, DONE, FIN
from tests.frontend.conftest import Start
from tests.frontend.standin import OK, Front, LaneEnd, LinkEnd, StandIn, answer, get, post, pour
from tests.integration.client import Client

CHUNKED_POST = get("/", "Transfer-Encoding: chunked", method="POST")
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
KIB = 1 << 10
MIB = 1 << 20


def begin(start: Start, interface: str = "wsgi", **options: object) -> tuple[Front, StandIn]:
    front = start(interface=interface, **options)
    return front, front.reactors[0]


def begin_answer(
    start: Start, interface: str, **options: object
) -> tuple[Front, Client, StandIn, LinkEnd]:
    """Return a client that reads only when the test reads. The app has its request."""
    front, reactor = begin(start, interface, **options)
    client = front.connect(front.unix)
    client.send(get())
    lane = reactor.link()
    lane.head()
    return front, client, reactor, lane


# Request bodies -----------------------------------------------------------------------------------


def test_a_wsgi_reactor_gets_nothing_before_the_body_is_whole(start: Start) -> None:
    front, reactor = begin(start)
    client = front.connect()
    client.send(post(b"x" * 100)[:-100])
    for _ in range(99):
        client.send(b"x")
        front.settle()
        assert reactor.silent
    client.send(b"x" + get("/next"))
    number, payload = reactor.request()
    head, _, body = payload.partition(b"\r\n\r\n")
    assert body == b"x" * 100
    assert head.lower().count(b"content-length") == 1
    reactor.reply(number)
    assert client.response().status == 200
    assert reactor.request()[1] == get("/next")


def test_a_body_that_arrived_with_its_head_is_not_changed(start: Start) -> None:
    front, reactor = begin(start)
    front.connect().send(post(b"body", "X-Case: Kept") + get("/next"))
    assert reactor.request()[1] == post(b"body", "X-Case: Kept")


def test_a_chunked_body_becomes_one_with_a_length(start: Start) -> None:
    front, reactor = begin(start)
    client = front.connect()
    client.send(CHUNKED_POST + b"3;ext=1\r\nabc\r\n")
    front.settle()
    client.send(b"2\r\nde\r\n0\r\ntrailer: 1\r\n\r\n")
    _, payload = reactor.request()
    head, _, body = payload.partition(b"\r\n\r\n")
    assert body == b"abcde"
    assert b"transfer-encoding" not in head.lower()
    assert head.lower().endswith(b"content-length: 5")


@pytest.mark.parametrize("size", [64 * KIB, 64 * KIB + 1, 3 * MIB])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_is_sent_when_it_is_whole(start_each: Start, size: int, chunked: bool) -> None:
    front, reactor = begin(start_each)
    client = front.connect()
    body = os.urandom(size)
    raw = CHUNKED_POST + b"%x\r\n%b\r\n0\r\n\r\n" % (size, body) if chunked else post(body)
    lane = None
    for _ in range(2):
        with client.sending([raw[:-1]]):
            pass
        front.settle()
        assert reactor.silent
        client.send(raw[-1:])
        lane = reactor.link() if lane is None else reactor.again(lane)
        assert lane.head().lower().endswith(b"content-length: %d\r\n\r\n" % size)
        assert lane.exactly(size) == body
        lane.send(OK)
        reactor.done(lane)
        assert client.response().status == 200


def test_the_file_of_a_body_is_closed_when_it_is_answered(
    start_each: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = []
    create = tempfile.TemporaryFile

    def note(*args, **options):
        files.append(create(*args, **options))
        return files[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", note)
    front, reactor = begin(start_each)
    client = front.connect()
    with client.sending([post(b"x" * MIB)]):
        lane = reactor.link()
        lane.head()
        assert len(files) == 1
        lane.exactly(MIB)
    front.settle()
    # The reactor may die before it begins: another one would be given all of it.
    assert not files[0].closed
    lane.send(OK)
    reactor.done(lane)
    assert client.response().status == 200
    front.settle()
    assert files[0].closed
    # Neither does one stay open whose client leaves, nor one whose reactor does not want it.
    client.send(post(b"x" * MIB)[:-1])
    front.settle()
    client.reset()
    front.settle()
    assert files[1].closed
    client = front.connect()
    client.send(post(b"x" * MIB))
    lane = reactor.again(lane)
    lane.head()
    lane.close()
    reactor.drop(lane)
    assert client.response().status == 502
    front.settle()
    assert files[2].closed


def test_requests_behind_a_large_body_are_read_up_to_a_limit(start_each: Start) -> None:
    front, reactor = begin(start_each)
    client = front.connect()
    with client.sending([post(b"x" * (8 * MIB)), get("/next") * 100_000], may_be_cut=True):
        lane = reactor.link()
        lane.head()
        for _ in range(64):
            lane.exactly(128 * KIB)
            front.settle()
            assert len(front.inside.held) <= 128 * KIB
        lane.send(OK)
        reactor.done(lane)
        assert client.response().status == 200


def test_100_continue_comes_from_the_front_end(start: Start) -> None:
    front, reactor = begin(start)
    client = front.connect()
    client.send(post(b"body", "Expect: 100-continue")[:-4])
    assert client.informational("POST") == 100
    assert reactor.silent
    client.send(b"body")
    number, payload = reactor.request()
    assert b"expect" not in payload.lower()
    reactor.reply(number)
    assert client.response().interim == []


def test_no_100_continue_for_a_body_that_has_begun(start: Start) -> None:
    front, reactor = begin(start)
    client = front.connect()
    client.send(post(b"body", "Expect: 100-continue")[:-3])
    assert front.silent(client)
    client.send(b"ody")
    reactor.reply(reactor.request()[0])
    assert client.response().interim == []


def test_fin_within_a_body_that_is_collected_gets_400(start: Start) -> None:
    front, reactor = begin(start)
    client = front.connect()
    client.send(post(b"body")[:-1])
    client.finish_sending()
    assert client.response().status == 400
    assert client.at_end()
    assert reactor.silent


def test_a_body_that_cannot_be_written_to_a_file_gets_507(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    front, reactor = begin(start)

    def fail(**_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    client = front.connect()
    with client.sending([post(b"x" * MIB)], may_be_cut=True):
        response = client.response()
        assert response.status == 507
        assert response.field("connection") == b"close"
    monkeypatch.undo()
    assert reactor.silent


@pytest.mark.parametrize("broken", ["unreadable", "shorter"])
def test_a_body_that_cannot_be_read_back_is_cut(
    start_each: Start, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """The app must not wait for bytes that never arrive."""
    read = iter([1000])
    pread = os.pread

    def read_a_part(file: int, size: int, offset: int) -> bytes:
        size = min(size, next(read, 0))
        if not size and broken == "unreadable":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return pread(file, size, offset)

    def sendfile(out: int, file: int, offset: int, count: int) -> int:
        size = next(read, 0)
        if not size and broken == "unreadable":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return os.write(out, pread(file, size, offset))

    front = start_each(interface="wsgi")
    (reactor,) = front.reactors
    client = front.connect()
    monkeypatch.setattr(os, "sendfile", sendfile)
    monkeypatch.setattr(os, "pread", read_a_part)
    with client.sending([get("/", "Content-Length: 200000", method="POST"), b"x" * 200_000]):
        lane = reactor.link()
        lane.head()
        assert lane.exactly(1000) == b"x" * 1000
        front.settle()
        assert lane.ended
        assert isinstance(lane, LaneEnd) or lane.kinds == [FIN]
    lane.send(answer(b"bad", status="500 Internal Server Error"))
    reactor.drop(lane)
    assert client.response().status == 500
    client.send(get("/next"))
    assert reactor.link().head() == get("/next")


def test_collected_bodies_wait_in_the_queue_like_others(start: Start) -> None:
    front, reactor = begin(start, capacities=(1,))
    first, second = front.connect(), front.connect()
    first.send(get())
    number, _ = reactor.request()
    second.send(post(b"body")[:-1])
    front.settle()
    assert front.server.dispatcher.waiting == 0
    second.send(b"y")
    front.settle()
    assert front.server.dispatcher.waiting == 1
    reactor.reply(number)
    assert reactor.request()[1].endswith(b"body")


# Answers ------------------------------------------------------------------------------------------


def test_asgi_answers_wait_for_a_client_that_reads_nothing(start_each: Start) -> None:
    front, client, reactor, lane = begin_answer(start_each, "asgi")
    raw = answer(os.urandom(4 * MIB))
    taken = pour(front, lane, raw)
    # What is in the two kernel buffers, and in between.
    assert taken < 1.2 * MIB
    assert front.inside.connection.writer is not None
    assert front.inside.connection.writer.waiting <= 512 * KIB
    with client.sending([]):
        lane_rest = raw[taken:]
        got = bytearray()
        while len(got) < len(raw):
            lane_rest = lane_rest[lane.fill(lane_rest) :]
            front.settle()
            got += client._sock.recv(MIB)
    assert got == raw
    reactor.done(lane)
    front.settle()
    client.send(get("/next"))
    assert reactor.again(lane).head() == get("/next")


def test_an_answer_resumes_when_its_client_has_taken_enough(start_each: Start) -> None:
    front, client, _, lane = begin_answer(start_each, "asgi")
    raw = answer(b"x" * (16 * MIB))
    taken = pour(front, lane, raw)
    read = 0
    for _ in range(8):
        read += len(client._sock.recv(MIB))
        front.settle()
        taken += pour(front, lane, raw[taken:])
        assert taken - read < 1.2 * MIB
    assert taken > 1.2 * MIB


def test_all_bytes_of_a_lane_arrive_in_order(start: Start) -> None:
    """One batch reads the lane many times, and each read fills the space."""
    front, client, _, lane = begin_answer(start, "asgi", lanes="plain")
    assert isinstance(lane, LaneEnd)
    for sock in (lane.sock, front.inside.connection.transport.sock):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MIB)
    raw = answer(os.urandom(4 * MIB))
    lane.send(raw[:1000])
    front.settle()
    taken = 1000
    got = bytearray()
    while len(got) < len(raw):
        with front.held():
            taken += lane.fill(raw[taken:])
        front.settle()
        while len(got) < taken:
            got += client._sock.recv(MIB)
    assert got == raw


def test_bytes_after_an_answer_that_fills_one_read_are_dropped(start: Start) -> None:
    """The answer ends with a read. The next read, in the same batch, finds the bytes after it."""
    front, client, reactor, lane = begin_answer(start, "asgi", lanes="plain")
    assert isinstance(lane, LaneEnd)
    lane.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MIB)
    raw = answer(bytes(256 * KIB))
    head = len(raw) - 256 * KIB
    lane.send(raw[:head])
    front.settle()
    with front.held():
        assert lane.fill(raw[head:] + b"beyond") == 256 * KIB + len(b"beyond")
    assert client.response().body == bytes(256 * KIB)
    front.settle()
    assert (
        f"warning reactor 1 sent bytes after the end of an answer on lane {lane.number}"
        in front.log
    )
    assert lane.closed
    reactor.done(lane)
    client.send(get("/next"))
    assert reactor.lane().head() == get("/next")


def test_wsgi_answers_are_spooled_at_once(start_each: Start) -> None:
    front, client, reactor, lane = begin_answer(start_each, "wsgi")
    body = os.urandom(8 * MIB)
    assert pour(front, lane, answer(body)) > 8 * MIB
    reactor.done(lane)
    front.settle()
    assert front.call(lambda: reactor.inside.in_flight) == 0
    # Its lane is free too, while the client has read nothing.
    other = front.connect()
    other.send(get("/other"))
    lane = reactor.again(lane)
    assert lane.head() == get("/other")
    lane.send(OK)
    assert other.response().status == 200
    assert client.response().body == body


def test_wsgi_answers_are_spooled_within_limits(start_each: Start) -> None:
    front, client, _, lane = begin_answer(start_each, "wsgi", answer_spool_size=MIB)
    raw = answer(os.urandom(16 * MIB))
    taken = pour(front, lane, raw)
    assert MIB < taken < 2.5 * MIB
    got = bytearray()
    most = 0
    while len(got) < len(raw):
        got += client._sock.recv(300 * KIB)
        front.settle()
        inside = front.inside.connection.writer
        most = max(most, inside.in_file if inside is not None else 0)
        taken += pour(front, lane, raw[taken:])
    assert got == raw
    assert most <= 1.5 * MIB


def test_an_answer_that_cannot_be_spooled_closes_only_its_connection(
    start_each: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    front, client, reactor, lane = begin_answer(start_each, "wsgi")

    def fail(**_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", fail)
        try:
            pour(front, lane, answer(b"x" * (4 * MIB)))
        except BrokenPipeError:
            assert isinstance(lane, LaneEnd)
    assert lane.closed
    reactor.drop(lane)
    while client._sock.recv(MIB):
        pass
    other = front.connect()
    other.send(get())
    lane = reactor.link()
    lane.head()
    lane.send(OK)
    assert other.response().status == 200


def test_a_client_that_catches_up_late_resumes_no_other_exchange(start: Start) -> None:
    """The pause belongs to the exchange, not to the lane."""
    front, reactor = begin(start, "asgi", lanes="plain")
    slow, other = front.connect(front.unix), front.connect(front.unix)
    slow.send(get("/slow"))
    lane = reactor.lane()
    lane.head()
    # All of it has come, and the client has not taken it: more than is kept in memory.
    raw = answer(b"x" * 520_000)
    for piece in raw[:180_000], raw[180_000:360_000], raw[360_000:]:
        with front.held():
            assert lane.fill(piece) == len(piece)
        front.settle()
    reactor.done(lane)
    front.settle()
    other.send(get("/other"))
    assert lane.head() == get("/other")
    pour(front, lane, answer(b"y" * (8 * MIB)))
    (waiting,) = (c for c in front.clients if c.requester.exchange is not None)
    assert waiting.connection.writer is not None
    before = waiting.connection.writer.waiting
    left = len(raw)
    while left:
        left -= len(slow._sock.recv(50_000))
        pour(front, lane, b"y" * MIB)
    assert waiting.connection.writer.waiting == before


def test_a_slow_client_delays_later_express_requests(start: Start) -> None:
    front, reactor = begin(start, "asgi")
    client = front.connect(front.unix)
    body = b"x" * 60_000
    client.send(get() * 20)
    for _ in range(20):
        number, _ = reactor.request()
        reactor.reply(number, answer(body), ANSWER)
        reactor.reply(number, b"", DONE)
        front.settle()
        if front.inside.connection.writer is not None:
            break
    # No further request starts for a client that takes nothing.
    assert reactor.silent
    assert client.response().body == body
