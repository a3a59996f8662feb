"""The messages of the control channel: written messages are read back, and others are rejected."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reactor_run.protocol.control import ControlDecoder, ControlError, encode_control
from reactor_run.protocol.control_messages import (
    Cancel,
    CapacityChanged,
    ClientsClosed,
    ClientShared,
    ExpressOpened,
    Failed,
    LaneOpened,
    LanesDone,
    Ping,
    Pong,
    PulseShared,
    Ready,
    RouteIsSlow,
    Stop,
    ToFrontEnd,
    ToReactor,
    TurnEnded,
    Withdraw,
    read_for_front_end,
    read_for_reactor,
)

TO_REACTOR: list[ToReactor] = [
    ExpressOpened(7),
    ExpressOpened(None),
    PulseShared(7),
    LaneOpened(3, 12, 7),
    LaneOpened(3, 0, None),
    ClientShared(5, 7),
    ClientShared(5, None),
    ClientsClosed([5]),
    ClientsClosed([5, 6]),
    Cancel(3),
    Withdraw(3),
    Ping(1),
    Stop(1.5),
]
TO_FRONT_END: list[ToFrontEnd] = [
    Ready("asgi", 1000, inline=False),
    Ready("asgi", 1000, inline=False, runtime="uvloop", reason="the app imports asyncpg"),
    Ready("wsgi", 1, inline=True),
    Failed("no app", None),
    Failed("no app", "Traceback …"),
    CapacityChanged(64),
    LanesDone([1, 2], [], []),
    LanesDone([], [3], []),
    LanesDone([1], [3], []),
    LanesDone([], [], [4, 5]),
    TurnEnded(0.25),
    TurnEnded(0.0),
    RouteIsSlow(b"GET /\xe9", 0.05),
    Pong(1),
]


def over_the_wire(message: ToReactor | ToFrontEnd) -> dict[str, Any]:
    """Return what the other side decodes, with the descriptor that the kernel hands over."""
    descriptor = getattr(message, "fd", None)
    (received,) = ControlDecoder().feed(encode_control(message.to_json()), [descriptor])
    return received


@pytest.mark.parametrize("message", TO_REACTOR, ids=repr)
def test_what_is_written_to_a_reactor_is_read_again(message: ToReactor) -> None:
    assert read_for_reactor(over_the_wire(message)) == message


@pytest.mark.parametrize("message", TO_FRONT_END, ids=repr)
def test_what_is_written_to_the_front_end_is_read_again(message: ToFrontEnd) -> None:
    assert read_for_front_end(over_the_wire(message)) == message


@pytest.mark.parametrize("read", [read_for_reactor, read_for_front_end])
def test_an_unknown_word_is_ignored(read: Any) -> None:
    assert read({"later": 1}) is None
    assert read({}) is None


@pytest.mark.parametrize(
    "line",
    [
        '{"lane":"3"}',
        '{"lane":3,"slot":"x"}',
        '{"lane":true}',
        '{"client":null}',
        '{"client":"5","fd":true}',
        '{"closed":5}',
        '{"closed":["5"]}',
        '{"closed":[null]}',
        '{"cancel":1.5}',
        '{"stop":"soon"}',
        '{"stop":null}',
    ],
)
def test_a_wrong_value_for_a_reactor_is_rejected(line: str) -> None:
    with pytest.raises(ControlError):
        read_for_reactor(json.loads(line))


@pytest.mark.parametrize(
    "line",
    [
        '{"done":3}',
        '{"done":["3"]}',
        '{"drop":[null]}',
        '{"turn":"x"}',
        '{"slow":1,"seconds":1}',
        '{"slow":"\\u20ac","seconds":1}',
        '{"capacity":"many"}',
        '{"ready":[]}',
        '{"ready":{"interface":1,"capacity":1}}',
        '{"ready":{"interface":"asgi","capacity":"x"}}',
        '{"failed":1}',
        '{"failed":"x","details":1}',
    ],
)
def test_a_wrong_value_for_the_front_end_is_rejected(line: str) -> None:
    with pytest.raises(ControlError):
        read_for_front_end(json.loads(line))
