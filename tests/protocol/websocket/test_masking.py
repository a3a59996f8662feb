"""The mask of a client's payload (RFC 6455 §5.3)."""

from __future__ import annotations

import os
import subprocess
import sys

from websockets.speedups import apply_mask as in_c

from reactor_run.protocol.websocket import masking
from reactor_run.protocol.websocket.masking import apply_mask, xor_mask
from tests.cases import loop_over


@loop_over("size", [*range(20), 125, 65535, 65536, 65537, 200_003])
def test_both_ways_mask_as_the_rfc_says(size: int) -> None:
    data = os.urandom(size)
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))
    for way in (xor_mask, in_c):
        assert way(data, mask) == masked
        assert way(memoryview(data), mask) == masked
        assert way(masked, mask) == data


def test_c_is_used_if_it_is_there() -> None:
    assert apply_mask is in_c
    code = (
        "import sys; sys.modules['websockets.speedups'] = None\n"
        f"from {masking.__name__} import apply_mask, xor_mask\n"
        "assert apply_mask is xor_mask\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
