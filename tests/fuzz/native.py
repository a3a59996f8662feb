"""Fuzz target: the reader in C (protocol/_head.c) against the policy, and against the builders.

What C accepts, the policy accepts with the same meaning; and an app sees the same of it. C never
decides alone what is rejected, so nothing else is compared.

`python -m tests.fuzz.native [SECONDS] [HEADS] [SEED]` makes heads and compares for so long, or so
many, without a fuzzer.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from random import Random
from time import monotonic
from typing import Final

from reactor_run.protocol._head import read_head
from reactor_run.protocol.environ import EnvironBuilder
from reactor_run.protocol.origin import NOWHERE, Origin
from reactor_run.protocol.policy import FIELD_COUNT_MAX, Limits, Rejected
from reactor_run.protocol.request import ParsedHead, Rewritten, judge_request_head
from reactor_run.protocol.scope import ScopeBuilder
from tests.corpus.loader import load
from tests.fuzz.inputs import WHOLE, split_input

NARROW: Final = Limits(request_line=60, field_count=5, field_size=60, head_size=250, body_size=99)
DEFAULT: Final = Limits()
WIDE: Final = Limits(1 << 16, FIELD_COUNT_MAX, 1 << 16, 1 << 20, 0, "pass")
NORMALIZING: Final = Limits(path_policy="normalize")
EACH: Final = (DEFAULT, NARROW, WIDE, NORMALIZING)

ORIGINS: Final = (
    Origin(("192.0.2.7", 4711), ("127.0.0.1", 8000)),
    Origin(("192.0.2.7", 4711), ("127.0.0.1", 8000), "https"),
    Origin(("2001:db8::1", 0), ("::1", 8000)),
    Origin(("192.0.2.7", 0), ("/run/web.sock", None), http2=True),
    Origin(None, ("127.0.0.1", 8000)),
    NOWHERE,
)


def check(data: bytes) -> None:
    control, content = split_input(data)
    check_head(content, EACH[control[0] % len(EACH)])


def check_head(data: bytes, limits: Limits) -> bool:
    """Compare what C and the policy read at the start of `data`; return whether C accepts it."""
    head = read_head(data, limits.bounds)
    if head is None:
        return False
    try:
        judged = judge_request_head(data, limits)
    except Rejected as rejected:
        raise AssertionError(f"C accepts what breaks {rejected.rule.name}: {data!r}") from None
    except Rewritten:
        raise AssertionError(f"C accepts what must be rewritten: {data!r}") from None
    assert judged is not None, f"C accepts what is incomplete: {data!r}"
    for name in ParsedHead.__slots__:
        ours, theirs = getattr(head, name), getattr(judged, name)
        assert ours == theirs, f"{name}: {ours!r}, not {theirs!r}: {data!r}"
        assert type(ours) is type(theirs), name
    assert head.line == judged.line, f"{head.line!r}, not {judged.line!r}: {data!r}"
    names = (*(name.lower() for name, _ in judged.fields), b"host", b"missing")
    assert head.values(names) == judged.values(names), repr(data)
    origin = ORIGINS[len(data) % len(ORIGINS)]
    for built in (SCOPES, ENVIRONS, ENVIRONS_WITH_ALL):
        ours, theirs = built.build(head, origin), built.build(judged, origin)
        assert ours == theirs, f"{ours!r}, not {theirs!r}: {data!r}"
    return True


SCOPES: Final = ScopeBuilder("/mounted", {"a": 1}, {"b": {}})
ENVIRONS: Final = EnvironBuilder("/mounted", multithread=False, multiprocess=False)
ENVIRONS_WITH_ALL: Final = EnvironBuilder(multithread=False, multiprocess=False, underscores="keep")


def seeds() -> Iterator[bytes]:
    for number, data in enumerate((*REQUESTS, *LINES_OF_HEADS)):
        yield bytes([number % len(EACH)]) + WHOLE[1:] + data
    for case in load():
        if not case.large:
            yield WHOLE + case.data


# Heads that are made from a seed ------------------------------------------------------------------

REQUESTS: Final = (
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /item/17?q=119 HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nCookie: session=00000011\r\n\r\n",
    b"GET /shoes/item-17?page=3&sort=price HTTP/1.1\r\nHost: shop.example\r\n"
    b'Connection: keep-alive\r\nsec-ch-ua: "Chromium";v="129"\r\nsec-ch-ua-mobile: ?0\r\n'
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: text/html,*/*;q=0.8\r\n"
    b"Sec-Fetch-Site: same-origin\r\nAccept-Encoding: gzip, br\r\nCookie: a=1; b=2\r\n\r\n",
    b"POST /v1/events HTTP/1.1\r\nhost: api.example:443\r\nuser-agent: python-httpx/0.27\r\n"
    b"authorization: Bearer abc.def\r\ncontent-type: application/json\r\ncontent-length: 2\r\n"
    b"x-forwarded-for: 192.0.2.1\r\n\r\n{}",
    b"HEAD /a HTTP/1.0\r\nX-Real-IP: 192.0.2.1\r\nConnection: close\r\n\r\n",
)
"""Requests that C accepts, to be changed."""

LINES_OF_HEADS: Final = (
    b"Transfer-Encoding: chunked\r\n", b"Content_Length: 5\r\n", b"content-length: 5\r\n",
    b"Content-Length: 0\r\n", b"Content-Length: +5\r\n", b"Content-Length: 05\r\n",
    b"Content-Length: 5 \r\n", b"Content Length: 5\r\n", b"Content.Length: 5\r\n",
    b"Content-Length: 99\r\n", b"Content-Length: 100\r\n", b"Transfer_Encoding: chunked\r\n",
    b"Host: a\r\n", b"Host:\r\n", b"Host: [::1]:80\r\n", b"Host: a:65536\r\n", b"Host: a_b:1\r\n",
    b"Connection: close\r\n", b"Connection: Keep-Alive\r\n", b"Connection: upgrade, close\r\n",
    b"Connection: \t,keep-alive ,\r\n", b"Connection: TE,Close\r\n", b"Upgrade: h2c\r\n",
    b"Expect: 100-continue\r\n", b"TE: trailers\r\n", b"Keep-Alive: 5\r\n", b"Proxy: x\r\n",
    b"Proxy-Connection: x\r\n", b"X_Y: z\r\n", b"X-Y: z\r\n", b"Cookie: b=2\r\n",
    b"Content-Type: a\r\n", b"Content_Type: b\r\n", b"X: \x01\r\n", b" fold\r\n", b"X : y\r\n",
    b": y\r\n", b"X: a\rb\r\n", b"X: a\nY: b\r\n", b"X:\t v \t\r\n", b"X:\r\n", b"X: \x80\xff\r\n",
    b"\xe4: y\r\n", b"!#$%&'*+-.^_`|~: y\r\n", b"X: " + b"y" * 50 + b"\r\n",
)  # fmt: skip
"""Field lines to be put in, good and bad."""

PIECES: Final = (
    b"\r", b"\n", b"\0", b" ", b"\t", b":", b"%", b"%41", b"#", b"/.", b"/../", b"/", b"?", b"\x80",
    b"\x7f", b"//", b"*", b"http://x/", b"HTTP/1.0", b"HTTP/1.1", b"CONNECT ", b"a" * 300, b"\r\n",
    b"\r\n\r\n", b"\\", b",", b"-", b"_", b"0", b"9" * 9,
)  # fmt: skip


def changed(random: Random, data: bytes) -> bytes:
    """Return `data` with one change."""
    at = random.randrange(len(data) + 1)
    line = data.find(b"\r\n", at) + 2
    match random.randrange(8):
        case 0:
            return data[:at] + random.randbytes(1) + data[at + 1 :]
        case 1:
            return data[:at] + data[at + random.randrange(1, 4) :]
        case 2:
            return data[:at] + random.choice(PIECES) + data[at:]
        case 3:
            return data[:at] + data[at : at + 9].swapcase() + data[at + 9 :]
        case 4 if random.random() < 0.2:
            return data[:at]
        case 5:
            # The end of one head behind the start of another.
            return data[:line] + random.choice(REQUESTS)[line:]
        case 6:
            lines = data.split(b"\r\n")
            lines.insert(random.randrange(len(lines)), random.choice(lines))
            return b"\r\n".join(lines)
        case _:
            return data[:line] + random.choice(LINES_OF_HEADS) + data[line:] if line > 1 else data


def compare(seconds: float, count: int, seed: int) -> tuple[int, int]:
    """Compare heads for so long, but at most `count`; return how many, and how many C accepted."""
    random = Random(seed)
    requests = (*REQUESTS, *(case.data for case in load() if len(case.data) < 1000))
    ends = monotonic() + seconds
    compared = accepted = 0
    while compared < count and (compared % 1000 or monotonic() < ends):
        data = random.choice(REQUESTS if random.random() < 0.9 else requests)
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            data = changed(random, data)
        compared += 1
        accepted += check_head(data, random.choice(EACH))
    return compared, accepted


def main(argv: list[str]) -> None:
    seconds = float(argv[1]) if len(argv) > 1 else 60.0
    count = int(argv[2]) if len(argv) > 2 else sys.maxsize
    seed = int(argv[3]) if len(argv) > 3 else Random().randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    compared, accepted = compare(seconds, count, seed)
    print(f"{compared} heads, {accepted} accepted by C, each as the policy reads it")


if __name__ == "__main__":
    main(sys.argv)
