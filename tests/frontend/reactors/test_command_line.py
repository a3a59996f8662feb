"""The command line of a reactor process, as the reactor parses it."""

from __future__ import annotations

import os

import pytest

from reactor_run.frontend.command.settings import Settings
from reactor_run.frontend.launch import StartDirectory
from reactor_run.frontend.reactors.command_line import CommandLine
from reactor_run.protocol.own_fields import read_own_field
from reactor_run.reactor.options import Options, parse_options


def options(**settings: object) -> Options:
    command = CommandLine(
        Settings(app="shop:app", **settings),  # type: ignore[arg-type]
        StartDirectory({}),
    )
    words = list(command.make(5, "reactor 1", multiprocess=False).words)
    return parse_options(words[words.index("reactor_run.reactor") + 1 :])


@pytest.mark.parametrize("switch", ["on", "off"])
def test_sched_yield_is_passed_to_reactors(switch: str) -> None:
    assert options(sched_yield=switch).no_sched_yield is (switch == "off")


def test_fields_of_answers_are_passed_to_reactors() -> None:
    assert (options().header, options().no_server_header, options().no_date_header) == (
        (),
        False,
        False,
    )
    header = ((b"X-A", b"1=2"), (b"x-b", b"caf\xe9"))
    passed = options(header=header, no_server_header=True, no_date_header=True)
    assert [read_own_field(os.fsencode(text)) for text in passed.header] == list(header)
    assert passed.no_server_header
    assert passed.no_date_header


@pytest.mark.parametrize("answers", ["direct", "relay"])
def test_how_answers_are_written_is_passed_to_reactors(answers: str) -> None:
    assert options(answers=answers).answers == answers
