"""The hostile corpus of HTTP/1.1 over HTTP/2, as far as it can be expressed there.

A case whose bytes are one request, with one field on each line, becomes a stream with the same
method, target, fields and body. An app that gets it must see what it sees over HTTP/1.1. What is
rejected there must not reach an app here: the client gets the same status, or its stream is reset.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.corpus.loader import SERVERS, Accepted, Case, Refusal, load
from tests.corpus.reading import check_seen
from tests.integration.conftest import Config, Start
from tests.integration.frames import (
    ENHANCE_YOUR_CALM,
    PROTOCOL_ERROR,
    Frames,
    Uploads,
    get,
)

CONFIGS = [Config(), Config("wsgi"), Config("asgi", "plain"), Config("wsgi", "plain")]
TWO_CONFIGS = [CONFIGS[0], CONFIGS[3]]
REQUEST = re.compile(
    rb"(?s)([^ \r\n]*) ([^ \r\n]*) HTTP/1\.1\r\n((?:[^\r\n:]*:(?:(?!\r\n).)*\r\n)*)\r\n(.*)"
)
OF_CONNECTIONS = {
    *(b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade", b"te"),
}
"""Fields that HTTP/2 does not have, or only with one value (RFC 9113 §8.2.2)."""

Fields = list[tuple[bytes, bytes]]


def as_stream(case: Case) -> tuple[Fields, bytes] | None:
    """Return fields and body of a case; None: it cannot be expressed."""
    match = REQUEST.fullmatch(case.data)
    if match is None or len(case.outcomes) != 1 or case.fin:
        return None
    method, target, lines, body = match.groups()
    fields = [(b":method", method), (b":scheme", b"http"), (b":path", target)]
    for line in re.findall(rb"(?s)(?:(?!\r\n).)+\r\n", lines):
        name, _, value = line[:-2].partition(b":")
        stripped = value.strip(b" \t")
        if len(value) - len(stripped) > 10:
            # It is about white space, which cannot surround a value here.
            return None
        fields.append((name.lower(), stripped))
    return fields, body


def may_be_malformed(case: Case, fields: Fields) -> bool:
    """Whether HTTP/2 lacks something that this request has, so that its stream may be reset."""
    path = dict(fields)[b":path"]
    return (
        isinstance(case.outcomes[0], Refusal)
        or path[:1] not in (b"/", b"*")
        or any(name in OF_CONNECTIONS or (name, value) == (b"host", b"") for name, value in fields)
    )


CASES = [(case, stream) for case in load() if (stream := as_stream(case)) is not None]


def test_there_are_cases() -> None:
    assert len(CASES) > 150
    assert {case.server for case, _ in CASES} >= set(SERVERS) - {"hasty"}


def wrong(client: Frames, case: Case, fields: Fields, body: bytes) -> Iterator[str]:
    """Send a case; return what is wrong with the answer."""
    expected = case.outcomes[0]
    try:
        if body:
            uploads = Uploads(client)
            answer = uploads.finish(uploads.begin(list(fields)), body)
        else:
            answer = client.request(list(fields))
    except AssertionError:
        # There is a bound on header lists, however wide the limits are.
        if client.error != ENHANCE_YOUR_CALM or not isinstance(expected, Refusal):
            yield f"{case}: {client.goaways}"
        return
    told = f"{case}: {answer.status} {answer.body[:100]!r}, reset {answer.reset}"
    if answer.reset is not None and not answer.ended:
        # Malformed by the rules of HTTP/2.
        if answer.reset != PROTOCOL_ERROR or not may_be_malformed(case, fields):
            yield told
    elif isinstance(expected, Refusal):
        if answer.status != expected.status:
            yield f"{told}, expected {expected}"
    elif isinstance(expected, Accepted):
        if answer.status != expected.status:
            yield told
        elif expected.method != "HEAD":
            try:
                check_seen(replace(expected, version=None), json.loads(answer.body))
            except AssertionError as error:
                yield f"{told}: {error}"
    followed = client.request(get("/follow-up"))
    if followed.status != 200 or json.loads(followed.body)["target"] != "/follow-up":
        yield f"{case}: what follows is answered with {followed}"


@pytest.mark.parametrize(
    ("config", "name"),
    [
        pytest.param(
            config,
            name,
            id=f"{config}-{name}",
            marks=() if name == "default" or config in TWO_CONFIGS else pytest.mark.slow,
        )
        for config in CONFIGS
        for name in SERVERS
        if name != "hasty"
    ],
)
def test_same_verdicts(shared: Start, config: Config, name: str) -> None:
    app = f"tests.corpus.apps:{config.interface}"
    options = [word for word in SERVERS[name] if not word.startswith("--http2")]
    server = shared(app, *config.options, *options)
    failures: list[str] = []
    for case, (fields, body) in CASES:
        if case.server == name and case.only in (None, config.interface):
            with Frames(server, grants=True) as client:
                failures += wrong(client, case, fields, body)
    assert not failures, "\n".join(failures)
    assert "Traceback" not in server.log()
