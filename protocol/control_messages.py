"""The messages of the control channel, one class each. docs/lanes.md describes when each is sent.

`control` puts them on the wire as JSON. A JSON object with an unknown word is a message of a later
version: it is read as None, and ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from reactor_run.protocol.control import ControlError
from reactor_run.protocol.websocket.summary import Summary

__all__ = [
    "Cancel",
    "CapacityChanged",
    "ClientShared",
    "ClientsClosed",
    "CloseWebSockets",
    "ExpressOpened",
    "Failed",
    "LaneOpened",
    "LanesDone",
    "Ping",
    "Pong",
    "PulseShared",
    "Ready",
    "RouteIsSlow",
    "Stop",
    "TerminalUsed",
    "ToFrontEnd",
    "ToReactor",
    "TurnEnded",
    "Withdraw",
    "read_for_front_end",
    "read_for_reactor",
]

Json: TypeAlias = dict[str, Any]

# From the front end -------------------------------------------------------------------------------


class ExpressOpened(NamedTuple):
    """Serve this express lane. fd: None if the descriptor was lost on its way."""

    fd: int | None

    def to_json(self) -> Json:
        return {"express": True, "fd": True}


class PulseShared(NamedTuple):
    """Write the pulse of the app into this memory. fd: None if the descriptor was lost on its
    way."""

    fd: int | None

    def to_json(self) -> Json:
        return {"pulse": True, "fd": True}


class LaneOpened(NamedTuple):
    """Serve this lane. slot: its byte of the pulse. fd: None if the descriptor was lost on its
    way."""

    number: int
    slot: int
    fd: int | None

    def to_json(self) -> Json:
        return {"lane": self.number, "slot": self.slot, "fd": True}


class ClientShared(NamedTuple):
    """Keep this duplicate of the socket of a client's connection, for grants. fd: None if the
    descriptor was lost on its way."""

    number: int
    fd: int | None

    def to_json(self) -> Json:
        return {"client": self.number, "fd": True}


class ClientsClosed(NamedTuple):
    """Close these duplicates: their clients' connections have ended, or need none now."""

    numbers: Sequence[int]

    def to_json(self) -> Json:
        return {"closed": list(self.numbers)}


class Cancel(NamedTuple):
    """Cancel the app of the exchange on the front end's lane."""

    number: int

    def to_json(self) -> Json:
        return {"cancel": self.number}


class Withdraw(NamedTuple):
    """Do not begin the exchange on the front end's lane. The reactor answers by `LanesDone` if it
    has not."""

    number: int

    def to_json(self) -> Json:
        return {"withdraw": self.number}


class CloseWebSockets(NamedTuple):
    """Close all WebSockets with this code (RFC 6455 §7.4), spread over so many seconds.

    Those that are accepted later are closed at the end of this time."""

    code: int
    seconds: float

    def to_json(self) -> Json:
        return {"close": self.code, "seconds": self.seconds}


class Ping(NamedTuple):
    """Answer with a `Pong` that has the same token, as soon as the loop turns."""

    token: object

    def to_json(self) -> Json:
        return {"ping": self.token}


class Stop(NamedTuple):
    """Shut the app down within so many seconds, and exit."""

    seconds: float

    def to_json(self) -> Json:
        return {"stop": self.seconds}


ToReactor: TypeAlias = (
    ExpressOpened
    | PulseShared
    | LaneOpened
    | ClientShared
    | ClientsClosed
    | Cancel
    | Withdraw
    | CloseWebSockets
    | Ping
    | Stop
)


def read_for_reactor(message: Json) -> ToReactor | None:
    """Return the front end's message; None if its word is unknown. Raises ControlError."""
    try:
        match message:
            case {"lane": number}:
                slot = _integer(message.get("slot", 0))
                return LaneOpened(_integer(number), slot, _descriptor(message))
            case {"client": number}:
                return ClientShared(_integer(number), _descriptor(message))
            case {"closed": numbers}:
                return ClientsClosed([*map(_integer, numbers)])
            case {"cancel": number}:
                return Cancel(_integer(number))
            case {"withdraw": number}:
                return Withdraw(_integer(number))
            case {"express": _}:
                return ExpressOpened(_descriptor(message))
            case {"pulse": _}:
                return PulseShared(_descriptor(message))
            case {"ping": token}:
                return Ping(token)
            case {"stop": seconds}:
                return Stop(float(seconds))
            case {"close": code, "seconds": seconds}:
                return CloseWebSockets(_integer(code), float(seconds))
    except (TypeError, ValueError) as error:
        raise ControlError(f"a value has the wrong type: {message!r:.80}") from error
    return None


