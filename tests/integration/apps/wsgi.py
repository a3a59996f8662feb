"""The WSGI counterpart of the ASGI app: the same paths, as far as WSGI can say the same."""

from __future__ import annotations

import contextvars
import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qsl

from tests.integration.apps.shared import BLOCK, is_open, note, pattern

Environ = dict[str, Any]
Fields = list[tuple[str, str]]
StartResponse = Callable[..., Callable[[bytes], object]]
PIECE = 65536


class Exchange:
    """One request and its response, as WSGI shows it to an app."""

    def __init__(self, environ: Environ, start_response: StartResponse) -> None:
        self.environ = environ
        self.start_response = start_response
        self.query = dict(parse_qsl(environ["QUERY_STRING"], keep_blank_values=True))

    def number(self, name: str, default: float) -> float:
        return float(self.query.get(name, default))

    def note(self, text: str) -> None:
        note(self.query.get("notes", ""), text)

    def gate(self) -> None:
        while not is_open(self.query.get("gate", "")):
            time.sleep(0.005)

    def pieces(self) -> Iterator[bytes]:
        while piece := self.environ["wsgi.input"].read(PIECE):
            yield piece

    def start(self, status: str = "200 OK", fields: Iterable[tuple[str, str]] = ()) -> None:
        self.start_response(status, list(fields))

    def reply(
        self, data: bytes, status: str = "200 OK", fields: Iterable[tuple[str, str]] = ()
    ) -> list[bytes]:
        length = ("Content-Length", str(len(data)))
        self.start(status, [("Content-Type", "text/plain"), length, *fields])
        return [data]

    def reply_json(self, value: Any) -> list[bytes]:
        return self.reply(json.dumps(value).encode())


Route = Callable[[Exchange], Iterable[bytes]]


def hello(http: Exchange) -> Iterable[bytes]:
    return http.reply(http.query.get("say", "hello").encode())


def pid(http: Exchange) -> Iterable[bytes]:
    return http.reply_json(os.getpid())


def wait(http: Exchange) -> Iterable[bytes]:
    http.note(str(os.getpid()))
    http.gate()
    return http.reply(http.query.get("say", "waited").encode())


def tasks(http: Exchange) -> Iterable[bytes]:
    """This process, and how many threads live in it."""
    return http.reply_json([os.getpid(), threading.active_count()])


def leave(http: Exchange) -> Iterable[bytes]:
    """End the reactor's process."""
    os._exit(3)


def echo(http: Exchange) -> Iterable[bytes]:
    length = http.environ.get("CONTENT_LENGTH")
    http.start(fields=[("Content-Length", length)] if length else [])
    return http.pieces()


def hash(http: Exchange) -> Iterable[bytes]:
    digest, size = hashlib.sha256(), 0
    for piece in http.pieces():
        digest.update(piece)
        size += len(piece)
    return http.reply_json({"sha256": digest.hexdigest(), "size": size})


def early(http: Exchange) -> Iterable[bytes]:
    return http.reply(b"no need to read that", f"{int(http.number('status', 200))} Early")


def download(http: Exchange) -> Iterable[bytes]:
    size = int(http.number("size", 0))
    http.start(fields=[("Content-Length", str(size))] if http.number("length", 1) else [])
    yield from pattern(size)
    http.note("finished")


def steps(http: Exchange, *fields: tuple[str, str]) -> Iterable[bytes]:
    http.start(fields=[("Content-Type", "text/event-stream"), *fields])
    yield b"data: 1\n\n"
    http.gate()
    yield b"data: 2\n\n"
    http.query["gate"] = http.query["gate2"]
    http.gate()
    yield b"data: 3\n\n"


def x_accel_buffering(http: Exchange) -> Iterable[bytes]:
    return steps(http, ("X-Accel-Buffering", "no"))


class endless:
    """The pattern for ever; its `close` leaves a note."""

    def __init__(self, http: Exchange) -> None:
        self.http = http
        http.start()
        http.note("started")

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield BLOCK

    def close(self) -> None:
        self.http.note("closed")


def environ(http: Exchange) -> Iterable[bytes]:
    for _ in http.pieces():
        pass
    return http.reply_json({k: v for k, v in http.environ.items() if isinstance(v, str)})


