"""Nothing that one exchange does reaches another, on any runtime.

Every test has neighbours: one request of another client that is in flight all the while, and a
crowd that arrives in the same instant as the misdeed. All must come out right, in the reactor that
was there before.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import h11
import pytest

from tests.integration.client import Client, request
from tests.integration.conftest import LANES, RUNTIMES, Config, Gate, Notes, Start, quick
from tests.integration.server import Server
from tests.integration.waiting import eventually

Connect = Callable[..., Client]

APP = "tests.integration.apps.unruly:app"
ASGI = [Config(lanes=lanes, runtime=runtime) for lanes in LANES for runtime in RUNTIMES]
WSGI = [Config("wsgi", lanes, threads=threads) for lanes in LANES for threads in (1, 4)]

suspended = pytest.mark.parametrize("suspend", [0, 1], ids=["at once", "suspended"])
"""Whether the app truly suspended before: then another task runs it, or the same one went on."""


@pytest.fixture(params=quick(*ASGI))
def config(request: pytest.FixtureRequest) -> Config:
    value: Config = request.param
    return value


@pytest.fixture
def server(config: Config, shared: Start, connect: Connect) -> Iterator[Server]:
    """One reactor, the same one after each test, and still one that serves."""
    server = shared(APP if config.interface == "asgi" else config.app, *config.options)
    before = server.reactor_pids()
    yield server
    crowd_is_served(server, connect)
    assert server.reactor_pids() == before, "the reactor did not survive the test"


@pytest.fixture
def neighbour(server: Server, connect: Connect, gate: Gate, notes: Notes) -> Iterator[Client]:
    """A request in flight from before the test's own until after it, which must be answered."""
    client = connect(server)
    client.send(request("GET", f"/wait?say=neighbour&gate={gate}&notes={notes}"))
    notes.first()
    yield client
    gate.open()
    answer = client.response()
    assert (answer.status, answer.text) == (200, "neighbour")


def crowd_is_served(server: Server, connect: Connect, *misdeeds: str) -> list[Client]:
    """Send `misdeeds` amid a crowd of good requests, all at once; each good one must come right.

    Returns the clients of the misdeeds, with their answers unread.
    """
    good = [(connect(server), f"/hello?say={number}") for number in range(12)]
    bad = [(connect(server), misdeed) for misdeed in misdeeds]
    for client, target in itertools.chain(good[:6], bad, good[6:]):
        client.send(request("GET", target))
    for number, (client, _) in enumerate(good):
        answer = client.response()
        assert (answer.status, answer.text) == (200, str(number))
    return [client for client, _ in bad]


def misbehave(server: Server, connect: Connect, target: str, status: int = 200) -> None:
    """Do it alone, do it in a crowd, and see that others are served behind it each time."""
    client = connect(server)
    assert client.request("GET", target).status == status
    crowd_is_served(server, connect)
    for each in crowd_is_served(server, connect, target, target):
        assert each.response().status == status
    crowd_is_served(server, connect)


# Context variables


@suspended
@pytest.mark.parametrize("config", quick(*ASGI, *(c for c in WSGI if c.threads == 1)))
def test_a_context_variable_is_unset_for_the_next_exchange(
    server: Server, connect: Connect, suspend: int
) -> None:
    client = connect(server)
    for value in "abc":
        assert client.get(f"/contextvar?value={value}&suspend={suspend}").text == "unset"
    data = b"".join(
        request("GET", f"/contextvar?value={value}&suspend={suspend}") for value in "defgh"
    )
    client.send(data)
    assert [client.response().text for _ in "defgh"] == ["unset"] * 5
    others = [connect(server) for _ in range(10)]
    for number, other in enumerate(others):
        other.send(request("GET", f"/contextvar?value={number}&suspend={suspend}"))
    assert [other.response().text for other in others] == ["unset"] * 10


@suspended
def test_an_exception_has_no_context_of_the_server(
    server: Server, connect: Connect, neighbour: Client, suspend: int
) -> None:
    client = connect(server)
    misbehave(server, connect, f"/base-exception?kind=SystemExit&suspend={suspend}", 500)
    for _ in range(3):
        assert client.get(f"/exception-context?suspend={suspend}").json() == "None"
        assert client.get(f"/handled-exception?suspend={suspend}").json() == "None"


# Handles that outlive their request


@suspended
@pytest.mark.parametrize("config", quick(*(c for c in ASGI if c.runtime != "trio")))
def test_a_task_cancelled_after_its_request_cancels_no_other(
    server: Server, connect: Connect, neighbour: Client, suspend: int
) -> None:
    for _ in range(3):
        connect(server).get(f"/keep-task?suspend={suspend}")
        crowd_is_served(server, connect)
        crowd_is_served(server, connect, "/cancel-task")
        crowd_is_served(server, connect)


