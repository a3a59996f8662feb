"""WebSockets in the front end: it carries bytes both ways, and ends what a reactor leaves open."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from reactor_run.frontend.clients.tunnel import SERVICE_RESTART, Tunnel
from reactor_run.frontend.exchanges.record import Record
from reactor_run.protocol.express import BYTES, DONE, PART, WINDOW
from reactor_run.protocol.websocket.summary import Summary
from tests.frontend.conftest import Start
from tests.frontend.exchanges.test_ended import Watcher, watch
from tests.frontend.reactors.test_reactor import read_to_end, replacement
from tests.frontend.standin import OK, Front, LaneEnd, LinkEnd, Pieces, StandIn, get
from tests.integration.client import Client
from tests.integration.waiting import eventually
from tests.protocol.websocket.frames import frame

MIB = 1 << 20
ASKS = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
HANDSHAKE = get("/chat", *ASKS, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
FRAME = frame(0x82, b"x" * 1000, mask=None)
SOME = FRAME * 60
SUMMARY = Summary(1000, 2, 3)


class WebSocketEnd:
    """A reactor's end of one WebSocket, on either kind of lane."""

    def __init__(self, reactor: StandIn, link: LinkEnd) -> None:
        self.reactor = reactor
        self.link = link

    def accept(self) -> None:
        if isinstance(self.link, Pieces):
            self.link.begin(SWITCHING)
        else:
            self.link.send(SWITCHING)

    def send(self, data: bytes) -> None:
        """Send whole frames. There must be credit."""
        if isinstance(self.link, Pieces):
            self.link.send_piece(data)
        else:
            self.link.send(data)

    def send_part(self, data: bytes) -> None:
        """Send bytes that end within a frame."""
        if isinstance(self.link, Pieces):
            self.link.say(PART, data)
        else:
            self.link.send(data)

    def fill(self, data: bytes) -> int:
        """Send what goes of `data`, which repeats FRAME; return how many bytes that was."""
        pieces = self.link
        if not isinstance(pieces, Pieces):
            return pieces.fill(data)
        pieces.take_all()
        sent = 0
        while sent < len(data) and pieces.answer_credit >= len(SOME):
            pieces.more(data[sent : sent + len(SOME)])
            sent += len(SOME)
        return min(sent, len(data))

    def end(self) -> None:
        """Send nothing more."""
        if isinstance(self.link, Pieces):
            self.link.end()
        else:
            self.link.half_close()

    def abort(self) -> None:
        self.link.close()

    def over(self, summary: Summary = SUMMARY) -> None:
        """Say that the WebSocket and its app have ended."""
        if isinstance(self.link, Pieces):
            self.link.say(DONE, summary.pack())
        else:
            number = self.link.number
            self.reactor.say(drop=[number], websockets=[[number, *summary]])


def ask(start: Start, **options: Any) -> tuple[Front, Client, WebSocketEnd]:
    """Return a WebSocket whose app has not accepted yet."""
    front = start(**options)
    client = front.connect()
    client.send(HANDSHAKE)
    reactor = front.reactors[0]
    link = reactor.link()
    assert link.head() == HANDSHAKE
    return front, client, WebSocketEnd(reactor, link)


def begin(start: Start, **options: Any) -> tuple[Front, Client, WebSocketEnd]:
    """Return a WebSocket whose app has accepted, and whose client knows it."""
    front, client, end = ask(start, **options)
    end.accept()
    assert exactly(client, len(SWITCHING)) == SWITCHING
    return front, client, end


def exactly(client: Client, size: int) -> bytes:
    """Read exactly `size` bytes."""
    data = bytearray()
    while len(data) < size:
        piece = client._sock.recv(size - len(data))
        assert piece, f"the connection ended after {bytes(data[-100:])!r}"
        data += piece
    return bytes(data)


def pour(front: Front, end: WebSocketEnd, data: bytes) -> int:
    """Send until the front end takes no more; return how many bytes that was."""
    taken = 0
    while sent := end.fill(data[taken:]):
        taken += sent
        front.settle()
    return taken


def tunnel(front: Front) -> Tunnel:
    """Return the protocol of the only connection."""
    (connection,) = front.server.acceptor.clients
    assert isinstance(connection.protocol, Tunnel)
    return connection.protocol


def counts(front: Front, reactor: StandIn) -> tuple[int, int]:
    """Return how many exchanges and how many WebSockets the reactor has."""
    front.settle()
    return front.call(lambda: (reactor.inside.in_flight, reactor.inside.websockets))


