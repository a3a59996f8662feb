"""Answers requests with the files of one directory, for one route.

A file that is in memory is opened, and if it is small read, in the loop: that takes some 10 µs. All
that needs the disk is left to a thread, and the request waits meanwhile, at most --queue-timeout.
"""

from __future__ import annotations

import os
from http import HTTPStatus
from typing import Final, NamedTuple

from reactor_run.clock import date_field
from reactor_run.frontend.clients.context import ClientContext
from reactor_run.frontend.clients.file_writer import FilePart
from reactor_run.frontend.clients.own_answers import OwnAnswer
from reactor_run.frontend.clients.requester import Http1Requester
from reactor_run.frontend.exchanges.exchange import OVER, WAITING, Exchange
from reactor_run.frontend.log import limited
from reactor_run.frontend.routes.redirect import directory_location
from reactor_run.frontend.routes.route import StaticTarget
from reactor_run.frontend.routes.table import literal_segments
from reactor_run.frontend.static.beneath import Directory, OpenFile
from reactor_run.frontend.static.codings import accepted_codings
from reactor_run.frontend.static.conditions import CONDITIONS, Decision, decide
from reactor_run.frontend.static.content import read_all, read_ready
from reactor_run.frontend.static.disk_threads import DiskThreads
from reactor_run.frontend.static.lookup import FoundFile, Lookup, NeedsSlash, Plan, tag_of
from reactor_run.protocol.response import encode_response_head, simple_response
from reactor_run.protocol.target import split_target

__all__ = ["FileAnswers"]

_SMALL: Final = 65536
"""The most bytes that are read and sent together with their head, without sendfile."""
_OPEN_AGAIN: Final = 1.0
"""Seconds after which a directory is looked up by its name again: a deploy may have replaced it."""
_PLANS_MAX: Final = 1024
"""Most paths that are remembered."""
_PLAN_PATH_MAX: Final = 256
"""Most bytes of a path that is remembered."""
_FIELDS: Final = (*CONDITIONS, b"accept-encoding")
_METHODS: Final = b"GET, HEAD, OPTIONS"
_FAILED: Final = OwnAnswer(500, "Internal Server Error")
_NO_FILES: Final = OwnAnswer(503, "Service Unavailable", (b"retry-after", b"1"))

_space = memoryview(bytearray(_SMALL))
"""The memory that small files are read into."""


class _Request(NamedTuple):
    """What a request asks for, as far as files are concerned."""

    exchange: Exchange
    plan: Plan
    codings: tuple[bytes, ...]
    conditions: list[bytes]


class _Loaded(NamedTuple):
    """An open file, what to send of it, and its bytes if they are few."""

    found: FoundFile
    decision: Decision
    content: bytes | memoryview | None


