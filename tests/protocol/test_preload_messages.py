"""The messages of a zygote's channel."""

from __future__ import annotations

from typing import Any

import pytest

from reactor_run.protocol.control import ControlError
from reactor_run.protocol.preload_messages import (
    AppFailed,
    Fork,
    Forked,
    ForkFailed,
    FromZygote,
    NotForkable,
    Preloaded,
    read_for_zygote,
    read_from_zygote,
)


@pytest.mark.parametrize(
    "message",
    [
        Preloaded(),
        NotForkable(["a thread", "a socket"]),
        AppFailed("it failed", "a traceback"),
        AppFailed("it failed", None),
        Forked("reactor 1", 4711),
        ForkFailed("reactor 1", "it failed", None),
        ForkFailed("reactor 1", "it failed", "a traceback"),
    ],
)
def test_a_message_of_the_zygote_is_read_as_it_was_written(message: FromZygote) -> None:
    assert read_from_zygote(message.to_json()) == message


def test_a_request_is_read_with_its_descriptor() -> None:
    written = Fork("reactor 1", multiprocess=True, fd=9).to_json()
    assert written["fd"] is True
    assert read_for_zygote({**written, "fd": 5}) == Fork("reactor 1", multiprocess=True, fd=5)
    assert read_for_zygote({**written, "fd": None}) == Fork("reactor 1", True, None)


def test_words_of_later_versions_are_ignored() -> None:
    assert read_for_zygote({"later": 1}) is None
    assert read_from_zygote({"later": 1}) is None


@pytest.mark.parametrize(
    "message",
    [
        {"forked": 1, "pid": 2},
        {"forked": "reactor 1", "pid": "2"},
        {"forked": "reactor 1"},
        {"failed": None},
        {"failed": "line", "details": 1},
        {"fork_failed": "reactor 1"},
        {"not_forkable": "a thread"},
    ],
)
def test_wrong_types_are_errors(message: dict[str, Any]) -> None:
    with pytest.raises(ControlError):
        read_from_zygote(message)


def test_a_wrong_descriptor_is_an_error() -> None:
    with pytest.raises(ControlError):
        read_for_zygote({"fork": "reactor 1", "multiprocess": True, "fd": "5"})
