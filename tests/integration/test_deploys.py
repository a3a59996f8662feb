"""A deploy gives the name of the directory in which reactor-run was started to another one."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.client import Client
from tests.integration.conftest import Start
from tests.integration.server import Server
from tests.integration.test_upgrade import Upgraded, upgraded
from tests.integration.waiting import eventually

__all__ = ["upgraded"]

Serve = Callable[..., Server]

APP = """
import os

async def app(scope, receive, send):
    if scope["path"] == "/later":
        import imported_later
        text = imported_later.RELEASE
    elif scope["path"] == "/directory":
        text = os.getcwd()
    else:
        text = "{release}"
    await send({{"type": "http.response.start", "status": 200}})
    await send({{"type": "http.response.body", "body": text.encode()}})
"""


def write_release(directory: Path, release: str) -> None:
    """An app as if deployed to `directory`, which tells of which release it is."""
    for where in (directory, directory / "below"):
        where.mkdir(parents=True, exist_ok=True)
        (where / "released_app.py").write_text(APP.format(release=release))
        (where / "imported_later.py").write_text(f"RELEASE = {release!r}")


@pytest.fixture
def current(tmp_path: Path) -> Path:
    """The link that a deploy swaps; at first to release 1."""
    for release in ("1", "2"):
        write_release(tmp_path / "releases" / release, release)
    link = tmp_path / "current"
    link.symlink_to(tmp_path / "releases" / "1")
    return link


def swap(current: Path) -> None:
    new = current.with_name("new")
    new.symlink_to(current.parent / "releases" / "2")
    new.rename(current)


@pytest.fixture
def serve(start: Start) -> Serve:
    """`serve(directory, app_dir=...)`: as an operator does it, by `cd DIRECTORY` in a shell."""

    def run(directory: Path, app_dir: str = ".") -> Server:
        cd = ("bash", "-c", 'cd "$0" && exec "$@"', str(directory))
        # An upgrade closes a connection whose request does not come within this time.
        grace = {"REACTOR_RUN_CLOSE_GRACE": "1"}
        return start(
            "released_app:app", "--lifespan=off", app_dir=Path(app_dir), wrapper=cd, env=grace
        )

    return run


def ask(server: Server, path: str = "/") -> str:
    with Client(server.address) as client:
        return client.get(path).text


@pytest.mark.parametrize("app_dir", [".", "below"])
def test_a_reload_serves_what_the_link_leads_to_now(
    serve: Serve, current: Path, app_dir: str
) -> None:
    server = serve(current, app_dir)
    assert ask(server) == "1"
    swap(current)
    server.signal(signal.SIGHUP)
    assert eventually(lambda: ask(server) == "2", deadline=20)
    assert ask(server, "/directory") == str(current.parent / "releases" / "2")


def test_a_reactor_imports_all_of_its_app_from_one_release(serve: Serve, current: Path) -> None:
    server = serve(current)
    swap(current)
    assert ask(server, "/later") == "1"


def test_a_dead_reactor_is_replaced_by_the_new_release(serve: Serve, current: Path) -> None:
    server = serve(current)
    swap(current)
    shutil.rmtree(current.parent / "releases" / "1")
    os.kill(server.reactor_pids()[0], signal.SIGKILL)
    assert eventually(lambda: ask(server) == "2", deadline=20)


def test_an_upgrade_serves_what_the_link_leads_to_now(
    serve: Serve, current: Path, upgraded: Upgraded
) -> None:
    server = serve(current)
    swap(current)
    upgraded(server)
    assert eventually(lambda: ask(server) == "2", deadline=20)
    assert server.wait() == 0
    assert ask(server, "/directory") == str(current.parent / "releases" / "2")


def test_a_directory_that_was_replaced_under_its_name(serve: Serve, tmp_path: Path) -> None:
    directory = tmp_path / "app"
    write_release(directory, "1")
    server = serve(directory)
    shutil.rmtree(directory)
    write_release(directory, "2")
    os.kill(server.reactor_pids()[0], signal.SIGKILL)
    assert eventually(lambda: ask(server) == "2", deadline=20)


def test_a_directory_that_is_gone_is_told(serve: Serve, tmp_path: Path) -> None:
    directory = tmp_path / "app"
    write_release(directory, "1")
    server = serve(directory)
    shutil.rmtree(directory)
    server.signal(signal.SIGHUP)
    gone = f"{directory}, the directory in which reactor-run was started, is gone"
    assert eventually(lambda: gone in server.log())
    failed = f"RELOAD FAILED: --app-dir {directory}: there is no such directory"
    assert eventually(lambda: failed in server.log(), deadline=20)
    assert ask(server) == "1"
    write_release(directory, "2")
    server.signal(signal.SIGHUP)
    assert eventually(lambda: ask(server) == "2", deadline=20)
