"""Checks the links of the documentation, and writes the pages of the site that `make docs` builds.

    python docs/site.py FOLDER [REPOSITORY]

The pages of the site are the README and some other files of the repository (`PAGES`). In the
repository, links between them are paths, and so they work on a code host too. On the site they
lead to the pages. A link to any other file leads to REPOSITORY, such as
https://github.com/me/reactor-run/blob/main. Without a REPOSITORY only its text is left.

A link that leads nowhere is an error here. tests/test_docs.py checks the same way. Zensical checks
the pages once more (`--strict`), as the site has them.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
DOCS: Final = ROOT / "docs"
CONFIGURATION: Final = DOCS / "zensical.toml"
STYLE: Final = DOCS / "site.css"

PAGES: Final[dict[Path, str]] = {
    ROOT / "README.md": "index.md",
    ROOT / "CHANGELOG.md": "changelog.md",
    ROOT / "bench" / "README.md": "benchmarks.md",
    **{page: page.name for page in sorted(DOCS.glob("*.md"))},
}
"""The files that are pages of the site, and their names there."""

_LINK: Final = re.compile(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
_ROW: Final = re.compile(r"^\|.*$", re.MULTILINE)
_CODE: Final = re.compile(r"`[^`\n]+`")
_ELSEWHERE: Final = re.compile(r"https?:|mailto:")


class BrokenLink(Exception):
    """A link leads nowhere."""


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def _resolved(page: Path, target: str) -> tuple[Path, str]:
    """Return the file and the anchor to which a link leads. Raises BrokenLink."""
    name, _, anchor = target.partition("#")
    file = (page.parent / name).resolve() if name else page
    if not file.is_file():
        raise BrokenLink(f"{os.path.relpath(page)}: there is no file {target}")
    if anchor and anchor not in anchors(file):
        raise BrokenLink(f"{os.path.relpath(page)}: there is no heading {target}")
    return file, anchor


def site_page(page: Path, repository: str) -> str:
    """Return the text of a page for the site. Raises BrokenLink."""

    def rewritten(link: re.Match[str]) -> str:
        text, target = link["text"], link["target"]
        if _ELSEWHERE.match(target):
            return link[0]
        file, anchor = _resolved(page, target)
        hash_ = f"#{anchor}" if anchor else ""
        if file in PAGES:
            return f"[{text}]({PAGES[file]}{hash_})"
        if repository:
            return f"[{text}]({repository}/{file.relative_to(ROOT)}{hash_})"
        return text

    return _ROW.sub(_without_escapes, _LINK.sub(rewritten, page.read_text()))


def _without_escapes(row: re.Match[str]) -> str:
    """Return a row of a table for Python-Markdown: it shows the backslash in `a\\|b`."""
    return _CODE.sub(lambda code: code[0].replace(r"\|", "|"), row[0])


def write_site(folder: Path, repository: str) -> None:
    """Write all pages, and the configuration of Zensical, to `folder`. Raises BrokenLink."""
    texts = {name: site_page(page, repository) for page, name in PAGES.items()}
    pages = folder / "pages"
    # What is left of an earlier run could be a page that does not exist any more.
    shutil.rmtree(pages, ignore_errors=True)
    pages.mkdir(parents=True)
    for name, text in texts.items():
        (pages / name).write_text(text)
    shutil.copy(STYLE, pages)
    shutil.copy(CONFIGURATION, folder)


if __name__ == "__main__":
    try:
        write_site(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")
    except BrokenLink as broken:
        sys.exit(f"make docs: {broken}")
