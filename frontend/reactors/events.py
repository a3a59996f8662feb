"""Who is told what in this room: links tell their reactor, a reactor its supervisor, and that the
service."""

from __future__ import annotations

from typing import Protocol, TypeVar

from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.exchanges.exchange import Exchange

__all__ = ["LinkOwner", "Operation", "ReactorEvents"]

R = TypeVar("R", contravariant=True)


class LinkOwner(Protocol):
    """A reactor, as its links know it."""

    name: str
    capacity: int
    """How many exchanges it takes at once."""
    in_flight: int
    """How many occupy it."""

    def answered(self, exchange: Exchange) -> None:
        """All of an answer has come."""

    def app_done(self, exchange: Exchange) -> None:
        """The app of an exchange is done."""

    def withdrawn(self, exchange: Exchange) -> bool:
        """An exchange never begins; whether another reactor is to be given it."""

    def gave_back(self, exchanges: list[Exchange]) -> None:
        """Others are to be given these exchanges."""

    def has_room(self) -> None:
        """Some of its exchanges are over."""

    def read_control(self) -> None:
        """Read all control messages that are there: one of them was sent before what came here."""

    def hung_up(self) -> None:
        """The process has closed its end: it is dead, or about to die."""

    def kill(self) -> None:
        """End the process: what it sends is wrong."""


class ReactorEvents(Protocol[R]):
    """What a reactor of class R tells its supervisor, which starts, replaces and stops reactors."""

    def reactor_ready(self, reactor: R) -> None:
        """It has loaded and started the app."""

    def reactor_failed(self, reactor: R, message: str, details: str | None) -> None:
        """It could not; it exits by itself."""

    def reactor_has_room(self, reactor: R) -> None:
        """One of its exchanges is over, its capacity changed, or it is not held up any more."""

    def reactor_found_slow(self, route: bytes, seconds: float) -> None:
        """Requests of a route hold it up, the last one for so long; or do not any more: 0."""

    def reactor_answered(self, reactor: R) -> None:
        """It has answered a ping."""

    def reactor_spent(self, reactor: R, why: str) -> None:
        """It should serve no longer than until another has started in its place."""

    def reactor_ended(self, reactor: R) -> None:
        """It takes nothing more; its process is about to end."""

    def reactor_left(self, reactor: R, exchanges: list[Exchange], begun: set[Exchange]) -> None:
        """It has died, and left these exchanges without an answer, in this order."""

    def reactor_gave_back(self, reactor: R, exchanges: list[Exchange]) -> None:
        """It has not begun these, and never will: it was asked not to."""

    def reactor_died(self, reactor: R, status: int) -> None:
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
