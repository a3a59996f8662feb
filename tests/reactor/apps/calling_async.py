"""A WSGI and an ASGI app whose paths name a probe: plain code that runs async code to its end."""

from __future__ import annotations

import asyncio
import contextvars
import json
import os
import signal
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import anyio
import anyio.to_thread
import django.conf
import django.core.wsgi
import django.http
import django.urls
import flask
import httpx
import sniffio
import trio
import uvloop
from asgiref.sync import async_to_sync

Probe = Callable[[dict[str, str]], str]
PROBES: dict[str, Probe] = {}


def probe(function: Probe) -> Probe:
    PROBES[function.__name__] = function
    return function


async def library() -> str:
    """Wait once, then return the name of the async library that runs this."""
    await anyio.sleep(0.001)
    return sniffio.current_async_library()


@probe
def current_library(query: dict[str, str]) -> str:
    try:
        return sniffio.current_async_library()
    except sniffio.AsyncLibraryNotFoundError:
        return "none"


@probe
def running_loop(query: dict[str, str]) -> str:
    try:
        return repr(asyncio.get_running_loop())
    except RuntimeError:
        return "none"


@probe
def in_trio_run(query: dict[str, str]) -> str:
    return repr(trio.lowlevel.in_trio_run())


@probe
def asyncio_run(query: dict[str, str]) -> str:
    return asyncio.run(library())


@probe
def uvloop_run(query: dict[str, str]) -> str:
    return uvloop.run(library())


@probe
def trio_run(query: dict[str, str]) -> str:
    return trio.run(library)


@probe
def anyio_run_asyncio(query: dict[str, str]) -> str:
    return anyio.run(library)


@probe
def anyio_run_trio(query: dict[str, str]) -> str:
    return anyio.run(library, backend="trio")


@probe
def asgiref(query: dict[str, str]) -> str:
    return async_to_sync(library)()


@probe
def new_loop(query: dict[str, str]) -> str:
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(library())
    finally:
        loop.close()


@probe
def connection(query: dict[str, str]) -> str:
    async def fetch() -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(query["port"]))
        writer.write(b"GET /by-asyncio HTTP/1.0\r\n\r\n")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer.decode().rpartition("\r\n")[2]

    return asyncio.run(fetch())


@probe
def httpx_client(query: dict[str, str]) -> str:
    async def fetch() -> str:
        async with httpx.AsyncClient(trust_env=False) as client:
            return (await client.get(f"http://127.0.0.1:{query['port']}/by-httpx")).text

    return asyncio.run(fetch()) + " " + trio.run(fetch)


@probe
def own_signal(query: dict[str, str]) -> str:
    """Listen for a signal as an event loop does: only a main thread may."""

    async def on_asyncio() -> None:
        heard = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, heard.set)
        os.kill(os.getpid(), signal.SIGUSR2)
        await heard.wait()

    async def on_trio() -> None:
        with trio.open_signal_receiver(signal.SIGUSR2) as signals:
            os.kill(os.getpid(), signal.SIGUSR2)
            async for _ in signals:
                return

    asyncio.run(on_asyncio())
    trio.run(on_trio)
    uvloop.run(on_asyncio())
    return "heard"


# Frameworks

flask_app = flask.Flask(__name__)


@flask_app.route("/flask")
async def flask_view() -> str:
    return await library()


django.conf.settings.configure(
    ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="secret", LOGGING_CONFIG=None
)


async def django_view(request: Any) -> Any:
    body = await library()
    return django.http.HttpResponse(body, headers={"Content-Length": str(len(body))})


urlpatterns = [django.urls.path("django", django_view)]
django_app = django.core.wsgi.get_wsgi_application()


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
    path = environ["PATH_INFO"]
    if path == "/flask":
        return flask_app(environ, start_response)
    if path == "/django":
        return django_app(environ, start_response)
    body = PROBES[path[1:]](query_of(environ["QUERY_STRING"])).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def query_of(text: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(text).items()}


# Threads of an ASGI app


async def in_asyncio_thread(function: Callable[[], str]) -> str:
    return await asyncio.to_thread(function)


async def in_anyio_thread(function: Callable[[], str]) -> str:
    return await anyio.to_thread.run_sync(function)


async def in_trio_thread(function: Callable[[], str]) -> str:
    return await trio.to_thread.run_sync(function)


async def in_own_thread(function: Callable[[], str]) -> str:
    """Run this in a thread of the app, with a copy of its context."""
    results: list[str] = []
    context = contextvars.copy_context()
    thread = threading.Thread(target=lambda: results.append(context.run(function)))
    thread.start()
    await anyio.to_thread.run_sync(thread.join)
    return results[0]


THREADS = {
    "asyncio": in_asyncio_thread,
    "anyio": in_anyio_thread,
    "trio": in_trio_thread,
    "own": in_own_thread,
}
lifespan_library: list[str] = []


async def asgi_app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        lifespan_library.append(await in_own_thread(lambda: current_library({})))
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    query = query_of(scope["query_string"].decode())
    if scope["path"] == "/here":
        result = json.dumps([await library(), lifespan_library])
    else:
        run = THREADS[query["in"]]
        result = await run(lambda: PROBES[scope["path"][1:]](query))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": result.encode()})
