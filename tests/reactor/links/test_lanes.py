"""Lanes that the front end opened: requests in, answers out, one exchange at a time."""

from __future__ import annotations

import json
import socket
from http.client import HTTPException, IncompleteRead

import pytest

from reactor_run.protocol.proxy import encode_v1, encode_v2
from tests.reactor.driver import CLIENT, SERVER, get, post

CHUNKED = "Transfer-Encoding: chunked"


# Exchange after exchange


def test_exchanges_follow_each_other_on_a_lane(either):
    lane = either.open_lane()
    for count in range(3):
        assert lane.exchange(get("/hello")).body == b"hello"
        assert either.verdict(lane, 2 * count) == "done"
        body = b"b" * (count * 1000)
        assert lane.exchange(post("/echo", body)).body == body
        assert either.verdict(lane, 2 * count + 1) == "done"


@pytest.mark.parametrize("proxy", ["v2", "v1", "off"])
@pytest.mark.parametrize("app", ["driven_asgi:app", "driven_wsgi:app"])
def test_each_exchange_has_the_addresses_of_its_own_header(shared, app, proxy):
    driver = shared(app, lane_proxy=proxy)
    lane = driver.open_lane()
    answers = []
    for port in (1111, 2222):
        if proxy != "off":
            encode = encode_v2 if proxy == "v2" else encode_v1
            lane.proxy = encode(("192.0.2.7", port), ("192.0.2.1", 8080))
        answers.append(json.loads(lane.exchange(get("/scope")).body))
        driver.verdict(lane, len(answers) - 1)
    if app == "driven_wsgi:app":
        assert answers == [["192.0.2.7", "8080"] if proxy != "off" else ["", "80"]] * 2
    elif proxy == "off":
        assert answers == [{"client": None, "server": None}] * 2
    else:
        server = ["192.0.2.1", 8080]
        assert answers == [
            {"client": ["192.0.2.7", port], "server": server} for port in (1111, 2222)
        ]


def test_a_request_may_arrive_byte_by_byte(on_trio):
    lane = on_trio.open_lane()
    for byte in lane.proxy + post("/echo", b"slowly"):
        lane.send_more(bytes([byte]))
    assert lane.response().body == b"slowly"


def test_a_head_larger_than_one_read_is_read_whole(on_trio):
    """Edge-triggered reading must go on until the kernel has no more bytes."""
    lane = on_trio.open_lane()
    lane.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    fields = [f"x-{number}: {'v' * 8000}" for number in range(60)]
    assert lane.exchange(get("/hello", *fields)).body == b"hello"


def test_done_waits_for_the_app(asgi, key):
    lane = asgi.open_lane()
    assert lane.exchange(get(f"/background?key={key}")).text == "answered"
    assert key.notes(asgi) == []
    assert not any(lane.number in m.get("done", ()) for m in asgi.messages)
    key.open(asgi)
    assert asgi.verdict(lane) == "done"
    assert lane.exchange(get("/hello")).text == "hello"


def test_an_idle_lane_that_the_front_end_closes_is_released(either):
    either.get("/hello")
    before = either.open_files()
    lanes = [either.open_lane() for _ in range(3)]
    for lane in lanes:
        lane.exchange(get("/hello"))
        assert either.verdict(lane) == "done"
    for lane in lanes:
        lane.close()
    either.wait(lambda: either.open_files() <= before)


# Request bodies


@pytest.mark.parametrize("either", ["asgi", "threaded"], indirect=True)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_is_streamed_as_it_arrives(either, key, chunked):
    pieces = [b"first", b"after", b"third"]
    framed = [b"%x\r\n%s\r\n" % (len(p), p) for p in pieces] if chunked else pieces
    field = CHUNKED if chunked else "Content-Length: 15"
    lane = either.open_lane()
    lane.send(get(f"/pieces?key={key}", field, method="POST"))
    for count, piece in enumerate(framed, 1):
        lane.send_more(piece)
        key.wait_for(either, pieces[count - 1].decode())
        assert len(key.notes(either)) == count
    if chunked:
        lane.send_more(b"0\r\n\r\n")
    assert lane.response().text == "read"
    assert either.verdict(lane) == "done"
    assert lane.exchange(get("/hello")).text == "hello"


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_arrives_complete(either, chunked):
    body = bytes(range(251)) * 8000
    lane = either.open_lane()
    if chunked:
        parts = [body[at : at + 50000] for at in range(0, len(body), 50000)]
        framed = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
        request = get("/echo", CHUNKED, method="POST") + framed
    else:
        request = post("/echo", body)
    assert lane.exchange(request).body == body
    assert either.verdict(lane) == "done"


