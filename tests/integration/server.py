"""A real `reactor-run` in a process of its own: started, watched from outside, stopped.

Everything that a test learns here comes from what an operator has too: the log, signals, the exit
status and /proc.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.integration.waiting import eventually
from tests.warm import WarmProcess, start_warm

ROOT = Path(__file__).parents[2]
_MEANT_FOR_SERVERS = (
    "REACTOR_RUN_",
    "LISTEN_",
    "NOTIFY_",
    "WATCHDOG_",
    "PORT",
    "WEB_CONCURRENCY",
    "FORWARDED_ALLOW_IPS",
    "UVICORN_",
    "GUNICORN_",
    "GRANIAN_",
)
"""Beginnings of variables that a server may take for its own."""
START_DEADLINE = 30.0
STOP_DEADLINE = 40.0


class DidNotStart(Exception):
    """`reactor-run` ended, or took too long, before a reactor was ready; shows its log."""


@dataclass(frozen=True)
class Memory:
    """Resident memory of one process, in bytes."""

    now: int
    peak: int


class Server:
    """One running `reactor-run`; a context manager that stops it and expects exit status 0."""

    def __init__(
        self,
        app: str = "",
        *options: str,
        bind: Sequence[str] = ("127.0.0.1:0",),
        app_dir: Path | None = ROOT,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        wrapper: Sequence[str] = (),
        cold: bool = False,
    ) -> None:
        """`wrapper`: the words of a command that becomes `reactor-run`, by exec. Without `app` and
        `app_dir` no word names them. `cold`: what a process has at its start matters, so it is not
        forked from one that has imported the server (tests/warm.py)."""
        self._stopping = False
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the server
        binds = [word for each in bind for word in ("--bind", each)]
        apps = [app] if app else []
        dirs = [] if app_dir is None else ["--app-dir", str(app_dir)]
        self.command = [*wrapper, *command(*apps, *dirs, *binds, *options)]
        environ = clean_environment(env)
        log = self._log.fileno()
        warm = None if cold else start_warm(self.command, environ, log, pass_fds, group=True)
        self.process: WarmProcess | subprocess.Popen[bytes] = warm or subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environ,
            pass_fds=pass_fds,
            process_group=0,
        )
        try:
            eventually(self._has_started, deadline=START_DEADLINE)
        except (DidNotStart, TimeoutError) as error:
            self._forget()
            raise DidNotStart(f"{' '.join(self.command)}\n{self.log()}") from error
        self.addresses = re.findall(r'listening on ([^\s"]+)', self.log())

    def _has_started(self) -> bool:
        if self.process.poll() is not None:
            raise DidNotStart
        return re.search(r"\bready\b", self.log()) is not None

    @property
    def address(self) -> str:
        """The first listener, as the log names it: http://HOST:PORT or unix:/PATH."""
        return self.addresses[0]

    @property
    def pid(self) -> int:
        """The front end's process."""
        return self.process.pid

    def reactor_pids(self) -> list[int]:
        """The front end's living children, oldest first. Zygotes are not among them."""
        return [pid for pid in self._living() if not _is_zygote(pid)]

    def zygote_pids(self) -> list[int]:
        """The processes that import the app and fork reactors (`--preload on`)."""
        return [pid for pid in self._living() if _is_zygote(pid)]

    def _living(self) -> list[int]:
        return sorted(pid for pid in _children(self.pid) if _parent(pid) == self.pid)

    def pids(self) -> list[int]:
        """The front end and its reactors."""
        return [self.pid, *self.reactor_pids()]

    def memory(self) -> dict[int, Memory]:
        """Resident memory of every process of the server."""
        return {pid: _memory(pid) for pid in self.pids()}

    def forget_peaks(self) -> None:
        """Let the peaks of `memory()` start anew from what is resident now."""
        for pid in self.pids():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def open_files(self) -> dict[int, int]:
        """How many file descriptors each process of the server holds."""
        return {pid: len(os.listdir(f"/proc/{pid}/fd")) for pid in self.pids()}

    def is_at_rest(self, pids: Sequence[int] | None = None) -> bool:
        """Whether the processes, by default all of the server's, leave the CPU alone for 0.15 s."""
        return are_at_rest(self.pids() if pids is None else pids)

    def log(self) -> str:
        """What the server has written to stdout and stderr so far."""
        if self._log.closed:
            return self._final_log
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    def signal(self, number: int) -> None:
        """Send a signal to the front end alone."""
        self.process.send_signal(number)

    def wait(self, deadline: float = STOP_DEADLINE) -> int:
        """The exit status; `subprocess.TimeoutExpired` past `deadline` seconds."""
        return self.process.wait(deadline)

    def begin_stop(self) -> None:
        """SIGTERM. So servers end side by side; `close` waits for each."""
        self._stopping = True
        self.signal(signal.SIGTERM)

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """End the whole process group at once."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    def close(self) -> None:
        """Stop the server if it still runs; an exit status other than 0 is an error."""
        try:
            if self._stopping or self.process.poll() is None:
                status = self.wait() if self._stopping else self.stop()
                assert status == 0, f"exit status {status} after SIGTERM\n{self.log()}"
        finally:
            self._forget()

    def _forget(self) -> None:
        self.kill()
        self._final_log = self.log()
        self._log.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@contextmanager
def upgraded(server: Server) -> Iterator[int]:
    """Upgrade the front end, by SIGUSR2; the process of the new one, which ends after the block."""
    server.signal(signal.SIGUSR2)
    found = eventually(lambda: re.search(r"the new front end is process (\d+)", server.log()))
    assert found is not None
    successor = int(found[1])
    try:
        assert server.wait() == 0
        yield successor
    finally:
        os.kill(successor, signal.SIGTERM)
        assert eventually(lambda: not is_alive(successor), deadline=20)


def command(*words: str) -> list[str]:
    """The command line that runs `reactor-run` with these arguments."""
    return [sys.executable, "-m", "reactor_run", *words]


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of this process without settings meant for a `reactor-run`, plus `extra`."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(_MEANT_FOR_SERVERS)
    }
    # Without the grace that idle connections have at the end: a test has no more to ask.
    ours = {"PYTHONUNBUFFERED": "1", "REACTOR_RUN_CLOSE_GRACE": "0"}
    return {**kept, **ours, **(extra or {})}


def are_at_rest(pids: Sequence[int]) -> bool:
    """Whether these processes leave the CPU alone for 0.15 s."""
    before = [_cpu_ticks(pid) for pid in pids]
    time.sleep(0.15)
    return before == [_cpu_ticks(pid) for pid in pids]


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be reaped does not."""
    return process_fields(pid)[:1] not in ([], ["Z"], ["X"])


