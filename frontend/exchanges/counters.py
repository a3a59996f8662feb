"""What has happened since the start, in numbers. Whoever does it counts it, by one increment.

What others count anyway is not counted here: `status` puts it all together.
"""

from __future__ import annotations

from collections import Counter

__all__ = ["Counters"]


class Counters:
    """Numbers that only grow."""

    def __init__(self) -> None:
        self.answers = [0] * 256
        """Answers that clients were given, whoever made them, at the ASCII code of the first digit
        of their status: so the byte of a status line that is only relayed is the index."""
        self.own_answers: Counter[int] = Counter()
        """Those among them that the front end made in the place of the app, by status."""
        self.refused: Counter[str] = Counter()
        """Requests that broke a rule of the policy, by its name."""
        self.served_by_the_dead = 0
        """Exchanges that were given to reactors which have ended."""
        self.reactor_deaths = 0
        """Reactors that ended by themselves after the service had become ready."""

    def answered(self, status: int) -> None:
        """A client is given an answer."""
        self.answers[48 + status // 100] += 1

    def answered_here(self, status: int) -> None:
        """A client is given an answer of the front end's own."""
        self.answered(status)
        self.own_answers[status] += 1

    def answers_by_class(self) -> dict[str, int]:
        """From `2xx` to `5xx`."""
        return {f"{digit}xx": self.answers[48 + digit] for digit in range(2, 6)}
