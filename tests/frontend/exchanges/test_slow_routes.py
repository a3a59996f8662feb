"""The prediction of slow requests from their route."""

from __future__ import annotations

import pytest

from reactor_run.frontend.exchanges.slow_routes import REMEMBERED, ROUTES_MAX, WINDOW, SlowRoutes
from reactor_run.protocol.policy import Limits
from reactor_run.protocol.request import RequestHead, parse_request_head


def head(path: str) -> RequestHead:
    parsed = parse_request_head(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode(), Limits())
    assert parsed is not None
    return parsed


def test_a_request_is_expected_to_take_as_long_as_the_last_of_its_route() -> None:
    routes = SlowRoutes()
    routes.told(b"GET /report/", 0.05, 1.0)
    routes.told(b"GET /report/", 0.07, 2.0)
    assert routes.expect(head("/report/12?as=pdf"), 2.0) == 0.07
    assert routes.expect(head("/reports"), 2.0) == 0.0


def test_a_route_that_is_no_longer_slow_is_forgotten() -> None:
    routes = SlowRoutes()
    routes.told(b"GET /report/", 0.05, 1.0)
    routes.told(b"GET /report/", 0.0, 2.0)
    assert not routes.routes


def test_a_slow_route_is_remembered_for_some_seconds() -> None:
    routes = SlowRoutes()
    routes.told(b"GET /report/", 0.05, 1.0)
    routes.told(b"GET /other", 0.05, 2.0)
    assert routes.expect(head("/report/1"), 1.0 + REMEMBERED - 0.1) == 0.05
    assert routes.expect(head("/report/1"), 1.0 + REMEMBERED + 0.1) == 0.0
    assert list(routes.routes) == [b"GET /other"]
    routes.expect(head("/"), 2.0 + REMEMBERED + 0.1)
    assert not routes.routes


def test_the_number_of_remembered_routes_is_limited() -> None:
    routes = SlowRoutes()
    for number in range(ROUTES_MAX + 1):
        routes.told(b"GET /%d" % number, 0.05, 1.0)
    assert len(routes.routes) == ROUTES_MAX
    assert b"GET /0" not in routes.routes


def test_other_requests_are_counted_while_any_route_is_slow() -> None:
    routes = SlowRoutes()
    routes.told(b"GET /report/", 0.05, 100.0)
    for number in range(50):
        routes.expect(head("/fast"), 100.0 + number / 50)
        routes.expect(head("/report/1"), 100.0 + number / 50)
    # Only a complete window counts.
    assert routes.others(0.1, 100.9) == 0.0
    routes.expect(head("/fast"), 101.0 + WINDOW)
    assert routes.others(0.1, 101.0 + WINDOW) == pytest.approx(50 * 0.1 / 2, rel=0.1)
    assert routes.others(0.1, 110.0) < 0.1
