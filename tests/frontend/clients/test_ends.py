"""Every connection ends: in each state a deadline is set, or the app alone is awaited.

Clients and reactors do one thing after another at random, and what `http1.py` says of its states is
looked at after each. In the end all clients leave in order, all apps answer, and the longest
deadline passes: then no connection may be left.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from math import inf

import pytest

from reactor_run.frontend.clients.http1 import Http1
from reactor_run.frontend.clients.http1_state import Http1State
from reactor_run.frontend.exchanges.exchange import RUNNING, Exchange
from reactor_run.protocol.express import (
    ABORT,
    ANSWER,
    BEGIN,
    BYTES,
    DONE,
    END,
    GRANT,
    INTERIM,
    RELAY,
    REQUEST,
)
from tests.frontend.conftest import Start
from tests.frontend.standin import OK, Front, LinkEnd, Pieces, StandIn, answer, get, post
from tests.integration.client import Client

STEPS = 150
TIMES = {
    "head_timeout": 10.0,
    "body_timeout": 10.0,
    "keep_alive": 10.0,
    "response_timeout": 10.0,
    "queue_timeout": 10.0,
}
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100
LONGEST = 11.0
"""Seconds until the last deadline passes."""
CHUNKED = get("/chunked", "Transfer-Encoding: chunked", method="POST")
EXPECT = "Expect: 100-continue"
MESSAGES = (
    [get()],
    [get("/old", version="1.0")],
    [get("/old", "Connection: keep-alive", version="1.0")],
    [get("/last", "Connection: close")],
    [get()[:-3], get()[-3:]],
    [get() * 40],
    [post(b"0123456789")],
    [post(b"0123456789")[:-6], b"45", b"6789"],
    [post(b"x" * 400_000)[:-400_000], *[b"x" * 50_000] * 8],
    [CHUNKED + b"3\r\nabc\r\n0\r\n\r\n"],
    [CHUNKED + b"5\r\nab", b"cde\r\n0\r\n", b"\r\n"],
    [CHUNKED, b"1\r\nx\r\n" * 300, b"1\r\nx\r\n" * 3000 + b"0\r\n\r\n"],
    [CHUNKED, *[b"c350\r\n" + b"x" * 50_000 + b"\r\n"] * 8, b"0\r\n\r\n"],
    [post(b"0123456789", EXPECT)[:-10], b"0123", b"456789"],
    [post(b"0123456789", EXPECT)],
)
"""Requests, each in the pieces in which a client sends it."""
NONSENSE = b"nonsense\r\n\r\n"
ANSWERS = (
    OK,
    answer(b"no", status="413 Content Too Large"),
    answer(b"x" * 20_000),
    answer(b"x" * 2_000_000),
    answer(b"ok")[:-1],
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 300,
    UNTIL_CLOSE,
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\n\r\n",
    b"nonsense\r\n\r\n",
)


class Player:
    """Plays clients and the reactor."""

    def __init__(self, front: Front, seed: int) -> None:
        self.front = front
        self.random = random.Random(seed)
        self.clients: list[Client] = []
        self.to_send: dict[Client, list[bytes]] = {}
        self.numbers: list[int] = []
        """Exchanges of the express lane whose app is not done."""
        self.lanes: list[LinkEnd] = []
        """Lanes, and exchanges in pieces, whose app is not done."""
        self.pieces: dict[int, Pieces] = {}
        """The exchanges in pieces, by number."""
        self.to_answer: dict[LinkEnd, bytes] = {}
        """The rest of an answer that the front end has not taken."""
        self.answered: set[Pieces] = set()
        """Exchanges in pieces whose answer is complete."""
        self.direct: set[Pieces] = set()
        """Exchanges in pieces that have used their grant."""
        self.done: list[str] = []

    @property
    def reactor(self) -> StandIn:
        return self.front.reactors[-1]

    def step(self) -> None:
        """Let a client or the reactor take one random step."""
        self.look()
        actions: list[tuple[float, Callable[[], None]]] = [(6, self.connect), (1, self.wait)]
        if self.clients:
            actions += [(12, self.send), (4, self.send_and_fin), (0.5, self.fin), (0.3, self.reset)]
            actions += [(4, self.receive)]
        if self.numbers:
            actions += [(6, self.reply)]
        if self.lanes:
            actions += [(6, self.answer_on_lane), (1, self.end_lane), (3, self.read_lane)]
        weights = [weight for weight, _ in actions]
        (action,) = self.random.choices([each for _, each in actions], weights)
        self.done.append(action.__name__)
        action()
        self.front.settle()

    # Clients

    def connect(self) -> None:
        if len(self.clients) < 6:
            client = self.front.connect(self.random.choice([None, self.front.unix]))
            self.clients.append(client)
            self.to_send[client] = []

    def client(self) -> Client:
        return self.random.choice(self.clients)

    def send(self) -> None:
        self._send(self.client(), fin=False)

    def send_and_fin(self) -> None:
        self._send(self.client(), fin=True)

    def _send(self, client: Client, *, fin: bool) -> None:
        """Send the next pieces of its requests in one batch."""
        pieces = self.to_send[client]
        if self.random.random() < 0.02:
            pieces.insert(0, NONSENSE)
        count = self.random.randint(1, 4)
        while len(pieces) < count:
            pieces += self.random.choice(MESSAGES)
        data = b"".join(pieces[:count])
        del pieces[:count]
        self.done.append(repr(data[:60]))
        with self.front.held():
            try:
                sent = _at_once(client._sock).send(data)
                if sent < len(data):
                    pieces.insert(0, data[sent:])
                if fin:
                    client.finish_sending()
            except BlockingIOError:
                pieces.insert(0, data)
            except OSError:
                self._forget(client)

    def _forget(self, client: Client) -> None:
        self.clients.remove(client)
        client.close()

    def fin(self) -> None:
        client = self.client()
        try:
            client.finish_sending()
        except OSError:
            self._forget(client)

    def reset(self) -> None:
        client = self.client()
        self.clients.remove(client)
        client.reset()

    def receive(self) -> None:
        client = self.client()
        try:
            if not _at_once(client._sock).recv(self.random.choice([10, 1_000_000])):
                self._forget(client)
        except BlockingIOError:
            return
        except OSError:
            self._forget(client)

    def wait(self) -> None:
        self.front.pass_time(self.random.choice([1, 4]))

    # The reactor

    def look(self) -> None:
        """Take what the front end has sent. It has settled."""
        reactor = self.reactor
        while not reactor.silent:
            if reactor._heard:
                kind, *_ = reactor._heard[0]
                if kind == "lane":
                    self.lanes.append(reactor.lane())
                else:
                    reactor._heard.popleft()
            else:
                number, kind_of, payload = reactor.message()
                if kind_of != REQUEST:
                    if number in self.pieces:
                        self.pieces[number].take(kind_of, payload)
                elif self.random.random() < 0.5:
                    self.numbers.append(number)
                else:
                    self.pieces[number] = pieces = Pieces(reactor, number, payload)
                    self.lanes.append(pieces)

    def reply(self) -> None:
        number = self.numbers.pop(self.random.randrange(len(self.numbers)))
        if self.random.random() < 0.5:
            self.reactor.reply(number, self.random.choice(ANSWERS[:3]))
        else:
            self.reactor.reply(number, self.random.choice(ANSWERS[:3]), ANSWER)
            self.reactor.reply(number, b"", DONE)

    def answer_on_lane(self) -> None:
        """Send an answer, or a part of one, as far as the front end takes it."""
        lane = self.random.choice(self.lanes)
        if isinstance(lane, Pieces):
            self._answer_in_pieces(lane)
            return
        data = self.to_answer.get(lane) or self.random.choice(ANSWERS)
        try:
            self.to_answer[lane] = data[lane.fill(data) :]
        except OSError:
            return

    def _answer_in_pieces(self, pieces: Pieces) -> None:
        if pieces in self.answered:
            # The front end must ignore it.
            self.reactor.reply(pieces.number, b"x", self.random.choice([BYTES, END, BEGIN, ABORT]))
        elif pieces not in self.to_answer:
            data = self.random.choice(ANSWERS)
            end = data.index(b"\r\n\r\n") + 4
            if data.startswith(b"HTTP/1.1 1"):
                self.reactor.reply(pieces.number, data, INTERIM)
                return
            pieces.begin(data[:end], ask=self.random.random() < 0.7)
            self.to_answer[pieces] = data[end:]
        else:
            self._go_on_in_pieces(pieces)

    def _go_on_in_pieces(self, pieces: Pieces) -> None:
        data = self.to_answer[pieces]
        if pieces.closed:
            return
        if GRANT in pieces.kinds and pieces not in self.direct:
            self.direct.add(pieces)
            try:
                sent = self.reactor.client(pieces.connection).send(data, socket.MSG_DONTWAIT)
            except OSError:
                sent = 0
            if sent == len(data):
                pieces.written(sent)
                self.answered.add(pieces)
                return
            self.random.choice([pieces.blocked, pieces.moves])(sent)
            pieces.give_back(sent)
            data = data[sent:]
        if GRANT in pieces.kinds or RELAY in pieces.kinds or not pieces.asked:
            piece = data[: min(65536, pieces.answer_credit)]
            if piece:
                pieces.more(piece)
            data = data[len(piece) :]
            if not data:
                pieces.end()
                self.answered.add(pieces)
        self.to_answer[pieces] = data

    def read_lane(self) -> None:
        lane = self.random.choice(self.lanes)
        if isinstance(lane, Pieces):
            lane.exactly(self.random.randint(0, lane.unread))
            return
        try:
            _at_once(lane.sock).recv(1 << 20)
        except OSError:
            return

    def end_lane(self) -> None:
        lane = self.lanes.pop(self.random.randrange(len(self.lanes)))
        lane.close()
        self.reactor.drop(lane)

    # The end

    def end(self) -> None:
        """Let all clients leave in order, and all apps end."""
        for client in self.clients:
            try:
                client.finish_sending()
            except OSError:
                pass
        self.front.settle()
        for client in self.clients:
            client.close()
        for _ in range(400):
            self.front.settle()
            self.look()
            if not (self.numbers or self.lanes):
                break
            while self.numbers:
                self.reply()
            while self.lanes:
                self.end_lane()
        for _ in range(6):
            self.front.pass_time(LONGEST)


def _at_once(sock: socket.socket) -> socket.socket:
    """Have `sock` raise BlockingIOError instead of waiting."""
    sock.setblocking(False)
    return sock


def awaits_the_app_alone(client: Http1) -> bool:
    """What `http1.py` says of BUSY."""
    requester = client.requester
    exchange, body = requester.exchange, requester.body
    return (
        client.state is Http1State.BUSY
        and exchange is not None
        and exchange.state is RUNNING
        and not client.connection.unsent
        and (body is None or body.awaits_permission or waits_for_room(exchange))
    )


def waits_for_room(exchange: Exchange) -> bool:
    """The app has not read what has come of the body, and so its client is not read either."""
    return exchange.lane is not None and (not exchange.lane.room() or not exchange.lane.begun)


def endless(front: Front) -> list[str]:
    """The states of connections that nothing would end."""
    return [
        client.connection.state_name
        for client in front.clients
        if not (
            awaits_the_app_alone(client)
            if client.connection.deadline == inf
            else client.connection.check_at
            <= client.connection.deadline
            <= front.server.loop.now + LONGEST
        )
    ]


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
@pytest.mark.parametrize("lanes", ["express", "plain"])
@pytest.mark.parametrize("capacity", [2, 1000])
@pytest.mark.parametrize("seed", range(10))
def test_each_state_has_an_end(
    start: Start, interface: str, lanes: str, capacity: int, seed: int
) -> None:
    front = start(interface=interface, lanes=lanes, capacities=(capacity,), **TIMES)
    player = Player(front, seed)
    for _ in range(STEPS):
        player.step()
        assert front.call(lambda: endless(front)) == [], player.done
    player.end()
    left = [client.connection.state_name for client in front.clients]
    assert not left, player.done
