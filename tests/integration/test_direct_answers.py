"""Large and streamed answers, which a reactor writes to the client's own socket, or relays.

The app's answers tell by their bytes which answer they belong to (apps/direct.py). A test counts
the bytes that a client gets: none is wrong, none comes twice, and an answer that is cut is visibly
cut.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path

import h11
import pytest

from reactor_run.native import NATIVE
from tests.integration.apps.direct import content
from tests.integration.client import Client, chunked, request
from tests.integration.conftest import Gate, Notes, Start
from tests.integration.server import Server, is_alive, process_fields
from tests.integration.sharing import duplicates
from tests.integration.waiting import eventually

Connect = Callable[..., Client]

MIB = 1 << 20
ANSWERS = ["direct", "relay"]
KINDS = {
    "trio": ["direct:asgi", "--interface", "asgi", "--runtime", "trio"],
    "asyncio": ["direct:asgi", "--interface", "asgi", "--runtime", "asyncio"],
    "uvloop": ["direct:asgi", "--interface", "asgi", "--runtime", "uvloop"],
    "inline": ["direct:wsgi_app", "--interface", "wsgi"],
    "threads": ["direct:wsgi_app", "--interface", "wsgi", "--threads", "4"],
}
SMALL_BUFFER = 4096
"""A receive buffer of a client that does not read. The rest of an answer waits elsewhere."""

TWO = ["trio direct", "inline direct"]
FOUR = [*TWO, "uvloop relay", "threads direct"]
"""What `make test` runs. The slow tests run the other combinations too."""


def cases(
    *kinds: str, answers: Sequence[str] = ANSWERS, quick: Sequence[str] = TWO
) -> pytest.MarkDecorator:
    """Repeat a test over these kinds of apps, and over who writes the answers.

    quick: the combinations of `make test`.
    """
    both = {f"{kind} {who}": (kind, who) for kind in kinds for who in answers}
    assert both.keys() & set(quick), "a test that is always slow"
    values = [
        pytest.param(*case, id=name, marks=() if name in quick else pytest.mark.slow)
        for name, case in both.items()
    ]
    return pytest.mark.parametrize(("kind", "answers"), values)


ASGI = ["trio", "asyncio", "uvloop"]
WSGI = ["inline", "threads"]


def arguments(kind: str, answers: str = "direct") -> list[str]:
    app, *options = KINDS[kind]
    return [f"tests.integration.apps.{app}", *options, "--answers", answers]


def target(
    size: int, seed: int = 1, *, at: int | None = None, gate: Gate | None = None, **more: object
) -> str:
    query = f"/answer?size={size}&seed={seed}"
    if gate is not None:
        query += f"&gate={gate}&at={at}"
    return query + "".join(f"&{name}={value}" for name, value in more.items())


def get(*args: object, **options: object) -> bytes:
    return ask("GET", target(*args, **options))  # type: ignore[arg-type]


def ask(method: str, path: str) -> bytes:
    """A request. A POST has a body."""
    return request(method, path, body=b"x" if method == "POST" else None)


def is_shared(server: Server, count: int = 1) -> bool:
    return sum(duplicates(server).values()) == count


def holder(server: Server) -> int:
    """The one reactor that has the socket of a client."""
    return next(pid for pid, count in duplicates(server).items() if count)


def is_served(server: Server) -> bool:
    with Client(server.address) as client:
        return client.get("/hello").text == "hello"


def serves(server: Server, seed: int = 77) -> bool:
    """Whether other clients get their answers, small and large."""
    with Client(server.address) as client:
        right = client.get(target(200_000, seed)).body == content(seed, 200_000)
        return right and client.get("/hello").text == "hello"


def expect_cut(client: Client, size: int, seed: int = 1, *, begun: bool = False) -> int:
    """Read an answer that ends too early, and visibly; return the bytes of its body.

    begun: its head was read.
    """
    assert begun or client.begin().status == 200
    got = bytearray()
    try:
        for piece in client.pieces():
            got += piece
    except (h11.RemoteProtocolError, ConnectionResetError):
        assert len(got) < size
        assert got == content(seed, size)[: len(got)]
        return len(got)
    raise AssertionError(f"{len(got)} of {size} bytes, and no sign that more are missing")


def expect_whole(client: Client, size: int, seed: int = 1) -> None:
    answer = client.response()
    assert answer.status == 200
    assert len(answer.body) == size
    assert answer.body == content(seed, size)


def both_are_ready(server: Server) -> bool:
    return len(re.findall(r"reactor \d+ \(pid \d+\) is ready", server.log())) == 2


def ends(pid: int) -> bool:
    return not is_alive(pid)


def passes(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process while the block runs."""
    os.kill(pid, signal.SIGSTOP)
    try:
        assert eventually(lambda: process_fields(pid)[:1] == ["T"])
        yield
    finally:
        if is_alive(pid):
            os.kill(pid, signal.SIGCONT)


# Who writes


@cases(*KINDS, quick=FOUR)
def test_who_writes_an_answer(
    shared: Start, connect: Connect, gate: Gate, kind: str, answers: str
) -> None:
    """The reactor writes it while the front end is stopped, or only the front end does."""
    server = shared(*arguments(kind, answers))
    client = connect(server)
    size = 900_000
    client.send(get(size, at=300_000, gate=gate))
    answer = client.begin()
    assert answer.field("content-length") == b"%d" % size
    pieces = client.pieces()
    got = b""
    while len(got) < 300_000:
        got += next(pieces)
    assert eventually(partial(is_shared, server, 1 if answers == "direct" else 0))
    if answers == "direct":
        with stopped(server.pid):
            gate.open()
            while len(got) < size:
                got += next(pieces)
    gate.open()
    got += b"".join(pieces)
    assert got == content(1, size)
    # The connection goes on.
    assert client.get("/hello").text == "hello"
    assert client.get(target(200_000, 2)).body == content(2, 200_000)
    client.close()
    assert eventually(partial(is_shared, server, 0))


