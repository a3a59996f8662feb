"""HTTP/1.1 over a real socket, byte for byte, through both interfaces and both kinds of lanes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import h11
import pytest

from tests.integration.apps.shared import hash_of, pattern
from tests.integration.client import Client, Response, chunked, request
from tests.integration.conftest import LANES, Config, Gate, Notes, Start
from tests.integration.server import Server
from tests.integration.waiting import eventually

Connect = Callable[..., Client]

ASGI = [Config(lanes=lanes) for lanes in LANES]
WSGI = [Config("wsgi", lanes, threads=threads) for lanes in LANES for threads in (1, 4)]


@pytest.fixture(params=[*ASGI, Config(runtime="asyncio"), *WSGI], ids=str)
def config(request: pytest.FixtureRequest) -> Config:
    value: Config = request.param
    return value


@pytest.fixture
def server(config: Config, shared: Start) -> Iterator[Server]:
    """The server of this configuration; after each test it must still be in good order."""
    server = shared(config.app, *config.options)
    before = server.reactor_pids()
    yield server
    with Client(server.address) as client:
        assert client.get("/hello").text == "hello"
    assert server.reactor_pids() == before, "a reactor did not survive the test"


only_asgi = pytest.mark.parametrize("config", ASGI, ids=str, indirect=True)
only_wsgi = pytest.mark.parametrize("config", WSGI, ids=str, indirect=True)


# Keep-alive and pipelining


def sixteen() -> tuple[bytes, list[tuple[str, bytes]]]:
    """Sixteen requests of all kinds of framing, and for each its method and the answer's body."""
    data, answers = b"", []
    for number in range(4):
        body = b"%d-" % number * 50
        data += request("GET", f"/hello?say={number}")
        answers.append(("GET", b"%d" % number))
        data += request("POST", "/echo", body=body)
        answers.append(("POST", body))
        data += request("HEAD", f"/hello?say={number}")
        answers.append(("HEAD", b""))
        data += request("POST", "/echo", [("Transfer-Encoding", "chunked")])
        data += b"".join(chunked([body, b"end"]))
        answers.append(("POST", body + b"end"))
    return data, answers


def read_all(client: Client, answers: list[tuple[str, bytes]]) -> None:
    for method, body in answers:
        answer = client.response(method)
        assert (answer.status, answer.body) == (200, body)


def test_sixteen_pipelined_requests_in_one_segment(server: Server, connect: Connect) -> None:
    client, (data, answers) = connect(server), sixteen()
    client.send(data)
    read_all(client, answers)


def test_sixteen_pipelined_requests_one_byte_a_segment(server: Server, connect: Connect) -> None:
    client, (data, answers) = connect(server), sixteen()
    client.send_bytewise(data)
    read_all(client, answers)


@pytest.mark.parametrize("seed", range(3))
def test_pipelined_requests_in_random_segments(server: Server, connect: Connect, seed: int) -> None:
    client, (data, answers) = connect(server), sixteen()
    client.send_split(data, seed)
    read_all(client, answers)


def test_pipelined_answers_keep_the_order_of_the_requests(
    server: Server, connect: Connect, gate: Gate, notes: Notes
) -> None:
    client = connect(server)
    client.send(request("GET", f"/wait?gate={gate}&notes={notes}") + request("GET", "/hello"))
    notes.first()
    gate.open()
    assert [client.response().text for _ in range(2)] == ["waited", "hello"]


def test_connections_are_kept_alive_until_the_client_says_close(
    server: Server, connect: Connect
) -> None:
    client = connect(server)
    for number in range(3):
        answer = client.get(f"/hello?say={number}")
        assert answer.text == str(number)
        assert answer.field("connection") != b"close"
    answer = client.request("GET", "/hello", [("Connection", "close")])
    assert answer.field("connection") == b"close"
    assert client.at_end()


def test_two_clients_at_once_get_their_own_answers(server: Server, connect: Connect) -> None:
    clients = [connect(server) for _ in range(20)]
    order = list(enumerate(clients))
    for number, client in order:
        client.send(request("POST", "/echo", body=b"%d" % number))
    random.Random(1).shuffle(order)
    for number, client in order:
        assert client.response().body == b"%d" % number


