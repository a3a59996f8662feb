"""What README and docs/ name exists: links, make targets, flags, files, names, constants.

These tests cannot tell whether a sentence is true. They fail when a named thing was renamed.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import tomllib
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.bars import BARS
from docs import site
from reactor_run.frontend.cli import read_settings
from reactor_run.frontend.command.remote import run_command
from reactor_run.reactor.options import parse_options

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ARCHITECTURE = ROOT / "docs" / "architecture.md"
BENCH = ROOT / "bench" / "README.md"
SOURCES = [
    *(path for room in ("frontend", "protocol", "reactor") for path in (ROOT / room).rglob("*.py")),
    *(ROOT / "src" / "reactor_run").glob("*.py"),
]

# Flags that the pages name and that belong to other programs: apt-get, curl, debugpy, Docker, pip …
FOREIGN_FLAGS = {
    "--cert-name",
    "--find-links",
    "--follow",
    "--from",
    "--haproxy-protocol",
    "--init",
    "--kill-whom",
    "--listen",
    "--no-index",
    "--no-install-recommends",
    "--now",
    "--resolve",
    "--run-deploy-hooks",
    "--signal",
    "--strict",
    "--tail",
    "--unit",
    "--unix-socket",
    "--wheel-dir",
}

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def code_spans(page: Path) -> list[str]:
    """Return the texts between backticks."""
    return re.findall(r"`([^`\n]+)`", page.read_text())


def code_lines(page: Path) -> list[str]:
    """Return the lines of indented blocks."""
    return re.findall(r"^ {4}(\S.*)$", page.read_text(), re.MULTILINE)


@pytest.mark.parametrize("page", site.PAGES, ids=lambda page: page.parent.name + "/" + page.name)
def test_links_resolve(page: Path) -> None:
    """As `make docs` checks them: a broken link raises."""
    assert site.site_page(page, "").startswith("# ")


@pytest.mark.parametrize(
    "link",
    [
        "nowhere.md",
        "../tests/nowhere.py",
        "settings.md#nowhere",
        "#nowhere",
        "../README.md#nowhere",
    ],
)
def test_a_broken_link_is_found(tmp_path: Path, link: str) -> None:
    for page in (*PAGES, ROOT / "tests" / "test_docs.py"):
        copy = tmp_path / page.relative_to(ROOT)
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(page.read_text())
    page = tmp_path / "docs" / "hooks.md"
    page.write_text(
        "# Hooks\n\n[fine](#hooks) and [fine](settings.md#settings), [fine](../README.md)\n"
    )
    site.site_page(page, "")
    page.write_text(f"# Hooks\n\nSee [this]({link}).\n")
    with pytest.raises(site.BrokenLink, match=re.escape("docs/hooks.md: there is no ")):
        site.site_page(page, "")


def test_the_site_leads_to_its_pages_and_to_the_repository() -> None:
    pages = [ROOT / "docs" / "guarantees.md", ROOT / "docs" / "hooks.md", BENCH]
    text = "".join(site.site_page(page, "https://example.org/blob/main") for page in pages)
    assert "](logging.md#request-ids)" in text
    assert "](architecture.md#stalls)" in text
    assert "](https://example.org/blob/main/tests/integration/test_hang.py)" in text
    assert "](../" not in text
    assert "](" not in re.sub(r"\]\([\w-]+\.md(#[\w-]+)?\)|\]\(#[\w-]+\)|\]\(https:", "", text)
    start = site.site_page(ROOT / "README.md", "")
    assert "](settings.md)" in start
    assert "](index.md#run-your-own-app)" in start
    assert "see LICENSE." in start


def test_the_site_lists_all_its_pages() -> None:
    nav = tomllib.loads(site.CONFIGURATION.read_text())["project"]["nav"]
    listed = [page for group in nav for pages in group.values() for page in pages]
    assert sorted(name for page in listed for name in page.values()) == sorted(site.PAGES.values())


def test_the_readme_leads_to_all_pages() -> None:
    list_of_pages = (ROOT / "README.md").read_text().partition("## Read on")[2]
    for page in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{page.name})" in list_of_pages


def test_the_site_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "old.md").write_text("# Old\n")
    site.write_site(tmp_path, "")
    names = {path.name for path in (tmp_path / "pages").iterdir()}
    assert names == {*site.PAGES.values(), "site.css"}
    assert "`--interface auto|asgi|wsgi`" in (tmp_path / "pages" / "settings.md").read_text()


def test_make_targets_exist() -> None:
    readme = ROOT / "README.md"
    named = [re.match(r"make ([a-z-]+)", code) for code in code_spans(readme) + code_lines(readme)]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    wanted = {match[1] for match in named if match}
    assert {"serve", "test"} <= wanted
    assert wanted <= targets


def flags_in_help(show: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> set[str]:
    """Return the flags that a command's help lists."""
    with pytest.raises(SystemExit):
        show()
    return set(
        re.findall(r"^ +(?:-\w(?: \S+)?, )?(--[a-z0-9-]+)", capsys.readouterr().out, re.MULTILINE)
    )