@pytest.mark.parametrize(
    "length", [1, pytest.param(0, marks=pytest.mark.slow)], ids=["length", "chunked"]
)
@cases(*KINDS, quick=FOUR)
def test_whole_answers_one_after_another(
    shared: Start, connect: Connect, kind: str, answers: str, length: int
) -> None:
    """After a few of them the reactor writes them, of each size, if it may."""
    server = shared(*arguments(kind, answers))
    client = connect(server)
    sizes = (20_000, 65_536, 250_000, 17_000, 10, 131_072, 3_000_000, 50_000)
    for seed, size in enumerate(sizes * 3):
        assert client.get(target(size, seed, length=length)).body == content(seed, size)
    assert eventually(partial(is_shared, server, 1 if answers == "direct" else 0))
    assert client.request("HEAD", target(50_000)).field("content-length") == b"50000"
    client.close()
    assert eventually(partial(is_shared, server, 0))


@pytest.mark.parametrize(
    "length", [1, pytest.param(0, marks=pytest.mark.slow)], ids=["length", "chunked"]
)
@cases(*KINDS)
def test_every_kind_of_listener_and_request(
    start: Start, connect: Connect, tmp_path: Path, kind: str, answers: str, length: int
) -> None:
    path = tmp_path / "s"
    server = start(*arguments(kind, answers), bind=("127.0.0.1:0", "[::1]:0", f"unix:{path}"))
    for number, address in enumerate(server.addresses):
        client = connect(address)
        for size in (90_000, 65_000, 1_500_000, 0, 150_000):
            body = client.get(target(size, number, length=length)).body
            assert body == content(number, size)
        assert is_shared(server, 1 if answers == "direct" else 0)
        assert client.request("HEAD", target(500_000, length=length)).body == b""
        client.send(request("GET", target(500_000, 5, length=length), [("Connection", "close")]))
        expect_whole(client, 500_000, 5)
        assert client.at_end()
        client.close()
        assert eventually(partial(is_shared, server, 0))
        old = connect(address)
        old.send(f"GET {target(500_000, 3, length=length)} HTTP/1.0\r\n\r\n".encode())
        data = old.rest()
        assert data.partition(b"\r\n\r\n")[2] == content(3, 500_000)
        assert is_shared(server, 0)


@cases(*KINDS, quick=FOUR)
def test_pipelined_requests_behind_a_direct_answer(
    shared: Start, connect: Connect, kind: str, answers: str
) -> None:
    server = shared(*arguments(kind, answers))
    client = connect(server)
    sizes = [2 * MIB, 10, 300_000, 0, 3 * MIB, 90_000]
    client.send(b"".join(get(size, seed) for seed, size in enumerate(sizes)))
    for seed, size in enumerate(sizes):
        expect_whole(client, size, seed)


@cases(*WSGI, answers=["direct"])
def test_a_list_of_many_pieces_does_not_keep_the_front_end(
    shared: Start, connect: Connect, kind: str, answers: str
) -> None:
    """Its first message is bounded, however many pieces there are."""
    server = shared(*arguments(kind, answers))
    client = connect(server)
    size = 20_000_000
    client.send(request("GET", f"/list?size={size}&seed=4&piece=1000"))
    began = time.monotonic()
    assert client.begin().status == 200
    assert time.monotonic() - began < 3
    assert sha256(b"".join(client.pieces())).digest() == sha256(content(4, size)).digest()


@cases(*ASGI, quick=["uvloop direct", "asyncio relay"])
def test_a_large_piece_of_a_later_step_is_sent_at_once(
    shared: Start, connect: Connect, gate: Gate, notes: Notes, kind: str, answers: str
) -> None:
    """It is larger than the high-water mark. The app then waits, and no other request comes."""
    server = shared(*arguments(kind, answers))
    client = connect(server)
    query = target(700_000, piece=350_000, at=350_000, gate=gate)
    client.send(request("GET", query + f"&notes={notes}"))
    notes.wait_for("at the gate")
    assert client.begin().status == 200
    got = b""
    pieces = client.pieces()
    while len(got) < 350_000:
        got += next(pieces)
    gate.open()
    assert got + b"".join(pieces) == content(1, 700_000)


@cases(*KINDS, quick=["inline direct", "inline relay"])
@pytest.mark.parametrize("size", [10, 40_000, 300_000])
def test_what_an_app_has_sent_does_not_wait_for_the_rest(
    shared: Start,
    connect: Connect,
    gate: Gate,
    kind: str,
    answers: str,
    size: int,
) -> None:
    """The app blocks, or waits, after the first block of its body."""
    server = shared(*arguments(kind, answers))
    client = connect(server)
    client.send(get(2 * size, piece=size, at=size, gate=gate))
    assert client.begin().status == 200
    pieces = client.pieces()
    got = b""
    while len(got) < size:
        got += next(pieces)
    gate.open()
    assert got + b"".join(pieces) == content(1, 2 * size)


@cases(*ASGI, quick=FOUR)
def test_a_body_is_sent_while_its_answer_is_streamed(
    shared: Start, connect: Connect, kind: str, answers: str
) -> None:
    server = shared(*arguments(kind, answers))
    pieces = [content(seed, 100_000) for seed in range(30)]
    for fields, sent in (
        ([("Content-Length", str(3_000_000))], pieces),
        ([("Transfer-Encoding", "chunked")], list(chunked(pieces))),
    ):
        client = connect(server)
        with client.sending([request("POST", "/echo", fields), *sent]):
            assert client.response("POST").body == b"".join(pieces)
        client.send(get(100_000, 3))
        expect_whole(client, 100_000, 3)


