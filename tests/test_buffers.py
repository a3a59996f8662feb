"""Buffers: shared memory by which one process gives another pieces of request bodies."""

from __future__ import annotations

import os

import pytest

from reactor_run.buffers import BUFFER_SIZE
from reactor_run.native import NATIVE
from reactor_run.pulse import BUFFERS, Pulse

pytestmark = pytest.mark.skipif(not NATIVE, reason="without the C extension there are no buffers")


def test_what_is_read_into_a_buffer_is_taken_once() -> None:
    buffers = Pulse().request_buffers
    space = buffers.space()
    assert space is not None
    assert len(space) == BUFFER_SIZE
    space[:5] = b"hello"
    assert buffers.holds(space[:5])
    number = buffers.use()
    assert buffers.take(number, 5) == b"hello"
    with pytest.raises(ValueError, match="is free"):
        buffers.take(number, 5)


def test_a_buffer_that_was_not_used_is_returned_again() -> None:
    buffers = Pulse().request_buffers
    first, again = buffers.space(), buffers.space()
    assert first is not None
    assert again is not None
    first[:2] = b"xy"
    assert bytes(again[:2]) == b"xy"


def test_when_all_are_used_there_is_none_until_one_is_taken() -> None:
    buffers = Pulse().request_buffers
    numbers = []
    while (space := buffers.space()) is not None:
        numbers.append(buffers.use())
        space[:1] = bytes([numbers[-1]])
    assert sorted(numbers) == list(range(BUFFERS))
    for number in numbers[5], numbers[9]:
        assert buffers.take(number, 1) == bytes([number])
    assert buffers.space() is not None
    assert {buffers.use(), buffers.use() if buffers.space() is not None else -1} == {5, 9}
    assert buffers.space() is None


@pytest.mark.parametrize(("number", "size"), [(BUFFERS, 1), (1 << 31, 1), (0, BUFFER_SIZE + 1)])
def test_a_buffer_that_does_not_exist_is_not_taken(number: int, size: int) -> None:
    with pytest.raises(ValueError, match="no buffer"):
        Pulse().request_buffers.take(number, size)


def test_other_memory_is_no_buffer() -> None:
    buffers = Pulse().request_buffers
    assert not buffers.holds(b"hello")
    assert not buffers.holds(memoryview(bytearray(5)))
    assert not buffers.holds(Pulse().request_buffers.space() or b"")


def test_pieces_are_put_one_after_another() -> None:
    buffers = Pulse().answer_buffers
    number = buffers.put([b"abc", memoryview(b"de"), b""], 5)
    assert number is not None
    assert buffers.take(number, 5) == b"abcde"
    assert buffers.put([b"x" * (BUFFER_SIZE + 1)], BUFFER_SIZE + 1) is None
    numbers = [buffers.put([b"y" * BUFFER_SIZE], BUFFER_SIZE) for _ in range(BUFFERS + 1)]
    assert numbers.pop() is None
    assert sorted(filter(None, numbers)) == list(range(1, BUFFERS))


def test_the_directions_share_no_buffer() -> None:
    pulse = Pulse()
    one = pulse.request_buffers.put([b"request"], 7)
    two = pulse.answer_buffers.put([b"answer!"], 7)
    assert one is not None
    assert two is not None
    assert pulse.request_buffers.take(one, 7) == b"request"
    assert pulse.answer_buffers.take(two, 7) == b"answer!"


def test_another_process_takes_them() -> None:
    pulse, descriptor = Pulse.share()
    other = Pulse(descriptor)
    os.close(descriptor)
    for round_ in range(BUFFERS * 3):
        space = pulse.request_buffers.space()
        assert space is not None
        space[:] = bytes([round_ % 251]) * BUFFER_SIZE
        del space
        assert (
            other.request_buffers.take(pulse.request_buffers.use(), BUFFER_SIZE)
            == bytes([round_ % 251]) * BUFFER_SIZE
        )
    pulse.close()
    other.close()
