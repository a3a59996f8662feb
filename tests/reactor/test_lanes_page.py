"""docs/lanes.md: its example works, and its tables list every message and number."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from reactor_run import pulse
from reactor_run.buffers import BUFFER_SIZE
from reactor_run.frontend.reactors.express_lane import SHARED_AFTER
from reactor_run.protocol import express
from reactor_run.protocol.control_messages import (
    ToFrontEnd,
    ToReactor,
    read_for_front_end,
    read_for_reactor,
)
from reactor_run.pulse import BUFFERS, OFFER_SLOTS, SLOTS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "lanes.md").read_text()
STANDS_FOR = {
    "[[N, CODE, RECEIVED, SENT], …]": "[[1, 1000, 2, 3]]",
    "CODE": "1012",
    "[N, …]": "[1]",
    "SECONDS": "0.5",
    "ROUTE": '"GET /"',
    "LINE": '"line"',
    "TEXT": '"text"',
    **dict.fromkeys("EKNSX", "1"),
}


def section(heading: str) -> str:
    """The text below a heading, up to the next one."""
    (text,) = re.findall(rf"^#+ {heading}\n(.*?)(?=^#|\Z)", PAGE, re.DOTALL | re.MULTILINE)
    return str(text)


def messages(heading: str) -> list[dict[str, Any]]:
    """The messages in the first column of a section's table, with values for its placeholders."""
    found = []
    for row in re.findall(r"^\| (`\{.*?) \| ", section(heading), re.MULTILINE):
        for text in re.findall(r"`(\{.*?\})`", row):
            for placeholder, value in STANDS_FOR.items():
                text = re.sub(rf'(?<!["\w]){re.escape(placeholder)}(?!["\w])', value, text)
            message = json.loads(text)
            if message.get("fd"):
                # `control` puts it there in this form.
                message["fd"] = 7
            found.append(message)
    return found


def test_the_example_does_what_its_comments_say() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    run = subprocess.run(
        [sys.executable, "-"], input=example, cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert run.returncode == 0, run.stderr
    promised = re.findall(r"print\(.*#  ?(.*)", example)
    printed = run.stdout.splitlines()
    assert len(printed) == len(promised) == 3
    for line, promise in zip(printed, promised, strict=True):
        assert line.startswith(promise.removesuffix("...")), run.stderr


@pytest.mark.parametrize(
    ("heading", "read", "every"),
    [
        ("From the front end", read_for_reactor, ToReactor),
        ("From the reactor", read_for_front_end, ToFrontEnd),
    ],
    ids=["to a reactor", "to the front end"],
)
def test_the_page_lists_every_message_with_its_form(
    heading: str, read: Callable[[dict[str, Any]], Any], every: object
) -> None:
    listed = messages(heading)
    assert {type(read(message)) for message in listed} == set(get_args(every))
    for message in listed:
        word = read(message).to_json()
        assert set(word) == set(message), message


# The page and both processes call these by one name.
NAMES = {"CREDIT_FOR_ANSWER": "CREDIT", "CREDIT_FOR_BODY": "CREDIT"}
TO_REACTOR = [
    *("REQUEST", "FIN", "GONE", "CANCEL", "WITHDRAW"),
    *("BODY", "CREDIT_FOR_ANSWER", "GRANT", "RELAY", "BUFFERED"),
]
TO_FRONT_END = [
    *("ANSWER_DONE", "ANSWER", "DONE", "WITHDRAWN", "BEGIN", "ASK", "BYTES", "END", "ABORT"),
    *("INTERIM", "CREDIT_FOR_BODY", "BLOCKED", "MOVES", "WRITTEN", "GIVE_BACK", "PART", "STORED"),
]


@pytest.mark.parametrize(
    ("heading", "names"),
    [("Kind | From the front end", TO_REACTOR), ("Kind | From the reactor", TO_FRONT_END)],
)
def test_the_page_lists_every_kind_of_the_express_lane(heading: str, names: list[str]) -> None:
    table = PAGE.partition(f"| {heading} |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `([EF][0-9A-F])` (\w+) \|", table, re.MULTILINE)
    kinds = {int(kind, 16): name for kind, name in rows}
    assert kinds == {getattr(express, name): NAMES.get(name, name) for name in names}


def test_the_numbers_of_the_page_are_those_of_the_code() -> None:
    assert f"from 0 to {SLOTS - 1}." in section("From the front end")
    assert f"at most {express.EXPRESS_MAX // 1024} KiB" in section("The express lane")
    assert f"{express.WINDOW // 1024} KiB" in section("Windows")
    assert f"at least {express.WRITTEN_MIN // 1024} KiB" in section("Offers")
    assert f"after {SHARED_AFTER} whole responses" in section("Offers")
    assert f"modulo {OFFER_SLOTS}" in section("The pulse")
    assert f"2 \u00d7 {BUFFERS} buffers of {BUFFER_SIZE // 1024} KiB" in section("The pulse")
    assert f"{pulse._SIZE:,} bytes" in section("The pulse")
