"""What a hooks module may hold, and what is said about one that cannot be used."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from reactor_run.hook_module import Hook, HookModuleError, load_hooks

Load = Callable[[str], dict[str, Hook]]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """`load(text)`: the hooks of a module `my_hooks` with this text."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def load(text: str) -> dict[str, Hook]:
        (tmp_path / "my_hooks.py").write_text(text)
        monkeypatch.delitem(sys.modules, "my_hooks", raising=False)
        try:
            return load_hooks("my_hooks", str(tmp_path))
        finally:
            sys.modules.pop("my_hooks", None)

    return load


def refusal(load: Load, text: str) -> HookModuleError:
    with pytest.raises(HookModuleError) as caught:
        load(text)
    assert "\n" not in str(caught.value)
    return caught.value


def test_hooks_are_found_by_name(load: Load) -> None:
    hooks = load(
        "from functools import partial\n"
        "def on_start(service): ...\n"
        "on_stop = print\n"
        "reactor_exit = partial(print, 'end')\n"
        "def helper(): ...\n"
        "def _on_anything(): ...\n"
        "class on_class: ...\n"
        "request_number = 3\n"
    )
    assert list(hooks) == ["on_start", "on_stop", "reactor_exit"]


def test_functions_of_other_modules_may_have_any_name(load: Load) -> None:
    text = "from pathlib import Path\nfrom glob import escape as on_path\ndef on_stop(s): ..."
    assert list(load(text)) == ["on_stop"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def on_exit(server): ...", ["my_hooks.on_exit is no hook", "_on_exit"]),
        ("def reactor_inti(reactor): ...", ["the nearest is reactor_init"]),
        ("async def on_start(service): ...", ["my_hooks.on_start is async", "`def`"]),
        ("def on_start(): ...", ["my_hooks.on_start must take one argument"]),
        ("def on_start(one, two): ...", ["my_hooks.on_start must take one argument"]),
        ("on_start = 5", ["my_hooks.on_start is not a function"]),
        ("def start(service): ...", ["my_hooks has no hook", "on_start"]),
        ("", ["my_hooks has no hook"]),
        ("import sys\nsys.exit('no')", ["importing my_hooks failed: SystemExit", "line 2)"]),
        ("x = 1\n\ny = 1 / 0", ["ZeroDivisionError: division by zero", "my_hooks.py, line 3)"]),
        ("import no_such", ["ModuleNotFoundError: No module named 'no_such'", "line 1)"]),
        ("def on_start(service) ...", ["SyntaxError", "my_hooks.py, line 1)"]),
    ],
)
def test_what_is_wrong_is_said_in_one_line(load: Load, text: str, words: list[str]) -> None:
    told = str(refusal(load, text))
    assert all(word in told for word in words), told


def test_the_error_of_the_module_is_the_cause(load: Load) -> None:
    assert isinstance(refusal(load, "1 / 0").__cause__, ZeroDivisionError)
    assert refusal(load, "").__cause__ is None


def test_a_module_that_does_not_exist() -> None:
    with pytest.raises(HookModuleError, match=r"no module 'no_such_package' in /srv/shop"):
        load_hooks("no_such_package.hooks", "/srv/shop")
