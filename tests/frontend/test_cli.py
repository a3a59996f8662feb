"""The command: which source of a setting wins, and errors of the operator without a traceback."""

import importlib.util
import os
import re
import subprocess
import sys
import types
from collections.abc import Sequence
from pathlib import Path

import pytest

from reactor_run.frontend import cli
from reactor_run.frontend.command.options import Option
from reactor_run.frontend.command.settings import OPTIONS, Settings
from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.sockets.addresses import FDBind, TCPBind, UnixBind


def run(*argv: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("REACTOR_RUN_")}
    return subprocess.run(
        [sys.executable, "-m", "reactor_run", *argv],
        env=environ | variables,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def refusal(*argv: str, **variables: str) -> str:
    with pytest.raises(OperatorError) as caught:
        cli.read_settings(argv, variables)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- reading ---


def test_defaults() -> None:
    assert cli.read_settings(["shop:app"], {}) == Settings(app="shop:app")


def test_flags_in_any_order_around_the_app() -> None:
    expected = Settings(app="shop:app", threads=4, factory=True, keep_alive=5.0)
    for argv in (
        ["shop:app", "--threads", "4", "--factory", "--keep-alive=5"],
        ["--threads=4", "--factory", "shop:app", "--keep-alive", "5"],
        ["--keep-alive", "5", "--threads", "4", "--factory", "shop:app"],
    ):
        assert cli.read_settings(argv, {}) == expected


def test_the_environment_sets_and_the_command_line_wins() -> None:
    environ = {
        "REACTOR_RUN_APP": "shop:app",
        "REACTOR_RUN_THREADS": "4",
        "REACTOR_RUN_MAX_BODY_SIZE": "10M",
        "REACTOR_RUN_FACTORY": "on",
        "REACTOR_RUN_BIND": "127.0.0.1:1, unix:/run/shop.sock,fd:3",
        "REACTOR_RUN_QUEUE_SIZE": "",
    }
    settings = cli.read_settings(["--threads", "2"], environ)
    assert settings.app == "shop:app"
    assert settings.threads == 2
    assert settings.max_body_size == 10 << 20
    assert settings.factory
    assert settings.bind == (TCPBind("127.0.0.1", 1), UnixBind("/run/shop.sock"), FDBind(3))
    assert settings.queue_size == 1024
    assert cli.read_settings(["--bind", ":80"], environ).bind == (TCPBind("", 80),)


def test_a_wrong_variable_that_a_flag_overrides_does_no_harm() -> None:
    environ = {"REACTOR_RUN_THREADS": "many"}
    assert cli.read_settings(["shop:app", "--threads", "2"], environ).threads == 2


def test_a_repeatable_flag_adds_up_and_the_last_of_any_other_holds() -> None:
    settings = cli.read_settings(
        ["shop:app", "--bind", ":1", "--threads", "2", "--bind", "[::1]:2", "--threads", "3"], {}
    )
    assert settings.bind == (TCPBind("", 1), TCPBind("::1", 2))
    assert settings.threads == 3


@pytest.mark.parametrize(
    "argv",
    [
        ["-b", ":1", "-r", "3", "shop:app"],
        ["-b:1", "-r3", "shop:app"],
        ["shop:app", "-b=:1", "-r=3"],
        ["--bind", ":9", "-r", "7", "shop:app", "-r", "3", "-b", ":1"],
    ],
)
def test_short_forms(argv: list[str]) -> None:
    settings = cli.read_settings(argv, {})
    assert settings.bind[-1] == TCPBind("", 1)
    assert settings.reactors == 3


CERTIFICATE = ["--certfile", "/dev/null"]
FILES = ["--static", "/=/", "--route", '{"prefix": "/api", "app": "default"}']
CORS = ["--cors-origin", "https://shop.example"]
# Settings that other settings need.
NEEDED = {
    "proxy_allow_from": ["--proxy-protocol"],
    "forwarded_fields": ["--forwarded-allow-from", "unix"],
    "keyfile": CERTIFICATE,
    "keyfile_password_file": CERTIFICATE,
    "ca_certs": [*CERTIFICATE, "--verify-client", "optional"],
    "ciphers": CERTIFICATE,
    "app_table": ["--route", '{"prefix": "/api", "app": "api"}'],
    "static_index": FILES,
    "static_fallback": FILES,
    "static_cache": FILES,
    "cors_method": CORS,
    "cors_field": CORS,
    "cors_expose": CORS,
    "cors_credentials": CORS,
    "cors_max_age": CORS,
}


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_has_a_flag_and_a_variable(option: Option) -> None:
    text = {
        "app": "shop:app",
        "bind": ":9",
        "config": "/dev/null",
        "env_file": "/dev/null",
        "header": "X-A: b, c",
        "no_server_header": "on",
        "no_date_header": "on",
        "umask": "027",
        "pid_file": "/run/shop.pid",
        "factory": "on",
        "env": "TZ=UTC",
        "proxy_protocol": "on",
        "reload": "on",
        "reload_dir": "/tmp",
        "root_path": "/shop",
        "route": '{"prefix": "/old", "redirect": "/new"}',
        "mount": "/api=shop.api:app",
        "app_table": '{"name": "api", "app": "shop.api:app"}',
        "static": "shop.example/static=/tmp",
        "static_index": "off",
        "static_fallback": "app.html",
        "static_cache": "*.html=no-cache, private",
        "cors_origin": "https://shop.example",
        "cors_method": "PUT",
        "cors_field": "X-Token",
        "cors_expose": "X-Total",
        "cors_credentials": "on",
        "request_id": "on",
        "tls_dev": "on",
        "server_timing": "on",
    }.get(option.name, option.shown_default)
    flag = [text] if option.positional else [option.flag] if option.switch else [option.flag, text]
    base = [] if option.positional else ["shop:app", *NEEDED.get(option.name, ())]
    by_flag = cli.read_settings([*base, *flag], {})
    by_variable = cli.read_settings(base, {option.variable: text})
    assert by_flag == by_variable
    value = getattr(by_flag, option.name)
    assert value == option.parse([text])
    if value != option.default:
        assert option.parse([option.show(value)]) == value, "`reactor-run config` shows this"


# --- files ---


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


EVERY_TYPE = """
app = "shop:app"
factory = true
busy-poll = false
lifespan = true
bind = [":1", "unix:/run/shop.sock"]
threads = 4
reactors = "auto"
timeout = 1.5
graceful-timeout = 7
max-body-size = "10M"
max-rss = 1000
unix-mode = 0o660
admin-mode = "0o640"
proxy-protocol = false
"""
READ = Settings(
    app="shop:app",
    factory=True,
    busy_poll="off",
    lifespan="on",
    bind=(TCPBind("", 1), UnixBind("/run/shop.sock")),
    threads=4,
    reactors=0,
    timeout=1.5,
    graceful_timeout=7.0,
    max_body_size=10 << 20,
    max_rss=1000,
    unix_mode=0o660,
    admin_mode=0o640,
    proxy_protocol=False,
)


def test_a_file_sets_values_of_every_type(here: Path) -> None:
    (here / "shop.toml").write_text(EVERY_TYPE)
    expected = READ.replace(config="shop.toml")
    assert cli.read_settings(["--config", "shop.toml"], {}) == expected
    assert cli.read_settings([], {"REACTOR_RUN_CONFIG": "shop.toml"}) == expected
    (here / "shop.toml").write_text("bind = ':2'")
    settings = cli.read_settings(["--config", "shop.toml", "shop:app"], {})
    assert settings.bind == (TCPBind("", 2),)


def test_pyproject_is_read_without_being_named(here: Path) -> None:
    (here / "pyproject.toml").write_text("[project]\nname = 'x'\n[tool.reactor-run]" + EVERY_TYPE)
    assert cli.read_settings([], {}) == READ
    (here / "deeper").mkdir()
    (here / "deeper" / "shop.toml").write_text("[tool.reactor-run]")
    assert cli.read_settings(["--config", "/dev/null", "a:b"], {}).threads == 1
    assert cli.read_settings(["--config", f"{here}/pyproject.toml"], {}).threads == 4


@pytest.mark.parametrize(
    "text",
    [
        "[tool.reactor-run]\nthreads = 2",
        '[ tool . "reactor-run" ]\nthreads = 2',
        "tool.reactor-run.threads = 2",
        "[tool]\nreactor-run.threads = 2",
        "[ 'tool' ]\nreactor-run = {threads = 2}",
    ],
)
def test_each_spelling_of_our_table_is_found(here: Path, text: str) -> None:
    (here / "pyproject.toml").write_text(text)
    assert cli.read_settings(["shop:app"], {}).threads == 2


@pytest.mark.parametrize(
    "text", ["", "[project]\ndependencies = ['reactor-run']", "[tool.ruff]", "not TOML at all"]
)
def test_a_pyproject_without_our_table_is_no_matter(here: Path, text: str) -> None:
    (here / "pyproject.toml").write_text(text)
    assert cli.read_settings(["shop:app"], {}) == Settings(app="shop:app")


def test_flags_win_over_variables_and_variables_over_the_file(here: Path) -> None:
    (here / "pyproject.toml").write_text(
        "[tool.reactor-run]\napp = 'of:file'\nthreads = 2\nbacklog = 2\nqueue-size = 2"
    )
    environ = {"REACTOR_RUN_THREADS": "3", "REACTOR_RUN_BACKLOG": "3", "REACTOR_RUN_QUEUE_SIZE": ""}
    settings = cli.read_settings(["--threads=4", "of:flag"], environ)
    assert (settings.threads, settings.backlog, settings.queue_size) == (4, 3, 2)
    assert settings.app == "of:flag"
    assert cli.read_settings([], environ).app == "of:file"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("thread = 1", "shop.toml: there is no setting 'thread'; the nearest is 'threads'"),
        ("max_body_size = 1", "the nearest is 'max-body-size'"),
        ("workers = 1", "there is no setting 'workers'; the nearest is 'reactors'"),
        ("zzzzzz = 1", "there is no setting 'zzzzzz'; the nearest is '"),
        ("[bnid]", "there is no setting 'bnid'; the nearest is 'bind'"),
        ("config = 'x'", "config cannot stand in a file"),
        ("[tool.reactor-run]", "write the settings at the top, without [tool.reactor-run]; only"),
        ("threads = 0", "threads in shop.toml: expected a whole number"),
        (
            "threads = true",
            "threads in shop.toml: expected a whole number of at least 1, not 'true'",
        ),
        ("threads = 1.5", "not '1.5'"),
        ("threads = [1]", "threads in shop.toml: expected one value, not a list"),
        (
            "threads = 2026-11-30",
            "expected a string, a number, true or false, not a list or a date",
        ),
        ("bind = [[':1']]", "not a list or a date"),
        (
            "bind = {host = ''}",
            "bind in shop.toml: expected a string, a number, true or false, not a t",
        ),
        ("umask = 22", 'umask in shop.toml: expected a string, as in "022"'),
        ("unix-mode = 660", "unix-mode in shop.toml: expected a mode of three octal digits"),
        ("unix-mode = 6.0", "expected a mode of three octal digits, as in 0o660, not '6.0'"),
        ("threads = 1\nb ind = 2", "shop.toml, line 2, column 3: Expected '='"),
        ("threads = [1,", "shop.toml, line 1, column 14: "),
        ("threads = 1\nthreads = 2\n", "shop.toml, line 2, column 12: Cannot overwrite a value"),
        (
            "app = 'a:b'\n[app.api]\napp = 'c:d'",
            "Cannot overwrite a value; with tables [app.NAME], the first app needs one too",
        ),
        ("[app.api]\napp = 'c:d'\ntreads = 1", "[app.api]: there is no key 'treads' here; the nea"),
        ("[app.api]\napp = 'c:d'\nname = 'x'", "[app.api] is a name already"),
        ("[[route]]\nprefix = '/'\napp = 'x'", "route /: there is no app 'x'; the apps are"),
        ("a = '\udcff'", "shop.toml, line 1, column 6: not UTF-8 (byte 0xff)"),
    ],
)
def test_mistakes_in_a_file(here: Path, text: str, says: str) -> None:
    (here / "shop.toml").write_text(text, errors="surrogateescape")
    assert says in refusal("shop:app", "--config", "shop.toml")


