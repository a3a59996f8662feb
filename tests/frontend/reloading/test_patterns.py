"""Which changed files cause a reload."""

from __future__ import annotations

import pytest

from reactor_run.frontend.reloading.patterns import Patterns


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("web.py", True),
        ("shop/api/web.py", True),
        ("web.pyc", False),
        ("page.html", False),
        (".#web.py", False),
        (".venv/lib/web.py", False),
        (".git/hooks/web.py", False),
        ("venv/lib/python3.11/site-packages/web.py", False),
        ("node_modules/a/web.py", False),
        ("shop/__pycache__/web.py", False),
    ],
)
def test_without_options(path: str, wanted: bool) -> None:
    assert Patterns().wants(path) == wanted


@pytest.mark.parametrize(
    ("include", "exclude", "path", "wanted"),
    [
        (["*.html"], [], "shop/templates/page.html", True),
        (["*.html"], [], "web.py", True),
        (["templates/*"], [], "templates/deep/page.html", True),
        (["templates/*"], [], "shop/templates/page.html", False),
        ([".env"], [], ".env", True),
        ([".env"], [], ".git/.env", False),
        ([], ["test_*.py"], "shop/test_web.py", False),
        ([], ["test_*.py"], "shop/web.py", True),
        ([], ["tests"], "shop/tests/web.py", False),
        ([], ["tests/"], "tests/web.py", False),
        ([], ["shop/tests"], "shop/tests/deep/web.py", False),
        ([], ["shop/tests"], "other/tests/web.py", True),
        ([], ["*.py"], "web.py", False),
        (["*.py"], ["web.py"], "web.py", False),
        (["*.html"], ["*.py"], "page.html", True),
    ],
)
def test_with_options(include: list[str], exclude: list[str], path: str, wanted: bool) -> None:
    assert Patterns(include, exclude).wants(path) == wanted
