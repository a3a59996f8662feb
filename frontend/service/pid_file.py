"""The file with the front end's process number (`--pid-file`).

A front end that takes over from another one replaces the file before the other one ends. Each
removes the file at its end only if its own number is in it. So after an upgrade the file stays.
"""

from __future__ import annotations

import os

from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.log import log

__all__ = ["PidFile"]


class PidFile:
    """The file of one front end."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._written = False

    def write(self) -> None:
        """Write the file, or replace it: a process number in it proves nothing, because another
        process may have that number by now.

        Raises OperatorError if it cannot be written.
        """
        # A reader never sees a part of the number.
        new = f"{self._path}.{os.getpid()}"
        try:
            with open(new, "x") as file:
                file.write(f"{os.getpid()}\n")
            try:
                os.replace(new, self._path)
            except OSError:
                os.unlink(new)
                raise
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise OperatorError(
                f"--pid-file {self._path}: cannot be written ({why}); choose another path"
            ) from None
        self._written = True

    def take_over(self) -> None:
        """Replace the file of the front end before this one. A failure is logged: the service
        serves already."""
        try:
            self.write()
        except OperatorError as error:
            log.error("%s", error)

    def remove(self) -> None:
        """Remove the file if this process has written it last."""
        if not self._written:
            return
        try:
            with open(self._path) as file:
                number = file.read(32).strip()
            if number == str(os.getpid()):
                os.unlink(self._path)
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            log.warning("cannot remove %s: %s", self._path, error)
