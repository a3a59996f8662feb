"""`--hooks MODULE`: when each hook is called, in which process, with what, and what if it fails."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reactor_run.hook_module import FORK_HOOKS, FRONT_END_HOOKS, HOOKS
from tests.integration.client import Client
from tests.integration.conftest import Start
from tests.integration.server import Server, clean_environment, command
from tests.integration.test_upgrade import Upgraded, end, upgraded
from tests.integration.waiting import eventually

__all__ = ["upgraded"]

APP = """
import writing

writing.write("import")

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            writing.write(message["type"])
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
"""

WRITING = """
import json, os

def write(what, event=None):
    line = json.dumps([what, os.getpid(), None if event is None else event._asdict()])
    with open(os.environ["NOTES"], "a") as file:
        file.write(line + "\\n")
"""

EVERY_HOOK = "import writing\n" + "".join(
    f"def {name}(event):\n    writing.write({name!r}, event)\n" for name in HOOKS
)

Note = tuple[str, int, dict[str, Any]]
"""What was called, in which process, and what a hook got."""


class Place:
    """The directory of an app, its hooks, and what both have written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path / "notes"
        (path / "web.py").write_text(APP)
        (path / "writing.py").write_text(WRITING)
        self.hooks(EVERY_HOOK)

    def hooks(self, text: str) -> None:
        (self.path / "shop_hooks.py").write_text(text)

    @property
    def env(self) -> dict[str, str]:
        return {"NOTES": str(self.file)}

    def notes(self, *names: str) -> list[Note]:
        """What was written so far, in order; only about `names` if there are any."""
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        notes = [tuple(json.loads(line)) for line in lines]
        return [note for note in notes if not names or note[0] in names]

    def await_note(self, name: str, pid: int | None = None) -> Note:
        """Wait until `name` was called, in process `pid`, and return the last such note."""
        return eventually(lambda: [note for note in self.notes(name) if pid in (None, note[1])])[-1]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def run(start: Start, place: Place) -> Callable[..., Server]:
    def run(*options: str) -> Server:
        return start("web:app", "--hooks=shop_hooks", *options, app_dir=place.path, env=place.env)

    return run


def get(server: Server) -> str:
    with Client(server.address) as client:
        return client.get("/").text


def test_hooks_follow_the_service_from_start_to_stop(
    run: Callable[..., Server], place: Place
) -> None:
    server = run("--runtime=asyncio")
    first = server.reactor_pids()[0]
    place.await_note("on_ready")
    names = [name for name, _, _ in place.notes() if name != "on_reactor_start"]
    assert names == [
        "on_start",
        "reactor_init",
        "import",
        "lifespan.startup",
        "reactor_ready",
        "on_ready",
    ]
    service = {
        "app": "web:app",
        "pid": server.pid,
        "addresses": [server.address],
        "reactors": 1,
        "inherited": False,
        "handed_over": False,
    }
    assert place.notes("on_start", "on_ready") == [
        ("on_start", server.pid, service),
        ("on_ready", server.pid, service),
    ]
    reactor = {"name": "reactor 1", "pid": first, "generation": 1}
    assert place.notes("on_reactor_start") == [("on_reactor_start", server.pid, reactor)]
    unknown = {"name": "reactor 1", "pid": first, "app": "web:app", "interface": "", "runtime": ""}
    known = unknown | {"interface": "asgi", "runtime": "asyncio"}
    assert place.notes("reactor_init", "reactor_ready") == [
        ("reactor_init", first, unknown),
        ("reactor_ready", first, known),
    ]

    # A reload: the reactors import the hooks anew, the front end does not.
    place.hooks(EVERY_HOOK.replace("writing.write('", "writing.write('new_"))
    server.signal(signal.SIGHUP)
    assert place.await_note("on_reload")[1:] == (server.pid, {"generation": 2})
    second = place.await_note("new_reactor_ready")[1]
    _, pid, exited = place.await_note("on_reactor_exit")
    assert pid == server.pid
    assert exited.pop("seconds") > 0
    assert exited == reactor | {"status": 0}
    assert [name for name, pid, _ in place.notes() if pid == first][-2:] == [
        "lifespan.shutdown",
        "reactor_exit",
    ]
    assert place.notes("reactor_exit")[0][2] == known

    # A death: its process calls nothing any more, and the front end is told.
    os.kill(second, signal.SIGKILL)
    assert eventually(lambda: len(place.notes("on_reactor_exit")) == 2)
    _, _, killed = place.notes("on_reactor_exit")[1]
    assert (killed["pid"], killed["generation"], killed["status"]) == (second, 2, -signal.SIGKILL)
    assert not place.notes("new_reactor_exit")
    assert eventually(lambda: re.search(r"reactor 3 \(pid \d+\) is ready", server.log()))
    assert len(place.notes("new_reactor_ready")) == 2

    assert server.stop() == 0
    assert [name for name, _, _ in place.notes()][-4:] == [
        "lifespan.shutdown",
        "new_reactor_exit",
        "on_reactor_exit",
        "on_stop",
    ]
    assert place.notes("on_stop") == [("on_stop", server.pid, service)]
    assert "Traceback" not in server.log()


def test_a_stop_at_once_calls_the_hooks_of_the_front_end(
    run: Callable[..., Server], place: Place
) -> None:
    server = run("--interface=asgi")
    place.await_note("on_ready")
    server.signal(signal.SIGQUIT)
    assert server.wait() == 0
    exited, stopped = place.notes("on_reactor_exit", "on_stop")
    assert exited[2]["status"] == -signal.SIGKILL
    assert stopped[0] == "on_stop"


