"""A server that runs: started on its cores, checked, watched, and ended with all it started.

Each program of a server leads a session of its own, and nothing outside of those is ever signalled.
"""

from __future__ import annotations

import http.client
import itertools
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Final

from bench import proc
from bench.certificates import write_certificate
from bench.deployment import Deployment
from bench.errors import DidNotStart
from bench.pinning import Cores, pinned
from bench.servers import Program, Server

ROOT: Final = Path(__file__).parents[1]

_START: Final = 20.0
"""Seconds to the first answer."""
_STOP: Final = 5.0
"""Seconds from SIGTERM to SIGKILL."""
_OTHERS_SETTINGS: Final = (
    "REACTOR_RUN_",
    "UVICORN_",
    "GRANIAN_",
    "GUNICORN_",
    "UWSGI_",
    "WEB_CONCURRENCY",
    "FORWARDED_ALLOW_IPS",
)
"""Environment variables that would change what a command line says."""
_FIRST: Final = -20
"""The nice value of a server that is preferred."""
_PORTS: Final = itertools.cycle(range(20100, 29900))
"""Below those that the kernel gives to clients: there are thousands of clients here."""


@dataclass(frozen=True)
class Running:
    """A server that has answered."""

    server: Server
    deployment: Deployment
    command: str
    port: int
    folder: str
    """Where its configuration is."""
    leaders: tuple[tuple[int, Program], ...]
    """The first process of each program, the one in front last."""
    cores: frozenset[int]
    keeps_alive: bool
    """Whether it keeps a connection for another request."""
    started_in: float
    """Seconds from the start of the first process to the first answer."""

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    @property
    def url(self) -> str:
        scheme = "https" if self.deployment.tls else "http"
        return f"{scheme}://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The first process of the app server: the one that takes signals and starts workers."""
        return self.leaders[0][0]

    def processes(self) -> list[tuple[str, proc.Process]]:
        """All living processes with their roles."""
        found = []
        for pid, program in self.leaders:
            found += [
                (program.first if process.pid == pid else program.rest, process)
                for process in proc.session(pid)
            ]
        return found

    def signal(self, number: int) -> None:
        """Send a signal to every process."""
        for _, process in self.processes():
            try:
                os.kill(process.pid, number)
            except ProcessLookupError:
                pass

    def usage(self) -> Mapping[tuple[str, tuple[int, int]], proc.Cpu]:
        """The CPU time that each process has had, by its role and identity."""
        return {(role, process.identity): process.cpu for role, process in self.processes()}

    def clocks(self) -> dict[str, float]:
        """The CPU seconds that each role's processes have had, by their clocks."""
        found: dict[str, float] = {}
        for role, process in self.processes():
            found[role] = found.get(role, 0.0) + proc.cpu_clock(process.pid)
        return found

    @contextmanager
    def on_cores(self, cores: Iterable[int]) -> Iterator[Running]:
        """The server on other cores during the block."""
        try:
            yield self._moved(frozenset(cores))
        finally:
            self._moved(self.cores)

    @contextmanager
    def preferred(self) -> Iterator[bool]:
        """The server, and this process, before all others on their cores during the block.

        Yields whether it is so: it takes privileges (CAP_SYS_NICE).
        """
        pids = [os.getpid(), *(process.pid for _, process in self.processes())]
        before = os.getpriority(os.PRIO_PROCESS, 0)
        try:
            allowed = [proc.prefer(pid, _FIRST) for pid in pids]
            yield all(allowed)
        finally:
            for pid in pids:
                proc.prefer(pid, before)

    def _moved(self, cores: frozenset[int]) -> Running:
        for _, process in self.processes():
            proc.move(process.pid, cores)
        return replace(self, cores=cores)

    def memory(self) -> dict[str, proc.Memory]:
        """The memory of each role's processes together."""
        found: dict[str, proc.Memory] = {}
        for role, process in self.processes():
            found[role] = found.get(role, proc.Memory(0, 0)) + proc.memory(process.pid)
        return found

    def workers(self) -> list[int]:
        """The processes that run the app, apart from the one that was started first."""
        return proc.workers(self.pid)

    def faults(self) -> list[str]:
        """What makes it unfit to be measured: a first process that ended, one off its cores."""
        found = []
        for pid, _ in self.leaders:
            processes = proc.session(pid)
            if not processes or processes[0].pid != pid:
                found.append(f"its first process, {pid}, has ended")
            for process in processes:
                cores = proc.affinity(process.pid)
                if not cores <= self.cores:
                    found.append(f"process {process.pid} may run on cores {sorted(cores)}")
        return found


