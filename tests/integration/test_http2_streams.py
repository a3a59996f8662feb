"""Streams of HTTP/2 from the first to the last frame: flow control, deadlines and the end."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from pathlib import Path

import pytest

from tests.integration.apps.direct import content
from tests.integration.conftest import LANES, Config, Gate, Notes, Start
from tests.integration.frames import (
    CANCEL,
    DATA,
    INITIAL_WINDOW,
    INTERNAL_ERROR,
    NO_ERROR,
    PADDED,
    PRIORITY_UPDATE,
    Frames,
    Uploads,
    data,
    get,
    post,
    raw,
    window,
)
from tests.integration.server import Server
from tests.integration.waiting import eventually

CONFIGS = [
    Config(interface, lanes) for interface in ("asgi", "wsgi") for lanes in ("express", "plain")
]
ASGI, WSGI = CONFIGS[0], CONFIGS[2]
every_config = pytest.mark.parametrize("config", CONFIGS, ids=str)
KIB = 1 << 10
LIMIT = ("--max-body-size", "100000")
ANY_STREAM = (1 << 31) - 1


def direct(shared: Start, config: Config, *options: str) -> Server:
    """Return a server of an app whose bytes tell which answer they belong to."""
    name = "asgi" if config.interface == "asgi" else "wsgi_app"
    return shared(f"tests.integration.apps.direct:{name}", *config.options, *options)


# Requests and their apps -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config", [ASGI, pytest.param(CONFIGS[1], marks=pytest.mark.slow)], ids=str
)
def test_an_upload_that_is_not_read_waits(
    shared: Start, config: Config, gate: Gate, notes: Notes
) -> None:
    """It has its own window, and leaves room for another stream of the connection."""
    server = direct(shared, config)
    large = content(1, 4_000_000)
    with Frames(server) as client:
        uploads = Uploads(client)
        waits = uploads.begin(post(f"/upload?gate={gate}&notes={notes}"))
        uploads.push(waits, large)
        notes.wait_for("started")
        # It goes on until the link and the window of the stream are full.
        while True:
            before = uploads.sent[waits]
            client.ping()
            assert eventually(server.is_at_rest)
            client.ping()
            uploads.push(waits, large)
            if uploads.sent[waits] == before:
                break
        # A plain link has buffers of the kernel too.
        assert uploads.sent[waits] <= (768 if config.lanes == "express" else 4096) * KIB
        assert 65535 + client.granted[0] - uploads.sent[waits] > 128 * KIB
        other = uploads.begin(post("/upload"))
        assert uploads.finish(other, large).body == hashlib.sha256(large).hexdigest().encode()
        assert not client.answers[waits].over
        gate.open()
        assert uploads.finish(waits, large).body == hashlib.sha256(large).hexdigest().encode()


@pytest.mark.parametrize("config", CONFIGS[:2], ids=str)
def test_a_body_of_single_bytes(shared: Start, config: Config) -> None:
    body = content(2, 3000)
    with Frames(direct(shared, config)) as client:
        stream = client.begin(post("/echo"), False)
        for byte in body:
            client.send(data(stream, bytes([byte])))
        client.send(data(stream, b"", True))
        assert client.answer(stream).body == body


@every_config
def test_a_client_that_waits_for_continue(shared: Start, config: Config) -> None:
    server = shared(config.app, *config.options, *LIMIT)
    with Frames(server) as client:
        for more in [], [("content-length", "3")]:
            stream = client.begin(post("/echo", ("expect", "100-continue"), *more), False)
            answer = client.answers[stream]
            client.wait(lambda: answer.interim)  # noqa: B023
            assert answer.interim == [100]
            client.send(data(stream, b"abc", True))
            assert client.answer(stream).body == b"abc"


@every_config
def test_padding(shared: Start, config: Config) -> None:
    """It takes room in the windows, and opens them again."""
    body = content(7, 4000)
    with Frames(direct(shared, config), grants=True) as client:
        uploads = Uploads(client)
        stream = uploads.begin(post("/echo"))
        for byte in body:
            # 257 bytes of flow control: in all, more than the windows.
            client.wait(lambda: uploads.room(stream) >= 257)
            uploads.sent[stream] += 257
            client.send(raw(DATA, PADDED, stream, b"\xff" + bytes([byte]) + bytes(255)))
        client.send(data(stream, b"", True))
        assert client.answer(stream).body == body


@every_config
def test_an_answer_before_the_end_of_the_body(shared: Start, config: Config) -> None:
    """The client gets all of it, and then learns that the rest of its body is of no use."""
    server = shared(config.app, *config.options, *LIMIT)
    with Frames(server) as client:
        for path, more in (("/hash", ("content-length", "100001")), ("/nowhere", ("x", "y"))):
            stream = client.begin(post(path, more), False)
            if config.interface == "wsgi" and path == "/nowhere":
                # The app is called when the body has ended.
                client.send(data(stream, b"abc", True))
            answer = client.answers[stream]
            client.wait(lambda: answer.ended)  # noqa: B023
            if path == "/hash":
                assert answer.status == 413
                client.wait(lambda: answer.reset is not None)  # noqa: B023
                assert answer.reset == NO_ERROR
        assert client.get().body == b"hello"


@pytest.mark.parametrize("config", CONFIGS[:2], ids=str)
def test_an_app_that_does_not_read_the_body(shared: Start, config: Config) -> None:
    with Frames(shared(config.app, *config.options)) as client:
        uploads = Uploads(client)
        stream = uploads.begin(post("/early"))
        answer = client.answers[stream]
        client.wait(lambda: answer.ended)
        assert answer.body == b"no need to read that"
        while answer.reset is None:
            # More than is read and dropped.
            uploads.push(stream, bytes(2_000_000))
            client.wait(lambda: uploads.room(stream) > 0 or answer.reset is not None)
        assert answer.reset == NO_ERROR
        client.get()


# Answers and their clients -----------------------------------------------------------------------


def test_a_slow_client_that_reads_on_gets_all(start: Start) -> None:
    """The queue of its answer is filled up again. So it is often as long as it was."""
    size = 20_000_000
    server = start(ASGI.app, *ASGI.options, "--response-timeout", "1")
    end = time.monotonic() + 3
    with Frames(server, ours={INITIAL_WINDOW: 16384}, keeps=False) as client:
        client.send(window(0, 1 << 30))
        stream = client.begin(get(f"/download?size={size}"))
        answer = client.answers[stream]
        while not answer.ended and time.monotonic() < end:
            wanted = min(answer.size // 16384 * 16384 + 16384, size)
            client.wait(lambda: answer.size >= wanted)  # noqa: B023
            for _ in range(5):
                client.ping()
            client.send(window(stream, 16384))
            assert answer.reset is None
        client.send(window(stream, size))
        assert client.answer(stream).size == size


@pytest.mark.parametrize("lanes", LANES)
def test_an_app_may_end_its_answer_after_the_last_byte(start: Start, lanes: str) -> None:
    """The stream has ended by then. Its client has not left."""
    app = "tests.integration.apps.late_end:app"
    server = start(app, "--lifespan", "off", "--lanes", lanes, "--access-log", "-")
    with Frames(server, grants=True) as client:
        assert client.get("/").size == 200_000
        assert client.get("/").size == 200_000
        assert eventually(lambda: client.get("/ended").body == b"whole whole")


@pytest.mark.parametrize("size", [30_000, 300_000])
def test_a_client_that_takes_too_little_loses_the_stream(start: Start, size: int) -> None:
    """The other streams go on."""
    server = start(
        ASGI.app, *ASGI.options, "--response-timeout", "0.5", "--min-response-rate", "100000"
    )
    with Frames(server, ours={INITIAL_WINDOW: 10}) as client:
        slow = client.begin(get(f"/download?size={size}"))
        client.wait(lambda: client.answers[slow].size == 10)
        while not client.answers[slow].over:
            client.get()
            # A byte now and then is not enough.
            client.send(window(slow, 1))
        assert client.answers[slow].reset == CANCEL


@every_config
@pytest.mark.parametrize("length", [0, 1])
def test_an_answer_byte_by_byte(shared: Start, config: Config, length: int) -> None:
    with Frames(direct(shared, config), ours={INITIAL_WINDOW: 0}) as client:
        stream = client.begin(get(f"/answer?size=300&seed=3&length={length}"))
        answer = client.answers[stream]
        client.wait(lambda: answer.status)
        for size in range(300):
            assert answer.size == size
            client.send(window(stream, 1))
            client.wait(lambda: answer.size > size)  # noqa: B023
        if not length:
            # The end may be known only now, and the library sends none without a window.
            client.send(window(stream, 1))
        assert client.answer(stream).body == content(3, 300)


@every_config
def test_a_large_answer_that_waits(shared: Start, config: Config, notes: Notes) -> None:
    """An ASGI app waits with it. That of a WSGI app is in a file, and the app is done."""
    # More than the buffers of the kernel.
    size = 12_000_000
    with Frames(direct(shared, config), ours={INITIAL_WINDOW: 0}, grants=True) as client:
        stream = client.begin(get(f"/answer?size={size}&seed=4&notes={notes}"))
        client.wait(lambda: client.answers[stream].status)
        for _ in range(3):
            assert client.request(get("/hello", method="HEAD")).status == 200
        if config.interface == "wsgi":
            notes.wait_for("finished")
        else:
            assert notes.lines() == []
        client.send(window(stream, 1 << 20))
        assert client.answer(stream).body == content(4, size)


@every_config
def test_answers_that_wait_leave_room_for_others(shared: Start, config: Config) -> None:
    """However many wait: what is queued for them has a bound, and others are sent at once."""
    size = 400_000
    with Frames(direct(shared, config), ours={INITIAL_WINDOW: 0}, grants=True) as client:
        waiting = [client.begin(get(f"/answer?size={size}&seed={n}")) for n in range(12)]
        client.wait(lambda: all(client.answers[stream].status for stream in waiting))
        for number in range(3):
            stream = client.begin(get(f"/answer?size={size}&seed={number}"))
            client.send(window(stream, 65535))
            assert client.answer(stream).body == content(number, size)
        for number, stream in enumerate(waiting):
            assert not client.answers[stream].size
            client.send(window(stream, 1000))
            assert client.answer(stream).body == content(number, size)


@pytest.mark.parametrize(
    ("priorities", "updates", "expected"),
    [
        # RFC 9218 §4.1: 0 is the most urgent, 3 the default.
        (["u=7", "", "u=0"], [], [0, 10_000, 50_000]),
        (["u=0", "u=7"], ["u=7", "u=0"], [10_000, 50_000]),
        # §4.2, §10: equally urgent ones come in the order of their streams, or by turns.
        (["", ""], [], [50_000, 10_000]),
        (["i", "i"], [], None),
    ],
)
def test_priorities(
    shared: Start, priorities: list[str], updates: list[str], expected: list[int] | None
) -> None:
    """Three answers of 50,000 bytes or two, and room for 60,000 bytes on the connection."""
    server = direct(shared, ASGI)
    with Frames(server, ours={INITIAL_WINDOW: 1 << 20}) as client:
        # It takes all of the connection's window. So the others wait in the front end.
        client.answer(client.begin(get("/answer?size=65535")))
        streams = [
            client.begin(get("/answer?size=50000", ("priority", priority)))
            for priority in priorities
        ]
        for stream, update in zip(streams, updates, strict=False):
            client.send(raw(PRIORITY_UPDATE, 0, 0, stream.to_bytes(4, "big") + update.encode()))
        answers = [client.answers[stream] for stream in streams]
        client.wait(lambda: all(answer.status for answer in answers))
        assert eventually(server.is_at_rest)
        client.send(window(0, 60_000))
        client.wait(lambda: sum(answer.size for answer in answers) == 60_000)
        sizes = [answer.size for answer in answers]
        if expected is None:
            assert all(20_000 < size < 40_000 for size in sizes), sizes
        else:
            assert sizes == expected


@pytest.mark.parametrize("config", CONFIGS[:2], ids=str)
@pytest.mark.parametrize("size", [10, 300_000])
def test_trailers(shared: Start, config: Config, size: int) -> None:
    with Frames(direct(shared, config), grants=True) as client:
        answer = client.request(get(f"/trailers?size={size}&pieces=1", ("te", "trailers")))
        assert answer.body == content(1, size)
        assert dict(answer.trailers)[b"x-one"] == b"1"
        assert dict(answer.trailers)[b"x-two"] == b"2"
        # A client that does not ask for them gets none.
        answer = client.request(get(f"/trailers?size={size}&pieces=1"))
        assert (answer.body, answer.trailers) == (content(1, size), [])


@every_config
def test_early_hints(shared: Start, config: Config, gate: Gate) -> None:
    with Frames(direct(shared, config), grants=True) as client:
        stream = client.begin(get(f"/hints?gate={gate}&size=100000"))
        client.wait(lambda: client.answers[stream].interim == [103, 103])
        assert not client.answers[stream].status
        gate.open()
        assert client.answer(stream).body == content(1, 100_000)


@pytest.mark.parametrize("config", CONFIGS[:2], ids=str)
def test_a_file_of_an_app(shared: Start, config: Config, tmp_path: Path) -> None:
    file = tmp_path / "file"
    for size in 0, 1, 1_000_000:
        file.write_bytes(content(5, size))
        with Frames(direct(shared, config), grants=True) as client:
            answer = client.request(get(f"/file?path={file}"))
            assert (answer.status, answer.body) == (200, content(5, size))
            answer = client.request(get(f"/file?path={file}", method="HEAD"))
            assert (answer.status, answer.body, answer.ended) == (200, b"", True)


def test_static_files(start: Start, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(content(6, 3_000_000))
    (tmp_path / "empty").write_bytes(b"")
    server = start(ASGI.app, *ASGI.options, "--static", f"/files={tmp_path}")
    with Frames(server, grants=True) as client:
        streams = [client.begin(get("/files/large")) for _ in range(3)]
        assert client.get("/files/empty").body == b""
        part = client.request(get("/files/large", ("range", "bytes=1000000-1000099")))
        assert (part.status, part.body) == (206, content(6, 1_000_100)[-100:])
        head = client.request(get("/files/large", method="HEAD"))
        assert (head.field(b"content-length"), head.body) == (b"3000000", b"")
        assert client.request(get("/files/none")).status == 404
        for stream in streams:
            assert client.answer(stream).body == content(6, 3_000_000)
    with Frames(server, ours={INITIAL_WINDOW: 0}) as client:
        # It waits, and its client leaves.
        client.begin(get("/files/large"))
        client.ping()
    with Frames(server) as client:
        client.get()


@every_config
def test_a_reactor_that_dies(start: Start, config: Config, gate: Gate, notes: Notes) -> None:
    """Its answer is cut. Requests that it has not begun go to another one."""
    server = direct(
        start, config, "--concurrency" if config.interface == "asgi" else "--threads", "1"
    )
    with Frames(server, grants=True) as client:
        query = f"size=600000&at=300000&gate={gate}&notes={notes}"
        begun = client.begin(get(f"/answer?{query}"))
        client.wait(lambda: client.answers[begun].size)
        notes.wait_for("at the gate")
        waiting = [client.begin(get("/hello")) for _ in range(5)]
        client.ping()
        os.kill(server.reactor_pids()[0], signal.SIGKILL)
        assert client.answer(begun).reset == INTERNAL_ERROR
        for stream in waiting:
            assert client.answer(stream).body == b"hello"
        client.get()


# The end -----------------------------------------------------------------------------------------


def goaways(client: Frames, count: int) -> list[tuple[int, int]]:
    """Return the first `count` GOAWAY frames when they have come."""
    client.wait(lambda: len(client.goaways) >= count)
    return client.goaways[:count]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_the_end_is_announced(start: Start, gate: Gate, number: int) -> None:
    """Requests that come between the two GOAWAY frames are answered."""
    server = start(ASGI.app, *ASGI.options, env={"REACTOR_RUN_CLOSE_GRACE": "1"})
    with Frames(server) as client, Frames(server) as idle:
        waiting = client.begin(get(f"/wait?gate={gate}"))
        client.get()
        idle.get()
        server.signal(number)
        for each in client, idle:
            assert goaways(each, 1) == [(ANY_STREAM, NO_ERROR)]
            each.get()
        last = client.begin(get(f"/wait?gate={gate}"))
        assert goaways(client, 2)[1] == (last, NO_ERROR)
        assert goaways(idle, 2)[1] == (3, NO_ERROR)
        idle.wait_for_end()
        gate.open()
        for stream in waiting, last:
            assert client.answer(stream).body == b"waited"
        client.wait_for_end()
    assert server.wait() == 0


def test_an_old_connection_ends(start: Start, gate: Gate) -> None:
    server = start(ASGI.app, *ASGI.options, "--max-connection-age", "0.5")
    with Frames(server) as client:
        while not client.goaways:
            client.get()
        assert client.goaways == [(ANY_STREAM, NO_ERROR)]
        client.get()
        stream = client.begin(get(f"/wait?gate={gate}"))
        assert goaways(client, 2)[1] == (stream, NO_ERROR)
        gate.open()
        assert client.answer(stream).body == b"waited"
        client.wait_for_end()
    with Frames(server) as client:
        client.get()
