"""The app's lifespan: its start-up and its shutdown (ASGI Lifespan specification 2.0).

The app is called once for its lifespan. This call runs in one task, from before the first request
until after the last. So a task group or a pool that the app opens there stays open meanwhile.

    phase      what the app may send, and the phase that follows
    ABSENT     -                                                       no lifespan: not begun, off,
                                                                       or the app has none
    STARTING   startup.complete -> RUNNING; startup.failed -> FAILED   receive: lifespan.startup
    RUNNING    shutdown.failed -> STOPPED (it failed while serving)    receive: waits
    STOPPING   shutdown.complete, shutdown.failed -> STOPPED           receive: lifespan.shutdown
    FAILED     -
    STOPPED    -

In mode `auto` an app may have no lifespan. The specification lets such an app raise. An error
counts as "no lifespan" only in two cases: it came before the app asked for lifespan.startup, or it
shows that the app took the call for a request. Any other error is a failed start-up, and is
reported as one.
"""

from __future__ import annotations

import enum
import math
import re
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, Literal

import anyio
import anyio.abc

from reactor_run.logs import summary
from reactor_run.reactor import fork
from reactor_run.reactor.log import AppFailure, cut_traceback, log, runtime_hint

__all__ = ["Lifespan", "LifespanFailed", "Phase"]

