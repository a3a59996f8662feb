"""Buffers: shared memory by which one process gives another pieces of request bodies."""

from __future__ import annotations

import os

import pytest

from reactor_run.buffers import BUFFER_SIZE
from reactor_run.native import NATIVE
from reactor_run.pulse import BUFFERS, Pulse

pytestmark = pytest.mark.skipif(not NATIVE, reason="without the C extension there are no buffers")


def test_what_is_read_into_a_buffer_is_taken_once() -> None:
    buffers = Pulse().buffers
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
    buffers = Pulse().buffers
    first, again = buffers.space(), buffers.space()
    assert first is not None
    assert again is not None
    first[:2] = b"xy"
    assert bytes(again[:2]) == b"xy"


def test_when_all_are_used_there_is_none_until_one_is_taken() -> None:
    buffers = Pulse().buffers
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
        Pulse().buffers.take(number, size)


def test_other_memory_is_no_buffer() -> None:
    buffers = Pulse().buffers
    assert not buffers.holds(b"hello")
    assert not buffers.holds(memoryview(bytearray(5)))
    assert not buffers.holds(Pulse().buffers.space() or b"")


def test_another_process_takes_them() -> None:
    pulse, descriptor = Pulse.share()
    other = Pulse(descriptor)
    os.close(descriptor)
    for round_ in range(BUFFERS * 3):
        space = pulse.buffers.space()
        assert space is not None
        space[:] = bytes([round_ % 251]) * BUFFER_SIZE
        del space
        assert (
            other.buffers.take(pulse.buffers.use(), BUFFER_SIZE)
            == bytes([round_ % 251]) * BUFFER_SIZE
        )
    pulse.close()
    other.close()
