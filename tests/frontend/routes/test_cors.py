"""CORS: which origins are allowed what, in the words of the Fetch standard."""

from __future__ import annotations

import pytest

from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.routes.cors import CrossOrigin
from reactor_run.protocol.policy import Limits
from reactor_run.protocol.request import RequestHead, parse_request_head

SHOP = "https://shop.example"


def head(*fields: str, method: str = "GET") -> RequestHead:
    lines = [f"{method} / HTTP/1.1", "Host: a", *fields, "", ""]
    found = parse_request_head("\r\n".join(lines).encode(), Limits())
    assert found is not None
    return found


def allowed(rule: CrossOrigin, origin: str) -> bool:
    return b"allow-origin" in rule.lines(head(f"Origin: {origin}"))


@pytest.mark.parametrize(
    ("listed", "origin", "expected"),
    [
        (SHOP, SHOP, True),
        (SHOP, "https://shop.example:443", False),
        (SHOP, "http://shop.example", False),
        (SHOP, "https://shop.example:8443", False),
        (SHOP, "https://shop.example.evil.example", False),
        (SHOP, "https://evilshop.example", False),
        (SHOP, "https://SHOP.example", False),
        (SHOP, f"{SHOP} https://evil.example", False),
        (SHOP, "null", False),
        ("https://shop.example:443", SHOP, True),
        ("http://shop.example:80", "http://shop.example", True),
        ("http://shop.example:8000", "http://shop.example:8000", True),
        ("http://[::1]:3000", "http://[::1]:3000", True),
        ("null", "null", True),
        ("null", SHOP, False),
        ("*", SHOP, True),
        ("*", "null", True),
        ("https://*.shop.example", "https://a.shop.example", True),
        ("https://*.shop.example", "https://a.b.shop.example", True),
        ("https://*.shop.example", SHOP, False),
        ("https://*.shop.example", "https://.shop.example", False),
        ("https://*.shop.example", "https://a..shop.example", False),
        ("https://*.shop.example", "https://evil.example/.shop.example", False),
        ("https://*.shop.example", "https://evil.example#.shop.example", False),
        ("https://*.shop.example", "https://evil.example:1.shop.example", False),
        ("https://*.shop.example", "https://u@evil.example\\.shop.example", False),
        ("https://*.shop.example", "http://a.shop.example", False),
        ("https://*.shop.example", "https://a.shop.example:8443", False),
        ("https://*.shop.example", "https://a.shop.example.evil.example", False),
        ("https://*.shop.example:8443", "https://a.shop.example:8443", True),
    ],
)
def test_origins(listed: str, origin: str, expected: bool) -> None:
    assert allowed(CrossOrigin([listed]), origin) is expected


@pytest.mark.parametrize(
    "listed",
    ["shop.example", "https://", "https://shop.example/", "https://Shop.example", "https://*",
     "https://a.*.example", "https://shop.*", "*.shop.example", "https://u@shop.example", ""],
)  # fmt: skip
def test_what_is_no_origin_is_an_error(listed: str) -> None:
    with pytest.raises(OperatorError, match="expected an origin"):
        CrossOrigin([listed])


@pytest.mark.parametrize(
    "options", [{"origins": ["*"]}, {"fields": ["*"]}, {"exposed": ["*"]}, {"methods": ["*"]}]
)
def test_any_with_credentials_is_an_error(options: dict[str, list[str]]) -> None:
    with pytest.raises(OperatorError, match="credentials"):
        CrossOrigin(**{"origins": [SHOP], **options}, credentials=True)  # type: ignore[arg-type]


def test_names_are_checked() -> None:
    with pytest.raises(OperatorError, match="'a b'"):
        CrossOrigin([SHOP], fields=["a b"])


def test_an_allowed_answer() -> None:
    rule = CrossOrigin([SHOP], exposed=["X-Total", "ETag"], credentials=True)
    assert rule.lines(head(f"Origin: {SHOP}")) == (
        b"access-control-allow-origin: https://shop.example\r\n"
        b"access-control-allow-credentials: true\r\n"
        b"access-control-expose-headers: X-Total, ETag\r\n"
        b"vary: Origin\r\n"
    )
    assert rule.lines(head()) == b"vary: Origin\r\n"
    assert rule.lines(head("Origin: https://evil.example")) == b"vary: Origin\r\n"


def test_any_origin_needs_no_vary() -> None:
    rule = CrossOrigin(["*"])
    assert rule.lines(head(f"Origin: {SHOP}")) == b"access-control-allow-origin: *\r\n"
    assert rule.lines(head()) == b""


def test_a_preflight() -> None:
    rule = CrossOrigin([SHOP], methods=["PUT"], fields=["X-Token", "*"], max_age=60)
    ask = head(f"Origin: {SHOP}", "Access-Control-Request-Method: PUT", method="OPTIONS")
    assert rule.is_preflight(ask)
    assert rule.lines(ask, preflight=True) == (
        b"access-control-allow-origin: https://shop.example\r\n"
        b"access-control-allow-methods: GET, HEAD, POST, PUT\r\n"
        b"access-control-allow-headers: X-Token, *, Authorization\r\n"
        b"access-control-max-age: 60\r\n"
        b"vary: Origin\r\n"
    )
    other = head("Origin: https://b", "Access-Control-Request-Method: PUT", method="OPTIONS")
    assert rule.lines(other, preflight=True) == b"vary: Origin\r\n"


def test_what_is_no_preflight() -> None:
    ask = "Access-Control-Request-Method: PUT"
    assert not CrossOrigin.is_preflight(head(f"Origin: {SHOP}", method="OPTIONS"))
    assert not CrossOrigin.is_preflight(head(ask, method="OPTIONS"))
    assert not CrossOrigin.is_preflight(head(f"Origin: {SHOP}", ask))


def test_the_fields_of_an_app_go() -> None:
    rule = CrossOrigin([SHOP])
    answer = (
        b"HTTP/1.1 200 OK\r\nvary: Cookie\r\nAccess-Control-Allow-Origin: *\r\n"
        b"access-control-allow-credentials: true\r\nx: access-control-allow-origin: y\r\n\r\n"
        b"\r\naccess-control-allow-origin: body\r\n"
    )
    assert rule.add(head(f"Origin: {SHOP}"), answer) == (
        b"HTTP/1.1 200 OK\r\naccess-control-allow-origin: https://shop.example\r\nvary: Origin\r\n"
        b"vary: Cookie\r\nx: access-control-allow-origin: y\r\n\r\n"
        b"\r\naccess-control-allow-origin: body\r\n"
    )
    assert CrossOrigin(["*"]).add(head(), b"HTTP/1.1 200 OK\r\nx: y\r\n\r\n") == (
        b"HTTP/1.1 200 OK\r\nx: y\r\n\r\n"
    )
    assert rule.add(head(), b"HTTP/1.1 204 No Content\r\n\r\n") == (
        b"HTTP/1.1 204 No Content\r\nvary: Origin\r\n\r\n"
    )
    with pytest.raises(ValueError, match="not found"):
        rule.add(head(), b"HTTP/1.1 200 OK\r\n")
