"""The admin listener: status and commands for the operator, over HTTP/1.1.

    GET  /         200: the status page, for browsers
    GET  /healthz  200: the loop turns
    GET  /readyz   200, or 503 and why a balancer should send no requests here
    GET  /status   200: the report, in JSON
    GET  /metrics  200: the metrics, for Prometheus
    POST /reload   200 once the next generation serves, or 500 and why it does not
    POST /reopen-logs  200: the log files are open anew, or 500 and why one is not
    POST /maintenance?on=TEXT, or ?off  200: requests of the app get 503, or no more
    POST /scale?to=N  200: the app has N reactors from now on
    POST /stop     202: the service stops; the connection ends with it

?app=NAME makes the commands for one app of several.

Separate listeners for other machines have the first two paths only (--health), or /metrics only
(--metrics).

The front end's loop serves these listeners, so they work while all reactors stall. A client of them
cannot harm the service: a connection carries one small request and has a deadline, and if there are
too many connections, the oldest is closed. Any user of the machine can connect over TCP, and a
browser can be made to. So over TCP nothing can be changed, and requests that pages of other origins
make are rejected. The listeners for other machines do not reject those, because their answers
tell no secret.
"""

from __future__ import annotations

import json
import re
import select
import socket
import struct
from collections.abc import Callable
from enum import Enum
from math import inf
from typing import Final

from reactor_run.clock import date_field
from reactor_run.frontend.log import log
from reactor_run.frontend.loop.epoll import Loop
from reactor_run.frontend.metrics.exposition import CONTENT_TYPE as METRICS_TYPE
from reactor_run.frontend.reactors.generation import Told
from reactor_run.frontend.service.scrape import Scrape
from reactor_run.frontend.service.status import Status
from reactor_run.frontend.service.status_page import CONTENT_TYPE as PAGE_TYPE
from reactor_run.frontend.service.status_page import Page, read_page
from reactor_run.frontend.sockets.listener import Listener
from reactor_run.protocol.own_fields import OwnFields
from reactor_run.protocol.policy import Limits, Rejected
from reactor_run.protocol.request import RequestHead, Rewritten, parse_request_head
from reactor_run.protocol.response import simple_response

__all__ = ["Admin", "Purpose"]

_CONNECTIONS_MAX: Final = 32
_HEAD_MAX: Final = 8192
"""Most bytes of a request."""
_TIMEOUT: Final = 10.0
"""Seconds for a client to send its request and to read the answer."""
_PAUSE: Final = 1.0
"""Seconds without accepting after the kernel could not give a descriptor."""
_LIMITS: Final = Limits(head_size=_HEAD_MAX)
_LOCAL_HOST: Final = re.compile(
    rb"(?:localhost|127(?:\.[0-9]+){3}|\[::1\])(?::[0-9]*)?", re.IGNORECASE
)

_PATHS: Final = {
    b"/": b"GET, HEAD",
    b"/healthz": b"GET, HEAD",
    b"/readyz": b"GET, HEAD",
    b"/status": b"GET, HEAD",
    b"/metrics": b"GET, HEAD",
    b"/reload": b"POST",
    b"/reopen-logs": b"POST",
    b"/maintenance": b"POST",
    b"/scale": b"POST",
    b"/stop": b"POST",
}
"""The methods of each path."""

