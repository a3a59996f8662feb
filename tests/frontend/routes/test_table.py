"""Which route takes a request: by host, by prefix, and never by a trick."""

from __future__ import annotations

import pytest

from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.routes.route import AnswerTarget, Route
from reactor_run.frontend.routes.table import AmbiguousPath, RouteTable
from reactor_run.protocol.policy import Limits
from reactor_run.protocol.request import RequestHead, Rewritten, parse_request_head

LENIENT = Limits(path_policy="pass")


def read(
    target: str, host: str = "a", method: str = "GET", limits: Limits = LENIENT
) -> RequestHead:
    data = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    try:
        head = parse_request_head(data, limits)
    except Rewritten as rewritten:
        head = parse_request_head(rewritten.data, limits)
    assert head is not None
    return head


def route(place: str) -> Route:
    host, _, path = place.partition("/")
    prefix = tuple(part.encode() for part in path.split("/") if part)
    return Route(host.encode(), prefix, AnswerTarget(place))


def table(*places: str) -> RouteTable:
    return RouteTable(route(place) for place in places)


def name_of(found: Route | None) -> str | None:
    return None if found is None else found.name


EVERYWHERE = table("/", "/api", "/api/v2", "/static")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/", "/"),
        ("/?/api", "/"),
        ("/other", "/"),
        ("/api", "/api"),
        ("/api?x", "/api"),
        ("/api/", "/api"),
        ("/api/v1", "/api"),
        ("/api/v2", "/api/v2"),
        ("/api/v2/x/y", "/api/v2"),
        ("/api/v22", "/api"),
        ("/apis", "/"),
        ("/API", "/"),
        ("/%61pi/x", "/api"),
        ("/api/%2e%2e%2e/x", "/api"),
        ("/api//x", "/api"),
        ("/api/x/../y", "/api"),
        ("/static/%25%32%66", "/static"),
        ("/%2561pi", "/"),
        ("/x\\..\\api", "/"),
        ("//other", "/"),
        ("http://a/api/x", "/api"),
        ("http://a", "/"),
    ],
)
def test_the_longest_prefix_of_whole_segments_counts(target: str, expected: str) -> None:
    assert name_of(EVERYWHERE.find(read(target))) == expected


@pytest.mark.parametrize(
    "target",
    [
        "//api",
        "///api/x",
        "/%2fapi",
        "/api%2fx",
        "/api%2Fv2",
        "/api//v2",
        "/./api",
        "/%2e/api",
        "/x/../api",
        "/x/%2e%2E/api",
        "/x%2f..%2fapi",
        "/static/../api",
        "/static/..",
        "/static/%2e%2e/secret",
        "/static/..%2fapi",
        "/api/x/../../other",
        "/api/x/../v2",
        "/api/v2/..",
        "http://a//api",
    ],
)
def test_a_path_that_may_be_read_as_another_route_is_ambiguous(target: str) -> None:
    with pytest.raises(AmbiguousPath):
        EVERYWHERE.find(read(target))


def test_a_host_comes_before_a_prefix() -> None:
    routes = table("/", "/api", "shop.example/", "shop.example:8443/", "old.example/api/v1")

    def find(target: str, host: str) -> str | None:
        return name_of(routes.find(read(target, host)))

    assert find("/api", "shop.example") == "shop.example/"
    assert find("/api", "SHOP.example") == "shop.example/"
    assert find("/api", "shop.example.") == "shop.example/"
    assert find("/api", "shop.example:80") == "shop.example/"
    assert find("/api", "shop.example:") == "shop.example/"
    assert find("/api", "shop.example:8443") == "shop.example:8443/"
    assert find("/api", "shop.example.:8443") == "shop.example:8443/"
    assert find("/api", "other.example") == "/api"
    assert find("/api", "") == "/api"
    # A host without a route for the path: those of each host.
    assert find("/api/v1/x", "old.example") == "old.example/api/v1"
    assert find("/api/v2", "old.example") == "/api"
    # A target with a host replaces the field.
    assert find("http://shop.example/api", "a") == "shop.example/"


def test_an_old_client_without_host_gets_the_routes_of_each_host() -> None:
    routes = table("/", "shop.example/")
    head = parse_request_head(b"GET / HTTP/1.0\r\n\r\n", LENIENT)
    assert head is not None
    assert name_of(routes.find(head)) == "/"


def test_asterisk_is_for_the_route_of_all_paths() -> None:
    assert name_of(EVERYWHERE.find(read("*", method="OPTIONS"))) == "/"
    assert table("/api").find(read("*", method="OPTIONS")) is None


def test_there_may_be_no_route() -> None:
    routes = table("/api", "shop.example/x")
    assert routes.find(read("/")) is None
    assert routes.find(read("/x")) is None
    assert name_of(routes.find(read("/x", "shop.example"))) == "shop.example/x"


def test_two_routes_of_one_place_are_an_error() -> None:
    with pytest.raises(OperatorError, match=r"two routes take shop\.example/x"):
        table("shop.example/x", "/x", "shop.example/x")
