"""A command line that is sorted without argparse is sorted as argparse would."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from reactor_run.frontend.command.argv import answer_switches, sort_words
from reactor_run.frontend.command.foreign import answer_flags
from reactor_run.frontend.command.help import build_parser
from reactor_run.frontend.command.settings import OPTIONS
from reactor_run.frontend.errors import OperatorError

FLAGS = st.sampled_from(
    [flag for option in OPTIONS if not option.positional for flag in (option.flag, option.short)]
).filter(bool)
TEXTS = st.sampled_from(
    ["2", "shop:app", ":80", "a b", "a=b", "=", "", "-", "-1", "--", "-h-", "ü"]
)
WORDS = st.lists(
    FLAGS
    | TEXTS
    # "--flag=--" is left out: argparse makes an empty list of that text.
    | st.builds("{}={}".format, FLAGS, TEXTS.filter("--".__ne__))
    | st.sampled_from(
        ["--thread", "--threads ", "--thread=2", "-x", "-threads", "-r2", "-b:80", "-br"]
    )
    | st.text(max_size=5)
)
COMMAND = st.permutations(
    [["shop:app"], ["--threads", "4"], ["--bind=:80"], ["--bind", "[::1]:2"], ["--factory"]]
).map(lambda parts: [word for part in parts for word in part])


def by_argparse(words: list[str]) -> object:
    try:
        return vars(build_parser().parse_args(words))
    except (OperatorError, SystemExit) as error:
        return repr(error)


@given(WORDS | COMMAND)
def test_words_are_sorted_as_argparse_sorts_them(words: list[str]) -> None:
    assume(answer_flags(words) is None and answer_switches(words) is None)
    result: object
    try:
        result = sort_words(words)
    except (OperatorError, SystemExit) as error:
        result = repr(error)
    assert result == by_argparse(words)


@pytest.mark.parametrize(
    "words", [["--reload", "on", "a:b"], ["--reload=off", "a:b"], ["a:b", "--reload", "0"]]
)
def test_a_switch_takes_no_value(words: list[str]) -> None:
    with pytest.raises(OperatorError, match="--reload takes no value; remove '"):
        sort_words(words)


def test_a_plain_command_line_needs_no_argparse() -> None:
    child = (
        "import sys; from reactor_run.frontend.command.argv import sort_words; "
        "sort_words(['--bind', ':80', '--threads=4', '--factory', 'shop:app']); "
        "print('argparse' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
