"""Request heads: what is read from them, and which rule rejects which head."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor_run.protocol import diagnosis, policy
from reactor_run.protocol.body import CHUNKED
from reactor_run.protocol.environ import EnvironBuilder
from reactor_run.protocol.origin import NOWHERE
from reactor_run.protocol.policy import Limits, Rejected, Rule
from reactor_run.protocol.request import (
    Rewritten,
    parse_request_head,
    read_relayed_head,
    reframe,
)
from reactor_run.protocol.scope import ScopeBuilder

LIMITS = Limits()
PLAIN = b"GET /a?b=%zz HTTP/1.1\r\nHost: a.example:80\r\nX-One:  two \r\n\r\n"


def head(
    fields: bytes = b"", line: bytes = b"GET / HTTP/1.1", host: bytes = b"Host: a\r\n"
) -> bytes:
    return line + b"\r\n" + host + fields + b"\r\n"


def test_the_pieces_of_a_head() -> None:
    read = parse_request_head(PLAIN + b"more", LIMITS)
    assert read is not None
    assert (read.method, read.target, read.minor_version) == (b"GET", b"/a?b=%zz", 1)
    assert read.fields == ((b"Host", b"a.example:80"), (b"X-One", b"two"))
    assert read.size == len(PLAIN)
    assert (read.body, read.keep_alive, read.expect_continue, read.upgrade) == (
        0,
        True,
        False,
        False,
    )


def test_every_beginning_of_a_head_is_incomplete() -> None:
    for end in range(len(PLAIN)):
        assert parse_request_head(PLAIN[:end], LIMITS) is None
        assert parse_request_head(PLAIN[:end], LIMITS, max(0, end - 1)) is None


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (head(b"Content-Length: 5\r\n"), (5, True, False, False)),
        (head(b"Content-Length: 0\r\n"), (0, True, False, False)),
        (head(b"transfer-encoding: Chunked\r\n"), (CHUNKED, True, False, False)),
        (head(b"Connection: close\r\n"), (0, False, False, False)),
        (head(b"Connection: keep-alive, Close\r\n"), (0, False, False, False)),
        (head(line=b"GET / HTTP/1.0"), (0, False, False, False)),
        (head(b"Connection: Keep-Alive\r\n", b"GET / HTTP/1.0"), (0, True, False, False)),
        (head(line=b"GET / HTTP/1.0", host=b""), (0, False, False, False)),
        (head(b"Content-Length: 1\r\nExpect: 100-Continue\r\n"), (1, True, True, False)),
        (head(b"Expect: 100-continue\r\n"), (0, True, False, False)),
        (head(b"Upgrade: x\r\nConnection: upgrade\r\n"), (0, True, False, True)),
        (head(b"Upgrade: x\r\n"), (0, True, False, False)),
        (head(line=b"OPTIONS * HTTP/1.1"), (0, True, False, False)),
        (head(line=b"GET http://a/x?y HTTP/1.1"), (0, True, False, False)),
        (b"\r\n" + head(), (0, True, False, False)),
    ],
)
def test_what_the_fields_mean(data: bytes, expected: tuple[int, bool, bool, bool]) -> None:
    read = parse_request_head(data, LIMITS)
    assert read is not None
    assert (read.body, read.keep_alive, read.expect_continue, read.upgrade) == expected
    assert read.size == len(data)


REFUSED: list[tuple[bytes, Rule]] = [
    (b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", policy.EMPTY_LINES),
    (head(line=b"get / HTTP/1.1"), policy.METHOD),
    (head(line=b"GET  / HTTP/1.1"), policy.REQUEST_LINE),
    (head(line=b"GET / HTTP/1.2"), policy.VERSION),
    (head(line=b"GET / HTTP/2.0"), policy.VERSION),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", policy.REQUEST_MALFORMED),
    (head(line=b"GET /\xff HTTP/1.1"), policy.TARGET_CHARACTER),
    (head(line=b"GET /#x HTTP/1.1"), policy.TARGET_CHARACTER),
    (head(line=b"GET /%zz HTTP/1.1"), policy.TARGET_ESCAPE),
    (head(line=b"GET /%00 HTTP/1.1"), policy.TARGET_ESCAPE),
    (head(line=b"GET * HTTP/1.1"), policy.TARGET),
    (head(line=b"GET a:80 HTTP/1.1"), policy.TARGET),
    (head(line=b"CONNECT a:443 HTTP/1.1"), policy.CONNECT),
    (head(line=b"CONNECT / HTTP/1.1"), policy.CONNECT),
    (head(b"Content-Length: 5\r\n", b"CONNECT a:443 HTTP/1.1"), policy.CONNECT),
    (head(line=b"GET http://u@a/ HTTP/1.1"), policy.TARGET),
    (b"GET / HTTP/1.1\nHost: a\r\n\r\n", policy.LINE_END),
    (b"GET / HTTP/1.1\r\nHost: a\n\r\n", policy.LINE_END),
    (b"GET / HTTP/1.1\r\nHost: a\r\n\n", policy.LINE_END),
    (b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", policy.LINE_END),
    (head(b"X: a\r\n b\r\n"), policy.OBS_FOLD),
    (head(b"X : a\r\n"), policy.FIELD_NAME),
    (head(b" X: a\r\n"), policy.OBS_FOLD),
    (head(b"Transfer_Encoding: chunked\r\n"), policy.FIELD_DISGUISED),
    (head(b"X: a\x00b\r\n"), policy.FIELD_VALUE),
    (head(b"X: a\rb\r\n"), policy.LINE_END),
    (head(host=b""), policy.HOST_MISSING),
    (head(b"host: b\r\n"), policy.HOST_REPEATED),
    (head(host=b"Host: a b\r\n"), policy.HOST_MALFORMED),
    (head(b"Content-Length: +1\r\n"), policy.CONTENT_LENGTH),
    (head(b"Content-Length: 1, 1\r\n"), policy.CONTENT_LENGTH),
    (head(b"Content-Length: 99999999999999999999999\r\n"), policy.CONTENT_LENGTH),
    (head(b"Content-Length: 1\r\nContent-Length: 1\r\n"), policy.CONTENT_LENGTH_REPEATED),
    (head(b"Transfer-Encoding: gzip, chunked\r\n"), policy.TRANSFER_CODING),
    (head(b"Transfer-Encoding: chunked, gzip\r\n"), policy.TRANSFER_ENCODING),
    (head(b"Transfer-Encoding: identity\r\n"), policy.TRANSFER_ENCODING),
    (head(b"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n"), policy.FRAMING_CONFLICT),
    (
        head(b"Transfer-Encoding: chunked\r\n", b"POST / HTTP/1.0"),
        policy.TRANSFER_ENCODING_VERSION,
    ),
    (head(b"Expect: tea\r\n"), policy.EXPECTATION),
    (b"GET /" + b"a" * 9000, policy.REQUEST_LINE_TOO_LONG),
    (head(line=b"GET /" + b"a" * 9000 + b" HTTP/1.1"), policy.REQUEST_LINE_TOO_LONG),
    (head(b"A: b\r\n" * 101), policy.FIELDS_TOO_MANY),
    (head(b"A: " + b"b" * 9000 + b"\r\n"), policy.FIELD_TOO_LARGE),
    (head(b"A: " + b"b" * 70000), policy.FIELD_TOO_LARGE),
    (head((b"A: " + b"b" * 8000 + b"\r\n") * 9), policy.HEAD_TOO_LARGE),
    (head(b"Content-Length: 2000000000\r\n"), policy.BODY_TOO_LARGE),
]


@pytest.mark.parametrize(("data", "rule"), REFUSED, ids=lambda value: getattr(value, "name", None))
def test_bad_heads_are_rejected(data: bytes, rule: Rule) -> None:
    with pytest.raises(Rejected) as refused:
        parse_request_head(data, LIMITS)
    # A second reading must give the same: no bad value may have been remembered.
    with pytest.raises(Rejected):
        parse_request_head(data, LIMITS)
    assert refused.value.rule is rule


def test_limits_may_be_wider_than_the_parsers_own() -> None:
    wide = Limits(request_line=20000, field_count=256, field_size=20000)
    fields = b"A: b\r\n" * 254 + b"C: " + b"c" * 15000 + b"\r\n"
    read = parse_request_head(head(fields, b"GET /" + b"a" * 15000 + b" HTTP/1.1"), wide)
    assert read is not None
    assert len(read.fields) == 256
    with pytest.raises(ValueError, match="at most 256"):
        Limits(field_count=257)


def test_wide_limits_hold_however_the_head_is_cut() -> None:
    wide = Limits(request_line=20000, field_size=20000, head_size=100000)
    line = b"GET /" + b"a" * 15000 + b" HTTP/1.1"
    data = head(b"C: " + b"c" * 15000 + b"\r\nD: d\r\n", line)
    for size in (1000, 15033, 15040):
        seen = 0
        for end in range(size, len(data), size):
            assert parse_request_head(data[:end], wide, seen) is None
            seen = end
        assert parse_request_head(data, wide, seen) is not None


def test_the_empty_line_before_a_request_is_no_part_of_its_size() -> None:
    data = b"\r\n" + PLAIN
    exact = Limits(head_size=len(PLAIN))
    for end in range(len(data)):
        assert parse_request_head(data[:end], exact, max(0, end - 1)) is None
    assert parse_request_head(data, exact, len(data) - 1) is not None


# Complete heads -----------------------------------------------------------------------------------

EMPTY_LINES = (b"\r\n\r\n", b"\n\n", b"\r\n\n", b"\n\r\n")
HEADS = (
    b"GET / HTTP/1.1\r\nHost: a",
    b"POST /x?y HTTP/1.0",
    b"\r\nGET http://a/ HTTP/1.1\r\nHost: b\r\nX: y",
    b"OPTIONS * HTTP/1.1\nHost: a",
)


def assert_judged(head: bytes) -> None:
    """Check that a head, however its end arrives, is accepted or rejected, and always in the same
    way."""
    verdicts = set()
    for cut in {0, max(0, len(head) - 1), max(0, len(head) - 3), len(head) // 2}:
        try:
            if cut:
                parse_request_head(head[:cut], LIMITS)
            read = parse_request_head(head, LIMITS, cut)
        except Rejected as rejected:
            verdicts.add(rejected.rule.name)
        except Rewritten as rewritten:
            verdicts.add(rewritten.data.partition(b"\r\n\r\n")[0].decode("latin-1"))
        else:
            assert read is not None, f"incomplete, of which {cut} bytes came before"
            verdicts.add(str(read.size))
    assert len(verdicts) == 1


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("end", EMPTY_LINES)
def test_no_beginning_of_a_head_is_incomplete_before_an_empty_line(head: bytes, end: bytes) -> None:
    for size in range(len(head) + 1):
        assert_judged(head[:size] + end)
        for byte in b"\r\n\0 :/H\xff":
            assert_judged(head[:size] + bytes([byte]) + end)


@pytest.mark.parametrize("head", HEADS)
def test_no_head_with_a_byte_changed_is_incomplete_before_an_empty_line(head: bytes) -> None:
    for place in range(len(head)):
        assert_judged(head[:place] + head[place + 1 :] + EMPTY_LINES[0])
        for byte in b"\r\n\0 :/H\xff":
            changed = bytes([byte])
            assert_judged(head[:place] + changed + head[place + 1 :] + EMPTY_LINES[0])
            assert_judged(head[:place] + changed + head[place:] + EMPTY_LINES[0])


@given(
    st.lists(
        st.sampled_from(
            (*HEADS, b"\r\n", b"\r", b"\n", b"GET ", b"/", b" HTTP/1.1", b"HTTP", b"X: y")
        )
        | st.binary(max_size=4),
        max_size=6,
    ),
    st.sampled_from(EMPTY_LINES),
)
def test_no_bytes_are_incomplete_before_an_empty_line(pieces: list[bytes], end: bytes) -> None:
    assert_judged(b"".join(pieces) + end)


def test_a_line_that_no_byte_can_make_valid_is_rejected_before_it_ends() -> None:
    for data in (b"GET / HTTX", b"GET  ", b"g", b"GET /\r", b"A" * 21, PLAIN[:-2] + b"X\0"):
        for cut in range(len(data)):
            parse_request_head(data[:cut], LIMITS, max(0, cut - 1))
        with pytest.raises(Rejected):
            parse_request_head(data, LIMITS, len(data) - 1)


def test_each_line_of_a_head_that_comes_byte_by_byte_is_read_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A head of n lines in n pieces costs n, not its square."""
    read = diagnosis._read_field_line
    sizes = []

    def counted(line: bytes, limits: Limits, whole: bool) -> tuple[bytes, bytes]:
        sizes.append(len(line))
        return read(line, limits, whole)

    monkeypatch.setattr(diagnosis, "_read_field_line", counted)
    data = head(b"".join(b"X-%d: y\r\n" % number for number in range(90)))
    for end in range(1, len(data)):
        assert parse_request_head(data[:end], LIMITS, end - 1) is None
    assert len(sizes) <= len(data)


