"""The import rules of docs/architecture.md, "The house". Imports for types count too.

A failure names each file that breaks a rule, with its import.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("frontend", "protocol", "reactor")

BANNED = (
    ("frontend", "reactor", "the two processes meet only at file descriptors"),
    ("reactor", "frontend", "the two processes meet only at file descriptors"),
    ("protocol", "frontend", "what bytes mean does not depend on who reads them"),
    ("protocol", "reactor", "what bytes mean does not depend on who reads them"),
    ("frontend.clients", "frontend.reactors", "they meet in exchanges/ports.py"),
    ("frontend.reactors", "frontend.clients", "they meet in exchanges/ports.py"),
    ("frontend.exchanges", "frontend.clients", "both sides use exchanges"),
    ("frontend.exchanges", "frontend.reactors", "both sides use exchanges"),
    ("frontend.clients", "frontend.service", "service composes the parts"),
    ("frontend.exchanges", "frontend.service", "service composes the parts"),
    ("frontend.loop", "frontend.service", "service composes the parts"),
    ("frontend.reactors", "frontend.service", "service composes the parts"),
    ("frontend.sockets", "frontend.service", "service composes the parts"),
    ("frontend.command", "frontend.service", "service composes the parts"),
    ("frontend.loop", "frontend.clients", "the loop knows nothing that it calls"),
    ("frontend.loop", "frontend.reactors", "the loop knows nothing that it calls"),
    ("frontend.loop", "frontend.exchanges", "the loop knows nothing that it calls"),
    ("frontend.sockets", "frontend.command", "settings are read before sockets are opened"),
    ("frontend.exchanges", "frontend.command", "what is needed is passed by name"),
    ("frontend.routes", "frontend.clients", "a route does not know who asks"),
    ("frontend.routes", "frontend.exchanges", "a route does not know who asks"),
    ("frontend.routes", "frontend.reactors", "a route does not know who answers"),
    ("frontend.routes", "frontend.static", "a route does not know who answers"),
    ("frontend.routes", "frontend.command", "what is needed is passed by name"),
    ("frontend.routes", "frontend.service", "service composes the parts"),
    ("frontend.static", "frontend.clients", "a file does not know who gets it"),
    ("frontend.static", "frontend.exchanges", "a file does not know who gets it"),
    ("frontend.static", "frontend.reactors", "files never reach a reactor"),
    ("frontend.static", "frontend.routes", "what is needed is passed by name"),
    ("frontend.static", "frontend.command", "what is needed is passed by name"),
    ("frontend.static", "frontend.service", "service composes the parts"),
    ("reactor.loop", "reactor.asgi", "the loop runs any interface"),
    ("reactor.loop", "reactor.wsgi", "the loop runs any interface"),
    ("reactor.asgi", "reactor.wsgi", "the interfaces are apart"),
    ("reactor.wsgi", "reactor.asgi", "the interfaces are apart"),
)
"""(importing room, imported room, reason) of each import that is forbidden."""

IO = {"asyncio", "anyio", "fcntl", "mmap", "os", "select", "selectors", "socket", "ssl", "time"}
"""Modules that `protocol` must not import: it knows no socket, no clock, and no event loop."""
PURE = {"AF_INET", "AF_INET6", "AddressFamily", "inet_ntop", "inet_pton"}
"""Names of `socket` that do no I/O: they read and write addresses."""


def _files() -> dict[str, Path]:
    """Return every file of the package, by its module name without `reactor_run.`."""
    files = {path.stem: path for path in (ROOT / "src" / "reactor_run").glob("*.py")}
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            files[".".join(part for part in parts if part != "__init__")] = path
    del files["__init__"]
    return files


FILES = _files()


def _imported(path: Path) -> Iterator[str]:
    """Return the files of the package that one file imports, wherever the import stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            package, _, module = node.module.partition(".")
            if package == "reactor_run":
                for alias in node.names:
                    full = f"{module}.{alias.name}".lstrip(".")
                    yield full if full in FILES else module
        elif isinstance(node, ast.Import):
            for alias in node.names:
                package, _, module = alias.name.partition(".")
                if package == "reactor_run":
                    yield module


@cache
def _arrows() -> dict[str, list[str]]:
    """Return which files each file imports. It takes a second, so no collection waits for it."""
    return {
        name: sorted(set(_imported(path)) & FILES.keys() - {name}) for name, path in FILES.items()
    }


def _is_in(name: str, room: str) -> bool:
    return name == room or name.startswith(room + ".")


def test_the_walk_finds_the_files() -> None:
    assert len(FILES) > 100
    assert "frontend.clients.http1" in _arrows()["frontend.clients.acceptor"]


@pytest.mark.parametrize(("source", "target", "why"), BANNED)
def test_no_arrow_breaks_a_rule(source: str, target: str, why: str) -> None:
    broken = [
        f"{name} imports {imported}"
        for name, arrows in _arrows().items()
        for imported in arrows
        if _is_in(name, source) and _is_in(imported, target)
    ]
    assert not broken, why


def test_nothing_but_the_command_imports_the_service() -> None:
    users = {
        name
        for name, arrows in _arrows().items()
        if not _is_in(name, "frontend.service")
        and any(_is_in(imported, "frontend.service") for imported in arrows)
    }
    assert users == {"frontend.cli"}


def _circles() -> list[list[str]]:
    """Return sets of files that reach each other by imports (Tarjan's algorithm)."""
    found: list[list[str]] = []
    order: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []

    def visit(name: str) -> None:
        order[name] = lowest[name] = len(order)
        stack.append(name)
        for imported in _arrows()[name]:
            if imported not in order:
                visit(imported)
                lowest[name] = min(lowest[name], lowest[imported])
            elif imported in stack:
                lowest[name] = min(lowest[name], order[imported])
        if lowest[name] == order[name]:
            circle = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(circle) > 1:
                found.append(sorted(circle))

    for name in _arrows():
        if name not in order:
            visit(name)
    return found


def test_there_is_no_circle() -> None:
    assert _circles() == []


def test_protocol_does_no_io() -> None:
    broken = []
    for name, path in FILES.items():
        if not _is_in(name, "protocol"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = {alias.name.partition(".")[0] for alias in node.names} & IO
            elif isinstance(node, ast.ImportFrom) and node.module in IO:
                names = {alias.name for alias in node.names} - PURE
            else:
                continue
            broken += [f"{name} imports {each}" for each in sorted(names)]
    assert broken == []


def test_no_two_rooms_have_a_class_of_the_same_name() -> None:
    rooms: dict[str, set[str]] = defaultdict(set)
    for name, path in FILES.items():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                rooms[node.name].add(name)
    shared = {
        name: sorted(files)
        for name, files in rooms.items()
        if len({file.rpartition(".")[0] for file in files}) > 1
    }
    assert shared == {}
