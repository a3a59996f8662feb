"""Operation: what operators and their tools use."""

from reactor_run.frontend.command.kinds import show_address
from reactor_run.frontend.command.options import MODE, UMASK, Kind, parse_module, parse_text
from reactor_run.frontend.command.table import Group, option
from reactor_run.frontend.sockets.addresses import (
    AdminBind,
    TCPBind,
    parse_admin,
    parse_health,
    parse_metrics,
)


def _parse_admin(text: str) -> AdminBind | None:
    return None if text == "off" else parse_admin(text)


ADMIN = Kind("ADDRESS", _parse_admin, show_address)


def _parse_health(text: str) -> TCPBind | None:
    return None if text == "off" else parse_health(text)


HEALTH = Kind("ADDRESS", _parse_health, show_address)


def _parse_metrics(text: str) -> TCPBind | None:
    return None if text == "off" else parse_metrics(text)


METRICS = Kind("ADDRESS", _parse_metrics, show_address)


class OperationGroup(Group, key="operation", title="Operation"):
    """Operation: what operators and their tools use."""

    admin: AdminBind | None = option(
        ADMIN,
        None,
        "Admin socket: health, status, metrics, reload and stop, over HTTP. unix:/PATH, or "
        "HOST:PORT with a loopback address.",
    )
    admin_mode: int = option(
        MODE,
        0o600,
        "Permissions of a unix admin socket, octal. Write permission allows a user to stop the "
        "service.",
    )
    hooks: str = option(
        Kind("MODULE", parse_module),
        "",
        "Module with functions that are called when the service and its reactors start, reload and "
        "end, and for each request. It is imported from --app-dir. docs/hooks.md lists them.",
        shown_default="none",
    )
    pid_file: str = option(
        Kind("FILE", parse_text),
        "",
        "File for the process number of the front end. It is removed at the end.",
        shown_default="none",
    )
    umask: int | None = option(
        UMASK,
        None,
        "Permissions that files of the app and of the server do not get, octal.",
        shown_default="that of the parent",
    )
    health: TCPBind | None = option(
        HEALTH,
        None,
        "Address for health checks from other machines, HOST:PORT or :PORT. It serves only "
        "/healthz and /readyz.",
    )
    metrics: TCPBind | None = option(
        METRICS,
        None,
        "Address for Prometheus, HOST:PORT or :PORT, which other machines may reach. It serves "
        "only /metrics. --admin serves them too.",
    )
