"""Reads the certificates again when their files change, and warns before they expire.

The files are looked at every few seconds, and on SIGHUP. A file counts as changed if its path leads
to another file, or if the file was written: so does a symlink that is swapped, as Kubernetes does
it. So does a file that has got other permissions or another owner: perhaps it can be read only
since. The new files are read as a whole. If they cannot be used, the old certificates stay, and the
log says why. So does the status until it succeeds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, Final

from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.log import log
from reactor_run.frontend.loop.epoll import Loop, Timer
from reactor_run.frontend.tls.credentials import Credentials, TlsOptions, load_credentials
from reactor_run.frontend.tls.identity import Identity, date_of

__all__ = ["Renewal", "is_due"]

_EVERY: Final = 5.0
"""Seconds between two looks at the files."""
_DAY: Final = 86400.0
_DUE: Final = 14 * _DAY
"""Seconds before the end of a certificate from which on the log warns."""

Print = tuple[tuple[str, int, int, int, int] | str, ...]
"""What tells whether files have changed: of each the path without links, device, inode, size and
time of change, also of its permissions; or why it cannot be found."""


class Renewal:
    """The certificates of the service, kept up to date."""

    def __init__(
        self, loop: Loop, options: TlsOptions, apply: Callable[[Credentials], None]
    ) -> None:
        """Read the certificates for the first time. Raises OperatorError.

        `apply`: called with new credentials.
        """
        self._loop = loop
        self._options = options
        self._apply = apply
        self._timer = Timer(self._look)
        self._print = _print_of(options.files)
        self.credentials = load_credentials(options)
        self.failure = ""
        """Why the last files could not be used; empty: the last ones are in use."""
        self.reloads = 0
        """How often new certificates were taken into use."""
        self.failures = 0
        """How often new files could not be used."""
        self._warn_at: dict[str, float] = {}
        """By file: when the log may warn again, in seconds of the loop's clock."""

    def begin(self) -> None:
        """Look at the files from now on."""
        self._warn()
        self._loop.set_deadline(self._timer, _EVERY)

    def reload(self) -> None:
        """Read files that have changed, and those that could not be used: SIGHUP."""
        self._read(again=bool(self.failure))

    def report(self) -> dict[str, Any]:
        """Return what the status tells, ready for JSON."""
        return {
            "certificates": [
                {
                    "file": each.certfile,
                    "names": list(each.names),
                    "expires": each.certificate.not_after,
                }
                for each in self.credentials.identities
            ],
            "reloads": self.reloads,
            "failure": self.failure or None,
        }

    def _look(self) -> None:
        self._loop.set_deadline(self._timer, _EVERY)
        self._read()
        self._warn()

    def _read(self, *, again: bool = False) -> None:
        # Before the files are read: if they change meanwhile, the next look reads them again.
        found = _print_of(self._options.files)
        if found == self._print and not again:
            return
        self._print = found
        try:
            self.credentials = load_credentials(self._options)
        except OperatorError as error:
            self.failure = str(error)
            self.failures += 1
            log.error("the old certificates stay in use: %s", error)
            return
        self.failure = ""
        self.reloads += 1
        self._warn_at.clear()
        self._apply(self.credentials)
        for each in self.credentials.identities:
            until = date_of(each.certificate.not_after)
            log.info("%s was read again, valid until %s", each.certfile, until)

    def _warn(self) -> None:
        """Log once a day which certificates expire soon."""
        now = time.time()
        for identity in self.credentials.identities:
            path = identity.certfile
            if self._warn_at.get(path, 0.0) > self._loop.now or not is_due(identity, now):
                continue
            self._warn_at[path] = self._loop.now + _DAY
            end = identity.certificate.not_after
            if end <= now:
                log.error("the certificate in %s expired on %s; renew it", path, date_of(end))
            else:
                log.warning(
                    "the certificate in %s expires on %s, in %.1f days; renew it",
                    path,
                    date_of(end),
                    (end - now) / _DAY,
                )


def is_due(identity: Identity, now: float) -> bool:
    """Return whether a certificate should have been renewed: 14 days before its end.

    Of one that is valid for less than six weeks, it is the last third of that time.
    """
    valid = identity.certificate.not_after - identity.certificate.not_before
    return identity.certificate.not_after - now < min(_DUE, valid / 3)


def _print_of(paths: list[str]) -> Print:
    found: list[tuple[str, int, int, int, int] | str] = []
    for path in paths:
        try:
            status = os.stat(path)
        except OSError as error:
            found.append(f"{path}: {error.strerror}")
            continue
        device, inode = status.st_dev, status.st_ino
        found.append((os.path.realpath(path), device, inode, status.st_size, status.st_ctime_ns))
    return tuple(found)