_FIELDS: Final = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""Fields of each answer."""


class Purpose(Enum):
    """What listeners are for: the name in the log, and the paths."""

    ADMIN = ("admin socket", tuple(_PATHS))
    HEALTH = ("health", (b"/healthz", b"/readyz"))
    METRICS = ("metrics", (b"/metrics",))


class Admin:
    """The listeners and connections of the admin socket, or those for one purpose only."""

    def __init__(
        self,
        loop: Loop,
        listeners: list[Listener],
        status: Status,
        scrape: Scrape,
        *,
        reload: Callable[[Told, str], str | None],
        reopen_logs: Callable[[], str | None],
        maintain: Callable[[str | None, str], str | None],
        scale: Callable[[str, int], str | None],
        stop: Callable[[], None],
        own_fields: OwnFields,
        purpose: Purpose = Purpose.ADMIN,
    ) -> None:
        """`reload`: reloads an app, and passes the outcome to its argument.
        `reopen_logs`: opens log files anew; returns why that failed, or None.
        `maintain`: gives an app's requests this text in the place of the app; None: no more.
        `scale`: changes the number of reactors of an app.
        `reload`, `maintain` and `scale` get the name of an app; empty: all apps, or for `scale` the
        first one. They return why that is not possible, or None.
        `stop`: stops the service.
        `own_fields`: what each answer has beside its own fields.
        `purpose`: for any but ADMIN, any machine may connect.
        """
        self.status = status
        self.scrape = scrape
        self.reload = reload
        self.reopen_logs = reopen_logs
        self.maintain = maintain
        self.scale = scale
        self.stop = stop
        self.own_fields = own_fields
        self.for_machines = purpose is not Purpose.ADMIN
        """Other machines may connect. What they can ask for changes nothing and tells no secret."""
        self._name, paths = purpose.value
        self.paths = {path: _PATHS[path] for path in paths}
        self.loop = loop
        self.deadline = self.check_at = inf
        self._listeners = listeners
        self._connections: dict[_Connection, None] = {}
        """The connections, the oldest first."""
        self.page = Page("", ())
        """The status page. It is read once, so that it fits this process after an installation."""
        self._resting = False
        """Whether accepting pauses, because there was no descriptor."""

    def begin(self) -> None:
        """Start to accept connections. Raises OSError if a file of ours cannot be read."""
        if self._listeners and b"/" in self.paths:
            self.page = read_page()
        for listener in self._listeners:
            log.info("%s on %s", self._name, listener.name)
        self._listen()

    def _listen(self) -> None:
        self._resting = False
        for listener in self._listeners:
            self.loop.watch(listener.socket.fileno(), select.EPOLLIN, self._acceptor(listener))

    def close(self) -> None:
        """Close all listeners and connections. Call it when the service has ended.

        The connections of /stop are open until then, so their clients see the end.
        """
        if not self._resting:
            self._unlisten()
        self.loop.forget(self)
        for connection in self._connections:
            connection.end()
        self._connections.clear()
        for listener in self._listeners:
            listener.close()

    def leave(self) -> None:
        """Stop listening; another process goes on with the same listeners."""
        if not self._resting:
            self._unlisten()
        self.loop.forget(self)
        for listener in self._listeners:
            listener.leave()
        self._listeners = []

    def _unlisten(self) -> None:
        for listener in self._listeners:
            self.loop.unwatch(listener.socket.fileno())

    def on_deadline(self) -> None:
        """Accept again after the pause."""
        self._listen()

    def _acceptor(self, listener: Listener) -> Callable[[int], None]:
        def accept(_: int) -> None:
            try:
                sock, _address = listener.socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                log.warning("%s: cannot accept a connection: %s", self._name, error.strerror)
                self._resting = True
                self._unlisten()
                self.loop.set_deadline(self, _PAUSE)
                return
            if len(self._connections) >= _CONNECTIONS_MAX:
                next(iter(self._connections)).close()
            connection = _Connection(self, sock, trusted=listener.kind == "unix")
            self._connections[connection] = None

        return accept

    def left(self, connection: _Connection) -> None:
        """Forget a connection that has ended."""
        self._connections.pop(connection, None)


class _Connection:
    """A connection with one request and its answer."""

    def __init__(self, admin: Admin, sock: socket.socket, *, trusted: bool) -> None:
        """`trusted`: the permissions of a unix socket limit who may connect."""
        sock.setblocking(False)
        self.deadline = self.check_at = inf
        self._admin = admin
        self._loop = admin.loop
        self._sock = sock
        self._trusted = trusted
        self._in = b""
        self._out = b""
        self._heard = False
        """The request has arrived. Later bytes are dropped."""
        self._head_only = False
        self._closed = False
        self._lasts = False
        """The connection ends with the service."""
        self._loop.watch(sock.fileno(), select.EPOLLIN, self._on_events)
        self._loop.set_deadline(self, _TIMEOUT)

    def on_deadline(self) -> None:
        """Close the connection: the client took too long."""
        self.close()

    def on_fault(self) -> None:
        """Close the connection after an unexpected error."""
        self.close()

    def close(self) -> None:
        """Close the connection while the loop runs."""
        self._closed = True
        self._loop.unwatch(self._sock.fileno())
        self._loop.forget(self)
        self._loop.bury(self._sock)
        self._admin.left(self)

    def end(self) -> None:
        """Close the connection after the loop has ended."""
        self._closed = True
        self._loop.unwatch(self._sock.fileno())
        self._loop.forget(self)
        self._sock.close()

    def _on_events(self, events: int) -> None:
        if events & select.EPOLLOUT:
            self._send()
        elif events & select.EPOLLIN:
            self._read()
        else:
            self.close()

    def _read(self) -> None:
        try:
            data = self._sock.recv(_HEAD_MAX)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
        elif not self._heard:
            self._in += data
            try:
                head = parse_request_head(self._in, _LIMITS)
            except Rejected as rejected:
                self._answer(rejected.rule.status, rejected.rule.reason)
                return
            except Rewritten:
                self._answer(400, "the request target must be a path")
                return
            if head is not None:
                self._serve(head)

    # Answers -------------------------------------------------------------------------------------

    def _serve(self, head: RequestHead) -> None:
        path = head.target.partition(b"?")[0]
        self._head_only = head.method == b"HEAD"
        methods = self._admin.paths.get(path)
        status = self._admin.status
        if refusal := self._refusal(head):
            self._answer(403, refusal)
        elif methods is None:
            self._answer(404, "the paths are " + b", ".join(self._admin.paths).decode())
        elif head.method not in methods.split(b", "):
            self._answer(405, f"use {methods.decode()}", ((b"allow", methods),))
        elif head.body:
            self._answer(413, "send no body")
        elif path == b"/":
            page = self._admin.page
            self._answer(200, page.text, page.fields, content_type=PAGE_TYPE)
        elif path == b"/healthz":
            self._answer(200, "alive")
        elif path == b"/readyz":
            reason = status.not_ready()
            self._answer(503 if reason else 200, reason or "ready")
        elif path == b"/status":
            report = json.dumps(status.report())
            self._answer(200, report, content_type=b"application/json")
        elif path == b"/metrics":
            self._answer(200, self._admin.scrape.text(), content_type=METRICS_TYPE)
        else:
            self._heard = True
            verb = path[1:].decode()
            log.info("%s command received over the admin socket, from %s", verb, self._peer())
            self._loop.set_deadline(self, 0)
            if path == b"/reload":
                unknown = self._admin.reload(self._reloaded, self._words(head).get("app", ""))
                if unknown:
                    self._loop.set_deadline(self, _TIMEOUT)
                    self._answer(404, unknown)
            elif path == b"/reopen-logs":
                failure = self._admin.reopen_logs()
                self._loop.set_deadline(self, _TIMEOUT)
                self._answer(500 if failure else 200, failure or "the log files are open anew")
            elif path == b"/maintenance":
                self._loop.set_deadline(self, _TIMEOUT)
                self._maintain(self._words(head))
            elif path == b"/scale":
                self._loop.set_deadline(self, _TIMEOUT)
                self._scale(self._words(head))
            else:
                self._lasts = True
                self._answer(202, "stopping")
                self._admin.stop()

    def _words(self, head: RequestHead) -> dict[str, str]:
        """Return the query, decoded."""
        # It takes time to import, and is rarely needed.
        from reactor_run.protocol.path import decode_path

        words = {}
        for part in head.target.partition(b"?")[2].split(b"&"):
            name, _, value = part.partition(b"=")
            words[decode_path(name).decode(errors="replace")] = decode_path(value).decode(
                errors="replace"
            )
        return words

    def _maintain(self, words: dict[str, str]) -> None:
        text = words.get("on")
        if (text is None) == ("off" not in words):
            self._answer(400, "write ?on, ?on=TEXT or ?off")
        elif text is not None and not text.isprintable():
            self._answer(400, "the text has a control character")
        else:
            failure = self._admin.maintain(text, words.get("app", ""))
            state = "off" if text is None else "on"
            self._answer(404 if failure else 200, failure or f"maintenance is {state}")

    def _scale(self, words: dict[str, str]) -> None:
        number = words.get("to", "")
        if not number.isascii() or not number.isdigit() or not 0 < len(number) < 6:
            self._answer(400, "write ?to=N")
            return
        wanted = max(1, int(number))
        failure = self._admin.scale(words.get("app", ""), wanted)
        done = f"{wanted} reactors are wanted" if wanted > 1 else "1 reactor is wanted"
        self._answer(404 if failure else 200, failure or done)

    def _reloaded(self, failure: str | None) -> None:
        if not self._closed:
            self._loop.set_deadline(self, _TIMEOUT)
            self._answer(500 if failure else 200, failure or self._admin.status.serves())

    def _peer(self) -> str:
        """Return the process at the other end of a unix socket (SO_PEERCRED of unix(7))."""
        size = struct.calcsize("3i")
        data = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        pid, uid, _ = struct.unpack("3i", data)
        return f"process {pid} of user {uid}"

    def _refusal(self, head: RequestHead) -> str | None:
        """Return why a well-formed request must be rejected, or None."""
        if self._admin.for_machines:
            return None
        fields = {name.lower(): value for name, value in head.fields}
        # Of browsers, only our own page and the address bar or a link may ask. A unix socket may be
        # forwarded to a port of another machine (ssh -L), where a browser runs.
        site = fields.get(b"sec-fetch-site", b"none")
        follows_link = fields.get(b"sec-fetch-mode") == b"navigate" and head.method == b"GET"
        if b"origin" in fields or not (site in (b"none", b"same-origin") or follows_link):
            return "requests of other pages are not allowed"
        if self._trusted:
            return None
        if head.method == b"POST":
            return "POST is not allowed over TCP: use --admin unix:/PATH, or signals"
        # Another name can be made to resolve to this machine (DNS rebinding).
        if not _LOCAL_HOST.fullmatch(fields.get(b"host", b"localhost")):
            return "the Host field names another machine"
        return None

    def _answer(
        self,
        status: int,
        text: str,
        fields: tuple[tuple[bytes, bytes], ...] = (),
        *,
        content_type: bytes = b"text/plain; charset=utf-8",
    ) -> None:
        self._heard = True
        self._out = simple_response(
            status,
            text.encode() + b"\n",
            content_type=content_type,
            fields=(*fields, *_FIELDS),
            date_field=date_field(),
            own_fields=self._admin.own_fields,
            close=True,
            head_only=self._head_only,
        )
        self._send()

    def _send(self) -> None:
        """Send what the kernel takes. After all of it, wait for the client to close the connection.

        Closing it first would cause a reset if the client still sends, and a reset destroys the
        answer.
        """
        try:
            self._out = self._out[self._sock.send(self._out) :]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        events = select.EPOLLIN if not self._out else select.EPOLLIN | select.EPOLLOUT
        self._loop.modify(self._sock.fileno(), events)
        if self._out:
            return
        if self._lasts:
            return
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
