"""The program of tests/warm.py: it has imported the server, and forks front ends and reactors.

    python -P tests/warm_process.py DESCRIPTOR ROOM

The descriptor is a socket, on which it is asked for processes, one after another. ROOM is a long
word: a title of a process is cut to the length of the command line. A front end that
it has forked forks its reactors itself, because it must be their parent.

A fork differs from `python -m reactor_run` in what is in sys.modules at the start. All that a new
process would not have of its parent is taken from it first: descriptors, handlers of signals,
modules, the log. It ends without the end of the interpreter: no module is torn down.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import importlib
import json
import logging
import os
import resource
import runpy
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import reactor_run.frontend.reactors.process as reactor_processes
from reactor_run.frontend.log import log
from reactor_run.interpreter import interpreter_options
from reactor_run.title import set_title

IMPORTED = (
    "reactor_run.frontend.cli",
    "reactor_run.frontend.service.serve",
    "reactor_run.frontend.clients.http2",
    "reactor_run.reactor.process",
    "reactor_run.reactor.asgi.http",
    "reactor_run.reactor.asgi.lifespan",
    "reactor_run.reactor.asgi.websocket",
    "reactor_run.reactor.asgi.websockets",
    "reactor_run.reactor.loop.task_loop",
    "reactor_run.reactor.loop.worker_loop",
    "anyio._backends._asyncio",
    "anyio._backends._trio",
    "ssl",
)
"""Most of what front ends and reactors import. uvloop is not here, because `--runtime auto` takes
it for an import of the app."""
FIXED = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "GLIBC_", "TZ", "REACTOR_RUN_PURE", "SSL_")
"""Beginnings of variables that a process reads once, at its start or when it imports."""
COLD_FLAGS = ("--zygote", "--terminal", "--hooks=", "--log-config=")
"""Flags of reactors that are not forked: these use what the front end has in memory too, or are to
be known by their command line from the first moment."""
RUNTIMES = {"trio", "asyncio", "uvloop"}
TELLING = ("reactor_run.reactor.asgi.", "reactor_run.reactor.loop.")
"""Beginnings of modules that import Trio and asyncio, and that a reactor with `--runtime auto` has
not imported when it looks at what was imported from the directory of the app. In tests that is
often ours."""
HIGH = 1000
"""Descriptors that are passed come here first, so that none is where another belongs."""
_execute = reactor_processes.execute


def fixed(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that must be as they were when this process started."""
    return {name: value for name, value in environ.items() if name.startswith(FIXED)}


class Nursery:
    """Forks processes, and knows how a new one looks."""

    def __init__(self) -> None:
        # Before it is imported from there.
        reactor_processes.execute = self.execute
        for name in IMPORTED:
            importlib.import_module(name)
        self.modules = set(sys.modules)
        self.telling = {name for name in self.modules if name.startswith(TELLING)}
        self.path = [*sys.path]
        self.variables = fixed(os.environ)

    def serve(self, sock: socket.socket) -> None:
        """Fork a process for each request, and tell its number; reap it when asked for that."""
        while True:
            text, descriptors, *_ = socket.recv_fds(sock, 1 << 20, 250)
            if not text:
                return
            request = json.loads(text)
            if "reap" in request:
                _, status = os.waitpid(request["reap"], 0)
                answer = os.waitstatus_to_exitcode(status)
            else:
                answer = self._fork(request, descriptors)
            sock.send(b"%d" % answer)

    def _fork(self, request: dict[str, Any], descriptors: list[int]) -> int:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        pid = os.fork()
        if not pid:
            try:
                if request["group"]:
                    os.setpgid(0, 0)
                high = [fcntl.fcntl(each, fcntl.F_DUPFD, HIGH) for each in descriptors]
                for descriptor, wanted in zip(high, request["fds"], strict=True):
                    os.dup2(descriptor, wanted)
                resource.setrlimit(resource.RLIMIT_NOFILE, request["limit"])
                os.environ.clear()
                os.environ.update(request["env"])
                os.chdir(request["cwd"])
                first = [] if "-P" in request["words"][:2] else [request["cwd"]]
                self._become(request["words"], request["fds"], first)
            finally:
                os._exit(255)
        if request["group"]:
            with contextlib.suppress(OSError):
                os.setpgid(pid, pid)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for descriptor in descriptors:
            os.close(descriptor)
        return pid

    def execute(
        self,
        command: reactor_processes.Command,
        inherited: int,
        *,
        terminal: bool,
        directory: str | None,
    ) -> Any:
        """Start a reactor from a front end, in the place of its `execute`."""
        words = [*command.words]
        python = [sys.executable, *interpreter_options(), "-P", "-m", "reactor_run.reactor"]
        environ = {**os.environ, **command.variables}
        if (
            words[: len(python)] != python
            or terminal
            or any(word.startswith(COLD_FLAGS) for word in words[: words.index("--")])
            or fixed(environ) != self.variables
            or threading.current_thread() is not threading.main_thread()
        ):
            return _execute(command, inherited, terminal=terminal, directory=directory)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        pid = os.fork()
        if not pid:
            try:
                os.setpgid(0, 0)
                os.environ.update(command.variables)
                if directory is not None:
                    os.chdir(directory)
                null = os.open(os.devnull, os.O_RDWR)
                os.dup2(null, 0)
                self._become(words, [0, 1, 2, inherited], [], mask)
            finally:
                os._exit(255)
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return reactor_processes.ForkedChild(pid)

    def _become(
        self,
        words: list[str],
        kept: Iterable[int],
        first: list[str],
        mask: Iterable[int] = (),
    ) -> NoReturn:
        """Be a new process with this command line. `first`: what it has before the path of Python.
        `mask`: the signals that it has blocked."""
        # No garbage of the parent may close what has the number of its file by then.
        gc.collect(0)
        gc.freeze()
        _close_others(kept)
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals():
            if callable(signal.getsignal(number)):
                signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        start = words.index("-m") + 1
        told = {word.removeprefix("--runtime=") for word in words} & RUNTIMES
        telling = set() if told or words[start] == "reactor_run" else self.telling
        for name in (set(sys.modules) - self.modules) | telling:
            sys.modules.pop(name, None)
        sys.path[:] = [*first, *self.path]
        sys.path_importer_cache.clear()
        importlib.invalidate_caches()
        log.handlers.clear()
        log.setLevel(logging.NOTSET)
        log.propagate = True
        tempfile.tempdir = None
        time.tzset()
        atexit._clear()
        sys.orig_argv = words
        sys.argv = words[start:]
        _run(words[start])


def _close_others(kept: Iterable[int]) -> None:
    """Close all descriptors but these."""
    first = 0
    for descriptor in [*sorted(set(kept)), 1 << 20]:
        if first < descriptor:
            os.closerange(first, descriptor)
        first = descriptor + 1


def _run(module: str) -> NoReturn:
    """Run a module as `python -m` does, and end as the interpreter does."""
    status = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ending:
        if isinstance(ending.code, int):
            status = ending.code & 0xFF
        elif ending.code is not None:
            print(ending.code, file=sys.stderr)
            status = 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(status)


def main() -> None:
    """Import, then fork until the test process has ended."""
    # Ctrl-C ends the tests, and the end of the tests ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sock = socket.socket(fileno=int(sys.argv[1]))
    # Room for titles is found only before the first change of the environment.
    set_title("forks servers for tests")
    gc.disable()
    nursery = Nursery()
    gc.enable()
    gc.freeze()
    nursery.serve(sock)


if __name__ == "__main__":
    main()
