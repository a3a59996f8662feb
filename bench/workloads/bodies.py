"""Bodies of everyday size, both ways."""

from __future__ import annotations

from typing import ClassVar

from bench.deployment import Deployment, both
from bench.workload import Case, against
from bench.workloads.closed import Closed


class Bodies(Closed):
    name: ClassVar[str] = "bodies"
    title: ClassVar[str] = "Bodies: 10 KB and 1 MiB"
    about: ClassVar[str] = (
        "The echoes answer the body that they were sent, in one piece. WSGI bodies are collected "
        "by reactor-run's front end before the app runs; beyond 64 KiB in a temporary file."
    )

    def __init__(self) -> None:
        deployment = Deployment(both("bodies"))
        pairs = (
            *against("reactor-run", "uvicorn", "granian-asgi", "nginx-uvicorn"),
            *against("reactor-run-wsgi", "granian-wsgi", "gunicorn-gthread"),
        )

        def case(name: str, title: str, connections: int, path: str, body: int) -> Case:
            settings = {"BENCH_BODY": str(body)} if body else {}
            values = {"connections": connections, "path": path, "settings": settings}
            quick = ("uvicorn",) if name == "post-10k" else ()
            return Case(name, title, deployment, pairs, 2, values, quick)

        self.cases = (
            case("get-10k", "GET of 10 KB, 64 connections", 64, "/10000", 0),
            case("post-10k", "POST echo of 10 KB, 64 connections", 64, "/", 10_000),
            case("post-1m", "POST echo of 1 MiB, 8 connections", 8, "/", 1 << 20),
        )
