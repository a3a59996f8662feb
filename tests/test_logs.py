"""The form of log lines, in both processes."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor_run.frontend.log import configure as configure_front_end
from reactor_run.log_format import LineFormatter
from reactor_run.logs import RepeatLimit, printable, request_name
from reactor_run.reactor.log import configure as configure_reactor


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/plain?a=b c", "/plain?a=b c"),
        ("/caf\xe9", "/caf\xe9"),
        ("\x1b[2K", r"\x1b[2K"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("\x9b1m\x7f\x00", r"\x9b1m\x7f\x00"),
        ("\u2028\u202e\udcff", r"\u2028\u202e\udcff"),
        (b"\x1b\xe9", "\\x1b\xe9"),
    ],
)
def test_characters_that_act_on_a_terminal_are_escaped(text: str | bytes, shown: str) -> None:
    assert printable(text) == shown


@given(st.text() | st.binary())
def test_any_text_becomes_printable(text: str | bytes) -> None:
    assert printable(text).isprintable()


def test_the_name_of_a_request_is_bounded() -> None:
    assert request_name(b"GET", b"/a\x1b?secret") == r"GET /a\x1b"
    name = request_name(b"GET", b"/" + b"a" * 5000)
    assert name.startswith("GET /aaa")
    assert name.endswith("...")
    assert len(name) == 200


@given(st.text())
def test_no_record_looks_like_two(text: str) -> None:
    record = logging.LogRecord("any", logging.WARNING, "", 0, "%s", (text,), None)
    first, *rest = LineFormatter("reactor 1").format(record).split("\n")
    assert " warning reactor 1: " in first
    assert first.isprintable()
    assert all(line.startswith("  ") and line.isprintable() for line in rest)


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """The logger of both processes, restored after the test."""
    log = logging.getLogger("reactor_run.error")
    before = log.handlers[:], log.level, log.propagate, log.__class__
    yield log
    log.handlers[:], log.level, log.propagate, log.__class__ = before


def test_both_processes_escape_all_of_a_record(
    log: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    for process in ("front end", "reactor"):
        if process == "reactor":
            configure_reactor("info", "reactor 1")
        else:
            configure_front_end("info")
        try:
            raise RuntimeError("\x1b[2K\u2028")
        except RuntimeError:
            log.exception("failed in %s", "\x1b]0;title\x07")
        written = capfd.readouterr().err
        assert "failed in \\x1b]0;title\\x07" in written, process
        assert "RuntimeError: \\x1b[2K\\u2028" in written, process
        assert all(line.isprintable() for line in written.split("\n")), process


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limited(clock: Clock, caplog: pytest.LogCaptureFixture) -> RepeatLimit:
    log = logging.getLogger("tests.logs")
    caplog.set_level(logging.INFO, log.name)
    return RepeatLimit(log, clock)


def test_a_line_that_repeats_is_counted_instead(
    limited: RepeatLimit, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(1000):
        limited.warning("%s took %.1f s too long", f"GET /{number}", 1.0)
    limited.warning("another")
    assert [record.getMessage() for record in caplog.records] == [
        *(f"GET /{number} took 1.0 s too long" for number in range(RepeatLimit.BURST)),
        "another",
    ]
    caplog.clear()
    clock.now += RepeatLimit.PERIOD
    limited.warning("another")
    limited.warning("%s took %.1f s too long", "GET /again", 2.0)
    assert [record.getMessage() for record in caplog.records] == [
        "left out 990 more lines like this one: ... took ... s too long",
        "another",
        "GET /again took 2.0 s too long",
    ]
    caplog.clear()
    clock.now += RepeatLimit.PERIOD
    limited.warning("another")
    assert [record.getMessage() for record in caplog.records] == ["another"]


def test_lines_of_several_kinds_are_counted_apart(
    limited: RepeatLimit, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(RepeatLimit.BURST + 1):
        limited.error("failed", kind="here")
    limited.error("failed", kind="there")
    limited.error("failed", kind="here")
    assert len(caplog.records) == RepeatLimit.BURST + 1


def test_lines_below_the_level_are_not_counted(
    limited: RepeatLimit, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(100):
        limited.debug("a detail")
    assert not caplog.records
    assert not limited._counts


def test_kinds_that_an_app_invents_do_not_make_it_grow(limited: RepeatLimit) -> None:
    for number in range(5000):
        limited.error("failed", kind=number)
    assert len(limited._counts) <= 1000
