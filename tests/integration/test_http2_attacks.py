"""Clients of HTTP/2 that attack: the front end ends them, and all others are served as before.

Each attack goes on until the server has ended it. Meanwhile another client must not notice, and
afterwards nothing may be left. The bounds are those of one connection.
"""

from __future__ import annotations

import json
import multiprocessing
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from reactor_run.buffers import BUFFER_SIZE
from reactor_run.pulse import BUFFERS
from tests.integration.conftest import Start
from tests.integration.frames import (
    ACK,
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    HEADERS,
    INITIAL_WINDOW,
    INTERNAL_ERROR,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    SETTINGS,
    Frames,
    data,
    get,
    post,
    raw,
    reset,
    settings,
    window,
)
from tests.integration.leaks import Figures, complaints, figures, settled
from tests.integration.server import Server
from tests.integration.waiting import eventually

MIB = 1 << 20
MEMORY_MAX = 4 * MIB
"""Bytes by which one connection may make the front end grow."""
STREAMS_MAX = 100
FLOOR = 0.1
"""Seconds that a request may take beside an attack, however fast it is without one."""
BURST = 8 * MIB
"""Bytes after which a client that is not stopped has won."""
OPTIONS = (
    *("--h2-max-streams", str(STREAMS_MAX), "--concurrency", "500"),
    *("--head-timeout", "1", "--keep-alive", "1", "--body-timeout", "1", "--response-timeout", "1"),
)

Attack = Callable[[Frames], Iterator[bytes]]


@pytest.fixture
def server(shared: Start) -> Server:
    return shared("tests.integration.apps.crowd:app", "--interface", "asgi", *OPTIONS)


def counts(server: Server) -> list[int]:
    """How many calls of the app run, the most that ran since the last question, and their sum."""
    with Frames(server) as client:
        found: list[int] = json.loads(client.get("/counts").body)
        return found


def at_rest(server: Server) -> Figures:
    """What it holds when it has served, and all clients are gone."""
    counts(server)
    assert eventually(server.is_at_rest)
    return figures(server)


# The attacks -------------------------------------------------------------------------------------


def block(client: Frames, fields: list[tuple[str | bytes, str | bytes]]) -> Iterator[bytes]:
    """Return the header block of a request, first one that fills the table, then one by index."""
    yield client.block(fields)
    again = client.block(fields)
    while True:
        yield again


def requests(
    client: Frames,
    path: str,
    then: Callable[[int], bytes],
    *more: tuple[str, str],
    flags: int = END_HEADERS,
) -> Iterator[bytes]:
    """Open streams for ever, each followed by frames."""
    blocks = block(client, post(path, *more))
    number = 1
    while True:
        sent = []
        for _ in range(100):
            sent += [raw(HEADERS, flags, number, next(blocks)), then(number)]
            number += 2
        yield b"".join(sent)


def rapid_reset(client: Frames) -> Iterator[bytes]:
    return requests(client, "/leave", reset)


def rapid_reset_of_whole_requests(client: Frames) -> Iterator[bytes]:
    return requests(client, "/leave", reset, flags=END_HEADERS | END_STREAM)


def crowd(client: Frames) -> Iterator[bytes]:
    """Let apps begin, reset their streams, and go on."""
    blocks = block(client, get("/leave"))
    number = 1
    while True:
        begun = range(number, number + 2 * STREAMS_MAX, 2)
        client.send(*(raw(HEADERS, END_HEADERS, each, next(blocks)) for each in begun))
        client.ping()
        client.send(*(reset(each) for each in begun))
        number += 2 * STREAMS_MAX
        yield b""


def made_to_reset(frame: Callable[[int], bytes]) -> Attack:
    """Let the server reset its streams ("MadeYouReset")."""
    return lambda client: requests(client, "/leave", frame)


def wrong_length(client: Frames) -> Iterator[bytes]:
    """The same, by content beyond content-length."""
    return requests(client, "/leave", lambda n: data(n, bytes(9)), ("content-length", "5"))


def malformed(client: Frames) -> Iterator[bytes]:
    number = 1
    while True:
        # Without a path.
        yield b"".join(
            raw(HEADERS, 5, each, b"\x82\x86") for each in range(number, number + 200, 2)
        )
        number += 200


