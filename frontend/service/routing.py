"""Puts together what answers the requests of each route."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Final

from reactor_run.frontend.clients.context import Answerer, ClientContext
from reactor_run.frontend.clients.entry import Entry
from reactor_run.frontend.clients.file_answers import FileAnswers
from reactor_run.frontend.clients.router import Router
from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.launch import StartDirectory
from reactor_run.frontend.log import log
from reactor_run.frontend.routes.cors import CrossOrigin
from reactor_run.frontend.routes.notation import show_route
from reactor_run.frontend.routes.route import AppTarget, Route, StaticTarget
from reactor_run.frontend.routes.table import RouteTable
from reactor_run.frontend.static.disk_threads import DiskThreads

__all__ = ["open_router", "own_router"]

_PATIENCE: Final = 1.0
"""Seconds that the end of the service waits for a disk."""


def open_router(
    context: ClientContext,
    table: RouteTable,
    apps: Mapping[str, Entry],
    place: StartDirectory,
    closing: ExitStack,
) -> Router:
    """Return the router of a service. Raises OperatorError if a directory cannot be opened.

    `apps`: by name. `closing`: is closed when the service has ended.
    """
    threads = DiskThreads(context.loop)
    files: dict[Route, Answerer] = {}
    for route in table.routes:
        log.info("route %s", show_route(route))
        if isinstance(route.target, StaticTarget):
            directory = place.locate(route.target.directory)
            try:
                answers = FileAnswers(context, threads, directory, route.target, route.prefix)
            except OSError as error:
                raise OperatorError(f"cannot open {directory}: {error.strerror}") from None
            closing.callback(answers.close)
            files[route] = answers
    # First of all: a thread may still use a directory.
    closing.callback(threads.close, _PATIENCE)
    return Router(context, table, files, apps, several=len(apps) > 1)


def own_router(
    context: ClientContext,
    entry: Entry,
    mount_path: str,
    cross_origin: CrossOrigin | None,
    *,
    several: bool,
) -> Router:
    """Return what leads the requests of an app's own listeners to it.

    `context`: of these listeners. `mount_path`: the prefix of the app's routes. Other paths get 404
    here too, since the app expects the prefix. `cross_origin`: of the service. `several`: the
    service has several apps.
    """
    prefix = tuple(mount_path.encode(errors="surrogateescape").split(b"/")[1:])
    route = Route(b"", prefix, AppTarget(entry.name), cross_origin)
    return Router(context, RouteTable([route]), {}, {entry.name: entry}, several=several)
