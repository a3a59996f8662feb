"""The command line of `python -m reactor_run.reactor`."""

from __future__ import annotations

import re

import pytest

from reactor_run.reactor.options import HELP, Options, parse_options


def test_defaults():
    assert parse_options(["--control-fd", "5", "shop:app"]) == Options("shop:app", 5)


def test_values_follow_their_flag_or_an_equals_sign():
    options = parse_options(
        [
            "--name=x",
            "--control-fd=5",
            "--root-path=",
            "--threads",
            "4",
            "--factory",
            "--lane-proxy",
            "off",
            "--multiprocess",
            "--no-sched-yield",
            "--",
            "shop:app",
        ]
    )
    assert options == Options(
        "shop:app",
        5,
        name="x",
        threads=4,
        factory=True,
        multiprocess=True,
        no_sched_yield=True,
        root_path="",
        lane_proxy="off",
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--control-fd=5"], "name one app"),
        (["--control-fd=5", "a:b", "c:d"], "name one app"),
        (["a:b"], "--control-fd is missing"),
        (["--control-fd=x", "a:b"], "--control-fd: 'x' is not a number"),
        (["a:b", "--control-fd"], "--control-fd needs a value"),
        (["--control-fd=5", "--factory=1", "a:b"], "--factory takes no value"),
        (
            ["--control-fd=5", "--runtime=curio", "a:b"],
            "--runtime: expected auto, trio, asyncio or uvloop, not",
        ),
        (["--control-fd=5", "--nonsense", "a:b"], "there is no option --nonsense"),
    ],
)
def test_an_error_is_one_line(words, says, capsys):
    with pytest.raises(SystemExit) as caught:
        parse_options(words)
    assert caught.value.code == 2
    line = capsys.readouterr().err
    assert says in line
    assert line.count("\n") == 1


def test_help_names_every_option_and_its_default(capsys):
    with pytest.raises(SystemExit) as caught:
        parse_options(["--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == HELP
    for name in Options._fields[1:]:
        row = re.search(rf"^  --{name.replace('_', '-')}\b.*$", HELP, re.MULTILINE)
        assert row, name
        default = Options._field_defaults.get(name)
        if default:
            assert row[0].endswith(f"({default})")
