"""The choice of the runtime for `--runtime auto`, by what the app has imported.

The evidence, the strongest first:

1. The app's own modules have imported Trio, or a library that needs Trio: Trio.
2. A library of the table was imported: uvloop if it is installed, else asyncio.
3. The app's own modules have imported asyncio: the same.
4. Otherwise: Trio.

That another library has imported Trio or asyncio proves nothing: httpx imports Trio, and most
libraries import asyncio, in order to support both.

The table names libraries that need asyncio's event loop. Each row is a module that is in
`sys.modules` only if the app uses that part of the library. (redis is an exception: it always
imports `redis.asyncio`. An app that uses only the other part runs on asyncio as well.) Libraries
such as psycopg, pymongo and grpc always import their asyncio part, and are mostly used without it.
They have no row. If such an app fails on Trio, the log gives advice (`log.runtime_hint`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Final, NamedTuple

__all__ = ["ASYNCIO_BOUND", "RuntimeChoice", "choose_runtime"]

ASYNCIO_BOUND: Final = {
    # Frameworks.
    "django.core.handlers.asgi": "whose ASGI handler runs views through asgiref, in asyncio tasks",
    "channels": "whose consumers run in asyncio tasks",
    "quart": "which handles each request in asyncio tasks",
    "sanic": "whose ASGI handler asks for asyncio's event loop",
    "blacksheep": "whose ASGI handler uses asyncio's events",
    "nicegui": "which runs its clients in asyncio tasks",
    "engineio": "whose sessions are asyncio tasks",
    "socketio": "whose sessions are asyncio tasks",
    # Clients.
    "aiohttp": "whose connections are asyncio transports",
    "websockets.asyncio": "whose connections are asyncio transports",
    "websockets.legacy": "whose connections are asyncio transports",
    "zmq.asyncio": "whose sockets are watched by asyncio's event loop",
    "nats": "whose connections are asyncio streams",
    "aio_pika": "whose connections are asyncio streams",
    "aiormq": "whose connections are asyncio streams",
    "aiokafka": "whose connections are asyncio transports",
    "aiomqtt": "whose client runs in asyncio tasks",
    "aiosmtplib": "whose connections are asyncio transports",
    "aiobotocore": "whose requests go through aiohttp",
    "aiofiles": "which reads files in threads of asyncio's event loop",
    "asyncssh": "whose connections are asyncio transports",
    "telegram": "whose bot runs in asyncio tasks",
    # Databases.
    "asyncpg": "whose connections are asyncio transports",
    "aiomysql": "whose connections are asyncio streams",
    "asyncmy": "whose connections are asyncio streams",
    "aiopg": "whose connections are watched by asyncio's event loop",
    "aioodbc": "which runs queries in threads of asyncio's event loop",
    "aiosqlite": "whose results are asyncio futures",
    "aioredis": "whose connections are asyncio streams",
    "redis.asyncio": "whose connections are asyncio streams",
    "valkey.asyncio": "whose connections are asyncio streams",
    "motor.motor_asyncio": "whose results are asyncio futures",
    "beanie": "whose database client runs in asyncio tasks",
    "sqlalchemy.ext.asyncio": "whose drivers run on asyncio",
    "databases": "whose drivers run on asyncio",
    "tortoise": "whose drivers run on asyncio",
    "elasticsearch._async.transport": "whose requests go through aiohttp",
    # Jobs.
    "apscheduler.schedulers.asyncio": "which starts jobs from asyncio's event loop",
    "arq": "whose jobs are asyncio tasks",
    # The app has chosen by itself.
    "uvloop": "which is an event loop for asyncio",
}
"""By module: why an app that has imported it needs asyncio. Continues "the app imports MODULE,"."""

_TRIO_BOUND: Final = {
    "quart_trio": "which runs Quart on Trio",
    "trio_asyncio": "which runs asyncio's libraries on Trio",
}
"""By module: why an app that has imported it needs Trio, whatever else it has imported."""


class RuntimeChoice(NamedTuple):
    """A runtime, and why it was chosen: a clause for the log; empty if the operator chose it."""

    runtime: str
    reason: str


def choose_runtime(
    wanted: str, modules: Mapping[str, ModuleType], target: str, app_dir: str
) -> RuntimeChoice:
    """Return the runtime for an app that was imported, by a value of `--runtime`.

    `modules`: all that was imported, as in `sys.modules`. `target`: the app's module[:attribute].
    `app_dir`: the directory from which it was imported.
    """
    if wanted != "auto":
        return RuntimeChoice(wanted, "")
    own = dict(_own_imports(modules, target.partition(":")[0], os.path.realpath(app_dir)))
    for module, why in _TRIO_BOUND.items():
        if module in modules:
            return RuntimeChoice("trio", f"the app imports {module}, {why}")
    if "trio" in own:
        return RuntimeChoice("trio", f"{own['trio']} imports trio")
    for module, why in ASYNCIO_BOUND.items():
        if module in modules:
            return _on_asyncio(f"the app imports {module}, {why}")
    if "asyncio" in own:
        return _on_asyncio(f"{own['asyncio']} imports asyncio")
    return RuntimeChoice("trio", "the app imports nothing that is known to need asyncio")


def _on_asyncio(reason: str) -> RuntimeChoice:
    if find_spec("uvloop") is not None:
        return RuntimeChoice("uvloop", reason)
    return RuntimeChoice("asyncio", f"{reason}; uvloop is not installed")


def _own_imports(
    modules: Mapping[str, ModuleType], app: str, directory: str
) -> Iterator[tuple[str, str]]:
    """Yield `trio` and `asyncio` with the app's own module that has imported each of them.

    Own modules are those in the package of the app, and those in its directory that are not
    installed there.
    """
    package = app.partition(".")[0]
    for name, module in [*modules.items()]:
        file = getattr(module, "__file__", None)
        if name.partition(".")[0] == package or (file and _is_within(file, directory)):
            for value in [*vars(module).values()]:
                library = _origin(value).partition(".")[0]
                if library in ("trio", "asyncio"):
                    yield library, name


def _origin(value: object) -> str:
    """Return the name of a module, or of the module that defines a class or a function."""
    # Not isinstance: an app's proxies, such as flask.request, may raise there.
    kind = type(value)
    if issubclass(kind, ModuleType):
        return str(vars(value).get("__name__"))
    if issubclass(kind, type | FunctionType | BuiltinFunctionType):
        return str(getattr(value, "__module__", ""))
    return ""


def _is_within(file: str, directory: str) -> bool:
    """Return whether a module's file is in a directory, and not in a virtual environment there."""
    # The directory was put on sys.path without symbolic links (loader.py), so the file has none in
    # that part either. To resolve the links of a thousand files would take 20 ms.
    return file.startswith(directory + os.sep) and "site-packages" not in file.split(os.sep)
