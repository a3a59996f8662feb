"""The express lane of a reactor process: batches in, whole answers and answers in pieces out."""

from __future__ import annotations

import functools
import io
import json

import pytest

from reactor_run.protocol.express import (
    ABORT,
    ANSWER,
    ANSWER_DONE,
    ASK,
    BEGIN,
    BLOCKED,
    BYTES,
    CREDIT_FOR_BODY,
    DONE,
    END,
    EXPRESS_MAX,
    GIVE_BACK,
    INTERIM,
    WINDOW,
    WRITTEN,
)
from reactor_run.protocol.origin import origin_tlvs
from reactor_run.protocol.tls import tls_tlvs
from reactor_run.reactor.asgi.http import HIGH_WATER
from tests.reactor.driver import Pieces, get, post, read_response

MANY = 200


# Whole answers


def test_a_batch_of_requests_is_answered_each_in_one_message(asgi):
    bodies = [f"number {number}".encode() for number in range(MANY)]
    numbers = asgi.request(*(post("/echo", body) for body in bodies))
    assert [asgi.answer(number).body for number in numbers] == bodies
    assert all(asgi.kinds(number) == [ANSWER_DONE] for number in numbers)


def test_a_batch_of_requests_to_a_wsgi_app(wsgi):
    bodies = [f"number {number}".encode() for number in range(MANY)]
    numbers = wsgi.request(*(post("/echo", body) for body in bodies))
    assert [wsgi.answer(number).body for number in numbers] == bodies
    assert all(wsgi.kinds(number) == [ANSWER_DONE] for number in numbers)


def test_a_batch_may_arrive_in_pieces(on_trio):
    """The lane is a stream, so a read may end anywhere in a message."""
    numbers = on_trio.request(post("/echo", b"first"), post("/echo", b"second"), piece=7)
    assert [on_trio.answer(number).body for number in numbers] == [b"first", b"second"]


def test_the_app_gets_the_addresses_of_the_frame(on_trio):
    other = ("2001:db8::5", 5), ("2001:db8::1", 443)
    first, second, local = (
        on_trio.request(get("/scope"))[0],
        on_trio.request(get("/scope"), source=other[0], destination=other[1])[0],
        on_trio.request(get("/scope"), source=None, destination=None)[0],
    )
    assert json.loads(on_trio.answer(first).body) == {
        "client": ["192.0.2.7", 40001],
        "server": ["192.0.2.1", 80],
    }
    assert json.loads(on_trio.answer(second).body)["client"] == list(other[0])
    assert json.loads(on_trio.answer(local).body)["client"] is None


def test_a_wsgi_app_gets_the_addresses_of_the_frame(wsgi):
    assert json.loads(wsgi.get("/scope").body) == ["192.0.2.7", "80"]


def test_an_app_that_waits_does_not_stall_others(asgi, key):
    (waiting,) = asgi.request(get(f"/wait?key={key}"))
    assert asgi.get("/hello").text == "hello"
    assert not asgi.kinds(waiting)
    key.open(asgi)
    assert asgi.answer(waiting).text == "waited"
    assert asgi.kinds(waiting) == [ANSWER_DONE]


def test_a_thread_that_waits_does_not_stall_others(threaded, key):
    (waiting,) = threaded.request(get(f"/wait?key={key}"))
    assert threaded.get("/hello").text == "hello"
    assert not threaded.kinds(waiting)
    key.open(threaded)
    assert threaded.answer(waiting).text == "waited"


def test_done_follows_an_answer_whose_app_still_runs(asgi, key):
    (number,) = asgi.request(get(f"/background?key={key}"))
    assert asgi.answer(number).text == "answered"
    assert asgi.kinds(number) == [ANSWER]
    assert key.notes(asgi) == []
    key.open(asgi)
    asgi.wait_done(number)
    assert asgi.kinds(number) == [ANSWER, DONE]
    assert key.notes(asgi) == ["done"]


