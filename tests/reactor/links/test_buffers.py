"""Pieces of request bodies that a reactor process finds in shared memory."""

from __future__ import annotations

import hashlib

import pytest

from reactor_run.buffers import BUFFER_SIZE
from reactor_run.native import NATIVE
from reactor_run.protocol.express import BODY, pack_buffered, pack_message
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
    pulse.buffers.space()[: len(data)] = data
    driver.send_express(pack_buffered(number, pulse.buffers.use(), len(data)))


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
