"""What is decided by names: media types, codings, and which file a path names."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from reactor_run.frontend.static.beneath import OpenFile
from reactor_run.frontend.static.codings import accepted_codings
from reactor_run.frontend.static.conditions import parse_http_date
from reactor_run.frontend.static.lookup import FileEntry, Lookup, NeedsSlash
from reactor_run.frontend.static.media_types import media_type


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"index.html", b"text/html; charset=utf-8"),
        (b"a/b.c/x.JS", b"text/javascript; charset=utf-8"),
        (b"x.mjs", b"text/javascript; charset=utf-8"),
        (b"x.css", b"text/css; charset=utf-8"),
        (b"x.json", b"application/json"),
        (b"x.svg", b"image/svg+xml"),
        (b"x.woff2", b"font/woff2"),
        (b"x.wasm", b"application/wasm"),
        (b"x.ts", b"video/mp2t"),
        (b"x.tar.gz", b"application/gzip"),
        (b"x.doc", b"application/msword"),
        (b"x.unknown", b"application/octet-stream"),
        (b"x.\xff", b"application/octet-stream"),
        (b"LICENSE", b"application/octet-stream"),
        (b"a.html/b", b"application/octet-stream"),
    ],
)
def test_media_types(name: bytes, expected: bytes) -> None:
    assert media_type(name).value == expected


def test_some_types_shrink() -> None:
    names = [
        b"x.html",
        b"x.svg",
        b"x.json",
        b"x.wasm",
        b"x.rss",
        b"x.png",
        b"x.woff2",
        b"x.gz",
        b"x",
    ]
    assert [media_type(name).compressible for name in names] == [True] * 5 + [False] * 4


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("", ""),
        ("gzip", "gzip"),
        ("x-gzip", "gzip"),
        ("GZIP", "gzip"),
        ("gzip, deflate, br, zstd", "br zstd gzip"),
        ("gzip;q=1.0, br;q=0.9", "gzip br"),
        ("gzip;q=0.5,br;q=0.5", "br gzip"),
        ("br;q=0, gzip", "gzip"),
        ("br; q=0.000, gzip ; q=0.001", "gzip"),
        ("*", "br zstd gzip"),
        ("*;q=0", ""),
        ("gzip;q=0, *", "br zstd"),
        ("gzip, *;q=0", "gzip"),
        ("identity", ""),
        ("identity, gzip;q=0.5", ""),
        ("identity;q=0.5, gzip", "gzip"),
        ("identity;q=0, br", "br"),
        ("gzip;q=2, br;q=x, zstd", "zstd"),
        ("gzip;level=9", ""),
        (",,gzip,,", "gzip"),
        (",".join(["deflate"] * 40 + ["gzip"]), ""),
    ],
)
def test_codings(field: str, expected: str) -> None:
    assert b" ".join(accepted_codings(field.encode())).decode() == expected


class Files:
    """A directory with files of these names, and nothing else."""

    def __init__(self, *names: str, locked: Sequence[str] = ()) -> None:
        """`locked`: those that may not be read."""
        self.names = names
        self.locked = locked
        self.tried: list[str] = []

    def open(self, name: bytes) -> OpenFile:
        text = name.decode()
        self.tried.append(text)
        if text in self.locked:
            raise PermissionError
        if text in self.names:
            return OpenFile(-1, 0, 0)
        if any(each.startswith(text + "/") for each in self.names):
            raise IsADirectoryError
        raise FileNotFoundError


FILES = ("index.html", "a.js", "a.js.br", "a.js.gz", "b.png", "b.png.gz", "d/index.html", "e/x.js")


def lookup(index: str = "index.html", fallback: str = "", *, compressed: bool = True) -> Lookup:
    return Lookup(index, fallback, (("d/*", "d"), ("*.js", "js")), compressed=compressed)


def find(path: str, rules: Lookup, codings: str = "") -> str:
    files = Files(*FILES)
    plan = rules.plan(tuple(part.encode() for part in path.split("/")))
    if plan is None:
        return "nothing"
    try:
        found = rules.find(plan, [coding.encode() for coding in codings.split()], files.open)
    except FileNotFoundError:
        return "nothing"
    except NeedsSlash:
        return "slash"
    return " ".join([found.entry.name.decode(), found.coding.decode()]).strip()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", "index.html"),
        ("a.js", "a.js"),
        ("d", "slash"),
        ("d/", "d/index.html"),
        ("e", "slash"),
        ("e/", "nothing"),
        ("e/x.js", "e/x.js"),
        ("nothing", "nothing"),
        ("/a.js", "nothing"),
        ("e//x.js", "nothing"),
        (".", "nothing"),
        ("..", "nothing"),
        ("e/..", "nothing"),
        ("e/../a.js", "nothing"),
        ("./a.js", "nothing"),
        (".git/x", "nothing"),
        ("e/.x.js", "nothing"),
    ],
)
def test_which_file_a_path_names(path: str, expected: str) -> None:
    assert find(path, lookup()) == expected


def test_what_no_file_can_be_called() -> None:
    for segment in b"a/b", b"a\0b", b"..", b".", b".env":
        assert lookup().plan((segment,)) is None
        assert lookup().plan((segment, b"a")) is None
    assert lookup().plan((b".well-known", b"x")) is not None


def test_without_an_index() -> None:
    assert find("", lookup("")) == "nothing"
    assert find("d", lookup("")) == "nothing"
    assert find("d/", lookup("")) == "nothing"


def test_a_fallback() -> None:
    rules = lookup(fallback="index.html")
    for path in "users", "users/7", "users/", "e/", "v1.2/x":
        assert find(path, rules) == "index.html"
    for path in "users.js", "e/y.png", "../x", "e//x":
        assert find(path, rules) == "nothing"
    assert find("d", rules) == "slash"
    assert find("x", lookup(fallback="gone.html")) == "nothing"
    assert find("d", lookup("", "index.html")) == "index.html"


def test_compressed_files() -> None:
    assert find("a.js", lookup(), "br gzip") == "a.js br"
    assert find("a.js", lookup(), "zstd gzip") == "a.js gzip"
    assert find("a.js", lookup(), "zstd") == "a.js"
    assert find("b.png", lookup(), "gzip") == "b.png"
    assert find("a.js", lookup(compressed=False), "gzip") == "a.js"


def test_a_compressed_file_that_may_not_be_read() -> None:
    rules = lookup()
    plan = rules.plan((b"a.js",))
    assert plan is not None
    files = Files(*FILES, locked=["a.js.br"])
    assert rules.find(plan, [b"br", b"gzip"], files.open).coding == b"gzip"
    files = Files(*FILES, locked=["a.js.br", "a.js.gz"])
    assert rules.find(plan, [b"br", b"gzip"], files.open).coding == b""
    files = Files(*FILES, locked=["a.js.br", "a.js"])
    with pytest.raises(PermissionError):
        rules.find(plan, [b"br"], files.open)


def fields_of(rules: Lookup, path: str, coding: str = "") -> dict[bytes, bytes]:
    plan = rules.plan(tuple(part.encode() for part in path.split("/")))
    assert plan is not None
    assert plan.first is not None
    return dict(plan.first.fields(OpenFile(-1, 10, 5_000_000_000), coding.encode()))


def test_fields() -> None:
    assert fields_of(lookup(), "a.js", "br") == {
        b"content-type": b"text/javascript; charset=utf-8",
        b"content-encoding": b"br",
        b"accept-ranges": b"bytes",
        b"etag": b'"12a05f200-a-br"',
        b"last-modified": b"Thu, 01 Jan 1970 00:00:05 GMT",
        b"cache-control": b"js",
        b"vary": b"accept-encoding",
    }
    assert b"cache-control" not in fields_of(lookup(), "b.png")
    assert b"vary" not in fields_of(lookup(), "b.png")
    assert b"vary" not in fields_of(lookup(compressed=False), "a.js")
    assert fields_of(lookup(), "d/a.js")[b"cache-control"] == b"d"


def test_no_time_in_the_future_is_told() -> None:
    now = int(time.time())
    file = OpenFile(-1, 1, (now + 1_000_000) * 1_000_000_000)
    fields = dict(FileEntry(b"a.js", None, compressed=True).fields(file, b""))
    told = parse_http_date(fields[b"last-modified"])
    assert told is not None
    assert now <= told <= time.time()


def test_fields_follow_the_file() -> None:
    entry = FileEntry(b"a.js", None, compressed=True)
    first = entry.fields(OpenFile(3, 1, 1), b"")
    assert entry.fields(OpenFile(4, 1, 1), b"") is first
    tags = {
        dict(entry.fields(OpenFile(3, size, modified), coding))[b"etag"]
        for size in (1, 2)
        for modified in (1, 2)
        for coding in (b"", b"br", b"gzip")
    }
    assert len(tags) == 12
