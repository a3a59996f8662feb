"""Requests that have arrived whole over HTTP/2: what makes a stream of them, and what does not."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from reactor_run.protocol.express import ANSWER, CANCEL, GONE
from tests.frontend.conftest import Start
from tests.frontend.standin import OK, Front, StandIn, answer
from tests.integration.frames import CANCEL as CANCELLED
from tests.integration.frames import Frames, data, get, post, reset, window

BODY = b"x" * 60_000
INITIAL_WINDOW = 4


Begin = Callable[..., tuple[Front, Frames, StandIn]]


@pytest.fixture
def begin(start: Start) -> Iterator[Begin]:
    """`begin(ours=None, **settings)`: a front end, a client of it, and its reactor."""
    clients: list[Frames] = []

    def run(*, ours: dict[int, int] | None = None, **settings: Any) -> Any:
        front = start(**settings)
        clients.append(Frames(front.tcp, ours=ours))
        return front, clients[-1], front.reactors[0]

    yield run
    for client in clients:
        client.sock.close()


def test_answers_come_in_any_order(begin: Begin) -> None:
    _, client, reactor = begin()
    streams = [client.begin(get(f"/{index}")) for index in range(40)]
    requests = [reactor.request() for _ in streams]
    for index, (number, payload) in reversed([*enumerate(requests)]):
        assert payload.startswith(b"GET /%d HTTP/1.1\r\n" % index)
        reactor.reply(number, answer(b"%d" % index))
    for index, stream in enumerate(streams):
        whole = client.answer(stream)
        assert (whole.status, whole.body, whole.ended) == (200, b"%d" % index, True)


def test_content_that_arrives_with_the_head(begin: Begin) -> None:
    front, client, reactor = begin()
    for stream, content in (1, b"a=1"), (3, b""), (5, b"z" * 12_000):
        head = client.headers(stream, post(), False)
        middle = len(content) // 2
        client.send(head + data(stream, content[:middle]) + data(stream, content[middle:], True))
        number, payload = reactor.request()
        assert payload.partition(b"\r\n\r\n")[2] == content
        reactor.reply(number)
        assert client.answer(stream).body == b"ok"
    assert reactor.silent
    front.settle()


def test_a_request_that_waits_in_the_queue(begin: Begin) -> None:
    front, client, reactor = begin(capacities=(1,), queue_timeout=10.0)
    streams = [client.begin(get(f"/{index}")) for index in range(3)]
    number, _ = reactor.request()
    front.settle()
    assert reactor.silent
    reactor.reply(number)
    assert client.answer(streams[0]).status == 200
    number, payload = reactor.request()
    assert payload.startswith(b"GET /1 ")
    front.pass_time(11)
    assert client.answer(streams[2]).status == 503
    reactor.reply(number)
    assert client.answer(streams[1]).status == 200


def test_the_request_timeout(begin: Begin) -> None:
    front, client, reactor = begin(request_timeout=20.0)
    stream = client.begin(get())
    number, _ = reactor.request()
    front.pass_time(21)
    assert client.answer(stream).status == 504
    assert reactor.message() == (number, CANCEL, b"")
    reactor.reply(number)


def test_a_reset_before_the_answer(begin: Begin) -> None:
    front, client, reactor = begin()
    first, second = client.begin(get()), client.begin(get())
    numbers = [reactor.request()[0] for _ in "ab"]
    client.send(reset(first))
    assert reactor.message() == (numbers[0], GONE, b"")
    for number in numbers:
        reactor.reply(number)
    assert client.answer(second).body == b"ok"
    front.settle()
    assert client.answers[first].status == 0


def test_a_client_that_leaves(begin: Begin) -> None:
    front, client, reactor = begin()
    client.begin(get())
    client.begin(get())
    client.begin(get())
    numbers = [reactor.request()[0] for _ in "abc"]
    reactor.reply(numbers[1])
    client.ping()
    client.sock.close()
    assert reactor.message() == (numbers[0], GONE, b"")
    assert reactor.message() == (numbers[2], GONE, b"")
    for number in numbers[0], numbers[2]:
        reactor.reply(number)
    front.settle()


def test_an_answer_that_the_reactor_does_not_give(begin: Begin) -> None:
    _, client, reactor = begin()
    stream = client.begin(get())
    reactor.reply(reactor.request()[0], b"")
    assert client.answer(stream).status == 502


def test_answers_that_are_not_ordinary(begin: Begin) -> None:
    _, client, reactor = begin()
    for head, status, body in (
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, b"ok"),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", 304, b""),
    ):
        stream = client.begin(get())
        reactor.reply(reactor.request()[0], head)
        whole = client.answer(stream)
        assert (whole.status, whole.body, whole.ended) == (status, body, True)


def test_an_answer_to_head(begin: Begin) -> None:
    _, client, reactor = begin()
    stream = client.begin(get(method="HEAD"))
    reactor.reply(reactor.request()[0], b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
    whole = client.answer(stream)
    assert (whole.status, whole.field(b"content-length"), whole.ended) == (200, b"5", True)


@pytest.mark.parametrize("lanes", ["express", "plain"])
def test_an_answer_in_pieces(begin: Begin, lanes: str) -> None:
    _, client, reactor = begin(lanes=lanes)
    stream = client.begin(get())
    link = reactor.link()
    link.head()
    link.send(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n")
    link.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n01234")
    client.wait(lambda: client.answers[stream].body == b"01234")
    link.send(b"56789")
    reactor.done(link)
    whole = client.answer(stream)
    assert (whole.interim, whole.body, whole.ended) == ([103], b"0123456789", True)


def test_an_app_that_runs_on_after_its_answer(begin: Begin) -> None:
    """Its requester serves another request meanwhile."""
    front, client, reactor = begin()
    stream = client.begin(get())
    first, _ = reactor.request()
    reactor.reply(first, answer(b"first"), ANSWER)
    assert client.answer(stream).body == b"first"
    stream = client.begin(get())
    second, _ = reactor.request()
    reactor.die()
    reactor.wait_for_end()
    front.settle()
    # The second one is retried by the next reactor; the first was answered.
    replacement = front.reactors[-1]
    assert replacement is not reactor
    replacement.ready()
    assert second
    replacement.reply(replacement.request()[0], answer(b"second"))
    assert client.answer(stream).body == b"second"


def test_what_the_session_has_no_room_for(begin: Begin) -> None:
    """The answers of 30 requests, none of which the client takes at first."""
    front, client, reactor = begin(ours={INITIAL_WINDOW: 0})
    client.ping()
    streams = [client.begin(get()) for _ in range(30)]
    for _ in streams:
        reactor.reply(reactor.request()[0], answer(BODY))
    client.wait(lambda: all(client.answers[stream].status for stream in streams[:2]))
    front.settle()
    client.send(window(0, 30 * len(BODY)), *[window(stream, len(BODY)) for stream in streams])
    for stream in streams:
        assert client.answer(stream).size == len(BODY)


def test_a_client_that_opens_its_window_by_single_bytes(begin: Begin) -> None:
    """The look at stalled streams finds the window open: its byte is sent first."""
    slow_rate = {"response_timeout": 10.0, "min_response_rate": 100}
    front, client, reactor = begin(ours={INITIAL_WINDOW: 10}, **slow_rate)
    slow = client.begin(get("/slow"))
    reactor.reply(reactor.request()[0], answer(BODY[:30_000]))
    client.wait(lambda: client.answers[slow].size == 10)
    front.pass_time(10.5)
    # Another stream gets on, so the connection does not stall.
    other = client.begin(get("/other"))
    client.send(window(other, 30_000))
    reactor.reply(reactor.request()[0], answer(BODY[:30_000]))
    assert client.answer(other).size == 30_000
    with front.held():
        client.send(window(slow, 1))
        front.skip_time(11)
    front.settle()
    client.ping()
    assert client.answers[slow].reset == CANCELLED
    assert client.answers[slow].size == 11


def test_a_stop_lets_requests_end(begin: Begin) -> None:
    front, client, reactor = begin()
    stream = client.begin(get())
    number, _ = reactor.request()
    front.signal(signal.SIGTERM)
    client.wait(lambda: client.goaways)
    reactor.reply(number, OK)
    assert client.answer(stream).body == b"ok"
