"""The listeners of a service: for clients, for the operator, for health checks and metrics."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import NamedTuple

from reactor_run.frontend.command.pools import AppSettings
from reactor_run.frontend.command.settings import Settings
from reactor_run.frontend.sockets.listener import Listener
from reactor_run.frontend.sockets.listeners import (
    all_or_none,
    open_admin,
    open_health,
    open_listeners,
    open_metrics,
    open_redirect,
)

__all__ = ["Endpoints", "open_endpoints"]


class Endpoints(NamedTuple):
    """Listening sockets, by who connects to them."""

    clients: list[Listener]
    admin: list[Listener]
    health: list[Listener]
    metrics: list[Listener]
    redirect: list[Listener]
    """Their clients are sent to TLS (`--redirect-http`)."""

    @property
    def public(self) -> list[Listener]:
        """Return those to which clients connect."""
        return [*self.clients, *self.redirect]


def open_endpoints(
    settings: Settings, apps: Sequence[AppSettings], environ: MutableMapping[str, str]
) -> Endpoints:
    """Open the sockets that `settings` name, and adopt those that systemd passes in `environ`.

    `apps`: may have listeners of their own. Raises OperatorError; then no socket stays open.
    """
    own = {app.name: app.bind for app in apps if app.bind}
    routed = len(own) < len(apps) or bool(settings.route or settings.static)
    with all_or_none() as opened:
        clients = open_listeners(
            settings.bind,
            environ,
            backlog=settings.backlog,
            unix_mode=settings.unix_mode,
            own=own,
            default=routed,
        )
        opened += clients
        admin = open_admin(settings.admin, settings.admin_mode) if settings.admin else []
        opened += admin
        health = open_health(settings.health) if settings.health else []
        opened += health
        metrics = open_metrics(settings.metrics) if settings.metrics else []
        opened += metrics
        redirect = open_redirect(settings.redirect_http, settings.backlog)
    return Endpoints(clients, admin, health, metrics, redirect)
