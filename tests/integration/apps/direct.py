"""An app with large answers, as ASGI and as WSGI, whose bytes tell which answer they belong to.

Each answer is found by its `seed`, so a byte of another answer, a byte twice or a lost byte shows.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import resource
import signal
import socket
import time
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import anyio

from reactor_run.offers import Offers
from reactor_run.reactor.links.client_sockets import ClientDuplicate
from tests.integration.apps import asgi_kit, wsgi

PIECE = 300_000
"""The size in bytes of a piece of an answer: more than the reactor keeps without sending it."""


def content(seed: int, size: int) -> bytes:
    """Return the `size` bytes of the answer `seed`."""
    # A prime length, so that a shift by the size of a buffer shows.
    block = hashlib.shake_128(b"%d" % seed).digest(4093)
    return (block * (size // len(block) + 1))[:size]


class Query(Protocol):
    """The part of both kinds of exchange that reads the query."""

    query: dict[str, str]

    def number(self, name: str, default: float) -> float: ...


class Answer:
    """What a query asks for.

    size, seed: the content. length=0: without Content-Length. at: the bytes before the gate.
    piece: the size of a piece. die: the reactor kills itself after the last byte. die_at: it does
    when it writes a whole answer to the client (see the function).
    """

    def __init__(self, http: Query) -> None:
        self.size = int(http.number("size", 0))
        self.body = memoryview(content(int(http.number("seed", 0)), self.size))
        self.at = int(http.number("at", 0)) if "gate" in http.query else -1
        self.piece = int(http.number("piece", PIECE))
        self.dies = bool(http.number("die", 0))
        self.has_length = bool(http.number("length", 1))
        if "die_at" in http.query:
            die_at(http.query["die_at"])

    def pieces(self) -> Iterator[bytes | None]:
        """The pieces of the body; None where the app waits at the gate."""
        start = 0
        stops = {*range(self.piece, self.size, self.piece), self.size}
        if self.at >= 0:
            stops.add(self.at)
        for stop in sorted(stops):
            if stop > start:
                yield bytes(self.body[start:stop])
                start = stop
            if stop == self.at:
                yield None


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(moment: str) -> None:
    """Let this process kill itself before it writes to a client, after that, or once the front end
    can see that a whole answer is written."""

    def before(*_: object) -> int:
        die()
        return 0

    def after(client: ClientDuplicate, pieces: Iterable[bytes | memoryview]) -> int:
        write(client, pieces)
        return before()

    def seen(offers: Offers, number: int) -> None:
        written(offers, number)
        die()

    write, written = ClientDuplicate.sendmsg, Offers.written
    if moment == "seen":
        Offers.written = seen  # type: ignore[assignment,method-assign]
    else:
        dies = before if moment == "before" else after
        ClientDuplicate.sendmsg = dies  # type: ignore[method-assign]


def lasting_child(http: Query) -> int:
    """Fork a child of which Python knows nothing, so that it keeps all descriptors.

    The query may have `blocking`: it first clears O_NONBLOCK of the sockets of clients.
    """
    clients = tcp_sockets() if "blocking" in http.query else []
    pid: int = ctypes.PyDLL(None).fork()
    if pid == 0:
        for descriptor in clients:
            os.set_blocking(descriptor, True)
        while True:
            time.sleep(1000)
    return pid


def tcp_sockets() -> list[int]:
    """The descriptors of this process that are TCP sockets."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            with socket.socket(fileno=os.dup(int(name))) as sock:
                if sock.family == socket.AF_INET:
                    found.append(int(name))
        except OSError:
            # It is no socket, or was the one of listdir.
            continue
    return found


def set_timeout() -> None:
    """Give each socket that this process makes from now on a timeout, as some apps do."""
    socket.setdefaulttimeout(0.5)


def limit_files(spare: int) -> None:
    """Leave only `spare` more descriptors to this process."""
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + spare, hard))


# ASGI


async def answer(http: asgi_kit.Exchange) -> None:
    """What the query asks for; notes where it is."""
    what = Answer(http)
    fields = [(b"content-length", b"%d" % what.size)] if what.has_length else []
    if what.at < 0 or what.at:
        await http.start(fields=fields)
    sent = 0
    try:
        for piece in what.pieces():
            if piece is None:
                http.note("at the gate")
                await http.gate()
                if what.at == 0:
                    await http.start(fields=fields)
            else:
                sent += len(piece)
                await http.body(piece, more=sent < what.size)
        if what.dies:
            die()
        if not what.size:
            await http.body()
    except OSError:
        http.note("OSError")
        raise
    except BaseException as error:
        http.note(type(error).__name__)
        raise
    http.note("finished")


async def file(http: asgi_kit.Exchange) -> None:
    """The file that the query names, by http.response.pathsend."""
    await http.start()
    await http.send({"type": "http.response.pathsend", "path": http.query["path"]})


