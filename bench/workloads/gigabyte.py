"""One body of 1 GiB, down and up, and a file: what a byte costs."""

from __future__ import annotations

from typing import ClassVar

from bench.deployment import Deployment, both
from bench.load import transfer
from bench.running import Running
from bench.sample import Sample, watching
from bench.workload import Case, Setup, Workload, against


class Gigabyte(Workload):
    name: ClassVar[str] = "gigabyte"
    title: ClassVar[str] = "1 GiB, down and up"
    loop: ClassVar[str] = "one transfer at a time"
    about: ClassVar[str] = (
        "The app sends and reads pieces of 64 KiB and so does the client; one connection, the "
        "server on one core, the client on another. CPU seconds are those of all of the server's "
        "processes. By WSGI reactor-run's front end collects the body in a temporary file before "
        "the app sees it. The file has 256 MiB, is sent four times, and comes from "
        "`wsgi.file_wrapper` or `http.response.pathsend`, so that a server may leave it to the "
        "kernel."
    )
    measures: ClassVar[tuple[str, ...]] = ("speed", "cpu_gib")
    compared: ClassVar[tuple[str, ...]] = ("speed", "cpu_gib")

    def __init__(self) -> None:
        deployment = Deployment(
            both("bodies"), flags=(("ours", "--max-body-size 0 --answer-spool-size 2G"),)
        )
        pairs = (
            *against("reactor-run", "uvicorn", "granian-asgi"),
            *against("reactor-run-wsgi", "granian-wsgi", "gunicorn-gthread"),
        )
        self.cases = (
            Case("down", "down", deployment, pairs, 2, {"way": transfer.down}, ("uvicorn",)),
            Case("up", "up", deployment, pairs, 2, {"way": transfer.up}, ("uvicorn",)),
            Case(
                "file",
                "a file by WSGI's file_wrapper",
                Deployment((("wsgi", "bench.apps.files:wsgi"),)),
                against("reactor-run-wsgi", "gunicorn-gthread", "granian-wsgi"),
                1,
                {"way": transfer.files},
            ),
            Case(
                "pathsend",
                "a file by ASGI's http.response.pathsend",
                Deployment((("asgi", "bench.apps.files:asgi"),)),
                against("reactor-run", "granian-asgi"),
                1,
                {"way": transfer.files},
            ),
        )

    def sample(self, case: Case, server: Running, setup: Setup) -> Sample:
        # The warm-up need not be whole.
        size = setup.scaled(1 << 30) if setup.round else 64 << 20
        with watching(server) as sample:
            before = sum(server.clocks().values())
            done = case["way"](server.address, size)
            used = sum(server.clocks().values()) - before
        sample.measures |= {
            "speed": done.size / done.seconds,
            "cpu_gib": used / (done.size / (1 << 30)),
        }
        return sample
