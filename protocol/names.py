"""A bounded cache of field names: what the app sees for each name as sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

__all__ = ["FieldNameCache"]

_Shown = TypeVar("_Shown")


class FieldNameCache(dict[bytes, _Shown]):
    """What the app sees for a field name as sent. cache[name] calls `translate` once per spelling.

    Clients can invent names, so the cache is bounded: it holds MAX_NAMES names of at most MAX_SIZE
    bytes. Longer names are translated each time. A full cache is emptied and fills again with the
    names in use. If a full cache rejected new names instead, one client could fill it for good.

    The extension in C has a class of its own for this (`Names` in native.py).
    """

    __slots__ = ("_translate",)

    MAX_NAMES: Final = 1024
    MAX_SIZE: Final = 64

    def __init__(self, translate: Callable[[bytes], _Shown]) -> None:
        super().__init__()
        self._translate = translate

    def __missing__(self, name: bytes) -> _Shown:
        shown = self._translate(name)
        if len(name) <= self.MAX_SIZE:
            if len(self) >= self.MAX_NAMES:
                self.clear()
            self[name] = shown
        return shown
