"""Exchanges that the front end withdraws before the reactor begins them."""

from __future__ import annotations

from pathlib import Path

import pytest

from reactor_run.protocol.express import ANSWER_DONE, WITHDRAWN
from reactor_run.pulse import BEGUN, NOT_BEGUN
from tests.reactor.conftest import RUNTIMES, Start
from tests.reactor.driver import get, post
from tests.reactor.loop.test_pulse import APPS, show_pulse


@pytest.fixture
def until(tmp_path: Path) -> Path:
    """The file that ends a stall."""
    return tmp_path / "until"


EVERY_APP = pytest.mark.parametrize(("app", "runtime"), APPS)


@EVERY_APP
@pytest.mark.parametrize("at_once", [False, True])
def test_a_withdrawn_express_exchange_behind_a_stall_never_begins(
    start: Start, until: Path, app: str, runtime: str, at_once: bool
) -> None:
    """The request may be read before the stall or after it."""
    driver = start(app, "--runtime", runtime)
    pulse = show_pulse(driver)
    requests = [get(f"/stall?until={until}"), post("/echo", b"x"), get("/hello")]
    if at_once:
        slow, asked, kept = driver.request(*requests)
        driver.wait(lambda: pulse.begun[0] == slow)
    else:
        (slow,) = driver.request(requests[0])
        driver.wait(lambda: pulse.begun[0] == slow)
        asked, kept = driver.request(*requests[1:])
    driver.withdraw(asked)
    driver.withdraw(slow)
    until.touch()
    driver.wait(lambda: driver.kinds(asked) == [WITHDRAWN])
    # The exchange that has begun goes on, and the one that was not withdrawn is answered.
    assert driver.answer(slow).status == driver.answer(kept).status == 200
    assert driver.kinds(slow) == driver.kinds(kept) == [ANSWER_DONE]
    assert driver.kinds(asked) == [WITHDRAWN]
    pulse.close()


@EVERY_APP
@pytest.mark.parametrize("sent", [0, 10, 1000])
def test_a_withdrawn_lane_exchange_behind_a_stall_never_begins(
    start: Start, until: Path, app: str, runtime: str, sent: int
) -> None:
    """Nothing, a part, or all of the request has arrived."""
    driver = start(app, "--runtime", runtime)
    pulse = show_pulse(driver)
    slow, asked, kept = (driver.open_lane() for _ in range(3))
    slow.send(get(f"/stall?until={until}"))
    driver.wait(lambda: pulse.lanes[slow.number] == BEGUN)
    asked.send_more((asked.proxy + post("/echo", b"x"))[:sent])
    for lane in asked, slow:
        driver.tell({"withdraw": lane.number})
    kept.send(get("/hello"))
    until.touch()
    driver.wait(lambda: any(m.get("withdrawn") == [asked.number] for m in driver.messages))
    driver.wait(lambda: asked.is_hung_up)
    assert pulse.lanes[asked.number] == NOT_BEGUN
    assert slow.response().status == kept.response().status == 200
    assert driver.verdict(slow) == driver.verdict(kept) == "done"
    assert driver.verdicts(asked) == []
    # A late message affects no other exchange.
    driver.tell({"withdraw": asked.number})
    assert kept.exchange(get("/hello")).status == 200
    pulse.close()


@pytest.mark.parametrize("kind", ["express", "plain"])
def test_an_exchange_that_waits_for_a_thread_is_given_back(
    start: Start, until: Path, kind: str
) -> None:
    driver = start("driven_wsgi:app", "--threads", "2")
    pulse = show_pulse(driver)
    slow = get(f"/stall?until={until}")
    if kind == "express":
        one, two, asked = driver.request(slow, slow, post("/echo", b"x"))
        driver.wait(lambda: pulse.begun[0] == two)
        driver.withdraw(two)
        driver.withdraw(asked)
        driver.wait(lambda: driver.kinds(asked))
        assert driver.kinds(asked) == [WITHDRAWN]
        assert not driver.kinds(one)
        until.touch()
        for number in one, two:
            assert driver.answer(number).status == 200
    else:
        lanes = [driver.open_lane() for _ in range(3)]
        for lane in lanes[:2]:
            lane.send(slow)
        driver.wait(lambda: pulse.lanes[1] == pulse.lanes[2] == BEGUN)
        lanes[2].send(post("/echo", b"x"))
        driver.tell({"withdraw": lanes[2].number})
        driver.wait(lambda: any(m.get("withdrawn") == [3] for m in driver.messages))
        assert not driver.verdicts(lanes[0])
        until.touch()
        for lane in lanes[:2]:
            assert lane.response().status == 200
    # The threads go on.
    assert driver.get("/hello").status == 200
    pulse.close()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_exchange_behind_a_stall_that_ends_in_a_wait_is_given_back(
    start: Start, until: Path, runtime: str
) -> None:
    """The stalled task suspends, and another task becomes the leader."""
    driver = start("driven_asgi:app", "--runtime", runtime)
    pulse = show_pulse(driver)
    slow, asked = driver.request(get(f"/stall?until={until}&sleep=1"), post("/echo", b"x"))
    driver.wait(lambda: pulse.begun[0] == slow)
    driver.withdraw(asked)
    until.touch()
    driver.wait(lambda: driver.kinds(asked) == [WITHDRAWN])
    pulse.close()