# Answers in pieces


def largest_express_answer(driver):
    head = len(driver.get("/size?n=10000").body)
    (number,) = driver.request(get("/size?n=10000"))
    driver.answer(number)
    (payload,) = [data for exchange, _, data in driver.frames if exchange == number]
    return EXPRESS_MAX - (len(payload) - head)


def test_an_answer_of_the_largest_size_is_one_message_and_one_byte_more_is_not(either):
    size = largest_express_answer(either)
    fits, outgrows = either.request(get(f"/size?n={size}"), get(f"/size?n={size + 1}"))
    assert len(either.answer(fits).body) == size
    assert either.kinds(fits) == [ANSWER_DONE]
    assert either.relayed(outgrows).response().body == b"s" * (size + 1)
    either.wait_done(outgrows)
    assert sorted(either.kinds(outgrows)) == sorted([ASK, BYTES, END, DONE])


def test_large_answers_beyond_the_buffer_of_the_kernel(either):
    """They are sent from where they are, as far as the kernel takes them."""
    sizes = [60_000 + count for count in range(100)]
    numbers = either.request(*(get(f"/size?n={size}") for size in sizes))
    for number, size in zip(numbers, sizes, strict=True):
        assert either.answer(number).body == b"s" * size
        assert either.kinds(number) == [ANSWER_DONE]


def test_the_framing_of_chunks_counts_for_the_size_of_an_express_answer(on_trio):
    """The bytes of the chunk framing count too."""
    for _ in range(5):
        large = EXPRESS_MAX - 500
        (number,) = on_trio.request(get(f"/chunks?large={large}&small=300"))
        on_trio.wait(functools.partial(on_trio.kinds, number))
        if ANSWER_DONE not in on_trio.kinds(number):
            assert len(on_trio.relayed(number).response().body) == large + 300
        on_trio.wait_done(number)
        whole = [len(d) for n, kind, d in on_trio.frames if n == number and kind == ANSWER_DONE]
        assert not whole or whole[0] <= EXPRESS_MAX


def test_an_answer_flushed_unfinished_comes_in_pieces(asgi, key):
    (number,) = asgi.request(get(f"/unfinished?key={key}"))
    pieces = asgi.relayed(number)
    assert pieces.read_until(b"begun \r\n").startswith(b"HTTP/1.1 200 OK\r\n")
    assert asgi.kinds(number) == [ASK]
    key.open(asgi)
    assert pieces.read_until(b"0\r\n\r\n") == b"5\r\nended\r\n0\r\n\r\n"
    asgi.wait_done(number)
    assert sorted(asgi.kinds(number)) == sorted([ASK, BYTES, END, DONE])


def test_a_message_from_another_task_of_the_app_is_sent_at_once(asgi, key):
    (number,) = asgi.request(get(f"/child-sends?key={key}"))
    pieces = asgi.relayed(number)
    assert pieces.read_until(b"begun \r\n").startswith(b"HTTP/1.1 200 OK\r\n")
    key.open(asgi)
    assert pieces.read_until(b"0\r\n\r\n") == b"5\r\nended\r\n0\r\n\r\n"
    asgi.wait_done(number)


def test_a_wsgi_generator_is_sent_in_pieces(wsgi, key):
    (number,) = wsgi.request(get(f"/stream?n=3&key={key}"))
    assert wsgi.relayed(number).response().body == b"p" * 65536 * 3
    wsgi.wait_done(number)


def test_an_answer_without_length_to_http_1_0_does_not_ask(either, key):
    """The end of the connection is a part of the answer, so the front end must write it."""
    path = "/flood" if either.ready["interface"] == "asgi" else "/stream"
    (number,) = either.request(get(f"{path}?n=4&key={key}", version="1.0"))
    pieces = either.relayed(number)
    head, _, body = pieces.read_to_end().partition(b"\r\n\r\n")
    assert either.kinds(number)[0] == BEGIN
    assert b"chunked" not in head.lower()
    assert len(body) == 4 * 65536
    either.wait_done(number)