def test_an_upgrade_tells_both_front_ends(
    run: Callable[..., Server], place: Place, upgraded: Upgraded
) -> None:
    server = run()
    new = upgraded(server)
    assert server.wait(deadline=30) == 0
    assert [name for name, pid, _ in place.notes() if pid == new][:2] == [
        "on_start",
        "on_reactor_start",
    ]
    assert place.await_note("on_ready", new)[2]["inherited"] is True
    stopped = place.await_note("on_stop", server.pid)[2]
    assert (stopped["inherited"], stopped["handed_over"]) == (False, True)
    end(new)
    assert place.await_note("on_stop", new)[2]["handed_over"] is False


def test_hooks_that_fail_are_logged_and_stop_nothing(
    run: Callable[..., Server], place: Place
) -> None:
    place.hooks(
        "import sys\n"
        + "".join(
            f"def {name}(event):\n    raise ValueError({name!r})\n"
            for name in HOOKS
            if name not in ("reactor_init", "on_ready", *FORK_HOOKS)
        )
        + "def on_ready(event):\n    sys.exit(1)\n"
    )
    server = run()
    assert get(server) == "hello"
    server.signal(signal.SIGHUP)
    assert eventually(lambda: "the hook on_reactor_exit failed" in server.log())
    assert get(server) == "hello"
    assert server.stop() == 0
    for name in HOOKS:
        if name.startswith(("on_", "reactor_")) and name != "reactor_init":
            assert f"the hook {name} failed" in server.log()
        if name not in ("reactor_init", "on_ready", *FORK_HOOKS):
            assert f"ValueError: {name}\n" in server.log()
    assert f'{place.path}/shop_hooks.py", line' in server.log()


def test_a_slow_hook_of_the_front_end_is_told(run: Callable[..., Server], place: Place) -> None:
    place.hooks("import time\ndef on_ready(event):\n    time.sleep(0.2)\n")
    server = run()
    assert eventually(lambda: re.search(r"the hook on_ready took \d+\.\d s", server.log()))
    assert get(server) == "hello"


def test_mark_process_dead_of_prometheus_client(
    run: Callable[..., Server], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The example of docs/hooks.md: files of a reactor's gauges do not outlive the reactor."""
    page = (Path(__file__).parents[2] / "docs" / "hooks.md").read_text()
    (example,) = re.findall(
        r"^    from prometheus_client import multiprocess\n.+?\n(?=\nIts directory)",
        page,
        re.DOTALL | re.MULTILINE,
    )
    place.hooks(textwrap.dedent(example))
    (place.path / "web.py").write_text(
        "from prometheus_client import Counter, Gauge\n"
        "Gauge('live', '', multiprocess_mode='livesum').set(1)\n"
        "Counter('kept', '').inc()\n"
        "async def app(scope, receive, send): ...\n"
    )
    files = place.path / "prometheus"
    files.mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(files))
    server = run()
    (pid,) = server.reactor_pids()
    assert (files / f"gauge_livesum_{pid}.db").exists()
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not (files / f"gauge_livesum_{pid}.db").exists())
    assert (files / f"counter_{pid}.db").exists()
    assert "failed" not in server.log()


# What does not start


def refused(place: Place, *options: str) -> str:
    """Run until it gives up with status 2; return what it wrote."""
    done = subprocess.run(
        command("--app-dir", str(place.path), "--bind=127.0.0.1:0", *options, "web:app"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        env=clean_environment(place.env),
        check=False,
    )
    assert done.returncode == 2, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import no_such_module\n", "importing shop_hooks failed: ModuleNotFoundError"),
        ("def on_redy(service): ...\n", "shop_hooks.on_redy is no hook, the nearest is on_ready"),
    ],
)
def test_a_module_that_cannot_be_used_is_told_in_one_line(
    place: Place, text: str, told: str
) -> None:
    place.hooks(text)
    output = refused(place, "--hooks=shop_hooks")
    assert output.count("\n") == 1
    assert f"error: --hooks: {told}" in output
    assert not place.notes(), "nothing was started"


def test_a_file_in_place_of_a_module(place: Place) -> None:
    assert "give its module" in refused(place, "--hooks=shop_hooks.py")


def test_a_reactor_does_not_start_if_reactor_init_fails(place: Place) -> None:
    place.hooks(EVERY_HOOK.replace("write('reactor_init', event)", "no_such_name"))
    output = refused(place, "--hooks=shop_hooks")
    assert "the hook reactor_init failed: AttributeError" in output
    assert f'File "{place.path}/shop_hooks.py"' in output
    names = [name for name, _, _ in place.notes()]
    assert names == ["on_start", "on_reactor_start", "on_reactor_exit", "on_stop"]
    assert set(names) < set(FRONT_END_HOOKS)


@pytest.mark.parametrize("hook", ["before_fork", "after_fork"])
def test_a_reactor_does_not_start_if_a_hook_around_its_fork_fails(place: Place, hook: str) -> None:
    place.hooks(f"def {hook}(reactor):\n    raise KeyError('none')\n")
    output = refused(place, "--hooks=shop_hooks", "--preload=on")
    assert f"the hook {hook} failed: KeyError: 'none'" in output
    assert f'File "{place.path}/shop_hooks.py"' in output


def test_check_finds_what_is_wrong_with_the_hooks(place: Place) -> None:
    words = command("check", "web:app", "--hooks=shop_hooks", f"--app-dir={place.path}")
    env = clean_environment(place.env)
    done = subprocess.run(words, capture_output=True, text=True, env=env, check=True)
    assert "web:app would serve" in done.stdout
    names = {name for name, _, _ in place.notes()}
    assert names.isdisjoint(FRONT_END_HOOKS)
    assert {"reactor_init", "reactor_ready", "reactor_exit"} <= names
    place.hooks("async def on_ready(service): ...\n")
    done = subprocess.run(words, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 2
    assert "shop_hooks.on_ready is async" in done.stderr
