"""Refuses apps that have replaced parts of the standard library: gevent's and eventlet's patches.

Both replace sockets, threads, locks and epoll in the whole process. A reactor waits with epoll and
runs requests in threads. With the patches it would wait in a greenlet that no hub resumes.
"""

from __future__ import annotations

import sys

from reactor_run.reactor.log import AppFailure

__all__ = ["refuse_monkey_patches"]


def refuse_monkey_patches() -> None:
    """Raise AppFailure if the app has applied gevent's or eventlet's monkey patching.

    An app may have imported both libraries without patching anything.
    """
    gevent = sys.modules.get("gevent.monkey")
    # By module: what the patches have replaced there. It is empty before `patch_all`.
    if gevent is not None and getattr(gevent, "saved", None):
        raise AppFailure(_refusal("gevent", "gevent.monkey.patch_all()"))
    eventlet = sys.modules.get("eventlet.patcher")
    if eventlet is not None and getattr(eventlet, "already_patched", None):
        raise AppFailure(_refusal("eventlet", "eventlet.monkey_patch()"))


def _refusal(library: str, call: str) -> str:
    return (
        f"the app applies {library}'s monkey patching, which replaces the sockets and threads that "
        f"reactor-run itself uses: remove {call} and run a WSGI app with --threads, or serve this "
        f"app with gunicorn and its {library} worker"
    )