def test_a_small_body_that_the_app_leaves_unread_is_drained(asgi):
    lane = asgi.open_lane()
    assert lane.exchange(post("/unread", b"u" * 100_000)).text == "unread"
    assert asgi.verdict(lane) == "done"
    assert lane.exchange(get("/hello")).text == "hello"


@pytest.mark.parametrize("proxy", ["v2", "off"])
@pytest.mark.parametrize("app", ["driven_asgi:app", "driven_wsgi:app"])
def test_the_rest_of_a_body_is_never_read_as_a_request(shared, key, app, proxy):
    """A client chose these bytes. The lane is dropped, and later bytes do not change that."""
    driver = shared(app, lane_proxy=proxy)
    lane = driver.open_lane()
    rest = lane.proxy + get(f"/note?key={key}")
    lane.send(get("/unread", f"Content-Length: {len(rest)}", method="POST"))
    assert lane.response().text == "unread"
    assert driver.verdict(lane) == "drop"
    lane.send_more(rest)
    # If the reactor read these bytes as a request, it would have done so by the end of the loop.
    for _ in range(3):
        assert driver.open_lane().exchange(get("/hello")).text == "hello"
    assert key.notes(driver) == []
    assert lane.is_silent


def test_an_unread_body_too_large_to_drain_drops_the_lane(asgi):
    lane = asgi.open_lane()
    lane.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    lane.send(get("/unread", "Content-Length: 99000000", method="POST") + b"u" * 300_000)
    assert lane.response().text == "unread"
    assert asgi.verdict(lane) == "drop"


def test_an_unread_answer_on_a_dropped_lane_arrives_complete(asgi):
    lane = asgi.open_lane()
    lane.send(get("/size?n=260000", "Content-Length: 10", method="POST"))
    assert asgi.verdict(lane) == "drop"
    assert len(lane.response().body) == 260000


def test_half_close_after_the_end_of_an_app_leaves_its_answer_complete(asgi, key):
    # The bytes that wait in the reactor when the app ends depend on the kernel's buffers.
    for pieces in range(64, 72):
        lane = asgi.open_lane()
        lane.send(get(f"/flood?n={pieces}&key={key}"))
        data = bytearray()
        while not asgi.verdicts(lane):
            if not lane.is_silent:
                data += lane.sock.recv(16384)
            asgi.pump(0.001)
        assert asgi.verdicts(lane) == ["done"]
        lane.half_close()
        while not data.endswith(b"\r\n0\r\n\r\n"):
            piece = lane.sock.recv(65536)
            assert piece, f"cut after {len(data)} bytes of {pieces} pieces"
            data += piece
        lane.close()


# 100 Continue


def test_continue_is_sent_when_the_app_asks_for_the_body(asgi, key):
    lane = asgi.open_lane()
    lane.send(
        get(
            f"/late-receive?key={key}",
            "Content-Length: 4",
            "Expect: 100-continue",
            method="POST",
        )
    )
    asgi.get("/hello")
    assert lane.is_silent
    key.open(asgi)
    assert lane.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    lane.send_more(b"body")
    assert lane.response().text == "body"
    assert asgi.verdict(lane) == "done"


def test_continue_is_sent_for_a_wsgi_app_that_reads(wsgi):
    lane = wsgi.open_lane()
    lane.send(get("/echo", "Content-Length: 4", "Expect: 100-continue", method="POST"))
    assert lane.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    lane.send_more(b"body")
    assert lane.response().text == "body"