@cases(*KINDS, answers=["direct"], quick=["trio direct"])
def test_uploads_and_100_continue(shared: Start, connect: Connect, kind: str, answers: str) -> None:
    server = shared(*arguments(kind, answers))
    for size in (1_000_000, 5_000_000):
        body = content(size, size)
        pieces = [body[start : start + 90_000] for start in range(0, size, 90_000)]
        for fields, sent in (
            ([("Content-Length", str(size))], pieces),
            ([("Transfer-Encoding", "chunked")], list(chunked(pieces))),
        ):
            client = connect(server)
            with client.sending([request("POST", "/upload", fields), *sent]):
                assert client.response("POST").text == sha256(body).hexdigest()
            fields = [*fields, ("Expect", "100-continue")]
            client.send(request("POST", "/upload?pause=0.001", fields))
            assert client.informational("POST") == 100
            with client.sending(sent):
                assert client.response("POST").text == sha256(body).hexdigest()
            client.send(get(100_000, 3))
            expect_whole(client, 100_000, 3)


@cases(*ASGI, answers=["direct"])
def test_an_app_that_does_not_read_a_body_stops_its_client(
    start: Start, connect: Connect, gate: Gate, notes: Notes, kind: str, answers: str
) -> None:
    """The front end keeps little of it: each direction of an exchange has a window."""
    server = start(*arguments(kind, answers), "--body-timeout", "0")
    assert is_served(server)
    server.forget_peaks()
    before = server.memory()
    size = 30_000_000
    body = content(8, size)
    sent = 0
    clients = [connect(server) for _ in range(3)]

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        yield request("POST", f"/upload?gate={gate}&notes={notes}", [("Content-Length", str(size))])
        for begin in range(0, size, 100_000):
            yield body[begin : begin + 100_000]
            sent += 100_000

    def is_stuck() -> bool:
        mark = sent
        eventually(passes(0.1))
        return mark == sent

    with clients[0].sending(pieces()), clients[1].sending(pieces()), clients[2].sending(pieces()):
        assert eventually(lambda: notes.lines() == ["started"] * 3)
        assert eventually(is_stuck)
        assert sent < 2 * size
        after = server.memory()
        for pid, memory in after.items():
            assert memory.peak < before[pid].now + 12 * MIB
        assert is_served(server)
        gate.open()
        for client in clients:
            assert client.response("POST").text == sha256(body).hexdigest()


@cases(*KINDS)
def test_a_fast_client_of_a_large_piece(
    shared: Start, connect: Connect, kind: str, answers: str
) -> None:
    """It takes more than the loop writes in one turn, so the loop must come back to it."""
    server = shared(*arguments(kind, answers))
    client = connect(server)
    size = 40_000_000
    client.send(get(size, 4, piece=size))
    data = bytearray()
    while len(data) < size or not data.endswith(content(4, size)[-1000:]):
        piece = client._sock.recv(1 << 20)
        assert piece
        data += piece
    assert data.partition(b"\r\n\r\n")[2] == content(4, size)
    assert client.get("/hello").text == "hello"


# Reactors that die


BOTH = pytest.mark.parametrize("method", ["GET", "POST"])
"""Only a GET may be retried, and only if its answer has not begun."""


@BOTH
@cases(*KINDS, quick=["trio direct"])
def test_a_reactor_dies_before_the_head(
    start: Start, connect: Connect, gate: Gate, notes: Notes, kind: str, answers: str, method: str
) -> None:
    """GET is retried, with all requests behind it. POST is answered by 502."""
    server = start(*arguments(kind, answers))
    client = connect(server)
    first = ask(method, target(600_000, at=0, gate=gate) + f"&notes={notes}")
    client.send(first + get(500_000, 2) + get(10, 3))
    notes.wait_for("at the gate")
    os.kill(server.reactor_pids()[0], signal.SIGKILL)
    gate.open()
    if method == "GET":
        expect_whole(client, 600_000, 1)
    else:
        assert client.response("POST").status == 502
    expect_whole(client, 500_000, 2)
    expect_whole(client, 10, 3)


@BOTH
@cases(*KINDS, quick=["threads direct"])
def test_a_reactor_dies_after_the_grant(
    start: Start, connect: Connect, gate: Gate, notes: Notes, kind: str, answers: str, method: str
) -> None:
    server = start(*arguments(kind, answers))
    client = connect(server)
    client.send(
        ask(method, target(900_000, at=400_000, gate=gate) + f"&notes={notes}") + get(10, 2)
    )
    notes.wait_for("at the gate")
    if answers == "direct":
        assert eventually(partial(is_shared, server))
    # A relayed answer has begun when its head is here: "at the gate" may be noted before.
    assert client.begin().status == 200
    os.kill(server.reactor_pids()[0], signal.SIGKILL)
    assert expect_cut(client, 900_000, begun=True) <= 400_000
    assert eventually(partial(serves, server))
    # No reactor ran it again.
    assert notes.lines() == ["at the gate"]


