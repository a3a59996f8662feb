"""The caches for clients and apps are bounded in bytes, however long each value is."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from reactor_run.protocol.environ import EnvironBuilder
from reactor_run.protocol.origin import NOWHERE
from reactor_run.protocol.own_fields import ONLY_DATE
from reactor_run.protocol.policy import Limits
from reactor_run.protocol.request import RequestHead, parse_request_head
from reactor_run.protocol.response import encode_response_head
from reactor_run.protocol.response_head import KnownResponseHeads
from reactor_run.protocol.scope import ScopeBuilder
from reactor_run.reactor.wsgi.head import read_app_head

TIMES = 3000
LONG = b"a" * 8000
LEFT_MAX = 4_000_000
"""Most bytes that may remain. At least 24 MB are read, and 256 long values in a cache would take
more."""
LIMITS = Limits()


def heads() -> Iterator[RequestHead]:
    """Heads with long targets that differ."""
    for number in range(TIMES):
        target = b"/%d%%20%b" % (number, LONG)
        head = parse_request_head(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target, LIMITS)
        assert head is not None
        yield head


def build_scopes() -> object:
    builder = ScopeBuilder()
    for head in heads():
        builder.build(head, NOWHERE)
    return builder


def build_environs() -> object:
    builder = EnvironBuilder(multithread=False, multiprocess=False)
    for head in heads():
        builder.build(head, NOWHERE)
    return builder


def encode_heads() -> object:
    for number in range(TIMES):
        encode_response_head(
            302,
            [(b"location", b"/%d" % number + LONG)],
            method=b"GET",
            minor_version=1,
            length=0,
            date_field=b"",
            own_fields=ONLY_DATE,
        )
    return None


def read_app_heads() -> object:
    for number in range(TIMES):
        read_app_head(f"302 {number} {LONG.decode()}", [("Location", f"/{number}{LONG.decode()}")])
        read_app_head("302 Found", [(f"x{number}{LONG.decode()}", "")])
    return None


def read_response_heads() -> object:
    known = KnownResponseHeads()
    for number in range(TIMES):
        known.parse(b"HTTP/1.1 302 Found\r\nlocation: /%d%b\r\n\r\n" % (number, LONG), b"GET")
    return known


@pytest.mark.parametrize(
    "remember",
    [
        build_scopes,
        build_environs,
        encode_heads,
        read_app_heads,
        read_response_heads,
    ],
)
def test_the_caches_hold_few_bytes(remember: Callable[[], object]) -> None:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        kept = remember()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < LEFT_MAX
    del kept