def states(front: Front) -> list[str]:
    """Return the states of all connections."""
    front.settle()
    return front.call(lambda: [each.state_name for each in front.server.acceptor.clients])


def only(front: Front, watcher: Watcher) -> Record:
    """Return the record of the WebSocket, which must be the only one."""
    front.settle()
    (record,) = watcher.records
    return record


def is_served(front: Front) -> bool:
    """Return whether another client is served as if nothing had happened."""
    other = front.connect()
    other.send(get("/other"))
    reactor = front.reactors[-1]
    link = reactor.link()
    assert link.head() == get("/other")
    link.send(OK)
    status = other.response().status
    reactor.done(link)
    front.settle()
    return status == 200


# The 101 answer -----------------------------------------------------------------------------------


def test_the_connection_becomes_a_websocket(start_each: Start) -> None:
    front, client, end = ask(start_each)
    assert counts(front, end.reactor) == (1, 0)
    end.accept()
    assert exactly(client, len(SWITCHING)) == SWITCHING
    assert front.silent(client)
    assert counts(front, end.reactor) == (0, 1)
    assert states(front) == ["websocket"]
    assert front.call(lambda: front.server.supervisor.websockets) == 1


def test_the_first_frames_may_come_with_the_101(start: Start) -> None:
    front, client, end = ask(start, lanes="plain")
    assert isinstance(end.link, LaneEnd)
    end.link.send(SWITCHING + FRAME + FRAME[:10])
    assert exactly(client, len(SWITCHING) + 1014) == SWITCHING + FRAME + FRAME[:10]
    end.send(FRAME[10:])
    assert exactly(client, 994) == FRAME[10:]
    assert front.silent(client)


def test_bytes_beyond_the_101_of_a_message_give_502(start: Start) -> None:
    front, client, end = ask(start)
    assert isinstance(end.link, Pieces)
    end.link.begin(SWITCHING + FRAME)
    assert client.response().status == 502
    end.link.done()
    assert counts(front, end.reactor) == (0, 0)
    assert is_served(front)


@pytest.mark.parametrize("asks", [[], ["Upgrade: websocket"], ["Connection: Upgrade"]])
def test_a_101_that_no_one_has_asked_for_gives_502(start_each: Start, asks: list[str]) -> None:
    front = start_each()
    watcher = watch(front)
    client = front.connect()
    client.send(get("/", *asks))
    reactor = front.reactors[0]
    link = reactor.link()
    link.head()
    WebSocketEnd(reactor, link).accept()
    assert client.response().status == 502
    reactor.drop(link)
    assert counts(front, reactor) == (0, 0)
    assert only(front, watcher).status == 502
    assert is_served(front)


def test_a_second_101_is_not_relayed(start: Start) -> None:
    """The client would take it for a part of a frame."""
    front, client, end = begin(start)
    end.accept()
    assert read_to_end(client) == SERVICE_RESTART
    end.over()
    assert counts(front, end.reactor) == (0, 0)
    assert is_served(front)


@pytest.mark.parametrize("kind", [BYTES, PART])
def test_frames_before_the_101_give_502(start: Start, kind: int) -> None:
    front, client, end = ask(start)
    assert isinstance(end.link, Pieces)
    end.link.say(kind, FRAME)
    assert client.response().status == 502
    end.link.done()
    assert counts(front, end.reactor) == (0, 0)
    assert is_served(front)


def test_a_part_of_an_answer_without_a_websocket_cuts_it(start: Start) -> None:
    front = start()
    client = front.connect()
    client.send(get())
    pieces = front.reactors[0].pieces()
    pieces.begin(OK[:-1])
    pieces.say(PART, b"k")
    assert read_to_end(client) == OK[:-1]
    pieces.done()
    assert is_served(front)


def test_an_app_may_answer_the_handshake_in_http(start_each: Start) -> None:
    front, client, end = ask(start_each)
    end.link.send(OK)
    assert client.response().body == b"ok"
    end.reactor.done(end.link)
    assert counts(front, end.reactor) == (0, 0)
    assert states(front) == ["idle"]
    client.send(get("/next"))
    link = end.reactor.again(end.link)
    assert link.head() == get("/next")
    link.send(OK)
    assert client.response().body == b"ok"


