"""The loader of the app.

It imports the user's code, finds the app that `module:attribute` names, and detects its interface.
It owns the error messages of all this. It runs before any event loop, because an app may do
anything during its import. It does not know how an app is run.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import math
import os
import shlex
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, Final, Literal

from reactor_run.logs import summary
from reactor_run.reactor.log import AppFailure, app_frames, cut_traceback

__all__ = ["AppLoadError", "detect_interface", "enter_app_dir", "load_app"]

_DEFAULT_ATTRIBUTES: Final = ("app", "application")
_LISTED: Final = 10
"""Most names that an error message lists."""
_MAX_LAYERS: Final = 50
"""Most wrappers that are followed. This ends a cycle of `__wrapped__`."""

_MISSING: Final = object()


class AppLoadError(AppFailure):
    """The app could not be loaded, or the loaded object is not an app.

    `details` is the app's traceback if its own code raised, else None.
    """


def load_app(target: str, *, factory: bool = False, app_dir: str = ".") -> Callable[..., Any]:
    """Import the app that `target` names, and return it.

    `target` is `module[:attribute]`. The attribute may have dots. Without one, `app` and then
    `application` are tried. With `factory`, the attribute is called without arguments, and its
    result is the app.

    `app_dir` becomes the first entry of sys.path, as an absolute path without symbolic links. So
    later imports of the app use the same directory, even if a deploy has changed a link.

    Raises AppLoadError for every failure, also if the app's code raises SystemExit or
    KeyboardInterrupt.
    """
    root = enter_app_dir(app_dir)
    module_name, attribute = _split(target, root)
    name, app = _find(_import(module_name, root), module_name, attribute)
    if not callable(app):
        raise AppLoadError(f"{name} is {_kind(app)}, which cannot be called: it is not an app")
    return _build(app, name) if factory else app


def enter_app_dir(app_dir: str) -> str:
    """Make `app_dir` the first entry of sys.path; return it without symbolic links.

    Raises AppLoadError if there is no such directory.
    """
    try:
        root = os.path.realpath(app_dir)
    except FileNotFoundError:
        # The path is relative, and the working directory does not exist any more.
        root = ""
    if not os.path.isdir(root):
        raise AppLoadError(f"--app-dir {app_dir}: there is no such directory")
    if sys.path[:1] != [root]:
        sys.path.insert(0, root)
    return root


# The target


def _split(target: str, root: str) -> tuple[str, str | None]:
    """Return the module name and the attribute of `target`, None without one.

    Raises AppLoadError if `target` has another form.
    """
    module_name, colon, attribute = target.partition(":")
    if "/" in module_name or module_name.endswith(".py"):
        raise AppLoadError(
            f"{module_name} is a file, not a module: write {_instead(module_name, attribute, root)}"
        )
    if not module_name:
        raise AppLoadError(f"{target!r} names no module: write module:attribute, such as main:app")
    if not all(module_name.split(".")):
        raise AppLoadError(
            f"{module_name!r} is not a module's full name: write it from the top, such as "
            f"{module_name.strip('.') or 'main'}"
        )
    if not colon:
        return module_name, None
    if "(" in attribute:
        raise AppLoadError(
            f"{attribute!r} is a call, not a name: to have a factory called, write "
            f"{module_name}:{attribute.partition('(')[0]} --factory"
        )
    if not all(part.isidentifier() for part in attribute.split(".")):
        raise AppLoadError(
            f"{target!r} names no attribute after the colon: write {module_name}:app, or only "
            f"{module_name} to use its 'app' or 'application'"
        )
    return module_name, attribute


def _instead(path: str, attribute: str, root: str) -> str:
    """Return the command's arguments that name the app in the file `path`."""
    directory, name = os.path.split(os.path.normpath(os.path.join(root, path)))
    parts = [name.removesuffix(".py")]
    while os.path.isfile(os.path.join(directory, "__init__.py")):
        directory, package = os.path.split(directory)
        parts.insert(0, package)
    if parts[-1] == "__init__" and len(parts) > 1:
        parts.pop()
    target = f"{'.'.join(parts)}:{attribute or 'app'}"
    if directory == root:
        return target
    return f"--app-dir {shlex.quote(os.path.relpath(directory))} {target}"


# The import


def _import(name: str, root: str) -> types.ModuleType:
    try:
        return importlib.import_module(name)
    except BaseException as exc:
        if (
            isinstance(exc, ModuleNotFoundError)
            and exc.name is not None
            and f"{name}.".startswith(f"{exc.name}.")
            and not app_frames(exc)
        ):
            raise AppLoadError(_not_found(name, exc.name, root)) from exc
        raise AppLoadError(_import_failure(name, exc), cut_traceback(exc)) from exc


