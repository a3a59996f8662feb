"""The messages between the front end and a zygote (`--preload on`), one class each.

They go over a control channel, as those of `control_messages` do. docs/lanes.md describes when each
is sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from reactor_run.protocol.control import ControlError

__all__ = [
    "AppFailed",
    "Fork",
    "ForkFailed",
    "Forked",
    "FromZygote",
    "NotForkable",
    "Preloaded",
    "read_for_zygote",
    "read_from_zygote",
]

Json: TypeAlias = dict[str, Any]


class Fork(NamedTuple):
    """Fork a reactor.

    name: of the reactor. multiprocess: other reactors run the app too. fd: the reactor's end of its
    control channel; None: the descriptor was lost on its way.
    """

    name: str
    multiprocess: bool
    fd: int | None

    def to_json(self) -> Json:
        return {"fork": self.name, "multiprocess": self.multiprocess, "fd": True}


def read_for_zygote(message: Json) -> Fork | None:
    """Return the front end's message; None if its word is unknown. Raises ControlError."""
    match message:
        case {"fork": str(name), "multiprocess": bool(multiprocess)}:
            descriptor = message.get("fd")
            if descriptor is None or type(descriptor) is int:
                return Fork(name, multiprocess, descriptor)
            raise ControlError(f"a value has the wrong type: {message!r:.80}")
    return None


class Preloaded(NamedTuple):
    """The app is imported, and reactors can be forked."""

    def to_json(self) -> Json:
        return {"preloaded": True}


class NotForkable(NamedTuple):
    """The app is imported, but reactors cannot be forked. reasons: what the import has left."""

    reasons: Sequence[str]

    def to_json(self) -> Json:
        return {"not_forkable": list(self.reasons)}


class AppFailed(NamedTuple):
    """The app could not be imported. details: a traceback, if there is one."""

    message: str
    details: str | None

    def to_json(self) -> Json:
        return {"failed": self.message, "details": self.details}


class Forked(NamedTuple):
    """The answer to `Fork`: the reactor is a child of the front end, and has this number."""

    name: str
    pid: int

    def to_json(self) -> Json:
        return {"forked": self.name, "pid": self.pid}


class ForkFailed(NamedTuple):
    """The answer to `Fork`: there is no such process. details: a traceback, if there is one."""

    name: str
    message: str
    details: str | None

    def to_json(self) -> Json:
        return {"fork_failed": self.name, "message": self.message, "details": self.details}


FromZygote: TypeAlias = Preloaded | NotForkable | AppFailed | Forked | ForkFailed


def read_from_zygote(message: Json) -> FromZygote | None:
    """Return a zygote's message; None if its word is unknown. Raises ControlError."""
    match message:
        case {"preloaded": _}:
            return Preloaded()
        case {"not_forkable": [*reasons]}:
            return NotForkable([*map(str, reasons)])
        case {"forked": str(name), "pid": int(pid)}:
            return Forked(name, pid)
        case {"fork_failed": str(name), "message": str(line)}:
            return ForkFailed(name, line, _details(message))
        case {"failed": str(line)}:
            return AppFailed(line, _details(message))
    if not {"preloaded", "not_forkable", "forked", "fork_failed", "failed"}.isdisjoint(message):
        raise ControlError(f"a value is missing or has the wrong type: {message!r:.80}")
    return None


def _details(message: Json) -> str | None:
    details = message.get("details")
    if details is not None and type(details) is not str:
        raise ControlError(f"a value has the wrong type: {message!r:.80}")
    return details
