"""The log of a real service: its form, its time zone, its colours, and the operator's own."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from reactor_run import __version__
from tests.integration.client import Client, request
from tests.integration.conftest import Config, Gate, Notes, Start
from tests.integration.server import ROOT, Server, clean_environment, command
from tests.integration.terminal import OnTerminal
from tests.integration.waiting import eventually

APP = """
import logging, os, time

os.environ["TZ"] = "JST-9"
time.tzset()
log = logging.getLogger("shop")

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    log.warning("asked for %s", scope["path"])
    if scope["path"] == "/fail":
        raise ValueError("\\x1b[31mred\\nsecond line")
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"fine"})
"""
INDIA = {"TZ": "IST-5:30"}
HELLO = "bench.apps.hello:asgi"


@pytest.fixture
def serve(start: Start, tmp_path: Path) -> Callable[..., Server]:
    """`serve(*options, env=...)`: a service whose app sets TZ and logs."""
    (tmp_path / "logging_app.py").write_text(APP)

    def run(*options: str, env: dict[str, str] | None = None) -> Server:
        return start("logging_app:app", *options, app_dir=tmp_path, env=env)

    return run


def ask(server: Server, path: str) -> int:
    with Client(server.address) as client:
        return client.request("GET", path).status


def test_json_from_both_processes(serve: Callable[..., Server]) -> None:
    server = serve("--log-format=json", env=INDIA)
    assert ask(server, "/fail") == 500
    assert eventually(lambda: "the app failed" in server.log())
    server.stop()
    lines = server.log().splitlines()
    ours = [json.loads(line) for line in lines if line.startswith("{")]
    assert [line for line in lines if not line.startswith("{")] == ["asked for /fail"]
    assert all(line.isprintable() for line in lines)
    assert all(
        list(each) == ["time", "level", "process", "reactor", "message", "details"] for each in ours
    )
    assert all(re.fullmatch(r"[\dT:.-]{23}\+05:30", each["time"]) for each in ours)
    assert {each["reactor"] for each in ours} == {"", "reactor 1"}
    (failure,) = [each for each in ours if "the app failed" in each["message"]]
    assert failure["reactor"] == "reactor 1"
    assert failure["level"] == "error"
    assert failure["process"] != ours[0]["process"] == server.pid
    assert "\n" not in failure["message"]
    assert "ValueError: \x1b[31mred\nsecond line" in failure["details"]


def test_one_time_zone_also_if_the_app_sets_another(serve: Callable[..., Server]) -> None:
    server = serve(env=INDIA)
    assert ask(server, "/fail") == 500
    assert eventually(lambda: "the app failed" in server.log())
    server.stop()
    records = re.findall(r"^20\d\d-.*", server.log(), re.MULTILINE)
    assert any("reactor 1: " in record and "the app failed" in record for record in records)
    assert all(re.match(r"[\d-]{10} [\d:]{8} \+0530 \[\d+\] \w+ ", each) for each in records)
    first, last = (re.match(r"\S+ (\d+):(\d+)", each) for each in (records[0], records[-1]))
    assert first is not None
    assert last is not None
    minutes = [int(each[1]) * 60 + int(each[2]) for each in (first, last)]
    assert (minutes[1] - minutes[0]) % 1440 < 5


@pytest.mark.parametrize(
    ("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_colours_on_a_terminal(env: dict[str, str], coloured: bool) -> None:
    with OnTerminal("tests.integration.apps.asgi:app", env=env) as service:
        with Client(service.address) as client:
            assert client.request("GET", "/raise-before").status == 500
        service.wait_for("the app failed")
        service.stop()
        seen = service.seen
    assert ("\x1b[32minfo\x1b[0m ready" in seen) is coloured
    assert "ready, accepting connections; press Ctrl-C to stop\r\n" in seen
    assert ("\x1b[31merror\x1b[0m reactor 1: " in seen) is coloured
    assert ("\x1b" in seen) is coloured


def test_no_colours_without_a_terminal(serve: Callable[..., Server]) -> None:
    assert "\x1b" not in serve().log()


TOML = """
version = 1
disable_existing_loggers = true

[formatters.errors]
format = "%(levelname)s|%(name)s|%(message)s"
[formatters.requests]
format = "%(status)s %(client)s %(reactor)s %(target)s|%(message)s"

