"""Files of a directory, which a server sends without its app."""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random
from typing import ClassVar, Final

from bench.deployment import Deployment
from bench.load.requests import Load
from bench.workload import Case, against
from bench.workloads.real import Real

_SIZES: Final = {"2k": 2048, "1m": 1 << 20}
_site = tempfile.TemporaryDirectory(prefix="bench-site-")
"""The directory; it goes with the process."""


class StaticFiles(Real):
    name: ClassVar[str] = "static-files"
    title: ClassVar[str] = "Files of a directory"
    about: ClassVar[str] = (
        "Files that are in memory, sent by the server itself: reactor-run's `--static`, granian's "
        "`--static-path-mount`. Requests differ in query and cookie. Measured as the requests of "
        "real services. Bytes of a file are delivered to the client by the kernel, on loopback at "
        "the server's expense."
    )

    def __init__(self) -> None:
        for name, size in _SIZES.items():
            Path(_site.name, f"{name}.bin").write_bytes(Random(size).randbytes(size))
        deployment = Deployment(
            (("asgi", "bench.apps.hello:asgi"),),
            flags=(
                ("ours", f"--static /files={_site.name}"),
                (
                    "granian",
                    f"--static-path-route /files --static-path-mount {_site.name}",
                ),
            ),
            connections=200,
        )
        self.cases = tuple(
            Case(
                name,
                f"{shown}, {connections} connections",
                deployment,
                against("reactor-run", "granian-asgi"),
                1,
                {"load": Load("distinct", f"/files/{name}.bin"), "connections": connections},
            )
            for name, shown, connections in (("2k", "2 KiB", 64), ("1m", "1 MiB", 16))
        )
