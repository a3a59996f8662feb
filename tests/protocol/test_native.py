"""The reader in C (protocol/_head.c): what it accepts, the policy accepts with the same meaning.

tests/fuzz/native.py compares the two on any bytes. Here stands what must be accepted, so that it is
fast, and what must be left to the policy.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from typing import Any

import pytest

from reactor_run.native import NATIVE, PURE_VARIABLE
from reactor_run.protocol._head import Head, Names, read_head
from reactor_run.protocol.environ import EnvironBuilder
from reactor_run.protocol.origin import NOWHERE, Origin
from reactor_run.protocol.policy import Limits, Rejected
from reactor_run.protocol.request import parse_request_head
from reactor_run.protocol.scope import ScopeBuilder
from tests.cases import loop_over
from tests.fuzz.native import check_head, compare

LIMITS = Limits()
BROWSER = (
    b"GET /shoes/item-17/details?page=3&sort=%zz&ref=a/../b HTTP/1.1\r\n"
    b"Host: shop.example:8000\r\nConnection: keep-alive\r\n"
    b'sec-ch-ua: "Chromium";v="129", "Not=A?Brand";v="8"\r\nsec-ch-ua-mobile: ?0\r\n'
    b"Upgrade-Insecure-Requests: 1\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)\r\n"
    b"Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\nReferer: http://shop.example/\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n"
    b"Cookie: session=0a1b2c; csrftoken=99; theme=dark\r\n\r\n"
)


def head(
    fields: bytes = b"", line: bytes = b"GET / HTTP/1.1", host: bytes = b"Host: a\r\n"
) -> bytes:
    return line + b"\r\n" + host + fields + b"\r\n"


ACCEPTED = {
    "browser": BROWSER,
    "browser, with more behind it": BROWSER + BROWSER,
    "no value": head(b"X:\r\nY: \t \r\n"),
    "white space": head(b"X: \t a\t b \t\r\n"),
    "any text": head(b"X: \x80\xff\t~!\r\n"),
    "any name": head(b"!#$%&'*+-.^_`|~09azAZ: x\r\n"),
    "any query": head(line=b"GET /?a?/.%\x7e#"[:-1] + b" HTTP/1.1"),
    "any path": head(line=b"GET //a.b/c./~\\^`{|}\"<>[];,=@ HTTP/1.1"),
    "empty query": head(line=b"GET /a? HTTP/1.1"),
    "HTTP/1.0": head(line=b"GET / HTTP/1.0"),
    "HTTP/1.0 without Host": head(line=b"GET / HTTP/1.0", host=b""),
    "HTTP/1.0, nothing": b"GET / HTTP/1.0\r\n\r\n",
    "HTTP/1.0, keep-alive": head(b"Connection: x, Keep-Alive\r\n", line=b"GET / HTTP/1.0"),
    "HTTP/1.0, both": head(b"Connection: keep-alive,close\r\n", line=b"GET / HTTP/1.0"),
    "close": head(b"Connection: close\r\n"),
    "close in a list": head(b"Connection: ,x,\tCLOSE ,\r\nConnection: keep-alive\r\n"),
    "upgrade without Upgrade": head(b"Connection: upgrade\r\n"),
    "no options": head(b"Connection:\r\nConnection: ,\r\nConnection: closed, keep\r\n"),
    "body": head(b"Content-Type: x/y\r\nContent-Length: 42\r\n", b"POST /p HTTP/1.1") + b"b" * 42,
    "empty body": head(b"content-length: 0\r\n"),
    "large body": head(b"CONTENT-LENGTH: %d\r\n" % LIMITS.body_size),
    "Host": head(host=b"hOST: a_b-c~.!$&'()*+,;=:\r\n"),
    "Host with a port": head(host=b"Host: 127.0.0.1:65535\r\n"),
    "only a port": head(host=b"Host: :80\r\n"),
    "hop-by-hop": head(b"TE: trailers\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n"),
    "httpoxy": head(b"Proxy: x\r\n"),
    "underscores": head(b"X_Y: z\r\nX-Y: z\r\n"),
    "repeated": head(b"X: 1\r\nCookie: a=1\r\nx: 2\r\ncookie: b=2\r\n"),
    "framing fields of other servers": head(b"Content-Lengths: 1\r\nTransfer-Encodings: x\r\n"),
    "64 fields": head(b"X: y\r\n" * 63),
    **{
        method: head(line=method.encode() + b" / HTTP/1.1")
        for method in ("POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "PURGE", "M" * 20)
    },
}  # fmt: skip

LEFT = {
    "nothing": b"",
    "escape in the path": head(line=b"GET /a%20b HTTP/1.1"),
    "dot segment": head(line=b"GET /a/../b HTTP/1.1"),
    "dot file": head(line=b"GET /.well-known/x HTTP/1.1"),
    "absolute-form": head(line=b"GET http://a/ HTTP/1.1"),
    "asterisk": head(line=b"OPTIONS * HTTP/1.1"),
    "CONNECT": head(line=b"CONNECT a:80 HTTP/1.1"),
    "fragment": head(line=b"GET /#a HTTP/1.1"),
    "other bytes": head(line=b"GET /\x80 HTTP/1.1"),
    "lower case": head(line=b"get / HTTP/1.1"),
    "short method": head(line=b"GE / HTTP/1.1"),
    "long method": head(line=b"M" * 21 + b" / HTTP/1.1"),
    "two spaces": head(line=b"GET  / HTTP/1.1"),
    "version": head(line=b"GET / HTTP/1.2"),
    "version 2": head(line=b"GET / HTTP/2.0"),
    "no version": head(line=b"GET /"),
    "empty line first": b"\r\n" + head(),
    "LF": head().replace(b"\r\n", b"\n"),
    "CR": head(b"X: a\rb\r\n"),
    "LF in a value": head(b"X: a\nb\r\n"),
    "NUL": head(b"X: a\0b\r\n"),
    "DEL": head(b"X: a\x7fb\r\n"),
    "folded": head(b"X: a\r\n b\r\n"),
    "space before the colon": head(b"X : a\r\n"),
    "no name": head(b": a\r\n"),
    "no colon": head(b"X\r\n"),
    "name in Latin-1": head(b"\xe4: a\r\n"),
    "no Host": head(host=b""),
    "two Hosts": head(b"Host: a\r\n"),
    "two Hosts in 1.0": head(b"Host: a\r\n", line=b"GET / HTTP/1.0"),
    "empty Host": head(host=b"Host:\r\n"),
    "IPv6": head(host=b"Host: [::1]:80\r\n"),
    "escape in Host": head(host=b"Host: a%20b\r\n"),
    "large port": head(host=b"Host: a:65536\r\n"),
    "long port": head(host=b"Host: a:000080\r\n"),
    "port in letters": head(host=b"Host: a:b\r\n"),
    "user": head(host=b"Host: a@b\r\n"),
    "two Content-Types": head(b"Content-Type: a/b\r\ncontent-type: a/b\r\n"),
    "two lengths": head(b"Content-Length: 5\r\nContent-Length: 5\r\n"),
    "list of lengths": head(b"Content-Length: 5, 5\r\n"),
    "sign": head(b"Content-Length: +5\r\n"),
    "zeros": head(b"Content-Length: 05\r\n"),
    "no length": head(b"Content-Length:\r\n"),
    "long length": head(b"Content-Length: 1000000000000000000\r\n"),
    "too large": head(b"Content-Length: %d\r\n" % (LIMITS.body_size + 1)),
    "disguised length": head(b"Content_Length: 5\r\n"),
    "disguised coding": head(b"Transfer.Encoding: chunked\r\n"),
    "chunked": head(b"Transfer-Encoding: chunked\r\n"),
    "expect": head(b"Expect: 100-continue\r\nContent-Length: 5\r\n"),
    "upgrade": head(b"Upgrade: websocket\r\nConnection: upgrade\r\n"),
    "65 fields": head(b"X: y\r\n" * 64),
}


def test_the_tests_run_with_the_extension_unless_it_is_switched_off() -> None:
    assert NATIVE is not bool(os.environ.get(PURE_VARIABLE))


@pytest.mark.parametrize("data", ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(data: bytes) -> None:
    assert check_head(data, LIMITS)


@pytest.mark.parametrize("data", LEFT.values(), ids=LEFT)
def test_left_to_the_policy(data: bytes) -> None:
    assert not check_head(data, LIMITS)


@loop_over("size", range(len(BROWSER)))
def test_an_incomplete_head_is_left_to_the_policy(size: int) -> None:
    assert read_head(BROWSER[:size], LIMITS.bounds) is None


def test_heads_that_are_made_from_a_seed() -> None:
    compared, accepted = compare(seconds=30, count=3000, seed=1)
    assert compared > accepted > compared / 10


@pytest.mark.parametrize(("odd", "usual"), [(b"_", b"-"), (b"\t", b" "), (b"05", b"5")])
def test_a_planted_error_is_found(
    odd: bytes, usual: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that takes an oddity for something usual."""

    def lenient(data: bytes, bounds: tuple[int, int, int, int, int]) -> Head | None:
        return read_head(data.replace(odd, usual), bounds)

    monkeypatch.setattr("tests.fuzz.native.read_head", lenient)
    with pytest.raises(AssertionError):
        compare(seconds=30, count=20_000, seed=1)


