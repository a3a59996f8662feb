"""A WSGI app whose paths do what the tests of a reactor need; for one thread and for several.

Notes and gates work as in driven_asgi. A gate needs a second thread to open it.
"""

from __future__ import annotations

import contextvars
import ctypes
import gc
import json
import logging
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

HANDLERS: dict[str, Callable] = {}
NOTES: dict[str, list[str]] = defaultdict(list)
GATES: dict[str, threading.Event] = defaultdict(threading.Event)
LEFT: dict[str, Any] = {}
"""Objects that one exchange leaves and another one misuses."""
SENT: dict[str, int] = defaultdict(int)
"""How many calls a thread has finished, by key."""
VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

Environ = dict[str, Any]
Start = Callable[..., Any]


def on(path: str) -> Callable[[Callable], Callable]:
    def register(handler: Callable) -> Callable:
        HANDLERS[path] = handler
        return handler

    return register


def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
    query = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    return HANDLERS[environ["PATH_INFO"]](environ, start_response, query)


def whole(start_response: Start, body: bytes) -> list[bytes]:
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


@on("/open")
def open_gate(environ: Environ, start: Start, query: dict[str, str]) -> Iterable[bytes]:
    GATES[query["key"]].set()
    return whole(start, b"open")


@on("/notes")
def notes(environ: Environ, start: Start, query: dict[str, str]) -> Iterable[bytes]:
    return whole(start, json.dumps(NOTES[query["key"]]).encode())


@on("/note")
def note(environ: Environ, start: Start, query: dict[str, str]) -> Iterable[bytes]:
    NOTES[query["key"]].append("noted")
    return whole(start, b"noted")


@on("/hello")
def hello(environ: Environ, start: Start, query: dict[str, str]) -> Iterable[bytes]:
    return whole(start, b"hello")


@on("/slow")
def slow(environ: Environ, start: Start, query: dict[str, str]) -> Iterable[bytes]:
    time.sleep(float(query.get("ms", "10")) / 1000)
    return whole(start, b"slow")


@on("/stall")
def stall(environ: Environ, start: Start, query: dict[str, str]) -> Iterable[bytes]:
    """Return once the file `until` exists."""
    while not os.path.exists(query["until"]):
        time.sleep(0.005)
    return whole(start, b"stalled")


@on("/scope")
def scope(environ: Environ, start: Start, query: dict[str, str]) -> Iterable[bytes]:
    return whole(start, json.dumps([environ.get("REMOTE_ADDR"), environ["SERVER_PORT"]]).encode())


@on("/noted-wait")
def noted_wait(environ: Environ, start: Start, query: dict[str, str]) -> Iterable[bytes]:
    NOTES[query["key"]].append("waiting")
    return wait(environ, start, query)


@on("/wait")
def wait(environ: Environ, start: Start, query: dict[str, str]) -> Iterable[bytes]:
    assert GATES[query["key"]].wait(15)
    return whole(start, b"waited")


@on("/echo")
def echo(environ: Environ, start: Start, query: dict[str, str]) -> Iterable[bytes]:
    return whole(start, environ["wsgi.input"].read())


@on("/pieces")
def pieces(environ: Environ, start: Start, query: dict[str, str]) -> Iterable[bytes]:
    """Read the body in parts of five bytes, and report how an early end appears."""
    try:
        while piece := environ["wsgi.input"].read(5):
            NOTES[query["key"]].append(piece.decode())
    except OSError as error:
        NOTES[query["key"]].append(type(error).__name__)
        raise
    return whole(start, b"read")


@on("/unread")
def unread(environ: Environ, start: Start, query: dict[str, str]) -> Iterable[bytes]:
    return whole(start, b"unread")


@on("/size")
def size(environ: Environ, start: Start, query: dict[str, str]) -> Iterable[bytes]:
    return whole(start, b"s" * int(query["n"]))


@on("/stream")
def stream(environ: Environ, start: Start, query: dict[str, str]) -> Iterable[bytes]:
    """Yield some pieces without a length, and note when all of them are taken."""
    start("200 OK", [])

    def blocks() -> Iterator[bytes]:
        for _ in range(int(query["n"])):
            yield b"p" * 65536
        NOTES[query["key"]].append("all")

    return blocks()


@on("/fail")
def fail(environ: Environ, start: Start, query: dict[str, str]) -> Iterable[bytes]:
    if query["where"] == "before":
        raise LookupError("failed before")
    start("200 OK", [])

    def blocks() -> Iterator[bytes]:
        yield b"a part"
        raise LookupError("failed while streaming")

    return blocks()


@on("/raise")
def raise_(environ: Environ, start: Start, query: dict[str, str]) -> Iterable[bytes]:
    raise {e.__name__: e for e in (SystemExit, KeyboardInterrupt, GeneratorExit)}[query["what"]]


@on("/variable")
def variable(environ: Environ, start: Start, query: dict[str, str]) -> Iterable[bytes]:
    before = VARIABLE.get()
    VARIABLE.set("set")
    return whole(start, f"{before} {threading.current_thread().name}".encode())


