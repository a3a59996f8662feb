"""Offers: the front end lets a reactor write an answer to the client before it knows the answer.

The front end makes an offer just before it sends the request. The reactor takes the offer just
before it writes the first byte to the client. The front end withdraws the offer before it answers
by itself, or lets another reactor answer. Two words of shared memory (pulse.py) tell of each offer.
The reactor and the front end change the first one by compare-and-swap, so only one of them
succeeds. So the front end knows whether an answer has begun, even if the reactor has died without a
message.

    first word           the offer of exchange N
    4 * N + OFFERED      was made
    4 * N + TAKEN        was taken: the client may have a part of the answer
    4 * N + WRITTEN      was taken: the client has the whole answer
    anything else        was not made, or was withdrawn

The second word is the number of the duplicate of the client's socket. Exchanges whose numbers
differ by a multiple of the number of words share their words. Only one of them has an offer at a
time.

Without the C extension nothing can be swapped, so there are no offers.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from reactor_run.native import NATIVE, swap_word

__all__ = ["OFFERED", "TAKEN", "WITHDRAWN", "WRITTEN", "Offers"]

WITHDRAWN: Final = 0
OFFERED: Final = 1
TAKEN: Final = 2
WRITTEN: Final = 3


class Offers:
    """The offers to one reactor."""

    possible = NATIVE
    """Whether there are any."""

    def __init__(self, words: memoryview[int], duplicates: memoryview[int]) -> None:
        """`words`, `duplicates`: the first and the second words of all offers, of 8 bytes each."""
        self._words = words
        self._duplicates = duplicates
        self._slots = len(words)

    def release(self) -> None:
        """Release the memory."""
        self._words.release()
        self._duplicates.release()

    def state(self, number: int) -> int:
        """Return what became of the offer of exchange `number`: one of the constants, in their
        order."""
        word = self._words[number % self._slots]
        return word & 3 if word >> 2 == number else WITHDRAWN

    def was_taken(self, number: int) -> bool:
        """Return whether the reactor has begun to write the answer of exchange `number`."""
        return self.state(number) >= TAKEN

    # In the front end ----------------------------------------------------------------------------

    def make(self, number: int, duplicate: int, live: Container[int]) -> bool:
        """Make an offer for exchange `number`; return whether its words were free.

        `duplicate`: the number of the duplicate of its client's socket. `live`: the numbers of all
        exchanges that are not over.
        """
        slot = number % self._slots
        if self._words[slot] >> 2 in live:
            return False
        self._duplicates[slot] = duplicate
        self._words[slot] = number << 2 | OFFERED
        return True

    def withdraw(self, number: int) -> bool:
        """Withdraw an offer; return False if the reactor has taken it."""
        word = number << 2 | OFFERED
        return swap_word(self._words, number % self._slots, word, 0) or not self.was_taken(number)

    # In the reactor ------------------------------------------------------------------------------

    def take(self, number: int) -> int:
        """Take an offer, and return the number of the duplicate; 0: there is no offer."""
        slot = number % self._slots
        word = number << 2
        if swap_word(self._words, slot, word | OFFERED, word | TAKEN):
            return self._duplicates[slot]
        return 0

    def refuse(self, number: int) -> None:
        """Let the front end answer. The offer may have been taken, if nothing was written."""
        if self.state(number) != WITHDRAWN:
            self._words[number % self._slots] = WITHDRAWN

    def written(self, number: int) -> None:
        """Note that the client has the whole answer, whose offer was taken."""
        self._words[number % self._slots] = number << 2 | WRITTEN