@pytest.mark.parametrize(
    "length", [1, pytest.param(0, marks=pytest.mark.slow)], ids=["length", "chunked"]
)
@BOTH
@cases(*KINDS)
def test_a_reactor_dies_while_its_client_does_not_read(
    start: Start,
    connect: Connect,
    gate: Gate,
    notes: Notes,
    kind: str,
    answers: str,
    method: str,
    length: int,
) -> None:
    """It waits for the client, or has given the rest to the front end."""
    server = start(*arguments(kind, answers))
    (victim,) = server.reactor_pids()
    client = connect(server, receive_buffer=SMALL_BUFFER)
    query = target(12 * MIB, at=10 * MIB, gate=gate, length=length) + f"&notes={notes}"
    client.send(ask(method, query) + get(10, 2))
    assert client.begin().status == 200
    if answers == "direct":
        assert eventually(partial(is_shared, server))
    if kind in ("inline", "threads"):
        notes.wait_for("at the gate")
    os.kill(victim, signal.SIGKILL)
    assert eventually(partial(ends, victim))
    assert expect_cut(client, 12 * MIB, begun=True) <= 10 * MIB
    assert eventually(partial(serves, server))
    assert len(notes.lines()) <= 1


@BOTH
@cases(*KINDS, answers=["direct"], quick=["inline direct"])
def test_a_reactor_dies_before_it_reports_the_end(
    start: Start, connect: Connect, kind: str, answers: str, method: str
) -> None:
    """The client has all bytes, and no answer to its next request: the front end cannot know."""
    server = start(*arguments(kind, answers), "--reactors", "2")
    client = connect(server)
    client.send(ask(method, target(900_000, die=1)) + get(10, 2))
    data = client.rest()
    assert data.partition(b"\r\n\r\n")[2] == content(1, 900_000)
    assert eventually(partial(serves, server))


@cases(*KINDS, answers=["direct"], quick=["trio direct"])
def test_a_front_end_learns_the_end_of_an_answer_and_the_death_at_once(
    start: Start, connect: Connect, gate: Gate, notes: Notes, kind: str, answers: str
) -> None:
    server = start(*arguments(kind, answers))
    (victim,) = server.reactor_pids()
    client = connect(server)
    client.send(
        request("GET", target(900_000, at=600_000, gate=gate) + f"&notes={notes}") + get(10, 2)
    )
    notes.wait_for("at the gate")
    assert eventually(partial(is_shared, server))
    with stopped(server.pid):
        gate.open()
        assert client.begin().status == 200
        pieces = client.pieces()
        got = b""
        while len(got) < 900_000:
            got += next(pieces)
        notes.wait_for("finished")
        os.kill(victim, signal.SIGKILL)
    assert got == content(1, 900_000)
    assert list(pieces) == []
    try:
        expect_whole(client, 10, 2)
    except h11.RemoteProtocolError:
        # The reactor died before it had told the end.
        pass
    assert eventually(partial(serves, server))


@cases(*KINDS, answers=["direct"], quick=["trio direct"])
def test_a_reactor_dies_between_its_question_and_the_grant(
    start: Start, connect: Connect, gate: Gate, notes: Notes, kind: str, answers: str
) -> None:
    """The front end finds the head and the death at once: the answer has begun and is cut."""
    server = start(*arguments(kind, answers))
    (victim,) = server.reactor_pids()
    query = target(900_000, at=0, gate=gate) + f"&notes={notes}"
    requests = [request("GET", query) + get(10, 2), request("POST", query, body=b"x")]
    if kind == "inline":
        # Its reactor runs one request at a time.
        del requests[1]
    clients = []
    for each in requests:
        clients.append(connect(server))
        clients[-1].send(each)
    assert eventually(lambda: notes.lines() == ["at the gate"] * len(clients))
    with stopped(server.pid):
        gate.open()
        # The app has gone on when its reactor waits: it holds more than it may send.
        assert eventually(partial(server.is_at_rest, [victim]))
        os.kill(victim, signal.SIGKILL)
        assert eventually(lambda: process_fields(victim)[:1] == ["Z"])
    for client in clients:
        assert expect_cut(client, 900_000) <= 65536
    assert eventually(partial(serves, server))


@BOTH
@pytest.mark.parametrize("moment", ["before", "after", "seen"])
@cases(*KINDS, answers=["direct"], quick=["trio direct", "threads direct"])
@pytest.mark.skipif(not NATIVE, reason="without the C extension a reactor asks before it writes")
def test_a_reactor_dies_as_it_writes_a_whole_answer(
    start: Start, connect: Connect, kind: str, answers: str, moment: str, method: str
) -> None:
    """No byte comes twice. The connection goes on if the front end can see that all is written."""
    server = start(*arguments(kind, answers), "--reactors", "1")
    client = connect(server)
    # Now the reactor has the client's socket.
    assert client.get(target(900_000)).body == content(1, 900_000)
    client.send(ask(method, target(50_000, 2, die_at=moment)) + get(10, 3))
    if moment == "before":
        assert client.rest() == b""
    elif moment == "after":
        assert client.rest().partition(b"\r\n\r\n")[2] == content(2, 50_000)
    else:
        expect_whole(client, 50_000, 2)
        expect_whole(client, 10, 3)
    assert eventually(partial(serves, server))


# Deadlines


@cases(*KINDS, quick=["trio direct"])
def test_the_request_timeout_cuts_an_answer_under_way(
    start: Start, connect: Connect, gate: Gate, notes: Notes, kind: str, answers: str
) -> None:
    server = start(*arguments(kind, answers), "--request-timeout", "1", "--reactors", "2")
    client, silent = connect(server), connect(server, receive_buffer=SMALL_BUFFER)
    client.send(
        request("GET", target(900_000, at=400_000, gate=gate) + f"&notes={notes}") + get(10, 2)
    )
    notes.wait_for("at the gate")
    if kind in ("trio", "uvloop"):
        silent.send(get(16 * MIB, 3))
    assert expect_cut(client, 900_000) <= 400_000
    gate.open()
    if kind in ("trio", "uvloop"):
        expect_cut(silent, 16 * MIB, 3)
        notes.wait_for({"trio": "Cancelled", "uvloop": "CancelledError"}[kind])
    assert eventually(partial(serves, server))
    client.close()
    silent.close()
    assert eventually(partial(is_shared, server, 0))


