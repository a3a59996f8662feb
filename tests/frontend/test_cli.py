"""The command: which source of a setting wins, and errors of the operator without a traceback."""

import importlib.util
import os
import subprocess
import sys
import types

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


# Settings that other settings need.
NEEDED = {
    "proxy_allow_from": ["--proxy-protocol"],
    "forwarded_fields": ["--forwarded-allow-from", "unix"],
}


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_has_a_flag_and_a_variable(option: Option) -> None:
    text = {
        "app": "shop:app",
        "bind": ":9",
        "factory": "on",
        "proxy_protocol": "on",
        "root_path": "/shop",
    }.get(option.name, option.shown_default)
    flag = [text] if option.positional else [option.flag] if option.switch else [option.flag, text]
    base = [] if option.positional else ["shop:app", *NEEDED.get(option.name, ())]
    by_flag = cli.read_settings([*base, *flag], {})
    by_variable = cli.read_settings(base, {option.variable: text})
    assert by_flag == by_variable
    assert getattr(by_flag, option.name) == option.parse([text])


# --- refusing ---


def test_a_bad_value_is_reported_by_the_flag_or_by_the_variable() -> None:
    assert refusal("shop:app", "--threads", "0").startswith("--threads: ")
    assert refusal("shop:app", REACTOR_RUN_THREADS="0").startswith("REACTOR_RUN_THREADS: ")
    assert refusal("shop:app", "--bind", "8000").startswith("--bind: '8000' is a port without a")
    assert refusal("shop:app", REACTOR_RUN_BIND=":1,x").startswith("REACTOR_RUN_BIND: 'x' ")


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
        ["shop:app", "--factory=on"],
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

    def serve(settings: Settings) -> int:
        seen.append(settings)
        if settings.app == "refuse":
            raise OperatorError("port 8000 on 127.0.0.1 is in use; stop the other server")
        return 7

    stand_in = types.ModuleType("reactor_run.frontend.service.server")
    stand_in.serve = serve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "reactor_run.frontend.service.server", stand_in)
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
        (["shop:app"], {"REACTOR_RUN_RUNTIME": "curio"}, "REACTOR_RUN_RUNTIME: expected trio or"),
        (["shop:app", "--bind", "http://localhost:8000"], {}, "--bind: "),
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


def test_version() -> None:
    done = run("--version")
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
    "importlib.metadata",
    "inspect",
    "ipaddress",
    "pathlib",
    "random",
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
import reactor_run.frontend.service.server
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
