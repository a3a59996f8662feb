"""The names of app objects: where they are found, and why some have none."""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reactor_run.app_names import name_app
from tests.integration.apps import asgi

ROOT = Path(__file__).parents[1]


class App:
    """An app object without a name of its own, as FastAPI's."""

    def __call__(self, *_: object) -> None:
        raise NotImplementedError


an_app = App()


@pytest.fixture
def module(tmp_path: Path) -> Iterator[Callable[..., types.ModuleType]]:
    """`module(name, **contents)`: an imported module that has a file."""
    names = []

    def make(name: str, **contents: object) -> types.ModuleType:
        made = types.ModuleType(name)
        made.__file__ = str(tmp_path / f"{name.replace('.', '/')}.py")
        vars(made).update(contents)
        sys.modules[name] = made
        names.append(name)
        return made

    yield make
    for name in names:
        del sys.modules[name]


def test_a_text_is_a_name() -> None:
    assert name_app("shop.web:app") == ("shop.web:app", None)


def test_a_function_is_found_in_the_module_that_defines_it() -> None:
    assert name_app(asgi.app) == ("tests.integration.apps.asgi:app", str(ROOT))


def test_an_object_of_this_test_is_found_although_it_is_a_test() -> None:
    target, app_dir = name_app(an_app)
    assert target == f"{__name__}:an_app"
    assert app_dir is not None
    assert Path(app_dir, *target.partition(":")[0].split(".")).with_suffix(".py") == Path(__file__)


def test_a_module_that_is_no_test_is_preferred(module, tmp_path: Path) -> None:
    app = App()
    module("test_before", app=app)
    module("shop.web", application=app)
    module("test_after", app=app)
    assert name_app(app) == ("shop.web:application", str(tmp_path.resolve()))


def test_a_package_is_imported_from_the_directory_that_holds_it(module, tmp_path: Path) -> None:
    app = App()
    package = module("shop", app=app)
    package.__file__ = str(tmp_path / "shop" / "__init__.py")
    assert name_app(app) == ("shop:app", str(tmp_path.resolve()))


def test_an_object_that_no_module_has() -> None:
    with pytest.raises(ValueError, match="type App cannot be imported by name, because no module"):
        name_app(App())


@pytest.mark.parametrize("app", [None, 3, object()])
def test_an_object_that_is_no_app(app: Any) -> None:
    with pytest.raises(ValueError, match="cannot be called: it is not an app"):
        name_app(app)


def test_a_function_inside_another() -> None:
    def app() -> None:
        raise NotImplementedError

    with pytest.raises(ValueError, match="because it is made inside test_a_function_inside_anoth"):
        name_app(app)


def test_a_module_whose_name_is_none(module) -> None:
    app = App()
    module("my-script", app=app)
    with pytest.raises(ValueError, match="cannot be imported: my-script is no name of a module"):
        name_app(app)


ASKING = """
from reactor_run.app_names import name_app
def app(environ, start_response): ...
try:
    print(*name_app(app))
except ValueError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["web.py"], "web:app {folder}"),
        (["-m", "shop.api"], "shop.api:app {folder}"),
        (
            ["-c", ASKING],
            "the app is in __main__, which is no file: put it into a module, and pass ",
        ),
    ],
)
def test_an_app_in_the_main_module(tmp_path: Path, words: list[str], printed: str) -> None:
    (tmp_path / "shop").mkdir()
    for name in ("web.py", "shop/api.py"):
        (tmp_path / name).write_text(ASKING)
    done = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(printed.format(folder=tmp_path.resolve()))
