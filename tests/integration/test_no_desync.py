"""Front end and reactor never disagree on where a request ends, whatever a client sends.

A tap between the two writes down every byte. What h11 reads from that record, what the client's
stream holds by our own reading (which tests/protocol/test_differential.py holds against others),
and what the app says it was given must be the same requests, and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest

from reactor_run.frontend.clients.request_body import COLLECT_MAX
from tests.corpus.loader import load
from tests.corpus.reading import at_random
from tests.integration.client import Client, Response, chunked
from tests.integration.conftest import LANE_PROXIES, LANES, USED, Config
from tests.integration.recording import Recording, Sent
from tests.integration.server import Server
from tests.integration.waiting import eventually
from tests.protocol.peers import End, Message, Reading, read_by_h11, read_by_us
from tests.protocol.streams import Choices, pieces_of, request_stream

CONFIGS = [
    Config("asgi", "express"),
    Config("asgi", "plain", lane_proxy="v1"),
    Config("wsgi", "express", lane_proxy="off"),
    Config("wsgi", "plain", threads=2),
]
EVERY_CONFIG = [
    Config(interface, lanes, lane_proxy=proxy)
    for interface in ("asgi", "wsgi")
    for lanes in LANES
    for proxy in LANE_PROXIES
]
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n"
ENOUGH = b"\r\n\r\n" + b"x" * 9
"""What has any request that is none refused: pieces of a line are not looked at before its end."""
LAST = b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@dataclass
class Tapped:
    """A server whose reactor is tapped."""

    config: Config
    server: Server
    recording: Recording
    partials: set[tuple[str, str]] = field(default_factory=set)
    """Method and target of requests that never became whole: an app may be called for one."""

    def connect(self, *, unix: bool = False) -> Client:
        return Client(self.server.addresses[unix])

    def testimony(self) -> list[dict[str, Any]]:
        """What the app has seen since it was asked last."""
        with self.connect() as client:
            told: list[dict[str, Any]] = client.get("/testimony").json()
        return told

    def sent(self) -> list[Sent]:
        """What the front end has begun to send since it was asked last, testimonies left out."""
        sent = self.recording.requests()
        return [each for each in sent if b"/testimony" not in each.raw[:40]]

    def seen_as(self, message: Message) -> tuple[str, str]:
        """How an app of this interface sees method and target."""
        method, target = message.method.decode(), message.target.decode()
        if self.config.interface == "asgi":
            # Path and query: an absolute-form loses its authority.
            target = re.sub(r"^\w[\w+.-]*://[^/?]*", "", target)
            target = (target if target.startswith(("/", "*")) else f"/{target}").removesuffix("?")
        return method, target


def run(config: Config, folder: Path) -> Iterator[Tapped]:
    path = folder / "record"
    path.touch()
    wrapper = (sys.executable, "-m", "tests.integration.tap", "front", str(path))
    bind = ("127.0.0.1:0", f"unix:{folder / 'socket'}")
    app = f"tests.integration.apps.witness:{config.interface}"
    options = [*config.options, "--http2=off"]
    with Server(app, *options, bind=bind, wrapper=wrapper) as server:
        recording = Recording(path, config.lane_proxy)
        yield Tapped(config, server, recording)
        recording.close()


@pytest.fixture(scope="module", params=CONFIGS, ids=str)
def tapped(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Tapped]:
    yield from run(request.param, tmp_path_factory.mktemp("tap"))


@pytest.fixture(autouse=True)
def log_of_failures(request: pytest.FixtureRequest) -> None:
    if "tapped" in request.fixturenames:
        server = request.getfixturevalue("tapped").server
        request.node.stash.setdefault(USED, []).append((server, len(server.log())))


# Generated streams ------------------------------------------------------------------------------


def witness(response: Response) -> dict[str, Any]:
    """What the app that gave this answer saw."""
    value = response.field("x-witness")
    assert value is not None, response
    told: dict[str, Any] = json.loads(value)
    return told


def told_of(tapped: Tapped, message: Message) -> dict[str, Any]:
    """What an app has to say of a whole request."""
    method, target = tapped.seen_as(message)
    return {
        "method": method,
        "target": target,
        "size": len(message.body),
        "sha256": hashlib.sha256(message.body).hexdigest(),
        "whole": True,
    }


def converse(tapped: Tapped, expected: Reading, pieces: list[bytes]) -> None:
    """Send a stream; the client gets the answers that are due, and nothing else."""
    stream = b"".join(pieces)
    # TCP may lose the last answer where bytes come after the end of the connection.
    with tapped.connect(unix=expected.end is End.CLOSED) as client:
        try:
            for piece in pieces:
                client.send(piece)
        except OSError:
            assert expected.end is not End.WAITING
        for message in expected.whole:
            assert witness(client.response(message.method.decode())) == told_of(tapped, message)
        if expected.end is End.WAITING and read_to(expected) == len(stream):
            client.send(LAST)
            assert witness(client.response())["target"] == "/last"
            assert client.rest() == b""
            return
        if expected.end is End.WAITING:
            client.finish_sending()
        # h11 is no help with an answer to a request that was none.
        statuses = statuses_of(client.rest())
        if expected.rule is not None:
            assert statuses == [expected.rule.status]
        elif expected.end is End.CLOSED or len(expected.messages) == len(expected.whole):
            assert statuses == []
        else:
            # A body without its end: the app may have been called before it was missed.
            assert statuses in ([], [200], [400])


def read_to(reading: Reading) -> int:
    """Where the last whole message ends."""
    return max([message.end or 0 for message in reading.messages], default=0)


def compare(tapped: Tapped, stream: bytes, expected: Reading) -> None:
    """The record and the app's testimony hold the requests of the stream, and nothing else."""
    partial = expected.messages[len(expected.whole) :]
    tapped.partials.update(tapped.seen_as(message) for message in partial)

    told = tapped.testimony()
    wanted = [told_of(tapped, message) for message in expected.whole]
    assert [sight for sight in told if sight["whole"] and sight["target"] != "/last"] == wanted
    for sight in told:
        assert sight["whole"] or (sight["method"], sight["target"]) in tapped.partials

    sent = [each for each in tapped.sent() if not each.raw.startswith(LAST)]
    whole = [each for each in sent if each.whole]
    assert len(whole) == len(expected.whole)
    for message, each in zip(expected.whole, whole, strict=True):
        compare_sent(tapped, message, each)
    for each in sent:
        if not each.whole:
            assert tapped.config.interface == "asgi", "a body was not collected"
            assert partial
            assert partial[0].raw.startswith(each.raw)