def test_a_small_answer_without_length_to_http_1_0_comes_in_pieces(asgi):
    """The end of the connection is a part of the answer."""
    (number,) = asgi.request(get("/chunks?large=100&small=2", version="1.0"))
    assert asgi.relayed(number).read_to_end().endswith(b"l" * 100 + b"ss")
    asgi.wait_done(number)
    assert BEGIN in asgi.kinds(number)


ONLY_RELAYED = {
    "by the operator": ("relay", ()),
    "over TLS": (
        "direct",
        origin_tlvs(
            https=True, tls=tls_tlvs("TLSv1.3", "TLS_AES_128_GCM_SHA256", 0x1301, None, ())
        ),
    ),
    "over HTTP/2": ("direct", origin_tlvs(https=False, http2=True)),
}


@pytest.mark.parametrize("app", ["driven_asgi:app", "driven_wsgi:app"])
@pytest.mark.parametrize("why", ONLY_RELAYED)
def test_an_answer_that_must_be_relayed_does_not_ask(start, app, why):
    """As one message it costs least, so it may be larger than one that asks."""
    answers, tlvs = ONLY_RELAYED[why]
    driver = start(app, "--answers", answers)
    whole, large = driver.request(get("/size?n=130000"), get("/size?n=140000"), tlvs=tlvs)
    assert driver.answer(whole).body == b"s" * 130_000
    assert driver.kinds(whole) == [ANSWER_DONE]
    assert driver.relayed(large).response().body == b"s" * 140_000
    assert driver.kinds(large)[0] == BEGIN


# Answers that the reactor writes to the client


def read(client, size):
    """Read `size` bytes from the client's end of a socket."""
    data = bytearray()
    while len(data) < size:
        piece = client.recv(size - len(data))
        assert piece, f"it ended after {len(data)} bytes"
        data += piece
    return bytes(data)


def first_bytes(driver, number):
    """The head and the first bytes of an answer, which the front end writes."""
    driver.asked(number)
    return next(data for n, kind, data in driver.frames if (n, kind) == (number, ASK))


def test_a_grant_lets_the_reactor_write_the_rest_to_the_client(either):
    name, client = either.share_client()
    for size in (90_000, 100_000):
        (number,) = either.request(get(f"/size?n={size}"))
        head, _, first = first_bytes(either, number).partition(b"\r\n\r\n")
        assert f"content-length: {size}".encode() in head.lower()
        either.grant(number, name)
        assert first + read(client, size - len(first)) == b"s" * size
        assert either.number_in(number, WRITTEN) == size - len(first)
        either.wait_done(number)
        assert BYTES not in either.kinds(number)


def test_the_duplicate_may_arrive_after_the_grant(either):
    """Two sockets keep no order: the reactor reads the control channel before it gives up."""
    (number,) = either.request(get("/size?n=100000"))
    first = first_bytes(either, number)
    name, client = either.share_client()
    either.grant(number, name)
    body = first.partition(b"\r\n\r\n")[2]
    assert body + read(client, 100_000 - len(body)) == b"s" * 100_000
    either.wait_done(number)


def test_a_grant_without_a_duplicate_is_given_back(either):
    (number,) = either.request(get("/size?n=100000"))
    either.grant(number, 4711)
    assert either.number_in(number, GIVE_BACK) == 0
    pieces = Pieces(either, number)
    assert len(pieces.response().body) == 100_000
    either.wait_done(number)


def test_a_client_that_does_not_read_blocks_an_asgi_answer(asgi, key):
    name, client = asgi.share_client()
    (number,) = asgi.request(get(f"/flood?n=256&key={key}"))
    first = first_bytes(asgi, number)
    asgi.grant(number, name)
    blocked = asgi.number_in(number, BLOCKED)
    assert 0 < blocked < 256 * 65536
    assert DONE not in asgi.kinds(number)
    data = bytearray(first)
    while not data.endswith(b"\r\n0\r\n\r\n"):
        data += client.recv(1 << 20)
    asgi.wait_done(number)
    assert asgi.number_in(number, WRITTEN) == len(data) - len(first)
    assert key.notes(asgi) == ["all"]


