"""Which exchanges are given to another reactor when theirs has ended before it answered them.

1. An exchange that has not begun waits again, whatever its method, if all that came of its request
   is still here. It had no effect. Its reactor may have died of reading it, so DEATHS_MAX times is
   enough.
2. One whose answer the client knows something of, be it an interim answer, is never replayed.
3. Any other may have begun: it is replayed if its method says that this does no harm (RFC 9110
   §9.2), if all that came of its request is still here, and if this is the first time. A request
   that has been at the death of two reactors may be the cause of it.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Final

from reactor_run.frontend.exchanges.exchange import Exchange
from reactor_run.frontend.log import log

__all__ = ["DEATHS_MAX", "METHODS", "may_be_replayed"]

DEATHS_MAX: Final = 5
"""Reactors that may die before they begin an exchange."""

_SAFE: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE"})
"""RFC 9110 §9.2.1."""

METHODS: Final[dict[str, frozenset[bytes]]] = {
    "safe": _SAFE,
    "idempotent": _SAFE | {b"PUT", b"DELETE"},
    "off": frozenset(),
}
"""The methods that are replayed, by the value of --replay (RFC 9110 §9.2.2)."""


def may_be_replayed(exchange: Exchange, methods: Container[bytes], *, begun: bool) -> bool:
    """Apply the rules to an exchange that waits for its answer; count this time.

    `methods`: those of requests that may run twice.
    """
    if not exchange.request:
        return False
    if not begun:
        exchange.deaths += 1
        return exchange.deaths < DEATHS_MAX
    if exchange.head.method not in methods:
        return False
    if exchange.replayed:
        log.error(
            "%s was under way in two reactors that died; it is not tried again", exchange.name
        )
        return False
    exchange.replayed = True
    return True