def limit(name: str, size: int) -> Limits:
    settings: dict[str, Any] = {name: size}
    return Limits(**settings)


LINE, FIELD = b"GET /234567890 HTTP/1.1", b"X: 34567890"


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("request_line", len(LINE) + 2),
        ("field_count", 2),
        ("field_size", len(FIELD) + 3),
        ("head_size", len(head(FIELD + b"\r\n", LINE))),
        ("body_size", 10),
    ],
)
def test_limits(name: str, size: int) -> None:
    """At the limit the policy may be asked. Beyond the limit it must be."""
    last = b"Content-Length: 10\r\n" if name == "body_size" else FIELD + b"\r\n"
    data = head(last, LINE)
    assert check_head(data, limit(name, size))
    assert not check_head(data, limit(name, size - 1))
    with pytest.raises(Rejected):
        parse_request_head(data, limit(name, size - 4 if size > 4 else 1))


def test_no_limit_on_a_body() -> None:
    assert check_head(head(b"Content-Length: 999999999999999999\r\n"), Limits(body_size=0))


@pytest.mark.parametrize("size", [65535, 65536])
def test_a_head_has_at_most_65535_bytes(size: int) -> None:
    """Its positions are kept in 16 bits."""
    data = head(b"X: " + b"y" * (size - len(head()) - 5) + b"\r\n")
    assert len(data) == size
    limits = Limits(field_size=1 << 20, head_size=1 << 20)
    assert check_head(data, limits) is (size == 65535)