def test_a_wsgi_answer_gives_back_what_a_client_does_not_read(threaded, key):
    """No thread waits for a slow client: the front end gets the rest."""
    name, client = threaded.share_client()
    (number,) = threaded.request(get(f"/stream?n=64&key={key}"))
    first = first_bytes(threaded, number)
    threaded.grant(number, name)
    written = threaded.number_in(number, GIVE_BACK)
    rest = Pieces(threaded, number).read_to_end()[len(first) :]
    threaded.wait_done(number)
    answer = first + read(client, written) + rest
    assert len(read_response(io.BytesIO(answer)).body) == 64 * 65536
    assert answer.endswith(b"\r\n0\r\n\r\n")


def test_a_client_that_is_gone_ends_a_direct_answer(asgi, key):
    name, client = asgi.share_client()
    (number,) = asgi.request(get(f"/send-for-ever?key={key}"))
    asgi.grant(number, name)
    client.close()
    key.open(asgi)
    asgi.wait_done(number)
    assert key.notes(asgi)[-1] == "OSError"
    assert ABORT in asgi.kinds(number)


def test_after_gone_nothing_is_written_to_the_client(asgi, key):
    name, client = asgi.share_client()
    (number,) = asgi.request(get(f"/send-for-ever?key={key}"))
    first_bytes(asgi, number)
    asgi.gone(number)
    asgi.grant(number, name)
    key.open(asgi)
    asgi.wait_done(number)
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.recv(1)


def test_duplicates_are_closed_by_a_word(either):
    either.get("/hello")
    before = either.open_files()
    names = [either.share_client()[0] for _ in range(20)]
    either.wait(lambda: either.open_files() == before + 20)
    either.tell({"closed": names})
    either.wait(lambda: either.open_files() == before)


# Requests in pieces


def test_the_body_of_a_request_may_come_in_pieces(either):
    body = bytes(range(256)) * 1000
    request = post("/echo", body)
    head = len(request) - len(body)
    (number,) = either.request(request[: head + 100])
    for start in range(100, len(body), 50_000):
        either.body(number, body[start : start + 50_000])
    assert either.relayed(number).response().body == body
    either.wait_done(number)
    assert CREDIT_FOR_BODY in either.kinds(number)


def test_a_chunked_body_may_come_in_pieces(asgi):
    head = get("/echo", "Transfer-Encoding: chunked", method="POST")
    (number,) = asgi.request(head)
    for piece in (b"5\r\nhel", b"lo\r\n", b"0\r\n\r\n"):
        asgi.body(number, piece)
    assert asgi.answer(number).body == b"hello"
    assert asgi.kinds(number)[-1] == ANSWER_DONE


def test_fin_within_a_body_counts_after_the_pieces_before_it(asgi):
    (number,) = asgi.request(get("/echo", "Content-Length: 10", method="POST"))
    asgi.body(number, b"01234")
    asgi.fin(number)
    asgi.wait_done(number)
    assert asgi.get("/hello").text == "hello"


def test_the_app_asks_for_a_body_that_waits_for_permission(either):
    fields = ("Content-Length: 5", "Expect: 100-continue")
    (number,) = either.request(get("/echo", *fields, method="POST"))
    either.wait(lambda: INTERIM in either.kinds(number))
    either.body(number, b"hello")
    assert either.answer(number).body == b"hello"


# The client's end


def test_fin_is_a_disconnect_and_the_answer_is_still_sent(asgi, key):
    (number,) = asgi.request(get(f"/disconnect?key={key}"))
    assert asgi.get("/hello").text == "hello"
    assert key.notes(asgi) == ["waiting"]
    asgi.fin(number)
    assert asgi.answer(number).text == "still here"
    assert key.notes(asgi) == ["waiting", "http.disconnect", "answered"]