def cookies(http: Exchange) -> Iterable[bytes]:
    return http.reply(b"", fields=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2; Path=/")])


def status(http: Exchange) -> Iterable[bytes]:
    http.start(f"{int(http.number('code', 200))} Whatever")
    return []


def raise_before(http: Exchange) -> Iterable[bytes]:
    raise ValueError("before the start")


def raise_after(http: Exchange) -> Iterable[bytes]:
    http.start()
    yield b"some of it"
    raise ValueError("after the start")


def no_answer(http: Exchange) -> Iterable[bytes]:
    """Never call `start_response`."""
    return []


def too_few(http: Exchange) -> Iterable[bytes]:
    http.start(fields=[("Content-Length", "10")])
    return [b"12345"]


def too_many(http: Exchange) -> Iterable[bytes]:
    http.start(fields=[("Content-Length", "5")])
    return [b"1234567890"]


ILLEGAL = {
    "value-crlf": ("X-Bad", "a\r\nX-Forged: 1"),
    "value-lf": ("X-Bad", "a\nX-Forged: 1"),
    "value-nul": ("X-Bad", "a\0b"),
    "name-space": ("X Bad", "a"),
    "name-crlf": ("X-Bad\r\nX-Forged", "1"),
    "name-empty": ("", "1"),
}


def illegal(http: Exchange) -> Iterable[bytes]:
    return http.reply(b"fine", fields=[ILLEGAL[http.query["field"]]])


# Isolation

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def contextvar(http: Exchange) -> Iterable[bytes]:
    """What the variable was before this request, which sets it."""
    before = VARIABLE.get()
    VARIABLE.set(http.query["value"])
    return http.reply(before.encode())


BASE_EXCEPTIONS: dict[str, type[BaseException]] = {
    "SystemExit": SystemExit,
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
}


def base_exception(http: Exchange) -> Iterable[bytes]:
    raise BASE_EXCEPTIONS[http.query["kind"]]("from the app")


def late_base_exception(http: Exchange) -> Iterable[bytes]:
    """Raise it from the iterable, once the answer has begun."""
    http.start()
    yield b"some of it"
    raise BASE_EXCEPTIONS[http.query["kind"]]("from the app")


# PEP 3333, the rarer parts


def write(http: Exchange) -> Iterable[bytes]:
    write = http.start_response("200 OK", [("Content-Type", "text/plain")])
    write(b"written ")
    write(b"twice, ")
    return [b"then returned"]


def replaced(http: Exchange) -> Iterable[bytes]:
    """A head taken back with `exc_info` before anything of it was sent."""
    http.start_response("200 OK", [("X-First", "1")])
    try:
        raise ValueError("found out late")
    except ValueError:
        http.start_response("503 Sorry", [("Content-Length", "5")], sys.exc_info())
    return [b"sorry"]


def file(http: Exchange) -> Iterable[bytes]:
    """The file named in the query, through `wsgi.file_wrapper`."""
    size = os.path.getsize(http.query["path"])
    http.start(fields=[("Content-Length", str(size))])
    file = open(http.query["path"], "rb")  # noqa: SIM115 - the wrapper closes it
    wrapped: Iterable[bytes] = http.environ["wsgi.file_wrapper"](file)
    return wrapped


def lines(http: Exchange) -> Iterable[bytes]:
    """The body read by `readline`, `readlines` and iteration in turn."""
    body = http.environ["wsgi.input"]
    first = body.readline()
    second = body.readline(2)
    some = body.readlines(1)
    return http.reply_json([each.decode() for each in [first, second, *some, *body]])


ROUTES: list[Route] = [
    hello,
    pid,
    wait,
    tasks,
    leave,
    echo,
    hash,
    early,
    download,
    steps,
    x_accel_buffering,
    endless,
    environ,
    cookies,
    status,
    raise_before,
    raise_after,
    no_answer,
    too_few,
    too_many,
    illegal,
    contextvar,
    base_exception,
    late_base_exception,
    write,
    replaced,
    file,
    lines,
]
TABLE = {"/" + route.__name__.replace("_", "-"): route for route in ROUTES}


def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    exchange = Exchange(environ, start_response)
    route = TABLE.get(environ["PATH_INFO"])
    if route is None:
        return exchange.reply(b"no such route", "404 Not Found")
    return route(exchange)
