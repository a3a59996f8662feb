"""The capacity that an inline WSGI reactor announces, as the front end sees it."""

from __future__ import annotations

from tests.reactor.driver import get


def capacities(driver):
    return [message["capacity"] for message in driver.messages if "capacity" in message]


def test_the_capacity_grows_for_a_fast_app_and_falls_for_a_slow_one(start):
    driver = start("driven_wsgi:app")
    assert driver.ready["capacity"] == 1

    def grown():
        for number in driver.request(*[get("/hello")] * 32):
            driver.answer(number)
        return capacities(driver)

    driver.wait(grown)
    assert capacities(driver)[-1] > 1

    def fallen():
        for number in driver.request(*[get("/slow")] * 2):
            driver.answer(number)
        return capacities(driver)[-1] == 1

    driver.wait(fallen)


def grow(driver):
    """Send fast requests until the reactor has raised its capacity."""

    def grown():
        for number in driver.request(*[get("/hello")] * 32):
            driver.answer(number)
        return capacities(driver)[-1:] > [2]

    driver.wait(grown)


def test_the_capacity_of_threads_never_falls_below_their_number(start):
    driver = start("driven_wsgi:app", "--threads", "2")
    assert driver.ready["capacity"] == 2
    grow(driver)

    def fallen():
        for number in driver.request(*[get("/slow")] * 2):
            driver.answer(number)
        return capacities(driver)[-1] == 2

    driver.wait(fallen)
    assert min(capacities(driver)) == 2


def test_a_prefetched_exchange_does_not_wait_while_one_thread_is_free(start):
    driver = start("driven_wsgi:app", "--threads", "2")
    grow(driver)
    waiting, *others = driver.request(get("/wait?key=a"), *[get("/hello")] * 32)
    for number in others:
        assert driver.answer(number).text == "hello"
    assert not driver.kinds(waiting)
    driver.get("/open?key=a")
    assert driver.answer(waiting).text == "waited"


def test_the_prefetch_pauses_while_all_threads_are_stuck(start):
    driver = start("driven_wsgi:app", "--threads", "2")
    grow(driver)
    waiting = driver.request(*[get("/noted-wait?key=a")] * 2)

    behind = []

    def fallen():
        behind.extend(driver.request(get("/hello")))
        driver.pump(0.01)
        return capacities(driver)[-1] == 2

    driver.wait(fallen)
    assert not any(driver.kinds(number) for number in (*waiting, *behind))
