"""The loop's deadlines, batches and descriptors. Where possible, tests set its clock by hand."""

from __future__ import annotations

import select
import socket
from math import inf
from time import monotonic

import pytest

from reactor_run.frontend.loop.epoll import Loop, Timer


class Item:
    def __init__(self) -> None:
        self.deadline = self.check_at = inf
        self.calls = 0

    def on_deadline(self) -> None:
        self.calls += 1


@pytest.fixture
def loop() -> Loop:
    loop = Loop()
    loop.now = 1000.0
    return loop


def pass_time(loop: Loop, seconds: float) -> None:
    loop.now += seconds
    loop._sweep()


def test_a_deadline_is_met_within_an_eighth_of_a_second_after_it(loop: Loop) -> None:
    item = Item()
    loop.set_deadline(item, 5.1)
    pass_time(loop, 5.05)
    assert item.calls == 0
    pass_time(loop, 0.18)
    assert item.calls == 1
    pass_time(loop, 100)
    assert item.calls == 1


def test_a_deadline_can_be_moved_later_by_an_assignment(loop: Loop) -> None:
    item = Item()
    loop.set_deadline(item, 2)
    item.deadline = loop.now + 10
    pass_time(loop, 5)
    assert item.calls == 0
    pass_time(loop, 7)
    assert item.calls == 1


def test_a_deadline_can_be_moved_earlier(loop: Loop) -> None:
    item = Item()
    loop.set_deadline(item, 60)
    loop.set_deadline(item, 1)
    pass_time(loop, 3)
    assert item.calls == 1


def test_zero_seconds_is_never(loop: Loop) -> None:
    item = Item()
    loop.set_deadline(item, 2)
    loop.set_deadline(item, 0)
    pass_time(loop, 1000)
    assert item.calls == 0


def test_a_forgotten_item_is_not_kept(loop: Loop) -> None:
    item = Item()
    loop.set_deadline(item, 2)
    loop.forget(item)
    pass_time(loop, 10)
    assert item.calls == 0
    assert not any(loop._due.values())


def test_a_deadline_set_by_a_deadline_is_met(loop: Loop) -> None:
    second = Item()

    class First(Item):
        def on_deadline(self) -> None:
            loop.set_deadline(second, 1)

    loop.set_deadline(First(), 1)
    pass_time(loop, 3)
    pass_time(loop, 3)
    assert second.calls == 1


def test_the_loop_wakes_for_the_earliest_deadline_and_only_for_that() -> None:
    loop = Loop()
    batches: list[float] = []
    began = monotonic()
    loop.after_batch(lambda: batches.append(monotonic() - began))
    loop.set_deadline(Timer(lambda: None), 60)
    loop.set_deadline(Timer(loop.stop), 0.5)
    loop.run()
    assert len(batches) <= 2
    assert 0.49 <= batches[-1] < 1.5


def test_a_number_is_not_given_to_a_new_socket_within_the_batch() -> None:
    """Otherwise an event for the closed socket would reach the new socket with its number."""
    loop = Loop()
    a, b = socket.socketpair()
    c, d = socket.socketpair()
    numbers = {a.fileno(), c.fileno()}
    reached: list[int] = []

    def on_first(_: int) -> None:
        # Both are readable in this batch. The first handler closes the other socket and opens a new
        # one.
        reached.append(0)
        for sock in (a, c):
            loop.unwatch(sock.fileno())
            loop.bury(sock)
        new = socket.socket()
        assert new.fileno() not in numbers
        new.close()
        loop.stop()

    loop.watch(a.fileno(), select.EPOLLIN, on_first)
    loop.watch(c.fileno(), select.EPOLLIN, on_first)
    b.send(b"x")
    d.send(b"x")
    loop.run()
    assert reached == [0]
    assert a.fileno() == c.fileno() == -1
    b.close()
    d.close()


def test_work_waits_for_the_end_of_the_batch() -> None:
    loop = Loop()
    order: list[str] = []
    pairs = [socket.socketpair() for _ in range(3)]
    for ours, theirs in pairs:
        loop.watch(ours.fileno(), select.EPOLLIN, lambda _: order.append("event"))
        theirs.send(b"x")

    def work() -> None:
        order.append("work")
        loop.stop()

    loop.after_batch(work)
    loop.run()
    assert order == ["event"] * 3 + ["work"]
    for pair in pairs:
        for sock in pair:
            sock.close()


def test_a_long_rest_is_not_counted_by_the_second(loop: Loop) -> None:
    loop.now += 1e10
    item = Item()
    loop.set_deadline(item, 5)
    pass_time(loop, 1.1)
    assert item.calls == 0
    pass_time(loop, 5)
    assert item.calls == 1


def test_calls_that_are_last_stay_last(loop: Loop) -> None:
    calls: list[str] = []

    def end() -> None:
        calls.append("third")
        loop.stop()

    loop.after_batch(end, last=True)
    loop.after_batch(lambda: calls.append("first"))
    loop.after_batch(lambda: calls.append("second"))
    loop.defer(lambda: None)
    loop.run()
    assert calls == ["first", "second", "third"]
