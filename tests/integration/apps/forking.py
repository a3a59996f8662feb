"""An app that forks in its requests, as ASGI and as WSGI: the paths are the names in DEEDS."""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

import anyio
import anyio.lowlevel

FORK = multiprocessing.get_context("fork")
PATIENCE = 8.0
"""Seconds that a child has to end."""
ENDLESS = 1_000_000
"""Bytes that an answer promises which is cut."""


def ended(pid: int) -> int | str:
    """How a child ended, as a Popen has it; "alive" if it has not, and is killed."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "alive"


def exits() -> object:
    pid = os.fork()
    if pid == 0:
        sys.exit(3)
    return ended(pid)


def raises() -> object:
    pid = os.fork()
    if pid == 0:
        raise RuntimeError("a failure of the child")
    return ended(pid)


def returns() -> object:
    pid = os.fork()
    if pid == 0:
        return "the child's answer"
    return ended(pid)


def returns_much() -> object:
    pid = os.fork()
    if pid == 0:
        return "c" * 20_000
    return [ended(pid), "p" * 20_000]


def terminates() -> object:
    process = FORK.Process(target=time.sleep, args=(1000,))
    process.start()
    process.terminate()
    process.join(PATIENCE)
    code = process.exitcode
    process.kill()
    process.join()
    return code


def pools() -> object:
    pool = FORK.Pool(2)
    result = pool.map(abs, [1, -2, 3])
    workers = multiprocessing.active_children()
    pool.terminate()
    for worker in workers:
        worker.join(PATIENCE)
    return [result, {worker.exitcode for worker in workers} <= {0, -signal.SIGTERM}]


def signals() -> object:
    """What handles these signals in a child."""
    here, there = FORK.Pipe()

    def tell() -> None:
        numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
        plain = all(signal.getsignal(number) is signal.SIG_DFL for number in numbers)
        there.send([plain, signal.getsignal(signal.SIGINT) is signal.default_int_handler])

    process = FORK.Process(target=tell)
    process.start()
    process.join()
    return here.recv()


def keeps_a_handler() -> object:
    """A handler of the app's, as a child has it."""
    before = signal.signal(signal.SIGHUP, lambda *_: os._exit(7))
    try:
        pid = os.fork()
        if pid == 0:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(PATIENCE)
            os._exit(1)
        return ended(pid)
    finally:
        signal.signal(signal.SIGHUP, before)


def daemon() -> object:
    process = FORK.Process(target=time.sleep, args=(1000,), daemon=True)
    process.start()
    return process.pid


def spawns() -> object:
    return subprocess.Popen(["sleep", "1000"]).pid


def detaches() -> object:
    return subprocess.Popen(["sleep", "1000"], start_new_session=True).pid


def lasting_child(kind: str) -> int:
    """`kind`: python, or c for one of which Python knows nothing, as an extension may fork it."""
    pid: int = ctypes.PyDLL(None).fork() if kind == "c" else os.fork()
    if pid == 0:
        while True:
            time.sleep(1000)
    return pid


DEEDS: dict[str, Callable[[], object]] = {
    "/exits": exits,
    "/raises": raises,
    "/returns": returns,
    "/returns-much": returns_much,
    "/terminates": terminates,
    "/pools": pools,
    "/signals": signals,
    "/keeps-a-handler": keeps_a_handler,
    "/daemon": daemon,
    "/spawns": spawns,
    "/detaches": detaches,
    "/pid": os.getpid,
}


@types.coroutine
def suspend() -> Generator[None, None, None]:
    """Suspend, on any runtime; anyio would look for an event loop before."""
    yield


async def awaits() -> object:
    pid = os.fork()
    if pid == 0:
        await suspend()
        os._exit(9)
    return ended(pid)


async def awaits_later() -> object:
    await anyio.sleep(0.001)
    return await awaits()


async def returns_to_the_loop() -> object:
    """The child of a task of the app's own."""
    statuses: list[int | str] = []

    async def work() -> None:
        await anyio.lowlevel.checkpoint()
        pid = os.fork()
        if pid:
            statuses.append(ended(pid))

    async with anyio.create_task_group() as group:
        group.start_soon(work)
    return statuses[0]


ASYNC_DEEDS = {
    "/awaits": awaits,
    "/awaits-later": awaits_later,
    "/returns-to-the-loop": returns_to_the_loop,
}


async def asgi(scope: dict[str, Any], receive: Any, send: Any) -> None:
    path = scope["path"]
    if path == "/cut":
        pid = str(lasting_child(scope["query_string"].decode())).encode()
        fields = [(b"content-length", b"%d" % ENDLESS)]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": pid.ljust(20), "more_body": True})
        await anyio.sleep(0.01)
        raise RuntimeError("the answer is cut here")
    if path in ASYNC_DEEDS:
        result = await ASYNC_DEEDS[path]()
    else:
        if scope["query_string"] == b"later":
            await anyio.sleep(0.001)
        result = DEEDS[path]()
    body = json.dumps(result).encode()
    fields = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": body})


def wsgi(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path == "/cut":
        start_response("200 OK", [("Content-Length", str(ENDLESS))])
        return cut(environ["QUERY_STRING"])
    body = json.dumps(DEEDS[path]()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def cut(kind: str) -> Iterator[bytes]:
    yield str(lasting_child(kind)).encode().ljust(20)
    raise RuntimeError("the answer is cut here")
