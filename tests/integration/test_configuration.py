"""Settings from files and from the environment, as a real service takes them."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import stat
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.integration.client import Client
from tests.integration.server import Server, clean_environment, command, is_alive
from tests.integration.waiting import eventually
from tests.needs import need_module

APP = """
import json, os

async def app(scope, receive, send):
    facts = {"root_path": scope["root_path"]}
    facts.update((name, os.environ.get(name)) for name in ("SHOP", "CART", "TILL"))
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": json.dumps(facts).encode()})
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of an app, which is the current one."""
    (tmp_path / "configured_app.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def facts(address: str) -> dict[str, str | None]:
    """What the app knows."""
    with Client(address) as client:
        found: dict[str, str | None] = client.get("/").json()
    return found


@pytest.fixture
def upgraded() -> Iterator[list[int]]:
    """The processes of new front ends, which are ended when the test is over."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        if is_alive(pid):
            os.kill(pid, signal.SIGTERM)
        assert eventually(lambda pid=pid: not is_alive(pid), deadline=20)  # type: ignore[misc]


def upgrade(server: Server, upgraded: list[int]) -> None:
    def started() -> list[str]:
        return re.findall(r"the new front end is process (\d+)", server.log())

    before = len(started())
    server.signal(signal.SIGUSR2)
    assert eventually(lambda: len(started()) > before)
    upgraded.append(int(started()[-1]))
    assert server.wait(deadline=30) == 0


