"""Memory of dropped buffers stays with the process."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import pytest

from reactor_run.buffers import BUFFER_SIZE
from reactor_run.native import NATIVE
from reactor_run.pulse import BUFFERS

BATCHES = """
import json
import resource
import sys
from reactor_run.heap import keep_dropped_memory

keep_dropped_memory()
sizes = json.loads(sys.argv[1])

def batches(count):
    for _ in range(count):
        [bytes([1]) * size for size in sizes]

batches(10)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
batches(100)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="how glibc allocates")


def faults(sizes: list[int]) -> int:
    """Count the page faults of 100 batches that allocate and drop blocks of these sizes."""
    command = [sys.executable, "-c", BATCHES, json.dumps(sizes)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return int(run.stdout)


def test_batches_of_large_buffers_cause_no_page_faults() -> None:
    # If it were mapped anew, one batch alone would cause about a hundred faults.
    assert faults([256_000, 270_000, *[10_000] * 25]) < 100


@pytest.mark.skipif(not NATIVE, reason="only the extension can set how much stays")
def test_batches_of_all_pieces_of_uploads_cause_no_page_faults() -> None:
    pieces = [BUFFER_SIZE] * BUFFERS
    # One batch would cause a thousand faults.
    assert faults(pieces) < 1000
