"""The apps of a service, from its settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reactor_run.frontend.cli import read_settings
from reactor_run.frontend.command.pools import AppSettings, apps_of
from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.sockets.addresses import SystemdBind, TCPBind


def table(**values: object) -> str:
    return json.dumps({key.replace("_", "-"): value for key, value in values.items()})


def test_one_app() -> None:
    settings = read_settings(["a:b"], {})
    assert apps_of(settings) == [AppSettings("default", settings)]
    assert settings.answers == "direct"


def test_mounts_have_the_settings_of_the_service() -> None:
    words = ["a:b", "--mount=/api=c:d", "--mount=x.example/=e:f", "--timeout=5"]
    settings = read_settings(words, {})
    apps = apps_of(settings)
    assert [(app.name, app.settings.app) for app in apps] == [
        ("default", "a:b"),
        ("api", "c:d"),
        ("x.example", "e:f"),
    ]
    assert {app.settings.timeout for app in apps} == {5.0}
    assert settings.answers == "relay"
    assert read_settings([*words, "--answers=direct"], {}).answers == "direct"


def test_tables_of_a_file(tmp_path: Path) -> None:
    config = tmp_path / "shop.toml"
    config.write_text(
        'timeout = 5\n[app.web]\napp = "a:b"\nthreads = 8\nreactors = "auto"\n'
        '[app.api]\napp = "c:d"\ntimeout = 1.5\nfactory = true\nqueue-size = 7\n'
        '[[route]]\nprefix = "/"\napp = "web"\n[[route]]\nprefix = "/api"\napp = "api"\n'
    )
    settings = read_settings([f"--config={config}"], {})
    assert (settings.app, settings.answers) == ("", "relay")
    web, api = apps_of(settings)
    assert (web.name, web.settings.app, web.settings.threads) == ("web", "a:b", 8)
    assert (web.settings.reactors, web.settings.timeout, web.settings.factory) == (0, 5.0, False)
    assert (api.name, api.settings.app, api.settings.threads) == ("api", "c:d", 1)
    assert (api.settings.queue_size, api.settings.timeout, api.settings.factory) == (7, 1.5, True)


def test_an_app_with_a_listener_of_its_own_needs_no_route() -> None:
    own = table(name="x", app="c:d", bind=["fd:x", ":9,plain"], timeout=1)
    default, other = apps_of(read_settings(["a:b", "--bind=:8", "--app-table", own], {}))
    assert default.bind == ()
    assert other.bind == (SystemdBind("x"), TCPBind("", 9, plain=True))
    assert other.settings.bind == default.settings.bind == (TCPBind("", 8),)


def test_variables_of_an_app_are_added_to_those_of_all(tmp_path: Path) -> None:
    config = tmp_path / "shop.toml"
    config.write_text(
        'env = { TZ = "UTC", LEVEL = "1" }\n[app.web]\napp = "a:b"\n'
        '[app.api]\napp = "c:d"\nenv = { LEVEL = "2", EMPTY = "", URL = "db://x?a=b" }\n'
        '[[route]]\nprefix = "/"\napp = "web"\n[[route]]\nprefix = "/api"\napp = "api"\n'
    )
    web, api = apps_of(read_settings([f"--config={config}"], {}))
    assert dict(web.settings.env) == {"TZ": "UTC", "LEVEL": "1"}
    assert dict(api.settings.env) == {"TZ": "UTC", "LEVEL": "2", "EMPTY": "", "URL": "db://x?a=b"}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["a:b", "--mount=/=c:d"], "/ is where the first app is"),
        (["a:b", "--mount=/api"], "expected [HOST]/PREFIX=APP"),
        (["a:b", "--mount=/api=./c.py"], "expected [HOST]/PREFIX=APP"),
        (["a:b", "--mount=/api=c:d", "--mount=/api=c:d"], "two apps are called 'api'"),
        (
            ["a:b", "--mount=x.test/api=c:d", "--mount=y.test/api=c:d"],
            "give it another name, by a table [app.NAME]",
        ),
        (["a:b", "--app-table", "x"], "expected a table in JSON"),
        (["a:b", "--app-table", table(app="c:d")], "expected a name of letters"),
        (["a:b", "--app-table", table(name="x")], "name its module"),
        (["a:b", "--app-table", table(name="x", app="c:d")], "the app 'x' has no route"),
        (["a:b", "--app-table", table(name="x", app="c:d", backlog=1)], "no key 'backlog' here"),
        (
            ["a:b", "--app-table", table(name="x", app="c:d", bind="8000")],
            "[app.x]: bind: '8000' is a port without a host",
        ),
        (
            ["a:b", "--app-table", table(name="x", app="c:d", threads="many")],
            "[app.x]: threads: expected a whole number",
        ),
        (
            ["a:b", "--app-table", table(name="x", app="c:d", interface="asgi", threads=2)],
            "threads is for WSGI apps",
        ),
        (
            ["a:b", "--app-table", table(name="x", app="c:d", env={"LEVEL": 1})],
            '[app.x]: env: LEVEL: expected a string, as in LEVEL = "1"',
        ),
        (
            ["a:b", "--app-table", table(name="x", app="c:d", env={"A B": "1"})],
            "[app.x]: env: expected NAME=VALUE, as in TZ=UTC, not 'A B=1'",
        ),
        (
            ["a:b", "--app-table", table(name="x", app="c:d", env={"A": "\0"})],
            "[app.x]: env: A has a NUL in it",
        ),
        (
            ["a:b", "--app-table", table(name="x", app="c:d", env={"REACTOR_RUN_THREADS": "2"})],
            "[app.x]: env: REACTOR_RUN_THREADS has no effect here",
        ),
        (["a:b", "--env", "TZ"], "--env: expected NAME=VALUE, as in TZ=UTC, not 'TZ'"),
        (["a:b", "--route", table(prefix="/x", app="y")], "there is no app 'y'"),
        ([], "no app given"),
    ],
)
def test_what_is_wrong(words: list[str], complaint: str) -> None:
    with pytest.raises(OperatorError) as caught:
        read_settings(words, {})
    assert complaint in str(caught.value)


def test_app_in_a_file_is_a_name_or_tables(tmp_path: Path) -> None:
    config = tmp_path / "shop.toml"
    config.write_text('[app]\nweb = "a:b"\n')
    with pytest.raises(OperatorError, match=r"expected a table for each app, as \[app\.web\]"):
        read_settings([f"--config={config}"], {})