[handlers.errors]
class = "logging.FileHandler"
filename = "{folder}/errors"
formatter = "errors"
[handlers.requests]
class = "logging.FileHandler"
filename = "{folder}/requests"
formatter = "requests"
[handlers.console]
class = "logging.StreamHandler"

[loggers."reactor_run.access"]
handlers = ["requests"]
propagate = false
[root]
level = "WARNING"
handlers = ["errors", "console"]
"""
INI = """
[loggers]
keys=root,error,access
[handlers]
keys=errors,requests,console
[formatters]
keys=errors,requests
[logger_root]
level=WARNING
handlers=errors,console
[logger_error]
qualname=reactor_run.error
handlers=
[logger_access]
qualname=reactor_run.access
handlers=requests
propagate=0
[handler_errors]
class=FileHandler
args=("{folder}/errors",)
formatter=errors
[handler_console]
class=StreamHandler
args=()
[handler_requests]
class=FileHandler
args=("{folder}/requests",)
formatter=requests
[formatter_errors]
format=%(levelname)s|%(name)s|%(message)s
[formatter_requests]
format=%(status)s %(client)s %(reactor)s %(target)s|%(message)s
"""


def config(kind: str, folder: Path) -> Path:
    path = folder / f"logging.{kind}"
    if kind == "ini":
        path.write_text(INI.replace("{folder}", str(folder)))
        return path
    text = TOML.replace("{folder}", str(folder))
    if kind == "json":
        import tomllib

        text = json.dumps(tomllib.loads(text))
    path.write_text(text)
    return path


@pytest.mark.parametrize("kind", ["toml", "json", "ini"])
def test_the_operators_own_configuration(
    kind: str, serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve(f"--log-config={config(kind, tmp_path)}", "--access-log-format=%(m)s %(U)s")
    assert ask(server, "/fail?a") == 500
    requests = tmp_path / "requests"
    assert eventually(lambda: requests.read_text())
    assert requests.read_text() == "500 127.0.0.1 reactor 1 /fail?a|GET /fail\n"
    errors = (tmp_path / "errors").read_text()
    # The app, its reactor, and the front end.
    assert "WARNING|shop|asked for /fail\n" in errors
    assert re.search(r"ERROR\|reactor_run.error\|reactor 1: .*the app failed", errors)
    assert re.search(r"^reactor 1: .*the app failed", server.log(), re.MULTILINE)


def test_messages_stay_as_they_are_if_no_handler_is_for_them(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    path = tmp_path / "logging.json"
    path.write_text('{"version": 1, "loggers": {"shop": {"level": "ERROR"}}}')
    server = serve(f"--log-config={path}")
    assert ask(server, "/fail") == 500
    assert eventually(lambda: "the app failed" in server.log())
    assert "asked for" not in server.log()


def test_a_file_that_breaks_later_fails_the_reload_alone(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    path = tmp_path / "logging.json"
    path.write_text('{"version": 1}')
    server = serve(f"--log-config={path}")
    path.write_text('{"version": 1 x}')
    server.signal(signal.SIGHUP)
    assert eventually(lambda: "RELOAD FAILED" in server.log())
    assert f"--log-config: {path}, line 1, column 15: " in server.log()
    assert ask(server, "/") == 200


FAULTS = [
    ("missing.toml", None, "--log-config: cannot read {path}: No such file or directory"),
    ("a.toml", "version = 1\nroot = {", "--log-config: {path}, line 2, column 9: "),
    ("a.toml", "version = \n", "--log-config: {path}, line 1, column 11: "),
    ("a.json", '{"version": 1,\n "root" }', "--log-config: {path}, line 2, column 9: "),
    ("a.json", "[]", "--log-config: {path}, line 1, column 1: expected an object"),
    ("a.json", "{}", "--log-config: {path}: "),
    (
        "a.json",
        '{"version": 1, "handlers": {"h": {"class": "nowhere.Handler"}}}',
        "--log-config: {path}: Unable to configure handler 'h': Cannot resolve 'nowhere.Handler': "
        "No module named 'nowhere'\n",
    ),
    ("a.ini", "keys=root\n", "--log-config: {path}, line 1, column 1: there is no section yet"),
    ("a.ini", "[loggers]\nkeys=root\n???\n", "--log-config: {path}, line 3, column 1: "),
    ("a.ini", "[loggers]\nkeys=root\n", "--log-config: {path}: the section [handlers] is missing"),
    ("a.ini", INI.replace("keys=errors,", "keys=error,", 1), "--log-config: {path}: "),
    ("a.yaml", "version: 1\n", "--log-config: {path}: YAML is not read"),
]


@pytest.mark.parametrize(("name", "text", "complaint"), FAULTS)
def test_a_faulty_file_is_said_in_one_line(
    name: str, text: str | None, complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    ended = run(f"--log-config={path}")
    assert ended.returncode == 2
    assert ended.stderr.startswith("reactor-run: error: " + complaint.format(path=path))
    assert ended.stderr.count("\n") == 1


def test_two_places_for_requests_contradict_each_other(tmp_path: Path) -> None:
    ended = run(f"--log-config={config('toml', tmp_path)}", "--access-log=-")
    assert ended.returncode == 2
    assert "--access-log -: --log-config gives" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_first_lines(serve: Callable[..., Server]) -> None:
    """Version, app, reactors, address, runtime and its reason. Nothing else, if all is well."""
    server = serve("--reactors=2")
    assert eventually(lambda: server.log().count(" is ready: ") == 2)
    messages = [line.partition("] ")[2] for line in server.log().splitlines()]
    assert messages[:2] == [
        f"info reactor-run {__version__} runs logging_app:app in 2 reactors",
        f"info listening on {server.address}",
    ]
    reason = ", because the app imports nothing that is known to need asyncio"
    assert sorted(re.sub(r"\d+", "N", message) for message in messages[2:]) == [
        "info reactor N (pid N) is ready: asgi on trio",
        f"info reactor N (pid N) is ready: asgi on trio{reason}",
        "info ready, accepting connections",
    ]


def test_details_of_the_start_are_debug_messages(serve: Callable[..., Server]) -> None:
    log = serve("--log-level=debug").log()
    assert re.search(r"debug at most \d+ client connections", log)
    assert re.search(
        r"debug reactor 1: the app has no lifespan: it raised NotImplementedError", log
    )


@pytest.mark.parametrize(
    ("files", "options", "warned"),
    [(2100, [], False), (300, [], True), (2100, ["--max-connections=5000"], True)],
)
def test_too_few_open_files(
    files: int, options: list[str], warned: bool, start: Start, tmp_path: Path
) -> None:
    limit = ("bash", "-c", f'ulimit -n {files} && exec "$0" "$@"')
    server = start(HELLO, *options, wrapper=limit)
    assert bool(re.search(r"warning at most \d+ client connections", server.log())) is warned


def test_ctrl_c_tells_what_is_waited_for(start: Start, gate: Gate, notes: Notes) -> None:
    server = start("tests.integration.apps.asgi:app")
    with Client(server.address) as client:
        client.send(f"GET /wait?gate={gate}&notes={notes} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        notes.first()
        server.signal(signal.SIGINT)
        assert eventually(lambda: "shutting down" in server.log())
        gate.open()
        assert client.response().status == 200
    assert server.wait() == 0
    assert re.search(
        r"info SIGINT received, shutting down \(1 request in flight, at most 30 s\), "
        r"waiting for GET /wait for \d+\.\d s; press Ctrl-C again to stop at once\n",
        server.log(),
    )


def run(*options: str) -> subprocess.CompletedProcess[str]:
    """Run a service that is expected to end at once."""
    return subprocess.run(
        command(HELLO, "--app-dir", str(ROOT), "--bind", "127.0.0.1:0", *options),
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    "config", [Config("asgi"), Config("asgi", "plain"), Config("wsgi")], ids=str
)
def test_a_request_id_is_in_both_logs_and_in_the_answer(
    config: Config, start: Start, tmp_path: Path
) -> None:
    path = tmp_path / "access"
    server = start(
        config.app,
        *config.options,
        "--request-id",
        "--forwarded-allow-from=127.0.0.1",
        f"--access-log={path}",
        "--access-log-format=%(id)s %(U)s",
    )
    with Client(server.address) as client:
        client.send(request("GET", "/raise-before", [("X-Request-ID", "from-the-proxy")]))
        failed = client.response()
        assert (failed.status, failed.field("x-request-id")) == (500, b"from-the-proxy")
        made = client.get("/hello").field("x-request-id")
    assert made is not None
    assert eventually(lambda: len(path.read_text().splitlines()) == 2)
    assert path.read_text() == f"from-the-proxy /raise-before\n{made.decode()} /hello\n"
    assert eventually(lambda: "the app failed" in server.log())
    assert "GET /raise-before [from-the-proxy]: the app failed" in server.log()
