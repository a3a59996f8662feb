"""`--reload` with real files, a real watcher and real reactors."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.client import Client
from tests.integration.conftest import Start
from tests.integration.server import Server, _children, clean_environment, command, is_alive
from tests.integration.waiting import eventually
from tests.needs import need_module

APP = """
import helper

async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": helper.answer().encode()})
"""


class Project:
    """The files of an app, and a server that watches them."""

    def __init__(self, folder: Path, run: Callable[..., Server], connect: Callable[..., Client]):
        self.folder = folder
        self._run = run
        self._connect = connect
        self.fill("one")

    def fill(self, text: str) -> None:
        """Make the directory, with an app that answers with this text."""
        self.folder.mkdir()
        (self.folder / "web.py").write_text(APP)
        self.answer(text)

    def write(self, text: str, name: str = "helper.py") -> None:
        (self.folder / name).write_text(text)

    def answer(self, text: str) -> None:
        """Let the app answer with this text. All answers of a test have the same length."""
        self.write(f"def answer(): return {text!r}\n")

    def serve(self, *options: str) -> Server:
        self.server = self._run("web:app", "--reload", *options, app_dir=self.folder)
        eventually(lambda: "watching /" in self.server.log())
        return self.server

    def get(self, *fields: str) -> str:
        client = self._connect(self.server)
        words = ["GET / HTTP/1.1", "Host: localhost", *fields, "", ""]
        client.send("\r\n".join(words).encode())
        return client.response().body.decode()

    def answers(self, text: str) -> bool:
        """Whether this is the answer within the time of a reload."""
        return eventually(lambda: self.get() == text)

    def sees(self, name: str) -> bool:
        """Whether the server noticed that a file has changed."""
        return eventually(lambda: f"{name} changed" in self.server.log())


@pytest.fixture
def project(tmp_path: Path, start: Start, connect: Callable[..., Client]) -> Project:
    need_module("watchfiles")
    return Project(tmp_path / "project", start, connect)


@pytest.fixture
def asking(project: Project) -> Iterator[list[str]]:
    """The answers to requests that come one after another all the time, from `serve` on."""
    answers: list[str] = []
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            if hasattr(project, "server"):
                answers.append(project.get())

    thread = threading.Thread(target=ask)
    thread.start()
    yield answers
    ended.set()
    thread.join()


def test_saved_code_answers_and_no_request_is_lost(project: Project, asking: list[str]) -> None:
    project.serve()
    # The same size within a second: Python alone would take the old bytecode.
    for text in ("two", "six", "ten"):
        project.answer(text)
        assert eventually(lambda text=text: asking[-1:] == [text])  # type: ignore[misc]
    assert set(asking) == {"one", "two", "six", "ten"}
    assert sorted(set(asking), key=asking.index) == ["one", "two", "six", "ten"]
    assert "helper.py changed" in project.server.log()


def test_a_touched_file_counts(project: Project) -> None:
    project.serve()
    (project.folder / "web.py").touch()
    assert project.sees("web.py")
    assert eventually(lambda: "generation 2 serves" in project.server.log())


def test_a_directory_of_the_start_that_is_removed(
    project: Project, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as here:
        here.chdir(project.folder)
        server = start("web:app", "--reload", app_dir=None)
    assert eventually(lambda: "watching /" in server.log())
    shutil.rmtree(project.folder)
    assert eventually(lambda: "RELOAD FAILED" in server.log())
    assert "internal error" not in server.log()


def test_a_directory_that_is_replaced_or_comes_back(project: Project) -> None:
    project.serve()
    project.folder.rename(project.folder.with_name("old"))
    project.fill("two")
    assert project.answers("two")
    project.answer("six")
    assert project.answers("six")
    shutil.rmtree(project.folder)
    assert eventually(lambda: "the process that watches files has ended" in project.server.log())
    project.fill("ten")
    assert project.answers("ten")


def test_a_change_during_a_start_starts_again(project: Project) -> None:
    project.serve()
    stuck = project.folder / "pid"
    project.write(
        "import os, pathlib, threading\n"
        f"pathlib.Path({str(stuck)!r}).write_text(str(os.getpid()))\n"
        "threading.Event().wait()\n"
    )
    pid = int(eventually(lambda: stuck.exists() and stuck.read_text()))
    project.answer("two")
    assert project.get() == "two" or project.answers("two")
    assert eventually(lambda: not is_alive(pid))


def test_other_directories_and_patterns(project: Project, tmp_path: Path) -> None:
    other = tmp_path / "library"
    other.mkdir()
    words = ["--reload-dir", str(other), "--reload-include", "*.html", "--reload-exclude", "tests"]
    (project.folder / "tests").mkdir()
    project.serve(*words)
    for path in (project.folder / "notes.txt", project.folder / "tests" / "test_web.py"):
        path.write_text("")
    (other / "page.html").write_text("")
    assert project.sees("page.html")
    (project.folder / "new").mkdir()
    (other / "shelf.py").write_text("")
    assert project.sees("shelf.py")
    # The event of a new directory and the watch on it come one after another.
    assert eventually(
        lambda: (
            (project.folder / "new" / "web2.py").write_text("") == 0
            and "web2.py changed" in project.server.log()
        )
    )
    assert "notes.txt" not in project.server.log()
    assert "test_web.py" not in project.server.log()


def test_an_app_that_does_not_import_is_shown(project: Project) -> None:
    project.serve()
    project.write("def answer(: '<b>'\n")
    assert eventually(lambda: project.get("Accept: text/html") != "one")
    page = project.get("Accept: text/html")
    assert "SyntaxError" in page
    assert "&lt;b&gt;" in page
    assert "<b>" not in page
    assert project.get("Accept: */*").startswith("Traceback")
    # Another machine would not see it.
    assert project.get("X-Forwarded-For: 192.0.2.1") == "one"
    project.answer("two")
    assert project.answers("two")


def test_a_first_start_that_fails_waits_for_a_change(project: Project, tmp_path: Path) -> None:
    project.write("1 / 0\n")
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command("--reload", "--bind", f"unix:{tmp_path}/s", "web:app"),
            cwd=project.folder,
            stderr=output,
            env=clean_environment(),
        )
    try:
        eventually(lambda: "watching /" in log.read_text())
        eventually(lambda: "waiting for a change" in log.read_text())
        assert "ZeroDivisionError" in log.read_text()
        project.answer("one")
        eventually(lambda: "ready, accepting connections" in log.read_text())
        with Client(f"unix:{tmp_path}/s") as client:
            assert client.get("/").body == b"one"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


def test_a_stop_ends_the_watcher(project: Project) -> None:
    server = project.serve()
    children = _children(server.pid)
    assert len(children) == 2
    assert server.stop() == 0
    assert not any(map(is_alive, children))


def test_the_watcher_ends_with_a_front_end_that_is_killed(project: Project) -> None:
    server = project.serve()
    children = _children(server.pid)
    server.kill()
    assert eventually(lambda: not any(map(is_alive, children)))


def test_a_watcher_that_ends_is_started_again(project: Project) -> None:
    server = project.serve()
    (watcher,) = (pid for pid in server.reactor_pids() if "reloading.watcher" in _command(pid))
    os.kill(watcher, signal.SIGKILL)
    assert eventually(lambda: "the process that watches files has ended" in server.log())
    assert project.get() == "one"
    assert eventually(lambda: server.log().count("watching /") == 2)
    project.answer("two")
    assert project.answers("two")


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode()


def test_a_watcher_that_cannot_watch_says_why(tmp_path: Path) -> None:
    need_module("watchfiles")
    task = json.dumps({"dirs": [str(tmp_path / "gone")], "include": [], "exclude": []})
    words = [sys.executable, "-m", "reactor_run.frontend.reloading.watcher", task]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.wait(30) == 1
        assert process.stdout is not None
        assert "gone" in json.loads(process.stdout.read())["failed"]


def test_reload_without_watchfiles_is_an_error_of_the_operator(project: Project) -> None:
    hide = "import sys; sys.modules['watchfiles'] = None; import reactor_run.__main__ as r; "
    done = subprocess.run(
        [sys.executable, "-c", f"{hide}sys.exit(r.main())", "--reload", "web:app"],
        cwd=project.folder,
        capture_output=True,
        text=True,
        env=clean_environment(),
    )
    assert done.returncode == 2
    assert done.stderr == (
        "reactor-run: error: --reload: watchfiles is not installed; "
        "pip install 'reactor-run[reload]'\n"
    )
