"""Counts events since the start of the service.

The part that causes an event increments its counter. Figures that a part keeps for its own use are
not repeated here. `status` reports both.
"""

from __future__ import annotations

from collections import Counter

__all__ = ["Counters"]


class Counters:
    """Counters of one service. They only grow."""

    def __init__(self) -> None:
        self.answers = [0] * 256
        """Answers sent to clients, those of apps and of the front end. The index is the ASCII code
        of the first digit of the status, which a relayed status line contains as it is."""
        self.own_answers: Counter[int] = Counter()
        """Answers that the front end made itself, by status. `answers` counts them too."""
        self.refused: Counter[str] = Counter()
        """Requests rejected for breaking a rule of the policy, by the name of the rule."""
        self.http2_connections = 0
        """Connections that spoke HTTP/2."""
        self.http2_refused = 0
        """Streams of these that were refused: their client had as many as it may."""
        self.websockets = 0
        """Connections that became WebSockets."""
        self.served_by_the_dead = 0
        """Exchanges that were given to reactors that have ended since."""
        self.in_pieces = 0
        """Answers that did not arrive whole. On plain lanes all arrive so."""
        self.grants = 0
        """Of these, answers whose reactor was allowed to write to the client itself."""
        self.grants_given_back = 0
        """Of these, answers whose rest was relayed all the same."""

        self.handshakes: Counter[str] = Counter()
        """TLS handshakes that succeeded, by version, as in `TLSv1.3`."""
        self.failed_handshakes: Counter[str] = Counter()
        """TLS handshakes that failed, by reason."""

    def answered(self, status: int) -> None:
        """Count an answer to a client."""
        self.answers[48 + status // 100] += 1

    def answered_here(self, status: int) -> None:
        """Count an answer to a client that the front end made itself."""
        self.answered(status)
        self.own_answers[status] += 1

    def answers_by_class(self) -> dict[str, int]:
        """Return the number of answers by class of status, from `2xx` to `5xx`."""
        return {f"{digit}xx": self.answers[48 + digit] for digit in range(2, 6)}