@cases(*ASGI, "threads", answers=["direct"])
def test_an_answer_that_begins_as_its_time_is_over(
    start: Start, connect: Connect, gate: Gate, notes: Notes, kind: str, answers: str
) -> None:
    """A whole 504, a whole answer or a cut one: nothing of one in another."""
    server = start(*arguments(kind, answers), "--first-byte-timeout", "1", "--reactors", "2")
    client = connect(server)
    client.send(request("GET", target(900_000, at=0, gate=gate) + f"&notes={notes}") + get(10, 2))
    notes.wait_for("at the gate")
    with stopped(server.pid):
        late = passes(1.5)
        gate.open()
        assert eventually(late)
    answer = client.begin()
    if answer.status == 504:
        assert len(b"".join(client.pieces())) < 100
        expect_whole(client, 10, 2)
    else:
        got = b""
        try:
            for piece in client.pieces():
                got += piece
            expect_whole(client, 10, 2)
        except h11.RemoteProtocolError:
            pass
        assert got == content(1, 900_000)[: len(got)]
    assert eventually(partial(serves, server))


@cases(*ASGI, "threads", answers=["direct"], quick=["threads direct"])
def test_a_thread_or_task_that_answers_after_504_writes_to_no_one(
    start: Start, connect: Connect, gate: Gate, notes: Notes, kind: str, answers: str
) -> None:
    server = start(*arguments(kind, answers), "--first-byte-timeout", "0.3", "--reactors", "2")
    client = connect(server)
    client.send(request("GET", target(900_000, at=0, gate=gate) + f"&notes={notes}"))
    assert client.response().status == 504
    gate.open()
    for seed in range(5):
        client.send(get(300_000, seed))
        expect_whole(client, 300_000, seed)
    assert serves(server)


@cases(*ASGI, "threads", quick=["trio direct"])
def test_a_stopped_reactor_that_was_given_up_goes_on(
    start: Start, connect: Connect, gate: Gate, notes: Notes, kind: str, answers: str
) -> None:
    """Its clients are gone, and others have their descriptors. It writes nothing to them."""
    options = ["--request-timeout", "1", "--reactors", "2", "--timeout", "0"]
    server = start(*arguments(kind, answers), *options)
    assert eventually(lambda: len(server.reactor_pids()) == 2)
    victims = [connect(server) for _ in range(4)]
    for seed, client in enumerate(victims):
        query = target(3_000_000, seed, at=1_000_000, gate=gate)
        client.send(request("GET", f"{query}&notes={notes}"))
        assert client.begin().status == 200
    heads = [client._parser for client in victims]
    assert all(heads)
    readers = [threading.Thread(target=drain, args=(client,)) for client in victims]
    for reader in readers:
        reader.start()
    assert eventually(lambda: notes.lines() == ["at the gate"] * 4)
    reactors = server.reactor_pids()
    stopped_one = reactors[0]
    with stopped(stopped_one):
        for reader in readers:
            reader.join(20)
            assert not reader.is_alive(), "an answer was not cut in time"
        # New connections, which get the descriptors of those that were given up.
        others = [connect(server) for _ in range(6)]
        assert eventually(partial(serves, server))
    gate.open()
    for seed, client in enumerate(others):
        client.send(get(400_000, 100 + seed))
        expect_whole(client, 400_000, 100 + seed)
    assert serves(server)


@cases(*ASGI, "threads", answers=["direct"], quick=["trio direct", "threads direct"])
def test_a_stopped_reactor_answers_after_504(
    start: Start, connect: Connect, gate: Gate, notes: Notes, kind: str, answers: str
) -> None:
    """It has the socket of a client whose connection goes on, and an offer that was withdrawn."""
    options = ["--first-byte-timeout", "1", "--timeout", "0", "--reactors", "2"]
    server = start(*arguments(kind, answers), *options)
    assert eventually(partial(both_are_ready, server))
    client = connect(server)
    client.send(get(300_000))
    expect_whole(client, 300_000)
    victim = holder(server)
    # If both reactors are idle, a request goes to the same one again.
    assert eventually(server.is_at_rest)
    client.send(request("GET", target(300_000, 2, at=0, gate=gate) + f"&notes={notes}"))
    notes.wait_for("at the gate")
    with stopped(victim):
        gate.open()
        assert client.response().status == 504
        for seed in range(3):
            client.send(get(40_000, seed))
            expect_whole(client, 40_000, seed)
    if kind == "threads":
        # A thread is not cancelled: it answers now.
        assert eventually(lambda: len(notes.lines()) > 1)
    for seed in range(10, 15):
        client.send(get(300_000, seed))
        expect_whole(client, 300_000, seed)
    assert serves(server)


def drain(client: Client) -> None:
    try:
        for _ in client.pieces():
            pass
    except (OSError, h11.RemoteProtocolError):
        pass


# Clients that leave, or do not read


@pytest.mark.parametrize("way", ["reset", "close", pytest.param("unread", marks=pytest.mark.slow)])
@cases(*KINDS, answers=["direct"])
def test_a_client_leaves_in_the_middle(
    shared: Start, connect: Connect, notes: Notes, kind: str, answers: str, way: str
) -> None:
    server = shared(*arguments(kind, answers))
    client = connect(server, receive_buffer=SMALL_BUFFER)
    client.send(request("GET", target(40 * MIB) + f"&notes={notes}"))
    if way != "unread":
        assert client.begin().status == 200
    assert eventually(partial(is_shared, server))
    if way == "reset":
        client.reset()
    else:
        client.close()
    assert eventually(partial(is_shared, server, 0))
    if kind in ("trio", "uvloop"):
        assert eventually(notes.lines)
        assert notes.lines()[-1] in ("OSError", "finished")
    assert eventually(partial(serves, server))