# From a reactor -----------------------------------------------------------------------------------


class Ready(NamedTuple):
    """The app has started.

    interface: `asgi` or `wsgi`. capacity: how many exchanges the reactor takes at once. inline: the
    app runs in the loop itself. runtime: the runtime of an ASGI app. reason: why the reactor chose
    it; empty if the operator did.
    """

    interface: str
    capacity: int
    inline: bool
    runtime: str = ""
    reason: str = ""

    def to_json(self) -> Json:
        return {"ready": self._asdict()}


class Failed(NamedTuple):
    """The app did not start. details: a traceback, if there is one."""

    message: str
    details: str | None

    def to_json(self) -> Json:
        return {"failed": self.message, "details": self.details}


class CapacityChanged(NamedTuple):
    """The reactor now takes so many exchanges at once."""

    capacity: int

    def to_json(self) -> Json:
        return {"capacity": self.capacity}


class LanesDone(NamedTuple):
    """The exchanges on these lanes of the front end have ended in the reactor.

    done: the app is done, and the lane can carry the next request.
    drop: the app is done, and the lane must carry no other request.
    withdrawn: the exchange has not begun and never will; the lane is closed.
    websockets: lanes among the dropped ones that carried a WebSocket, with its summary.
    """

    done: Sequence[int]
    drop: Sequence[int]
    withdrawn: Sequence[int]
    websockets: Sequence[tuple[int, Summary]] = ()

    def to_json(self) -> Json:
        words = {word: numbers for word, numbers in self._asdict().items() if numbers}
        if self.websockets:
            words["websockets"] = [[number, *summary] for number, summary in self.websockets]
        return words


class TurnEnded(NamedTuple):
    """A step of an app has stalled the loop for so many seconds. 0: a batch has ended."""

    seconds: float

    def to_json(self) -> Json:
        return {"turn": self.seconds}


class RouteIsSlow(NamedTuple):
    """Requests of a route stall the loop, the last one for so many seconds. 0: they no longer
    do."""

    route: bytes
    seconds: float

    def to_json(self) -> Json:
        return {"slow": self.route.decode("latin-1"), "seconds": self.seconds}


class TerminalUsed(NamedTuple):
    """The app begins to use the terminal, for a debugger or `input()`. False: it has ended."""

    begins: bool

    def to_json(self) -> Json:
        return {"terminal": self.begins}


class Pong(NamedTuple):
    """The answer to `Ping`."""

    token: object

    def to_json(self) -> Json:
        return {"pong": self.token}


ToFrontEnd: TypeAlias = (
    Ready | Failed | CapacityChanged | LanesDone | TurnEnded | RouteIsSlow | TerminalUsed | Pong
)


def read_for_front_end(message: Json) -> ToFrontEnd | None:
    """Return a reactor's message; None if its word is unknown. Raises ControlError."""
    try:
        match message:
            case {"done": _} | {"drop": _} | {"withdrawn": _}:
                done, drop, withdrawn = (
                    [*map(_integer, message.get(word, []))]
                    for word in ("done", "drop", "withdrawn")
                )
                summaries = tuple(map(_summary, message.get("websockets", ())))
                return LanesDone(done, drop, withdrawn, summaries)
            case {"turn": seconds}:
                return TurnEnded(float(seconds))
            case {"slow": route, "seconds": seconds}:
                return RouteIsSlow(_text(route).encode("latin-1"), float(seconds))
            case {"pong": token}:
                return Pong(token)
            case {"terminal": begins}:
                return TerminalUsed(bool(begins))
            case {"capacity": capacity}:
                return CapacityChanged(_integer(capacity))
            case {"ready": ready}:
                return Ready(
                    _text(ready["interface"]),
                    _integer(ready["capacity"]),
                    bool(ready.get("inline")),
                    _text(ready.get("runtime", "")),
                    _text(ready.get("reason", "")),
                )
            case {"failed": line}:
                details = message.get("details")
                return Failed(_text(line), None if details is None else _text(details))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ControlError(f"a value is missing or has the wrong type: {message!r:.80}") from error
    return None


def _integer(value: object) -> int:
    if type(value) is not int:
        raise TypeError(value)
    return value


def _summary(value: Sequence[object]) -> tuple[int, Summary]:
    number, code, received, sent = map(_integer, value)
    return number, Summary(code, received, sent)


def _text(value: object) -> str:
    if type(value) is not str:
        raise TypeError(value)
    return value


def _descriptor(message: Json) -> int | None:
    """Return the descriptor that came with a message, where `control` has put it."""
    descriptor = message.get("fd")
    return None if descriptor in (None, False) else _integer(descriptor)