def test_an_accepted_websocket_makes_room_for_a_request_that_waits(start_each: Start) -> None:
    front, client, end = ask(start_each, capacities=(1,))
    other = front.connect()
    other.send(get("/other"))
    front.settle()
    assert front.call(lambda: front.server.dispatcher.waiting) == 1
    end.accept()
    assert exactly(client, len(SWITCHING)) == SWITCHING
    link = end.reactor.link()
    assert link.head() == get("/other")
    assert counts(front, end.reactor) == (1, 1)
    link.send(OK)
    assert other.response().status == 200


def test_no_deadline_of_a_request_holds_for_a_websocket(start_each: Start) -> None:
    front, client, end = begin(
        start_each,
        request_timeout=5.0,
        first_byte_timeout=5.0,
        keep_alive=5.0,
        body_timeout=5.0,
        min_body_rate=100,
    )
    for _ in range(3):
        front.pass_time(1000)
    assert front.silent(client)
    end.send(FRAME)
    assert exactly(client, len(FRAME)) == FRAME


# Bytes both ways ----------------------------------------------------------------------------------


def test_bytes_go_both_ways(start_each: Start) -> None:
    _front, client, end = begin(start_each)
    for size in 1, 100, 5000, 100_000:
        data = os.urandom(size)
        with client.sending([data]):
            assert end.link.exactly(size) == data
        frames = frame(0x82, data, mask=None)
        with client.sending([]):
            end.send(frames)
            assert exactly(client, len(frames)) == frames


def test_bytes_that_a_client_sends_before_the_101_come_after_the_request(start_each: Start) -> None:
    front, client, end = ask(start_each)
    client.send(b"early")
    front.settle()
    client.send(b" and late")
    front.settle()
    end.accept()
    assert exactly(client, len(SWITCHING)) == SWITCHING
    client.send(b", later")
    assert end.link.exactly(21) == b"early and late, later"
    assert front.silent(client)


def test_many_early_bytes_arrive_in_order(start_each: Start) -> None:
    _front, client, end = ask(start_each)
    data = os.urandom(MIB)
    with client.sending([data]):
        end.accept()
        assert exactly(client, len(SWITCHING)) == SWITCHING
        assert end.link.exactly(MIB) == data


def test_early_bytes_look_like_a_request_and_are_none(start_each: Start) -> None:
    """They are a part of the WebSocket only if the app accepts."""
    front, client, end = ask(start_each)
    client.send(get("/smuggled"))
    front.settle()
    end.accept()
    assert exactly(client, len(SWITCHING)) == SWITCHING
    assert end.link.exactly(len(get("/smuggled"))) == get("/smuggled")
    assert counts(front, end.reactor) == (0, 1)


def test_a_client_waits_for_a_reactor_that_gives_no_credit(start: Start) -> None:
    front, client, end = begin(start)
    pieces = end.link
    assert isinstance(pieces, Pieces)
    pieces.credits_body = False
    data = os.urandom(8 * MIB)
    with client.sending([data]):
        assert eventually(lambda: pieces.unread == WINDOW)
        front.settle()
        assert pieces.unread == WINDOW
        assert not front.call(lambda: tunnel(front)._connection.reading)
        pieces.credit(1000)
        assert eventually(lambda: pieces.unread == WINDOW + 1000)
        front.settle()
        assert pieces.unread == WINDOW + 1000
        pieces.credits_body = True
        pieces.credit(WINDOW)
        assert pieces.exactly(len(data)) == data


def test_a_client_waits_for_a_reactor_that_does_not_read_its_lane(start: Start) -> None:
    front, client, end = begin(start, lanes="plain")
    data = os.urandom(16 * MIB)
    with client.sending([data]):
        assert eventually(lambda: not front.call(lambda: tunnel(front)._connection.reading))
        waiting = front.call(lambda: tunnel(front)._requester.exchange.lane.out.size)  # type: ignore[union-attr]
        assert 0 < waiting <= 131072
        assert end.link.exactly(len(data)) == data
    assert front.call(lambda: tunnel(front)._connection.reading)


def test_a_client_that_does_not_read_stops_its_reactor(start_each: Start) -> None:
    front, client, end = begin(start_each, response_timeout=0.0)
    data = FRAME * 20_000
    taken = pour(front, end, data)
    assert 0 < taken < len(data)
    front.pass_time(100)
    assert end.fill(data[taken:]) == 0
    unsent = front.call(lambda: tunnel(front)._connection.unsent)
    assert unsent <= 768 << 10
    got = bytearray()
    while len(got) < len(data):
        got += client._sock.recv(MIB)
        front.settle()
        taken += end.fill(data[taken:])
    assert got == data
    end.send(FRAME)
    assert exactly(client, len(FRAME)) == FRAME


