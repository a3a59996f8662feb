"""The loader: which app it finds, its error messages, and the interface that it detects."""

from __future__ import annotations

import functools
import importlib
import os
import sys
import types
from pathlib import Path

import pytest

from reactor_run.reactor.loader import AppLoadError, detect_interface, load_app
from reactor_run.reactor.log import cut_traceback
from tests.needs import need_module

ASGI = "async def {}(scope, receive, send): pass\n"


class Project:
    """A directory with an app's modules. They are removed from sys.modules after the test."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        importlib.invalidate_caches()

    def load(self, target: str, *, factory: bool = False, app_dir: str | None = None):
        return load_app(target, factory=factory, app_dir=app_dir or str(self.root))

    def fail(self, target: str, *, factory: bool = False) -> AppLoadError:
        with pytest.raises(AppLoadError) as caught:
            self.load(target, factory=factory)
        assert "\n" not in caught.value.message
        return caught.value


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield Project(tmp_path)
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
        elif str(tmp_path) in str(list(getattr(sys.modules[name], "__path__", ()))):
            del sys.modules[name]  # a namespace package


class TestTarget:
    def test_attribute(self, project):
        project.write("shop.py", ASGI.format("api"))
        assert project.load("shop:api") is sys.modules["shop"].api

    def test_dotted_module_and_attribute(self, project):
        project.write("pkg/mod.py", "class Site:\n    def app(self, e, s): pass\nsite = Site()\n")
        app = project.load("pkg.mod:site.app")
        assert app.__self__ is sys.modules["pkg.mod"].site

    def test_app_comes_before_application(self, project):
        project.write("shop.py", ASGI.format("application") + ASGI.format("app"))
        assert project.load("shop").__name__ == "app"

    def test_application_without_app(self, project):
        project.write("shop.py", ASGI.format("application"))
        assert project.load("shop").__name__ == "application"

    def test_a_submodule_called_app_does_not_hide_application(self, project):
        project.write("pkg/__init__.py", "import pkg.app\n" + ASGI.format("application"))
        project.write("pkg/app.py", "")
        assert project.load("pkg").__name__ == "application"

    def test_app_dir_is_first_and_absolute(self, project):
        project.write("deep/json_shop.py", ASGI.format("app"))
        project.load("json_shop", app_dir="deep")
        assert sys.path[0] == str(project.root / "deep")
        project.load("json_shop", app_dir="deep")
        assert sys.path.count(str(project.root / "deep")) == 1

    def test_app_dir_that_does_not_exist(self, project):
        with pytest.raises(AppLoadError, match=r"--app-dir nowhere: there is no such directory"):
            load_app("shop", app_dir="nowhere")

    @pytest.mark.parametrize(
        ("target", "told"),
        [
            ("", "names no module"),
            (":app", "names no module"),
            ("shop:", "write shop:app, or only shop"),
            ("shop:app:x", "write shop:app"),
            ("shop:two words", "write shop:app"),
            (".shop:app", "write it from the top, such as shop"),
            ("pkg..shop:app", "write it from the top"),
            ("shop:make()", "write shop:make --factory"),
        ],
    )
    def test_malformed(self, project, target, told):
        assert told in project.fail(target).message

    @pytest.mark.parametrize(
        ("target", "instead"),
        [
            ("shop.py", "write shop:app"),
            ("./shop.py:api", "write shop:api"),
            ("deep/shop.py", "write --app-dir deep shop:app"),
            ("two words/shop.py", "write --app-dir 'two words' shop:app"),
            ("pkg/sub/shop.py:site.app", "write pkg.sub.shop:site.app"),
            ("pkg/__init__.py", "write pkg:app"),
        ],
    )
    def test_file_instead_of_module(self, project, target, instead):
        project.write("pkg/__init__.py", "")
        project.write("pkg/sub/__init__.py", "")
        message = project.fail(target).message
        assert message.endswith(instead)
        assert "is a file, not a module" in message


class TestNotFound:
    def test_module(self, project):
        error = project.fail("mian:app")
        assert "there is no module 'mian'" in error.message
        assert str(project.root) in error.message
        assert "--app-dir" in error.message
        assert error.details is None

    def test_package_of_the_module(self, project):
        assert "there is no module 'nowhere'" in project.fail("nowhere.main:app").message

    def test_module_in_a_package(self, project):
        project.write("pkg/__init__.py", "")
        error = project.fail("pkg.main:app")
        assert "there is no module 'main' in the package pkg" in error.message
        assert error.details is None

    def test_a_dot_instead_of_the_colon(self, project):
        project.write("shop.py", ASGI.format("app"))
        assert "write shop:app" in project.fail("shop.app").message

    def test_in_a_module_that_is_no_package(self, project):
        project.write("shop.py", "")
        message = project.fail("shop.api:app").message
        assert "there is no module shop.api: shop (" in message
        assert "is not a package" in message

    def test_a_missing_attribute_lists_the_candidates(self, project):
        project.write(
            "shop.py",
            "from json import dumps, JSONDecoder\nimport os\n_hidden = print\nnumber = 1\n"
            + ASGI.format("api")
            + "def create(): pass\n",
        )
        error = project.fail("shop:app")
        assert f"module shop ({project.root / 'shop.py'}) has no 'app'" in error.message
        assert "it has api, create: write shop:NAME" in error.message

    def test_missing_defaults_list_the_candidates(self, project):
        project.write("shop.py", ASGI.format("api"))
        message = project.fail("shop").message
        assert "has neither 'app' nor 'application'; it has api: write shop:NAME" in message

    def test_a_module_without_callables(self, project):
        project.write("shop.py", "number = 1\nclass Shop: pass\n")
        assert "it has no callable" in project.fail("shop").message

    def test_a_long_list_is_shortened(self, project):
        project.write("shop.py", "".join(ASGI.format(f"f{number}") for number in range(11)))
        assert "f9, ...: write" in project.fail("shop").message

    def test_inner_attribute(self, project):
        project.write("shop.py", "class Site: pass\nsite = Site()\n")
        message = project.fail("shop:site.app").message
        assert message == "shop:site is an object of type Site and has no 'app'"

    def test_a_module_getattr_that_raises_attribute_error(self, project):
        project.write("shop.py", "def __getattr__(name): raise AttributeError(name)\n")
        assert "has neither 'app' nor 'application'" in project.fail("shop").message

    @pytest.mark.parametrize("target", ["shop", "shop:app"])
    def test_not_callable(self, project, target):
        project.write("shop.py", "app = {}\n")
        message = project.fail(target).message
        assert "shop:app is an object of type dict, which cannot be called" in message


class TestFailingImport:
    def test_exception(self, project):
        project.write("shop.py", "import helper\n")
        project.write(
            "helper.py", "def read():\n    raise ValueError('no such\\nsetting')\n\nread()\n"
        )
        error = project.fail("shop:app")
        assert error.message == "importing shop failed: ValueError: no such"
        assert error.details is not None
        lines = error.details.splitlines()
        assert lines[0] == "Traceback (most recent call last):"
        files = [line.split('"')[1] for line in lines if line.startswith('  File "')]
        assert [os.path.basename(name) for name in files] == ["shop.py", "helper.py", "helper.py"]
        assert str(error) == f"{error.message}\n{error.details}"

    def test_missing_dependency_is_not_a_missing_target(self, project):
        project.write("shop.py", "import flaskk\n")
        error = project.fail("shop:app")
        assert "one of its own imports did" in error.message
        assert "No module named 'flaskk'" in error.message
        assert sys.executable in error.message
        assert "shop.py" in str(error.details)

    def test_an_app_that_imports_a_missing_module_with_the_name_of_its_package(self, project):
        project.write("pkg/__init__.py", "")
        project.write("pkg/shop.py", "raise ModuleNotFoundError('gone', name='pkg')\n")
        error = project.fail("pkg.shop:app")
        assert "importing pkg.shop failed" in error.message
        assert "shop.py" in str(error.details)

    def test_syntax_error(self, project):
        project.write("shop.py", "def app(:\n")
        error = project.fail("shop:app")
        assert (
            error.message
            == "shop cannot be compiled: SyntaxError: invalid syntax (shop.py, line 1)"
        )
        assert error.details is not None
        assert error.details.startswith(f'  File "{project.root / "shop.py"}", line 1')
        assert "importlib" not in error.details

    def test_exit(self, project):
        project.write("shop.py", "import sys\nsys.exit(3)\n")
        error = project.fail("shop:app")
        assert "importing shop ended with sys.exit(3)" in error.message
        assert "__main__" in error.message
        assert "line 2" in str(error.details)

    @pytest.mark.parametrize("name", ["KeyboardInterrupt", "GeneratorExit", "BaseException"])
    def test_base_exceptions(self, project, name):
        project.write("shop.py", f"raise {name}\n")
        assert project.fail("shop:app").message == f"importing shop failed: {name}"

    def test_attribute_that_raises(self, project):
        project.write("shop.py", "def __getattr__(name):\n    return {}[name]\n")
        error = project.fail("shop:app")
        assert error.message.startswith("looking up shop:app failed: KeyError")
        assert "__getattr__" in str(error.details)

    @pytest.mark.parametrize("inner", ["self.api", "[].app"])
    def test_attribute_error_from_within_an_attribute(self, project, inner):
        project.write(
            "shop.py",
            f"class Site:\n    @property\n    def app(self): return {inner}\nsite = Site()\n",
        )
        error = project.fail("shop:site.app")
        assert "looking up shop:site.app failed: AttributeError" in error.message
        assert inner in str(error.details)


class TestCutTraceback:
    def test_causes_contexts_and_groups_are_cut(self, project):
        project.write("broken.py", "1 / 0\n")
        project.write(
            "shop.py",
            "import importlib\n"
            "try:\n    importlib.import_module('broken')\n"
            "except ZeroDivisionError as exc:\n    cause = exc\n"
            "try:\n    raise ExceptionGroup('all', [cause])\n"
            "except ExceptionGroup as exc:\n    raise RuntimeError('top') from exc\n",
        )
        details = str(project.fail("shop:app").details)
        assert "importlib/" not in details
        assert "frozen" not in details
        assert "loader.py" not in details
        assert details.count("broken.py") == 1
        assert details.count("shop.py") == 3
        assert "The above exception was the direct cause" in details
        assert details.endswith("RuntimeError: top")

    def test_only_our_own_frames(self):
        with pytest.raises(AppLoadError) as caught:
            load_app("")
        assert "/loader.py" not in cut_traceback(caught.value)
        assert "test_loader.py" in cut_traceback(caught.value)

    def test_no_frames_at_all(self):
        assert cut_traceback(ValueError("text")) == "ValueError: text"


class TestFactory:
    def test_the_result_of_the_factory_is_the_app(self, project):
        project.write("shop.py", "def create(debug=False):\n    return print\n")
        assert project.load("shop:create", factory=True) is print

    def test_a_class(self, project):
        project.write("shop.py", "class Site:\n    def __call__(self, environ, start): pass\n")
        assert type(project.load("shop:Site", factory=True)).__name__ == "Site"

    @pytest.mark.parametrize(
        "code",
        [
            "async def create(): pass\n",
            "async def create_it(): pass\ndef create(): return create_it()\n",
            "import functools\nasync def c(x): pass\ncreate = functools.partial(c, 1)\n",
        ],
    )
    def test_async(self, project, code):
        project.write("shop.py", code)
        message = project.fail("shop:create", factory=True).message
        assert "shop:create is async" in message
        assert "lifespan" in message

    def test_a_plain_factory_around_an_async_one(self, project):
        project.write(
            "shop.py",
            "import functools\nasync def inner(): pass\n"
            "@functools.wraps(inner)\ndef create(): return print\n",
        )
        assert project.load("shop:create", factory=True) is print

    @pytest.mark.parametrize("signature", ["environ, start_response", "*, config"])
    def test_a_factory_that_needs_arguments(self, project, signature):
        project.write("shop.py", f"def app({signature}): pass\n")
        message = project.fail("shop", factory=True).message
        assert "shop:app needs arguments" in message
        assert "leave out --factory" in message

    @pytest.mark.parametrize("statement", ["raise ValueError('x')", "raise SystemExit('x')"])
    def test_a_factory_that_raises(self, project, statement):
        project.write("shop.py", f"def create():\n    {statement}\n")
        error = project.fail("shop:create", factory=True)
        assert "the factory shop:create failed" in error.message
        assert "in create" in str(error.details)
        assert "loader.py" not in str(error.details)

    def test_a_factory_that_returns_none(self, project):
        project.write("shop.py", "def create(): pass\n")
        message = project.fail("shop:create", factory=True).message
        assert "returned None, which is not an app: is its `return` missing?" in message

    def test_a_factory_that_returns_no_app(self, project):
        project.write("shop.py", "def create(): return 1\n")
        assert "returned an object of type int" in project.fail("shop:create", factory=True).message


# Interfaces


async def asgi(scope, receive, send): ...


def asgi_plain(scope, receive, send): ...


def wsgi(environ, start_response): ...


def anything(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def anything_async(function):
    @functools.wraps(function)
    async def wrapper(*args, **kwargs):
        return await function(*args, **kwargs)

    return wrapper


class AnythingObject:
    def __init__(self, function):
        functools.update_wrapper(self, function)

    def __call__(self, *args):
        return self.__wrapped__(*args)  # type: ignore[attr-defined]


class AsgiSite:
    async def __call__(self, scope, receive, send): ...

    async def method(self, scope, receive, send): ...

    @anything
    async def decorated(self, scope, receive, send): ...

    @staticmethod
    async def static(scope, receive, send): ...

    @classmethod
    async def of_class(cls, scope, receive, send): ...


class WsgiSite:
    def __call__(self, environ, start_response): ...

    @anything
    def decorated(self, environ, start_response): ...


class StaticSite:
    @staticmethod
    def __call__(environ, start_response): ...


class DecoratedSite:
    @anything
    async def __call__(self, scope, receive, send): ...


class SlotSite:
    __slots__ = ("__call__",)

    def __init__(self):
        self.__call__ = asgi


class AsgiEndpoint:
    """The class itself is the app, as Starlette's HTTPEndpoint."""

    def __init__(self, scope, receive, send): ...

    def __await__(self): ...