async def hints(http: asgi_kit.Exchange) -> None:
    """Two hints, before and after http.response.start; the answer when the gate is open.

    The query has the size of the answer, and `late`: a hint after the first part of the body.
    """

    async def hint(*links: bytes) -> None:
        await http.send({"type": "http.response.early_hint", "links": links})

    size = int(http.number("size", 0))
    await hint(b"</a.css>; rel=preload", b"</b.js>; rel=preload")
    await http.start(fields=[(b"content-length", b"%d" % size)])
    await hint(b"</c.js>; rel=preload")
    await hint()
    await http.gate()
    if "late" in http.query:
        await http.body(b"", more=True)
        await hint(b"</late>; rel=preload")
    await http.body(content(1, size))


async def trailers(http: asgi_kit.Exchange) -> None:
    """An answer in two pieces, then two trailer fields.

    The query has the size of the answer, and whether it has a Content-Length.
    """
    size = int(http.number("size", 0))
    body = content(1, size)
    fields = [(b"trailer", b"x-one, x-two")]
    if "length" in http.query:
        fields.append((b"content-length", b"%d" % size))
    start = {"type": "http.response.start", "status": 200, "headers": fields, "trailers": True}
    await http.send(start)
    if "pieces" in http.query:
        await http.body(body[: size // 2], more=True)
        body = body[size // 2 :]
    await http.body(body)
    end = {"type": "http.response.trailers"}
    await http.send({**end, "headers": [(b"X-One", b"1")], "more_trailers": True})
    await http.send({**end, "headers": [(b"x-two", b"2"), (b"content-length", b"3")]})


async def upload(http: asgi_kit.Exchange) -> None:
    """The hash of the body, which is read after the gate is open, then slowly if asked."""
    digest = hashlib.sha256()
    http.note("started")
    await http.gate()
    async for piece in http.pieces():
        digest.update(piece)
        await anyio.sleep(http.number("pause", 0))
    await http.reply(digest.hexdigest().encode())


async def echo(http: asgi_kit.Exchange) -> None:
    """The body, while it comes."""
    await http.start()
    async for piece in http.pieces():
        await http.body(piece, more=True)
    await http.body()


async def fork(http: asgi_kit.Exchange) -> None:
    await http.reply_json(lasting_child(http))


async def timeout(http: asgi_kit.Exchange) -> None:
    set_timeout()
    await http.reply(b"set")


async def nofile(http: asgi_kit.Exchange) -> None:
    limit_files(int(http.number("spare", 0)))
    await http.reply(b"limited")


asgi = asgi_kit.app_of(
    [*asgi_kit.COMMON, answer, file, hints, trailers, upload, echo, fork, timeout, nofile]
)


# WSGI


def wsgi_answer(http: wsgi.Exchange) -> Iterable[bytes]:
    what = Answer(http)
    fields = [("Content-Length", str(what.size))] if what.has_length else []
    pieces = what.pieces()
    if what.at == 0:
        http.note("at the gate")
        http.gate()
        next(pieces)
    http.start(fields=fields)
    try:
        for piece in pieces:
            if piece is None:
                http.note("at the gate")
                http.gate()
            else:
                yield piece
        if what.dies:
            # The answer is complete for the client; the reactor has not told the front end so.
            yield b""
            die()
    except GeneratorExit:
        http.note("closed")
        raise
    http.note("finished")


def wsgi_list(http: wsgi.Exchange) -> Iterable[bytes]:
    """The same as a list of pieces, which the reactor has as a whole."""
    what = Answer(http)
    http.start(fields=[("Content-Length", str(what.size))] if what.has_length else [])
    return [piece for piece in what.pieces() if piece]


def wsgi_hints(http: wsgi.Exchange) -> Iterable[bytes]:
    """The same by `wsgi.early_hints`, as gunicorn has it."""
    hint = http.environ["wsgi.early_hints"]
    size = int(http.number("size", 0))
    hint([("Link", "</a.css>; rel=preload"), (b"Link", b"</b.js>; rel=preload")])
    hint([("Link", "</c.js>; rel=preload"), ("Content-Length", "5"), ("Connection", "close")])
    hint([])
    http.gate()
    http.start(fields=[("Content-Length", str(size))])
    yield content(1, size)
    if "late" in http.query:
        hint([("Link", "</late>; rel=preload")])


def wsgi_upload(http: wsgi.Exchange) -> Iterable[bytes]:
    digest = hashlib.sha256()
    for piece in http.pieces():
        digest.update(piece)
    return http.reply(digest.hexdigest().encode())


def wsgi_fork(http: wsgi.Exchange) -> Iterable[bytes]:
    return http.reply_json(lasting_child(http))


def wsgi_timeout(http: wsgi.Exchange) -> Iterable[bytes]:
    set_timeout()
    return http.reply(b"set")


def wsgi_nofile(http: wsgi.Exchange) -> Iterable[bytes]:
    limit_files(int(http.number("spare", 0)))
    return http.reply(b"limited")


WSGI = {
    "/answer": wsgi_answer,
    "/list": wsgi_list,
    "/hints": wsgi_hints,
    "/upload": wsgi_upload,
    "/fork": wsgi_fork,
    "/timeout": wsgi_timeout,
    "/nofile": wsgi_nofile,
}


def wsgi_app(environ: dict[str, Any], start_response: wsgi.StartResponse) -> Iterable[bytes]:
    route = WSGI.get(environ["PATH_INFO"])
    if route is None:
        return wsgi.app(environ, start_response)
    return route(wsgi.Exchange(environ, start_response))
