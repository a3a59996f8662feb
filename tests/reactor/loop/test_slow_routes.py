"""The routes that a reactor reports as slow."""

from __future__ import annotations

import pytest

from reactor_run.protocol.policy import Limits
from reactor_run.protocol.request import RequestHead, parse_request_head
from reactor_run.reactor.loop.slow_routes import ROUTES_MAX, RouteCounts

SLOW = 0.05


class Told:
    """Records the reports on the requests of a test."""

    def __init__(self) -> None:
        self.words: list[tuple[bytes, float]] = []
        self._routes = RouteCounts(lambda route, seconds: self.words.append((route, seconds)))

    def forget(self) -> None:
        self._routes.forget()

    def ended(self, *slow: float, path: str = "/report/7") -> list[tuple[bytes, float]]:
        """End `count` requests, each slow for some seconds, and return the reports."""
        self.words.clear()
        for seconds in slow:
            self._routes.ended(head(path), seconds)
        return self.words


def head(path: str) -> RequestHead:
    parsed = parse_request_head(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode(), Limits())
    assert parsed is not None
    return parsed


def test_a_route_is_reported_from_its_third_slow_request() -> None:
    told = Told()
    assert told.ended(SLOW, SLOW) == []
    assert told.ended(0.06, path="/report/8") == [(b"GET /report/", 0.06)]
    assert told.ended(0.07) == [(b"GET /report/", 0.07)]


@pytest.mark.parametrize("every", [2, 4, 20])
def test_a_route_that_is_sometimes_slow_is_not_reported(every: int) -> None:
    told = Told()
    assert told.ended(*([SLOW] + [0.0] * (every - 1)) * 50) == []


def test_a_route_that_is_no_longer_slow_is_reported_once() -> None:
    told = Told()
    told.ended(*[SLOW] * 20)
    assert told.ended(*[0.0] * 20) == [(b"GET /report/", 0.0)]
    # It is forgotten, and begins again.
    assert told.ended(SLOW, SLOW) == []


def test_one_fast_request_among_many_slow_ones_changes_nothing() -> None:
    told = Told()
    told.ended(*[SLOW] * 20)
    assert told.ended(0.0, SLOW) == [(b"GET /report/", SLOW)]


def test_a_forgotten_route_starts_again() -> None:
    told = Told()
    told.ended(SLOW, SLOW)
    told.forget()
    assert told.ended(SLOW, SLOW) == []


def test_a_slow_route_does_not_change_other_routes() -> None:
    told = Told()
    told.ended(*[SLOW] * 20)
    assert told.ended(*[0.0] * 20, path="/fast") == []
    assert told.ended(SLOW) == [(b"GET /report/", SLOW)]


def test_at_most_routes_max_routes_are_remembered() -> None:
    told = Told()
    told.ended(*[SLOW] * 20)
    for number in range(ROUTES_MAX):
        name = "".join(chr(ord("a") + int(digit)) for digit in str(number))
        told.ended(SLOW, path=f"/{name}")
    assert told.ended(SLOW) == []