def test_a_file_that_cannot_be_read(here: Path) -> None:
    (here / "pyproject.toml").mkdir()
    said = refusal("shop:app", "--config", "none.toml")
    assert said == "--config: cannot read none.toml: No such file or directory"
    assert refusal("shop:app") == "cannot read pyproject.toml: Is a directory"
    assert refusal("shop:app", REACTOR_RUN_CONFIG="/").startswith("REACTOR_RUN_CONFIG: cannot read")
    (here / "pyproject.toml").rmdir()
    (here / "pyproject.toml").write_text("[tool]\nreactor-run = 1")
    assert "tool.reactor-run is not a table" in refusal("shop:app")
    (here / "pyproject.toml").write_text("[project]")
    assert "has no [tool.reactor-run]" in refusal("shop:app", "--config", "pyproject.toml")


@pytest.mark.parametrize("text", ["", "on", "OFF", "No"])
def test_a_log_that_is_no_path(text: str) -> None:
    said = refusal("shop:app", f"--access-log={text}")
    assert said.startswith(f"--access-log: expected -, off or the path of a file, not {text!r}")


def test_settings_that_exclude_each_other_name_the_file(here: Path) -> None:
    (here / "pyproject.toml").write_text("[tool.reactor-run]\nthreads = 2\ninterface = 'asgi'")
    assert "threads in pyproject.toml is for WSGI apps, but interface in" in refusal("shop:app")


