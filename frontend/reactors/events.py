"""What a reactor tells whoever owns it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from reactor_run.frontend.errors import OperatorError

if TYPE_CHECKING:
    from reactor_run.frontend.exchanges.exchange import Exchange
    from reactor_run.frontend.reactors.reactor import Reactor

__all__ = ["Operation", "Owner"]


class Owner(Protocol):
    """Who starts, replaces and stops reactors."""

    def reactor_ready(self, reactor: Reactor) -> None:
        """It has loaded and started the app."""

    def reactor_failed(self, reactor: Reactor, message: str, details: str | None) -> None:
        """It could not; it exits by itself."""

    def reactor_has_room(self, reactor: Reactor) -> None:
        """One of its exchanges is over, its capacity changed, or it is not held up any more."""

    def reactor_found_slow(self, route: bytes, seconds: float) -> None:
        """Requests of a route hold it up, the last one for so long; or do not any more: 0."""

    def reactor_answered(self, reactor: Reactor) -> None:
        """It has answered a ping."""

    def reactor_spent(self, reactor: Reactor, why: str) -> None:
        """It should serve no longer than until another has started in its place."""

    def reactor_ended(self, reactor: Reactor) -> None:
        """It takes nothing more; its process is about to end."""

    def reactor_left(
        self, reactor: Reactor, exchanges: list[Exchange], begun: set[Exchange]
    ) -> None:
        """It has died, and left these exchanges without an answer, in this order."""

    def reactor_died(self, reactor: Reactor, status: int) -> None:
        """Its process has ended. This comes last."""


class Operation(Protocol):
    """What the supervisor tells the service."""

    def serves(self, interface: str) -> None:
        """A reactor is ready; its app speaks `asgi` or `wsgi`."""

    def reload_begins(self) -> None:
        """The next generation starts."""

    def reload_ended(self) -> None:
        """A reload is over, whether or not it succeeded."""

    def reactor_ended(self) -> None:
        """The process of a reactor has ended while the service stops."""

    def fail(self, error: OperatorError, details: str | None) -> None:
        """The app never started. `details`: its traceback, if there is one."""