# Heads of answers


def test_every_answer_has_a_date_and_a_server(server: Server, connect: Connect) -> None:
    answer = connect(server).get("/hello")
    assert answer.field("date")
    assert answer.field("server")


def test_repeated_set_cookie_fields_stay_apart(server: Server, connect: Connect) -> None:
    assert connect(server).get("/cookies").all("set-cookie") == [b"a=1", b"b=2; Path=/"]


@only_asgi
def test_hop_by_hop_fields_of_an_app_are_dropped(server: Server, connect: Connect) -> None:
    client = connect(server)
    answer = client.get("/hop-by-hop")
    assert answer.field("x-mine") == b"kept"
    assert answer.field("connection") is None
    assert answer.field("keep-alive") is None
    client.get("/hello")


@pytest.mark.parametrize("size", [0, 10, 100_000])
def test_head_has_the_fields_of_get_and_no_body(
    server: Server, connect: Connect, size: int
) -> None:
    client = connect(server)
    answer = client.request("HEAD", f"/download?size={size}")
    assert (answer.status, answer.field("content-length")) == (200, str(size).encode())
    client.get("/hello")


def test_head_of_an_answer_of_unknown_length(server: Server, connect: Connect) -> None:
    client = connect(server)
    assert client.request("HEAD", "/download?size=100000&length=0").status == 200
    client.get("/hello")


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_answers_without_a_body_by_their_status(
    server: Server, connect: Connect, status: int, method: str
) -> None:
    client = connect(server)
    body = b"x" if method == "POST" else None
    answer = client.request(method, f"/status?code={status}", body=body)
    assert (answer.status, answer.body) == (status, b"")
    assert answer.field("transfer-encoding") is None
    if status == 204:
        assert answer.field("content-length") is None
    client.get("/hello")


def test_an_empty_answer_keeps_the_connection(server: Server, connect: Connect) -> None:
    client = connect(server)
    assert client.get("/status?code=200").body == b""
    client.get("/hello")


@pytest.mark.parametrize("size", [1, 60_000, 130_000, 300_000])
@pytest.mark.parametrize("length", [0, 1])
def test_answers_of_every_size_with_and_without_a_length(
    server: Server, connect: Connect, size: int, length: int
) -> None:
    """Around 64 KiB an answer changes from the express lane to a lane."""
    client = connect(server)
    answer = client.get(f"/download?size={size}&length={length}")
    assert hash_of(iter([answer.body])) == hash_of(pattern(size))
    if length:
        assert answer.field("content-length") == str(size).encode()
    client.get("/hello")


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 300_000])
@pytest.mark.parametrize("in_chunks", [False, True])
def test_request_bodies_of_every_size_and_framing(
    server: Server, connect: Connect, size: int, in_chunks: bool
) -> None:
    client = connect(server)
    pieces = list(pattern(size))
    if in_chunks:
        client.send(request("POST", "/hash", [("Transfer-Encoding", "chunked")]))
        client.send(b"".join(chunked(pieces)))
    else:
        client.send(request("POST", "/hash", body=b"".join(pieces)))
    assert client.response().json() == {"sha256": hash_of(pattern(size)), "size": size}
    client.get("/hello")


def test_an_answer_reaches_the_client_as_the_app_produces_it(
    server: Server, connect: Connect, gate: Gate, second_gate: Gate
) -> None:
    """PEP 3333 too: no block may wait for the next one."""
    client = connect(server)
    client.send(request("GET", f"/steps?gate={gate}&gate2={second_gate}"))
    assert client.begin().field("content-type") == b"text/event-stream"
    events = client.pieces()
    assert next(events) == b"data: 1\n\n"
    gate.open()
    assert next(events) == b"data: 2\n\n"
    second_gate.open()
    assert b"".join(events) == b"data: 3\n\n"
    client.get("/hello")


# HTTP/1.0


def old_request(target: str, *fields: str) -> bytes:
    return "\r\n".join([f"GET {target} HTTP/1.0", *fields, "", ""]).encode()


def test_http_1_0_closes_after_the_answer(server: Server, connect: Connect) -> None:
    client = connect(server)
    client.send(old_request("/hello"))
    assert client.response().text == "hello"
    assert client.at_end()


