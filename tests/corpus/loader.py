"""The reader of the corpus files; README.md beside this file has their grammar."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from reactor_run.protocol.policy import RULES

FOLDER = Path(__file__).parent

SERVERS: dict[str, tuple[str, ...]] = {
    # Where HTTP/2 is spoken, its preface is no request line that is refused.
    "default": ("--http2=off",),
    "narrow": (
        "--limit-request-line=200",
        "--limit-field-count=10",
        "--limit-field-size=100",
        "--limit-head-size=400",
        "--max-body-size=1000",
    ),
    "normalize": ("--path-policy=normalize",),
    "pass": ("--path-policy=pass",),
    "hasty": ("--head-timeout=0.5", "--body-timeout=0.5"),
}
"""The servers that a case can name, and their options."""

Interface = Literal["asgi", "wsgi"]
INTERFACES: dict[str, Interface] = {"asgi": "asgi", "wsgi": "wsgi"}

LARGE = 3000
"""A case with at least this many bytes is not sent byte by byte."""

REPEAT_MAX = 1 << 20


class CorpusError(Exception):
    """A file of the corpus is wrong. The message says where and why."""


@dataclass(frozen=True)
class Accepted:
    """The app answered. A part that is None is not checked."""

    keep: bool
    status: int = 200
    method: str = ""
    target: str = ""
    path: str | None = None
    version: str | None = None
    fields: tuple[tuple[str, str], ...] = ()
    absent: tuple[str, ...] = ()
    body: bytes = b""


@dataclass(frozen=True)
class Refusal:
    """The server rejected the request by a rule, and closed the connection."""

    rule: str
    status: int


@dataclass(frozen=True)
class Silence:
    """The server closed the connection without an answer."""


Outcome = Accepted | Refusal | Silence


@dataclass(frozen=True)
class Case:
    """One connection: what the client sends, and what it gets."""

    file: str
    line: int
    name: str
    data: bytes = b""
    server: str = "default"
    only: Interface | None = None
    fin: bool = False
    outcomes: tuple[Outcome, ...] = field(default=())

    def __str__(self) -> str:
        return f"{self.file}: {self.name}"

    @property
    def keep(self) -> bool:
        """Whether the connection stays open afterwards."""
        last = self.outcomes[-1]
        return isinstance(last, Accepted) and last.keep

    @property
    def large(self) -> bool:
        return len(self.data) > LARGE


def load(folder: Path = FOLDER) -> list[Case]:
    """Return all cases, file by file. Raises CorpusError."""
    cases: list[Case] = []
    for path in sorted(folder.glob("*.txt")):
        cases += read_cases(path.name, path.read_text(encoding="utf-8"))
    return cases


def read_cases(file: str, text: str) -> list[Case]:
    """Return the cases of one file. Raises CorpusError."""
    cases: list[Case] = []
    names: set[str] = set()
    for number, line in enumerate(text.split("\n"), 1):
        try:
            if line.startswith("== "):
                name = line[3:].strip()
                if name in names:
                    raise ValueError(f"there is a case {name!r} above already")
                names.add(name)
                _finish(cases)
                cases.append(Case(file, number, name))
            elif line and not line.startswith("#"):
                if not cases:
                    raise ValueError("a case begins with a line `== its name`")
                cases[-1] = _add(cases[-1], line)
        except ValueError as error:
            raise CorpusError(f"{file}:{number}: {error}") from None
    _finish(cases)
    return cases


def _finish(cases: list[Case]) -> None:
    if not cases:
        return
    case = cases[-1]
    if not case.data or not case.outcomes:
        lacking = "an outcome: a line `=> ...`" if case.data else "bytes: a line `> ...`"
        raise CorpusError(f"{case.file}:{case.line}: the case {case.name!r} lacks {lacking}")
    last = case.outcomes[-1]
    if isinstance(last, Accepted) and not last.method:
        raise CorpusError(f"{case.file}:{case.line}: {case.name!r} lacks what the app `saw`")


def _add(case: Case, line: str) -> Case:
    """Return the case with one more line. Raises ValueError."""
    if not line.isascii() or not line.isprintable():
        raise ValueError(r"only printable ASCII stands in a case; write \xHH")
    if line != line.rstrip():
        raise ValueError(r"white space at the end of a line is easily lost; write \x20 or \t")
    key, _, value = line.partition(" ")
    if key == ">":
        return replace(case, data=case.data + unescape(value))
    if key == "=>":
        return replace(case, outcomes=(*case.outcomes, _outcome(case, value)))
    if key == "server":
        if value not in SERVERS:
            raise ValueError(f"no server {value!r}; there are {', '.join(SERVERS)}")
        return replace(case, server=value)
    if key == "only":
        if value not in INTERFACES:
            raise ValueError(f"only what? asgi or wsgi, not {value!r}")
        return replace(case, only=INTERFACES[value])
    if key == "fin":
        return replace(case, fin=True)
    if not case.outcomes or not isinstance(case.outcomes[-1], Accepted):
        raise ValueError(f"{key!r} stands below `=> accepted` alone, or is no keyword")
    return replace(case, outcomes=(*case.outcomes[:-1], _see(case.outcomes[-1], key, value)))


def _outcome(case: Case, text: str) -> Outcome:
    if case.outcomes:
        last = case.outcomes[-1]
        if not isinstance(last, Accepted) or not last.keep:
            raise ValueError("the connection has ended above: nothing can follow")
        if not last.method:
            raise ValueError("a line `saw METHOD TARGET` is missing above")
    match text.split():
        case ["accepted", "200", ("keep" | "close") as connection]:
            return Accepted(connection == "keep")
        case ["refused", rule, status, "close"]:
            if rule not in RULES:
                raise ValueError(f"no rule {rule!r} in protocol/policy.py")
            if status != str(RULES[rule].status):
                raise ValueError(f"{rule} answers with {RULES[rule].status}, not {status}")
            return Refusal(rule, int(status))
        case ["silence", "close"]:
            return Silence()
    raise ValueError(
        "expected `=> accepted 200 keep`, `=> accepted 200 close`, `=> refused RULE STATUS close` "
        f"or `=> silence close`, not `=> {text}`"
    )


def _see(seen: Accepted, key: str, value: str) -> Accepted:
    """Add one more thing that the app saw."""
    text = unescape(value).decode("latin-1")
    if key == "saw":
        method, _, target = text.partition(" ")
        return replace(seen, method=method, target=target)
    if key == "path":
        return replace(seen, path=unescape(value).decode("utf-8", "replace"))
    if key == "version":
        return replace(seen, version=value)
    if key == "field":
        name, colon, content = text.partition(":")
        if not colon or name != name.lower():
            raise ValueError("expected `field name: value` with the name in lower case")
        return replace(seen, fields=(*seen.fields, (name, content.strip(" "))))
    if key == "no-field":
        return replace(seen, absent=(*seen.absent, value))
    if key == "body":
        return replace(seen, body=seen.body + unescape(value))
    raise ValueError(f"no keyword {key!r}")


_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|\((.*?)\*([0-9]+)\)|([rnt0\\]))|\\|[^\\]+")
_SIMPLE = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\"}


def unescape(text: str) -> bytes:
    r"""The bytes that `text` stands for: \r \n \t \0 \\ \xHH, and \(bytes*count) for repetition.

    Raises ValueError.
    """
    return b"".join(_pieces(text))


def _pieces(text: str) -> Iterator[bytes]:
    for piece in _ESCAPE.finditer(text):
        code, repeated, count, simple = piece.groups()
        if code is not None:
            yield bytes.fromhex(code)
        elif simple is not None:
            yield _SIMPLE[simple]
        elif repeated is not None:
            content = unescape(repeated) * int(count)
            if not 0 < len(content) <= REPEAT_MAX:
                raise ValueError(f"{piece[0]} stands for {len(content)} bytes")
            yield content
        elif piece[0] == "\\":
            raise ValueError(rf"no such escape: {text[piece.start() : piece.start() + 4]}")
        else:
            yield piece[0].encode("ascii")
