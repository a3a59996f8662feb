"""`serve`: a real server for tests, as a context manager.

    with serve("shop.web:app", runtime="trio") as url:
        assert httpx.get(f"{url}/cart").status_code == 200

The server is a process of its own, which this process starts, waits for and stops. It ends also if
this process is killed: it watches its parent (`frontend/service/parent.py`).
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from time import monotonic
from typing import Any, Final

from reactor_run.app_names import name_app
from reactor_run.frontend.cli import read_written
from reactor_run.frontend.command.keywords import Value, sort_keywords, words_of
from reactor_run.frontend.command.settings import Settings
from reactor_run.frontend.launch import PARENT_VARIABLE
from reactor_run.frontend.sockets.addresses import TCPBind, written
from reactor_run.interpreter import interpreter_options

__all__ = ["DidNotStart", "serve"]

_DEFAULTS: Final[Mapping[str, Value]] = {
    # A test depends on no file of the project, and on no variable of the machine.
    "config": os.devnull,
    "reactors": 1,
    # A test has no more requests when it ends.
    "close_grace": 0,
    "graceful_timeout": 5,
}
_LATE: Final = 10.0
"""Seconds that the server may take longer than its settings allow, to start and to stop."""


class DidNotStart(Exception):
    """The server ended before it was ready, or took too long. The text is the reason.

    The log, on standard error, has more: the traceback of an app that failed.
    """


@contextmanager
def serve(
    app: str | Callable[..., Any], *, env: Mapping[str, str] | None = None, **settings: Value
) -> Iterator[str]:
    """Serve an app in processes of their own, and yield the URL, such as `http://127.0.0.1:38211`.

    `app`: `module:attribute`, or an app object that is an attribute of a module. The module is
    imported anew in the reactor, with this process's sys.path. `env`: variables of the environment
    that are added. `settings`: as for `reactor_run.run`. Without `bind`, the server listens on a
    free port of 127.0.0.1. Variables `REACTOR_RUN_…` and pyproject.toml are not read.

    At the end of the context the server stops within `graceful_timeout` (5 s).

    Raises DidNotStart with the reason, and the errors of `reactor_run.run` for wrong arguments.
    Raises RuntimeError at the end of the context if the server has ended before.
    """
    target, app_dir = name_app(app)
    if app_dir is not None:
        settings.setdefault("app_dir", app_dir)
    texts = sort_keywords(target, {**_DEFAULTS, **settings})
    read = read_written(texts, {})
    with ExitStack() as closing:
        listener, url = _listen(read)
        if listener is not None:
            closing.enter_context(listener)
            plain = ",plain" if url.startswith("http:") else ""
            texts["bind"] = [f"fd:{listener.fileno()}{plain}", *texts.get("bind", ())[1:]]
        notified = closing.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        # The kernel chooses an abstract name (unix(7), "Autobind feature").
        notified.bind("")
        process = subprocess.Popen(
            [sys.executable, *interpreter_options(), "-P", "-m", "reactor_run", *words_of(texts)],
            env=_environment(notified, env or {}),
            pass_fds=[] if listener is None else [listener.fileno()],
            stdin=subprocess.DEVNULL,
            # Ctrl-C ends the test, and the test ends the server.
            process_group=0,
        )
        closing.callback(_end, process, read.graceful_timeout)
        _await_ready(process, notified, read.start_timeout)
        yield url
        if process.poll() is not None:
            raise RuntimeError(f"the server has ended, with status {process.returncode}")


def _listen(settings: Settings) -> tuple[socket.socket | None, str]:
    """Return a socket for the server to listen on, and the URL.

    The socket is None if the port is fixed: then the server opens its sockets itself.
    """
    bind = settings.bind[0] if settings.bind else TCPBind("127.0.0.1", 0)
    if not isinstance(bind, TCPBind):
        return None, written(bind)
    secret = (settings.certfile or settings.tls_dev) and not bind.plain
    scheme = "https" if secret else "http"
    if bind.port:
        return None, f"{scheme}://{written(TCPBind(bind.host, bind.port))}"
    family = socket.AF_INET6 if ":" in bind.host else socket.AF_INET
    listener = socket.create_server((bind.host, 0), family=family, backlog=settings.backlog)
    return listener, f"{scheme}://{written(TCPBind(bind.host, listener.getsockname()[1]))}"


def _environment(notified: socket.socket, added: Mapping[str, str]) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("REACTOR_RUN_", "FORWARDED_ALLOW_IPS", "LISTEN_", "WATCHDOG_"))
    }
    path = [*_python_path(), *filter(None, [kept.get("PYTHONPATH")])]
    ours = {
        "NOTIFY_SOCKET": "@" + notified.getsockname()[1:].decode(),
        PARENT_VARIABLE: str(os.getpid()),
    }
    if path:
        ours["PYTHONPATH"] = os.pathsep.join(path)
    return {**kept, **ours, **added}


def _python_path() -> list[str]:
    """Return what tests and pytest have added to sys.path, for the server's processes."""
    of_python = {os.path.realpath(path) for path in sysconfig.get_paths().values()}
    return [
        path
        for entry in sys.path
        if os.path.isdir(path := os.path.abspath(entry))
        and os.path.realpath(path) not in of_python
        and os.path.basename(path) != "lib-dynload"
    ]


def _await_ready(process: subprocess.Popen[bytes], notified: socket.socket, timeout: float) -> None:
    """Wait until the server accepts requests. Raises DidNotStart."""
    until = monotonic() + timeout + _LATE if timeout else None
    reason = ""
    ended = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        poll.register(notified, select.POLLIN)
        while True:
            left = None if until is None else max(0.0, until - monotonic()) * 1000
            ready = [fd for fd, _ in poll.poll(left)]
            if notified.fileno() in ready:
                for line in notified.recv(65536).decode(errors="replace").split("\n"):
                    if line == "READY=1":
                        return
                    if line.startswith("STATUS="):
                        reason = line.removeprefix("STATUS=")
            elif ended in ready:
                status = process.wait()
                # After an error of the operator, the last message gives the reason.
                raise DidNotStart(reason if status == 2 and reason else f"exit status {status}")
            else:
                process.kill()
                process.wait()
                raise DidNotStart(f"not ready within {timeout + _LATE:g} s")
    finally:
        os.close(ended)


def _end(process: subprocess.Popen[bytes], graceful: float) -> None:
    """Stop the server; kill it if it does not end in time."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(graceful + _LATE)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