def read(data: bytes) -> Head:
    found = read_head(data, LIMITS.bounds)
    assert found is not None
    return found


def test_a_head_does_not_keep_the_body() -> None:
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        found = read(head(b"Content-Length: 1000000\r\n") + b"x" * 1_000_000)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.body == 1_000_000
    assert after - before < 10_000


def test_reading_and_showing_leaves_nothing_behind() -> None:
    """Of references, too: the counts of the objects that heads share stay the same."""
    scopes = ScopeBuilder()
    environs = EnvironBuilder(multithread=False, multiprocess=False)
    origin = Origin()
    shared: list[Any] = [None, True, False, b"", "", b"GET", LIMITS.bounds, read(head()).method]

    def work() -> None:
        for data in (*ACCEPTED.values(), *LEFT.values()):
            found = read_head(data, LIMITS.bounds)
            if found is not None:
                scopes.build(found, origin)
                environs.build(found, origin)
                assert found.fields == found.fields
                assert (found.method, found.target, found.size) != (b"", b"", 0)

    work()
    counts = [sys.getrefcount(item) for item in shared]
    tracemalloc.start()
    try:
        work()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(200):
            work()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2000
    for item, count in zip(shared, counts, strict=True):
        # Immortal objects (Python 3.12) have a count that never changes.
        assert abs(sys.getrefcount(item) - count) < 100, item


def test_a_head_cannot_be_changed_but_for_its_expectation() -> None:
    found = read(head())
    for name in ("method", "target", "minor_version", "fields", "size", "body", "keep_alive"):
        with pytest.raises(AttributeError):
            setattr(found, name, 1)
    found.expect_continue = True
    assert found.expect_continue