class WsgiEndpoint:
    """The class itself is the app, as in PEP 3333."""

    def __init__(self, environ, start_response): ...

    def __iter__(self): ...


class Asgi2:
    def __init__(self, scope): ...

    async def __call__(self, receive, send): ...


class AdaptsToWsgi:
    """An adapter whose `__wrapped__` has the other interface."""

    def __init__(self, app):
        self.__wrapped__ = app

    def __call__(self, environ, start_response): ...


def optional_wsgi(environ, start_response, exc_info=None): ...


def double(scope, receive=None, send=None): ...


def generator(environ, start_response):
    yield b""


@pytest.mark.parametrize(
    ("app", "interface"),
    [
        (asgi, "asgi"),
        (asgi_plain, "asgi"),
        (AsgiSite(), "asgi"),
        (AsgiSite().method, "asgi"),
        (AsgiSite().decorated, "asgi"),
        (AsgiSite.static, "asgi"),
        (AsgiSite.of_class, "asgi"),
        (DecoratedSite(), "asgi"),
        (SlotSite(), "asgi"),
        (AsgiEndpoint, "asgi"),
        (double, "asgi"),
        (anything(asgi), "asgi"),
        (anything(anything(asgi)), "asgi"),
        (anything_async(asgi), "asgi"),
        (AnythingObject(asgi), "asgi"),
        (lambda scope, receive, send: None, "asgi"),
        (lambda scope, *rest: None, "asgi"),
        (functools.partial(lambda config, scope, receive, send: None, 1), "asgi"),
        (functools.partial(AsgiSite()), "asgi"),
        (functools.partial(anything(asgi)), "asgi"),
        (wsgi, "wsgi"),
        (generator, "wsgi"),
        (optional_wsgi, "wsgi"),
        (WsgiSite(), "wsgi"),
        (WsgiSite().decorated, "wsgi"),
        (StaticSite(), "wsgi"),
        (WsgiEndpoint, "wsgi"),
        (AdaptsToWsgi(asgi), "wsgi"),
        (anything(wsgi), "wsgi"),
        (AnythingObject(wsgi), "wsgi"),
        (functools.partial(lambda config, environ, start: None, 1), "wsgi"),
        (functools.partial(WsgiSite().decorated), "wsgi"),
    ],
)
def test_interface(app, interface):
    assert detect_interface(app) == interface


