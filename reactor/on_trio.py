"""What an app can leave behind in a worker's task on Trio: an open cancel scope or nursery.

Either shows as a cancel status that is not the worker's own. `task._cancel_status` is a private
attribute; this file is its only user.
"""

from __future__ import annotations

from typing import Any, Final

import trio

__all__ = ["TrioHygiene"]


class TrioHygiene:
    """For one worker task on Trio; made inside the worker's own cancel scope."""

    reusable_after_suspension: Final = True

    def __init__(self) -> None:
        self._task: Any = trio.lowlevel.current_task()
        self._own = self._task._cancel_status

    def snapshot(self) -> object:
        return self._task._cancel_status

    async def restore(self) -> None:
        task = self._task
        while (status := task._cancel_status) is not self._own:
            nurseries = task._child_nurseries
            if nurseries and nurseries[-1].cancel_scope is status._scope:
                # What `async with` would have done on the way out of an app that was cancelled.
                status._scope.cancel()
                await nurseries[-1]._nested_child_finished(None)
            status._scope.__exit__(None, None, None)
