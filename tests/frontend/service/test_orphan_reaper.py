"""Orphans are reaped, and our own children are not. It runs in a process whose children are
known."""

from __future__ import annotations

import subprocess
import sys

PRELUDE = """
import ctypes, os, subprocess
from reactor_run.frontend.loop.epoll import Loop
from reactor_run.frontend.service.orphan_reaper import Reaper, adopts_orphans

def ended(pid):
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid

def orphan():
    pid = os.fork()
    if not pid:
        os._exit(7)
    return ended(pid)

def children():
    path = f"/proc/self/task/{os.getpid()}/children"
    return [int(word) for word in open(path).read().split()]

loop = Loop()
ours = []
reaper = Reaper(loop, lambda: ours)
"""


def run(code: str) -> None:
    subprocess.run([sys.executable, "-c", PRELUDE + code], timeout=30, check=True)


def test_orphans_are_reaped_after_their_end_and_not_before() -> None:
    run("""
living = subprocess.Popen(["sleep", "60"])
for _ in range(3):
    orphan()
assert len(children()) == 4
reaper.reap()
assert children() == [living.pid]
assert living.poll() is None
living.kill()
living.wait()
reaper.reap()
""")


def test_the_status_of_our_own_children_is_left_alone() -> None:
    run("""
own = subprocess.Popen(["sh", "-c", "exit 5"])
ours.append(ended(own.pid))
other = orphan()
reaper.reap()
# The kernel shows the oldest first: nothing is taken, and there is another look.
assert children() == [own.pid, other]
assert loop._due
assert own.wait() == 5
reaper.reap()
assert children() == []
""")


def test_which_processes_adopt_orphans() -> None:
    run("""
assert not adopts_orphans()
pr_set_child_subreaper = 36
ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1)
assert adopts_orphans()
""")