@cases(*KINDS, quick=["trio direct"])
def test_clients_that_do_not_read_use_up_nothing(
    start: Start, connect: Connect, kind: str, answers: str
) -> None:
    """Neither capacity nor threads. They are aborted in time, the others are served."""
    options = ["--response-timeout", "1.5", "--min-response-rate", "1G"]
    if kind in ("trio", "uvloop"):
        options += ["--concurrency", "2"]
    server = start(*arguments(kind, answers), *options)
    clients = [connect(server, receive_buffer=SMALL_BUFFER) for _ in range(8)]
    for client in clients:
        client.send(get(8 * MIB))
    for client in clients:
        assert client.begin().status == 200
    assert serves(server)
    for client in clients:
        # It reads no byte before it is given up.
        assert eventually(partial(is_reset, client))
        expect_cut(client, 8 * MIB, begun=True)
    assert "took too little" in server.log()
    assert eventually(partial(is_shared, server, 0))
    assert serves(server)


def is_reset(client: Client) -> bool:
    """Whether the connection has ended, without reading."""
    info = client._sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    return info[0] != 1


@cases(*WSGI, quick=FOUR)
def test_a_slow_reader_does_not_keep_its_wsgi_app(
    shared: Start, connect: Connect, notes: Notes, kind: str, answers: str
) -> None:
    server = shared(*arguments(kind, answers))
    slow = [connect(server, receive_buffer=SMALL_BUFFER) for _ in range(5)]
    for seed, client in enumerate(slow):
        client.send(request("GET", target(16 * MIB, seed) + f"&notes={notes}"))
        assert client.begin().status == 200
    assert eventually(lambda: notes.lines() == ["finished"] * 5)
    assert serves(server)
    for seed, client in enumerate(slow):
        body = b"".join(client.pieces())
        assert sha256(body).digest() == sha256(content(seed, 16 * MIB)).digest()
        client.send(get(100_000, seed))
        expect_whole(client, 100_000, seed)


@pytest.mark.parametrize("end", ["keep-alive", "stop"])
@cases(*KINDS, quick=["trio direct", "inline relay"])
def test_what_waits_in_the_kernel_outlasts_its_connection(
    start: Start, connect: Connect, kind: str, answers: str, end: str
) -> None:
    """The client has read little of a whole answer when the server closes the connection."""
    server = start(*arguments(kind, answers), "--keep-alive", "0.5")
    assert is_served(server)
    files = partial(os.listdir, f"/proc/{server.pid}/fd")
    assert eventually(server.is_at_rest)
    before = len(files())
    client = connect(server, receive_buffer=SMALL_BUFFER)
    client.send(get(200_000))
    assert client.begin().status == 200
    if end == "stop":
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    else:
        assert eventually(lambda: len(files()) == before)
    assert b"".join(client.pieces()) == content(1, 200_000)
    assert client.at_end()


@cases(*KINDS, quick=["trio direct"])
def test_an_app_with_a_default_timeout_of_sockets(
    start: Start, connect: Connect, kind: str, answers: str
) -> None:
    """It is not for the sockets of clients: these never wait."""
    server = start(*arguments(kind, answers))
    client = connect(server, receive_buffer=SMALL_BUFFER)
    assert client.get("/timeout").text == "set"
    client.send(get(12 * MIB))
    assert client.begin().status == 200
    if answers == "direct":
        assert eventually(partial(is_shared, server))
    late = passes(1)
    while not late():
        assert is_served(server)
    assert sha256(b"".join(client.pieces())).digest() == sha256(content(1, 12 * MIB)).digest()


# Deploys


@pytest.mark.parametrize("deploy", ["drain", "reload", "upgrade"])
@cases(*KINDS, quick=["trio direct"])
def test_a_deploy_in_the_middle_of_an_answer(
    start: Start,
    connect: Connect,
    gate: Gate,
    notes: Notes,
    kind: str,
    answers: str,
    deploy: str,
) -> None:
    server = start(*arguments(kind, answers))
    (old,) = server.reactor_pids()
    waiting, slow = connect(server), connect(server, receive_buffer=SMALL_BUFFER)
    slow.send(get(12 * MIB, 5))
    assert slow.begin().status == 200
    waiting.send(request("GET", target(900_000, at=400_000, gate=gate) + f"&notes={notes}"))
    notes.wait_for("at the gate")
    if deploy == "drain":
        server.signal(signal.SIGTERM)
        assert eventually(partial(refuses, server))
    elif deploy == "reload":
        server.signal(signal.SIGHUP)
        assert eventually(lambda: any(pid != old for pid in server.reactor_pids()))
        assert eventually(partial(is_served, server)) if kind != "inline" else True
    else:
        server.signal(signal.SIGUSR2)
        assert eventually(lambda: "the new front end is process" in server.log())
    gate.open()
    expect_whole(waiting, 900_000)
    assert sha256(b"".join(slow.pieces())).digest() == sha256(content(5, 12 * MIB)).digest()
    if deploy == "reload":
        assert eventually(partial(ends, old))
        for client, seed in ((waiting, 8), (slow, 9)):
            client.send(get(200_000, seed))
            expect_whole(client, 200_000, seed)
        assert serves(server)
        return
    for client in (waiting, slow):
        assert client.at_end()
    if deploy == "drain":
        assert server.wait() == 0
        return
    new = int(server.log().split("the new front end is process ")[1].split()[0].rstrip(",;."))
    try:
        assert server.wait() == 0
        assert serves(server)
    finally:
        os.kill(new, signal.SIGTERM)
        assert eventually(partial(ends, new))


