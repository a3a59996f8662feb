"""What the loop is asked to call from its own thread or another one."""

from __future__ import annotations

import select
from functools import partial

from reactor_run.reactor.loop.call_loop import CallLoop


def test_a_function_that_asks_again_lets_other_events_come_first():
    """A long write goes on this way, and must not keep the loop."""
    loop = CallLoop()
    calls: list[int] = []

    def again():
        calls.append(len(calls))
        loop.call_soon(again)

    loop.call_soon(again)
    for turn in range(3):
        assert select.select([loop.wakeup], [], [], 0)[0]
        loop.on_wakeup(select.EPOLLIN)
        assert calls == list(range(turn + 1))


def test_functions_are_called_in_order():
    loop = CallLoop()
    calls: list[int] = []
    for number in range(3):
        loop.call_soon(partial(calls.append, number))
    loop.on_wakeup(select.EPOLLIN)
    assert calls == [0, 1, 2]
    assert not select.select([loop.wakeup], [], [], 0)[0]
