"""Exchanges that the front end cancels: their apps end, and other exchanges are not affected."""

from __future__ import annotations

import os
import signal
import time

import pytest

from reactor_run.logs import RepeatLimit
from reactor_run.protocol.express import (
    ASK,
    CANCEL,
    DONE,
    GONE,
    pack_message,
    pack_request,
    request_prefix,
)
from reactor_run.reactor.loop.on_asyncio import CANCEL_GRACE
from tests.reactor.conftest import Key
from tests.reactor.driver import CLIENT, SERVER, get


class Given:
    """An exchange in a reactor, on either kind of lane, that can be cancelled."""

    def __init__(self, driver, way, path):
        self._driver = driver
        self._lane = None
        if way == "lane":
            self._lane = driver.open_lane()
            self._lane.send(get(path))
        else:
            (self._number,) = driver.request(get(path))

    def cancel(self):
        """Send Cancel on the control channel, and close the lane."""
        if self._lane is not None:
            self._driver.tell({"cancel": self._lane.number})
            self._lane.close()
        else:
            self._driver.cancel(self._number)

    def wait_done(self):
        if self._lane is None:
            self._driver.wait_done(self._number)
            assert set(self._driver.kinds(self._number)) <= {ASK, DONE}
        else:
            assert self._driver.verdict(self._lane) == "drop"


WAY = ["express", "lane"]
WAYS = pytest.mark.parametrize("way", WAY)


@WAYS
@pytest.mark.parametrize("options", ["", "&begun=10", "&begun=100000", "&tasks=3"])
def test_an_app_is_cancelled_where_it_waits(asgi, key, way, options):
    before = len(asgi.log())
    given = Given(asgi, way, f"/sleep?key={key}{options}")
    key.wait_for(asgi, "asleep")
    given.cancel()
    given.wait_done()
    tasks = 3 if "tasks" in options else 1
    assert key.notes(asgi) == ["asleep", *["cancelled"] * tasks]
    log = asgi.log()[before:]
    # The log leaves the line out if there were too many of its kind lately.
    enough = asgi.log()[:before].count(": cancelled") >= RepeatLimit.BURST
    assert enough or "/sleep: cancelled" in log
    assert "the app failed" not in log


@WAYS
def test_a_shielded_app_occupies_the_reactor_until_it_ends(asgi, key, way):
    given = Given(asgi, way, f"/stubborn?key={key}")
    key.wait_for(asgi, "asleep")
    given.cancel()
    assert asgi.get("/hello").text == "hello"
    assert key.notes(asgi) == ["asleep"]
    key.open(asgi)
    given.wait_done()
    assert key.notes(asgi) == ["asleep", "woken"]


@WAYS
@pytest.mark.parametrize("group", ["", "&group=1"])
def test_an_app_that_is_cancelled_on_asyncio_can_roll_back(on_asyncio, key, way, group):
    given = Given(on_asyncio, way, f"/roll-back?key={key}{group}")
    key.wait_for(on_asyncio, "asleep")
    given.cancel()
    given.wait_done()
    assert key.notes(on_asyncio) == ["asleep", "rolled back"]


def test_an_app_that_ignores_its_cancellation_is_cancelled_again_later(shared):
    """On asyncio and on uvloop, each way; all at once, because each takes `CANCEL_GRACE`."""
    ignored = [Ignored(shared, runtime, way) for runtime in ("asyncio", "uvloop") for way in WAY]
    for each in ignored:
        each.cancel()
    while waiting := [each for each in ignored if each.cancellations == 1]:
        for each in waiting:
            each.look()
    for each in ignored:
        each.open()
    for each in ignored:
        each.wait_done()


class Ignored:
    """A cancellation that the app ignores."""

    def __init__(self, shared, runtime, way):
        self._driver = shared("driven_asgi:app", "--runtime", runtime)
        self._key = Key()
        self._given = Given(self._driver, way, f"/swallow?key={self._key}")
        self._key.wait_for(self._driver, "asleep")
        self.cancellations = 0
        self._began = 0.0

    def _count(self):
        return int(self._driver.get(f"/cancellations?key={self._key}").text)

    def cancel(self):
        self._given.cancel()
        self.cancellations = self._driver.wait(self._count)
        self._began = time.monotonic()

    def look(self):
        self.cancellations = self._count()
        assert time.monotonic() < self._began + CANCEL_GRACE + 8

    def open(self):
        assert self.cancellations == 2
        assert time.monotonic() > self._began + CANCEL_GRACE - 1
        self._key.open(self._driver)

    def wait_done(self):
        self._given.wait_done()
        assert self._count() <= 4


