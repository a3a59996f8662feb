"""The corpus against `protocol` alone: a connection without sockets, and its requests."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from reactor_run.frontend.cli import read_settings
from reactor_run.protocol import policy
from reactor_run.protocol.body import BodyReader, body_reader
from reactor_run.protocol.environ import EnvironBuilder
from reactor_run.protocol.origin import NOWHERE
from reactor_run.protocol.policy import Limits, Rejected
from reactor_run.protocol.request import (
    RequestHead,
    Rewritten,
    parse_request_head,
    read_relayed_head,
)
from reactor_run.protocol.scope import ScopeBuilder
from tests.corpus.apps import Seen, seen_in_environ, seen_in_scope
from tests.corpus.loader import SERVERS, Accepted, Case, Outcome, Refusal, Silence

SCOPES = ScopeBuilder()
ENVIRONS = EnvironBuilder(multithread=False, multiprocess=False)


@cache
def limits_of(server: str) -> Limits:
    """Return the limits that a server of the corpus makes of its options."""
    settings = read_settings([*SERVERS[server], "an.app:app"], {})
    return Limits(
        request_line=settings.limit_request_line,
        field_count=settings.limit_field_count,
        field_size=settings.limit_field_size,
        head_size=settings.limit_head_size,
        body_size=settings.max_body_size,
        path_policy=settings.path_policy,
    )


def in_pieces(data: bytes, sizes: Iterable[int]) -> list[bytes]:
    """Return `data` cut into pieces of these sizes. The last piece takes the rest."""
    pieces = []
    for size in sizes:
        if not data:
            break
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data] if data else pieces


def at_random(data: bytes, seed: str) -> list[bytes]:
    """Return `data` cut at random places, the same for the same seed. Large data has larger
    pieces."""
    dice = random.Random(seed)
    most = max(20, len(data) // 20)
    return in_pieces(data, (dice.randint(1, most) for _ in range(len(data))))


@dataclass
class Request:
    """One accepted request, as both interfaces show it."""

    scope: Seen
    environ: Seen
    keep: bool


class Connection:
    """Reads a client's bytes as the front end does, and then as the reactor does."""

    def __init__(self, limits: Limits) -> None:
        self.requests: list[Request] = []
        self.refused: str | None = None
        self.closed = False
        self._limits = limits
        self._start = b""
        """The bytes of the head so far."""
        self._seen = 0
        self._head: RequestHead | None = None
        self._body: BodyReader = body_reader(0)
        self._content: list[bytes] = []

    def receive(self, data: bytes) -> None:
        """Read more bytes."""
        try:
            while data and not self.closed:
                data = self._read(data)
        except Rejected as rejected:
            self.refused = rejected.rule.name
            self.closed = True

    def end(self) -> None:
        """Read the end of the client's stream."""
        if self._head is not None and not self.closed:
            self.refused = policy.BODY_INCOMPLETE.name
        self.closed = True

    def _read(self, data: bytes) -> bytes:
        """Read on; return the bytes that belong to a later request."""
        if self._head is None:
            self._start += data
            self._head = self._read_head()
            if self._head is None:
                self._seen = len(self._start)
                return b""
            data = self._start[self._head.size :]
            self._start = self._start[: self._head.size]
            self._body = body_reader(self._head.body)
        end = self._body.feed(data, 0, self._content)
        if 0 < self._limits.body_size < self._body.received:
            raise Rejected(policy.BODY_TOO_LARGE)
        if self._body.complete:
            self._finish(self._head)
        return data[end:]

    def _read_head(self) -> RequestHead | None:
        try:
            return parse_request_head(self._start, self._limits, self._seen)
        except Rewritten as rewritten:
            self._start = rewritten.data
            return parse_request_head(self._start, self._limits)

    def _finish(self, head: RequestHead) -> None:
        """Keep the request, which is complete."""
        relayed = read_relayed_head(self._start)
        assert relayed is not None
        for name in ("method", "target", "minor_version", "fields", "size", "body"):
            assert getattr(relayed, name) == getattr(head, name), name
        content = b"".join(self._content)
        scope = SCOPES.build(relayed, NOWHERE)
        environ = ENVIRONS.build(relayed, NOWHERE)
        self.requests.append(
            Request(
                seen_in_scope(scope, content), seen_in_environ(environ, content), head.keep_alive
            )
        )
        self.closed = not head.keep_alive
        self._start = b""
        self._seen = 0
        self._head = None
        self._content = []


def check_seen(expected: Accepted, seen: Seen) -> None:
    """Compare what an app saw with what the case says."""
    wanted = {"method": expected.method, "target": expected.target}
    wanted["body"] = expected.body.decode("latin-1")
    if expected.path is not None:
        wanted["path"] = expected.path
    if expected.version is not None:
        wanted["version"] = expected.version
    for key, value in wanted.items():
        assert seen[key] == value, f"{key}: {seen[key]!r:.200}, not {value!r:.200}"
    for name, value in expected.fields:
        assert seen["fields"].get(name) == value, f"{name}: {seen['fields'].get(name)!r}"
    for name in expected.absent:
        assert name not in seen["fields"], f"{name} is there"


def check_outcomes(case: Case, connection: Connection) -> None:
    """Compare the outcomes of a connection with what the case says."""
    outcomes: list[Outcome] = list(case.outcomes)
    last = outcomes[-1]
    expected = last.rule if isinstance(last, Refusal) else None
    assert connection.refused == expected, f"refused by {connection.refused}, not {expected}"
    accepted = [outcome for outcome in outcomes if isinstance(outcome, Accepted)]
    assert len(connection.requests) == len(accepted), f"{len(connection.requests)} were accepted"
    for outcome, request in zip(accepted, connection.requests, strict=True):
        if case.only != "wsgi":
            check_seen(outcome, request.scope)
        if case.only != "asgi":
            check_seen(outcome, request.environ)
        assert case.fin or request.keep == outcome.keep, f"keep: {request.keep}"
    assert connection.closed == (not case.keep or case.fin), f"closed: {connection.closed}"
    assert not isinstance(last, Silence) or case.fin