def test_config_shows_each_setting_and_its_source(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in OPTIONS:
        monkeypatch.delenv(option.variable, raising=False)
    (here / "pyproject.toml").write_text(
        "[tool.reactor-run]\nbacklog = 5\nthreads = 6\nadmin = 'unix:/run/a'\nbind = [':1', ':2']"
    )
    monkeypatch.setenv("REACTOR_RUN_THREADS", "7")
    assert cli.main(["config", "--timeout=4.50", "shop:app", "--factory"]) == 0
    title, *rows = [re.split(" {2,}", line) for line in capsys.readouterr().out.splitlines()]
    assert title == ["SETTING", "VALUE", "SOURCE"]
    assert [row[0] for row in rows] == [option.key for option in OPTIONS]
    shown = {key: (value, source) for key, value, source in rows}
    assert shown["app"] == ("shop:app", "command line")
    assert shown["factory"] == ("on", "--factory")
    assert shown["timeout"] == ("4.5", "--timeout")
    assert shown["threads"] == ("7", "REACTOR_RUN_THREADS")
    assert shown["backlog"] == ("5", "backlog in pyproject.toml")
    assert shown["admin"] == ("unix:/run/a", "admin in pyproject.toml")
    assert shown["bind"] == (":1, :2", "bind in pyproject.toml")
    assert shown["queue-size"] == ("1024", "default")
    assert cli.main(["config"]) == 0
    assert re.search(r"^app +none +default$", capsys.readouterr().out, re.MULTILINE)
    assert cli.main(["config", "--threads=2", "--interface=asgi"]) == 2


# --- env files ---


def test_an_env_file_stands_behind_the_real_environment(here: Path) -> None:
    (here / ".env").write_text(
        "REACTOR_RUN_THREADS=2\n"
        "export REACTOR_RUN_BACKLOG='3' # three\n"
        "REACTOR_RUN_QUEUE_SIZE=4\n"
        "REACTOR_RUN_TIMEOUT=5\n"
        "PORT=6\n"
        'SHOP="a\nb"\n'
        "NOTHING\n"
    )
    (here / "shop.toml").write_text("timeout = 9\nkeep-alive = 9")
    environ = {"REACTOR_RUN_THREADS": "7", "REACTOR_RUN_QUEUE_SIZE": ""}
    words = ["shop:app", "--env-file=.env", "--config=shop.toml"]
    settings = cli.read_settings(words, environ)
    assert (settings.threads, settings.backlog, settings.queue_size) == (7, 3, 1024)
    assert (settings.timeout, settings.keep_alive) == (5, 9)
    assert settings.bind == (TCPBind("", 6),)
    assert environ == {"REACTOR_RUN_THREADS": "7", "REACTOR_RUN_QUEUE_SIZE": ""}
    assert refusal(*words, "--interface=asgi", REACTOR_RUN_BACKLOG="0").startswith(
        "REACTOR_RUN_BACKLOG: "
    )
    assert "REACTOR_RUN_THREADS in .env is for WSGI apps" in refusal(*words, "--interface=asgi")


def test_an_env_file_may_be_named_by_a_variable_or_in_the_configuration_file(here: Path) -> None:
    (here / "a.env").write_text("REACTOR_RUN_THREADS=2")
    (here / "pyproject.toml").write_text("[tool.reactor-run]\nenv-file = 'a.env'\nthreads = 3")
    assert cli.read_settings(["a:b"], {}).threads == 2
    assert cli.read_settings(["a:b"], {"REACTOR_RUN_ENV_FILE": "/dev/null"}).threads == 3
    assert cli.read_settings(["a:b", "--env-file=a.env", "--config=/dev/null"], {}).threads == 2


def test_the_variables_are_for_the_app_too(
    here: Path, served: list[Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / ".env").write_text("SHOP=1\nCART=1\nTILL=${CART}${SHOP}")
    for name in ("SHOP", "TILL"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)  # restored at the end, so the test leaves nothing behind
    monkeypatch.setenv("CART", "real")
    assert cli.main(["shop:app", "--env-file=.env"]) == 7
    assert (os.environ["SHOP"], os.environ["CART"], os.environ["TILL"]) == ("1", "real", "real1")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("A=1\n\n \tb ad\nC=1", "--env-file: .env, line 3, column 3: expected NAME=VALUE"),
        ("A='1", "--env-file: .env, line 1, column 1: expected NAME=VALUE"),
        ("A=\udcff", "--env-file: .env, line 1, column 3: not UTF-8 (byte 0xff)"),
        ("A=\0", "--env-file: .env: 'A' has a NUL in it"),
        ("REACTOR_RUN_CONFIG=x", "--env-file: REACTOR_RUN_CONFIG cannot stand in .env"),
        ("REACTOR_RUN_ENV_FILE=x", "--env-file: REACTOR_RUN_ENV_FILE cannot stand in .env"),
        ("REACTOR_RUN_THREADS=0", "REACTOR_RUN_THREADS in .env: expected a whole number"),
    ],
)
def test_mistakes_in_an_env_file(here: Path, text: str, says: str) -> None:
    (here / ".env").write_text(text, errors="surrogateescape")
    assert refusal("shop:app", "--env-file=.env").startswith(says)