@contextmanager
def at_once() -> Iterator[bool]:
    """This process before all others as soon as it has something to do, during the block.

    It stands for clients on other machines. Yields whether it is so: it takes privileges. Processes
    that it starts meanwhile are ordinary ones.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except PermissionError:
        yield False
        return
    try:
        yield True
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@contextmanager
def running(server: Server, deployment: Deployment, cores: Cores) -> Iterator[Running]:
    """Run a server; it is stopped at the end.

    Raises DidNotStart if it is not installed, ends, or does not answer with status 200.
    """
    port = _free_port()
    where = cores.of_server(deployment.cores)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
        # The workers of a proxy that root has started run as another user.
        Path(folder).chmod(0o711)
        for name, text in server.configuration(deployment, port, folder).items():
            (Path(folder) / name).write_text(text)
        if deployment.tls:
            write_certificate(folder)
        commands = server.commands(deployment, port, folder)
        programs = [_find(server, command[0]) for command in commands]
        logs: list[IO[bytes]] = []
        leaders: list[tuple[int, Program]] = []
        environment = _environment()
        if deployment.backend:
            environment["BENCH_BACKEND"] = str(stack.enter_context(_backend(cores.load)))
        begin = time.monotonic()
        for found, command, program in zip(programs, commands, server.programs, strict=True):
            logs.append(stack.enter_context(tempfile.TemporaryFile()))
            process = subprocess.Popen(
                pinned(where, [found, *command[1:]]),
                stdin=subprocess.DEVNULL,
                stdout=logs[-1],
                stderr=logs[-1],
                cwd=ROOT,
                env=environment,
                start_new_session=True,
            )
            stack.callback(_stop, process)
            leaders.append((process.pid, program))
        keeps_alive = _await_answer([pid for pid, _ in leaders], port, deployment, logs)
        yield Running(
            server,
            deployment,
            "; ".join(" ".join(command) for command in commands).replace(folder, "FOLDER"),
            port,
            folder,
            tuple(leaders),
            where,
            keeps_alive,
            time.monotonic() - begin,
        )


@contextmanager
def _backend(core: int) -> Iterator[int]:
    """A backend for the app, on the core of the load; its port."""
    port = _free_port()
    process = subprocess.Popen(
        pinned([core], [sys.executable, "-m", "bench.backend", str(port)]),
        stdin=subprocess.DEVNULL,
        cwd=ROOT,
        env=_environment(),
        start_new_session=True,
    )
    try:
        _until(lambda: _accepts(port), _START)
        yield port
    finally:
        _stop(process)


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _find(server: Server, name: str) -> str:
    """The program beside this Python, or else of the system."""
    beside = Path(sys.executable).parent / name
    if beside.exists():
        return str(beside)
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    found = shutil.which(name, path=path)
    if found is None:
        raise DidNotStart(f"{name} is not installed: {server.install}")
    return found


def _environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_OTHERS_SETTINGS)}
    return {**kept, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "src")))}


def _free_port() -> int:
    for port in itertools.islice(_PORTS, 1000):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise DidNotStart("no free port")


def _await_answer(
    pids: list[int], port: int, deployment: Deployment, logs: list[IO[bytes]]
) -> bool:
    """Wait for an answer with status 200; tell whether the connection stays open after it."""
    deadline = time.monotonic() + _START
    while True:
        if any(map(_has_ended, pids)):
            raise DidNotStart(f"ended: {_last_words(logs)}")
        connection = _connection(port, tls=deployment.tls)
        try:
            connection.request("GET", deployment.path)
            response = connection.getresponse()
            keeps_alive = not response.will_close
            status, body = response.status, response.read()
            # A proxy is there before the server behind it.
            if status not in (502, 503) or len(pids) == 1 or time.monotonic() > deadline:
                break
        except (OSError, http.client.HTTPException) as error:
            if time.monotonic() > deadline:
                raise DidNotStart(f"no answer: {error}; {_last_words(logs)}") from None
        finally:
            connection.close()
        time.sleep(0.005)
    if status != 200:
        raise DidNotStart(f"answered with status {status} and {body[:80]!r}; {_last_words(logs)}")
    return keeps_alive


def _connection(port: int, *, tls: bool) -> http.client.HTTPConnection:
    if not tls:
        return http.client.HTTPConnection("127.0.0.1", port, timeout=_START)
    context = ssl.create_default_context()
    # The certificate is signed by itself.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=_START, context=context)


def _last_words(logs: list[IO[bytes]]) -> str:
    text = b"\n".join(os.pread(log.fileno(), 1 << 20, 0) for log in logs)
    lines = text.decode(errors="replace").split("\n")
    words = " / ".join([line.strip() for line in lines if line.strip()][-3:])
    return words[-500:] or "without a word"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the program and everything in its session."""
    with signals_held():
        # Its pid, which also names the session, stays its own until it is waited for.
        os.kill(process.pid, signal.SIGTERM)
        _until(lambda: _has_ended(process.pid) and not proc.session(process.pid), _STOP)
        for left in proc.session(process.pid):
            try:
                os.kill(left.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        _until(lambda: _has_ended(process.pid) and not proc.session(process.pid), _STOP)
        process.wait(_STOP)


def _has_ended(pid: int) -> bool:
    """Whether our child has ended; it is not waited for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)


@contextmanager
def signals_held() -> Iterator[None]:
    """Have Ctrl-C and the like wait, so that a second one leaves nothing behind."""
    held = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
