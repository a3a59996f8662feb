"""Offers: one word of shared memory, on which two processes agree."""

from __future__ import annotations

import os

import pytest

from reactor_run.native import NATIVE
from reactor_run.offers import OFFERED, TAKEN, WITHDRAWN, WRITTEN
from reactor_run.pulse import OFFER_SLOTS, Pulse

needs_swap = pytest.mark.skipif(not NATIVE, reason="without the C extension there are no offers")

RACES = 20_000


@needs_swap
def test_an_offer_is_taken_once() -> None:
    offers = Pulse().offers
    assert offers.make(7, 3, live=[7])
    assert offers.state(7) == OFFERED
    assert not offers.was_taken(7)
    assert offers.take(7) == 3
    assert offers.state(7) == TAKEN
    assert offers.take(7) == 0
    assert not offers.withdraw(7)
    offers.written(7)
    assert offers.state(7) == WRITTEN
    assert offers.was_taken(7)
    assert not offers.withdraw(7)


@needs_swap
def test_an_offer_that_was_withdrawn_or_refused_cannot_be_taken() -> None:
    offers = Pulse().offers
    for number, end in (7, offers.withdraw), (8, offers.refuse):
        assert offers.make(number, 3, live=[])
        end(number)
        assert offers.state(number) == WITHDRAWN
        assert offers.take(number) == 0
        assert offers.withdraw(number)


@needs_swap
def test_a_taken_offer_may_be_refused_before_a_byte_is_written() -> None:
    offers = Pulse().offers
    assert offers.make(7, 3, live=[])
    assert offers.take(7)
    offers.refuse(7)
    assert offers.withdraw(7)


def test_exchanges_without_an_offer() -> None:
    offers = Pulse().offers
    assert offers.state(7) == WITHDRAWN
    assert offers.take(7) == 0
    offers.refuse(7)
    assert offers.withdraw(7)
    assert not offers.was_taken(7)


@needs_swap
def test_exchanges_with_the_same_words() -> None:
    """The second one has no offer until the first one is over, and the first never gets that."""
    offers = Pulse().offers
    first, second = 7, 7 + OFFER_SLOTS
    assert offers.make(first, 3, live=[first])
    assert not offers.make(second, 4, live=[first, second])
    assert offers.state(second) == WITHDRAWN
    assert offers.make(second, 4, live=[second])
    assert offers.take(first) == 0
    offers.refuse(first)
    assert offers.take(second) == 4


@needs_swap
def test_of_two_processes_only_one_has_its_way() -> None:
    """One takes each offer and the other withdraws it, both as fast as they can."""
    pulse, descriptor = Pulse.share()
    offers = pulse.offers
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        taken = 0
        for number in range(1, RACES):
            while not (got := offers.take(number)) and pulse.begun[0] < number:
                pass
            taken += bool(got)
        os.write(write, taken.to_bytes(4, "big"))
        os._exit(0)
    withdrawn = 0
    for number in range(1, RACES):
        offers.make(number, number, live=[])
        withdrawn += offers.withdraw(number)
        # The other process looks at the next one once it has missed this one.
        pulse.begun[0] = number
    taken = int.from_bytes(os.read(read, 4), "big")
    os.waitpid(child, 0)
    assert withdrawn + taken == RACES - 1
    for each in (descriptor, read, write):
        os.close(each)
    pulse.close()


@needs_swap
def test_words_outside_of_the_memory_cannot_be_swapped() -> None:
    from reactor_run.native import swap_word

    memory = memoryview(bytearray(24))[:16].cast("Q")
    assert swap_word(memory, 1, 0, 5)
    assert memory.tolist() == [0, 5]
    assert not swap_word(memory, 1, 0, 6)
    with pytest.raises(IndexError):
        swap_word(memory, 2, 0, 5)
    with pytest.raises(BufferError):
        swap_word(b"12345678", 0, 0, 5)  # type: ignore[arg-type]
    with pytest.raises(OverflowError):
        swap_word(memory, 0, 0, 1 << 64)