def test_an_env_file_that_cannot_be_read(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal("shop:app", "--env-file=.env") == (
        "--env-file: cannot read .env: No such file or directory"
    )
    (here / ".env").touch()
    monkeypatch.setitem(sys.modules, "dotenv.main", None)
    assert refusal("shop:app", REACTOR_RUN_ENV_FILE=".env") == (
        "REACTOR_RUN_ENV_FILE: python-dotenv is not installed; pip install 'reactor-run[dotenv]'"
    )


def test_variables_of_an_env_file_that_have_no_effect(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / ".env").write_text("UVICORN_PORT=1\nREACTOR_RUN_THRED=1\nFORWARDED_ALLOW_IPS=*")
    found = warnings(capsys, "--env-file=.env")
    assert [line.split()[0] for line in found] == [
        "REACTOR_RUN_THRED",
        "UVICORN_PORT",
        "FORWARDED_ALLOW_IPS=*",
    ]


# --- variables that platforms set ---

SHARED = {"PORT": "5000", "WEB_CONCURRENCY": "3", "FORWARDED_ALLOW_IPS": "10.0.0.1, 192.0.2.0/24"}


def test_platform_variables_replace_defaults() -> None:
    settings = cli.read_settings(["shop:app"], SHARED)
    assert settings.bind == (TCPBind("", 5000),)
    assert settings.reactors == 3
    covers = settings.forwarded_allow_from.cover
    assert covers(("10.0.0.1", 1))
    assert covers(("192.0.2.9", 1))
    assert covers(("", None)), "as with gunicorn, clients of unix sockets are always trusted"
    assert not covers(("10.0.0.2", 1))
    assert cli.read_settings(["shop:app"], dict.fromkeys(SHARED, "")) == Settings(app="shop:app")


def test_flags_our_variables_and_the_file_win_over_platform_variables(here: Path) -> None:
    words = ["shop:app", "--bind=:1", "--reactors=2", "--forwarded-allow-from=none"]
    expected = cli.read_settings(words, {})
    assert expected.reactors == 2
    assert cli.read_settings(words, SHARED) == expected
    ours = {
        "REACTOR_RUN_BIND": ":1",
        "REACTOR_RUN_REACTORS": "2",
        "REACTOR_RUN_FORWARDED_ALLOW_FROM": "none",
    }
    assert cli.read_settings(["shop:app"], SHARED | ours) == expected
    (here / "pyproject.toml").write_text(
        "[tool.reactor-run]\nbind = ':1'\nreactors = 2\nforwarded-allow-from = 'none'"
    )
    assert cli.read_settings(["shop:app"], SHARED) == expected


def test_sockets_of_systemd_win_over_port() -> None:
    passed = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
    assert cli.read_settings(["shop:app"], SHARED | passed).bind == ()
    for another in {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_PID": str(os.getpid())}:
        assert cli.read_settings(["shop:app"], SHARED | another).bind == (TCPBind("", 5000),)


@pytest.mark.parametrize(
    ("variable", "text", "says"),
    [
        ("PORT", "http", "PORT: expected the number of a port, up to 65535, not 'http'"),
        ("PORT", "70000", "PORT: expected the number of a port"),
        ("PORT", "-1", "PORT: expected the number of a port"),
        ("PORT", "\u0663", "PORT: expected the number of a port"),
        ("WEB_CONCURRENCY", "0", "WEB_CONCURRENCY: expected a whole number of at least 1"),
        ("WEB_CONCURRENCY", "many", "WEB_CONCURRENCY: expected a whole number of at least 1"),
        ("FORWARDED_ALLOW_IPS", "proxy", "FORWARDED_ALLOW_IPS: expected addresses"),
    ],
)
def test_platform_variables_that_are_wrong(variable: str, text: str, says: str) -> None:
    assert refusal("shop:app", **{variable: text}).startswith(says)


# --- what has no effect ---


def warnings(capsys: pytest.CaptureFixture[str], *argv: str, **variables: str) -> list[str]:
    """Return what `reactor-run config` warns of."""
    with pytest.MonkeyPatch.context() as patch:
        for option in OPTIONS:
            patch.delenv(option.variable, raising=False)
        for name, text in variables.items():
            patch.setenv(name, text)
        assert cli.main(["config", *argv]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith("reactor-run: warning: ") for line in lines)
    return [line.removeprefix("reactor-run: warning: ") for line in lines]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "REACTOR_RUN_THRED",
            "is no setting and has no effect; the nearest is REACTOR_RUN_THREADS",
        ),
        ("REACTOR_RUN_WORKERS", "the nearest is REACTOR_RUN_REACTORS"),
        ("REACTOR_RUN_PORT", "the nearest is REACTOR_RUN_BIND"),
        ("REACTOR_RUN_KEEPALIVE", "the nearest is REACTOR_RUN_KEEP_ALIVE"),
        ("UVICORN_PORT", "has no effect here: use REACTOR_RUN_BIND, or --bind HOST:PORT"),
        ("UVICORN_ROOT_PATH", "use REACTOR_RUN_ROOT_PATH, or --root-path PATH"),
        ("UVICORN_SSL_KEYFILE", "has no effect here: use REACTOR_RUN_KEYFILE, or --keyfile FILE"),
        ("UVICORN_NONSENSE", "has no effect here: see docs/migrating.md"),
        ("GRANIAN_WORKERS_MAX_RSS", "use REACTOR_RUN_MAX_RSS, or --max-rss SIZE"),
        ("UWSGI_HARAKIRI", "use REACTOR_RUN_REQUEST_TIMEOUT, or --request-timeout SECONDS"),
    ],
)
def test_a_variable_without_effect_is_named(
    here: Path, capsys: pytest.CaptureFixture[str], name: str, says: str
) -> None:
    (warning,) = warnings(capsys, **{name: "1"})
    assert warning.startswith(f"{name} ")
    assert says in warning


