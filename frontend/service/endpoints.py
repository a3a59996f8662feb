"""The listeners of a service: for clients, for the operator, and for health checks."""

from __future__ import annotations

from collections.abc import MutableMapping
from contextlib import ExitStack
from typing import NamedTuple

from reactor_run.frontend.command.settings import Settings
from reactor_run.frontend.sockets.listeners import (
    Listener,
    open_admin,
    open_health,
    open_listeners,
)

__all__ = ["Endpoints", "open_endpoints"]


class Endpoints(NamedTuple):
    """Listening sockets, by who connects to them."""

    clients: list[Listener]
    admin: list[Listener]
    health: list[Listener]


def open_endpoints(settings: Settings, environ: MutableMapping[str, str]) -> Endpoints:
    """Open the sockets that `settings` name, and adopt those that systemd passes in `environ`.

    Raises OperatorError; then no socket stays open.
    """
    endpoints = Endpoints([], [], [])
    with ExitStack() as undo:
        clients = open_listeners(
            settings.bind, environ, backlog=settings.backlog, unix_mode=settings.unix_mode
        )
        endpoints.clients.extend(clients)
        for listener in clients:
            undo.callback(listener.close)
        if settings.admin is not None:
            endpoints.admin.extend(open_admin(settings.admin, settings.admin_mode))
            for listener in endpoints.admin:
                undo.callback(listener.close)
        if settings.health is not None:
            endpoints.health.extend(open_health(settings.health))
        undo.pop_all()
    return endpoints
