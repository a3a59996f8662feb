"""What an operator reads who got something wrong: one line that says it, and exit status 2."""

from __future__ import annotations

import re
import socket
import subprocess
from pathlib import Path

import pytest

from tests.integration.server import Server, clean_environment, command

HEALTHY = """
async def app(scope, receive, send):
    raise NotImplementedError
"""


@pytest.fixture
def apps(tmp_path: Path) -> Path:
    """A folder with a healthy app in it."""
    (tmp_path / "healthy.py").write_text(HEALTHY)
    return tmp_path


def run(apps: Path, *words: str, env: dict[str, str] | None = None) -> str:
    """Run until it gives up with status 2 and return what it wrote."""
    done = subprocess.run(
        command("--app-dir", str(apps), *words),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        env=clean_environment(env),
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    return done.stderr


def one_line(output: str) -> str:
    """The one line of the output, beside what the log at its level info may hold already."""
    lines = [
        line for line in output.splitlines() if not re.match(r"\S+ \S+ \S+ \[\d+\] info ", line)
    ]
    assert len(lines) == 1, output
    return lines[0]


LOCAL = ["--bind", "127.0.0.1:0"]


@pytest.mark.parametrize(
    ("app", "words"),
    [
        ("nowhere:app", ["nowhere"]),
        ("nowhere.deeper:app", ["nowhere"]),
        ("healthy:application", ["healthy", "application"]),
        ("healthy:app.deeper", ["healthy", "deeper"]),
        ("healthy:__name__", ["__name__", "called"]),
        ("healthy.py", ["healthy.py", "module"]),
    ],
)
def test_a_wrong_app_path(apps: Path, app: str, words: list[str]) -> None:
    line = one_line(run(apps, *LOCAL, app))
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--no-such-flag"], ["--no-such-flag"]),
        (["--runtime", "curio"], ["--runtime", "curio"]),
        (["--reactors", "0"], ["--reactors", "0"]),
        (["--threads", "many"], ["--threads", "many"]),
        (["--bind", "nonsense"], ["--bind", "nonsense"]),
        (["--bind", "127.0.0.1:99999"], ["--bind", "99999"]),
        (["--bind", "fd:99"], ["fd 99"]),
        (["--bind", "unix:/no/such/folder/socket"], ["/no/such/folder"]),
        (["--bind", "unix:/" + "x" * 200], ["107"]),
        (["--bind", "192.0.2.1:0"], ["192.0.2.1"]),
        (["--app-dir", "/no/such/folder"], ["--app-dir", "/no/such/folder"]),
        (["--metrics", "9100"], ["--metrics", "9100"]),
        (["--metrics", "unix:/tmp/metrics"], ["--metrics", "unix:/tmp/metrics", "--admin"]),
        ([*LOCAL, "--metrics", "192.0.2.1:0"], ["192.0.2.1", "--metrics"]),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_a_flag_that_cannot_be_met(apps: Path, options: list[str], words: list[str]) -> None:
    line = one_line(run(apps, *options, "healthy:app"))
    assert all(word in line for word in words), line


def test_a_wrong_environment_variable_is_named(apps: Path) -> None:
    env = {"REACTOR_RUN_RUNTIME": "curio"}
    assert "REACTOR_RUN_RUNTIME" in one_line(run(apps, *LOCAL, "healthy:app", env=env))


def test_no_app_at_all(apps: Path) -> None:
    assert "app" in one_line(run(apps))


def test_a_busy_port(apps: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        line = one_line(run(apps, "--bind", f"127.0.0.1:{port}", "healthy:app"))
    assert port in line


def test_a_busy_port_for_metrics(apps: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        line = one_line(run(apps, *LOCAL, "--metrics", f"127.0.0.1:{port}", "healthy:app"))
    assert port in line
    assert "--metrics" in line


def test_a_busy_unix_socket(apps: Path, tmp_path: Path) -> None:
    path = f"{tmp_path}/s"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen()
        assert path in one_line(run(apps, "--bind", f"unix:{path}", "healthy:app"))
        assert Path(path).is_socket()


def test_a_file_in_the_place_of_a_unix_socket_is_kept(apps: Path, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("precious")
    assert str(path) in one_line(run(apps, "--bind", f"unix:{path}", "healthy:app"))
    assert path.read_text() == "precious"


# Apps that cannot be imported or started: the app's own words, not ours


def frames(output: str) -> list[str]:
    """The files that the tracebacks in `output` show."""
    return re.findall(r'^ *File "([^"]+)", line \d+', output, re.MULTILINE)


def test_an_import_error_inside_the_app_shows_its_own_traceback(apps: Path) -> None:
    (apps / "helper.py").write_text("import no_such_module\n")
    (apps / "broken.py").write_text("import helper\n")
    output = run(apps, *LOCAL, "broken:app")
    assert "ModuleNotFoundError: No module named 'no_such_module'" in output
    assert frames(output) == [str(apps / "broken.py"), str(apps / "helper.py")]


def test_an_error_while_the_app_is_imported_shows_its_own_traceback(apps: Path) -> None:
    (apps / "broken.py").write_text("app = 1 / 0\n")
    output = run(apps, *LOCAL, "broken:app")
    assert "ZeroDivisionError" in output
    assert frames(output) == [str(apps / "broken.py")]


def test_a_syntax_error_in_the_app_shows_its_place(apps: Path) -> None:
    (apps / "broken.py").write_text("app = = 1\n")
    output = run(apps, *LOCAL, "broken:app")
    assert "SyntaxError" in output
    assert frames(output) == [str(apps / "broken.py")]


def test_an_app_that_exits_while_it_is_imported(apps: Path) -> None:
    (apps / "broken.py").write_text("import sys\nsys.exit('no configuration')\n")
    assert "no configuration" in run(apps, *LOCAL, "broken:app")


def test_a_factory_that_fails_shows_its_own_traceback(apps: Path) -> None:
    (apps / "broken.py").write_text("def make():\n    raise ValueError('no database')\n")
    output = run(apps, *LOCAL, "--factory", "broken:make")
    assert "ValueError: no database" in output
    assert frames(output) == [str(apps / "broken.py")]


LIFESPAN = """
async def app(scope, receive, send):
    assert scope["type"] == "lifespan"
    await receive()
    {body}
"""


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_a_failed_startup_ends_with_the_words_of_the_app(apps: Path, mode: str) -> None:
    body = 'await send({"type": "lifespan.startup.failed", "message": "the database is down"})'
    (apps / "failing.py").write_text(LIFESPAN.format(body=body))
    output = run(apps, *LOCAL, "--lifespan", mode, "failing:app")
    assert sum("the database is down" in line for line in output.splitlines()) == 1
    assert "ready" not in output
    assert frames(output) == []


def test_an_error_in_a_required_startup_shows_its_own_traceback(apps: Path) -> None:
    (apps / "failing.py").write_text(LIFESPAN.format(body="raise ValueError('no database')"))
    output = run(apps, *LOCAL, "--lifespan", "on", "failing:app")
    assert "ValueError: no database" in output
    assert frames(output) == [str(apps / "failing.py")]


def test_an_app_without_lifespan_is_served_all_the_same(apps: Path) -> None:
    with Server("healthy:app", app_dir=apps) as server:
        assert "Traceback" not in server.log()


# What is no error


def test_help_is_grouped_and_version_names_the_parts() -> None:
    shown = subprocess.run(command("--help"), capture_output=True, text=True, check=True).stdout
    for words in ("--bind", "--reactors", "--lane-proxy", "REACTOR_RUN_BIND", "Limits"):
        assert words in shown
    version = subprocess.run(command("--version"), capture_output=True, text=True, check=True)
    assert re.fullmatch(r"reactor-run \S+ \(.*Python.*\)\n", version.stdout)


def test_the_environment_sets_what_no_flag_does(apps: Path, tmp_path: Path) -> None:
    (apps / "named.py").write_text(HEALTHY.replace("app(", "application("))
    env = {"REACTOR_RUN_REACTORS": "2"}
    with Server("named", app_dir=apps, env=env) as server:
        assert len(server.reactor_pids()) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--keyfile", "/k"], ["--keyfile", "--certfile"]),
        (["--tls-min", "1.3"], ["--tls-min", "--certfile"]),
        (["--redirect-http", ":0"], ["--redirect-http", "--certfile"]),
        (["--certfile", "/no/such.pem"], ["/no/such.pem", "No such file"]),
        (["--certfile", "/a", "--certfile", "/b", "--keyfile", "/k"], ["--keyfile", "1", "2"]),
        (["--certfile", "/a", "--verify-client", "optional"], ["--verify-client", "--ca-certs"]),
        (["--certfile", "/a", "--ca-certs", "/c"], ["--ca-certs", "--verify-client"]),
        (["--tls-dev", "--certfile", "/a"], ["--tls-dev", "--certfile"]),
        (["--certfile", "/a", "--tls-min", "1.1"], ["--tls-min", "1.2"]),
        (["--certfile", "/a", "--redirect-http", "unix:/x"], ["--redirect-http", "unix:/x"]),
        (["--admin", "127.0.0.1:0,plain"], ["--admin", "127.0.0.1:0,plain"]),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_flags_of_tls_that_cannot_be_met(apps: Path, options: list[str], words: list[str]) -> None:
    line = one_line(run(apps, *LOCAL, *options, "healthy:app"))
    assert all(word in line for word in words), line
