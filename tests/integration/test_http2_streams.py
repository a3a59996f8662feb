"""Streams of HTTP/2 from the first to the last frame: flow control, deadlines and the end."""

from __future__ import annotations

import signal

import pytest

from tests.integration.conftest import LANES, Config, Gate, Start
from tests.integration.frames import (
    CANCEL,
    NO_ERROR,
    Frames,
    get,
    window,
)
from tests.integration.waiting import eventually

CONFIGS = [
    Config(interface, lanes) for interface in ("asgi", "wsgi") for lanes in ("express", "plain")
]
ASGI, WSGI = CONFIGS[0], CONFIGS[2]
every_config = pytest.mark.parametrize("config", CONFIGS, ids=str)
INITIAL_WINDOW = 4
ANY_STREAM = (1 << 31) - 1


# Answers and their clients -----------------------------------------------------------------------


def test_a_slow_client_that_reads_on_gets_all(start: Start) -> None:
    """The queue of its answer is filled up again. So it is often as long as it was."""
    size = 2_000_000
    server = start(ASGI.app, *ASGI.options, "--response-timeout", "0.3")
    with Frames(server, ours={INITIAL_WINDOW: 16384}, keeps=False) as client:
        client.send(window(0, 1 << 30))
        stream = client.begin(get(f"/download?size={size}"))
        answer = client.answers[stream]
        while not answer.ended:
            # 16 KiB in a fiftieth of a second are more than the minimum rate.
            wanted = min(answer.size // 16384 * 16384 + 16384, size)
            client.wait(lambda: answer.size >= wanted)  # noqa: B023
            for _ in range(5):
                client.ping()
            client.send(window(stream, 16384))
            assert answer.reset is None
        assert answer.size == size


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