def test_http_1_0_with_keep_alive_is_kept(server: Server, connect: Connect) -> None:
    client = connect(server)
    for number in range(3):
        client.send(old_request(f"/hello?say={number}", "Host: test", "Connection: keep-alive"))
        answer = client.response()
        assert answer.text == str(number)
        assert (answer.field("connection") or b"").lower() == b"keep-alive"


def test_http_1_0_never_gets_chunks(server: Server, connect: Connect) -> None:
    client = connect(server)
    client.send(old_request("/download?size=200000&length=0", "Connection: keep-alive"))
    answer = client.response()
    assert answer.field("transfer-encoding") is None
    assert hash_of(iter([answer.body])) == hash_of(pattern(200_000))


# Expect: 100-continue


def expecting(target: str, size: int) -> bytes:
    fields = [("Expect", "100-continue"), ("Content-Length", str(size))]
    return request("POST", target, fields)


def test_100_continue_comes_before_the_body_is_sent(server: Server, connect: Connect) -> None:
    client = connect(server)
    for size in (5, 100_000):
        client.send(expecting("/hash", size))
        assert client.informational("POST") == 100
        client.send(b"".join(pattern(size)))
        answer = client.response("POST")
        assert answer.json() == {"sha256": hash_of(pattern(size)), "size": size}
        assert answer.interim == []


@only_asgi
def test_no_100_continue_if_the_app_does_not_ask_for_the_body(
    server: Server, connect: Connect
) -> None:
    client = connect(server)
    client.send(expecting("/early?status=403", 100_000))
    answer = client.response("POST")
    assert (answer.status, answer.interim) == (403, [])


def test_no_100_continue_for_http_1_0(server: Server, connect: Connect) -> None:
    client = connect(server)
    client.send(expecting("/hash", 5).replace(b"HTTP/1.1", b"HTTP/1.0") + b"12345")
    answer = client.response("POST")
    assert (answer.json()["size"], answer.interim) == (5, [])


# Early answers


@only_asgi
@pytest.mark.parametrize("in_chunks", [False, True])
@pytest.mark.parametrize("size", [1_000, 200_000, 16 << 20])
def test_an_early_answer_is_read_while_the_body_still_comes(
    server: Server, connect: Connect, size: int, in_chunks: bool
) -> None:
    """No reset may take the answer away, whether the server drains the body or closes."""
    client = connect(server)
    framing = ("Transfer-Encoding", "chunked") if in_chunks else ("Content-Length", str(size))
    client.send(request("POST", "/early?status=413", [framing]))
    pieces = pattern(size)
    with client.sending(chunked(pieces) if in_chunks else pieces, may_be_cut=True):
        answer = client.response("POST")
    assert (answer.status, answer.text) == (413, "no need to read that")


@only_asgi
def test_a_small_unread_body_does_not_cost_the_connection(server: Server, connect: Connect) -> None:
    client = connect(server)
    for _ in range(3):
        assert client.request("POST", "/early", body=b"x" * 1000).status == 200


@pytest.mark.parametrize("in_chunks", [False, True])
def test_a_body_above_the_limit_gets_413(
    config: Config, shared: Start, connect: Connect, in_chunks: bool
) -> None:
    server = shared(config.app, *config.options, "--max-body-size", "100000")
    client = connect(server)
    size = 8 << 20
    framing = ("Transfer-Encoding", "chunked") if in_chunks else ("Content-Length", str(size))
    client.send(request("POST", "/hash", [framing]))
    pieces = pattern(size)
    with client.sending(chunked(pieces) if in_chunks else pieces, may_be_cut=True):
        assert client.response("POST").status == 413
    connect(server).get("/hello")


# Clients that leave


def test_fin_after_the_request_still_gets_the_answer(server: Server, connect: Connect) -> None:
    client = connect(server)
    client.send(request("POST", "/hash", body=b"12345"))
    client.finish_sending()
    assert client.response("POST").json()["size"] == 5
    assert client.at_end()


def test_fin_behind_pipelined_requests_answers_them_all(server: Server, connect: Connect) -> None:
    client, (data, answers) = connect(server), sixteen()
    client.send(data)
    client.finish_sending()
    read_all(client, answers)
    assert client.at_end()


