"""13 bytes over keep-alive connections, identical requests: what a request costs at least."""

from __future__ import annotations

from typing import ClassVar, Final

from bench.deployment import Deployment, both
from bench.workload import Case, against
from bench.workloads.closed import Closed

_APPS: Final = both("hello")

_EVERYBODY: Final = (
    *against(
        "reactor-run",
        "uvicorn",
        "granian-asgi",
        "fastpysgi-asgi",
        "gunicorn-asgi",
        "hypercorn-trio",
        "hypercorn-uvloop",
        "anycorn-trio",
        "nginx-uvicorn",
        "haproxy-uvicorn",
    ),
    *against("reactor-run-plain", "uvicorn"),
    *against("reactor-run-uvloop", "uvicorn"),
    *against(
        "reactor-run-wsgi",
        "granian-wsgi",
        "gunicorn-gthread",
        "gunicorn-sync",
        "nginx-gunicorn",
        "fastpysgi-wsgi",
        "bjoern",
        "uwsgi",
    ),
)
_SOME: Final = (
    *against("reactor-run", "uvicorn", "granian-asgi", "fastpysgi-asgi", "nginx-uvicorn"),
    *against("reactor-run-wsgi", "granian-wsgi", "gunicorn-gthread"),
)


class Hello(Closed):
    name: ClassVar[str] = "hello"
    title: ClassVar[str] = "Hello: 13 bytes, identical requests"
    about: ClassVar[str] = (
        "No app is as fast as this one: it shows what the server costs. All processes of a server "
        "together have one core; one worker each, one thread for WSGI (gunicorn's gthread: four, "
        "its own advice). All requests are the same: those of `real` differ."
    )

    def __init__(self) -> None:
        one = Deployment(_APPS, flags=(("gunicorn-gthread", "--threads 4"),), connections=600)
        quick = ("uvicorn", "granian-asgi", "granian-wsgi")
        self.cases = (
            Case("64", "64 connections", one, _EVERYBODY, 2, {"connections": 64}, quick),
            Case("1", "1 connection", one, _SOME, 2, {"connections": 1}, ("uvicorn",)),
            Case("512", "512 connections", one, _SOME, 2, {"connections": 512}),
        )