def refuses(server: Server) -> bool:
    try:
        Client(server.address).close()
    except OSError:
        return True
    return False


# Children of the app, and descriptors


@cases(*KINDS, answers=["direct"], quick=["inline direct"])
def test_a_child_of_the_app_keeps_no_client(
    start: Start, connect: Connect, kind: str, answers: str
) -> None:
    """It holds a duplicate of each client's socket. The clients see the ends all the same."""
    options = ["--keep-alive", "1", "--response-timeout", "1.5", "--min-response-rate", "1G"]
    server = start(*arguments(kind, answers), *options)
    idle, closing, stuck, cut = (connect(server) for _ in range(4))
    silent = connect(server, receive_buffer=SMALL_BUFFER)
    for client in (idle, closing, stuck, cut, silent):
        client.send(get(100_000))
        expect_whole(client, 100_000)
    assert is_shared(server, 5)
    child = closing.get("/fork").json()
    # The file descriptors of a thread's child are those of its process.
    assert is_alive(child)
    silent.send(get(16 * MIB))
    closing.send(request("GET", "/hello", [("Connection", "close")]))
    assert closing.response().text == "hello"
    assert closing.at_end()
    assert idle.at_end()
    assert eventually(partial(is_reset, silent))
    assert eventually(partial(is_shared, server, 0))
    assert is_alive(child)
    assert serves(server)
    assert eventually(server.is_at_rest)
    # It would outlive a reactor that ends in order.
    os.kill(child, signal.SIGKILL)


@cases(*KINDS, answers=["direct"], quick=["inline direct", "uvloop direct"])
def test_a_child_of_the_app_makes_the_sockets_of_clients_wait(
    start: Start, connect: Connect, kind: str, answers: str
) -> None:
    """The child shares O_NONBLOCK with both processes, and clears it. Neither of them waits."""
    server = start(*arguments(kind, answers))
    silent, client = connect(server, receive_buffer=SMALL_BUFFER), connect(server)
    for each in (silent, client):
        each.send(get(100_000))
        expect_whole(each, 100_000)
    child = client.get("/fork?blocking=1").json()
    # ASGI: the reactor has more than this client takes. WSGI: the front end has it.
    silent.send(get(12 * MIB, 2))
    assert silent.begin().status == 200
    for seed in range(3):
        client.send(get(200_000, seed))
        expect_whole(client, 200_000, seed)
    assert serves(server)
    assert sha256(b"".join(silent.pieces())).digest() == sha256(content(2, 12 * MIB)).digest()
    os.kill(child, signal.SIGKILL)


@cases(*KINDS, answers=["direct"], quick=["trio direct"])
def test_a_reactor_without_free_descriptors_relays(
    start: Start, connect: Connect, kind: str, answers: str
) -> None:
    server = start(*arguments(kind, answers))
    with Client(server.address) as client:
        assert client.get("/nofile?spare=3").text == "limited"
    clients = [connect(server) for _ in range(20)]
    for seed, client in enumerate(clients):
        client.send(get(300_000, seed) + get(150_000, seed + 1))
    for seed, client in enumerate(clients):
        expect_whole(client, 300_000, seed)
        expect_whole(client, 150_000, seed + 1)
    assert 0 < sum(duplicates(server).values()) <= 4
    # The next clients of these numbers get what is free again.
    for client in clients:
        client.close()
    assert eventually(partial(is_shared, server, 0))
    assert serves(server)


@cases(*WSGI, answers=["direct"])
def test_a_file_is_read_if_no_descriptor_is_free(
    start: Start, connect: Connect, tmp_path: Path, kind: str, answers: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content(6, 2_000_000))
    server = start(*arguments(kind, answers))
    client = connect(server)
    for _ in range(3):
        assert client.get(f"/file?path={path}").body == content(6, 2_000_000)
    # One descriptor for the file itself, none for its duplicate.
    assert client.get("/nofile?spare=1").text == "limited"
    for _ in range(3):
        assert client.get(f"/file?path={path}").body == content(6, 2_000_000)


PATIENT = ["--reactors", "2", "--head-timeout", "0", "--keep-alive", "600"]


def many_connections(server: Server, count: int) -> None:
    assert eventually(partial(both_are_ready, server))
    assert eventually(partial(serves, server))
    before = server.open_files()
    clients = [Client(server.address) for _ in range(count)]
    try:
        for round_ in range(2):
            for first in range(0, count, 50):
                batch = clients[first : first + 50]
                for seed, client in enumerate(batch):
                    client.send(get(90_000, seed + round_))
                for seed, client in enumerate(batch):
                    expect_whole(client, 90_000, seed + round_)
        held = duplicates(server)
        assert sum(held.values()) >= min(count, 4096)
        assert max(held.values()) <= min(count, 4096)
        files = server.open_files()
        assert files[server.pid] <= before[server.pid] + count + 2
    finally:
        for client in clients:
            client.close()
    assert eventually(partial(is_shared, server, 0), deadline=60)

    def is_as_before() -> bool:
        after = server.open_files()
        return all(after[pid] <= before[pid] + 2 for pid in before)

    assert eventually(is_as_before)


@cases(*KINDS, answers=["direct"], quick=["trio direct"])
def test_200_connections_leave_no_descriptor(start: Start, kind: str, answers: str) -> None:
    many_connections(start(*arguments(kind, answers), *PATIENT), 200)


@pytest.mark.slow
@pytest.mark.timeout(300)
@cases("trio", "uvloop", "inline", answers=["direct"])
def test_5000_connections_leave_no_descriptor(start: Start, kind: str, answers: str) -> None:
    many_connections(start(*arguments(kind, answers), *PATIENT), 5000)