def compare_sent(tapped: Tapped, expected: Message, sent: Sent) -> None:
    assert sent.message is not None
    if sent.raw == expected.raw:
        return
    # A body that was collected is sent with its length (docs/architecture.md).
    assert tapped.config.interface == "wsgi"
    for name in ("method", "target", "minor_version", "body"):
        assert getattr(sent.message, name) == getattr(expected, name), name
    framing = (b"content-length", b"transfer-encoding", b"expect")
    fields = [each for each in expected.fields if each[0] not in framing]
    assert [*sent.message.fields] == [*fields, (b"content-length", b"%d" % len(expected.body))]


def check_streams(tapped: Tapped, streams: Iterable[list[bytes]]) -> None:
    """Send each stream, in these pieces, on a connection of its own."""
    ends: Counter[str] = Counter()
    for pieces in streams:
        stream = b"".join(pieces)
        expected = read_by_us(stream)
        if expected.end is End.REFUSED:
            pieces = [*pieces, ENOUGH]
        if not all(is_read_by_h11(message) for message in expected.whole):
            ends["beyond h11"] += 1
            continue
        try:
            converse(tapped, expected, pieces)
            compare(tapped, stream, expected)
        except (AssertionError, OSError) as error:
            error.add_note(f"stream {stream!r}\nexpected {expected}")
            raise
        ends[expected.end.name] += 1
        ends["whole"] += len(expected.whole)
    assert ends["REFUSED"] > 30
    assert ends["whole"] > 70
    assert ends["beyond h11"] < 10


def is_read_by_h11(message: Message) -> bool:
    """Whether the record could be read: h11 takes trailers for more than they are, and refuses
    some."""
    return read_by_h11(message.raw.removeprefix(b"\r\n")).end is not End.REFUSED


def generated(count: int, seed: int) -> Iterator[list[bytes]]:
    random = Random(seed)
    for _ in range(count):
        choices = Choices(random.randbytes(200))
        stream = request_stream(choices)
        yield pieces_of(choices, stream)


def corpus() -> Iterator[list[bytes]]:
    for case in load():
        if not case.large:
            yield at_random(case.data, case.name)


def test_generated_streams(tapped: Tapped) -> None:
    check_streams(tapped, generated(150, seed=1))


def test_the_corpus(tapped: Tapped) -> None:
    check_streams(tapped, corpus())


