"""The app's lifespan: its start-up and its shutdown (ASGI Lifespan specification 2.0).

The app is called once, in one task that lives from before the first request until after the last,
so that what it opens around its two waits (a task group, a pool) is open in between.

    phase      what the app may send, and the phase that follows
    ABSENT     -                                                       no lifespan: not begun, off,
                                                                       or the app has none
    STARTING   startup.complete -> RUNNING; startup.failed -> FAILED   receive: lifespan.startup
    RUNNING    shutdown.failed -> STOPPED (it broke while serving)     receive: waits
    STOPPING   shutdown.complete, shutdown.failed -> STOPPED           receive: lifespan.shutdown
    FAILED     -
    STOPPED    -

In mode `auto` an app may have no lifespan; the specification lets it raise to say so. An error
counts as that only if it can hardly be anything else: it came before the app asked for
lifespan.startup, or shows that the app took the call for a request. Any other is a failed start-up
and is told as one.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, Literal

import anyio
import anyio.abc

from reactor_run.reactor import fork
from reactor_run.reactor.log import AppFailure, cut_traceback, log, runtime_hint, summary

__all__ = ["Lifespan", "LifespanFailed", "Phase"]

Message = MutableMapping[str, Any]
App = Callable[
    [dict[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]

_RETURN_GRACE: Final = 1.0
"""Seconds that an app has to return after its last message, before its lifespan is cancelled."""

# Of a request's scope and of its messages: who asks a lifespan for them takes it for a request.
_HTTP_KEYS: Final = ("method", "path", "query_string", "headers", "body", "more_body")
# Compiled when an app is in doubt: few are.
_UNKNOWN_SCOPE: Final = (
    r"(?i)\b(unknown|unsupported|not support\w*|only|unexpected|invalid|unhandled|not implement\w*"
    r"|scope)\b"
)


class LifespanFailed(AppFailure):
    """The app's start-up failed, and it must not serve.

    `details` is what it sent with startup.failed where that has several lines (a traceback, with
    Starlette), else the cut traceback of what it raised.
    """


class Phase(enum.Enum):
    """How far the app's lifespan is; the value is for error messages."""

    ABSENT = "there is no lifespan"
    STARTING = "it is starting up"
    RUNNING = "it has started up"
    STOPPING = "it is shutting down"
    FAILED = "its start-up has failed"
    STOPPED = "it has shut down"


_NEXT: Final = {
    (Phase.STARTING, "lifespan.startup.complete"): Phase.RUNNING,
    (Phase.STARTING, "lifespan.startup.failed"): Phase.FAILED,
    # Starlette says so when a task of the app's lifespan breaks while it serves.
    (Phase.RUNNING, "lifespan.shutdown.failed"): Phase.STOPPED,
    (Phase.STOPPING, "lifespan.shutdown.complete"): Phase.STOPPED,
    (Phase.STOPPING, "lifespan.shutdown.failed"): Phase.STOPPED,
}


