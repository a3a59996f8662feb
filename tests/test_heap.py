"""Memory of dropped buffers stays with the process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

BATCHES = """
import resource
from reactor_run.heap import keep_dropped_memory

keep_dropped_memory()

def batches(count):
    for _ in range(count):
        [bytes([1]) * size for size in (256_000, 270_000, *[10_000] * 25)]

batches(10)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
batches(100)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="how glibc allocates")
def test_batches_of_large_buffers_cause_no_page_faults() -> None:
    run = subprocess.run([sys.executable, "-c", BATCHES], capture_output=True, text=True)
    # If it were mapped anew, one batch alone would cause about a hundred faults.
    assert int(run.stdout) < 100, run.stderr