def test_continue_is_not_sent_to_a_client_that_did_not_ask_for_it(either):
    lane = either.open_lane()
    lane.send(post("/echo", b"body", "Expect: 100-continue"))
    assert lane.read_until(b"body").startswith(b"HTTP/1.1 200 OK\r\n")


def test_continue_is_not_sent_after_a_part_of_the_body_has_arrived(either):
    lane = either.open_lane()
    lane.send(get("/echo", "Content-Length: 4", "Expect: 100-continue", method="POST") + b"bo")
    lane.send_more(b"dy")
    assert lane.read_until(b"body").startswith(b"HTTP/1.1 200 OK\r\n")


def test_continue_is_not_sent_within_an_answer(asgi):
    lane = asgi.open_lane()
    fields = "Content-Length: 4", "Expect: 100-continue"
    lane.send(get("/begin-then-receive", *fields, method="POST"))
    lane.read_until(b"begun \r\n")
    lane.send_more(b"body")
    assert lane.read_until(b"0\r\n\r\n") == b"4\r\nbody\r\n0\r\n\r\n"


def test_continue_is_not_sent_if_the_app_does_not_ask(either):
    """The lane is dropped, because the body may still arrive or not."""
    lane = either.open_lane()
    lane.send(get("/unread", "Content-Length: 4", "Expect: 100-continue", method="POST"))
    assert lane.read_until(b"unread").startswith(b"HTTP/1.1 200 OK\r\n")
    assert either.verdict(lane) == "drop"


# The client's end


def test_half_close_is_a_disconnect_and_the_answer_is_still_sent(asgi, key):
    lane = asgi.open_lane()
    lane.send(get(f"/disconnect?key={key}"))
    key.wait_for(asgi, "waiting")
    lane.half_close()
    assert lane.response().text == "still here"
    assert key.notes(asgi) == ["waiting", "http.disconnect", "answered"]
    assert asgi.verdict(lane) == "drop"


def test_an_app_that_returns_when_the_client_leaves_is_not_an_error(asgi, key):
    before = len(asgi.log())
    lane = asgi.open_lane()
    lane.send(get(f"/disconnect?key={key}&answer=0"))
    key.wait_for(asgi, "waiting")
    lane.half_close()
    assert lane.response().status == 500
    assert asgi.verdict(lane) == "drop"
    assert "returned with its response" not in asgi.log()[before:]


@pytest.mark.parametrize("either", ["asgi", "threaded"], indirect=True)
def test_half_close_that_the_app_did_not_wait_for_drops_the_lane(either, key):
    lane = either.open_lane()
    lane.send(get(f"/wait?key={key}"))
    lane.half_close()
    key.open(either)
    assert lane.response().text == "waited"
    assert either.verdict(lane) == "drop"


def test_half_close_within_a_body_is_a_disconnect(asgi, key):
    lane = asgi.open_lane()
    lane.send(get(f"/pieces?key={key}", "Content-Length: 10", method="POST") + b"part")
    lane.half_close()
    assert lane.response().text == "read"
    assert key.notes(asgi) == ["part", "http.disconnect"]
    assert asgi.verdict(lane) == "drop"


def test_half_close_within_a_body_fails_the_read_of_a_wsgi_app(wsgi, key):
    lane = wsgi.open_lane()
    lane.send(get(f"/pieces?key={key}", "Content-Length: 10", method="POST") + b"first")
    lane.half_close()
    assert wsgi.verdict(lane) == "drop"
    assert key.notes(wsgi) == ["first", "ClientGone"]


def test_half_close_within_a_head_closes_the_lane(on_trio):
    lane = on_trio.open_lane()
    lane.send(b"GET / HT")
    lane.half_close()
    assert lane.read_to_end() == b""


def test_a_lane_that_the_front_end_closes_makes_sending_raise(asgi, key):
    asgi.get("/hello")
    before = asgi.open_files()
    lane = asgi.open_lane()
    lane.send(get(f"/send-for-ever?key={key}"))
    key.wait_for(asgi, "sending")
    lane.close()
    key.open(asgi)
    assert asgi.verdict(lane) == "drop"
    assert key.notes(asgi)[-1] == "OSError"
    asgi.wait(lambda: asgi.open_files() <= before)


