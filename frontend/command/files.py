"""The text of a file that an operator names."""

from __future__ import annotations

from reactor_run.frontend.errors import OperatorError
from reactor_run.toml_text import place

__all__ = ["read_text"]


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
