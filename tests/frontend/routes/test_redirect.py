"""Where redirects lead: never to a host that the operator has not named."""

from __future__ import annotations

import pytest

from reactor_run.frontend.routes.redirect import directory_location, redirect_location
from reactor_run.frontend.routes.route import RedirectTarget
from tests.frontend.routes.test_table import read


@pytest.mark.parametrize(
    ("location", "prefix", "target", "expected"),
    [
        ("/new", "old", "/old", "/new"),
        ("/new", "old", "/old/", "/new/"),
        ("/new/", "old", "/old/x", "/new/x"),
        ("/new", "old", "/old/x/y?q=/z", "/new/x/y?q=/z"),
        ("/new", "old", "/old/%C3%A4%20b", "/new/%C3%A4%20b"),
        ("/new", "old", "/old/a%2Fb", "/new/a%2Fb"),
        ("/", "old", "/old", "/"),
        ("/", "old", "/old/evil.example", "/evil.example"),
        ("/", "old", "/old//evil.example", "/evil.example"),
        ("/", "old", "/old/////evil.example/", "/evil.example/"),
        ("/", "old", "/old/%2Fevil.example", "/%2Fevil.example"),
        ("/", "old", "/old/\\evil.example", "/%5Cevil.example"),
        ("/", "old", "/old/%5Cevil.example", "/%5Cevil.example"),
        ("/", "old", "/old/%0d%0aSet-Cookie:x", "/%0D%0ASet-Cookie:x"),
        ("https://shop.example", "", "/", "https://shop.example/"),
        ("https://shop.example", "", "/x?y", "https://shop.example/x?y"),
        ("https://shop.example", "", "//evil.example", "https://shop.example/evil.example"),
        ("https://shop.example", "", "/@evil.example", "https://shop.example/@evil.example"),
        ("https://shop.example", "", "/.evil.example", "https://shop.example/.evil.example"),
        ("https://shop.example", "old", "/old", "https://shop.example"),
    ],
)
def test_the_rest_of_the_path_follows(
    location: str, prefix: str, target: str, expected: str
) -> None:
    segments = tuple(part.encode() for part in prefix.split("/") if part)
    found = redirect_location(RedirectTarget(location), segments, read(target))
    assert found == expected.encode()


def test_the_rest_may_be_dropped() -> None:
    target = RedirectTarget("/new?from=old", append=False)
    assert redirect_location(target, (b"old",), read("/old/x?y")) == b"/new?from=old"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/a", "/a/"),
        ("/a/b?c", "/a/b/?c"),
        ("//evil.example", "/evil.example/"),
        ("/%2Fevil.example", "/%2Fevil.example/"),
        ("/\\evil.example", "/%5Cevil.example/"),
        ("http://a/b", "/b/"),
    ],
)
def test_a_directory_gets_a_slash(target: str, expected: str) -> None:
    assert directory_location(read(target)) == expected.encode()
