"""`reactor-run top` at a pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.client import Client, request
from tests.integration.server import Server, clean_environment, command
from tests.integration.waiting import eventually

APP = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["path"].startswith("/fails"):
        raise RuntimeError("the password is secret")
    if scope["path"].startswith("/waits"):
        await receive()
        while (await receive())["type"] != "http.disconnect":
            pass
"""
Connect = Callable[..., Client]


class Viewer:
    """`reactor-run top` on a terminal of its own."""

    def __init__(self, admin: str, columns: int = 80, rows: int = 24) -> None:
        self.terminal, terminal = pty.openpty()
        self.resize(columns, rows)
        self.modes = termios.tcgetattr(terminal)
        self.written = ""
        self.process = subprocess.Popen(
            command("top", "--admin", admin),
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env=clean_environment({"TERM": "unknown"}),
            preexec_fn=_own_terminal,
        )
        os.close(terminal)

    def resize(self, columns: int, rows: int) -> None:
        self.size = columns, rows
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def read(self) -> None:
        while select.select([self.terminal], [], [], 0.02)[0]:
            try:
                data = os.read(self.terminal, 65536)
            except OSError:
                return
            self.written += data.decode()

    @property
    def screen(self) -> list[str]:
        """The lines that were shown last."""
        self.read()
        shown = self.written.rpartition("\x1b[H")[2]
        return re.sub(r"\x1b\[[0-9]*[mK]|\r", "", shown).rstrip("\n").split("\n")

    def shows(self, *texts: str) -> list[str]:
        def look() -> list[str]:
            screen = self.screen
            assert all(any(text in line for line in screen) for text in texts), screen
            assert len(screen) <= self.size[1]
            assert max(map(len, screen)) <= self.size[0]
            return screen

        return eventually(look, deadline=15)

    def press(self, keys: str) -> None:
        os.write(self.terminal, keys.encode())

    @property
    def is_restored(self) -> bool:
        self.read()
        return (
            termios.tcgetattr(self.terminal)[:4] == self.modes[:4]
            and "\x1b[?25h" in self.written[self.written.rindex("\x1b[?1049l") - 6 :]
            and self.written.rindex("\x1b[?1049l") > self.written.rindex("\x1b[?1049h")
        )

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.terminal)


def _own_terminal() -> None:
    """Make the terminal on standard input that of a new session, so that its keys send signals."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("app")
    (folder / "watched.py").write_text(APP)
    options = ["--reactors", "2", "--graceful-timeout", "1", "--admin", f"unix:{folder}/admin"]
    with Server("watched:app", "--runtime", "asyncio", *options, app_dir=folder) as server:
        yield server


def admin_of(server: Server) -> str:
    return server.command[server.command.index("--admin") + 1]


@pytest.fixture
def view(server: Server) -> Iterator[Callable[..., Viewer]]:
    viewers = []

    def run(admin: str = admin_of(server), **size: Any) -> Viewer:
        viewers.append(Viewer(admin, **size))
        return viewers[-1]

    yield run
    for viewer in viewers:
        viewer.close()


View = Callable[..., Viewer]


def test_it_shows_what_runs_until_q_is_pressed(
    server: Server, view: View, connect: Connect
) -> None:
    viewer = view()
    viewer.shows("watched:app: ready", "reactor 1", "reactor 2", "RUNNING", "LAST ERRORS")
    slow, failing = connect(server), connect(server)
    slow.send(request("GET", "/waits/<b>/%1b[31m?token=hunter2"))
    assert failing.request("GET", "/fails/<script>?token=hunter2").status == 500
    screen = viewer.shows("GET /waits/<b>/%1b[31m", "response of the app: GET /fails/<script>")
    assert any(re.search(r" 1/1000 ", line) for line in screen)
    assert "hunter2" not in viewer.written
    assert "secret" not in viewer.written
    viewer.resize(44, 12)
    viewer.shows("watched:app: ready")
    assert len(viewer.screen) <= 12
    viewer.press("q")
    assert viewer.process.wait(10) == 0
    assert viewer.is_restored


def test_a_terminal_that_does_not_know_its_size(view: View) -> None:
    viewer = view(columns=0, rows=0)
    viewer.size = 80, 24
    viewer.shows("watched:app: ready", "reactor 1", "reactor 2")


def test_ctrl_c_and_sigterm_restore_the_terminal(view: View) -> None:
    viewer, other = view(), view()
    viewer.shows("ready")
    viewer.press("\x03")
    assert viewer.process.wait(10) == 0
    other.shows("ready")
    other.process.terminate()
    assert other.process.wait(10) == 128 + signal.SIGTERM
    for each in viewer, other:
        assert each.is_restored
        assert "Traceback" not in each.written


def test_ctrl_z_gives_the_terminal_back_until_it_is_continued(view: View) -> None:
    viewer = view()
    viewer.shows("ready")
    viewer.press("\x1a")
    _, status = os.waitpid(viewer.process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    assert viewer.is_restored
    viewer.written = ""
    viewer.process.send_signal(signal.SIGCONT)
    viewer.shows("ready")
    assert viewer.written.startswith("\x1b[?1049h")


def test_without_a_terminal_it_prints_the_report_once(server: Server) -> None:
    done = subprocess.run(
        command("top", "--admin", admin_of(server)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        env=clean_environment(),
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "watched:app: ready" in done.stdout.splitlines()[0]
    assert "\x1b" not in done.stdout
    assert re.search(r"^reactor 2 +\d+ +ready +\d+/1000 +\d+ % +[\d.]+ MiB", done.stdout, re.M)


def test_a_service_that_ends_and_one_that_was_never_there(
    server: Server, view: View, tmp_path: Path
) -> None:
    (tmp_path / "watched.py").write_text(APP)
    admin = f"unix:{tmp_path}/a"
    with Server("watched:app", "--admin", admin, app_dir=tmp_path):
        viewer = view(admin)
        viewer.shows("watched:app: ready", "reactor 1")
    # The last report stays.
    viewer.shows("watched:app: no service listens at", "reactor 1")
    viewer.press("q")
    assert viewer.process.wait(10) == 0
    nowhere = view(admin)
    assert nowhere.process.wait(10) == 2
    nowhere.read()
    assert "reactor-run: error: no service listens at" in nowhere.written
    assert "\x1b" not in nowhere.written