def continuations(full: bool) -> Attack:
    """Never end a header block."""

    def send(client: Frames) -> Iterator[bytes]:
        yield raw(HEADERS, END_STREAM, 1, client.block(get()))
        name = 0
        while True:
            # 127 and 16248 bytes (RFC 7541 §5.1), so that the frame has 16 KiB.
            field = b"\x00\x04%04d\x7f\xf8\x7e" % name + b"a" * 16375 if full else b""
            name = (name + 1) % 10000
            yield raw(CONTINUATION, 0, 1, field)

    return send


def upload(frame: bytes, path: str = "/wait") -> Attack:
    """Send the same frame of a body for ever."""

    def send(client: Frames) -> Iterator[bytes]:
        yield client.headers(1, post(path), False)
        while True:
            yield frame * 200

    return send


def flood(frame: bytes) -> Attack:
    """Send the same frame for ever."""

    def send(client: Frames) -> Iterator[bytes]:
        while True:
            yield frame * 200

    return send


def bomb(client: Frames) -> Iterator[bytes]:
    """Fields by index, of 4 KB each."""
    yield raw(HEADERS, 5, 1, client.block(get("/hello", ("x-a", "a" * 3900))))
    for number in range(3, 1 << 20, 2):
        yield raw(HEADERS, 5, number, b"\x82\x86\x84" + b"\xbe" * 16000)


FLOODS: dict[str, tuple[Attack, tuple[int, ...]]] = {
    "rapid reset": (rapid_reset, (ENHANCE_YOUR_CALM, INTERNAL_ERROR)),
    "rapid reset of whole requests": (
        rapid_reset_of_whole_requests,
        (ENHANCE_YOUR_CALM, INTERNAL_ERROR),
    ),
    "resets of running apps": (crowd, (ENHANCE_YOUR_CALM, INTERNAL_ERROR)),
    "window of 0": (made_to_reset(lambda n: window(n, 0)), (PROTOCOL_ERROR,)),
    "wrong length": (wrong_length, (ENHANCE_YOUR_CALM, INTERNAL_ERROR, PROTOCOL_ERROR)),
    "malformed": (malformed, (ENHANCE_YOUR_CALM, INTERNAL_ERROR, PROTOCOL_ERROR)),
    "empty continuations": (continuations(False), (ENHANCE_YOUR_CALM,)),
    "full continuations": (continuations(True), (ENHANCE_YOUR_CALM,)),
    "empty data": (upload(data(1)), (ENHANCE_YOUR_CALM,)),
    "padding": (upload(raw(DATA, PADDED, 1, b"\xff" + bytes(255))), (ENHANCE_YOUR_CALM,)),
    "data of a byte": (upload(data(1, b"x")), (ENHANCE_YOUR_CALM,)),
    "unread data of a byte": (upload(data(1, b"x"), "/large"), (ENHANCE_YOUR_CALM,)),
    "settings": (flood(settings({INITIAL_WINDOW: 65535})), (ENHANCE_YOUR_CALM,)),
    "empty settings": (flood(settings()), (ENHANCE_YOUR_CALM,)),
    "acknowledgements": (flood(raw(SETTINGS, ACK, 0)), (ENHANCE_YOUR_CALM, PROTOCOL_ERROR)),
    "ping": (flood(raw(PING, 0, 0, bytes(8))), (ENHANCE_YOUR_CALM,)),
    "pong": (flood(raw(PING, ACK, 0, bytes(8))), (ENHANCE_YOUR_CALM,)),
    "window updates": (flood(window(0, 1)), (ENHANCE_YOUR_CALM,)),
    "priority": (flood(raw(PRIORITY, 0, 1, bytes(5))), (ENHANCE_YOUR_CALM,)),
    "priority updates": (
        flood(raw(0x10, 0, 0, struct.pack(">L", 1) + b"u=1")),
        (ENHANCE_YOUR_CALM,),
    ),
    "unknown frames": (flood(raw(0x7A, 0, 0, bytes(9))), (ENHANCE_YOUR_CALM,)),
    "header bomb": (bomb, (ENHANCE_YOUR_CALM,)),
}


