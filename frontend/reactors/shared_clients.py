"""Which clients' sockets a reactor holds duplicates of, so that it can write answers itself.

A duplicate is sent with the first grant of a connection, or before the first offer, and closed when
the connection ends. At most SHARED_MAX are kept. Then the one that was used longest ago, and is not
in use, is closed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import count
from typing import Final

from reactor_run.frontend.exchanges.ports import ClientSocket
from reactor_run.protocol.control_messages import ClientsClosed, ClientShared, ToReactor

__all__ = ["SHARED_MAX", "SharedClients"]

SHARED_MAX: Final = 4096
"""The most duplicates that one reactor keeps, apart from those in use."""


class SharedClients:
    """The duplicates of one reactor: a `SocketHolder` of ports.py."""

    def __init__(self, say: Callable[[ToReactor, int | None], None]) -> None:
        """`say`: sends the reactor a control message, with a descriptor if one is given."""
        self._say = say
        self._numbers = count(1)
        self.numbers: OrderedDict[ClientSocket, int] = OrderedDict()
        """The number of each client's duplicate, in the order of the last use."""

    def share(self, client: ClientSocket) -> int:
        """Send the reactor a duplicate of a client's socket, unless it has one; return its number.

        No two duplicates of one reactor ever have the same number. Raises OSError.
        """
        number = self.find(client)
        if number:
            return number
        number = next(self._numbers)
        descriptor = client.fileno()
        self._say(ClientShared(number, descriptor), descriptor)
        client.held_by(self)
        self.numbers[client] = number
        if len(self.numbers) > SHARED_MAX:
            self._close_oldest()
        return number

    def find(self, client: ClientSocket) -> int:
        """Return the number of the duplicate of a client's socket; 0: there is none."""
        number = self.numbers.get(client, 0)
        if number:
            self.numbers.move_to_end(client)
        return number

    def _close_oldest(self) -> None:
        """Close the duplicate that was used longest ago, unless it is in use now."""
        client, number = next(iter(self.numbers.items()))
        if client.in_use:
            self.numbers.move_to_end(client)
            return
        del self.numbers[client]
        client.not_held_by(self)
        self._say(ClientsClosed([number]), None)

    def client_closed(self, client: ClientSocket) -> None:
        """Let the reactor close a duplicate: the connection has ended."""
        number = self.numbers.pop(client, None)
        if number is not None:
            self._say(ClientsClosed([number]), None)

    def end(self) -> None:
        """Forget all duplicates: the reactor has died."""
        for client in self.numbers:
            client.not_held_by(self)
        self.numbers.clear()

    def __len__(self) -> int:
        return len(self.numbers)