# Absolute-form ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "relayed"),
    [
        (head(line=b"GET http://b/x HTTP/1.1"), b"GET http://b/x HTTP/1.1\r\nHost: b\r\n\r\n"),
        (
            head(b"X: y\r\n", b"GET http://b:80 HTTP/1.1", b"Z: z\r\nhOST:  a \r\n") + b"more",
            b"GET http://b:80 HTTP/1.1\r\nHost: b:80\r\nZ: z\r\nX: y\r\n\r\nmore",
        ),
        (
            head(line=b"GET http://b/ HTTP/1.1", host=b"Host:\r\n"),
            b"GET http://b/ HTTP/1.1\r\nHost: b\r\n\r\n",
        ),
        (
            head(line=b"GET http://b/ HTTP/1.0", host=b""),
            b"GET http://b/ HTTP/1.0\r\nHost: b\r\n\r\n",
        ),
        (
            b"\r\n" + head(line=b"GET http://B/ HTTP/1.1", host=b"Host: b\r\n"),
            b"GET http://B/ HTTP/1.1\r\nHost: B\r\n\r\n",
        ),
    ],
    ids=["another", "with other fields", "empty", "none", "in another case"],
)
def test_the_authority_of_the_target_replaces_host(data: bytes, relayed: bytes) -> None:
    with pytest.raises(Rewritten) as rewritten:
        parse_request_head(data, LIMITS)
    assert rewritten.value.data == relayed
    # The rewritten request is valid, and both interfaces show one host.
    ours, theirs = parse_request_head(relayed, LIMITS), read_relayed_head(relayed)
    assert ours is not None
    assert theirs is not None
    host = ours.target.split(b"/")[2]
    assert [value for name, value in theirs.fields if name.lower() == b"host"] == [host]
    scope = ScopeBuilder().build(theirs, NOWHERE)
    assert [value for name, value in scope["headers"] if name == b"host"] == [host]
    environ = EnvironBuilder(multithread=False, multiprocess=False).build(theirs, NOWHERE)
    assert environ["HTTP_HOST"] == host.decode()
    assert environ["SERVER_NAME"] == host.decode().removesuffix(":80")