def test_a_lane_that_the_front_end_closes_is_a_disconnect(asgi, key):
    lane = asgi.open_lane()
    lane.send(get(f"/disconnect?key={key}"))
    key.wait_for(asgi, "waiting")
    lane.close()
    assert asgi.verdict(lane) == "drop"
    assert key.notes(asgi) == ["waiting", "http.disconnect", "OSError"]


def test_a_lane_that_the_front_end_closes_stops_a_wsgi_app(wsgi, key):
    wsgi.get("/hello")
    before = wsgi.open_files()
    lane = wsgi.open_lane()
    lane.send(get(f"/stream?n=1000&key={key}"))
    lane.read_until(b"p")
    lane.close()
    assert wsgi.verdict(lane) == "drop"
    assert key.notes(wsgi) == []
    wsgi.wait(lambda: wsgi.open_files() <= before)


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="idle"),
        pytest.param(b"GET / HT", id="within a head"),
        pytest.param(get("/hello"), id="behind a request"),
        pytest.param(get("/pieces", "Content-Length: 9", method="POST") + b"b", id="within a body"),
    ],
)
def test_every_end_of_a_lane_is_reported_once(either, sent):
    """The front end has counted the exchange, even if the reactor has not read the request."""
    lanes = [either.open_lane() for _ in range(5)]
    for lane in lanes:
        lane.send_more((lane.proxy if sent else b"") + sent)
        lane.close()
    for lane in lanes:
        if either.verdict(lane) == "done":
            either.verdict(lane, 1)
    assert either.get("/hello").text == "hello"
    assert [either.drops(lane) for lane in lanes] == [1] * len(lanes)


# Backpressure


def test_an_app_waits_while_its_answer_is_not_read(asgi, key):
    lane = asgi.open_lane()
    lane.send(get(f"/flood?n=256&key={key}"))
    asgi.wait(lambda: key.notes(asgi))
    for _ in range(50):
        # At most 2.5 MiB, as for an answer of an express exchange.
        assert int(key.notes(asgi)[0]) < 40
    assert len(lane.response().body) == 256 * 65536
    assert asgi.verdict(lane) == "done"
    assert lane.exchange(get("/hello")).text == "hello"


# Ends of answers


def test_an_answer_without_length_to_http_1_0_ends_by_half_close(either, key):
    path = "/flood" if either.ready["interface"] == "asgi" else "/stream"
    lane = either.open_lane()
    lane.send(get(f"{path}?n=4&key={key}", version="1.0"))
    head, _, body = lane.read_to_end().partition(b"\r\n\r\n")
    assert b"chunked" not in head.lower()
    assert len(body) == 4 * 65536
    assert either.verdict(lane) == "drop"
    assert not lane.is_hung_up


@pytest.mark.parametrize("how", ["silent", "started", "long", "short"])
def test_a_failure_before_the_answer_is_sent_becomes_a_500(asgi, key, how):
    lane = asgi.open_lane()
    response = lane.exchange(get(f"/cut?how={how}&key={key}"))
    assert (response.status, response.text) == (500, "Internal Server Error\n")
    assert asgi.verdict(lane) == "done"
    assert lane.exchange(get("/hello")).text == "hello"


@pytest.mark.parametrize("how", ["long", "short", "unfinished"])
def test_a_failure_after_a_part_of_the_answer_aborts_it(asgi, key, how):
    """The lane is closed at once, without another event that wakes the loop."""
    lane = asgi.open_lane()
    lane.send(get(f"/cut?how={how}&late=1&key={key}"))
    lane.read_until(b"01234" if how != "unfinished" else b"a part\r\n")
    key.open(asgi)
    assert asgi.verdict(lane) == "drop"
    assert lane.read_to_end() == b""
    assert lane.is_hung_up


