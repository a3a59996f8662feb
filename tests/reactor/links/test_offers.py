"""Offers: a reactor process writes a whole answer to the client before it tells of it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from reactor_run.native import NATIVE
from reactor_run.offers import OFFERED, TAKEN, WITHDRAWN, WRITTEN
from reactor_run.protocol.express import (
    ABORT,
    ANSWER,
    ANSWER_DONE,
    ASK,
    BLOCKED,
    BYTES,
    DONE,
    GIVE_BACK,
    INTERIM,
    PIECE_MAX,
    WRITTEN_MIN,
    read_written,
)
from reactor_run.protocol.express import (
    WRITTEN as ALL_WRITTEN,
)
from tests.reactor.driver import Pieces, get, read_response
from tests.reactor.loop.test_pulse import show_pulse

pytestmark = pytest.mark.skipif(not NATIVE, reason="without the C extension there are no offers")

KINDS = {
    "trio": ("driven_asgi:app", "--runtime", "trio"),
    "uvloop": ("driven_asgi:app", "--runtime", "uvloop"),
    "inline": ("driven_wsgi:app", "--threads", "1"),
    "threads": ("driven_wsgi:app", "--threads", "2"),
}
LARGE = 16 << 20


class Offering:
    """A reactor that gets an offer with each request."""

    def __init__(self, driver, kind):
        self.driver = driver
        self.kind = kind
        self.pulse = show_pulse(driver)
        self.name, self.client = driver.share_client()

    def request(self, path, *, duplicate=None, offer=True):
        """Send a request; return its number."""
        number = self.driver._exchanges + 1
        if offer:
            name = self.name if duplicate is None else duplicate
            assert self.pulse.offers.make(number, name, live=[])
        assert self.driver.request(get(path)) == [number]
        return number

    def state(self, number):
        return self.pulse.offers.state(number)

    def payload(self, number, kind):
        """Wait for a message about an exchange."""
        self.driver.wait(lambda: kind in self.driver.kinds(number))
        return next(data for n, k, data in self.driver.frames if (n, k) == (number, kind))

    def read_answer(self):
        """Read one answer from the client's end."""
        with self.client.makefile("rb") as stream:
            return read_response(stream)


def start_kind(start, kind):
    app, *options = KINDS[kind]
    return start(app, *options)


@pytest.fixture(params=list(KINDS))
def offering(request, start):
    offering = Offering(start_kind(start, request.param), request.param)
    yield offering
    offering.pulse.close()


@pytest.fixture(params=["trio", "uvloop"])
def asgi_offering(request, start):
    offering = Offering(start_kind(start, request.param), request.param)
    yield offering
    offering.pulse.close()


@pytest.mark.parametrize("size", [WRITTEN_MIN, 100_000, 150_000])
def test_a_large_whole_answer_is_written_to_the_client(offering, size):
    for _ in range(3):
        number = offering.request(f"/size?n={size}")
        raw = offering.read_answer()
        assert raw.body == b"s" * size
        written, head = read_written(offering.payload(number, ANSWER_DONE))
        assert head.startswith(b"HTTP/1.1 200 ")
        assert head.endswith(b"\r\n\r\n")
        assert written == len(head) + size
        assert offering.state(number) == WRITTEN
        assert offering.driver.kinds(number) == [ANSWER_DONE]


def test_a_small_answer_goes_over_the_link(offering):
    number = offering.request("/size?n=1000")
    assert offering.driver.answer(number).body == b"s" * 1000
    assert offering.state(number) == OFFERED


def test_an_app_that_goes_on_after_its_answer(asgi_offering, key):
    driver = asgi_offering.driver
    number = asgi_offering.request(f"/background?n=20000&key={key}")
    assert asgi_offering.read_answer().body == b"s" * 20_000
    assert read_written(asgi_offering.payload(number, ANSWER))[0] > 20_000
    assert driver.kinds(number) == [ANSWER]
    key.open(driver)
    driver.wait_done(number)
    assert driver.kinds(number) == [ANSWER, DONE]


