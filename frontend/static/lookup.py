"""Which file a path names, in the order in which names are tried.

    /a/b      a/b.br, a/b.zst, a/b.gz as the client accepts them, then a/b
    /a/       the index file of a, in the same way
    /a        if a is a directory, and there are index files: a redirect to /a/
    else      the fallback file, if there is one and the last segment has no dot

Names that begin with a dot are not served, except .well-known (RFC 8615): they are those of secrets
and of version control.
"""

from __future__ import annotations

import fnmatch
import re
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from reactor_run.clock import http_date
from reactor_run.frontend.static.beneath import OpenFile
from reactor_run.frontend.static.codings import EXTENSIONS
from reactor_run.frontend.static.media_types import media_type

__all__ = ["FileEntry", "FoundFile", "Lookup", "NeedsSlash", "Plan"]

Fields = tuple[tuple[bytes, bytes], ...]

_WELL_KNOWN: Final = b".well-known"


class NeedsSlash(Exception):
    """The path names a directory, and has no slash at its end."""


class FileEntry:
    """A file that may exist, by its path in the directory, and what is known of it by its name.

    compressible: a file that was compressed before may stand for it.
    """

    __slots__ = ("_cache", "_content_type", "_described", "compressible", "name")

    def __init__(self, name: bytes, cache: bytes | None, *, compressed: bool) -> None:
        """`cache`: the value of Cache-Control; None: no such field."""
        media = media_type(name)
        self.name = name
        self.compressible = compressed and media.compressible
        self._content_type = media.value
        self._cache = cache
        self._described: dict[bytes, tuple[int, int, Fields]] = {}
        """Time, size and fields of the file as it was last seen, by its coding."""

    def fields(self, file: OpenFile, coding: bytes) -> Fields:
        """Return the fields of an answer with all of the file.

        Those of the last version are kept: to make them takes longer than to read a small file.
        """
        known = self._described.get(coding)
        if known is not None and known[0] == file.modified and known[1] == file.size:
            return known[2]
        fields = (
            (b"content-type", self._content_type),
            *(((b"content-encoding", coding),) if coding else ()),
            (b"accept-ranges", b"bytes"),
            *self.validators(file, coding),
        )
        self._described[coding] = file.modified, file.size, fields
        return fields

    def validators(self, file: OpenFile, coding: bytes) -> Fields:
        """Return the fields that an answer without the file has too (RFC 9110 §15.4.5)."""
        # A time in the future must not be told (RFC 9110 §8.8.2.1).
        modified = http_date(min(file.modified // 1_000_000_000, int(time.time()))).encode()
        fields = [(b"etag", tag_of(file, coding)), (b"last-modified", modified)]
        if self._cache is not None:
            fields.append((b"cache-control", self._cache))
        if self.compressible:
            fields.append((b"vary", b"accept-encoding"))
        return tuple(fields)


class FoundFile(NamedTuple):
    """An open file. coding: its content coding; empty: none."""

    file: OpenFile
    entry: FileEntry
    coding: bytes


class Plan(NamedTuple):
    """What is tried for one path.

    first: None: nothing is, but the fallback.
    is_directory: the path ends with a slash.
    compressible: it matters which codings the client accepts.
    """

    first: FileEntry | None
    is_directory: bool
    fallback: FileEntry | None
    compressible: bool


class Lookup:
    """The rules of one directory."""

    def __init__(
        self,
        index_file: str,
        fallback_file: str,
        cache: tuple[tuple[str, str], ...],
        *,
        compressed: bool,
    ) -> None:
        """`index_file`, `fallback_file`: names in the directory; empty: none. `cache`: patterns of
        names, and values of Cache-Control. `compressed`: files that were compressed before may be
        sent."""
        self._index = index_file.encode(errors="surrogateescape")
        self._cache = [
            (re.compile(fnmatch.translate(pattern).encode()), value.encode("latin-1"))
            for pattern, value in cache
        ]
        self._compressed = compressed
        fallback = fallback_file.encode(errors="surrogateescape")
        self._fallback = self._entry(fallback) if fallback else None

    def _entry(self, name: bytes) -> FileEntry:
        cache = next((value for pattern, value in self._cache if pattern.match(name)), None)
        return FileEntry(name, cache, compressed=self._compressed)

    def plan(self, segments: tuple[bytes, ...]) -> Plan | None:
        """Return what to try for a path, by its decoded segments behind the prefix; None: nothing
        can be there."""
        *parents, last = segments
        if not all(map(_may_be_served, parents)) or (last and not _may_be_served(last)):
            return None
        name = b"/".join(segments) if last else b"/".join((*parents, self._index))
        first = self._entry(name) if last or self._index else None
        fallback = None if b"." in last else self._fallback
        compressible = any(entry is not None and entry.compressible for entry in (first, fallback))
        return Plan(first, not last, fallback, compressible)

    def find(
        self, plan: Plan, codings: Sequence[bytes], open_file: Callable[[bytes], OpenFile]
    ) -> FoundFile:
        """Return the file for a path, open. `codings`: what the client accepts, the best first.

        Raises FileNotFoundError, NeedsSlash, and what `open_file` raises. An error that is no sign
        of a missing file ends the search: else a client would get another file meanwhile. A
        compressed file that may not be read is passed over, as by nginx: the plain one is as good.
        """
        for entry in (plan.first, plan.fallback):
            if entry is None:
                continue
            if entry.compressible:
                for coding in codings:
                    try:
                        return FoundFile(open_file(entry.name + EXTENSIONS[coding]), entry, coding)
                    except (FileNotFoundError, IsADirectoryError, PermissionError):
                        continue
            try:
                return FoundFile(open_file(entry.name), entry, b"")
            except FileNotFoundError:
                continue
            except IsADirectoryError:
                if entry is plan.first and self._index and not plan.is_directory:
                    raise NeedsSlash from None
        raise FileNotFoundError


def tag_of(file: OpenFile, coding: bytes) -> bytes:
    """Return the entity tag of a file: of its time, its size and its coding."""
    tag = b'"%x-%x' % (file.modified, file.size)
    return tag + b"-" + coding + b'"' if coding else tag + b'"'


def _may_be_served(segment: bytes) -> bool:
    """Whether a segment can be the name of a file that is not hidden."""
    return (segment[:1] not in (b"", b".") or segment == _WELL_KNOWN) and not (
        b"/" in segment or b"\0" in segment
    )
