"""What an operator changes while the service runs: reload, scale, maintenance, new log files.

Signals and the admin listener call the same methods.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from reactor_run.frontend.access_log.access_log import AccessLog
from reactor_run.frontend.log import log
from reactor_run.frontend.reactors.generation import Told, ignore_outcome
from reactor_run.frontend.service.lifecycle import Lifecycle
from reactor_run.frontend.service.pool import Pool, Pools

if TYPE_CHECKING:
    from reactor_run.frontend.tls.renewal import Renewal

__all__ = ["Commands"]


class Commands:
    """The commands of an operator to one service."""

    def __init__(
        self,
        pools: Pools,
        lifecycle: Lifecycle,
        certificates: Renewal | None,
        access_log: AccessLog | None,
        state_changed: Callable[[], None],
    ) -> None:
        """`certificates`, `access_log`: None: the service has none. `state_changed`: called when
        something is different that an upgrade hands over."""
        self._pools = pools
        self._lifecycle = lifecycle
        self._certificates = certificates
        self._access_log = access_log
        self._state_changed = state_changed

    def reload(self, then: Told = ignore_outcome, name: str = "") -> str | None:
        """Start a new generation beside the one that serves. `then` is called with the outcome.

        `name`: of one app; empty: all apps. Returns why that is not possible, without a call of
        `then`, or None.
        """
        pools = [pool for pool in self._pools if name in ("", pool.name)]
        if not pools:
            return self._unknown(name)
        self.reopen_logs()
        if self._certificates is not None:
            self._certificates.reload()
        if self._lifecycle.stopping:
            log.warning("reload rejected: the service is stopping")
            then("the service is stopping")
        elif len(pools) == 1:
            pools[0].supervisor.reload(then)
        else:
            outcomes: dict[str, str | None] = {}

            def told(pool: Pool, outcome: str | None) -> None:
                outcomes[pool.name] = outcome
                if len(outcomes) == len(pools):
                    failures = [f"{each}: {why}" for each, why in outcomes.items() if why]
                    then("; ".join(failures) or None)

            for pool in pools:
                pool.supervisor.reload(partial(told, pool))
        return None

    def _unknown(self, name: str) -> str:
        return f"there is no app {name!r}; the apps are {', '.join(p.name for p in self._pools)}"

    def scale(self, name: str, wanted: int) -> str | None:
        """Change the number of reactors of an app; return why that is not possible, or None."""
        pool = self._pools.named(name) if name else self._pools[0]
        if pool is None:
            return self._unknown(name)
        pool.scale(wanted)
        self._state_changed()
        return None

    def reopen_logs(self) -> str | None:
        """Open the log files anew, after a rotation; return why that failed, or None."""
        failure = None if self._access_log is None else self._access_log.reopen()
        if failure is not None:
            log.error(
                "the old log file stays in use, since the new one cannot be opened: %s", failure
            )
        return failure

    def maintain(self, text: str | None, name: str = "") -> str | None:
        """Reject the requests of apps with 503 and this text from now on; None: no more.

        `name`: of one app; empty: all apps. Returns why that is not possible, or None.
        """
        pools = [pool for pool in self._pools if name in ("", pool.name)]
        if not pools:
            return self._unknown(name)
        which = f"of {name}" if name else "of the app" if len(self._pools) == 1 else "of all apps"
        if text is not None:
            shown = text and f" ({text})"
            log.warning("maintenance is on: requests %s get 503%s", which, shown)
        elif any(pool.entry.maintenance is not None for pool in pools):
            log.info("maintenance is off: requests %s are answered", which)
        for pool in pools:
            pool.entry.maintain(text)
        self._state_changed()
        return None