def test_a_host_that_is_the_authority_stays_as_it_came() -> None:
    read = parse_request_head(head(line=b"GET http://a/x HTTP/1.1"), LIMITS)
    assert read is not None
    assert read.fields == ((b"Host", b"a"),)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_rejected(data: bytes) -> None:
    for start in (b"", b"GET / HTTP/1.1\r\nHost: a\r\n", b"POST "):
        try:
            parse_request_head(start + data, LIMITS)
        except Rejected:
            pass


def test_a_reactor_reads_what_the_front_end_accepted_alike() -> None:
    for data in (PLAIN, head(b"Content-Length: 7\r\n"), head(b"Transfer-Encoding: chunked\r\n")):
        ours, theirs = parse_request_head(data, LIMITS), read_relayed_head(data)
        assert ours is not None
        assert theirs is not None
        for name in ("method", "target", "minor_version", "fields", "size", "body"):
            assert getattr(ours, name) == getattr(theirs, name)


def test_a_buffered_request_gets_a_length() -> None:
    data = head(
        b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\nX: y\r\n", b"POST /p HTTP/1.1"
    )
    read = parse_request_head(data, LIMITS)
    assert read is not None
    again = parse_request_head(reframe(read, 42), LIMITS)
    assert again is not None
    assert (again.method, again.target, again.body) == (b"POST", b"/p", 42)
    assert not again.expect_continue
    assert (b"X", b"y") in again.fields
