"""Reactors that die, close links or break the protocol, and errors of the operating system."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import subprocess

import pytest

from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.loop.epoll import Loop
from reactor_run.frontend.reactors.reactor import Reactor
from reactor_run.protocol.express import ANSWER, BEGIN, BYTES, DONE, FIN
from tests.frontend.conftest import Start
from tests.frontend.standin import OK, Front, LaneEnd, Pieces, StandIn, answer, get, post, pour
from tests.integration.client import Client

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
PART = answer(b"x" * 100)[:-50]


def begin(start: Start, **options: object) -> tuple[Front, Client, StandIn]:
    """Start a front end that retries nothing. Retries are in test_replay.py."""
    front = start(replay="off", **options)
    return front, front.connect(), front.reactors[0]


def begin_lane(start: Start, **options: object) -> tuple[Front, Client, StandIn, LaneEnd]:
    front, client, reactor = begin(start, lanes="plain", **options)
    client.send(get())
    lane = reactor.lane()
    lane.head()
    return front, client, reactor, lane


def read_to_end(client: Client) -> bytes:
    data = b""
    while piece := client._sock.recv(65536):
        data += piece
    return data


def replacement(front: Front) -> StandIn:
    """Return the reactor that replaces the last one. It is ready."""
    front.settle()
    reactor = front.reactors[-1]
    reactor.ready()
    front.settle()
    return reactor


# Death --------------------------------------------------------------------------------------------


def test_exchanges_of_a_dead_reactor_end_by_their_state(start: Start) -> None:
    """Unanswered: 502. Answer begun: cut. In the queue: served by the next reactor."""
    front, answered, reactor = begin(start, capacities=(4,))
    answered.send(get("/answered"))
    number, _ = reactor.request()
    reactor.reply(number, OK, ANSWER)
    assert answered.response().status == 200
    express, in_pieces, uploading, waiting = (front.connect() for _ in range(4))
    express.send(get("/express"))
    reactor.request()
    in_pieces.send(get("/pieces"))
    number, _ = reactor.request()
    reactor.reply(number, PART, BEGIN)
    assert in_pieces.begin().status == 200
    uploading.send(post(b"x" * 140_000)[:-1])
    reactor.pieces().head()
    waiting.send(get("/waiting"))
    front.settle()
    reactor.die()
    assert express.response().status == 502
    assert len(read_to_end(in_pieces)) == 0
    assert uploading.response().status == 502
    second = replacement(front)
    number, payload = second.request()
    assert payload == get("/waiting")
    second.reply(number)
    assert waiting.response().status == 200
    for client in answered, express:
        client.send(get("/again"))
        second.reply(second.request()[0])
        assert client.response().status == 200
    assert front.call(lambda: second.inside.in_flight) == 0


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("lanes", ["express", "plain"])
def test_bytes_sent_before_a_death_reach_the_clients(start: Start, lanes: str, held: bool) -> None:
    """The front end reads all links to their end when a reactor dies."""
    front, client, reactor = begin(start, lanes=lanes)
    client.send(get())
    body = b"x" * 50_000
    if lanes == "express":
        number, _ = reactor.request()
    else:
        lane = reactor.lane()
        lane.head()
    with front.held():
        if lanes == "express":
            reactor.reply(number, answer(body))
        else:
            lane.send(answer(body))
        if held:
            # A child process of the reactor still holds all sockets open.
            reactor.kill()
        else:
            reactor.die()
    assert client.response().body == body


def test_an_answer_in_pieces_sent_before_a_death_is_read(start: Start) -> None:
    front, client, reactor = begin(start)
    client.send(get())
    pieces = reactor.pieces()
    with front.held():
        pieces.send(answer(b"x" * 100_000))
        pieces.done()
        reactor.die()
    assert len(client.response().body) == 100_000


def test_a_done_app_whose_answer_was_lost_gives_502(start: Start) -> None:
    """The app was done, but a part of its answer was still in the reactor."""
    front, client, reactor, lane = begin_lane(start)
    lane.send(PART)
    reactor.done(lane)
    assert client.begin().status == 200
    front.settle()
    reactor.kill()
    front.settle()
    assert lane.closed
    assert len(read_to_end(client)) == 0


def test_a_paused_answer_of_a_dead_reactor_is_read_to_its_end(start_each: Start) -> None:
    front = start_each()
    (reactor,) = front.reactors
    client = front.connect(front.unix)
    client.send(get())
    lane = reactor.link()
    lane.head()
    sent = pour(front, lane, answer(b"x" * (16 << 20)))
    reactor.done(lane)
    reactor.die()
    front.settle()
    assert len(read_to_end(client)) == sent


@pytest.mark.parametrize("lanes", ["express", "plain"])
def test_a_pipelined_request_behind_a_death_is_served(start: Start, lanes: str) -> None:
    front, client, reactor = begin(start, lanes=lanes)
    client.send(get("/first") + get("/second"))
    if lanes == "express":
        reactor.request()
    else:
        reactor.lane().head()
    front.settle()
    reactor.die()
    assert client.response().status == 502
    second = replacement(front)
    if lanes == "express":
        number, payload = second.request()
        assert payload == get("/second")
        second.reply(number)
    else:
        lane = second.lane()
        assert lane.head() == get("/second")
        lane.send(OK)
    assert client.response().status == 200


def test_a_lane_that_ends_shortly_before_its_reactor(start: Start) -> None:
    """A dying process closes its sockets one by one. A 502 sent too early would bring the next
    request to it."""
    front, client, reactor, lane = begin_lane(start)
    front.settle()
    lane.close()
    assert front.silent(client)
    reactor.die()
    assert client.response().status == 502
    client.send(get())
    lane = replacement(front).lane()
    lane.head()
    lane.send(OK)
    assert client.response().status == 200


def test_room_in_a_dead_reactor_is_not_used(start: Start) -> None:
    """The last messages of a reactor free capacity. Queued requests must not go to it for that."""
    front, client, reactor = begin(start, capacities=(1,))
    client.send(get())
    number, _ = reactor.request()
    waiting = front.connect()
    waiting.send(get("/waiting"))
    front.settle()
    with front.held():
        reactor.kill()
        reactor.reply(number)
    assert client.response().status == 200
    second = replacement(front)
    second.reply(second.request()[0])
    assert waiting.response().status == 200


def test_if_one_of_two_reactors_dies_the_other_gets_the_queue(start: Start) -> None:
    front = start(capacities=(1, 1), replay="off")
    first, second = front.reactors
    clients = [front.connect() for _ in range(3)]
    for client in clients:
        client.send(get())
        front.settle()
    first.request()
    number, _ = second.request()
    first.die()
    assert clients[0].response().status == 502
    second.reply(number)
    assert clients[1].response().status == 200
    second.reply(second.request()[0])
    assert clients[2].response().status == 200


@pytest.mark.parametrize("channel", ["control", "express"])
def test_a_reactor_that_closes_a_link_gets_nothing_more_and_is_replaced(
    start: Start, channel: str
) -> None:
    """Its process stays, so the pidfd does not report an end."""
    front, client, reactor = begin(start)
    client.send(get())
    reactor.request()
    if channel == "control":
        reactor.hang_up()
    else:
        reactor.express.close()
    front.settle()
    other = front.connect()
    other.send(get("/other"))
    assert front.silent(other)
    front.pass_time(4)
    reactor.wait_for_end()
    assert client.response().status == 502
    second = replacement(front)
    assert second is not reactor
    second.reply(second.request()[0])
    assert other.response().status == 200


def test_a_reactor_that_stops_reading_its_express_lane_is_replaced(start: Start) -> None:
    """It half-closes the lane too, so that the front end sees the end of that direction."""
    front, client, reactor = begin(start)
    client.send(get())
    reactor.request()
    reactor.express.shutdown(socket.SHUT_WR)
    front.settle()
    for _ in range(40):
        other = front.connect()
        other.send(post(b"x" * 60_000))
    front.settle()
    front.pass_time(4)
    reactor.wait_for_end()
    assert client.response().status == 502


# Faults -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense\n",
        b"[]\n",
        b'{"done":5}\n',
        b'{"done":[[]]}\n',
        b'{"capacity":"many"}\n',
        b'{"capacity":null}\n',
        b'{"capacity":Infinity}\n',
        b'{"capacity":NaN}\n',
        b"[" * 100_000 + b"\n",
        b"x" * ((1 << 20) + 140_000),
    ],
)
def test_an_invalid_control_message_kills_only_its_reactor(start: Start, line: bytes) -> None:
    front = start(capacities=(1, 1), replay="off")
    first, second = front.reactors
    clients = [front.connect() for _ in range(3)]
    for client in clients:
        client.send(get())
        front.settle()
    first.request()
    number, _ = second.request()
    try:
        first.control.sendall(line)
    except OSError:
        pass
    front.settle()
    first.wait_for_end()
    assert clients[0].response().status == 502
    second.reply(number)
    assert clients[1].response().status == 200
    second.reply(second.request()[0])
    assert clients[2].response().status == 200


def test_the_descriptor_of_an_unknown_control_message_is_closed(start: Start) -> None:
    front, client, reactor = begin(start)
    with open("/dev/null", "rb") as file:
        line = b'{"unknown":1,"fd":true}\n'
        socket.send_fds(reactor.control, [line], [file.fileno()])
    reactor.say(unknown=1, fd=0)
    # The fixture `start` finds descriptors that are left open.
    front.settle()
    client.send(get())
    reactor.reply(reactor.request()[0])
    assert client.response().status == 200


@pytest.mark.parametrize("line", [b'{"ready":[]}\n', b'{"ready":{"interface":"asgi"}}\n'])
def test_an_invalid_ready_message_ends_the_service(start: Start, line: bytes) -> None:
    front = start(capacities=())
    front.reactors[0].control.sendall(line)
    with pytest.raises(OperatorError, match="killed by signal 9 at its start"):
        front.exit()


def test_a_second_ready_message_is_ignored(start: Start) -> None:
    front, client, reactor = begin(start)
    reactor.ready(1000)
    front.settle()
    reactor.die()
    second = replacement(front)
    client.send(get())
    second.reply(second.request()[0])
    assert client.response().status == 200


def test_an_invalid_frame_on_the_express_lane_kills_its_reactor(start: Start) -> None:
    front, client, reactor = begin(start)
    client.send(get())
    reactor.request()
    reactor.express.sendall(b"x" * 100)
    reactor.wait_for_end()
    assert client.response().status == 502
    second = replacement(front)
    client.send(get())
    second.reply(second.request()[0])
    assert client.response().status == 200


def test_answers_with_unknown_numbers_are_ignored(start: Start) -> None:
    _front, client, reactor = begin(start)
    client.send(get())
    number, _ = reactor.request()
    for kind in ANSWER, DONE:
        reactor.reply(99, OK if kind == ANSWER else b"", kind)
    reactor.reply(99)
    reactor.reply(98, OK, BEGIN)
    reactor.reply(98, b"x", BYTES)
    reactor.say(unknown=1)
    reactor.say(pong=1)
    reactor.reply(number)
    assert client.response().status == 200


def test_control_messages_wait_for_a_reactor_that_reads_late(start: Start) -> None:
    """The control channel is full of new lanes. When the reactor reads, the rest follows."""
    front = start(lanes="plain")
    (reactor,) = front.reactors
    reactor.inside._control._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    clients = [front.connect() for _ in range(60)]
    for client in clients:
        client.send(get())
    front.settle()
    for _ in clients:
        lane = reactor.lane()
        lane.head()
        lane.send(OK)
    assert [client.response().status for client in clients] == [200] * 60


def test_a_lane_to_a_dying_reactor_leaves_no_descriptor_open(start: Start) -> None:
    front, client, reactor = begin(start, lanes="plain")
    with front.held():
        client.send(get())
        reactor.hang_up()
    front.pass_time(4)
    # The fixture `start` finds descriptors that are left open.
    reactor.wait_for_end()
    # The lane never reached the reactor, so its request goes to another one.
    lane = replacement(front).lane()
    lane.head()
    lane.send(OK)
    assert client.response().status == 200


# The operating system -----------------------------------------------------------------------------


class FullEpoll:
    """An epoll set that refuses new descriptors."""

    def __init__(self, epoll: select.epoll) -> None:
        self._epoll = epoll

    def __getattr__(self, name: str) -> object:
        return getattr(self._epoll, name)

    def register(self, fd: int, events: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_client_that_epoll_refuses_is_closed(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    front, client, reactor = begin(start)
    front.settle()
    with monkeypatch.context() as patch:
        patch.setattr(front.server.loop, "_epoll", FullEpoll(front.server.loop._epoll))
        assert front.connect().at_end()
    client.send(get())
    reactor.reply(reactor.request()[0])
    assert client.response().status == 200


def test_a_lane_that_epoll_refuses_gives_503(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    front, client, reactor = begin(start, lanes="plain")
    client.send(b"GET")
    front.settle()
    with monkeypatch.context() as patch:
        patch.setattr(front.server.loop, "_epoll", FullEpoll(front.server.loop._epoll))
        client.send(get()[3:])
        assert client.response().status == 503
    client.send(get())
    lane = reactor.lane()
    lane.head()
    lane.send(OK)
    assert client.response().status == 200


def test_a_lane_without_descriptors_gives_503(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    front, client, reactor = begin(start, lanes="plain", capacities=(1,))

    def fail(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    for name in "socketpair", "dup":
        with monkeypatch.context() as patch:
            patch.setattr(socket if name == "socketpair" else os, name, fail)
            client.send(get())
            assert client.response().status == 503
            front.settle()
    client.send(get())
    lane = reactor.lane()
    lane.head()
    lane.send(OK)
    assert client.response().status == 200


@pytest.mark.parametrize("what", ["fork", "pidfd", "socketpair", "watch"])
def test_a_replacement_that_cannot_be_started_is_tried_again(
    start: Start, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    front, client, reactor = begin(start)
    front.settle()

    def fail(*_, **__):
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    where = {
        "fork": (subprocess, "Popen"),
        "pidfd": (os, "pidfd_open"),
        "socketpair": (socket, "socketpair"),
        "watch": (Loop, "watch"),
    }[what]
    with monkeypatch.context() as patch:
        patch.setattr(*where, fail)
        reactor.die()
        front.settle()
        client.send(get())
        assert front.silent(client)
    assert not front.server.supervisor.reactors
    front.pass_time(3)
    second = replacement(front)
    second.reply(second.request()[0])
    assert client.response().status == 200


def test_reactors_that_cannot_be_started_at_all_are_an_error(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", fail)
    with pytest.raises(OperatorError, match="cannot start a reactor: Too many open files"):
        start(capacities=())


# Starting and replacing ---------------------------------------------------------------------------


def test_no_client_is_accepted_before_a_reactor_is_ready(start: Start) -> None:
    front = start(capacities=())
    client = front.connect()
    client.send(get())
    assert front.silent(client)
    assert not front.clients
    (reactor,) = front.reactors
    reactor.ready()
    reactor.reply(reactor.request()[0])
    assert client.response().status == 200


def test_an_app_that_fails_to_start_ends_the_service(start: Start) -> None:
    front = start(capacities=())
    (reactor,) = front.reactors
    with front.held():
        reactor.say(failed="no such app", details=None)
        reactor.die()
    with pytest.raises(OperatorError, match="no such app"):
        front.exit()


def test_a_long_traceback_is_read_whole(start: Start) -> None:
    front = start(capacities=())
    (reactor,) = front.reactors
    with front.held():
        reactor.control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        reactor.say(failed="no such app", details="x" * 150_000)
        reactor.die()
    with pytest.raises(OperatorError, match="no such app"):
        front.exit()


def test_an_app_that_is_never_ready_is_killed(start: Start) -> None:
    front = start(capacities=(), start_timeout=10.0)
    pid = front.reactors[0].inside.pid
    front.pass_time(8)
    assert front.reactors[0].inside.pid == pid
    with pytest.raises(OperatorError, match="not ready after 10 s"):
        front.exit(4)


def test_reactors_that_die_young_are_replaced_with_a_backoff(start: Start) -> None:
    front, _, reactor = begin(start)
    reactor.die()
    front.settle()
    assert len(front.reactors) == 2
    for pause in 1, 2, 4:
        front.reactors[-1].die()
        front.settle()
        count = len(front.reactors)
        front.pass_time(max(0, pause - 1.5))
        assert len(front.reactors) == count
        front.pass_time(2.6)
        assert len(front.reactors) == count + 1


def test_reactors_that_had_been_ready_are_replaced_sooner(start: Start) -> None:
    front, _, reactor = begin(start)
    reactor.die()
    front.settle()
    for pause in 0.1, 0.2, 0.4, 0.8, 1.6, 2, 2:
        count = len(front.reactors)
        front.reactors[-1].ready()
        front.settle()
        front.reactors[-1].die()
        front.settle()
        front.pass_time(max(0, pause - 0.1))
        assert len(front.reactors) == count
        front.pass_time(0.3)
        assert len(front.reactors) == count + 1


def test_a_reactor_that_ignores_stop_is_killed(start: Start) -> None:
    front, _, reactor = begin(start, graceful_timeout=10.0)
    front.signal(signal.SIGTERM)
    assert reactor.hear("stop")["stop"] == pytest.approx(10, abs=0.5)
    front.exit(13)


def test_the_loop_does_not_spin_on_closed_and_paused_sockets(start_each: Start) -> None:
    """Half-closed, closed and paused sockets cause no events."""
    front, client, reactor = begin(start_each)
    client.send(get("/", version="1.0"))
    lane = reactor.link()
    lane.head()
    lane.send(b"HTTP/1.1 200 OK\r\n\r\nx")
    client.finish_sending()
    front.settle()
    if isinstance(lane, Pieces):
        lane.hear(FIN)
    slow = front.connect(front.unix)
    slow.send(post(b"x" * 140_000)[:-1])
    upload = reactor.link()
    upload.head()
    pour(front, upload, answer(b"x" * (1 << 22)))
    slow.finish_sending()
    front.settle()
    upload.close()
    front.settle()
    if isinstance(lane, Pieces):
        reactor.express.shutdown(socket.SHUT_RD)
        front.settle()
    reactor.control.shutdown(socket.SHUT_RD)
    front.settle()
    poll = select.poll()
    poll.register(front.server.loop._epoll.fileno(), select.POLLIN)
    assert not poll.poll(0)


# The end of the service ---------------------------------------------------------------------------


def test_killed_reactors_share_one_wait(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may fail to end a process. The wait of two seconds is for all of them together."""
    front = start(capacities=(1, 1, 1))
    now = 100.0
    waited: list[float] = []

    def wait(_: Reactor, seconds: float) -> None:
        nonlocal now
        waited.append(seconds)
        now += 1.5

    with monkeypatch.context() as patch:
        patch.setattr("reactor_run.frontend.reactors.supervisor.monotonic", lambda: now)
        patch.setattr(Reactor, "kill", lambda _: None)
        patch.setattr(Reactor, "see_dead", wait)
        front.call(front.server.supervisor.bury)
    assert waited == [2.0, 0.5, 0.0]