@suspended
@pytest.mark.parametrize("config", quick(*(c for c in ASGI if c.runtime != "trio")))
def test_a_task_cancelled_while_others_wait_cancels_none_of_them(
    server: Server, connect: Connect, gate: Gate, notes: Notes, suspend: int
) -> None:
    """The task that hosted the keeper may by now host any of these."""
    connect(server).get(f"/keep-task?suspend={suspend}")
    waiting = [connect(server) for _ in range(10)]
    for client in waiting:
        client.send(request("GET", f"/wait?gate={gate}&notes={notes}"))
    assert eventually(lambda: len(notes.lines()) == 10)
    connect(server).get("/cancel-task")
    gate.open()
    assert [client.response().text for client in waiting] == ["waited"] * 10


@pytest.mark.parametrize("config", [Config(lanes=lanes) for lanes in LANES], ids=str)
def test_a_nursery_cancelled_through_a_trio_task_does_not_end_the_service(
    config: Config, start: Start, connect: Connect
) -> None:
    """Reaching round the server like this may fail requests in flight, but no later one."""
    server = start(APP, *config.options)
    connect(server).get("/keep-task")
    connect(server).send(request("GET", "/cancel-task"))

    def is_served() -> bool:
        with Client(server.address) as client:
            return client.request("GET", "/hello").status == 200

    assert eventually(is_served)
    crowd_is_served(server, connect)


@suspended
@pytest.mark.parametrize("keep", ["keep-scope", "open-scope", "open-shield"])
def test_a_scope_cancelled_after_its_request_cancels_no_other(
    server: Server, connect: Connect, neighbour: Client, keep: str, suspend: int
) -> None:
    for _ in range(3):
        connect(server).get(f"/{keep}?suspend={suspend}")
        crowd_is_served(server, connect)
        for client in crowd_is_served(server, connect, "/cancel-scope"):
            assert client.response().text == "cancelled"
        crowd_is_served(server, connect)


@suspended
def test_a_scope_cancelled_while_others_wait_cancels_none_of_them(
    server: Server, connect: Connect, gate: Gate, notes: Notes, suspend: int
) -> None:
    connect(server).get(f"/open-scope?suspend={suspend}")
    waiting = [connect(server) for _ in range(10)]
    for client in waiting:
        client.send(request("GET", f"/wait?gate={gate}&notes={notes}"))
    assert eventually(lambda: len(notes.lines()) == 10)
    connect(server).get("/cancel-scope")
    gate.open()
    assert [client.response().text for client in waiting] == ["waited"] * 10


@suspended
@pytest.mark.parametrize("target", ["/open-scope", "/open-shield", "/open-deadline"])
def test_a_scope_left_open_is_no_scope_of_the_next_exchange(
    server: Server, connect: Connect, neighbour: Client, target: str, suspend: int
) -> None:
    misbehave(server, connect, f"{target}?suspend={suspend}")
    # Longer than the deadline that was left open.
    assert connect(server).get("/timer?count=10").status == 200


# Apps that cancel themselves


@suspended
def test_an_app_that_cancels_itself_gets_500(
    server: Server, connect: Connect, neighbour: Client, suspend: int
) -> None:
    misbehave(server, connect, f"/cancel-self?suspend={suspend}", 500)


@suspended
def test_an_app_that_cancels_itself_in_the_end_harms_nobody(
    server: Server, connect: Connect, neighbour: Client, suspend: int
) -> None:
    misbehave(server, connect, f"/cancel-self-last?suspend={suspend}")


# BaseException

KINDS = ["SystemExit", "KeyboardInterrupt", "GeneratorExit"]


@suspended
@pytest.mark.parametrize("kind", [*KINDS, "StopAsyncIteration", "BaseExceptionGroup"])
def test_base_exception_of_an_asgi_app_gives_500(
    server: Server, connect: Connect, neighbour: Client, kind: str, suspend: int
) -> None:
    misbehave(server, connect, f"/base-exception?kind={kind}&suspend={suspend}", 500)


@suspended
@pytest.mark.parametrize("kind", KINDS)
def test_late_base_exception_of_an_asgi_app_cuts_its_own_answer_alone(
    server: Server, connect: Connect, neighbour: Client, kind: str, suspend: int
) -> None:
    for client in crowd_is_served(
        server, connect, *[f"/late-base-exception?kind={kind}&suspend={suspend}"] * 2
    ):
        assert is_cut_or_failed(client)


def is_cut_or_failed(client: Client) -> bool:
    """Whether the answer shows its truncation, or became a 500 while nothing of it had left."""
    try:
        return client.response().status == 500
    except h11.RemoteProtocolError:
        return True


@pytest.mark.parametrize("config", WSGI, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_base_exception_of_a_wsgi_app(server: Server, connect: Connect, kind: str) -> None:
    misbehave(server, connect, f"/base-exception?kind={kind}", 500)
    for client in crowd_is_served(server, connect, *[f"/late-base-exception?kind={kind}"] * 2):
        assert is_cut_or_failed(client)


# Fairness


def test_a_fast_reader_of_an_endless_stream_leaves_the_loop_to_others(
    server: Server, connect: Connect, neighbour: Client
) -> None:
    stream = connect(server)
    stream.send(request("GET", "/endless"))
    stream.begin()
    timer = connect(server)
    timer.send(request("GET", "/timer?count=20"))
    with stream.discarding():
        worst = timer.response().json()
    # Without turns the sleeps would end with the stream. The machine may be busy with other tests.
    assert worst < 2
