"""Large payloads that a reactor process gets and gives in shared memory."""

from __future__ import annotations

import functools
import hashlib

import pytest

from reactor_run.buffers import BUFFER_SIZE
from reactor_run.native import NATIVE
from reactor_run.protocol.express import (
    ANSWER_DONE,
    BODY,
    STORED,
    WRITTEN_MIN,
    pack_buffered,
    pack_message,
)
from reactor_run.pulse import BUFFERS
from tests.reactor.driver import get
from tests.reactor.links.test_offers import KINDS
from tests.reactor.loop.test_pulse import show_pulse

pytestmark = pytest.mark.skipif(not NATIVE, reason="without the C extension there are no buffers")


@pytest.fixture(params=list(KINDS))
def driven(request, start):
    """A reactor, and the pulse that it shares with the test."""
    app, *options = KINDS[request.param]
    driver = start(app, *options)
    pulse = show_pulse(driver)
    yield driver, pulse
    pulse.close()


def upload(size):
    return get("/echo", f"Content-Length: {size}").replace(b"GET", b"POST", 1)


def send_buffered(driver, pulse, number, data):
    pulse.request_buffers.space()[: len(data)] = data
    driver.send_express(pack_buffered(number, pulse.request_buffers.use(), len(data)))


def test_a_body_comes_in_buffers_and_over_the_lane_in_order(driven):
    driver, pulse = driven
    parts = [
        hashlib.shake_128(bytes([n])).digest(size)
        for n, size in enumerate((50_000, 7, 131_072, 20_000))
    ]
    (number,) = driver.request(upload(sum(map(len, parts))))
    for index, part in enumerate(parts):
        if index % 2:
            driver.send_express(pack_message(number, BODY, len(part)) + part)
        else:
            send_buffered(driver, pulse, number, part)
    assert driver.relayed(number).response().body == b"".join(parts)
    driver.wait_done(number)


def test_buffers_of_an_exchange_that_is_over_are_freed(driven):
    driver, pulse = driven
    (number,) = driver.request(upload(BUFFER_SIZE * 2))
    driver.gone(number)
    driver.wait_done(number)
    for _ in range(100):
        send_buffered(driver, pulse, number, b"x" * 20_000)
        assert driver.get("/hello").status == 200


@pytest.mark.parametrize(("buffer", "size"), [(99, 10), (0, BUFFER_SIZE + 1), (0, 10)])
def test_a_buffer_that_is_not_there_ends_the_reactor(start, buffer, size):
    """Nothing on the lane can be trusted any more."""
    driver = start("driven_asgi:app", "--runtime", "trio")
    pulse = show_pulse(driver)
    (number,) = driver.request(upload(BUFFER_SIZE))
    driver.send_express(pack_buffered(number, buffer, size))
    assert driver.wait_exit() != 0
    pulse.close()


@pytest.mark.parametrize("size", [WRITTEN_MIN, 70_000])
def test_large_answers_are_put_into_buffers(driven, size):
    driver, _ = driven
    for _ in range(3):
        numbers = driver.request(*(get(f"/size?n={size + index}") for index in range(20)))
        for index, number in enumerate(numbers):
            assert driver.answer(number).body == b"s" * (size + index)
            assert driver.kinds(number) == [ANSWER_DONE]
    assert driver.stored


def test_small_answers_are_not(driven):
    driver, _ = driven
    (number,) = driver.request(get("/size?n=1000"))
    assert driver.answer(number).body == b"s" * 1000
    assert not driver.stored


def test_if_no_buffer_is_free_answers_come_over_the_lane(driven):
    driver, _ = driven
    driver.takes_stored = False
    numbers = []
    for _ in range(BUFFERS + 3):
        (number,) = driver.request(get("/size?n=70000"))
        driver.wait(functools.partial(driver.kinds, number))
        numbers.append(number)
    kinds = [driver.kinds(number) for number in numbers]
    assert kinds == [[STORED]] * BUFFERS + [[ANSWER_DONE]] * 3
    for number in numbers[BUFFERS:]:
        assert driver.answer(number).body == b"s" * 70_000
    driver.takes_stored = True
    driver.frames[:] = map(driver._unstored, driver.frames)
    for number in numbers:
        assert driver.answer(number).body == b"s" * 70_000
    driver.takes_stored = False
    (number,) = driver.request(get("/size?n=70000"))
    driver.wait(lambda: driver.kinds(number) == [STORED])


def test_pieces_of_relayed_answers_are_put_into_buffers(driven, key):
    driver, _ = driven
    (number,) = driver.request(get("/size?n=3000000"))
    assert driver.relayed(number).response().body == b"s" * 3_000_000
    driver.wait_done(number)
    assert driver.stored > 10


def test_without_shared_memory_there_are_no_buffers(start):
    driver = start("driven_asgi:app", "--runtime", "trio")
    assert driver.get("/size?n=70000").body == b"s" * 70_000
    assert not driver.stored
