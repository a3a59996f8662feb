"""The caches of field names, in Python (protocol/names.py) and in C (protocol/_head.c)."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeAlias

import pytest

from reactor_run.protocol._head import Names
from reactor_run.protocol.names import FieldNameCache

MAX_SIZE = FieldNameCache.MAX_SIZE
MAX_NAMES = FieldNameCache.MAX_NAMES

Cache: TypeAlias = "Callable[[Callable[[bytes], bytes]], FieldNameCache[bytes] | Names[bytes]]"

each_cache = pytest.mark.parametrize("cache", [FieldNameCache, Names], ids=["Python", "C"])


class Translation:
    """Translates to lower case, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def __call__(self, name: bytes) -> bytes:
        self.asked.append(name)
        return name.lower()


@each_cache
def test_a_name_is_translated_once(cache: Cache) -> None:
    translate = Translation()
    names = cache(translate)
    for _ in range(3):
        assert names[b"Accept"] == b"accept"
        assert names[b"accept"] == b"accept"
        assert names[b""] == b""
    assert translate.asked == [b"Accept", b"accept", b""]


@each_cache
def test_names_that_are_alike_are_told_apart(cache: Cache) -> None:
    names = cache(bytes.lower)
    alike = [b"X" * size for size in range(1, MAX_SIZE + 2)]
    alike += [b"Sec-Fetch-%c-And-More" % letter for letter in b"ABCDEFGH"]
    for _ in range(2):
        for name in alike:
            assert names[name] == name.lower()


@each_cache
def test_a_long_name_is_translated_each_time(cache: Cache) -> None:
    translate = Translation()
    names = cache(translate)
    longest, longer = b"X" * MAX_SIZE, b"X" * (MAX_SIZE + 1)
    for _ in range(2):
        assert names[longest] == longest.lower()
        assert names[longer] == longer.lower()
    assert translate.asked == [longest, longer, longer]


@each_cache
def test_invented_names_do_not_make_it_grow(cache: Cache) -> None:
    class Shown(bytes):
        pass

    def kept() -> int:
        return sum(
            type(item) is Shown for item in gc.get_referents(names, *gc.get_referents(names))
        )

    names = cache(Shown)
    for number in range(5 * MAX_NAMES):
        assert names[b"N%d" % number] == b"N%d" % number
    assert MAX_NAMES / 4 < kept() <= MAX_NAMES


@each_cache
def test_invented_names_do_not_keep_real_ones_out(cache: Cache) -> None:
    translate = Translation()
    names = cache(translate)
    for number in range(3 * MAX_NAMES):
        assert names[b"N%d" % number] == b"n%d" % number
    for _ in range(2):
        assert names[b"Accept"] == b"accept"
    assert translate.asked.count(b"Accept") == 1


@each_cache
def test_an_error_of_the_translation_is_not_remembered(cache: Cache) -> None:
    def translate(name: bytes) -> bytes:
        failures.append(name)
        if len(failures) == 1:
            raise ZeroDivisionError
        return name

    failures: list[bytes] = []
    names = cache(translate)
    with pytest.raises(ZeroDivisionError):
        names[b"X"]
    assert names[b"X"] == b"X"


@each_cache
def test_a_translation_may_ask_for_other_names(cache: Cache) -> None:
    """As another thread does, which runs while Python code translates."""

    def translate(name: bytes) -> bytes:
        if len(name) < MAX_SIZE:
            assert names[name + b"x"] == (name + b"x").lower()
        return name.lower()

    names = cache(translate)
    for _ in range(2):
        assert names[b"A"] == b"a"


@each_cache
def test_it_is_freed_with_its_translation(cache: Cache) -> None:
    class Translate:
        def __call__(self, name: bytes) -> bytes:
            return name

    translate = Translate()
    # A cycle: the translation holds the cache.
    translate.names = names = cache(translate)  # type: ignore[attr-defined]
    assert names[b"X"] == b"X"
    del translate, names
    gc.collect()
    assert [item for item in gc.get_objects() if type(item) is Translate] == []