class FileAnswers:
    """Answers the requests of one route with a directory."""

    def __init__(
        self,
        context: ClientContext,
        threads: DiskThreads,
        directory: str,
        target: StaticTarget,
        prefix: tuple[bytes, ...],
    ) -> None:
        """`directory`: an absolute path. Raises OSError."""
        self._context = context
        self._threads = threads
        self._path = directory
        self._depth = len(prefix)
        self._lookup = Lookup(
            target.index_file, target.fallback_file, target.cache, compressed=target.compressed
        )
        self._plans: dict[bytes, Plan] = {}
        """What is tried for paths that have led to a file. To make one takes as long as to open a
        file twice."""
        self._directory = Directory(directory)
        self._opened = context.loop.now

    def __call__(self, exchange: Exchange) -> None:
        """Answer a request, now or later."""
        head = exchange.head
        method = head.method
        if method == b"OPTIONS":
            self._send(exchange, 204, ((b"allow", _METHODS),))
            return
        if method not in (b"GET", b"HEAD"):
            self._say(exchange, 405, ((b"allow", _METHODS),))
            return
        target = head.target
        path = target.partition(b"?")[0] if target[:1] == b"/" else split_target(target)[0]
        plan = self._plans.get(path)
        if plan is None:
            segments = literal_segments(path)[self._depth :]
            if not segments:
                # The prefix itself, which names the directory without a slash.
                self._redirect(exchange)
                return
            plan = self._lookup.plan(segments)
            if plan is None:
                self._say(exchange, 404)
                return
        *conditions, accepted = head.values(_FIELDS)
        codings = accepted_codings(accepted) if accepted and plan.compressible else ()
        request = _Request(exchange, plan, codings, conditions)
        try:
            found = self._find_in_memory(request)
        except BlockingIOError:
            self._find_by_thread(request)
        except (NeedsSlash, OSError) as error:
            self._fail(exchange, error)
        else:
            self._remember(path, plan)
            self._answer(request, found)

    def _remember(self, path: bytes, plan: Plan) -> None:
        if path not in self._plans and len(path) <= _PLAN_PATH_MAX:
            if len(self._plans) >= _PLANS_MAX:
                self._plans.clear()
            self._plans[path] = plan

    def close(self) -> None:
        """Close the directory."""
        self._directory.close()

    # Finding -------------------------------------------------------------------------------------

    def _find_in_memory(self, request: _Request) -> FoundFile:
        """Raises BlockingIOError if that needs the disk, and what `Lookup.find` raises."""
        if self._context.loop.now - self._opened > _OPEN_AGAIN:
            raise BlockingIOError
        directory = self._directory

        def open_file(name: bytes) -> OpenFile:
            return directory.open(name, from_memory=True)

        return self._lookup.find(request.plan, request.codings, open_file)

    def _find_by_thread(self, request: _Request) -> None:
        exchange = request.exchange
        exchange.requester.queued()
        # The others go on with the old directory.
        self._opened = self._context.loop.now
        try:
            # The loop may close its own meanwhile.
            old = self._directory.duplicate()
        except OSError as error:
            self._fail(exchange, error)
            return

        def work() -> tuple[Directory, _Loaded | Exception]:
            directory = self._open_again(old)
            try:
                return directory, self._load(request, directory)
            except Exception as error:
                return directory, error

        def then(outcome: tuple[Directory, _Loaded | Exception] | Exception) -> None:
            if isinstance(outcome, Exception):
                loaded: _Loaded | Exception = outcome
            else:
                self._directory.close()
                self._directory, loaded = outcome
            if exchange.state is WAITING:
                if isinstance(loaded, _Loaded):
                    self._answer_with(request, loaded)
                else:
                    self._fail(exchange, loaded)
            elif isinstance(loaded, _Loaded):
                # Its client has left.
                os.close(loaded.found.file.fd)

        self._threads.run(work, then)

    def _open_again(self, old: Directory) -> Directory:
        """Return the directory that has the name now; `old` if there is none, as in a deploy."""
        try:
            directory = Directory(self._path)
        except OSError as error:
            limited.error("cannot open %s, using the old one: %s", self._path, error.strerror)
            return old
        old.close()
        return directory

    def _load(self, request: _Request, directory: Directory) -> _Loaded:
        """Find a file in a thread, and read it if it is small."""
        found = self._lookup.find(
            request.plan,
            request.codings,
            lambda name: directory.open(name, from_memory=False),
        )
        try:
            decision = self._decide(request, found)
            content = None
            if _is_small(decision) and request.exchange.head.method == b"GET":
                content = read_all(found.file, decision.start, decision.end)
        except BaseException:
            os.close(found.file.fd)
            raise
        return _Loaded(found, decision, content)

    def _decide(self, request: _Request, found: FoundFile) -> Decision:
        file = found.file
        if not any(request.conditions):
            return Decision(200, 0, file.size)
        return decide(
            request.exchange.head,
            request.conditions,
            tag_of(file, found.coding),
            file.modified // 1_000_000_000,
            file.size,
        )

    # Answering -----------------------------------------------------------------------------------

    def _answer(self, request: _Request, found: FoundFile) -> None:
        """Answer with a file that was opened in the loop."""
        decision = self._decide(request, found)
        content = None
        if _is_small(decision) and request.exchange.head.method == b"GET":
            space = _space[: decision.end - decision.start]
            try:
                in_memory = read_ready(found.file.fd, decision.start, space)
            except OSError as error:
                os.close(found.file.fd)
                self._fail(request.exchange, error)
                return
            if not in_memory:
                os.close(found.file.fd)
                self._find_by_thread(request)
                return
            content = space
        self._answer_with(request, _Loaded(found, decision, content))

    def _answer_with(self, request: _Request, loaded: _Loaded) -> None:
        """Answer with what was found. Closes the file, or has it closed."""
        found, decision, content = loaded
        exchange = request.exchange
        file = found.file
        status, start, end = decision
        entry = found.entry
        if status == 200:
            fields = entry.fields(file, found.coding)
        elif status == 206:
            content_range = b"bytes %d-%d/%d" % (start, end - 1, file.size)
            fields = (*entry.fields(file, found.coding), (b"content-range", content_range))
        elif status == 304:
            fields = entry.validators(file, found.coding)
        else:
            fields = ((b"content-range", b"bytes */%d" % file.size),) if status == 416 else ()
        if status in (412, 416):
            os.close(file.fd)
            self._say(exchange, status, fields)
        elif content is not None or status == 304 or exchange.head.method == b"HEAD":
            os.close(file.fd)
            self._send(exchange, status, fields, content, length=end - start)
        else:
            requester = exchange.requester
            assert isinstance(requester, Http1Requester)
            head = self._head(exchange, status, fields, end - start)
            requester.answer_file(head, FilePart(self._threads, file.fd, start, end))

    def _head(
        self,
        exchange: Exchange,
        status: int,
        fields: tuple[tuple[bytes, bytes], ...],
        length: int | None,
    ) -> bytes:
        head, _ = encode_response_head(
            status,
            fields,
            method=exchange.head.method,
            minor_version=1,
            length=length,
            date_field=date_field(),
            own_fields=self._context.own_fields,
        )
        return head

    def _send(
        self,
        exchange: Exchange,
        status: int,
        fields: tuple[tuple[bytes, bytes], ...],
        content: bytes | memoryview | None = None,
        length: int | None = None,
    ) -> None:
        """Answer with a head and a content that is in memory."""
        head = self._head(exchange, status, fields, length)
        exchange.state = OVER
        exchange.requester.answer_whole(b"".join((head, content)) if content else head)

    def _say(
        self, exchange: Exchange, status: int, fields: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        """Answer with a status and its name."""
        exchange.state = OVER
        exchange.requester.answer_whole(
            simple_response(
                status,
                HTTPStatus(status).phrase.encode() + b"\n",
                fields=fields,
                date_field=date_field(),
                own_fields=self._context.own_fields,
                close=False,
                head_only=exchange.head.method == b"HEAD",
            )
        )

    def _redirect(self, exchange: Exchange) -> None:
        self._say(exchange, 308, ((b"location", directory_location(exchange.head)),))

    def _fail(self, exchange: Exchange, error: Exception) -> None:
        """Answer a request for which no file was found."""
        if isinstance(error, NeedsSlash):
            self._redirect(exchange)
        elif isinstance(error, FileNotFoundError):
            self._say(exchange, 404)
        elif isinstance(error, PermissionError):
            limited.warning("no permission to read a file for %s", exchange.name)
            self._say(exchange, 403)
        elif isinstance(error, OSError):
            limited.error("cannot read a file for %s: %s", exchange.name, error.strerror)
            self._answer_here(exchange, _NO_FILES)
        else:
            limited.error("internal error, please report it", exc_info=error)
            self._answer_here(exchange, _FAILED)

    @staticmethod
    def _answer_here(exchange: Exchange, own: OwnAnswer) -> None:
        requester = exchange.requester
        assert isinstance(requester, Http1Requester)
        requester.answer_here(own)


def _is_small(decision: Decision) -> bool:
    """Whether there are bytes to send, and few."""
    return decision.status in (200, 206) and decision.end - decision.start <= _SMALL
