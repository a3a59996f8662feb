"""The Protocols by which links report to their reactor, a reactor to the supervisor, and the
supervisor to the service."""

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
    """How many exchanges occupy it."""

    def answered(self, exchange: Exchange) -> None:
        """Note that the answer of an exchange has arrived whole."""

    def app_done(self, exchange: Exchange) -> None:
        """Note that the app of an exchange is done."""

    def withdrawn(self, exchange: Exchange) -> bool:
        """Note that the reactor never begins an exchange; return whether another may get it."""

    def gave_back(self, exchanges: list[Exchange]) -> None:
        """Note that other reactors must get these exchanges."""

    def has_room(self) -> None:
        """Note that some of its exchanges are over."""

    def read_control(self) -> None:
        """Read all control messages that have arrived.

        A link calls this when the control channel must explain what the link has read.
        """

    def hung_up(self) -> None:
        """Note that the process has closed its end: it is dead, or about to die."""

    def kill(self) -> None:
        """Kill the process: it broke the protocol."""


class ReactorEvents(Protocol[R]):
    """Receives the events of reactors of class R: the supervisor."""

    def reactor_started(self, reactor: R) -> None:
        """Note that a zygote has forked its process, or that it was started instead."""

    def reactor_ready(self, reactor: R) -> None:
        """Note that it has loaded and started the app."""

    def reactor_failed(self, reactor: R, message: str, details: str | None) -> None:
        """Note that it could not load or start the app, and exits. `details`: a traceback."""

    def reactor_has_room(self, reactor: R) -> None:
        """Note that an exchange is over, its capacity changed, or its stall has ended."""

    def reactor_found_slow(self, route: bytes, seconds: float) -> None:
        """Note that the last request of a route took `seconds`; 0: the route is not slow now."""

    def reactor_answered(self, reactor: R) -> None:
        """Note that it has answered a ping."""

    def reactor_spent(self, reactor: R, why: str) -> None:
        """Note that it must be replaced. It serves until its successor is ready."""

    def reactor_ended(self, reactor: R) -> None:
        """Note that it takes no more exchanges: its process is about to end."""

    def reactor_left(self, reactor: R, exchanges: list[Exchange], begun: set[Exchange]) -> None:
        """Note that it has died and left these exchanges unanswered, in this order.

        `begun`: those whose app may have been called.
        """

    def reactor_gave_back(self, reactor: R, exchanges: list[Exchange]) -> None:
        """Note that it gave back these exchanges, which it never begins."""

    def reactor_died(self, reactor: R, status: int) -> None:
        """Note that its process has ended. This is its last event."""


class Operation(Protocol[R]):
    """Receives the events of the supervisor of reactors of class R: the service."""

    def reactor_started(self, reactor: R) -> None:
        """Note that the process of a reactor was started."""

    def reactor_exited(self, reactor: R, status: int) -> None:
        """Note that the process of a reactor has ended. `status`: negative: a signal killed it."""

    def serves(self, interface: str) -> None:
        """Note that a reactor is ready. `interface`: `asgi` or `wsgi`, as its app speaks."""

    def reload_begins(self) -> None:
        """Note that the next generation starts."""

    def reload_ended(self) -> None:
        """Note that a reload is over, whether or not it succeeded."""

    def reactor_ended(self) -> None:
        """Note that the process of a reactor has ended while the service stops."""

    def fail(self, error: OperatorError, details: str | None) -> None:
        """Note that the app never started. `details`: its traceback, if there is one."""
