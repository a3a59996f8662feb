"""From a saved file to the first answer of the new code, as a developer waits for it."""

from __future__ import annotations

import http.client
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import ClassVar, Final

from bench.deployment import Deployment
from bench.errors import RunFailed
from bench.running import Running
from bench.sample import Sample
from bench.workload import Case, Setup, Starter, Workload, against

_FOLDER: Final = Path(tempfile.gettempdir()) / f"reactor-run-bench-edits-{os.getuid()}"
"""The files of the apps: a server's command line names it before a run begins."""
_EDITS: Final = 3
"""Changes in one run."""
_SETTLE: Final = 1.0
"""Seconds from the first answer until the server surely watches files."""
_PAUSE: Final = 0.4
"""Seconds between an answer and the next change."""
_MAX: Final = 20.0
"""Seconds in which the new code has to answer."""

_SOURCES: Final = {
    "bare": """
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ANSWER"})
""",
    "fastapi_edited": """
from fastapi import FastAPI

app = FastAPI()

@app.get("/")
async def root():
    return "ANSWER"
""",
}
"""By the name of the module."""


class Edits(Workload):
    name: ClassVar[str] = "edits"
    title: ClassVar[str] = "A file is saved, with --reload"
    loop: ClassVar[str] = "one request after another"
    about: ClassVar[str] = (
        "The time from the change of the app's file to the first answer of its new code: the "
        "median of three changes. It is asked for every 5 ms, each time on a new connection. "
        "All processes have two cores. uvicorn watches with watchfiles, as we do."
    )
    measures: ClassVar[tuple[str, ...]] = ("edit",)
    compared: ClassVar[tuple[str, ...]] = ("edit",)
    start: ClassVar = "own"
    overhead: ClassVar[float] = 4.5

    def __init__(self) -> None:
        flags = (
            ("ours", f"--reload --app-dir {_FOLDER}"),
            ("uvicorn", f"--reload --app-dir {_FOLDER} --reload-dir {_FOLDER}"),
        )
        pairs = against("reactor-run", "uvicorn")
        self.cases = tuple(
            Case(
                name,
                title,
                Deployment((("asgi", f"{module}:app"),), cores=2, flags=flags),
                pairs,
                0,
            )
            for name, title, module in (
                ("bare", "a bare ASGI app", "bare"),
                ("fastapi", "FastAPI", "fastapi_edited"),
            )
        )

    def sample_start(self, case: Case, start: Starter, setup: Setup) -> Sample:
        ((_, app),) = case.deployment.apps
        module = app.partition(":")[0]
        _FOLDER.mkdir(exist_ok=True)
        self._save(module, "first")
        with start() as server:
            time.sleep(_SETTLE)
            times = [self._edit(server, module, number) for number in range(_EDITS)]
            return Sample(measures={"edit": median(times)}, details={"edits": times})

    @staticmethod
    def _save(module: str, answer: str) -> None:
        (_FOLDER / f"{module}.py").write_text(_SOURCES[module].replace("ANSWER", answer))

    def _edit(self, server: Running, module: str, number: int) -> float:
        # Each version has its own size. Otherwise Python may take the bytecode of the one before.
        answer = "new" + "!" * number
        began = time.monotonic()
        self._save(module, answer)
        while answer not in self._ask(server).strip('"'):
            if time.monotonic() - began > _MAX:
                raise RunFailed(f"the new code did not answer within {_MAX:g} s")
            time.sleep(0.005)
        took = time.monotonic() - began
        time.sleep(_PAUSE)
        return took

    @staticmethod
    def _ask(server: Running) -> str:
        """Return an answer; empty if the server cannot answer now."""
        connection = http.client.HTTPConnection(*server.address, timeout=_MAX)
        try:
            connection.request("GET", "/")
            return connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException):
            return ""
        finally:
            connection.close()
