"""How the connections of a listener are served."""

from __future__ import annotations

from typing import NamedTuple

from reactor_run.frontend.clients.context import ClientContext
from reactor_run.frontend.sockets.listener import Speech

__all__ = ["Reception"]


class Reception(NamedTuple):
    """How the connections of a listener are served.

    context: leads their requests to the routes, or to the app of the listener.
    """

    speech: Speech
    context: ClientContext