def test_many_clients_at_once(tapped: Tapped) -> None:
    """Their requests share the express lane, or take lanes from each other."""

    def talk(seed: int) -> None:
        for pieces in generated(40, seed):
            expected = read_by_us(b"".join(pieces))
            more = [ENOUGH] if expected.end is End.REFUSED else []
            converse(tapped, expected, pieces + more)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(talk, range(100, 108)))
    tapped.testimony()
    # The record is sound, which reading it shows, and no app waits for what will never come.
    eventually(lambda: tapped.sent() is not None and not tapped.recording.busy)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("config", EVERY_CONFIG, ids=str)
def test_many_generated_streams(config: Config, tmp_path: Path) -> None:
    for tapped in run(config, tmp_path):
        check_streams(tapped, generated(2000, seed=2))


# Bodies that are abandoned ----------------------------------------------------------------------

SIZES = {"small": 30, "more than is drained": 12_000}
"""How many smuggled requests a body holds."""
CASES = [
    (ending, framing)
    for ending in ("sent", "sent after the answer", "reset", "FIN", "broken")
    for framing in ("length", "chunked")
    # Any bytes are a body of some length.
    if (ending, framing) != ("broken", "length")
]


def post(do: str, framing: str, count: int) -> tuple[bytes, bytes]:
    """A request whose app does so, in two parts. What is left of its body begins where a request
    would: whoever loses count takes it for one."""
    head = f"POST /abandoned HTTP/1.1\r\nHost: a\r\nX-Do: {do}\r\n".encode()
    half = SMUGGLED * (count // 2)
    if framing == "length":
        return head + b"Content-Length: %d\r\n\r\n" % (2 * len(half)) + half, half
    first, second, end = chunked([half, half])
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + first, second + end


def abandon(tapped: Tapped, do: str, framing: str, count: int, ending: str) -> None:
    """Send a request whose body comes to such an end."""
    first, second = post(do, framing, count)
    with tapped.connect() as client:
        client.send(first)
        # Small bodies of a known length are collected for ASGI too.
        small = framing == "length" and len(first) + len(second) <= COLLECT_MAX
        collects = tapped.config.interface == "wsgi" or small
        match ending:
            case "reset":
                if not collects:
                    eventually(lambda: tapped.sent())
                client.reset()
                return
            case "FIN":
                client.finish_sending()
            case "broken":
                client.send(b"no size\r\n" + SMUGGLED)
            case "sent after the answer" if do != "read" and not collects:
                assert client.response("POST").status == 200
                send_if_wanted(client, second + LAST)
                assert statuses_of(client.rest()) in ([], [200])
                return
            case _:
                send_if_wanted(client, second + LAST)
                assert statuses_of(client.rest()) in ([200], [200, 200])
                return
        assert len(statuses_of(client.rest())) <= 1


def send_if_wanted(client: Client, data: bytes) -> None:
    """The server may end a connection whose body is not worth to be read to its end."""
    try:
        client.send(data)
    except OSError:
        return


def statuses_of(data: bytes) -> list[int]:
    """The final statuses of answers without bodies of more than a line."""
    found = [int(status) for status in re.findall(rb"^HTTP/1\.1 (\d+)", data, re.MULTILINE)]
    return [status for status in found if status != 100]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("ending", "framing"), CASES)
def test_no_byte_of_an_abandoned_body_is_read_as_a_request(
    tapped: Tapped, ending: str, framing: str, size: str
) -> None:
    tapped.testimony()
    tapped.sent()
    for number, do in enumerate(("read", "some", "early", "late")):
        abandon(tapped, do, framing, SIZES[size], ending)
        # On the express lane one is a single message, and the other goes in pieces.
        for body in (b"", bytes(70_000)):
            with tapped.connect() as client:
                answer = client.request("POST", f"/after/{number}", body=body)
                assert witness(answer)["size"] == len(body)
    targets = [sight["target"] for sight in tapped.testimony()]
    assert targets.count("/abandoned") <= 4
    assert targets.count("/last") <= 4
    others = [target for target in targets if target not in ("/abandoned", "/last")]
    assert others == [f"/after/{number}" for number in range(4) for _ in range(2)]
    # The record is sound to its end, and no app waits for what will never come.
    eventually(lambda: tapped.sent() is not None and not tapped.recording.busy)


def test_lanes_were_used_again(tapped: Tapped) -> None:
    tapped.sent()
    assert tapped.recording.reused > 50
