"""A server that runs: started on its core, checked, watched, and ended with all it started.

Each server leads a session of its own, and nothing outside of that session is ever signalled.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from bench import proc
from bench.errors import DidNotStart
from bench.pinning import pinned
from bench.servers import Server

ROOT: Final = Path(__file__).parents[1]

_START: Final = 30.0
"""Seconds to the first answer."""
_STOP: Final = 5.0
"""Seconds from SIGTERM to SIGKILL."""
_OTHERS_SETTINGS: Final = ("REACTOR_RUN_", "UVICORN_", "GRANIAN_", "GUNICORN_", "WEB_CONCURRENCY")
"""Environment variables that would change what a command line says."""


@dataclass(frozen=True)
class Running:
    """A server that has answered."""

    server: Server
    command: list[str]
    port: int
    pid: int
    core: int
    keeps_alive: bool
    """Whether it keeps a connection for another request."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def usage(self) -> Mapping[tuple[str, tuple[int, int]], proc.Cpu]:
        """The CPU time that each process has had, by its role and identity."""
        first, rest = self.server.roles
        return {
            (first if process.pid == self.pid else rest, process.identity): process.cpu
            for process in proc.session(self.pid)
        }

    def faults(self) -> list[str]:
        """What makes it unfit to be measured: a first process that ended, one off its core."""
        processes = proc.session(self.pid)
        found = []
        if not processes or processes[0].pid != self.pid:
            found.append(f"its first process, {self.pid}, has ended")
        for process in processes:
            cores = proc.affinity(process.pid)
            if cores != {self.core}:
                found.append(f"process {process.pid} may run on cores {sorted(cores)}")
        return found


@contextmanager
def running(server: Server, app: str, body: bytes, core: int) -> Iterator[Running]:
    """Run a server on one core; it is stopped at the end.

    Raises DidNotStart if it is not installed, ends, or does not answer with status 200 and `body`.
    """
    port = _free_port()
    command = server.command(app, port)
    program = Path(sys.executable).parent / command[0]
    if not program.exists():
        raise DidNotStart("not installed; pip install 'reactor-run[bench]'")
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            pinned(core, [str(program), *command[1:]]),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=ROOT,
            env=_environment(),
            start_new_session=True,
        )
        try:
            keeps_alive = _await_answer(process.pid, port, body, log)
            yield Running(server, command, port, process.pid, core, keeps_alive)
        finally:
            _stop(process)


def _environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_OTHERS_SETTINGS)}
    return {**kept, "PYTHONPATH": str(ROOT)}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await_answer(pid: int, port: int, body: bytes, log: IO[bytes]) -> bool:
    """Wait for the right answer; tell whether the connection stays open after it."""
    deadline = time.monotonic() + _START
    while True:
        if _has_ended(pid):
            raise DidNotStart(f"ended: {_last_words(log)}")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_START)
        try:
            connection.request("GET", "/")
            response = connection.getresponse()
            keeps_alive = not response.will_close
            answer = response.status, response.read()
            break
        except OSError as error:
            if time.monotonic() > deadline:
                raise DidNotStart(f"no answer: {error}; {_last_words(log)}") from None
            time.sleep(0.02)
        finally:
            connection.close()
    if answer != (200, body):
        raise DidNotStart(f"answered with status {answer[0]} and {answer[1][:80]!r}")
    return keeps_alive


def _last_words(log: IO[bytes]) -> str:
    size = os.fstat(log.fileno()).st_size
    lines = os.pread(log.fileno(), size, 0).decode(errors="replace").split("\n")
    return " / ".join([line.strip() for line in lines if line.strip()][-3:]) or "without a word"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and everything in its session."""
    with _signals_held():
        # Its pid, which also names the session, stays its own until it is waited for.
        os.kill(process.pid, signal.SIGTERM)
        _until(lambda: _has_ended(process.pid) and not proc.session(process.pid), _STOP)
        for left in proc.session(process.pid):
            try:
                os.kill(left.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        _until(lambda: not proc.session(process.pid), _STOP)
        process.wait(_STOP)


def _has_ended(pid: int) -> bool:
    """Whether our child has ended; it is not waited for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Have Ctrl-C and the like wait, so that a second one leaves nothing behind."""
    held = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
