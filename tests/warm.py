"""Servers that start warm: forked from a process that has imported what they import.

Of the start of a front end and of a reactor, nine tenths are imports: 0.5 s of CPU time for a
server on Trio. `make test` starts a thousand. So tests that do not look at the start itself take
their servers from here; tests/warm_process.py is the process that forks them. All that is started
by a command in a test, by `reactor_run.testing` or by a supervisor still starts cold. With the
variable COLD_STARTS, as in `make test-slow` and `make test-all`, every server does.
"""

from __future__ import annotations

import atexit
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from tests.warm_process import fixed

__all__ = ["WarmProcess", "start_warm"]

_PROGRAM = Path(__file__).with_name("warm_process.py")
_MODULES = ("reactor_run", "reactor_run.reactor")


def start_warm(
    words: Sequence[str],
    env: Mapping[str, str],
    output: int,
    pass_fds: Sequence[int] = (),
    *,
    group: bool = False,
) -> WarmProcess | None:
    """Start `python -m reactor_run …` or `python -m reactor_run.reactor …`, with this environment.

    Its standard input is /dev/null, `output` is the descriptor of the other two. `group`: it leads
    a process group. None: it must start cold, because of its command line or its environment.
    """
    if "COLD_STARTS" in os.environ or words[:2] != [sys.executable, "-m"]:
        return None
    if words[2] not in _MODULES or any(each <= 2 for each in pass_fds):
        return None
    nursery = _nursery()
    if nursery.variables != fixed(env):
        return None
    return nursery.start(words, env, output, pass_fds, group)


@cache
def _nursery() -> _Nursery:
    return _Nursery()


class _Nursery:
    """The process that forks, as this one sees it."""

    def __init__(self) -> None:
        environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self.variables = fixed(environ)
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_PROGRAM), str(theirs.fileno()), "." * 300],
                env=environ,
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        atexit.register(self._close)

    def start(
        self,
        words: Sequence[str],
        env: Mapping[str, str],
        output: int,
        pass_fds: Sequence[int],
        group: bool,
    ) -> WarmProcess:
        """Have a process forked."""
        request = {
            "words": words,
            "env": dict(env),
            "fds": [0, 1, 2, *pass_fds],
            "cwd": os.getcwd(),
            "limit": resource.getrlimit(resource.RLIMIT_NOFILE),
            "group": group,
        }
        with open(os.devnull, "rb") as null:
            pid = self._ask(request, [null.fileno(), output, output, *pass_fds])
        return WarmProcess(self, words, pid)

    def reap(self, pid: int) -> int:
        """The exit status of a process that has ended."""
        return self._ask({"reap": pid}, [])

    def _ask(self, request: object, descriptors: Sequence[int]) -> int:
        with self._lock:
            socket.send_fds(self._sock, [json.dumps(request).encode()], descriptors)
            return int(self._sock.recv(20))

    def _close(self) -> None:
        self._sock.close()
        self._process.wait()


class WarmProcess:
    """A process that was forked. It offers what tests use of `subprocess.Popen`."""

    def __init__(self, nursery: _Nursery, words: Sequence[str], pid: int) -> None:
        self.args = words
        self.pid = pid
        self.returncode: int | None = None
        self._nursery = nursery
        self._lock = threading.Lock()
        # Its number is not free before the nursery reaps it, and so this is its process.
        self._pidfd = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        with self._lock:
            if self.returncode is None and self._has_ended(0):
                os.close(self._pidfd)
                self.returncode = self._nursery.reap(self.pid)
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit status. Raises subprocess.TimeoutExpired after `timeout` seconds."""
        if self.returncode is None and not self._has_ended(timeout):
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        status = self.poll()
        assert status is not None
        return status

    def _has_ended(self, timeout: float | None) -> bool:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(None if timeout is None else timeout * 1000))

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
