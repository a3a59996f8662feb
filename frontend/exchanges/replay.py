"""Decides which exchanges of a dead reactor are retried.

1. An exchange whose client has a part of the answer is never retried. A 1xx answer counts.
2. An exchange whose request is not kept any more is never retried.
3. An exchange that has not begun is retried, whatever its method: it had no effect. DEATHS_MAX
   limits how often, since reading the request may be the cause of the deaths.
4. An exchange that may have begun is retried once, if its method allows it (RFC 9110 §9.2). A
   request that two reactors died with may be the cause of the deaths.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from reactor_run.frontend.exchanges.exchange import Exchange
from reactor_run.frontend.log import log

__all__ = ["DEATHS_MAX", "METHODS", "may_be_replayed"]

DEATHS_MAX: Final = 5
"""Deaths of reactors before they began an exchange, after which it is not retried."""

_SAFE: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})
"""The safe methods (RFC 9110 §9.2.1)."""

METHODS: Final[dict[str, frozenset[bytes]]] = {
    "safe": _SAFE,
    "idempotent": _SAFE | {b"PUT", b"DELETE"},
    "off": frozenset(),
}
"""The methods of requests that are retried, by the value of --replay (RFC 9110 §9.2.2)."""


def may_be_replayed(exchange: Exchange, methods: Container[bytes], *, begun: bool) -> bool:
    """Return whether an exchange of a dead reactor is retried, and count this death.

    `methods`: methods of requests that may run twice. `begun`: the app may have been called.
    """
    if not exchange.request:
        return False
    if not begun:
        exchange.deaths += 1
        return exchange.deaths < DEATHS_MAX
    if exchange.head.method not in methods:
        return False
    if exchange.replayed:
        log.error("%s was in flight in two reactors that died, not retrying it", exchange.name)
        return False
    exchange.replayed = True
    return True
