"""Whether a reactor would begin an exchange at once, and that it is asked to tell if not."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from reactor_run.frontend.loop.epoll import Loop
from reactor_run.frontend.reactors.attention import Attention
from reactor_run.pulse import Pulse


@pytest.fixture
def pulse() -> Iterator[Pulse]:
    pulse, descriptor = Pulse.share()
    os.close(descriptor)
    yield pulse
    pulse.close()


def test_a_reactor_that_is_not_stalled_is_asked_nothing(pulse: Pulse) -> None:
    attention = Attention(Loop(), pulse, list)
    assert attention.attentive
    assert pulse.awaited[0] == 0


def test_a_stalled_reactor_is_asked_to_tell_when_it_is_not(pulse: Pulse) -> None:
    attention = Attention(Loop(), pulse, list)
    pulse.since[0] = time.monotonic() - 1
    assert not attention.attentive
    assert pulse.awaited[0] == 1


def test_a_step_that_ends_just_before_the_question_is_seen(pulse: Pulse) -> None:
    """The reactor reads the byte too early, and tells nothing."""
    one: list[Any] = [object()]
    looks = iter([[], one, []])
    attention = Attention(Loop(), pulse, lambda: next(looks))
    attention.turned(1.0, 0)
    assert attention.attentive
    assert pulse.awaited[0] == 1