def _not_found(name: str, missing: str, root: str) -> str:
    """Return the message for a module that is not found. `missing` is `name` or one of its
    packages."""
    parent, _, last = missing.rpartition(".")
    holder = sys.modules.get(parent)
    if holder is not None and hasattr(holder, last):
        rest = name.removeprefix(f"{parent}.")
        return f"there is no module {name}, but {parent} has {last!r}: write {parent}:{rest}"
    if holder is not None and not hasattr(holder, "__path__"):
        return f"there is no module {missing}: {parent} ({_place(holder)}) is not a package"
    if holder is not None:
        return f"there is no module {last!r} in the package {parent} ({_place(holder)})"
    return (
        f"there is no module {missing!r} in {root} nor elsewhere on sys.path: if it lies in "
        "another directory, name that with --app-dir"
    )


def _import_failure(name: str, exc: BaseException) -> str:
    if isinstance(exc, SyntaxError):
        return f"{name} cannot be compiled: {summary(exc)}"
    if isinstance(exc, SystemExit):
        return (
            f"importing {name} ended with sys.exit({exc.code!r}): put what only a script is to do "
            'under `if __name__ == "__main__":`'
        )
    if isinstance(exc, ModuleNotFoundError):
        return (
            f"importing {name} failed, because one of its own imports did: {summary(exc)}; is it "
            f"installed for {sys.executable}?"
        )
    return f"importing {name} failed: {summary(exc)}"


# The attribute


def _find(module: types.ModuleType, module_name: str, attribute: str | None) -> tuple[str, Any]:
    """Return the name, for messages, and the app or its factory."""
    if attribute is None:
        return _find_default(module, module_name)
    name = module_name
    found: Any = module
    for part in attribute.split("."):
        holder, holder_name = found, name
        name = f"{name}.{part}" if ":" in name else f"{name}:{part}"
        found = _get(holder, part, name)
        if found is _MISSING:
            if holder is module:
                raise AppLoadError(
                    f"module {module_name} ({_place(module)}) has no {part!r}; {_offer(module)}"
                )
            raise AppLoadError(f"{holder_name} is {_kind(holder)} and has no {part!r}")
    return name, found


def _find_default(module: types.ModuleType, module_name: str) -> tuple[str, Any]:
    found = {
        name: value
        for name in _DEFAULT_ATTRIBUTES
        if (value := _get(module, name, f"{module_name}:{name}")) is not _MISSING
    }
    # A package's submodule `app` is an attribute too. It must not hide the package's `application`.
    for name, value in found.items():
        if callable(value):
            return f"{module_name}:{name}", value
    for name, value in found.items():
        raise AppLoadError(
            f"{module_name}:{name} is {_kind(value)}, which cannot be called: it is not an app; "
            f"{_offer(module)}"
        )
    raise AppLoadError(
        f"module {module_name} ({_place(module)}) has neither 'app' nor 'application'; "
        f"{_offer(module)}"
    )


def _get(holder: object, attribute: str, name: str) -> Any:
    """Return the attribute, or _MISSING. Raises AppLoadError if the app's code raises: a property
    and a module's `__getattr__` are code of the app."""
    try:
        return getattr(holder, attribute)
    except BaseException as exc:
        # Any other AttributeError comes from the app's code, for example from a property.
        if isinstance(exc, AttributeError) and exc.obj is holder and exc.name == attribute:
            return _MISSING
        raise AppLoadError(f"looking up {name} failed: {summary(exc)}", cut_traceback(exc)) from exc


def _offer(module: types.ModuleType) -> str:
    """Return a text that lists the module's own functions and callable instances."""
    names = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and callable(value)
        and not inspect.isclass(value)
        and not (inspect.isroutine(value) and value.__module__ != module.__name__)
    ]
    if not names:
        return "it has no callable that could be an app"
    more = ", ..." if len(names) > _LISTED else ""
    return (
        f"it has {', '.join(names[:_LISTED])}{more}: write {module.__name__}:NAME, with --factory "
        "if NAME makes the app"
    )


def _place(module: types.ModuleType) -> str:
    return getattr(module, "__file__", None) or "without a file"


def _kind(value: object) -> str:
    """Describe `value` for a message. Its repr is not used, because it may be long or may raise."""
    if inspect.ismodule(value):
        return f"the module {value.__name__}"
    if inspect.isclass(value):
        return f"the class {value.__qualname__}"
    if inspect.isroutine(value):
        return f"the function {value.__qualname__}"
    return f"an object of type {type(value).__qualname__}"


# The factory


def _build(factory: Callable[..., Any], name: str) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(next(_layers(factory), factory)):
        raise AppLoadError(_async_factory(name))
    arity = _arity(factory)
    if arity is not None and not arity.takes(0):
        raise AppLoadError(
            f"{name} needs arguments and a factory gets none: write one that needs none, or leave "
            "out --factory if this is the app itself"
        )
    try:
        app: object = factory()
    except BaseException as exc:
        raise AppLoadError(
            f"the factory {name} failed: {summary(exc)}", cut_traceback(exc)
        ) from exc
    if inspect.iscoroutine(app):
        app.close()
        raise AppLoadError(_async_factory(name))
    if not callable(app):
        missing = ": is its `return` missing?" if app is None else ""
        what = "None" if app is None else _kind(app)
        raise AppLoadError(f"the factory {name} returned {what}, which is not an app{missing}")
    return app


