"""The sets of accepted values: clients cannot make them grow."""

from __future__ import annotations

from reactor_run.protocol.seen import SEEN_MAX, SEEN_SIZE, remember


def test_invented_values_do_not_make_it_grow() -> None:
    seen: set[bytes] = set()
    for number in range(3 * SEEN_MAX):
        remember(seen, b"%d" % number)
        assert b"%d" % number in seen
        assert len(seen) <= SEEN_MAX


def test_long_values_are_not_remembered() -> None:
    seen: set[bytes] = set()
    remember(seen, b"a" * SEEN_SIZE)
    remember(seen, b"b" * (SEEN_SIZE + 1))
    assert seen == {b"a" * SEEN_SIZE}