def test_fin_before_a_large_answer_is_read_loses_nothing(server: Server, connect: Connect) -> None:
    client = connect(server)
    client.send(request("GET", f"/download?size={2 << 20}"))
    client.finish_sending()
    assert hash_of(iter([client.response().body])) == hash_of(pattern(2 << 20))
    assert client.at_end()


@only_asgi
def test_fin_reaches_the_app_which_may_still_answer(
    server: Server, connect: Connect, notes: Notes
) -> None:
    client = connect(server)
    client.send(request("GET", f"/long-poll?notes={notes}"))
    notes.wait_for("started")
    client.finish_sending()
    assert client.response().text == "late"
    assert client.at_end()
    assert notes.lines() == ["started", "http.disconnect", "answered"]


def test_a_half_closed_client_spins_nothing(
    server: Server, connect: Connect, gate: Gate, second_gate: Gate
) -> None:
    client = connect(server)
    client.send(request("GET", f"/steps?gate={gate}&gate2={second_gate}"))
    client.begin()
    client.finish_sending()
    # The gate itself is polled by the app, so look at the front end alone.
    assert eventually(lambda: server.is_at_rest([server.pid]))
    gate.open()
    second_gate.open()
    assert b"".join(client.pieces()).endswith(b"data: 3\n\n")


def test_a_client_that_comes_and_goes_without_a_word(server: Server) -> None:
    with Client(server.address):
        pass
    with Client(server.address) as client:
        client.send(b"GET / HT")
    with Client(server.address) as client:
        client.reset()


@only_asgi
def test_reset_in_the_request_body_reaches_the_app(
    server: Server, connect: Connect, notes: Notes
) -> None:
    client = connect(server)
    client.send(request("POST", f"/hash?notes={notes}", [("Content-Length", "1000000")]))
    client.send(b"x" * 200_000)
    notes.wait_for("received 200000")
    client.reset()
    notes.wait_for("disconnected")


@only_asgi
def test_fin_in_the_request_body_reaches_the_app(
    server: Server, connect: Connect, notes: Notes
) -> None:
    client = connect(server)
    client.send(request("POST", f"/hash?notes={notes}", [("Content-Length", "1000000")]))
    client.send(b"x" * 200_000)
    notes.wait_for("received 200000")
    client.finish_sending()
    notes.wait_for("disconnected")


@only_asgi
def test_reset_during_a_long_poll_reaches_the_app(
    server: Server, connect: Connect, notes: Notes
) -> None:
    client = connect(server)
    client.send(request("GET", f"/long-poll?notes={notes}"))
    notes.wait_for("started")
    client.reset()
    notes.wait_for("http.disconnect")


def test_reset_in_the_response_ends_the_app(
    server: Server, config: Config, connect: Connect, notes: Notes
) -> None:
    client = connect(server)
    client.send(request("GET", f"/endless?notes={notes}"))
    client.begin()
    next(client.pieces())
    client.reset()
    notes.wait_for("OSError" if config.interface == "asgi" else "closed")


def test_clients_that_leave_cost_no_file_descriptors(server: Server, connect: Connect) -> None:
    def leave_often() -> None:
        for _ in range(10):
            client = connect(server)
            client.send(request("POST", "/hash", [("Content-Length", "300000")]) + b"x" * 100_000)
            client.reset()
            client = connect(server)
            client.send(request("GET", "/download?size=3000000"))
            client.begin()
            client.reset()
        connect(server).get("/hello")

    leave_often()  # Lanes and threads that are kept for reuse are made here.
    assert eventually(server.is_at_rest)
    before = server.open_files()
    for _ in range(3):
        leave_often()

    def has_settled() -> bool:
        # One connection of each round is still open; pools may differ by a few.
        return all(count <= before[pid] + 8 for pid, count in server.open_files().items())

    assert eventually(has_settled), (before, server.open_files())
    assert eventually(server.is_at_rest)


# Bad requests

