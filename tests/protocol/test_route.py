"""Which requests have the same route."""

from __future__ import annotations

import pytest

from reactor_run.protocol.route import ROUTE_MAX, route_of


@pytest.mark.parametrize(
    ("target", "route"),
    [
        (b"/", b"GET /"),
        (b"/orders/17/lines/4", b"GET /orders//lines/"),
        (b"/orders/2026/lines/", b"GET /orders//lines/"),
        (b"/search?q=17&page=2", b"GET /search"),
        (b"http://shop.example:8000/orders/17?x", b"GET http://shop.example:/orders/"),
        (b"*", b"GET *"),
        (b"", b"GET "),
    ],
)
def test_digits_and_queries_do_not_count(target: bytes, route: bytes) -> None:
    assert route_of(b"GET", target) == route


def test_methods_are_told_apart() -> None:
    assert route_of(b"POST", b"/orders") != route_of(b"GET", b"/orders")


def test_a_route_is_bounded() -> None:
    route = route_of(b"GET", b"/" + b"a" * 10_000)
    assert len(route) == ROUTE_MAX
    assert route == route_of(b"GET", b"/" + b"a" * ROUTE_MAX + b"/other")