def test_variables_that_we_know_cause_no_warning(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = {"REACTOR_RUN_PURE": "1", "REACTOR_RUN_UPGRADE": "", "REACTOR_RUN_THREADS": "2"}
    assert warnings(capsys, **known, **SHARED, UVICORN="x", PORT_X="1") == []


def test_arguments_for_gunicorn_are_answered_with_ours(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (warning,) = warnings(capsys, GUNICORN_CMD_ARGS="-w 4 --bind=:80 --worker-connections 9")
    assert "there is no -w: use --reactors N; there is no --worker-connections: use --m" in warning
    (warning,) = warnings(capsys, GUNICORN_CMD_ARGS="--bind=:80")
    assert warning.endswith("has no effect here: write its flags on the command line")


def test_a_configuration_of_gunicorn_is_not_read(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "gunicorn.conf.py").write_text("workers = 4")
    (warning,) = warnings(capsys)
    assert warning.startswith("gunicorn.conf.py is not read here; write its settings into [tool.")
    said = refusal("shop:app", "--config", "gunicorn.conf.py")
    assert said.startswith("--config: gunicorn.conf.py is Python; write its settings in TOML")


def test_trust_in_every_client_causes_a_warning(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (warning,) = warnings(capsys, FORWARDED_ALLOW_IPS="*")
    assert warning.startswith("FORWARDED_ALLOW_IPS=* trusts every client")
    assert cli.read_settings(["a:b"], {"FORWARDED_ALLOW_IPS": "*"}).forwarded_allow_from.cover(
        ("203.0.113.7", 1)
    )
    assert warnings(capsys, "--forwarded-allow-from=unix", FORWARDED_ALLOW_IPS="*") == []
    assert warnings(capsys, FORWARDED_ALLOW_IPS="10.0.0.1") == []


# --- refusing ---


def test_a_bad_value_is_reported_by_the_flag_or_by_the_variable() -> None:
    assert refusal("shop:app", "--threads", "0").startswith("--threads: ")
    assert refusal("shop:app", REACTOR_RUN_THREADS="0").startswith("REACTOR_RUN_THREADS: ")
    assert refusal("shop:app", "--bind", "8000").startswith("--bind: '8000' is a port without a")
    assert refusal("shop:app", REACTOR_RUN_BIND=":1,x").startswith("REACTOR_RUN_BIND: 'x' ")


def test_header_fields() -> None:
    expected = ((b"X-A", b"b, c"), (b"x-b", "ä".encode()))
    words = ["shop:app", "--header", "X-A: b, c", "--header=x-b:ä"]
    assert cli.read_settings(words, {}).header == expected
    variable = {"REACTOR_RUN_HEADER": "X-A: b, c\nx-b: ä\n"}
    assert cli.read_settings(["shop:app"], variable).header == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("X-A", "--header: 'X-A': expected NAME:VALUE, as in X-Frame-Options:DENY"),
        ("X-A:b\r\nX-B:c", "--header: 'X-A:b\\r\\nX-B:c': the value has a line end"),
        ("Content-Length:5", "--header: 'Content-Length:5': the server itself sets Content-Length"),
        ("Connection:close", "the server itself sets Connection, because it frames responses"),
        ("X-A:" + "b" * (16 << 10), "--header: more than 16 KiB; use less"),
    ],
)
def test_header_fields_that_cannot_be_sent(text: str, says: str) -> None:
    assert says in refusal("shop:app", "--header", text)


def test_no_app() -> None:
    assert refusal().startswith("no app given; name it, as in `reactor-run shop.web:app`")
    assert "no app given" in refusal("--threads", "2")


@pytest.mark.parametrize(
    "argv",
    [
        ["shop:app", "--nonsense"],
        ["shop:app", "another:app"],
        ["shop:app", "--threads"],
        ["shop:app", "--thread", "2"],
    ],
)
def test_errors_of_argparse_come_with_a_hint(argv: list[str]) -> None:
    assert refusal(*argv).endswith("(see reactor-run --help)")


def test_threads_are_for_wsgi_and_concurrency_for_asgi() -> None:
    assert "--threads is for WSGI" in refusal("a:b", "--threads", "2", "--interface", "asgi")
    assert "REACTOR_RUN_THREADS is for WSGI" in refusal(
        "a:b", "--interface", "asgi", REACTOR_RUN_THREADS="2"
    )
    assert "--concurrency is for ASGI" in refusal("a:b", "--interface=wsgi", "--concurrency=1000")
    assert cli.read_settings(["a:b", "--threads", "1", "--interface", "asgi"], {}).threads == 1
    assert cli.read_settings(["a:b", "--threads", "2"], {}).interface == "auto"


def test_settings_about_proxies_need_each_other() -> None:
    allow = ["--forwarded-allow-from", "unix"]
    assert "--proxy-allow-from has no effect without --proxy-protocol" in refusal(
        "a:b", "--proxy-allow-from=::1"
    )
    assert "REACTOR_RUN_FORWARDED_FIELDS has no effect" in refusal(
        "a:b", REACTOR_RUN_FORWARDED_FIELDS="forwarded"
    )
    assert "has no effect" in refusal(
        "a:b", "--forwarded-allow-from=none", "--forwarded-fields=forwarded"
    )
    for lane_proxy in "v1", "off":
        assert f"--lane-proxy is {lane_proxy}" in refusal("a:b", *allow, "--lane-proxy", lane_proxy)
    assert cli.read_settings(["a:b", "--lane-proxy=v1", "--forwarded-allow-from=none"], {})


def test_uvloop_has_to_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert "pip install 'reactor-run[uvloop]'" in refusal("a:b", "--runtime", "uvloop")
    assert cli.read_settings(["a:b", "--runtime", "asyncio"], {}).runtime == "asyncio"


# --- running ---


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """A stand-in for the server. It keeps its settings, and ends with status 7 or an
    OperatorError."""
    seen: list[Settings] = []

    def serve(settings: Settings, warnings: Sequence[str], _: object) -> int:
        assert list(warnings) == []
        seen.append(settings)
        if settings.app == "refuse":
            raise OperatorError("port 8000 on 127.0.0.1 is in use; stop the other server")
        return 7

    stand_in = types.ModuleType("reactor_run.frontend.service.serve")
    stand_in.serve = serve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "reactor_run.frontend.service.serve", stand_in)
    for option in OPTIONS:
        monkeypatch.delenv(option.variable, raising=False)
    return seen