class Lifespan:
    """The lifespan of one app in one reactor; `startup` once, then `shutdown` once.

    `mode` is off (the app is never called for it), on (the app must have one) or auto. `state` is
    the dict that the app fills; each request gets a shallow copy of it, if the app is `supported`.
    """

    def __init__(self, app: App, mode: Literal["auto", "on", "off"] = "auto") -> None:
        self.state: dict[str, Any] = {}
        self.phase = Phase.ABSENT
        self._app = app
        self._mode = mode
        self._asked_for_startup = False
        self._asked_for_shutdown = False
        self._took_it_for_a_request = False
        self._failed = False  # it has sent shutdown.failed
        self._message = ""  # of startup.failed or shutdown.failed
        self._error: BaseException | None = None  # that ended the task
        self._told = False

    @property
    def supported(self) -> bool:
        """Whether the app has a lifespan and has started up."""
        return self.phase in (Phase.RUNNING, Phase.STOPPING, Phase.STOPPED)

    async def startup(self, task_group: anyio.abc.TaskGroup) -> None:
        """Start the app's lifespan in `task_group`; return when the app is ready to serve.

        The task stays there until `shutdown`, and raises nothing into it. Raises LifespanFailed if
        the app failed, or if it has no lifespan in mode `on`. There is no deadline: an app may
        take its time to start; cancel `task_group` to give up.
        """
        if self._mode == "off":
            return
        self.phase = Phase.STARTING
        self._scope = anyio.CancelScope()
        self._started = anyio.Event()  # or it never will: it said so, or its task has ended
        self._stopping = anyio.Event()
        self._stopped = anyio.Event()  # or its task has ended
        self._gone = anyio.Event()
        task_group.start_soon(self._run, name="lifespan")
        await self._started.wait()
        if self.phase is Phase.FAILED:
            await self._let_it_return()  # what it raises now may tell more than its message
            raise LifespanFailed(*self._account("the app's start-up failed"))
        if self.phase is Phase.STARTING:
            self._ended_without_answer()

    async def shutdown(self, timeout: float) -> None:  # noqa: ASYNC109 - what is late is reported
        """Tell the app to shut down, and wait until it has, at most `timeout` seconds.

        Raises nothing: an app that fails or is late is logged, and its lifespan is cancelled if it
        does not end. Returns at once where there is no lifespan, or where it has ended already.
        """
        if self.phase is not Phase.RUNNING:
            return
        self.phase = Phase.STOPPING
        self._stopping.set()
        with anyio.move_on_after(timeout):
            await self._stopped.wait()
        if self._stopped.is_set():
            await self._let_it_return()
            self._tell()
        else:
            log.error("the app did not shut down within %g s, its lifespan is cancelled", timeout)
            self.phase = Phase.STOPPED
            self._scope.cancel()

    async def _let_it_return(self) -> None:
        with anyio.move_on_after(_RETURN_GRACE):
            await self._gone.wait()
        self._scope.cancel()

    def _ended_without_answer(self) -> None:
        """The task ended before the app said how its start-up went: is that a lifespan at all?"""
        error = self._error
        if self._mode == "auto" and (error is None or self._knows_no_lifespan(error)):
            self.phase = Phase.ABSENT
            how = "it returned at once" if error is None else f"it raised {summary(error)}"
            log.info("the app has no lifespan: %s", how)
            return
        self.phase = Phase.FAILED
        if error is None:
            raise LifespanFailed(
                "the app has no lifespan, it returned without lifespan.startup.complete: with "
                "--lifespan auto or off it is served all the same"
            )
        message, details = self._account("the app's start-up failed")
        if self._mode == "auto":
            message += " (an app without a lifespan is served with --lifespan off)"
        raise LifespanFailed(message, details)

    def _knows_no_lifespan(self, error: BaseException) -> bool:
        if runtime_hint(error, _runtime()) is not None:
            return False
        if not self._asked_for_startup or self._took_it_for_a_request:
            return True
        if isinstance(error, KeyError):
            return bool(error.args) and error.args[0] in _HTTP_KEYS
        text = summary(error)
        return "lifespan" in text and re.search(_UNKNOWN_SCOPE, text) is not None

    def _account(self, what: str) -> tuple[str, str | None]:
        """What the app has sent and raised about its failure, as a line and details."""
        error = self._error
        lines = self._message.splitlines()
        if error is not None and len(lines) != 1:
            line = summary(error)
        else:
            line = lines[0] if lines else "it gave no reason"
        message = f"{what}: {line}"
        if error is None:
            return message, self._message if len(lines) > 1 else None
        if hint := runtime_hint(error, _runtime()):
            message += f"; {hint}"
        # A message of several lines is a traceback already, as Starlette's.
        return message, self._message if len(lines) > 1 else cut_traceback(error)

    def _tell(self) -> None:
        """Log, once, how the lifespan went wrong after the start-up, if it did."""
        started = self.phase in (Phase.RUNNING, Phase.STOPPING, Phase.STOPPED)
        if self._told or not started or (self._error is None and not self._failed):
            return
        self._told = True
        if self._stopping.is_set():
            what = "the app's shutdown failed"
        else:
            what = "the app's lifespan broke, requests are served without it"
        log.error("%s", LifespanFailed(*self._account(what)))

    # In the app's task

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            with self._scope:
                await self._app(scope, self._receive, self._send)
        except BaseException as exc:
            # Every error ends here, SystemExit too, and a CancelledError that only the app caused:
            # asyncio's task group would take that for its own and cancel the reactor.
            self._error = _without_our_cancellation(exc)
            if self._error is None:
                self._told = True
                raise
        finally:
            if fork.is_child:
                fork.leave(self._error)
            self._tell()
            if self.phase in (Phase.RUNNING, Phase.STOPPING):
                self.phase = Phase.STOPPED
            self._started.set()
            self._stopped.set()
            self._gone.set()

    async def _receive(self) -> Message:
        if not self._asked_for_startup:
            self._asked_for_startup = True
            return {"type": "lifespan.startup"}
        await self._stopping.wait()
        if not self._asked_for_shutdown:
            self._asked_for_shutdown = True
            return {"type": "lifespan.shutdown"}
        # There is nothing more to come: an app that has answered and asks again is done.
        await self._stopped.wait()
        self._scope.cancel()
        while True:
            await anyio.sleep_forever()

    async def _send(self, message: Message) -> None:
        if self._scope.cancel_called:
            return  # too late to matter; an error now would only hide how the app ends
        kind = message["type"]
        following = _NEXT.get((self.phase, kind))
        if following is None:
            if not str(kind).startswith("lifespan."):
                self._took_it_for_a_request = True
            raise RuntimeError(
                f"the app sent {kind!r} in its lifespan, which is out of place: {self.phase.value}"
            )
        if kind.endswith(".failed"):
            self._message = str(message.get("message", "")).strip()
            self._failed = True
        self.phase = following
        self._started.set()
        if following is Phase.STOPPED:
            self._stopped.set()


def _runtime() -> str:
    import trio

    return "trio" if trio.lowlevel.in_trio_run() else "asyncio"


def _without_our_cancellation(exc: BaseException) -> BaseException | None:
    """`exc` without what cancelling the reactor's tasks has caused; None if nothing is left."""
    if anyio.current_effective_deadline() > -math.inf:
        return exc
    cancelled = anyio.get_cancelled_exc_class()
    if isinstance(exc, BaseExceptionGroup):
        return exc.split(cancelled)[1]
    return None if isinstance(exc, cancelled) else exc
