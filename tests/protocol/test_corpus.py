"""The corpus against the head parser and the body reader, without sockets, cut in every way."""

from __future__ import annotations

from reactor_run.protocol.policy import RULES
from tests.cases import loop_over
from tests.corpus.loader import Case, Refusal, load
from tests.corpus.reading import (
    Connection,
    at_random,
    check_outcomes,
    limits_of,
)

CASES = load()
# Cases of the deadlines are left out: `protocol` has no clock. tests/integration/test_corpus.py
# runs them.
TIMED = {"head-timeout", "body-timeout"}
READ = [
    case
    for case in CASES
    if not any(isinstance(o, Refusal) and o.rule in TIMED for o in case.outcomes)
]
SEEDS = range(5)


def run(case: Case, pieces: list[bytes]) -> None:
    connection = Connection(limits_of(case.server))
    for piece in pieces:
        connection.receive(piece)
    if case.fin:
        connection.end()
    check_outcomes(case, connection)


@loop_over("case", READ, ids=str)
def test_whole(case: Case) -> None:
    run(case, [case.data])
    # A second reading must give the same: no bad value may have been remembered.
    run(case, [case.data])


@loop_over("case", [case for case in READ if not case.large], ids=str)
def test_byte_by_byte(case: Case) -> None:
    run(case, [bytes([byte]) for byte in case.data])


@loop_over("case", READ, ids=str)
def test_in_random_pieces(case: Case) -> None:
    for seed in SEEDS:
        run(case, at_random(case.data, f"{case} {seed}"))


def test_every_rule_for_requests_has_a_case() -> None:
    shown = {o.rule for case in CASES for o in case.outcomes if isinstance(o, Refusal)}
    # Those of the connection itself have tests of their own.
    assert {name for name in RULES if not name.startswith(("proxy-", "tls-"))} == shown


def test_there_are_many_cases_that_all_differ() -> None:
    assert len(CASES) >= 400
    assert len({(case.server, case.fin, case.only, case.data) for case in CASES}) == len(CASES)
