"""Apps whose failure is hard to report, because they changed the objects that a report uses."""

from __future__ import annotations

import pytest

from reactor_run.protocol.express import ANSWER_DONE, DONE
from tests.reactor.conftest import RUNTIMES
from tests.reactor.driver import get

ASGI_WAYS = [
    "scope",
    "scope-values",
    "library",
    "unprintable",
    "broken",
    "underivable",
    "huge",
    "factory",
    "filter",
    "config",
    "stderr",
    "source",
    "traceback",
]
WSGI_WAYS = ["environ", "unprintable", "block", "factory", "filter", "stderr"]


@pytest.fixture(params=RUNTIMES)
def runtime(request):
    return request.param


@pytest.mark.parametrize("late", ["", "&late=1"])
def test_a_failure_that_is_hard_to_report_becomes_a_500(start, runtime, late):
    """The ways run one after another in one process, so most of them also run after the others."""
    driver = start("driven_asgi:app", "--runtime", runtime)
    for how in ASGI_WAYS:
        before = len(driver.log())
        (number,) = driver.request(get(f"/spoil?how={how}{late}"))
        assert driver.answer(number).status == 500, how
        assert driver.kinds(number) == [ANSWER_DONE]
        report = driver.log()[before:]
        assert "GET /spoil: the app failed" in report, how
        assert len(report) < 100_000
        lane = driver.open_lane()
        assert lane.exchange(get(f"/spoil?how={how}{late}")).status == 500
        assert driver.verdict(lane) == "done"
        assert lane.exchange(get("/hello")).text == "hello"
        assert driver.get("/hello").text == "hello"
    assert 'driven_asgi.py", line' in report, "the place of the failure is told"
    assert driver.stop() == 0


@pytest.mark.parametrize("late", ["", "&late=1"])
def test_an_exchange_whose_end_fails_is_aborted_and_affects_no_other(start, runtime, key, late):
    driver = start("driven_asgi:app", "--runtime", runtime)
    (waiting,) = driver.request(get(f"/wait?key={key}"))
    (number,) = driver.request(get(f"/spoil?how=end{late}"))
    driver.wait_done(number)
    assert driver.kinds(number) == [DONE]
    lane = driver.open_lane()
    lane.send(get(f"/spoil?how=end{late}"))
    assert driver.verdict(lane) == "drop"
    assert lane.read_to_end() == b""
    key.open(driver)
    assert driver.answer(waiting).text == "waited"


@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_wsgi_failure_that_is_hard_to_report_becomes_a_500(start, threads):
    driver = start("driven_wsgi:app", "--threads", threads)
    for how in WSGI_WAYS:
        before = len(driver.log())
        # More often than there are threads.
        for number in driver.request(*[get(f"/spoil?how={how}")] * 4):
            assert driver.answer(number).status == 500, how
        report = driver.log()[before:]
        assert report.count("GET /spoil: the app failed") == 4, how
        assert driver.get("/hello").text == "hello"
    assert driver.stop() == 0


def test_a_thread_survives_an_exception_that_is_thrown_into_it(start):
    driver = start("driven_wsgi:app", "--threads", "2")
    for _ in range(10):
        assert driver.get("/throw").text == "thrown"
        # Each of the two threads must take one of these.
        for number in driver.request(get("/meet"), get("/meet")):
            assert driver.answer(number).text == "met"
    assert driver.log().count("a thread was interrupted") >= 1
