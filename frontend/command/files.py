"""The text of a file that an operator names, and the place of a fault in it."""

from __future__ import annotations

from reactor_run.frontend.errors import OperatorError

__all__ = ["place", "read_text"]


def read_text(path: str) -> str:
    """Return the text of a file in UTF-8.

    Raises OperatorError, which names the file: it cannot be read, or it is not UTF-8.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise OperatorError(f"cannot read {path}: {why}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode(errors="replace")
        where = place(before, len(before))
        raise OperatorError(
            f"{path}, {where}: not UTF-8 (byte 0x{data[error.start]:02x})"
        ) from None


def place(text: str, index: int) -> str:
    """Return the place of a character in a text, as `line 2, column 5`. Both count from 1."""
    before = text[:index]
    return f"line {before.count(chr(10)) + 1}, column {index - before.rfind(chr(10))}"
