"""The place of a fault in a file of the operator, and TOML with such places."""

from __future__ import annotations

from typing import Any

__all__ = ["parse_toml", "place"]


def place(text: str, index: int) -> str:
    """Return the place of a character in a text, as `line 2, column 5`. Both count from 1."""
    before = text[:index]
    return f"line {before.count(chr(10)) + 1}, column {index - before.rfind(chr(10))}"


def parse_toml(path: str, text: str) -> dict[str, Any]:
    """Return the content of a TOML file.

    Raises ValueError, whose text is one line and names the file and the place.
    """
    # Importing the parser takes 13 ms.
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message, _, where = str(error).rpartition(" (at ")
        where = where.removesuffix(")")
        if where == "end of document":
            where = place(text, len(text))
        raise ValueError(f"{path}, {where}: {message}") from None