def test_a_client_that_never_reads_is_aborted(start_each: Start) -> None:
    front, client, end = begin(start_each, response_timeout=10.0)
    watcher = watch(front)
    data = FRAME * 20_000
    pour(front, end, data)

    def is_aborted() -> bool:
        # The kernel may have taken bytes late, which earns the client more time.
        front.pass_time(12)
        return not states(front)

    assert eventually(is_aborted)
    assert end.link.closed
    # Its place is not free before its app is done.
    assert counts(front, end.reactor) == (0, 1)
    assert not watcher.records
    end.over()
    assert only(front, watcher).error == "the client left"
    with pytest.raises(ConnectionResetError):
        read_to_end(client)


# The end ------------------------------------------------------------------------------------------


def test_the_connection_closes_after_the_last_byte(start_each: Start) -> None:
    front, client, end = begin(start_each)
    end.send(FRAME)
    end.end()
    assert read_to_end(client) == FRAME
    # Frames of the client that cross do not reset the connection.
    client.send(b"late")
    assert states(front) == ["lingering"]
    assert counts(front, end.reactor) == (0, 1)
    end.over()
    assert counts(front, end.reactor) == (0, 0)
    client.close()
    assert states(front) == []
    assert is_served(front)


def test_the_connection_closes_after_a_slow_client_has_read_the_last_byte(
    start_each: Start,
) -> None:
    front, client, end = begin(start_each)
    taken = pour(front, end, FRAME * 20_000)
    end.end()
    end.over()
    front.settle()
    got = read_to_end(client)
    assert got == (FRAME * 20_000)[:taken]
    client.close()
    assert states(front) == []


@pytest.mark.parametrize("first", ["end", "over"])
def test_end_and_over_come_in_either_order(start_each: Start, first: str) -> None:
    """The last bytes may wait for the client when the app is done. On a plain lane, the control
    channel may be read before the lane."""
    front, client, end = begin(start_each)
    watcher = watch(front)
    end.send(FRAME)
    for step in (end.end, end.over) if first == "end" else (end.over, end.end):
        step()
        front.settle()
    assert read_to_end(client) == FRAME
    client.close()
    assert counts(front, end.reactor) == (0, 0)
    assert only(front, watcher).websocket == SUMMARY


def test_the_end_may_overtake_the_101(start: Start) -> None:
    """A lane and the control channel are two sockets."""
    front, client, end = ask(start, lanes="plain")
    end.over()
    assert counts(front, end.reactor) == (0, 0)
    end.accept()
    end.send(FRAME)
    end.end()
    assert read_to_end(client) == SWITCHING + FRAME
    assert counts(front, end.reactor) == (0, 0)


def test_a_client_that_sends_fin(start_each: Start) -> None:
    front, client, end = begin(start_each)
    watcher = watch(front)
    client.send(b"last")
    client.finish_sending()
    assert end.link.exactly(4) == b"last"
    assert eventually(lambda: end.link.ended)
    end.send(FRAME)
    end.end()
    assert read_to_end(client) == FRAME
    end.over()
    assert counts(front, end.reactor) == (0, 0)
    assert states(front) == []
    assert only(front, watcher).error == ""


def test_fin_comes_after_bytes_that_wait_for_credit(start: Start) -> None:
    front, client, end = begin(start)
    pieces = end.link
    assert isinstance(pieces, Pieces)
    pieces.credits_body = False
    with client.sending([b"x" * (WINDOW + 1000)]):
        assert eventually(lambda: pieces.unread == WINDOW)
    client.finish_sending()
    front.settle()
    assert not pieces.ended
    pieces.credits_body = True
    pieces.credit(WINDOW)
    pieces.exactly(WINDOW + 1000)
    assert eventually(lambda: pieces.ended)


def test_fin_with_the_handshake(start_each: Start) -> None:
    front, client, end = ask(start_each)
    client.send(b"early")
    front.settle()
    client.finish_sending()
    front.settle()
    end.accept()
    assert exactly(client, len(SWITCHING)) == SWITCHING
    assert end.link.exactly(5) == b"early"
    assert eventually(lambda: end.link.ended)
    end.end()
    end.over(Summary(1006, 0, 0))
    assert read_to_end(client) == b""
    assert counts(front, end.reactor) == (0, 0)
    assert states(front) == []