def refused(*words: str, env: Mapping[str, str] | None = None) -> str:
    """Run until it gives up with status 2; return the one line that it wrote."""
    done = subprocess.run(
        command(*words), capture_output=True, text=True, timeout=30, env=clean_environment(env)
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_a_service_is_run_by_its_pyproject_alone(here: Path, upgraded: list[int]) -> None:
    settings = """
[tool.reactor-run]
app = "configured_app:app"
bind = ["unix:web.sock", "127.0.0.1:0"]
reactors = 2
lifespan = false
root-path = {!r}
"""
    (here / "pyproject.toml").write_text(settings.format("/one"))
    with Server(app_dir=None, bind=()) as server:
        assert len(server.reactor_pids()) == 2
        assert len(server.addresses) == 2
        assert facts(f"unix:{here}/web.sock")["root_path"] == "/one"

        # A reload keeps the settings; an upgrade reads the file again.
        (here / "pyproject.toml").write_text(settings.format("/two"))
        server.signal(signal.SIGHUP)
        assert eventually(lambda: "generation 2 serves" in server.log())
        assert facts(server.address)["root_path"] == "/one"
        (here / "pyproject.toml").write_text("[tool.reactor-run")
        server.signal(signal.SIGUSR2)
        assert eventually(lambda: "UPGRADE FAILED" in server.log())
        assert "error: pyproject.toml, line 1, column 18: " in server.log()
        assert facts(server.address)["root_path"] == "/one"
        (here / "pyproject.toml").write_text(settings.format("/two"))
        upgrade(server, upgraded)
        assert facts(f"unix:{here}/web.sock")["root_path"] == "/two"


def test_an_env_file_is_for_the_app_and_for_settings(here: Path, upgraded: list[int]) -> None:
    need_module("dotenv")
    (here / ".env").write_text("SHOP=one\nCART=one\nREACTOR_RUN_ROOT_PATH=/one\n")
    env = {"CART": "real", "REACTOR_RUN_ENV_FILE": ".env"}
    with Server("configured_app:app", app_dir=None, bind=("unix:web.sock",), env=env) as server:
        address = f"unix:{here}/web.sock"
        first = {"root_path": "/one", "SHOP": "one", "CART": "real", "TILL": None}
        assert facts(address) == first

        # A reload keeps the variables. An upgrade has the real environment, and reads the file.
        (here / ".env").write_text("SHOP=two\nTILL=two\nCART=two\n")
        server.signal(signal.SIGHUP)
        assert eventually(lambda: "generation 2 serves" in server.log())
        assert facts(address) == first
        upgrade(server, upgraded)
        assert facts(address) == {"root_path": "", "SHOP": "two", "CART": "real", "TILL": "two"}
        (here / ".env").write_text("TILL=three\n")
        os.kill(upgraded[-1], signal.SIGUSR2)
        assert eventually(lambda: server.log().count("the new front end accepts") == 2)
        upgraded.append(int(re.findall(r"the new front end is process (\d+)", server.log())[-1]))
        assert eventually(lambda: not is_alive(upgraded[0]), deadline=20)
        assert facts(address) == {"root_path": "", "SHOP": None, "CART": "real", "TILL": "three"}


def test_a_faulty_env_file_ends_the_start(here: Path) -> None:
    need_module("dotenv")
    (here / ".env").write_text("SHOP=one\nthis is nothing\n")
    assert refused("a:b", "--env-file=.env") == (
        "reactor-run: error: --env-file: .env, line 2, column 1: expected NAME=VALUE\n"
    )


def test_a_faulty_file_ends_the_start(here: Path) -> None:
    (here / "shop.toml").write_text("threds = 2")
    assert refused("a:b", "--config", "shop.toml") == (
        "reactor-run: error: --config: shop.toml: there is no setting 'threds'; the nearest is "
        "'threads'\n"
    )


def test_the_table_may_be_piped_to_a_reader_that_leaves(here: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    shown = subprocess.Popen(
        command("config"), stdout=writer, stderr=subprocess.PIPE, env=clean_environment()
    )
    os.close(writer)
    assert shown.communicate(timeout=30)[1] == b""
    assert shown.returncode == 0


def free_port() -> int:
    """A port that is free, and below those that the kernel gives to sockets of other tests."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in random.sample(range(max(1024, first - 10_000), first), 100):
        try:
            with socket.create_server(("0.0.0.0", port)):
                return port
        except OSError:
            continue
    raise AssertionError("a hundred ports are in use")


def test_a_service_on_a_platform(here: Path) -> None:
    """`PORT` and its companions are enough, and what has no effect is in the log."""
    port = free_port()
    env = {
        "PORT": str(port),
        "WEB_CONCURRENCY": "2",
        "FORWARDED_ALLOW_IPS": "*",
        "REACTOR_RUN_THRED": "1",
        "UVICORN_HOST": "::",
    }
    with Server("configured_app:app", app_dir=None, bind=(), env=env) as server:
        assert len(server.reactor_pids()) == 2
        assert server.addresses[0] == f"http://0.0.0.0:{port}"
        assert facts(f"http://127.0.0.1:{port}")["root_path"] == ""
        warned = re.findall(r"warning (.*)", server.log())
        assert [line.split()[0] for line in warned] == [
            "REACTOR_RUN_THRED",
            "UVICORN_HOST",
            "FORWARDED_ALLOW_IPS=*",
        ]


def test_sockets_that_systemd_passes_win_over_port(here: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as passed:
        script = 'exec 3<&"$0"-; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'
        wrapper = ["bash", "-c", script, str(passed.fileno())]
        with Server(
            "configured_app:app",
            app_dir=None,
            bind=(),
            env={"PORT": "1"},
            wrapper=wrapper,
            pass_fds=[passed.fileno()],
        ) as server:
            assert server.addresses == [f"http://127.0.0.1:{passed.getsockname()[1]}"]


def test_a_flag_of_another_server_ends_the_start(here: Path) -> None:
    assert refused("a:b", "--host", "0.0.0.0", "--port", "80") == (
        "reactor-run: error: there is no --host or --port: use --bind HOST:PORT; see "
        "docs/migrating.md\n"
    )


FIELDS_APP = """
async def asgi(scope, receive, send):
    headers = {"/own": [(b"X-A", b"mine"), (b"Date", b"then")]}.get(scope["path"], [])
    if scope["path"] == "/fails":
        raise ValueError
    size = 300_000 if scope["path"] == "/large" else 2
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"x" * size})

def wsgi(environ, start_response):
    headers = [("x-a", "mine"), ("Server", "mine")] if environ["PATH_INFO"] == "/own" else []
    if environ["PATH_INFO"] == "/fails":
        raise ValueError
    start_response("200 OK", headers)
    return [b"x" * (300_000 if environ["PATH_INFO"] == "/large" else 2)]