def test_a_client_that_does_not_take_the_whole_answer_at_once(offering):
    """ASGI waits for it. WSGI gives the rest back, so that nothing waits for a slow client."""
    number = offering.request(f"/size?n={LARGE}")
    head = offering.payload(number, ASK)
    offering.driver.wait_done(number)
    if offering.kind in ("trio", "uvloop"):
        blocked = offering.driver.number_in(number, BLOCKED)
        assert 0 < blocked < LARGE
        assert offering.read_answer().body == b"s" * LARGE
        assert offering.driver.number_in(number, ALL_WRITTEN) == len(head) + LARGE
    else:
        written = offering.driver.number_in(number, GIVE_BACK)
        data = bytearray()
        while len(data) < written:
            data += offering.client.recv(written - len(data))
        rest = Pieces(offering.driver, number).read_to_end()[len(head) :]
        assert read_response(io.BytesIO(bytes(data) + rest)).body == b"s" * LARGE
    assert offering.state(number) == TAKEN


def test_a_streamed_answer_is_written_from_its_head_on(offering, key):
    # A WSGI reactor gives back what a socket does not take at once. So it gets less.
    path, count = ("/flood", 8) if offering.kind in ("trio", "uvloop") else ("/stream", 2)
    number = offering.request(f"{path}?n={count}&key={key}")
    assert len(offering.read_answer().body) == count * 65536
    offering.driver.wait_done(number)
    head = offering.payload(number, ASK)
    assert head.endswith(b"\r\n\r\n")
    assert offering.driver.number_in(number, ALL_WRITTEN) > len(head) + count * 65536
    assert BYTES not in offering.driver.kinds(number)
    assert offering.state(number) == TAKEN


@pytest.mark.parametrize("size", [20_000, PIECE_MAX + 1000])
@pytest.mark.parametrize("why", ["withdrawn", "no descriptor", "no offer"])
def test_without_an_offer_the_answer_goes_over_the_link(offering, size, why):
    duplicate = 4711 if why == "no descriptor" else None
    if why == "withdrawn":
        number = offering.driver._exchanges + 1
        assert offering.pulse.offers.make(number, offering.name, live=[])
        assert offering.pulse.offers.withdraw(number)
        offering.driver.request(get(f"/size?n={size}"))
    else:
        number = offering.request(
            f"/size?n={size}", duplicate=duplicate, offer=why == "no descriptor"
        )
    if size < PIECE_MAX:
        assert offering.driver.answer(number).body == b"s" * size
    else:
        offering.driver.grant(number, offering.name)
        first = offering.payload(number, ASK).partition(b"\r\n\r\n")[2]
        data = bytearray(first)
        while len(data) < size:
            data += offering.client.recv(size)
        assert data == b"s" * size
    offering.driver.wait_done(number)
    assert offering.state(number) == WITHDRAWN


@pytest.mark.parametrize("size", [20_000, 300_000])
def test_an_answer_does_not_overtake_early_hints(asgi_offering, size):
    """The front end writes the hints, so it begins the answer too."""
    number = asgi_offering.request(f"/hints?n={size}")
    asgi_offering.payload(number, INTERIM)
    asgi_offering.driver.wait(
        lambda: {ASK, ANSWER, ANSWER_DONE} & {*asgi_offering.driver.kinds(number)}
    )
    assert asgi_offering.state(number) == WITHDRAWN
    if size < PIECE_MAX:
        assert asgi_offering.driver.answer(number).body == b"s" * size
    else:
        assert asgi_offering.driver.relayed(number).response().body == b"s" * size


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
def test_a_child_of_the_app_writes_nothing(start, interface):
    apps = Path(__file__).parents[2] / "integration" / "apps"
    driver = start(f"forking:{interface}", "--lifespan", "off", app_dir=apps)
    offering = Offering(driver, interface)
    number = offering.request("/returns-much")
    assert json.loads(offering.read_answer().body) == [0, "p" * 20_000]
    driver.wait_done(number)
    assert driver.kinds(number) == [ANSWER_DONE]
    assert driver.stop() == 0
    offering.client.setblocking(False)
    assert offering.client.recv(1) == b""
    offering.pulse.close()


def test_a_client_that_is_gone_ends_the_answer(offering):
    offering.client.close()
    number = offering.request("/size?n=50000")
    offering.driver.wait_done(number)
    assert offering.driver.kinds(number) == [ASK, ABORT, DONE]
    # Others are served.
    assert offering.driver.get("/hello").status == 200