def test_a_streaming_wsgi_app_that_fails_aborts_its_answer(wsgi):
    lane = wsgi.open_lane()
    with pytest.raises((IncompleteRead, HTTPException)):
        lane.exchange(get("/fail?where=streaming"))
    assert wsgi.verdict(lane) == "drop"


# Lanes out of step


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n", id="no PROXY header"),
        pytest.param(encode_v1(CLIENT, SERVER) + get("/hello"), id="the other version"),
        pytest.param(encode_v2(CLIENT, SERVER) + b"\0\0\0\r\n\r\n", id="no request"),
    ],
)
def test_a_malformed_lane_is_closed_alone(either, data):
    good, bad = either.open_lane(), either.open_lane()
    bad.send_more(data)
    assert bad.read_to_end() == b""
    assert f"lane {bad.number}" in either.log()
    assert good.exchange(get("/hello")).text == "hello"
    assert either.verdict(good) == "done"
    assert either.drops(bad) == 1


def test_a_header_where_none_is_expected_closes_the_lane(shared):
    driver = shared("driven_asgi:app", lane_proxy="off")
    lane = driver.open_lane()
    lane.send_more(encode_v1(CLIENT, SERVER) + get("/hello"))
    assert lane.read_to_end() == b""


def test_bytes_beyond_a_request_are_fatal_for_their_lane(either):
    good, bad = either.open_lane(), either.open_lane()
    bad.send(get("/hello") + b"beyond")
    assert bad.read_to_end() == b""
    assert good.exchange(get("/hello")).text == "hello"
    assert either.verdict(good) == "done"
    assert either.drops(bad) == 1


def test_bytes_beyond_a_body_are_fatal_for_their_lane(either):
    lane = either.open_lane()
    lane.send(post("/echo", b"body") + b"beyond")
    assert lane.read_to_end() == b""


@pytest.mark.parametrize(
    ("field", "body"),
    [("Content-Length: 4", b"body"), (CHUNKED, b"4\r\nbody\r\n0\r\n\r\n")],
)
def test_bytes_beyond_a_body_that_was_being_read_drop_the_lane(either, field, body):
    lane = either.open_lane()
    lane.send(get("/echo", field, "Expect: 100-continue", method="POST"))
    # Now the app waits for the body, and all of this is one read.
    assert lane.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    lane.send_more(body + b"beyond")
    assert either.verdict(lane) == "drop"


def test_later_bytes_beyond_a_request_are_fatal_for_their_lane(asgi, key):
    """The front end must not send the next request before "done"."""
    lane = asgi.open_lane()
    lane.send(get(f"/noted-wait?key={key}"))
    key.wait_for(asgi, "waiting")
    lane.send(get("/hello"))
    key.open(asgi)
    assert lane.response().text == "waited"
    assert asgi.verdict(lane) == "drop"


def test_bytes_beyond_a_request_disconnect_an_app_that_waits(asgi, key):
    lane = asgi.open_lane()
    lane.send(get(f"/disconnect?key={key}"))
    key.wait_for(asgi, "waiting")
    lane.send_more(b"beyond")
    assert asgi.verdict(lane) == "drop"
    assert key.notes(asgi) == ["waiting", "http.disconnect", "OSError"]
    assert "bytes beyond a request" in asgi.log()


def test_a_chunked_body_that_breaks_its_framing_is_fatal_for_its_lane(asgi, key):
    lane = asgi.open_lane()
    lane.send(get(f"/pieces?key={key}", CHUNKED, method="POST") + b"4\r\nbody\r\nno size\r\n")
    assert asgi.verdict(lane) == "drop"
    assert key.notes(asgi)[-1] == "http.disconnect"
    assert "breaks its framing" in asgi.log()


def test_a_chunked_body_that_breaks_its_framing_fails_a_wsgi_app(wsgi, key):
    lane = wsgi.open_lane()
    lane.send(get(f"/pieces?key={key}", CHUNKED, method="POST") + b"5\r\nfirst\r\nno size\r\n")
    assert lane.response().status == 500
    assert wsgi.verdict(lane) == "drop"