"""


@pytest.mark.parametrize("app", ["asgi", "wsgi"])
def test_chosen_fields_are_in_every_answer(here: Path, app: str) -> None:
    (here / "fields_app.py").write_text(FIELDS_APP)
    (here / "shop.toml").write_text('header = ["X-A: 1", "x-b: 2"]\nno-server-header = true')
    words = ["--config=shop.toml", "--no-date-header", "--admin=unix:admin.sock"]
    with Server(f"fields_app:{app}", *words, app_dir=None) as server:
        with Client(server.address) as client:
            for path, status in ("/", 200), ("/large", 200), ("/fails", 500):
                response = client.request("GET", path)
                assert response.status == status
                assert response.field("x-a") == b"1"
                assert response.field("x-b") == b"2"
                assert response.field("server") is None
                assert response.field("date") is None
            response = client.get("/own")
            assert response.field("x-a") == b"mine"
            assert response.field("x-b") == b"2"
            mine = {"date": b"then"} if app == "asgi" else {"server": b"mine"}
            assert all(response.field(name) == value for name, value in mine.items())
            client.send(b"GET /../ HTTP/1.1\r\nHost: a\r\n\r\n")
            rejected = client.response()
        with Client(f"unix:{here}/admin.sock") as client:
            alive = client.get("/healthz")
        assert (rejected.status, alive.status) == (400, 200)
        for response in rejected, alive:
            assert response.field("x-a") == b"1"
            assert response.field("server") is None
            assert response.field("date") is None


def titles(pids: Iterable[int]) -> list[str]:
    """The titles of processes, as `ps` shows them."""
    found = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids]
    return [title.rstrip(b"\0").decode() for title in found]


def test_the_operators_marks_on_processes_and_files(here: Path, upgraded: list[int]) -> None:
    """The process number in a file, titles, and the mode of new files, also after an upgrade."""
    need_module("setproctitle")
    (here / "marked_app.py").write_text("open('made', 'w').close()\n" + APP)
    words = ["--pid-file=shop.pid", "--umask=027", "--reactors=2"]
    with Server("marked_app:app", *words, app_dir=None, cold=True) as server:
        assert (here / "shop.pid").read_text() == f"{server.pid}\n"
        assert stat.S_IMODE((here / "shop.pid").stat().st_mode) == 0o640
        assert stat.S_IMODE((here / "made").stat().st_mode) == 0o640
        parts = ["front end", "reactor 1", "reactor 2"]
        wanted = [f"reactor-run: {part} marked_app:app" for part in parts]
        # The service is ready with its first reactor. The other one may still start.
        assert eventually(lambda: sorted(titles(server.pids())) == wanted)
        reactor = server.reactor_pids()[0]
        assert b"PYTHONUNBUFFERED=1\0" in Path(f"/proc/{reactor}/environ").read_bytes()

        good = (here / "marked_app.py").read_text()
        (here / "marked_app.py").write_text("this is no Python")
        server.signal(signal.SIGUSR2)
        assert eventually(lambda: "UPGRADE FAILED" in server.log())
        assert (here / "shop.pid").read_text() == f"{server.pid}\n"
        (here / "marked_app.py").write_text(good)
        upgrade(server, upgraded)
        new = upgraded[-1]
        assert (here / "shop.pid").read_text() == f"{new}\n"
        assert titles([new]) == ["reactor-run: front end marked_app:app"]
        os.kill(new, signal.SIGTERM)
        assert eventually(lambda: not is_alive(new), deadline=20)
    assert not (here / "shop.pid").exists()
    assert list(here.glob("*.pid*")) == []


def test_a_file_of_another_process_is_replaced_and_not_removed(here: Path) -> None:
    (here / "shop.pid").write_text("1\n")
    with Server("configured_app:app", "--pid-file=shop.pid", app_dir=None) as server:
        assert (here / "shop.pid").read_text() == f"{server.pid}\n"
        (here / "shop.pid").write_text("1\n")
    assert (here / "shop.pid").read_text() == "1\n"


def test_a_pid_file_that_cannot_be_written_ends_the_start(here: Path) -> None:
    (here / "directory").mkdir()
    for path, why in ("none/x", "No such file or directory"), ("directory", "Is a directory"):
        done = subprocess.run(
            command("configured_app:app", "--bind=unix:s", f"--pid-file={path}"),
            capture_output=True,
            text=True,
            timeout=30,
            env=clean_environment(),
        )
        assert done.returncode == 2
        assert done.stderr == (
            f"reactor-run: error: --pid-file {path}: cannot be written ({why}); choose another "
            "path\n"
        )
        assert sorted(each.name for each in here.iterdir() if each.suffix != ".py") == ["directory"]


def test_a_field_that_cannot_be_chosen_ends_the_start(here: Path) -> None:
    (here / "shop.toml").write_text('header = ["X-A: 1", "Transfer-Encoding: chunked"]')
    assert refused("a:b", "--config=shop.toml") == (
        "reactor-run: error: header in shop.toml: 'Transfer-Encoding: chunked': the server itself "
        "sets Transfer-Encoding, because it frames responses\n"
    )
