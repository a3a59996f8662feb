"""The front end's end of the process that watches files (watcher.py): its start, lines and end."""

from __future__ import annotations

import json
import os
import select
import subprocess
from collections.abc import Callable, Sequence
from typing import Final

from reactor_run.frontend.launch import StartDirectory, explain
from reactor_run.frontend.log import log
from reactor_run.frontend.loop.epoll import Loop, Timer
from reactor_run.interpreter import interpreter_options

__all__ = ["FileWatch"]

_AGAIN: Final = 2.0
"""Seconds before the next start of a watcher that has ended."""


class FileWatch:
    """The watcher of the files of one app."""

    def __init__(
        self,
        loop: Loop,
        place: StartDirectory,
        dirs: Sequence[str],
        include: Sequence[str],
        exclude: Sequence[str],
        on_change: Callable[[list[str]], None],
    ) -> None:
        """`dirs`: the directories, as given at the start. `include`, `exclude`: see patterns.py.
        `on_change`: called with the names of what has changed, as seen from `place`."""
        self._loop = loop
        self._place = place
        self._dirs = dirs
        self._patterns = {"include": include, "exclude": exclude}
        self._on_change = on_change
        self._process: subprocess.Popen[bytes] | None = None
        self._partial = b""
        self._again = Timer(self.begin)
        self._may_have_missed = False
        """A watcher has ended. What changed before the next one watches is not known."""

    @property
    def pid(self) -> int:
        """The number of the watcher's process; 0 without one."""
        return self._process.pid if self._process is not None else 0

    def begin(self) -> None:
        """Start the watcher. If that is impossible, it is logged, and tried again."""
        task = {"dirs": [self._place.locate(path) for path in self._dirs], **self._patterns}
        python = [self._place.interpreter, *interpreter_options(), "-P"]
        try:
            self._process = subprocess.Popen(
                [*python, "-m", "reactor_run.frontend.reloading.watcher", json.dumps(task)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=self._place.enter(),
                # Ctrl-C in a terminal is for the front end.
                process_group=0,
            )
        except OSError as error:
            self._retry(f"cannot watch files: {explain(error)}")
            return
        assert self._process.stdout is not None
        self._loop.watch(self._process.stdout.fileno(), select.EPOLLIN, self._on_output)

    def _on_output(self, _: int) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        data = os.read(self._process.stdout.fileno(), 65536)
        if not data:
            self.end()
            self._retry("the process that watches files has ended")
            return
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            match json.loads(line):
                case {"changed": changed}:
                    self._on_change([self._place.shorten(path) for path in changed])
                case {"watching": dirs}:
                    log.info("watching %s for changes", ", ".join(dirs))
                    if self._may_have_missed:
                        self._may_have_missed = False
                        self._on_change([self._place.shorten(path) for path in dirs])
                case {"failed": why}:
                    if not self._may_have_missed:
                        # Otherwise it was said after the first try.
                        log.error("cannot watch files: %s", why)

    def _retry(self, why: str) -> None:
        if not self._may_have_missed:
            self._may_have_missed = True
            log.error("%s; it is tried again every %g s", why, _AGAIN)
        self._loop.set_deadline(self._again, _AGAIN)

    def end(self) -> None:
        """End the watcher."""
        self._loop.forget(self._again)
        process, self._process = self._process, None
        self._partial = b""
        if process is not None:
            assert process.stdin is not None
            assert process.stdout is not None
            self._loop.unwatch(process.stdout.fileno())
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()
