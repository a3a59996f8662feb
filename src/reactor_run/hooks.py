"""What the functions of a hooks module get (`--hooks`). docs/hooks.md says when each is called.

A hooks module may import these classes for its annotations. Objects of them cannot be changed. New
versions may add fields at the end, so use the names.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = [
    "AppReactor",
    "ReactorExited",
    "ReactorStarted",
    "ReloadStarted",
    "RequestEnded",
    "RequestStarted",
    "Service",
]


class Service(NamedTuple):
    """The service, as its front end sees it: for `on_start`, `on_ready` and `on_stop`.

    app: the app, as the operator has named it.
    pid: the number of the front end's process.
    addresses: the listeners for clients, as the log names them: http://HOST:PORT, with TLS
    https://HOST:PORT, or unix:/PATH.
    reactors: how many reactors should serve.
    inherited: the front end took its listeners over from another one (SIGUSR2).
    handed_over: another front end has taken the listeners over, and the service goes on there.
    """

    app: str
    pid: int
    addresses: tuple[str, ...]
    reactors: int
    inherited: bool
    handed_over: bool


class ReloadStarted(NamedTuple):
    """The start of a reload: for `on_reload`.

    generation: the number of the generation that starts. The first one of a front end has 1.
    """

    generation: int


class ReactorStarted(NamedTuple):
    """The start of a reactor's process: for `on_reactor_start`.

    name: what the log calls it, such as `reactor 1`. No two reactors of a front end share a name.
    pid: the number of its process.
    generation: the generation that it belongs to.
    """

    name: str
    pid: int
    generation: int


class ReactorExited(NamedTuple):
    """The end of a reactor's process: for `on_reactor_exit`.

    name, pid, generation: as in `ReactorStarted`.
    status: the exit status. If a signal has killed the process, its number, negative.
    seconds: how long the process has lived.
    """

    name: str
    pid: int
    generation: int
    status: int
    seconds: float


class AppReactor(NamedTuple):
    """A reactor, as it sees itself: for `reactor_init`, `reactor_ready`, `reactor_exit`,
    `before_fork` and `after_fork`.

    name: what the log calls it, such as `reactor 1`.
    pid: the number of its process; in `before_fork` that of the zygote.
    app: the app, as the operator has named it.
    interface: `asgi` or `wsgi`; empty until the app is imported.
    runtime: `trio`, `asyncio` or `uvloop`; empty for a WSGI app, and until the app is imported.
    """

    name: str
    pid: int
    app: str
    interface: str
    runtime: str


class RequestStarted(NamedTuple):
    """A request whose app is about to be called: for `request_started`.

    method, target: as the client has sent them. The target has the query.
    request_id: the id of the request (`--request-id`); empty: requests have no ids.
    """

    method: str
    target: str
    request_id: str


class RequestEnded(NamedTuple):
    """A request whose app is done: for `request_ended`.

    method, target, request_id: as in `RequestStarted`.
    status: of the response; 500 if the app has failed before its response began; None: the app has
    made none, because its client left, or because it was cancelled.
    body_bytes: bytes of the response's body that the app has sent, without the framing of chunks.
    The kernel or the client may not have taken all of them yet.
    duration: seconds from the call of the app to its end.
    complete: the app has made a whole response, and the client was still there.
    """

    method: str
    target: str
    request_id: str
    status: int | None
    body_bytes: int
    duration: float
    complete: bool