@every_page
def test_flags_exist(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = flags_in_help(lambda: read_settings(["--help"], {}), capsys)
    assert {"--bind", "--help", "--version"} <= ours
    reactors = flags_in_help(lambda: parse_options(["--help"]), capsys)
    status = flags_in_help(lambda: run_command(["status", "--help"], {}), capsys)
    text = page.read_text()
    if page.name == "migrating.md":
        # The first column has flags of other servers.
        text = re.sub(r"^\|[^|]*\|", "", text, flags=re.MULTILINE)
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text))
    assert named - ours - status - reactors - FOREIGN_FLAGS == set()


def members() -> dict[str, set[str]]:
    """Return the members of the package's classes, by class name. Two rooms may share a name."""
    found: dict[str, set[str]] = defaultdict(set)
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text())):
            if not isinstance(node, ast.ClassDef):
                continue
            for inner in ast.walk(node):
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                    found[node.name].add(inner.name)
                elif isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store):
                    found[node.name].add(inner.attr)
                elif isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name):
                    found[node.name].add(inner.target.id)
    return found


@every_page
def test_tests_that_are_named_beside_their_file_exist(page: Path) -> None:
    """A row of a table has a link to a file of tests, then names of tests in it."""
    for path, names in re.findall(
        r"\]\(\.\./(tests/\S+?\.py)\)((?:[:,] `test_\w+`)+)", page.read_text()
    ):
        found = set(
            re.findall(r"^(?:async )?def (test_\w+)", (ROOT / path).read_text(), re.MULTILINE)
        )
        assert set(re.findall(r"test_\w+", names)) <= found, path


def test_architecture_names_files_that_exist() -> None:
    named = [span for span in code_spans(ARCHITECTURE) if re.fullmatch(r"[\w/]+(\.\w+|/)", span)]
    paths = [span for span in named if "/" in span]
    assert len(paths) > 30
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_architecture_names_things_that_exist() -> None:
    words = set(re.findall(r"\w+", "".join(source.read_text() for source in SOURCES)))
    classes = members()
    unknown = []
    checked = 0
    for span in code_spans(ARCHITECTURE):
        first, *rest = span.split(".")
        if re.fullmatch(r"reactor_run(\.\w+)+", span):
            known = importlib.util.find_spec(span) is not None
        elif first in classes and len(rest) == 1:
            known = rest[0] in classes[first]
        elif re.fullmatch(r"[A-Za-z_]\w*", span):
            known = span in words
        else:
            continue
        checked += 1
        if not known:
            unknown.append(span)
    assert checked > 50
    assert unknown == []


UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "ms": 0.001, "s": 1}
CONSTANT = re.compile(r"^\| `(\w+)` \| ([\d.]+) ?(\w*) \| `([\w/]+)\.py` \|", re.MULTILINE)


def test_architecture_gives_constants_as_in_the_code() -> None:
    rows = CONSTANT.findall(ARCHITECTURE.read_text())
    assert len(rows) > 20
    for name, number, unit, path in rows:
        module = importlib.import_module(
            "reactor_run." + path.removeprefix("src/reactor_run/").replace("/", ".")
        )
        value = getattr(module, name)
        assert value == pytest.approx(float(number) * UNITS[unit]), f"{path}.py {name}"


def test_bars_name_headings_of_the_bench_page() -> None:
    """The report links there from each bar that is missed."""
    named = {bar.read for bar in BARS if bar.read}
    assert len(named) > 5
    assert named <= site.anchors(BENCH)
