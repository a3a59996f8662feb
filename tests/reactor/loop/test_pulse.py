"""The pulse and the messages of a reactor about steps that stall its loop."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator

import pytest

from reactor_run.protocol.control import encode_control
from reactor_run.pulse import BEGUN, NOT_BEGUN, STALL_BUDGET_SECONDS, Pulse
from tests.reactor.conftest import RUNTIMES, Start
from tests.reactor.driver import Driver, get

LONG = 300
"""Milliseconds of a step that a busy machine lets a test see."""


def show_pulse(driver: Driver) -> Pulse:
    """Give a reactor a pulse, and wait until it has mapped it."""
    pulse, descriptor = Pulse.share()
    socket.send_fds(driver.control, [encode_control({"pulse": True, "fd": True})], [descriptor])
    os.close(descriptor)
    driver.tell({"ping": 1})
    driver.wait(lambda: {"pong": 1} in driver.messages)
    driver.pulse = pulse
    return pulse


@pytest.fixture(params=[*RUNTIMES, "wsgi"])
def watched(request: pytest.FixtureRequest, start: Start) -> Iterator[tuple[Driver, Pulse]]:
    """A reactor with a pulse."""
    if request.param == "wsgi":
        driver = start("driven_wsgi:app")
    else:
        driver = start("driven_asgi:app", "--runtime", request.param)
    pulse = show_pulse(driver)
    yield driver, pulse
    pulse.close()


def turns(driver: Driver) -> list[float]:
    return [message["turn"] for message in driver.messages if "turn" in message]


def test_a_slow_step_is_shown_while_it_lasts_and_reported_after_it(
    watched: tuple[Driver, Pulse],
) -> None:
    driver, pulse = watched
    before = time.monotonic()
    (number,) = driver.request(get(f"/slow?ms={LONG}"))
    driver.wait(lambda: pulse.since[0])
    driver.answer(number)
    driver.wait(lambda: not pulse.since[0])
    driver.wait(
        lambda: any(LONG / 1000 <= turn <= time.monotonic() - before for turn in turns(driver))
    )


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_slow_step_after_a_wait_is_shown_and_reported(start: Start, runtime: str) -> None:
    driver = start("driven_asgi:app", "--runtime", runtime)
    pulse = show_pulse(driver)
    (number,) = driver.request(get(f"/slow-later?ms={LONG}"))
    driver.wait(lambda: pulse.since[0])
    driver.answer(number)
    driver.wait(lambda: not pulse.since[0])
    driver.wait(lambda: any(turn >= LONG / 1000 for turn in turns(driver)))
    pulse.close()


def test_after_a_slow_step_the_end_of_a_batch_is_reported(watched: tuple[Driver, Pulse]) -> None:
    driver, pulse = watched

    def is_told() -> bool:
        pulse.awaited[0] = 1
        # On a busy machine the second may be slow too, or begin after the stall budget has ended.
        for number in driver.request(get("/slow"), get("/hello")):
            driver.answer(number)
        return {"turn": 0.0} in driver.messages

    driver.wait(is_told)
    driver.wait(lambda: not pulse.awaited[0])


def test_the_end_of_a_batch_is_not_reported_if_the_front_end_does_not_wait(
    watched: tuple[Driver, Pulse],
) -> None:
    driver, _ = watched
    for _ in range(20):
        for number in driver.request(get("/slow"), get("/hello")):
            driver.answer(number)
    driver.tell({"ping": 2})
    driver.wait(lambda: {"pong": 2} in driver.messages)
    assert 0.0 not in turns(driver)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_after_a_slow_step_the_suspension_of_an_app_is_reported(start: Start, runtime: str) -> None:
    driver = start("driven_asgi:app", "--runtime", runtime)
    pulse = show_pulse(driver)

    def is_told() -> bool:
        # On a busy machine the second may begin after the stall budget has ended.
        (slow,) = driver.request(get("/slow"))
        driver.answer(slow)
        pulse.awaited[0] = 1
        driver.request(get("/sleep"))
        return {"turn": 0.0} in driver.messages

    driver.wait(is_told)
    pulse.close()


def test_an_answer_does_not_wait_for_the_slow_step_behind_it(
    watched: tuple[Driver, Pulse],
) -> None:
    driver, _ = watched
    (slow,) = driver.request(get("/slow"))
    driver.answer(slow)
    # One batch: the first is answered before the second begins.
    hello, slow = driver.request(get("/hello"), get("/slow?ms=500"))
    driver.answer(hello)
    assert slow not in [number for number, *_ in driver.frames]
    driver.answer(slow)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_half_of_a_long_batch_does_not_wait_for_the_rest(start: Start, runtime: str) -> None:
    driver = start("driven_asgi:app", "--runtime", runtime)
    # No short step counts as a stall, and all short steps together do not end the batch.
    *short, slow = driver.request(*[get("/slow?ms=0.15")] * 7, get("/slow?ms=500"))
    for number in short[:4]:
        driver.answer(number)
    assert slow not in [number for number, *_ in driver.frames]
    driver.answer(slow)


def slow_routes(driver: Driver) -> list[tuple[str, bool]]:
    """The routes that the reactor has reported, each with whether it is slow."""
    words = [message for message in driver.messages if "slow" in message]
    return [(message["slow"], message["seconds"] > 0) for message in words]


def test_a_route_that_is_often_slow_is_reported(watched: tuple[Driver, Pulse]) -> None:
    driver, _ = watched

    def told() -> list[bool]:
        # A busy machine may make another route slow.
        return [slow for route, slow in slow_routes(driver) if route == "GET /slow"]

    for _ in range(3):
        assert told() == []
        for number in driver.request(get("/slow?ms=20"), get("/hello")):
            driver.answer(number)
    driver.wait(lambda: told() == [True])

    def is_forgotten() -> bool:
        (number,) = driver.request(get("/slow?ms=0"))
        driver.answer(number)
        return False in told()

    driver.wait(is_forgotten)


def test_fast_requests_count_even_if_they_are_rare(start: Start) -> None:
    driver = start("driven_asgi:app")
    pulse = show_pulse(driver)
    for _ in range(3):
        (number,) = driver.request(get("/slow?ms=20"))
        driver.answer(number)
        told = time.monotonic()
        driver.wait(lambda told=told: time.monotonic() > told + STALL_BUDGET_SECONDS)  # type: ignore[misc]
        for number in driver.request(*[get("/slow?ms=0")] * 3):
            driver.answer(number)
    assert slow_routes(driver) == []
    pulse.close()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_route_that_is_slow_after_a_wait_is_reported(start: Start, runtime: str) -> None:
    driver = start("driven_asgi:app", "--runtime", runtime)
    pulse = show_pulse(driver)
    for _ in range(3):
        assert slow_routes(driver) == []
        (number,) = driver.request(get("/slow-later?ms=20"))
        driver.answer(number)
    driver.wait(lambda: slow_routes(driver) == [("GET /slow-later", True)])
    pulse.close()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_request_is_as_slow_as_its_longest_step(start: Start, runtime: str) -> None:
    driver = start("driven_asgi:app", "--runtime", runtime)
    pulse = show_pulse(driver)
    took = []
    for _ in range(3):
        began = time.monotonic()
        (number,) = driver.request(get("/slow-later?ms=20&steps=10"))
        driver.answer(number)
        took.append(time.monotonic() - began)
    message = driver.wait_message("slow")
    # The other nine steps take 20 ms each, at least.
    assert 0.02 <= message["seconds"] < max(took) - 0.18
    pulse.close()


def test_an_invalid_pulse_ends_the_process(start: Start) -> None:
    """The front end could not see which exchanges have begun."""
    driver = start("driven_asgi:app", express=False)
    ours, theirs = socket.socketpair()
    with ours:
        driver.tell({"pulse": True, "fd": True}, theirs)
        assert driver.wait_exit() == 1
    assert "the pulse cannot be shown" in driver.log()


def test_a_pulse_whose_descriptor_is_lost_ends_the_process(start: Start) -> None:
    driver = start("driven_asgi:app", express=False)
    driver.tell({"pulse": True, "fd": True})
    assert driver.wait_exit() == 1
    assert "the pulse was lost on its way" in driver.log()


# What has begun -----------------------------------------------------------------------------------

APPS = [("driven_asgi:app", runtime) for runtime in RUNTIMES] + [("driven_wsgi:app", "trio")]


@pytest.mark.parametrize(("app", "runtime"), APPS)
def test_the_pulse_shows_which_express_exchanges_have_begun(
    start: Start, app: str, runtime: str
) -> None:
    driver = start(app, "--runtime", runtime)
    pulse = show_pulse(driver)
    hello, slow, behind = driver.request(get("/hello"), get(f"/slow?ms={LONG}"), get("/hello"))
    driver.wait(lambda: pulse.begun[0] == slow)
    driver.answer(hello)
    driver.answer(behind)
    assert pulse.begun[0] == behind
    pulse.close()


@pytest.mark.parametrize(("app", "runtime"), APPS)
def test_the_pulse_shows_which_lanes_have_begun(start: Start, app: str, runtime: str) -> None:
    driver = start(app, "--runtime", runtime)
    pulse = show_pulse(driver)
    slow, behind = driver.open_lane(), driver.open_lane()
    slow.send(get(f"/slow?ms={LONG}"))
    driver.wait(lambda: pulse.lanes[slow.number] == BEGUN)
    behind.send(get("/hello"))
    assert pulse.lanes[behind.number] == NOT_BEGUN
    assert slow.response().status == 200
    assert behind.response().status == 200
    assert pulse.lanes[behind.number] == BEGUN
    pulse.close()


@pytest.mark.parametrize("kind", ["express", "plain"])
def test_the_pulse_shows_which_exchanges_threads_have_begun(start: Start, kind: str) -> None:
    driver = start("driven_wsgi:app", "--threads", "2")
    pulse = show_pulse(driver)
    paths = [f"/slow?ms={LONG}", f"/slow?ms={LONG}", "/hello"]
    if kind == "express":
        one, two, three = driver.request(*map(get, paths))
        driver.wait(lambda: pulse.begun[0] == two)
        for number in one, two, three:
            driver.answer(number)
        assert pulse.begun[0] == three
    else:
        lanes = [driver.open_lane() for _ in paths]
        for lane, path in zip(lanes, paths, strict=True):
            lane.send(get(path))
        driver.wait(lambda: sum(pulse.lanes[lane.number] for lane in lanes) == 2)
        for lane in lanes:
            assert lane.response().status == 200
            assert pulse.lanes[lane.number] == BEGUN
    pulse.close()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_exchange_whose_client_left_before_it_began_never_begins(
    start: Start, runtime: str
) -> None:
    driver = start("driven_asgi:app", "--runtime", runtime)
    pulse = show_pulse(driver)
    (slow,) = driver.request(get(f"/slow?ms={LONG}"))
    driver.wait(lambda: pulse.begun[0] == slow)
    (left,) = driver.request(get("/hello"))
    driver.gone(left)
    driver.wait_done(left)
    assert pulse.begun[0] == slow
    pulse.close()
