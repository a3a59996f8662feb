"""The zygotes of one service (`--preload on`): one for each generation.

The zygote of a generation starts when the first of its reactors is wanted, and serves as long as
the generation: a reactor that dies or is spent is replaced from it, with the code that it has
imported. A zygote that has died is replaced when the next reactor is wanted.
"""

from __future__ import annotations

from collections.abc import Callable

from reactor_run.frontend.loop.epoll import Loop
from reactor_run.frontend.reactors.process import Command
from reactor_run.frontend.reactors.zygote import Zygote, ZygoteState

__all__ = ["Preload", "adopt_forked_reactors"]


def adopt_forked_reactors() -> None:
    """Become the parent of the processes that zygotes fork and give away (prctl(2))."""
    import ctypes  # imported here, because that takes a while and is seldom needed

    pr_set_child_subreaper = 36
    ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1)


class Preload:
    """The zygote of the generation that serves, and that of the one which starts for a reload."""

    def __init__(
        self,
        loop: Loop,
        command: Callable[[int], Command],
        directory: Callable[[], str | None],
    ) -> None:
        """`command`: makes the command line of a zygote from the descriptor of its channel.
        `directory`: returns where a zygote that is started now works."""
        self._loop = loop
        self._command = command
        self._directory = directory
        self._serving: Zygote | None = None
        self._next: Zygote | None = None
        self._alive: list[Zygote] = []

    def zygote(self, *, serving: bool) -> Zygote | None:
        """Return the zygote that forks a reactor; None: the app cannot be preloaded.

        `serving`: for the generation that serves, otherwise for the next one. Raises OSError.
        """
        zygote = self._serving if serving else self._next
        if zygote is None or zygote.state is ZygoteState.ENDED:
            zygote = Zygote(self._loop, self._command, self._directory(), self._ended)
            self._alive.append(zygote)
            if serving:
                self._serving = zygote
            else:
                self._next = zygote
        return zygote if zygote.usable else None

    @property
    def ready(self) -> bool:
        """Whether the generation that serves has a zygote that forks at once."""
        return self._serving is not None and self._serving.state is ZygoteState.READY

    def _ended(self, zygote: Zygote) -> None:
        self._alive.remove(zygote)

    def take_over(self) -> None:
        """Let the next zygote be that of the generation that serves."""
        old, self._serving, self._next = self._serving, self._next, None
        if old is not None:
            old.end()

    def give_up_next(self) -> None:
        """End the next zygote, if there is one: the reload is over, or starts anew."""
        zygote, self._next = self._next, None
        if zygote is not None:
            zygote.end()

    def give_up_on(self, name: str, seconds: float) -> None:
        """Kill the zygote for which a reactor has waited so many seconds in vain."""
        for zygote in self._alive:
            if name in zygote:
                zygote.give_up(f"{name} has waited for {seconds:g} s")

    @property
    def alive(self) -> list[Zygote]:
        """All zygotes whose process has not ended."""
        return [*self._alive]

    @property
    def forking(self) -> bool:
        """Whether a reactor may exist whose number is unknown yet."""
        return any(zygote.forking for zygote in self._alive)

    def end(self) -> None:
        """End all zygotes: no more reactors are wanted."""
        for zygote in self._alive:
            zygote.end()

    def see_dead(self, seconds: float) -> None:
        """Kill all zygotes, and block until they have ended, for at most `seconds` each."""
        for zygote in self._alive:
            zygote.see_dead(seconds)