Message = MutableMapping[str, Any]
App = Callable[
    [dict[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]

_RETURN_GRACE: Final = 1.0
"""Seconds that an app has to return after its last message, before its lifespan is cancelled."""

# Keys of a request's scope and messages. An app that reads them in its lifespan took it for a
# request.
_HTTP_KEYS: Final = ("method", "path", "query_string", "headers", "body", "more_body")
# Compiled only when needed, which is rare.
_UNKNOWN_SCOPE: Final = (
    r"(?i)\b(unknown|unsupported|not support\w*|only|unexpected|invalid|unhandled|not implement\w*"
    r"|scope)\b"
)


class LifespanFailed(AppFailure):
    """The app's start-up failed, so it must not serve.

    `details` is the message of startup.failed if it has several lines (Starlette sends a
    traceback). Otherwise it is the traceback of the app's exception, cut to the app's frames.
    """


class Phase(enum.Enum):
    """The phases of a lifespan. The values are texts for error messages."""

    ABSENT = "there is no lifespan"
    STARTING = "it is starting up"
    RUNNING = "it has started up"
    STOPPING = "it is shutting down"
    FAILED = "its start-up has failed"
    STOPPED = "it has shut down"


_NEXT: Final = {
    (Phase.STARTING, "lifespan.startup.complete"): Phase.RUNNING,
    (Phase.STARTING, "lifespan.startup.failed"): Phase.FAILED,
    # Starlette sends this when the app's lifespan fails while the app serves.
    (Phase.RUNNING, "lifespan.shutdown.failed"): Phase.STOPPED,
    (Phase.STOPPING, "lifespan.shutdown.complete"): Phase.STOPPED,
    (Phase.STOPPING, "lifespan.shutdown.failed"): Phase.STOPPED,
}


class Lifespan:
    """The lifespan of one app in one reactor. Call `startup` once, then `shutdown` once.

    `mode` is off (the app is never called for it), on (the app must have one) or auto. `state` is
    the dict that the app fills. If `supported`, each request gets a shallow copy of it.
    """

    def __init__(self, app: App, mode: Literal["auto", "on", "off"] = "auto") -> None:
        self.state: dict[str, Any] = {}
        self.phase = Phase.ABSENT
        self._app = app
        self._mode = mode
        self._asked_for_startup = False
        self._asked_for_shutdown = False
        self._took_it_for_a_request = False
        self._failed = False  # The app has sent startup.failed or shutdown.failed.
        self._message = ""  # The message of startup.failed or shutdown.failed.
        self._error: BaseException | None = None  # The exception that ended the task.
        # The exception that the app handled when it sent startup.failed or shutdown.failed.
        self._handled: BaseException | None = None
        self._told = False

    @property
    def supported(self) -> bool:
        """Whether the app has a lifespan and has started up."""
        return self.phase in (Phase.RUNNING, Phase.STOPPING, Phase.STOPPED)

    async def startup(self, task_group: anyio.abc.TaskGroup) -> None:
        """Start the app's lifespan in `task_group`. Returns when the app is ready to serve.

        The lifespan's task stays in `task_group` until `shutdown`, and raises nothing into it.
        Raises LifespanFailed if the app failed, or if it has no lifespan in mode `on`. There is no
        deadline. To stop a start-up, cancel `task_group`.
        """
        if self._mode == "off":
            return
        self.phase = Phase.STARTING
        self._scope = anyio.CancelScope()
        self._started = anyio.Event()  # The start-up completed or failed, or the task has ended.
        self._stopping = anyio.Event()
        self._stopped = anyio.Event()  # The shutdown completed or failed, or the task has ended.
        self._gone = anyio.Event()  # The task has ended.
        task_group.start_soon(self._run, name="lifespan")
        await self._started.wait()
        if self.phase is Phase.FAILED:
            await self._let_it_return()  # Its exception may say more than its message.
            raise LifespanFailed(*self._account("the app's start-up failed"))
        if self.phase is Phase.STARTING:
            self._ended_without_answer()

    async def shutdown(self, timeout: float) -> None:  # noqa: ASYNC109 - what is late is reported
        """Tell the app to shut down, and wait for it, at most `timeout` seconds.

        Raises nothing. A failure or a timeout is logged, and a lifespan that does not end is
        cancelled. Returns at once if there is no lifespan, or if it has already ended.
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
            log.error("the app did not shut down within %g s, cancelling its lifespan", timeout)
            self.phase = Phase.STOPPED
            self._scope.cancel()

    async def _let_it_return(self) -> None:
        with anyio.move_on_after(_RETURN_GRACE):
            await self._gone.wait()
        self._scope.cancel()

    def _ended_without_answer(self) -> None:
        """Decide whether an app whose task ended during the start-up has no lifespan, or failed.

        Raises LifespanFailed if it failed.
        """
        error = self._error
        if self._mode == "auto" and (error is None or self._knows_no_lifespan(error)):
            self.phase = Phase.ABSENT
            how = "it returned at once" if error is None else f"it raised {summary(error)}"
            log.debug("the app has no lifespan: %s", how)
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
        """Return one line and details about a failure, from the app's message and exception."""
        error = self._error
        lines = self._message.splitlines()
        if error is not None and len(lines) != 1:
            line = summary(error)
        else:
            line = lines[0] if lines else "it gave no reason"
        message = f"{what}: {line}"
        cause = error or self._handled
        if cause is not None and (hint := runtime_hint(cause, _runtime())):
            message += f"; {hint}"
        if error is None:
            return message, self._message if len(lines) > 1 else None
        # A message of several lines is itself a traceback, as with Starlette.
        return message, self._message if len(lines) > 1 else cut_traceback(error)

    def _tell(self) -> None:
        """Log a failure of the lifespan after the start-up, once."""
        started = self.phase in (Phase.RUNNING, Phase.STOPPING, Phase.STOPPED)
        if self._told or not started or (self._error is None and not self._failed):
            return
        self._told = True
        if self._stopping.is_set():
            what = "the app's shutdown failed"
        else:
            what = "the app's lifespan failed, requests are served without it"
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
            # Every error ends here, SystemExit too. So does a CancelledError that only the app
            # caused: asyncio's task group would take it for its own and cancel the reactor.
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
        # There are no more messages. An app that asks again after its answer has finished.
        await self._stopped.wait()
        self._scope.cancel()
        while True:
            await anyio.sleep_forever()

    async def _send(self, message: Message) -> None:
        if self._scope.cancel_called:
            return  # The lifespan is over. An error now would only hide how the app ends.
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
            self._handled = sys.exception()
        self.phase = following
        self._started.set()
        if following is Phase.STOPPED:
            self._stopped.set()


def _runtime() -> str:
    trio: Any = sys.modules.get("trio")
    return "trio" if trio is not None and trio.lowlevel.in_trio_run() else "asyncio"


def _without_our_cancellation(exc: BaseException) -> BaseException | None:
    """Return `exc` without the cancellations that the reactor itself caused, or None if nothing is
    left."""
    if anyio.current_effective_deadline() > -math.inf:
        return exc
    cancelled = anyio.get_cancelled_exc_class()
    if isinstance(exc, BaseExceptionGroup):
        return exc.split(cancelled)[1]
    return None if isinstance(exc, cancelled) else exc
