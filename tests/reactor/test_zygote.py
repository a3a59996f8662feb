"""The process between a zygote and the reactor that it forks."""

from __future__ import annotations

import subprocess
import sys

BETWEEN = """
import os
import socket
from reactor_run.reactor import fork, zygote

zygotes, theirs = socket.socketpair()
zygotes.close()
between = os.fork()
if not between:
    try:
        zygote._fork_again(theirs)
    except OSError:
        os._exit(1)
    # Only the reactor returns.
    os._exit(0)
_, status = os.waitpid(between, 0)
print(os.waitstatus_to_exitcode(status))
"""


def test_the_process_between_ends_even_if_the_zygote_is_dead() -> None:
    """Otherwise it would go on as a second zygote."""
    done = subprocess.run([sys.executable, "-c", BETWEEN], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("0\n", "")