SCOPE: dict[str, Any] = {"asgi": {}}


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: read_head(bytearray(head()), LIMITS.bounds), TypeError),  # type: ignore[arg-type]
        (lambda: read_head(head(), (1, 2, 3, 4)), TypeError),  # type: ignore[arg-type]
        (lambda: read_head(head(), (1, 2, 3, 4, "5")), TypeError),  # type: ignore[arg-type]
        (lambda: read_head(head(), (1, 2, 3, 4, 1 << 70)), OverflowError),
        (lambda: Head(), TypeError),
        (lambda: Names(), TypeError),  # type: ignore[call-arg]
        (lambda: Names(bytes.lower)["x"], TypeError),  # type: ignore[index]
        (lambda: read(head()).scope(SCOPE, {}, NOWHERE), TypeError),  # type: ignore[arg-type]
        (lambda: read(head()).scope(None, Names(bytes.lower), NOWHERE), TypeError),  # type: ignore[arg-type]
        (lambda: read(head()).scope(SCOPE, Names(bytes.decode), NOWHERE), TypeError),  # type: ignore[arg-type]
        (lambda: read(head()).scope({"state": 1}, Names(bytes.lower), NOWHERE), TypeError),
        (lambda: read(head()).scope({"asgi": 1}, Names(bytes.lower), NOWHERE), TypeError),
        (lambda: read(head()).scope(SCOPE, Names(bytes.lower), ()), TypeError),  # type: ignore[arg-type]
        (lambda: read(head()).environ({}, {}, NOWHERE), TypeError),  # type: ignore[arg-type]
        (lambda: read(head()).environ({}, Names(bytes.lower), NOWHERE), TypeError),  # type: ignore[arg-type]
        (lambda: read(head()).environ({}, Names(bytes.decode), ()), TypeError),  # type: ignore[arg-type]
        (lambda: read(head()).scope(SCOPE, Names(lambda name: name[9]), NOWHERE), IndexError),  # type: ignore[arg-type,return-value]
        (lambda: read(head()).environ({}, Names(lambda name: name[9]), NOWHERE), IndexError),  # type: ignore[arg-type,return-value]
    ],
)  # fmt: skip
def test_wrong_arguments(call: Any, error: type[Exception]) -> None:
    for _ in range(3):
        with pytest.raises(error):
            call()


def run(code: str, **environ: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize(("value", "native"), [("1", False), ("0", True), ("", True)])
def test_the_environment_can_switch_it_off(value: str, native: bool) -> None:
    code = (
        "from reactor_run.native import NATIVE\n"
        "from reactor_run.protocol.policy import Limits\n"
        "from reactor_run.protocol.request import parse_request_head\n"
        "head = parse_request_head(b'GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n', Limits())\n"
        "print(NATIVE, type(head).__name__)\n"
    )
    expected = "True Head\n" if native else "False ParsedHead\n"
    assert run(code, **{PURE_VARIABLE: value}) == expected


@pytest.mark.parametrize("name", ["_head", "_frames"])
def test_without_an_extension_python_reads(name: str) -> None:
    code = (
        f"import sys; sys.modules['reactor_run.protocol.{name}'] = None\n"
        "from reactor_run.native import NATIVE; print(NATIVE)\n"
    )
    assert run(code) == "False\n"


def test_interpreters_do_not_share_it() -> None:
    code = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
code = '''
from reactor_run.protocol._head import Names, read_head
head = read_head(b"GET /a?b HTTP/1.1\\\\r\\\\nHost: a\\\\r\\\\n\\\\r\\\\n", (99, 99, 99, 99, 99))
scope = head.scope({"asgi": {}}, Names(bytes.lower), (None, None, "http"))
assert scope["headers"] == [(b"host", b"a")], scope
'''
exec(code)
for _ in range(3):
    number = interpreters.create()
    failure = interpreters.run_string(number, code)
    assert failure is None, failure
    interpreters.destroy(number)
exec(code)
print("done")
"""
    assert run(code) == "done\n"