@WAYS
def test_an_app_that_ignores_its_cancellation_on_trio_lets_others_run(on_trio, key, way):
    """Trio cancels the app at each wait. This takes a core, but other tasks get their turns."""
    given = Given(on_trio, way, f"/swallow?key={key}")
    key.wait_for(on_trio, "asleep")
    given.cancel()
    on_trio.wait(lambda: on_trio.get(f"/cancellations?key={key}").text != "0")
    for _ in range(20):
        assert on_trio.get("/hello").text == "hello"
    key.open(on_trio)
    given.wait_done()


@WAYS
@pytest.mark.parametrize("shield", ["scope", "thread"])
def test_a_cancellation_waits_for_the_end_of_a_shield(asgi, key, way, shield):
    given = Given(asgi, way, f"/shielded-step?key={key}&shield={shield}")
    key.wait_for(asgi, "asleep")
    given.cancel()
    assert asgi.get("/hello").text == "hello"
    assert key.notes(asgi) == ["asleep"]
    if shield == "thread":
        asgi.get(f"/open-thread-gate?key={key}")
    else:
        key.open(asgi)
    given.wait_done()
    assert key.notes(asgi)[-1] == "cancelled"


@WAYS
def test_a_late_cancel_affects_no_other_exchange(asgi, key, way):
    """Workers and descriptor numbers are reused. Exchanges are not."""
    first = Given(asgi, way, f"/noted-wait?key={key}")
    key.wait_for(asgi, "waiting")
    key.open(asgi)
    asgi.get("/hello")
    others = [asgi.request(get(f"/noted-wait?key={key}-{number}"))[0] for number in range(20)]
    for number in range(20):
        asgi.wait(lambda number=number: asgi.get(f"/notes?key={key}-{number}").body != b"[]")
    first.cancel()
    assert asgi.get("/hello").text == "hello"
    for number in range(20):
        asgi.answer(asgi.request(get(f"/open?key={key}-{number}"))[0])
    assert [asgi.answer(other).text for other in others] == ["waited"] * 20


@pytest.mark.parametrize("kind", [GONE, CANCEL])
def test_a_cancelled_exchange_that_has_not_begun_never_begins(either, key, kind):
    """The reactor reads the request and the cancellation in one batch."""
    request = get(f"/note?key={key}")
    number = 1 << 40
    either.send_express(
        pack_request(request_prefix(CLIENT, SERVER), number, len(request))
        + request
        + pack_message(number, kind)
    )
    either.wait_done(number)
    assert either.kinds(number) == [DONE]
    assert key.notes(either) == []


def test_a_thread_sees_its_cancellation_when_it_sends(threaded, key):
    """A thread cannot be cancelled. It keeps its place until its call ends."""
    (number,) = threaded.request(get(f"/noted-wait?key={key}"))
    key.wait_for(threaded, "waiting")
    threaded.cancel(number)
    assert threaded.get("/hello").text == "hello"
    assert threaded.kinds(number) == []
    key.open(threaded)
    threaded.wait_done(number)
    assert threaded.kinds(number) == [DONE]


@pytest.mark.parametrize("app", ["driven_asgi:app", "driven_wsgi:app"])
def test_a_lane_whose_descriptor_is_lost_is_dropped(start, app):
    """The descriptor was lost, and the message says so. There can be no exchange on the lane."""
    driver = start(app)
    driver.tell({"lane": 7, "fd": True})
    assert driver.wait_message("drop") == {"drop": [7]}
    assert driver.get("/hello").text == "hello"


def test_an_express_lane_whose_descriptor_is_lost_ends_the_process(start):
    driver = start("driven_asgi:app", express=False)
    driver.tell({"express": True, "fd": True})
    assert driver.wait_exit() == 1
    assert "the express lane was lost on its way" in driver.log()


@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_reactor_dumps_its_threads_on_request(start, key, threads):
    driver = start("driven_wsgi:app", "--threads", threads)
    driver.request(get(f"/wait?key={key}"))

    def told():
        os.kill(driver.process.pid, signal.SIGUSR1)
        return 'driven_wsgi.py", line' in driver.log() and "in wait" in driver.log()

    assert driver.wait(told)


def test_a_crash_dumps_the_threads(start):
    driver = start("driven_asgi:app")
    os.kill(driver.process.pid, signal.SIGSEGV)
    assert driver.wait_exit() == -signal.SIGSEGV
    assert "Fatal Python error: Segmentation fault" in driver.log()