def test_the_status_is_the_servers(served: list[Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REACTOR_RUN_THREADS", "3")
    assert cli.main(["shop:app"]) == 7
    monkeypatch.setattr(sys, "argv", ["reactor-run", "other:app"])
    assert cli.main() == 7
    assert [settings.app for settings in served] == ["shop:app", "other:app"]
    assert served[0].threads == 3


def test_an_operator_error_of_the_server_is_one_line(
    served: list[Settings], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["refuse"]) == 2
    assert len(served) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "reactor-run: error: port 8000 on 127.0.0.1 is in use; stop the other server\n"
    )


@pytest.mark.parametrize(
    ("argv", "variables", "says"),
    [
        ([], {}, "no app given"),
        (["shop:app", "--bogus"], {}, "--bogus"),
        (
            ["shop:app"],
            {"REACTOR_RUN_RUNTIME": "curio"},
            "REACTOR_RUN_RUNTIME: expected auto, trio, asyncio or uvloop, not",
        ),
        (["shop:app", "--bind", "http://localhost:8000"], {}, "--bind: "),
        (["reload-logs"], {}, "not 'reload-logs'; or is it the command reopen-logs?\n"),
    ],
)
def test_a_mistake_ends_the_process_with_status_2_and_one_line(
    argv: list[str], variables: dict[str, str], says: str
) -> None:
    done = run(*argv, **variables)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("reactor-run: error: ")
    assert done.stderr.count("\n") == 1
    assert says in done.stderr


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_version(flag: str) -> None:
    done = run(flag)
    assert done.returncode == 0
    assert done.stdout.startswith("reactor-run 0.")
    assert f"(Python {sys.version.split()[0]}, trio " in done.stdout
    assert done.stdout.count("\n") == 1


def test_help_shows_every_flag_and_default() -> None:
    done = run("--help")
    assert done.returncode == 0
    words = " ".join(done.stdout.split())
    for option in OPTIONS:
        written = option.flag if option.switch else f"{option.flag} {option.kind.metavar}"
        if option.short:
            # Before 3.13 argparse repeats the value's name.
            value = "" if sys.version_info >= (3, 13) else f" {option.kind.metavar}"
            written = f"{option.short}{value}, {written}"
        if option.positional:
            assert f"{option.flag} {option.meaning}" in words
        else:
            assert f"{written} {option.meaning} (default: {option.shown_default})" in words


DISPENSABLE = [
    "anyio",
    "argparse",
    "asyncio",
    "ctypes",
    "dataclasses",
    "difflib",
    "dotenv",
    "importlib.metadata",
    "inspect",
    "ipaddress",
    "pathlib",
    "random",
    "tomllib",
    "trio",
    "urllib.parse",
    "wsgiref",
]
"""Each takes milliseconds to import: together, longer than the whole front end."""


def test_the_front_end_imports_no_dispensable_module() -> None:
    child = f"""
import sys
before = set(sys.modules)
from reactor_run.frontend.cli import read_settings
import reactor_run.frontend.service.serve
read_settings(["--threads", "2", "shop:app"], {{}})
print(sorted(set({DISPENSABLE}) & (set(sys.modules) - before)))
"""
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_garbage_is_collected_once_all_is_imported() -> None:
    child = """
import gc, sys
from reactor_run.__main__ import main
sys.argv[1:] = ["--bind", "unix:/nonexistent/web.sock", "shop:app"]
print(main(), gc.isenabled(), gc.get_freeze_count() > 10_000)
"""
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True)
    assert done.stdout == "2 True True\n"
