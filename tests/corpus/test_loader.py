"""The loader of the corpus: what it reads, and the errors that it reports."""

from __future__ import annotations

import re

import pytest

from tests.corpus.loader import (
    FOLDER,
    SERVERS,
    Accepted,
    CorpusError,
    Refusal,
    Silence,
    load,
    read_cases,
    unescape,
)
from tests.corpus.reading import limits_of

WHOLE = r"""
# A comment.
== one
server narrow
only wsgi
fin
> GET /a HTTP/1.1\r\n
> \r\n
=> accepted 200 keep
saw GET /a?b
path /\xc3\xa9
version 1.1
field x: a: b
field empty:
no-field y
body one
body  two
=> refused method 400 close

== two
> x
=> silence close
"""


def test_everything_that_a_case_can_say() -> None:
    one, two = read_cases("file.txt", WHOLE)
    assert (one.name, str(one), one.line) == ("one", "file.txt: one", 3)
    assert (one.server, one.only, one.fin, one.keep) == ("narrow", "wsgi", True, False)
    assert one.data == b"GET /a HTTP/1.1\r\n\r\n"
    accepted, refused = one.outcomes
    assert accepted == Accepted(
        keep=True,
        method="GET",
        target="/a?b",
        path="/é",
        version="1.1",
        fields=(("x", "a: b"), ("empty", "")),
        absent=("y",),
        body=b"one two",
    )
    assert refused == Refusal("method", 400)
    assert (two.server, two.only, two.fin) == ("default", None, False)
    assert two.outcomes == (Silence(),)


@pytest.mark.parametrize(
    ("text", "data"),
    [
        (r"a\r\n\t\0\\b", b"a\r\n\t\0\\b"),
        (r"\x00\xfF\x20", b"\0\xff "),
        (r"\(ab*3)c", b"abababc"),
        (r"\(X: y\r\n*2)", b"X: y\r\nX: y\r\n"),
        (r"\(*/* *2)", b"*/* */* "),
        (r"(a*3)", b"(a*3)"),
        ("", b""),
    ],
)
def test_escapes(text: str, data: bytes) -> None:
    assert unescape(text) == data


@pytest.mark.parametrize(
    "text", [r"\q", "\\", r"\x4", r"\xzz", r"\(a*)", r"\(a*0)", r"\(a*2000000)", r"\(\q*2)"]
)
def test_bad_escapes(text: str) -> None:
    with pytest.raises(ValueError, match=r"no such escape|stands for"):
        unescape(text)


CASE = "== a\n> x\n"
SEEN = CASE + "=> accepted 200 keep\nsaw GET /\n"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("> x", 1, "begins with a line"),
        (CASE, 1, "lacks an outcome"),
        ("== a\n=> silence close", 1, "lacks bytes"),
        ("== a\n> x\n\n== b\n> x\n=> silence close", 1, "lacks an outcome"),
        (SEEN + "== a", 5, "'a' above already"),
        (CASE + "=> accepted 200 keep", 1, "lacks what the app"),
        (CASE + "=> accepted 200 keep\n=> silence close", 4, "saw METHOD TARGET"),
        (CASE + "=> silence close\n=> silence close", 4, "has ended above"),
        (CASE + "=> accepted 200 close\nsaw GET /\n=> silence close", 5, "has ended above"),
        (CASE + "=> refused mehtod 400 close", 3, "no rule 'mehtod'"),
        (CASE + "=> refused method 404 close", 3, "answers with 400, not 404"),
        (CASE + "=> refused method 400 keep", 3, "expected `=> accepted"),
        (CASE + "=> accepted", 3, "expected `=> accepted"),
        (CASE + "=> refused method 400 close\nsaw GET /", 4, "below `=> accepted` alone"),
        (CASE + "send x", 3, "'send'"),
        (SEEN + "sees x", 5, "no keyword 'sees'"),
        (SEEN + "field X: y", 5, "lower case"),
        (SEEN + "field x y", 5, "expected `field name: value`"),
        ("== a\n> x\\q", 2, "no such escape"),
        ("== a\n> x ", 2, "white space at the end"),
        ("== a\n> é", 2, "printable ASCII"),
        ("== a\n> a\tb", 2, "printable ASCII"),
        ("== a\nserver fast", 2, "no server 'fast'"),
        ("== a\nonly trio", 2, "asgi or wsgi"),
    ],
)
def test_errors_name_file_and_line(text: str, line: int, says: str) -> None:
    with pytest.raises(CorpusError, match=re.escape(says)) as caught:
        read_cases("some.txt", text)
    assert str(caught.value).startswith(f"some.txt:{line}: ")


def test_the_examples_of_the_readme_are_read() -> None:
    blocks = re.findall(r"(?:^    .*\n|^\n)+", (FOLDER / "README.md").read_text(), re.MULTILINE)
    example = next(block for block in blocks if "==" in block)
    cases = read_cases("README.md", re.sub("^    ", "", example, flags=re.MULTILINE))
    assert [case.keep for case in cases] == [False, True]


def test_the_readme_names_every_keyword() -> None:
    text = (FOLDER / "README.md").read_text()
    for case in load():
        assert case.server == "default" or case.server in SERVERS
    for word in ("server", "only", "fin", "saw", "path", "version", "field", "no-field", "body"):
        assert f"| `{word}" in text


def test_every_server_has_options_that_are_understood() -> None:
    assert {case.server for case in load()} == set(SERVERS)
    for server in SERVERS:
        limits_of(server)
