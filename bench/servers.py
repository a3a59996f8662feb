"""Which servers are compared, and the command line that each one's own documentation recommends.

Knows nothing of processes, cores or loads: see `running`, `pairs` and the workload's own file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True)
class Server:
    """One server in one configuration, with one worker."""

    name: str
    interface: Literal["asgi", "wsgi"]
    roles: tuple[str, str]
    """What its first process is called in reports, and what all those that it starts are."""
    distributions: tuple[str, ...]
    """Those whose versions decide how it does."""
    line: str
    """The command line, with {app} and {port} in it."""

    def command(self, app: str, port: int) -> list[str]:
        """The words of the command line that serves `app` on this port of the loopback."""
        return [word.format(app=app, port=port) for word in self.line.split()]


_OURS: Final = "reactor-run --bind 127.0.0.1:{port} --log-level warning"
# "Benchmarks suggests st mode to be more efficient with a small amount of processes"; its own
# benchmarks run st for ASGI, mt for WSGI, one runtime thread, --http 1, --no-ws and uvloop.
_GRANIAN: Final = (
    "granian --host 127.0.0.1 --port {port} --workers 1 --runtime-threads 1 --http 1 --no-ws"
    " --backlog 2048 --log-level warning --no-access-log"
)
_GUNICORN: Final = "gunicorn --bind 127.0.0.1:{port} --workers 1 --log-level warning"

_RELAY: Final = ("front end", "reactor")
_FORKING: Final = ("main", "worker")

SERVERS: Final[Sequence[Server]] = (
    Server(
        "reactor-run",
        "asgi",
        _RELAY,
        ("reactor-run", "trio", "anyio", "gunicorn_h1c"),
        f"{_OURS} {{app}}",
    ),
    Server(
        "reactor-run-plain",
        "asgi",
        _RELAY,
        ("reactor-run", "trio", "anyio", "gunicorn_h1c"),
        f"{_OURS} --lanes plain {{app}}",
    ),
    Server(
        "reactor-run-uvloop",
        "asgi",
        _RELAY,
        ("reactor-run", "uvloop", "anyio", "gunicorn_h1c"),
        f"{_OURS} --runtime uvloop {{app}}",
    ),
    Server(
        "uvicorn",
        "asgi",
        ("server", "child"),
        ("uvicorn", "uvloop", "httptools"),
        "uvicorn --host 127.0.0.1 --port {port} --loop uvloop --http httptools --no-access-log"
        " --log-level warning {app}",
    ),
    Server(
        "granian-asgi",
        "asgi",
        _FORKING,
        ("granian", "uvloop"),
        f"{_GRANIAN} --interface asgi --runtime-mode st --loop uvloop {{app}}",
    ),
    Server(
        "hypercorn-trio",
        "asgi",
        _FORKING,
        ("hypercorn", "trio"),
        "hypercorn --bind 127.0.0.1:{port} --worker-class trio --workers 1 --log-level warning"
        " {app}",
    ),
    Server(
        "reactor-run-wsgi",
        "wsgi",
        _RELAY,
        ("reactor-run", "trio", "anyio", "gunicorn_h1c"),
        f"{_OURS} --interface wsgi {{app}}",
    ),
    Server(
        "granian-wsgi",
        "wsgi",
        _FORKING,
        ("granian",),
        # "If your application have an average millisecond response, a very limited amount of
        # blocking threads usually delivers better throughput."
        f"{_GRANIAN} --interface wsgi --runtime-mode mt --blocking-threads 1 {{app}}",
    ),
    Server(
        "gunicorn-gthread",
        "wsgi",
        _FORKING,
        ("gunicorn",),
        f"{_GUNICORN} --worker-class gthread --threads 4 {{app}}",
    ),
    Server(
        "gunicorn-sync",
        "wsgi",
        _FORKING,
        ("gunicorn",),
        f"{_GUNICORN} --worker-class sync {{app}}",
    ),
)

BY_NAME: Final = {server.name: server for server in SERVERS}