CHUNKED = b"Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n folded: 1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n" + CHUNKED + b"\r\n", 400),
        (b"POST /hash HTTP/1.1\r\nHost: a\r\n" + CHUNKED + b"\r\nzz\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 300_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 300_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    ],
    ids=lambda value: value[:24].decode() if isinstance(value, bytes) else str(value),
)
def test_a_bad_request_is_refused_and_the_connection_closed(
    server: Server, connect: Connect, data: bytes, status: int
) -> None:
    client = connect(server)
    with client.sending([data], may_be_cut=True):
        assert client.response().status == status
        assert client.at_end()


# Wrong apps


def test_an_app_that_fails_before_it_answers_gives_500(server: Server, connect: Connect) -> None:
    client = connect(server)
    assert client.request("GET", "/raise-before").status == 500
    client.get("/hello")
    assert "before the start" in server.log()


def test_an_app_that_never_answers_gives_500(server: Server, connect: Connect) -> None:
    client = connect(server)
    assert client.request("GET", "/no-answer").status == 500
    client.get("/hello")


def test_an_app_that_fails_in_its_answer_shows_the_truncation(
    server: Server, connect: Connect
) -> None:
    """An answer of which nothing has left yet may also become a 500."""
    client = connect(server)
    client.send(request("GET", "/raise-after"))
    try:
        answer: Response | None = client.response()
    except h11.RemoteProtocolError:
        answer = None
    assert answer is None or answer.status == 500
    assert "after the start" in server.log()


@pytest.mark.parametrize("route", ["too-few", "too-many"])
def test_a_wrong_content_length_is_logged_and_never_passed_on(
    server: Server, connect: Connect, route: str
) -> None:
    """The answer is truncated for all to see, or becomes an error if nothing of it had left."""
    client = connect(server)
    before = len(server.log())
    client.send(request("GET", f"/{route}"))
    try:
        answer: Response | None = client.response()
    except h11.RemoteProtocolError:
        answer = None
    if answer is not None and answer.status not in (500, 502):
        assert (route, answer.body) == ("too-many", b"12345")
    assert eventually(lambda: len(server.log()) > before)


@pytest.mark.parametrize(
    "case", ["value-crlf", "value-lf", "value-nul", "name-space", "name-crlf", "name-empty"]
)
def test_illegal_fields_of_an_app_never_reach_the_wire(
    server: Server, connect: Connect, case: str
) -> None:
    client = connect(server)
    answer = client.request("GET", f"/illegal?field={case}")
    assert answer.status == 500
    assert answer.field("x-forged") is None
    client.get("/hello")


@only_asgi
@pytest.mark.parametrize(
    "case", ["body-first", "start-twice", "unknown", "body-after-end", "start-after-end"]
)
def test_a_message_in_the_wrong_order_raises_in_the_app(
    server: Server, connect: Connect, case: str, notes: Notes
) -> None:
    client = connect(server)
    client.send(request("GET", f"/order?case={case}&notes={notes}"))
    assert notes.first().startswith("raised ")


# The rarer parts of PEP 3333


@only_wsgi
def test_what_an_app_writes_comes_before_what_it_returns(server: Server, connect: Connect) -> None:
    assert connect(server).get("/write").text == "written twice, then returned"


@only_wsgi
def test_a_head_taken_back_with_exc_info_is_replaced(server: Server, connect: Connect) -> None:
    answer = connect(server).request("GET", "/replaced")
    assert (answer.status, answer.text, answer.field("x-first")) == (503, "sorry", None)


@only_wsgi
@pytest.mark.parametrize("size", [0, 1000, 3_000_000])
def test_file_wrapper_sends_the_file(
    server: Server, connect: Connect, tmp_path: object, size: int
) -> None:
    path = f"{tmp_path}/file"
    with open(path, "wb") as file:
        file.writelines(pattern(size))
    client = connect(server)
    assert hash_of(iter([client.get(f"/file?path={path}").body])) == hash_of(pattern(size))
    client.get("/hello")


@only_wsgi
@pytest.mark.parametrize("filler", [0, 200_000])
def test_the_body_can_be_read_by_lines(server: Server, connect: Connect, filler: int) -> None:
    lines = ["one\n", "two\n", "three\n", "x" * filler + "\n", "last"]
    answer = connect(server).request("POST", "/lines", body="".join(lines).encode())
    assert answer.json() == ["one\n", "tw", "o\n", *lines[2:]]
