"""Flags of other servers are answered with ours, and the page on them names what exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reactor_run.frontend.command.argv import sort_words
from reactor_run.frontend.command.foreign import SERVERS, Row, answer_flags, reference
from reactor_run.frontend.command.help import build_parser
from reactor_run.frontend.command.settings import OPTIONS
from reactor_run.frontend.errors import OperatorError
from tests.cases import loop_over

PAGE = Path(__file__).parents[3] / "docs" / "migrating.md"
OURS = {option.flag: option for option in OPTIONS} | {option.short: option for option in OPTIONS}
KNOWN = build_parser()._option_string_actions
ROWS = [(server, row) for server, rows in SERVERS.items() for row in rows]


def test_the_page_ends_with_the_tables_as_generated() -> None:
    assert PAGE.read_text().endswith(reference())


@loop_over("server, row", ROWS)
def test_our_flags_in_the_tables_exist(server: str, row: Row) -> None:
    known = KNOWN
    for flag in re.findall(r"(?<![\w-])--?[a-zA-Z][a-z0-9-]*", f"{row.ours} {row.note}"):
        assert flag in known, flag
    if row.ours.startswith("--"):
        flag, _, value = row.ours.partition(" ")
        assert bool(value) is not OURS[flag].switch
    assert row.ours or row.note
    flags = row.theirs.split()
    assert flags
    assert all(re.fullmatch(r"-[a-zA-Z]|--[a-z0-9][a-z0-9_-]+", flag) for flag in flags)


def test_no_server_has_a_flag_in_two_rows() -> None:
    for rows in SERVERS.values():
        flags = [flag for row in rows for flag in row.theirs.split()]
        assert len(flags) == len(set(flags))


@loop_over("server, row", ROWS)
def test_each_flag_that_is_not_ours_is_answered(server: str, row: Row) -> None:
    for flag in row.theirs.split():
        if flag not in KNOWN:
            with pytest.raises(OperatorError, match=f"there is no {flag}: .*docs/migrating.md$"):
                sort_words(["shop:app", flag, "x"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--host", "0.0.0.0"], "there is no --host: use --bind HOST:PORT; see docs/migrating.md"),
        (["--host=::", "--port=1"], "there is no --host or --port: use --bind HOST:PORT; see docs"),
        (["-w", "4", "-w", "5"], "there is no -w: use --reactors N (gunicorn, hypercorn), or the "),
        (["-w4", "--uds", "/x"], "; there is no --uds: use --bind unix:/PATH; see docs/migrating"),
        (["-k", "gevent"], "there is no -k: use --runtime RUNTIME; see docs/migrating.md"),
        (["--timeout-keep-alive", "1"], "use --keep-alive SECONDS (75 s by default, not 5 s); see"),
        (
            ["--ssl-keyfile", "x"],
            "there is no --ssl-keyfile: use --keyfile FILE; see docs/migrating",
        ),
        (["--bogus", "--workers=2"], "there is no --workers: use --reactors N; see docs/migrating"),
    ],
)
def test_answers(words: list[str], says: str) -> None:
    with pytest.raises(OperatorError) as caught:
        sort_words(["shop:app", *words])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_words_that_no_server_knows_are_left_to_argparse() -> None:
    assert answer_flags(["shop:app", "--bogus", "--", "--host"]) is None
    with pytest.raises(OperatorError, match=r"unrecognized arguments: --bogus \(see"):
        sort_words(["shop:app", "--bogus"])


@pytest.mark.parametrize("word", ["--thread=2", "--Threads", "--threds"])
def test_a_flag_that_is_similar_to_ours_names_it(word: str) -> None:
    with pytest.raises(OperatorError, match=f"arguments: {word}; the nearest is --threads"):
        sort_words(["shop:app", word])
