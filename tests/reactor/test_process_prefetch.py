"""The capacity that an inline WSGI reactor announces, as the front end sees it."""

from __future__ import annotations

from tests.reactor.driver import get


def capacities(driver):
    return [message["capacity"] for message in driver.messages if "capacity" in message]


def test_capacity_grows_for_an_app_that_answers_at_once_and_falls_for_a_slow_one(start):
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


def test_threads_have_a_capacity_that_does_not_change(threaded):
    for number in threaded.request(*[get("/hello")] * 200):
        threaded.answer(number)
    assert capacities(threaded) == []
