"""The meaning of a SIGHUP to a process that was started in a terminal."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from reactor_run.frontend.loop import signals
from reactor_run.frontend.loop.epoll import Loop
from reactor_run.frontend.loop.signals import Terminal


class Shell:
    """A terminal, and the leader of its session."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
        self.is_open = True
        monkeypatch.setattr(os, "getsid", lambda _: self.process.pid)
        monkeypatch.setattr(signals, "has_terminal", lambda: self.is_open)

    def end(self) -> None:
        self.process.communicate()


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    shell = Shell(monkeypatch)
    yield shell
    shell.end()


def turn(loop: Loop) -> None:
    """Let the loop see that the shell has ended."""
    loop.after_batch(loop.stop)
    loop.run()


def test_while_there_is_a_terminal_sighup_is_an_operators(shell: Shell) -> None:
    with Terminal(Loop()) as terminal:
        assert not terminal.closes


def test_a_sighup_from_a_shell_that_lives_closes(shell: Shell) -> None:
    with Terminal(Loop()) as terminal:
        shell.is_open = False
        assert terminal.closes


def test_a_sighup_soon_after_the_shell_has_ended_closes(shell: Shell) -> None:
    loop = Loop()
    with Terminal(loop) as terminal:
        shell.is_open = False
        shell.end()
        turn(loop)
        assert terminal.closes


def test_a_sighup_long_after_the_shell_has_ended_is_an_operators(shell: Shell) -> None:
    """The shell has disowned this process. Otherwise the signal would have come earlier."""
    loop = Loop()
    with Terminal(loop) as terminal:
        shell.is_open = False
        shell.end()
        turn(loop)
        loop.now += 10
        assert not terminal.closes
