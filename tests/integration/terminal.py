"""A real `reactor-run` whose standard error is a terminal."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from types import TracebackType

from tests.integration.server import ROOT, clean_environment, command

__all__ = ["OnTerminal"]

DEADLINE = 30.0


class OnTerminal:
    """A service, and what it writes to its terminal; a context manager that ends it."""

    def __init__(self, app: str, *options: str, env: Mapping[str, str] | None = None) -> None:
        """Return when it is ready."""
        self.seen = ""
        """What it has written to the terminal."""
        self.output = ""
        """What it has written to standard output, once it has ended."""
        self._ours, theirs = os.openpty()
        self._process = subprocess.Popen(
            command(app, "--app-dir", str(ROOT), "--bind", "127.0.0.1:0", *options),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=theirs,
            text=True,
            env={**clean_environment(), "TERM": "xterm", "NO_COLOR": "", **(env or {})},
        )
        os.close(theirs)
        try:
            self.wait_for("ready, accepting")
        except BaseException:
            self._end()
            raise
        (self.address,) = re.findall(r"listening on (http://[0-9.:]+)", self.seen)

    def wait_for(self, text: str) -> None:
        """Read the terminal until this text has been written."""
        end = time.monotonic() + DEADLINE
        while text not in self.seen:
            left = end - time.monotonic()
            assert select.select([self._ours], [], [], max(left, 0))[0], f"no {text}: {self.seen}"
            self.seen += os.read(self._ours, 65536).decode()

    def stop(self) -> None:
        """End it by SIGTERM, and read all that it has written. Its status must be 0."""
        self._process.send_signal(signal.SIGTERM)
        try:
            while data := os.read(self._ours, 65536):
                self.seen += data.decode()
        except OSError:
            # The other end has closed.
            pass
        self.output, _ = self._process.communicate(timeout=DEADLINE)
        assert self._process.returncode == 0, self.seen

    def _end(self) -> None:
        self._process.kill()
        self._process.communicate()
        os.close(self._ours)

    def __enter__(self) -> OnTerminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()