def _async_factory(name: str) -> str:
    return (
        f"{name} is async and cannot be a factory, which is called before an event loop runs: make "
        "it a plain function, and do what has to be awaited in the app's lifespan"
    )


# The interface


def detect_interface(app: Callable[..., Any]) -> Literal["asgi", "wsgi"]:
    """Return the interface of `app`, from its signature. The app is not called.

    ASGI 3 takes (scope, receive, send). WSGI (PEP 3333) takes (environ, start_response). The
    signature is also found through functools.partial, bound methods, instances with `__call__`, and
    decorators that use functools.wraps. Raises AppLoadError for an ASGI 2 app, for a factory, and
    if the signature fits neither interface.
    """
    for layer in _layers(app):
        if inspect.isclass(layer):
            return _class_interface(layer)
        arity = _arity(layer)
        if arity is None:
            continue
        if inspect.iscoroutinefunction(layer):
            if arity.takes(3):
                return "asgi"
            raise AppLoadError(
                f"{_kind(app)} is async but does not take (scope, receive, send): it is no ASGI app"
            )
        if arity.required == 3 or (arity.takes(3) and arity.names[:1] == ["scope"]):
            return "asgi"
        if arity.required == 2 or (arity.takes(2) and arity.names[:1] == ["environ"]):
            return "wsgi"
        if arity.required == arity.most == 1:
            raise AppLoadError(_asgi_2(app))
        if arity.most == 0:
            raise AppLoadError(
                f"{_kind(app)} takes no arguments: if it makes the app, add --factory"
            )
    raise AppLoadError(
        f"the signature of {_kind(app)} does not tell whether it is an ASGI or a WSGI app: add "
        "--interface asgi or --interface wsgi"
    )


def _asgi_2(app: object) -> str:
    return (
        f"{_kind(app)} takes one argument, like an ASGI 2 app: only ASGI 3 (scope, receive, send) "
        "is supported; asgiref.compatibility.guarantee_single_callable converts it"
    )


def _class_interface(app: type) -> Literal["asgi", "wsgi"]:
    """Return the interface of a class that is itself an app. Raises AppLoadError if it is none.

    Such a class is instantiated for each request, and the instance is the awaitable or iterable.
    """
    arity = _arity(app)
    if arity is not None and arity.takes(3) and hasattr(app, "__await__"):
        return "asgi"
    if arity is not None and arity.takes(2) and hasattr(app, "__iter__"):
        return "wsgi"
    call = inspect.getattr_static(app, "__call__", None)
    if arity is not None and arity.required == 1 and inspect.iscoroutinefunction(call):
        call_arity = _arity(call)
        if call_arity is not None and call_arity.required == 3:  # self, receive, send
            raise AppLoadError(_asgi_2(app))
    raise AppLoadError(
        f"{_kind(app)} is not an app, its instances may be: name an instance, or add --factory if "
        "the class can be called without arguments"
    )


class _Arity:
    """How many positional arguments a callable takes: from `required` to `most`."""

    def __init__(self, signature: inspect.Signature) -> None:
        self.required = 0
        self.most: float = 0
        self.names: list[str] = []
        self._possible = True
        for parameter in signature.parameters.values():
            if parameter.kind is parameter.VAR_POSITIONAL:
                self.most = math.inf
            elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                self.most += 1
                self.names.append(parameter.name)
                self.required += parameter.default is parameter.empty
            elif parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
                self._possible = False

    def takes(self, count: int) -> bool:
        """Whether a call with exactly `count` positional arguments is valid."""
        return self._possible and self.required <= count <= self.most


def _arity(app: Callable[..., Any]) -> _Arity | None:
    """Return the arity of `app`, or None if Python does not know it, as for some C functions."""
    try:
        return _Arity(inspect.signature(app, follow_wrapped=False))
    except (TypeError, ValueError):
        return None


def _layers(app: Callable[..., Any], depth: int = 0) -> Iterator[Callable[..., Any]]:
    """Yield the callable behind `app`, then each callable that it wraps (functools.wraps).

    Each is a function, a method, a partial of one, or a class. Bound arguments stay bound, so the
    signature shows what a caller must pass.
    """
    if depth > _MAX_LAYERS:
        return
    depth += 1
    if isinstance(app, functools.partial):
        for layer in _layers(app.func, depth):
            yield functools.partial(layer, *app.args, **app.keywords)
    elif isinstance(app, types.MethodType):
        for layer in _layers(app.__func__, depth):
            yield types.MethodType(layer, app.__self__)
    else:
        if inspect.isroutine(app) or inspect.isclass(app):
            yield app
        else:
            # Look up `__call__` as the interpreter does: on the type, then bind a descriptor.
            call = inspect.getattr_static(type(app), "__call__", None)
            if hasattr(call, "__get__"):
                call = call.__get__(app, type(app))
            if callable(call):
                yield from _layers(call, depth)
        wrapped = inspect.getattr_static(app, "__wrapped__", None)
        if callable(wrapped):
            yield from _layers(wrapped, depth)