@pytest.mark.parametrize("unread", [0, 16 * MIB])
def test_a_client_that_resets(start_each: Start, unread: int) -> None:
    front, client, end = begin(start_each)
    watcher = watch(front)
    end.fill(FRAME * (unread // len(FRAME)))
    front.settle()
    client.reset()
    assert eventually(lambda: end.link.closed)
    assert states(front) == []
    assert counts(front, end.reactor) == (0, 1)
    if isinstance(end.link, Pieces):
        # What crosses is dropped.
        end.link.more(FRAME)
        end.link.end()
    end.over(Summary(1006, 0, 0))
    assert counts(front, end.reactor) == (0, 0)
    record = only(front, watcher)
    assert (record.error, record.websocket) == ("the client left", Summary(1006, 0, 0))
    assert is_served(front)


def test_a_client_that_resets_while_the_last_bytes_wait_for_it(start_each: Start) -> None:
    front, client, end = begin(start_each)
    watcher = watch(front)
    end.fill(FRAME * 1000)
    end.end()
    end.over()
    front.settle()
    client.reset()
    assert eventually(lambda: not states(front))
    assert counts(front, end.reactor) == (0, 0)
    assert only(front, watcher).websocket == SUMMARY
    assert is_served(front)


def test_an_abort_between_frames_gives_1012(start_each: Start) -> None:
    front, client, end = begin(start_each)
    end.send(FRAME)
    end.abort()
    assert read_to_end(client) == FRAME + SERVICE_RESTART
    end.over()
    assert counts(front, end.reactor) == (0, 0)


def test_an_abort_within_a_frame_cuts(start_each: Start) -> None:
    front, client, end = begin(start_each)
    end.send(FRAME)
    end.send_part(FRAME[:500])
    end.abort()
    assert read_to_end(client) == FRAME + FRAME[:500]
    end.over()
    assert counts(front, end.reactor) == (0, 0)


@pytest.mark.parametrize("data", [b"", FRAME, FRAME[:500], FRAME[:1], FRAME[:500] + FRAME[500:]])
def test_a_reactor_that_dies(start_each: Start, data: bytes) -> None:
    """1012 follows whole frames only: within a frame it would be payload."""
    front, client, end = begin(start_each)
    watcher = watch(front)
    whole = data in (b"", FRAME)
    if data:
        if whole:
            end.send(data)
        else:
            end.send_part(data)
        assert exactly(client, len(data)) == data
    end.reactor.die()
    assert read_to_end(client) == (SERVICE_RESTART if whole else b"")
    client.close()
    assert states(front) == []
    record = only(front, watcher)
    assert (record.status, record.websocket) == (101, None)
    assert record.error
    replacement(front)
    assert is_served(front)


def test_a_part_that_is_completed_is_a_frame(start_each: Start) -> None:
    _front, client, end = begin(start_each)
    end.send_part(FRAME[:500])
    end.send(FRAME[500:])
    end.reactor.die()
    assert read_to_end(client) == FRAME + SERVICE_RESTART


def test_a_reactor_that_dies_while_its_client_does_not_read(start_each: Start) -> None:
    front, client, end = begin(start_each)
    pour(front, end, FRAME * 20_000)
    end.reactor.die()
    front.settle()
    got = read_to_end(client)
    assert len(got) > MIB // 4
    count = len(got) // len(FRAME)
    assert got.startswith(FRAME * count)
    last = got[count * len(FRAME) :]
    if isinstance(end.link, Pieces):
        assert last == SERVICE_RESTART
    else:
        # Bytes that the front end had not read from the lane are lost.
        assert last == SERVICE_RESTART or (last and FRAME.startswith(last))
    client.close()
    assert states(front) == []


def test_a_summary_of_the_wrong_size_is_left_out(start: Start) -> None:
    front, client, end = begin(start)
    watcher = watch(front)
    assert isinstance(end.link, Pieces)
    end.end()
    end.link.say(DONE, b"too short")
    assert read_to_end(client) == b""
    assert counts(front, end.reactor) == (0, 0)
    assert only(front, watcher).websocket is None
    assert any("a summary has 18 bytes, not 9" in line for line in front.log)


# Records ------------------------------------------------------------------------------------------


def test_one_record_at_the_end(start_each: Start) -> None:
    front, client, end = ask(start_each)
    watcher = watch(front)
    front.pass_time(3)
    end.accept()
    assert exactly(client, len(SWITCHING)) == SWITCHING
    client.send(b"x" * 100)
    end.link.exactly(100)
    end.send(FRAME)
    assert exactly(client, len(FRAME)) == FRAME
    front.pass_time(50)
    assert not watcher.records
    end.end()
    assert read_to_end(client) == b""
    assert not watcher.records
    end.over()
    record = only(front, watcher)
    assert (record.status, record.error, record.rule) == (101, "", "")
    assert record.websocket == SUMMARY
    assert record.bytes_in == len(HANDSHAKE) + 100
    assert record.bytes_out == len(SWITCHING) + len(FRAME)
    assert record.first_byte - record.arrived >= 3
    assert record.duration >= 53
    client.close()
    front.settle()
    assert len(watcher.records) == 1


# The service --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_has_the_reactor_close_its_websockets(start_each: Start, number: int) -> None:
    front, client, end = begin(start_each, ws_drain=4.0)
    front.signal(number)
    message = end.reactor.hear("close")
    assert message["close"] == 1001
    assert 3.0 < message["seconds"] <= 4.0
    assert states(front) == ["websocket"]
    end.send(frame(0x88, b"\x03\xe9", mask=None))
    end.end()
    end.over()
    assert read_to_end(client) == frame(0x88, b"\x03\xe9", mask=None)
    client.close()
    end.reactor.hear("stop")
    end.reactor.die()
    front.exit()


def test_a_reload_has_the_old_reactor_close_its_websockets(start_each: Start) -> None:
    front, client, end = begin(start_each, ws_drain=4.0)
    front.signal(signal.SIGHUP)
    front.settle()
    new = replacement(front)
    message = end.reactor.hear("close")
    assert message["close"] == 1012
    assert is_served(front)
    assert end.reactor is not new
    end.end()
    end.over()
    assert read_to_end(client) == b""
    end.reactor.hear("stop")


def test_a_handshake_that_is_accepted_after_a_reload_is_told_then(start_each: Start) -> None:
    front, client, end = ask(start_each, ws_drain=4.0, graceful_timeout=100.0)
    front.signal(signal.SIGHUP)
    front.settle()
    replacement(front)
    front.pass_time(3)
    end.accept()
    assert exactly(client, len(SWITCHING)) == SWITCHING
    message = end.reactor.hear("close")
    assert message["close"] == 1012
    assert 0.0 <= message["seconds"] < 2.0
    end.end()
    end.over()
    end.reactor.hear("stop")


def test_a_reactor_without_websockets_is_told_nothing(start_each: Start) -> None:
    front = start_each()
    (reactor,) = front.reactors
    front.signal(signal.SIGHUP)
    front.settle()
    replacement(front)
    reactor.hear("stop")


def test_a_stop_ends_with_websockets_that_do_not_end(start_each: Start) -> None:
    """The reactor is stopped when the graceful timeout is over."""
    front, client, end = begin(start_each, graceful_timeout=10.0, ws_drain=1.0)
    front.signal(signal.SIGTERM)
    end.reactor.hear("close")
    front.pass_time(11)
    end.reactor.hear("stop")
    end.reactor.die()
    front.settle()
    assert read_to_end(client) == SERVICE_RESTART
    client.close()
    front.exit()


def test_a_stop_does_not_wait_for_a_client_that_does_not_read(start_each: Start) -> None:
    front, client, end = begin(start_each, graceful_timeout=10.0, response_timeout=0.0)
    pour(front, end, FRAME * 20_000)
    end.end()
    end.over()
    front.settle()
    front.signal(signal.SIGTERM)
    front.settle()
    if counts(front, end.reactor) == (0, 1):
        # Bytes of the reactor wait on the lane.
        end.reactor.hear("close")
    front.pass_time(11)
    end.reactor.hear("stop")
    client.reset()
    front.settle()
    end.reactor.die()
    front.exit()


def test_a_websocket_is_not_closed_to_make_room(start_each: Start) -> None:
    front, client, end = begin(start_each, max_connections=1)
    other = front.connect()
    other.send(get("/other"))
    front.settle()
    end.send(FRAME)
    assert exactly(client, len(FRAME)) == FRAME
    end.end()
    end.over()
    assert read_to_end(client) == b""
    client.close()
    link = end.reactor.link()
    assert link.head() == get("/other")
    link.send(OK)
    assert other.response().status == 200


def test_the_state_after_the_end_is_not_counted(start_each: Start) -> None:
    front, client, end = begin(start_each)
    inside = tunnel(front)
    assert inside.state_name == "websocket"
    end.end()
    end.over()
    assert read_to_end(client) == b""
    assert inside.state_name == "ended"
    client.close()
    assert states(front) == []
