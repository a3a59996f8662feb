"""`reactor-run config`: each setting in force, and where it was written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from reactor_run.frontend.command.settings import OPTIONS

__all__ = ["table"]


def table(values: Mapping[str, Any], sources: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of the table: the key of each setting, its value, its source.

    `values` and `sources`: of those that are not defaults, by the name of the setting.
    """
    rows = [("SETTING", "VALUE", "SOURCE")]
    for option in OPTIONS:
        value = option.show(values.get(option.name, option.default))
        source = sources.get(option.name, "default")
        if option.positional:
            value = value or "none"
            source = "command line" if source == option.flag else source
        rows.append((option.key, value, source))
    keys, shown, _ = (max(map(len, column)) for column in zip(*rows, strict=True))
    for key, value, source in rows:
        yield f"{key:{keys}}  {value:{shown}}  {source}"
