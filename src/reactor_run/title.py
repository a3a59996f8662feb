"""The titles of the processes, as `ps` and `top` show them.

They need the package setproctitle (extra `proctitle`). Without it the titles are the command lines.
"""

from __future__ import annotations

import os

__all__ = ["set_title"]

_KEEP_ENVIRON = "SPT_NOENV"


def set_title(text: str) -> None:
    """Set the title of this process: `reactor-run: ` and `text`.

    It is cut to the length of the command line: a longer one would take the memory that
    /proc/PID/environ shows.
    """
    kept = os.environ.get(_KEEP_ENVIRON)
    os.environ[_KEEP_ENVIRON] = "1"
    try:
        import setproctitle
    except ImportError:
        return
    else:
        setproctitle.setproctitle(f"reactor-run: {text}")
    finally:
        if kept is None:
            del os.environ[_KEEP_ENVIRON]