def attack(server: Server | str, name: str, reads: bool) -> Frames:
    """Attack until the server has ended it; return the client, which has read all.

    `reads`: whether the client takes what the server sends meanwhile.
    """
    send, _ = FLOODS[name]
    client = Frames(server, timeout=30)
    # An acknowledgement amid the attack would end it too early.
    client.ping()
    reader = threading.Thread(target=read_all, args=[client], daemon=True)
    if reads and send is not crowd:
        reader.start()
    sent = 0
    try:
        for piece in send(client):
            client.send(piece)
            sent += len(piece)
            if client.goaways or client.at_end or sent > BURST:
                break
    except (OSError, AssertionError):
        # The server has ended it.
        pass
    if reader.ident is None:
        reader.start()
    reader.join(30)
    client.close()
    return client


def read_all(client: Frames) -> None:
    try:
        client.wait_for_end()
    except OSError:
        # It was cut.
        client.at_end = True


def slowest(server: Server, done: Callable[[], bool]) -> float:
    """Return the 99th percentile of the seconds that requests take, of 200 or more."""
    taken: list[float] = []
    with Frames(server, keeps=False, grants=True) as client:
        client.get()
        while len(taken) < 200 or not done():
            began = time.perf_counter()
            client.get()
            taken.append(time.perf_counter() - began)
    return sorted(taken)[int(len(taken) * 0.99)]


def peak_of(server: Server, run: Callable[[], object]) -> int:
    """Return by how many bytes the front end grows meanwhile."""
    server.forget_peaks()
    before = server.memory()[server.pid].now
    run()
    return server.memory()[server.pid].peak - before


@pytest.mark.parametrize("reads", [True, False], ids=["read", "unread"])
@pytest.mark.parametrize("name", FLOODS)
def test_flood(server: Server, name: str, reads: bool) -> None:
    with Frames(server) as other:
        other.get()
        counts(server)
        clients: list[Frames] = []
        grown = peak_of(server, lambda: clients.append(attack(server, name, reads)))
        assert clients[0].at_end
        # The reset of a connection whose client goes on sending may destroy GOAWAY.
        last = () if reads else (None,)
        assert clients[0].error in FLOODS[name][1] + last, clients[0].goaways
        assert grown < MEMORY_MAX, f"{grown / MIB:.1f} MiB"
        # That which counts runs, too.
        assert counts(server)[1] <= STREAMS_MAX + 1
        assert eventually(lambda: not counts(server)[0])


def attack_by_all(address: str) -> None:
    for name in FLOODS:
        attack(address, name, reads=True)


def test_another_client_does_not_notice(server: Server) -> None:
    # In a process of its own: threads of one process would wait for each other.
    spawn = multiprocessing.get_context("spawn")
    quiet = slowest(server, lambda: True)
    # The machine may be busy with something else; not each time.
    for _ in range(3):
        attacker = spawn.Process(target=attack_by_all, args=[server.address])
        attacker.start()
        during = slowest(server, lambda: not attacker.is_alive())  # noqa: B023
        attacker.join()
        assert attacker.exitcode == 0
        if during < max(2 * quiet, FLOOR):
            break
    else:
        raise AssertionError(f"{during:.3f} s, and {quiet:.3f} s without attacks")


def test_nothing_is_left(server: Server) -> None:
    """Of any flood, even if its client vanishes in the middle of it."""
    before = at_rest(server)
    for send, _ in FLOODS.values():
        if send is crowd:
            continue
        with Frames(server) as client:
            pieces = send(client)
            try:
                for _ in range(3):
                    client.send(next(pieces))
            except OSError:
                # The server was faster.
                pass
    settled(server, before)
    assert counts(server)[0] == 0
    assert not complaints(server.log())


# Clients that wait -------------------------------------------------------------------------------


def begin_preface(client: Frames) -> None:
    client.send(PREFACE[:20])


def begin_headers(client: Frames) -> None:
    client.send(PREFACE, settings(), client.headers(1, get())[:-3])


def begin_block(client: Frames) -> None:
    client.send(PREFACE, settings(), raw(HEADERS, END_STREAM, 1, client.block(get())))


