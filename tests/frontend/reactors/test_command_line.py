"""The command line of a reactor process, as the reactor parses it."""

from __future__ import annotations

import pytest

from reactor_run.frontend.command.settings import Settings
from reactor_run.frontend.launch import StartDirectory
from reactor_run.frontend.reactors.command_line import CommandLine
from reactor_run.reactor.options import Options, parse_options


def options(**settings: object) -> Options:
    command = CommandLine(
        Settings(app="shop:app", **settings),  # type: ignore[arg-type]
        StartDirectory({}),
    )
    words = command.make(5, "reactor 1", multiprocess=False)
    return parse_options(words[words.index("reactor_run.reactor") + 1 :])


@pytest.mark.parametrize("switch", ["on", "off"])
def test_sched_yield_is_passed_to_reactors(switch: str) -> None:
    assert options(sched_yield=switch).no_sched_yield is (switch == "off")


@pytest.mark.parametrize("answers", ["direct", "relay"])
def test_how_answers_are_written_is_passed_to_reactors(answers: str) -> None:
    assert options(answers=answers).answers == answers