# What outlives an exchange


def note_failure(key: str, call: Callable, *arguments: object) -> None:
    """Call again and again, and note the exception that ends it."""
    try:
        while call(*arguments) != b"":
            SENT[key] += 1
    except Exception as error:
        NOTES[key].append("OSError" if isinstance(error, OSError) else type(error).__name__)
    else:
        NOTES[key].append("the end")


def leave_thread(key: str, call: Callable, *arguments: object) -> None:
    """Start a thread that calls again and again, and return when it waits."""
    thread = threading.Thread(target=note_failure, args=(key, call, *arguments), daemon=True)
    thread.start()
    state = Path(f"/proc/self/task/{thread.native_id}/stat")
    asleep = 0
    while asleep < 20:
        before = SENT[key]
        time.sleep(0.005)
        is_asleep = state.read_text().rpartition(")")[2].split()[0] == "S"
        asleep = asleep + 1 if is_asleep and SENT[key] == before else 0


@on("/leave-reader")
def leave_reader(environ: Environ, start: Start, query: dict[str, str]) -> Iterable[bytes]:
    """Leave a thread that waits for the body."""
    leave_thread(query["key"], environ["wsgi.input"].read, 10)
    return whole(start, b"left")


@on("/leave-writer")
def leave_writer(environ: Environ, start: Start, query: dict[str, str]) -> Iterable[bytes]:
    """Leave a thread that waits until the client reads, and fail."""
    leave_thread(query["key"], start("200 OK", []), b"w" * 65536)
    raise LookupError("failed before its thread")


@on("/keep-channels")
def keep_channels(environ: Environ, start: Start, query: dict[str, str]) -> Iterable[bytes]:
    """Answer without reading, and keep both channels."""
    write = start("200 OK", [("Content-Length", "4")])
    LEFT["channels"] = environ["wsgi.input"], write
    return [b"kept"]


@on("/use-channels")
def use_channels(environ: Environ, start: Start, query: dict[str, str]) -> Iterable[bytes]:
    body, write = LEFT.pop("channels")
    note_failure(query["key"], body.read, 10)
    note_failure(query["key"], write, b"late")
    return whole(start, b"used")


class Odd(bytes):
    """Bytes with a wrong len()."""

    def __len__(self) -> int:
        return 3


@on("/odd")
def odd(environ: Environ, start: Start, query: dict[str, str]) -> Iterable[bytes]:
    write = start("200 OK", [])
    if query["how"] == "write":
        write(Odd(b"odd bytes"))
        return []
    blocks = [Odd(b"odd "), Odd(b"bytes")]
    return blocks if query["how"] == "list" else iter(blocks)


# Failing in a way that is hard to report


def fail_to_show(*_: object) -> None:
    raise RuntimeError("this cannot be shown")


unprintable: Any = fail_to_show


class Unprintable(Exception):
    __str__ = __repr__ = unprintable


class UnprintableHandler(logging.Handler):
    emit = unprintable


@on("/spoil")
def spoil(environ: Environ, start: Start, query: dict[str, str]) -> Iterable[bytes]:
    """Break an object that a report of the failure would use, and fail."""
    how = query["how"]
    if how == "environ":
        environ.update(dict.fromkeys(environ, Unprintable()))
    elif how == "factory":
        logging.setLogRecordFactory(unprintable)
    elif how == "filter":
        logging.getLogger("reactor_run.error").addFilter(unprintable)
        logging.getLogger("reactor_run.error").handlers[:] = [UnprintableHandler()]
    elif how == "stderr":
        sys.stderr.close()
    elif how == "block":
        start("200 OK", [])
        return [Unprintable()]  # type: ignore[list-item]
    # Failures of one kind are not all logged.
    raise Unprintable if how == "unprintable" else type(how, (LookupError,), {})


@on("/throw")
def throw(environ: Environ, start: Start, query: dict[str, str]) -> Iterable[bytes]:
    """Throw an exception into the other threads of the pool, as timeout decorators do."""
    for thread in threading.enumerate():
        if thread.name.startswith("wsgi-") and thread is not threading.current_thread():
            assert thread.ident is not None
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
            )
    return whole(start, b"thrown")


# Memory


class Precious:
    """Writes to the log when it is freed."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __del__(self) -> None:
        os.write(2, f"{self._key} is gone\n".encode())


@on("/precious")
def precious(environ: Environ, start: Start, query: dict[str, str]) -> Iterable[bytes]:
    """Put something into the environ, and end in one of two ways."""
    gc.disable()
    environ["precious"] = Precious(query["key"])
    if query.get("fail"):
        raise LookupError(environ)
    return whole(start, environ["wsgi.input"].read())


MEETING: Final = threading.Barrier(2)


@on("/meet")
def meet(environ: Environ, start: Start, query: dict[str, str]) -> Iterable[bytes]:
    """Wait until another thread serves such a request too."""
    MEETING.wait(8)
    return whole(start, b"met")