def test_fin_reaches_every_task_that_waits_for_it(asgi, key):
    (number,) = asgi.request(get(f"/two-receives?key={key}"))
    key.wait_for(asgi, "waiting")
    asgi.fin(number)
    assert asgi.answer(number).text == "both"
    assert key.notes(asgi) == ["waiting", "disconnected", "disconnected"]


def test_gone_is_a_disconnect_and_sending_raises(asgi, key):
    (number,) = asgi.request(get(f"/disconnect?key={key}"))
    key.wait_for(asgi, "waiting")
    asgi.gone(number)
    asgi.wait_done(number)
    assert asgi.kinds(number) == [DONE]
    assert key.notes(asgi) == ["waiting", "http.disconnect", "OSError"]


def test_gone_aborts_a_streaming_answer(asgi, key):
    (number,) = asgi.request(get(f"/send-for-ever?key={key}"))
    asgi.relayed(number)
    asgi.gone(number)
    key.open(asgi)
    asgi.wait_done(number)
    assert key.notes(asgi)[-1] == "OSError"
    assert END not in asgi.kinds(number)


def test_fin_and_gone_for_exchanges_that_are_over_are_ignored(on_trio):
    (number,) = on_trio.request(get("/hello"))
    on_trio.answer(number)
    on_trio.fin(number)
    on_trio.gone(number)
    on_trio.cancel(number)
    on_trio.gone(999_999)
    assert on_trio.get("/hello").text == "hello"


# Backpressure


def test_an_app_waits_while_its_answer_is_not_read(asgi, key):
    pieces = 256  # 16 MiB
    (number,) = asgi.request(get(f"/flood?n={pieces}&key={key}"))
    answer = asgi.relayed(number)
    reached = at_rest(asgi, key)
    # The window, the high-water mark and the piece that exceeded it.
    assert int(reached) * 65536 <= WINDOW + HIGH_WATER + 2 * 65536
    while not answer.read(1 << 20).endswith(b"\r\n0\r\n\r\n"):
        pass
    asgi.wait_done(number)
    assert key.notes(asgi) == ["all"]


def test_all_tasks_that_wait_in_send_go_on(asgi):
    (number,) = asgi.request(get("/two-senders"))
    assert len(asgi.relayed(number).response().body) == 64 * 65536
    asgi.wait_done(number)


def at_rest(driver, key):
    """Wait until the app's progress is the same for fifty exchanges in a row, and return it."""
    last: list[str] = []
    same = 0
    while same < 50:
        now = key.notes(driver)
        same = same + 1 if now == last else 0
        last = now
    return last[0]


def test_a_wsgi_thread_waits_while_its_answer_is_not_read(threaded, key):
    (number,) = threaded.request(get(f"/stream?n=64&key={key}"))
    answer = threaded.relayed(number)
    for _ in range(50):
        assert key.notes(threaded) == []
    assert len(answer.response().body) == 64 * 65536
    threaded.wait_done(number)
    assert key.notes(threaded) == ["all"]


def test_answers_that_the_front_end_does_not_read_yet_are_kept(start):
    """The answers are more than the kernel takes, and none is lost."""
    driver = start("driven_asgi:app")
    numbers = []
    for _ in range(10):
        numbers += driver.request(*[get("/size?n=10000")] * 20)
    assert all(len(driver.answer(number).body) == 10000 for number in numbers)


# The loop


def test_a_signal_for_an_exchange_that_is_over_is_ignored(asgi):
    (kept,) = asgi.request(get("/keep-channel"))
    assert asgi.answer(kept).text == "kept"
    assert asgi.get("/signal-kept").text == "signalled"
    assert asgi.get("/hello").text == "hello"
    assert asgi.kinds(kept) == [ANSWER_DONE]