def _is_zygote(pid: int) -> bool:
    """Whether a process is a zygote, by its title. Until it has set one, its command line tells."""
    try:
        title = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return title.startswith(b"reactor-run: zygote ") or b"\0--zygote\0" in title


def _children(parent: int) -> list[int]:
    """Children of a process, also those that wait to be reaped; none if it has ended.

    Two equal looks, since a child that ends meanwhile may hide another (proc(5)). To read all of
    /proc instead took 50 ms on a busy machine, twice for each test. Needs CONFIG_PROC_CHILDREN.
    """
    before: list[int] | None = None
    while (now := _look_at_children(parent)) != before:
        before = now
    return now


def _look_at_children(parent: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{parent}/task"):
            found += map(int, Path(f"/proc/{parent}/task/{thread}/children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        return []
    return found


def process_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat (proc(5)) from the state on; none without such a process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text.rpartition(")")[2].split()


def _parent(pid: int) -> int | None:
    match process_fields(pid):
        case [state, parent, *_] if state not in "ZX":
            return int(parent)
    return None


def _cpu_ticks(pid: int) -> int:
    fields = process_fields(pid)
    return int(fields[11]) + int(fields[12]) if fields else 0


def _memory(pid: int) -> Memory:
    status = Path(f"/proc/{pid}/status").read_text()
    kilobytes = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB$", status, re.MULTILINE))
    return Memory(int(kilobytes["VmRSS"]) * 1024, int(kilobytes["VmHWM"]) * 1024)