def begin_frame(client: Frames) -> None:
    client.send(PREFACE, settings(), b"\0\0")


def ask_nothing(client: Frames) -> None:
    client.send(PREFACE, settings())


def begin_again(client: Frames) -> None:
    client.send(PREFACE, settings())
    client.get()
    client.send(client.headers(3, get())[:-3])


@pytest.mark.parametrize(
    "send",
    [begin_preface, begin_headers, begin_block, begin_frame, ask_nothing, begin_again],
)
def test_an_unfinished_beginning_ends(server: Server, send: Callable[[Frames], None]) -> None:
    before = at_rest(server)
    with Frames(server, begin=False) as client:
        began = time.monotonic()
        send(client)
        client.wait_for_end()
        # The timeouts are 1 s.
        assert time.monotonic() - began > 0.9
    settled(server, before)


@pytest.mark.parametrize("reads", [True, False], ids=["read", "unread"])
def test_answers_that_are_not_taken(server: Server, reads: bool) -> None:
    """1 MiB for each stream, with a window of 0. Or the windows are wide, and TCP is not."""

    def wait() -> None:
        windows = {INITIAL_WINDOW: 0 if reads else (1 << 31) - 1}
        with Frames(server, ours=windows, keeps=False, receive_buffer=4096) as client:
            client.send(*([] if reads else [window(0, 1 << 30)]))
            for _ in range(STREAMS_MAX):
                client.begin(get("/large"))
            if reads:
                client.wait(lambda: all(answer.over for answer in client.answers.values()))
                client.wait_for_end()
                assert {answer.reset for answer in client.answers.values()} == {CANCEL}
            assert eventually(lambda: not counts(server)[0])
            if not reads:
                # The front end has closed it, so it has nothing of the answers any more.
                assert eventually(lambda: figures(server).sockets == before.sockets)

    # The buffers for answers are memory of the reactor. They are touched once, by any client.
    with Frames(server, grants=True) as client:
        for _ in range(BUFFERS * BUFFER_SIZE // MIB + 2):
            assert client.get("/large").size == MIB
    before = at_rest(server)
    grown = peak_of(server, wait)
    assert grown < MEMORY_MAX, f"{grown / MIB:.1f} MiB"
    settled(server, before)


def test_requests_with_large_heads(server: Server) -> None:
    """A few bytes stand for 60 KB (RFC 7541). Those that are too many may come again."""
    large = ("x-a", "a" * 3900)

    def wait() -> None:
        with Frames(server) as client:
            client.request(get("/hello", large))
            block = client.block(get("/leave", *[large] * 15))
            again = client.block(get("/leave", *[large] * 15))
            assert len(again) < 30
            numbers = range(3, 3 + 2 * STREAMS_MAX, 2)
            client.send(*(raw(HEADERS, 5, n, block if n == 3 else again) for n in numbers))
            client.wait(lambda: any(client.answers[number].over for number in numbers))
            client.ping()
            over = [answer for answer in client.answers.values() if answer.over and answer.reset]
            assert {answer.reset for answer in over} == {REFUSED_STREAM}
            # 17 heads of 59 KB are less than 1 MiB.
            assert len(over) == STREAMS_MAX - 17
            client.send(*(reset(number) for number in numbers))
            assert eventually(lambda: not counts(server)[0])
            client.send(raw(HEADERS, 5, numbers[-1] + 2, again))
            client.ping()
            assert eventually(lambda: counts(server)[0] == 1)

    counts(server)
    grown = peak_of(server, wait)
    assert grown < MEMORY_MAX, f"{grown / MIB:.1f} MiB"


def test_requests_that_stall(server: Server) -> None:
    """Apps wait for bodies that never come. The clients get 408."""
    before = at_rest(server)
    with Frames(server) as client:
        streams = [client.begin(post("/wait"), False) for _ in range(STREAMS_MAX)]
        client.ping()
        assert eventually(lambda: counts(server)[1] >= STREAMS_MAX)
        assert {client.answer(stream).status for stream in streams} == {408}
        client.wait_for_end()
    assert counts(server)[0] == 0
    settled(server, before)