# Files


@cases(*KINDS, answers=["direct"])
def test_a_file_is_sent_by_the_kernel(
    shared: Start, connect: Connect, tmp_path: Path, kind: str, answers: str
) -> None:
    """sendfile(2) copies no byte, so that what waits in the kernel changes with the file."""
    server = shared(*arguments(kind, answers))
    path = tmp_path / "file"
    path.write_bytes(b"a" * 12 * MIB)
    client = connect(server, receive_buffer=SMALL_BUFFER)
    client.send(request("GET", f"/file?path={path}"))
    assert client.begin().status == 200
    assert eventually(server.is_at_rest)
    with path.open("r+b") as file:
        file.write(b"b" * 12 * MIB)
    body = b"".join(client.pieces())
    assert len(body) == 12 * MIB
    # What the client's kernel had taken, and the bytes before the grant.
    assert body.count(b"a") < MIB


@cases(*KINDS, quick=FOUR)
def test_a_file_that_changes_while_it_is_sent(
    shared: Start, connect: Connect, tmp_path: Path, kind: str, answers: str
) -> None:
    server = shared(*arguments(kind, answers))
    size = 24 * MIB
    path = tmp_path / "file"
    path.write_bytes(content(6, size))
    client = connect(server, receive_buffer=SMALL_BUFFER)
    client.send(request("GET", f"/file?path={path}"))
    assert client.begin().status == 200
    assert serves(server)
    with path.open("ab") as file:
        file.write(b"more" * 100_000)
    assert sha256(b"".join(client.pieces())).digest() == sha256(content(6, size)).digest()
    client.send(get(200_000))
    expect_whole(client, 200_000)

    path.write_bytes(content(6, size))
    client.send(request("GET", f"/file?path={path}"))
    assert client.begin().status == 200
    # The kernel has not taken these bytes. Of those it has, sendfile(2) sends what the file holds
    # when they leave: a cut of the file would make them zero.
    os.truncate(path, 16 * MIB)
    assert expect_cut(client, size, 6, begun=True) <= 16 * MIB
    assert serves(server)


# A mix


class Mixer:
    """A client that asks for answers of random sizes, with random pauses, until it is stopped."""

    def __init__(self, server: Server, seed: int, end: float) -> None:
        import random

        self.failure: BaseException | None = None
        self.whole = 0
        self.cut = 0
        self.other: list[int] = []
        self._server = server
        self._end = end
        self._random = random.Random(seed)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while time.monotonic() < self._end:
                buffer = self._random.choice([None, None, SMALL_BUFFER])
                with Client(self._server.address, receive_buffer=buffer) as client:
                    self._talk(client)
        except BaseException as failure:
            self.failure = failure

    def _talk(self, client: Client) -> None:
        dice = self._random
        for _ in range(10):
            asked = [
                (dice.choice([0, 10, 60_000, 90_000, 300_000, dice.randrange(3_000_000)]), seed)
                for seed in (dice.randrange(1000) for _ in range(dice.choice([1, 1, 1, 3])))
            ]
            length = dice.choice([0, 1])
            try:
                client.send(
                    b"".join(get(size, seed, length=length, piece=50_000) for size, seed in asked)
                )
                for size, seed in asked:
                    if not self._read(client, size, seed):
                        return
            except OSError:
                self.cut += 1
                return
            if dice.random() < 0.1:
                return
            if time.monotonic() > self._end:
                return

    def _read(self, client: Client, size: int, seed: int) -> bool:
        """Read one answer; return whether the connection goes on."""
        expected = content(seed, size)
        at = 0
        try:
            answer = client.begin()
            if answer.status != 200:
                self.other.append(answer.status)
                list(client.pieces())
                return answer.field("connection") != b"close"
            pause = self._random.random() < 0.2
            for piece in client.pieces():
                assert expected[at : at + len(piece)] == piece, "a wrong byte"
                at += len(piece)
                if pause:
                    threading.Event().wait(self._random.random() * 0.005)
        except h11.RemoteProtocolError:
            # The answer, or the connection before it, was cut.
            self.cut += 1
            return False
        assert at == size
        self.whole += 1
        return True


def mix(server: Server, seconds: float, clients: int) -> None:
    import random

    assert eventually(partial(both_are_ready, server))
    dice = random.Random(7)
    end = time.monotonic() + seconds
    mixers = [Mixer(server, seed, end) for seed in range(clients)]
    while time.monotonic() < end:
        eventually(passes(min(dice.uniform(0.2, 0.8), max(0, end - time.monotonic()))))
        pids = server.reactor_pids()
        if len(pids) >= 2:
            os.kill(dice.choice(pids), signal.SIGKILL)
    for mixer in mixers:
        mixer._thread.join(60)
        assert not mixer._thread.is_alive(), "an answer does not end"
    assert [mixer.failure for mixer in mixers] == [None] * clients
    assert {status for mixer in mixers for status in mixer.other} <= {502, 503}
    assert sum(mixer.whole for mixer in mixers) > seconds
    assert eventually(partial(is_shared, server, 0))
    assert eventually(partial(serves, server))
    assert eventually(server.is_at_rest)


@cases(*KINDS, answers=["direct"], quick=["trio direct"])
def test_a_mix_of_sizes_pauses_and_deaths(start: Start, kind: str, answers: str) -> None:
    mix(start(*arguments(kind, answers), "--reactors", "2"), 2.5, 6)


@pytest.mark.slow
@pytest.mark.timeout(180)
@cases(*KINDS)
def test_a_long_mix_of_sizes_pauses_and_deaths(start: Start, kind: str, answers: str) -> None:
    mix(start(*arguments(kind, answers), "--reactors", "2"), 25, 12)
