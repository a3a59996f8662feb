"""Three parsers read the same streams: h11 and llhttp must frame what we accept as we do.

If a front end reads a stream differently from its proxy or its app server, a client's body can be
taken for another client's request. So each difference in what a message is, or where it ends, is a
failure, unless it is listed in `KNOWN`. A peer that rejects a message is only stricter.

With CI set, hypothesis tries the same streams each time. `check_many` always does.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from reactor_run.protocol import policy
from reactor_run.protocol.body import body_reader
from reactor_run.protocol.policy import Limits, Rejected
from reactor_run.protocol.request import (
    ParsedHead,
    Rewritten,
    judge_request_head,
    parse_request_head,
    read_relayed_head,
)
from tests.cases import loop_over
from tests.corpus.loader import Case, load
from tests.protocol.peers import (
    End,
    Message,
    Reading,
    difference,
    read_by_h11,
    read_by_llhttp,
    read_by_us,
)
from tests.protocol.streams import Choices, mutate, request_stream

# The widest policy: other path policies only reject more.
LIMITS = Limits(path_policy="pass")
CASES = load()
PEERS: dict[str, Callable[[bytes], Reading]] = {"h11": read_by_h11, "llhttp": read_by_llhttp}
MADE = st.binary(min_size=60, max_size=160).map(lambda data: request_stream(Choices(data)))


STREAMS = MADE | st.builds(
    # A changed connection of the corpus, and a generated stream after it.
    lambda case, data, more: mutate(Choices(data), case.data) + more,
    st.sampled_from([case for case in CASES if not case.large]),
    st.binary(max_size=12),
    st.just(b"") | MADE,
)


@dataclass(frozen=True)
class Known:
    """A known difference whose cause is in the peer."""

    peer: str
    difference: str
    when: Callable[[Message], bool]
    """Whether the last message that the peer read has the known cause."""
    why: str
    example: bytes


def values(message: Message, name: bytes) -> bytes:
    """Return all values of a field, as one list in lower case."""
    return b",".join(value for each, value in message.fields if each == name).lower()


def has(message: Message, name: bytes) -> bool:
    return any(each == name for each, _ in message.fields)


def asks_llhttp_for_upgrade(message: Message) -> bool:
    return has(message, b"upgrade") and any(
        b"upgrade" in values(message, name) for name in (b"connection", b"proxy-connection")
    )


# A trailer section with Connection or Proxy-Connection: close in it.
CLOSE_IN_TRAILERS = re.compile(
    rb"\r\n0+(?:;[^\r]*)?\r\n(?:[^\r]+\r\n)*(?:proxy-)?connection:[^\r]*close[^\r]*\r\n", re.I
)
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"

KNOWN = [
    Known(
        "h11",
        "only we go on: CLOSED",
        lambda message: (
            message.minor_version == 0 and b"keep-alive" in values(message, b"connection")
        ),
        "h11 keeps no connection of HTTP/1.0",
        b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + NEXT,
    ),
    Known(
        "h11",
        "only we go on: UPGRADED",
        lambda message: has(message, b"upgrade"),
        "h11 reads on once the upgrade was declined, and we decline every one",
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n" + NEXT,
    ),
    Known(
        "llhttp",
        "only we go on: UPGRADED",
        asks_llhttp_for_upgrade,
        "llhttp leaves it to its user whether an upgrade takes place, and we decline every one",
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n" + NEXT,
    ),
    Known(
        "llhttp",
        "body: UPGRADED",
        asks_llhttp_for_upgrade,
        "httptools skips the body of such a request; declined, it has one (RFC 9110 §7.8)",
        b"PUT / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\nConnection: upgrade\r\n"
        b"Content-Length: 1\r\n\r\n1" + NEXT,
    ),
    Known(
        "llhttp",
        "only we go on: CLOSED",
        lambda message: b"close" in values(message, b"proxy-connection"),
        "llhttp takes Proxy-Connection, which no RFC knows, for Connection",
        b"GET / HTTP/1.1\r\nHost: a\r\nProxy-Connection: close\r\n\r\n" + NEXT,
    ),
    Known(
        "llhttp",
        "only we go on: CLOSED",
        lambda message: CLOSE_IN_TRAILERS.search(message.raw) is not None,
        "llhttp lets a trailer field do what only a header field may (RFC 9110 §6.5.1)",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\nConnection: close\r\n\r\n" + NEXT,
    ),
]


def is_known(peer: str, what: str, ours: Reading, theirs: Reading) -> bool:
    last = ours.messages[len(theirs.messages) - 1] if theirs.messages else None
    return last is not None and any(
        known.peer == peer and known.difference == what and known.when(last) for known in KNOWN
    )


def check(stream: bytes) -> Counter[str]:
    """Fail if a peer reads a stream that we accept differently; return how often it agreed or
    rejected."""
    ours = read_by_us(stream, LIMITS)
    verdicts: Counter[str] = Counter()
    if not ours.messages:
        return verdicts
    for peer, read in PEERS.items():
        theirs = read(stream)
        what = difference(ours, theirs)
        if what is None:
            stricter = theirs.end is End.REFUSED and len(theirs.whole) < len(ours.whole)
            verdicts[f"{peer} {'refuses' if stricter else 'agrees'}"] += 1
        else:
            assert is_known(peer, what, ours, theirs), (
                f"{what}\nstream {stream!r}\nwe     {ours}\n{peer:6} {theirs}"
            )
            verdicts[f"{peer} is known to differ"] += 1
    return verdicts


def check_relayed(stream: bytes) -> int:
    """Fail if the reactor reads a head differently from the front end; return the number of
    heads."""
    at = count = 0
    while at < len(stream):
        try:
            head = parse_request_head(stream[at:], LIMITS)
        except Rewritten as rewritten:
            # The bytes after the head were not rewritten.
            stream, at = rewritten.data, 0
            continue
        except Rejected:
            break
        if head is None:
            break
        # With and without the bytes after it, in one piece and with a delayed end.
        whole = stream[at : at + head.size]
        for relayed in (
            read_relayed_head(stream[at:]),
            read_relayed_head(whole),
            read_relayed_head(whole, head.size - 1),
            read_relayed_head(whole, head.size // 2),
        ):
            assert relayed is not None
            for name in ("method", "target", "minor_version", "fields", "size", "body"):
                assert getattr(relayed, name) == getattr(head, name), (name, whole)
            assert relayed.expect_continue == head.expect_continue or not head.body, whole
        count += 1
        body = body_reader(head.body)
        try:
            at = body.feed(stream, at + head.size)
        except Rejected:
            break
        if not body.complete:
            break
    return count


def check_many(count: int, seed: int) -> None:
    random = Random(seed)
    for _ in range(count):
        stream = request_stream(Choices(random.randbytes(120)))
        check(stream)
        check_relayed(stream)


@settings(max_examples=1200)
@given(STREAMS)
def test_peers_frame_what_we_accept_as_we_do(stream: bytes) -> None:
    for verdict in check(stream):
        event(verdict)


@settings(max_examples=600)
@given(STREAMS)
def test_the_reactor_reads_what_the_front_end_accepts_alike(stream: bytes) -> None:
    event(f"{check_relayed(stream)} heads")


@loop_over("case", CASES, ids=str)
def test_peers_frame_the_corpus_as_we_do(case: Case) -> None:
    check(case.data)
    check_relayed(case.data)


def test_the_corpus_is_mostly_agreed_on() -> None:
    verdicts: Counter[str] = Counter()
    for case in CASES:
        if not case.large:
            verdicts += check(case.data)
    for peer in PEERS:
        assert verdicts[f"{peer} agrees"] > 3 * verdicts[f"{peer} refuses"], verdicts


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_peers_frame_what_we_accept_as_we_do_many_times() -> None:
    check_many(200_000, seed=1)


# That the tests above can fail ------------------------------------------------------------------


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: f"{known.peer} {known.why}")
def test_known_differences_still_are(known: Known) -> None:
    ours, theirs = read_by_us(known.example), PEERS[known.peer](known.example)
    assert difference(ours, theirs) == known.difference
    assert is_known(known.peer, known.difference, ours, theirs)


def message(**changes: object) -> Message:
    made = Message(b"POST", b"/", 1, ((b"host", b"a"),), b"ab", 40)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


CUT = {"end": None, "body": b"a"}


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (Reading([message()]), Reading([message()]), None),
        (Reading([message()]), Reading([message(method=b"PUT")]), "method"),
        (Reading([message()]), Reading([message(target=b"/b")]), "target"),
        (Reading([message()]), Reading([message(minor_version=0)]), "minor_version"),
        (Reading([message()]), Reading([message(fields=())]), "fields"),
        (Reading([message()]), Reading([message(body=b"abc")]), "body"),
        (Reading([message()]), Reading([message(end=41)]), "body"),
        (Reading([message()]), Reading([message(**CUT)]), "body"),
        (Reading([message(**CUT)]), Reading([message()]), "body"),
        (Reading([message(**CUT)], End.REFUSED), Reading([message()]), None),
        (Reading([message()]), Reading([message(**CUT)], End.REFUSED), None),
        (Reading([message()]), Reading([], End.REFUSED), None),
        (Reading([message()]), Reading([]), "only we go on: WAITING"),
        (Reading([message()]), Reading([], End.CLOSED), "only we go on: CLOSED"),
        (Reading([]), Reading([message()]), "only they go on"),
        (Reading([], End.REFUSED), Reading([message()]), None),
        (Reading([message()]), Reading([message(body=b"")], End.UPGRADED), "body: UPGRADED"),
        (Reading([message()], End.CLOSED), Reading([message(), message()]), None),
    ],
)
def test_differences_that_count_are_reported(
    ours: Reading, theirs: Reading, expected: str | None
) -> None:
    assert difference(ours, theirs) == expected


def test_generated_streams_reach_most_rules() -> None:
    random = Random(1)
    rules: Counter[str] = Counter()
    whole: Counter[int] = Counter()
    for _ in range(6000):
        reading = read_by_us(request_stream(Choices(random.randbytes(120))))
        whole[len(reading.whole)] += 1
        if reading.rule is not None:
            rules[reading.rule.name] += 1
    assert whole[0] < 0.6 * whole.total(), whole
    assert whole[2] + whole[3] + whole[4] > 0.15 * whole.total(), whole
    # Rules that no stream of a few hundred bytes can break, and rules that need time.
    beyond = {"too-long", "too-many", "too-large", "timeout", "overhead", "incomplete"}
    wanted = {name for name in policy.RULES if not any(name.endswith(word) for word in beyond)}
    wanted = {name for name in wanted if not name.startswith(("proxy-", "tls-"))}
    assert wanted - set(rules) == set()


@pytest.mark.parametrize(("odd", "usual"), [(b", ", b""), (b"_", b"-")], ids=["list", "underscore"])
def test_a_planted_error_is_found(
    odd: bytes, usual: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A front end that reads an oddity as something usual: `Content-Length: 1, 1` as 11, or
    `Content_Length` as a framing field."""

    def lenient(data: bytes, limits: Limits) -> ParsedHead | None:
        head, end, rest = data.partition(b"\r\n\r\n")
        read = judge_request_head(head.replace(odd, usual) + end + rest, limits)
        if read is not None:
            read.size = len(head + end)
        return read

    monkeypatch.setattr("tests.protocol.peers.parse_request_head", lenient)
    with pytest.raises(AssertionError, match="stream"):
        check_many(20_000, seed=2)
