"""Conditional and range requests, as RFC 9110 has them."""

from __future__ import annotations

import pytest

from reactor_run.clock import http_date
from reactor_run.frontend.static.conditions import CONDITIONS, decide, parse_http_date
from reactor_run.protocol.policy import Limits
from reactor_run.protocol.request import parse_request_head

TAG = b'"1-a"'
MODIFIED = 784111777
SAME = "Sun, 06 Nov 1994 08:49:37 GMT"
BEFORE = http_date(MODIFIED - 1)
LATER = http_date(MODIFIED + 1)


def ask(*fields: str, method: str = "GET", size: int = 100) -> tuple[int, int, int]:
    lines = [f"{method} / HTTP/1.1", "Host: a", *fields, "", ""]
    head = parse_request_head("\r\n".join(lines).encode(), Limits())
    assert head is not None
    return decide(head, head.values(CONDITIONS), TAG, MODIFIED, size)


ALL = (200, 0, 100)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (SAME, MODIFIED),
        ("Sunday, 06-Nov-94 08:49:37 GMT", MODIFIED),
        ("Sun Nov  6 08:49:37 1994", MODIFIED),
        ("Thursday, 01-Jan-37 00:00:00 GMT", 2114380800),
        ("Sun, 06 Nov 1994 08:49:37", None),
        ("Sun, 06 Now 1994 08:49:37 GMT", None),
        ("sun, 06 nov 1994 08:49:37 gmt", None),
        ("1994-11-06T08:49:37Z", None),
        ("0", None),
        ("", None),
    ],
)
def test_dates(text: str, seconds: int | None) -> None:
    assert parse_http_date(text.encode()) == seconds


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([], 200),
        # One field.
        (['If-Match: "1-a"'], 200),
        (['If-Match: "x", "1-a"'], 200),
        (["If-Match: *"], 200),
        (['If-Match: "x"'], 412),
        (['If-Match: W/"1-a"'], 412),
        (["If-Match: 1-a"], 412),
        ([f"If-Unmodified-Since: {SAME}"], 200),
        ([f"If-Unmodified-Since: {LATER}"], 200),
        ([f"If-Unmodified-Since: {BEFORE}"], 412),
        (["If-Unmodified-Since: yesterday"], 200),
        (['If-None-Match: "1-a"'], 304),
        (['If-None-Match: W/"1-a"'], 304),
        (['If-None-Match: "x", W/"1-a"'], 304),
        (['If-None-Match: "x","1-a", "y"'], 304),
        (['If-None-Match: "a,1-a"'], 200),
        (["If-None-Match: *"], 304),
        (['If-None-Match: "x"'], 200),
        (["If-None-Match: x"], 200),
        (['If-None-Match: "1-a'], 200),
        ([f"If-Modified-Since: {SAME}"], 304),
        ([f"If-Modified-Since: {LATER}"], 304),
        ([f"If-Modified-Since: {BEFORE}"], 200),
        (["If-Modified-Since: x"], 200),
        # Lists in several fields.
        (['If-None-Match: "1-a"', 'If-None-Match: "x"'], 304),
        (['If-Match: "1-a"', 'If-Match: "x"'], 200),
        # Two fields.
        (['If-Match: "1-a"', f"If-Unmodified-Since: {BEFORE}"], 200),
        (['If-None-Match: "x"', f"If-Modified-Since: {SAME}"], 200),
        (['If-None-Match: "1-a"', f"If-Modified-Since: {BEFORE}"], 304),
        (['If-Match: "x"', 'If-None-Match: "1-a"'], 412),
        (['If-Match: "1-a"', 'If-None-Match: "1-a"'], 304),
        ([f"If-Unmodified-Since: {BEFORE}", f"If-Modified-Since: {SAME}"], 412),
        # A condition comes before a range.
        (['If-None-Match: "1-a"', "Range: bytes=0-9"], 304),
        (['If-Match: "x"', "Range: bytes=0-9"], 412),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_preconditions(fields: list[str], status: int, method: str) -> None:
    assert ask(*fields, method=method)[0] == status


@pytest.mark.parametrize(
    ("wanted", "decision"),
    [
        ("bytes=0-9", (206, 0, 10)),
        ("bytes=0-0", (206, 0, 1)),
        ("bytes=10-", (206, 10, 100)),
        ("bytes=0-", (206, 0, 100)),
        ("bytes=99-", (206, 99, 100)),
        ("bytes=90-1000", (206, 90, 100)),
        ("bytes=-10", (206, 90, 100)),
        ("bytes=-100", (206, 0, 100)),
        ("bytes=-1000", (206, 0, 100)),
        ("bytes= 0-9", (206, 0, 10)),
        ("BYTES=0-9", (206, 0, 10)),
        ("bytes=00000000000000000000000-9", (206, 0, 10)),
        ("bytes=0-99999999999999999999999999", (206, 0, 100)),
        ("bytes=100-", (416, 0, 100)),
        ("bytes=100-200", (416, 0, 100)),
        ("bytes=99999999999999999999999999-", (416, 0, 100)),
        ("bytes=-0", (416, 0, 100)),
        ("bytes=-", ALL),
        ("bytes=9-0", ALL),
        ("bytes=a-b", ALL),
        ("bytes=0", ALL),
        ("bytes=--9", ALL),
        ("bytes=+1-9", ALL),
        ("bytes =0-9", ALL),
        ("items=0-9", ALL),
        ("bytes=0-9,20-29", ALL),
        ("bytes=0-9,", ALL),
        ("x", ALL),
    ],
)
def test_ranges(wanted: str, decision: tuple[int, int, int]) -> None:
    assert ask(f"Range: {wanted}") == decision
    assert ask(f"Range: {wanted}", method="HEAD") == ALL


def test_ranges_of_an_empty_file() -> None:
    assert ask("Range: bytes=0-", size=0) == (200, 0, 0)
    assert ask("Range: bytes=0-99", size=0) == (200, 0, 0)
    assert ask("Range: bytes=1-", size=0) == (416, 0, 0)
    assert ask("Range: bytes=-1", size=0) == (200, 0, 0)


@pytest.mark.parametrize(
    ("if_range", "counts"),
    [
        ('"1-a"', True),
        (SAME, True),
        ("Sunday, 06-Nov-94 08:49:37 GMT", True),
        ('"x"', False),
        ('W/"1-a"', False),
        (LATER, False),
        (BEFORE, False),
        ("x", False),
    ],
)
def test_if_range(if_range: str, counts: bool) -> None:
    expected = (206, 0, 10) if counts else ALL
    assert ask("Range: bytes=0-9", f"If-Range: {if_range}") == expected
    assert ask(f"If-Range: {if_range}") == ALL