async def async_wsgi(environ, start_response): ...


def kwonly(*, scope): ...


@pytest.mark.parametrize(
    ("app", "told"),
    [
        (Asgi2, "ASGI 2"),
        (lambda scope: None, "ASGI 2"),
        (lambda: None, "add --factory"),
        (AsgiSite, "the class AsgiSite is not an app"),
        (WsgiSite, "the class WsgiSite is not an app"),
        (async_wsgi, "is async but does not take"),
        (lambda *args: None, "add --interface asgi or --interface wsgi"),
        (lambda a, b, c, d: None, "add --interface"),
        (kwonly, "takes no arguments"),
        (dict.fromkeys, "add --interface"),
        (types.SimpleNamespace, "is not an app"),
        (min, "add --interface"),
    ],
)
def test_apps_whose_interface_is_unclear_raise(app, told):
    with pytest.raises(AppLoadError) as caught:
        detect_interface(app)
    assert told in caught.value.message
    assert "\n" not in caught.value.message


def test_a_wrapper_that_wraps_itself():
    def app(*args): ...

    app.__wrapped__ = app  # type: ignore[attr-defined]
    with pytest.raises(AppLoadError, match="add --interface"):
        detect_interface(app)


class TestFrameworks:
    def test_starlette(self):
        applications = need_module("starlette.applications")
        assert detect_interface(applications.Starlette()) == "asgi"
        with pytest.raises(AppLoadError, match="is not an app"):
            detect_interface(applications.Starlette)

    def test_fastapi(self):
        fastapi = need_module("fastapi")
        assert detect_interface(fastapi.FastAPI()) == "asgi"
        with pytest.raises(AppLoadError, match="is not an app"):
            detect_interface(fastapi.FastAPI)

    def test_flask(self):
        flask = need_module("flask")
        assert detect_interface(flask.Flask("shop")) == "wsgi"
        assert detect_interface(flask.Flask("shop").wsgi_app) == "wsgi"

    def test_django(self):
        need_module("django")
        # The app is not initialised: this needs settings, and a process can have only one set of
        # them.
        handler = importlib.import_module("django.core.handlers.wsgi").WSGIHandler
        assert detect_interface(object.__new__(handler)) == "wsgi"
        handler = importlib.import_module("django.core.handlers.asgi").ASGIHandler
        assert detect_interface(object.__new__(handler)) == "asgi"
