"""The mask of a client's payload (RFC 6455 §5.3)."""

from __future__ import annotations

import os

import pytest

from reactor_run.native import NATIVE
from reactor_run.protocol.websocket.masking import apply_mask, xor_mask
from tests.cases import loop_over


@loop_over("size", [*range(20), 125, 65535, 65536, 65537, 200_003])
def test_both_ways_mask_as_the_rfc_says(size: int) -> None:
    data = os.urandom(size)
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))
    for way in (xor_mask, apply_mask):
        assert way(data, mask) == masked
        assert way(memoryview(data), mask) == masked
        assert way(masked, mask) == data


@pytest.mark.skipif(not NATIVE, reason="only the function in C checks it")
def test_a_mask_has_four_bytes() -> None:
    for mask in b"", b"123", b"12345":
        with pytest.raises((TypeError, ValueError)):
            apply_mask(b"data", mask)
