"""The choice of `--runtime auto`, from modules as an app would have imported them."""

from __future__ import annotations

import asyncio
import types
from pathlib import Path

import pytest
import trio

from reactor_run.reactor import runtime_choice
from reactor_run.reactor.runtime_choice import ASYNCIO_BOUND, choose_runtime

APP_DIR = "/srv/shop"
Modules = dict[str, types.ModuleType]


def module(name: str, file: str, **contents: object) -> Modules:
    """One module that was imported from a file."""
    made = types.ModuleType(name)
    made.__file__ = file
    vars(made).update(contents)
    return {name: made}


def own(**contents: object) -> Modules:
    """A module of the app."""
    return module("shop.web", f"{APP_DIR}/shop/web.py", **contents)


def library(name: str, **contents: object) -> Modules:
    """A module that is installed in a virtual environment in the app's directory."""
    file = f"{APP_DIR}/.venv/lib/python3.11/site-packages/{name.replace('.', '/')}.py"
    return module(name, file, **contents)


def choose(modules: Modules, wanted: str = "auto") -> tuple[str, str]:
    return choose_runtime(wanted, modules, "shop.web:app", APP_DIR)


@pytest.mark.parametrize("wanted", ["trio", "asyncio", "uvloop"])
def test_a_runtime_that_was_given_is_not_changed(wanted: str) -> None:
    assert choose(own(asyncio=asyncio) | library("aiohttp"), wanted) == (wanted, "")


@pytest.mark.parametrize("name", ASYNCIO_BOUND)
def test_each_library_of_the_table_leads_to_uvloop_and_is_named(name: str) -> None:
    runtime, reason = choose(own() | library(name))
    assert runtime == "uvloop"
    assert reason == f"the app imports {name}, {ASYNCIO_BOUND[name]}"


def test_asyncio_where_uvloop_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_choice, "find_spec", lambda name: None)
    runtime, reason = choose(own() | library("asyncpg"))
    assert runtime == "asyncio"
    assert "asyncpg" in reason
    assert "uvloop is not installed" in reason


@pytest.mark.parametrize(
    "imported",
    [
        {},
        library("httpx", trio=trio, asyncio=asyncio),
        library("redis"),
        module("trio", trio.__file__),
        module("asyncio", asyncio.__file__),
    ],
)
def test_what_other_libraries_import_proves_nothing(imported: Modules) -> None:
    assert choose(own() | imported)[0] == "trio"


@pytest.mark.parametrize(
    "contents", [{"asyncio": asyncio}, {"pause": asyncio.sleep}, {"Queue": asyncio.Queue}]
)
def test_an_app_that_imports_asyncio_itself_runs_on_it(contents: dict[str, object]) -> None:
    assert choose(own(**contents)) == ("uvloop", "shop.web imports asyncio")


@pytest.mark.parametrize("contents", [{"trio": trio}, {"pause": trio.sleep}])
def test_an_app_that_imports_trio_itself_runs_on_it(contents: dict[str, object]) -> None:
    modules = own(**contents) | library("redis.asyncio") | module("a", f"{APP_DIR}/a.py", b=asyncio)
    assert choose(modules) == ("trio", "shop.web imports trio")


def test_a_library_that_runs_asyncios_on_trio_leads_to_trio() -> None:
    runtime, reason = choose(own() | library("quart") | library("quart_trio"))
    assert runtime == "trio"
    assert "quart_trio" in reason


def test_the_package_of_an_installed_app_counts_as_its_own(tmp_path: Path) -> None:
    installed = library("shop.tasks", asyncio=asyncio)
    assert choose(installed) == ("uvloop", "shop.tasks imports asyncio")


def test_attributes_of_any_kind_are_looked_at() -> None:
    class Odd:
        @property
        def __module__(self) -> str:  # type: ignore[override]
            raise LookupError("odd")

    assert choose(own(odd=Odd(), number=1, none=None))[0] == "trio"
