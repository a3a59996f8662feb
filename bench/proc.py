"""What /proc tells: the processes of a session, their CPU time and memory, the load of a core.

proc(5). CPU time of a process counts all its threads, and not its children.
"""

from __future__ import annotations

import gzip
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

_TICK: Final = 1 / os.sysconf("SC_CLK_TCK")
"""Seconds of one unit of CPU time in /proc."""
_CPUCLOCK_SCHED: Final = 2
"""Of the kernel's posix-timers.h: the time that all threads of a process have run."""


@dataclass(frozen=True)
class Cpu:
    """CPU time, in seconds."""

    user: float
    system: float

    def __add__(self, other: Cpu) -> Cpu:
        return Cpu(self.user + other.user, self.system + other.system)

    def __sub__(self, other: Cpu) -> Cpu:
        return Cpu(self.user - other.user, self.system - other.system)

    def __truediv__(self, divisor: float) -> Cpu:
        return Cpu(self.user / divisor, self.system / divisor)

    @property
    def total(self) -> float:
        return self.user + self.system


@dataclass(frozen=True)
class Memory:
    """Bytes. `resident` counts a page in each process that has it, `share` divides it up."""

    resident: int
    share: int

    def __add__(self, other: Memory) -> Memory:
        return Memory(self.resident + other.resident, self.share + other.share)


@dataclass(frozen=True)
class Process:
    """One process at one moment."""

    pid: int
    state: str
    """One letter: Z is a zombie."""
    session: int
    """The process that leads its session."""
    started: int
    """Ticks since boot; with the pid it names the process for ever."""
    cpu: Cpu

    @property
    def identity(self) -> tuple[int, int]:
        return self.pid, self.started


def parse_stat(text: str) -> Process:
    """Read /proc/PID/stat. The command's name may hold spaces and parentheses."""
    head, _, tail = text.rpartition(")")
    # tail starts with the third field of proc(5), so field n is fields[n - 3].
    fields = tail.split()
    return Process(
        pid=int(head.partition(" ")[0]),
        state=fields[0],
        session=int(fields[3]),
        started=int(fields[19]),
        cpu=Cpu(int(fields[11]) * _TICK, int(fields[12]) * _TICK),
    )


def session(leader: int) -> list[Process]:
    """The living processes of a session: its leader first, then by pid."""
    found = [p for p in _processes() if p.session == leader and p.state not in "ZX"]
    return sorted(found, key=lambda process: (process.pid != leader, process.pid))


def _processes() -> Iterator[Process]:
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                text = Path(f"/proc/{entry}/stat").read_text(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            yield parse_stat(text)


def workers(leader: int) -> list[int]:
    """The processes of a session that run the app, oldest first.

    The leader, multiprocessing's helper and a zygote of ours are not among them.
    """
    found = []
    for process in sorted(session(leader), key=lambda process: process.started):
        try:
            command = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if (
            process.pid != leader
            and b"resource_tracker" not in command
            and not is_zygote(process.pid, command)
        ):
            found.append(process.pid)
    return found


def is_zygote(pid: int, command: bytes) -> bool:
    """Whether a process forks reactors. These may have its command line, but have event loops."""
    if command.startswith(b"reactor-run: "):
        return command.startswith(b"reactor-run: zygote ")
    if b"--zygote" not in command:
        return False
    folder = f"/proc/{pid}/fd"
    try:
        links = [os.readlink(f"{folder}/{number}") for number in os.listdir(folder)]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return "anon_inode:[eventpoll]" not in links


def parse_memory(text: str) -> Memory:
    """Read /proc/PID/smaps_rollup."""
    sizes = {}
    for line in text.splitlines()[1:]:
        name, _, rest = line.partition(":")
        sizes[name] = int(rest.split()[0]) * 1024
    return Memory(sizes["Rss"], sizes["Pss"])


def memory(pid: int) -> Memory:
    """What a process has in memory; nothing if it has ended."""
    try:
        return parse_memory(Path(f"/proc/{pid}/smaps_rollup").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return Memory(0, 0)


def cpu_clock(pid: int) -> float:
    """Seconds of CPU time that a process has had, by its clock; 0 if it has ended.

    /proc counts in ticks of 10 ms, the clock in nanoseconds. The number of the clock is what
    clock_getcpuclockid(3) returns, which Python does not have.
    """
    try:
        return time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)
    except OSError:
        return 0.0


def move(pid: int, cores: Iterable[int]) -> None:
    """Have all threads of a process run on these cores."""
    wanted = set(cores)
    is_moved = False
    # A thread that starts meanwhile has the cores of its parent, so look again.
    while not is_moved:
        is_moved = True
        for thread in os.listdir(f"/proc/{pid}/task"):
            try:
                if os.sched_getaffinity(int(thread)) != wanted:
                    os.sched_setaffinity(int(thread), wanted)
                    is_moved = False
            except ProcessLookupError:
                continue


def prefer(pid: int, nice: int) -> bool:
    """Give all threads of a process, and its session, this nice value; False if we may not.

    Where the kernel groups processes by session, the nice value of the group counts beside other
    groups (sched(7), autogroup).
    """
    group = Path(f"/proc/{pid}/autogroup")
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            os.setpriority(os.PRIO_PROCESS, int(thread), nice)
        if group.exists():
            group.write_text(str(nice))
    except PermissionError:
        return False
    except (FileNotFoundError, ProcessLookupError):
        # A process or a thread that has ended.
        pass
    return True


def affinity(pid: int) -> set[int]:
    """The cores on which some thread of a process may run."""
    cores: set[int] = set()
    for thread in os.listdir(f"/proc/{pid}/task"):
        try:
            cores |= os.sched_getaffinity(int(thread))
        except ProcessLookupError:
            continue
    return cores


def parse_core(text: str, core: int, *, interrupts: bool) -> float:
    """Read /proc/stat: the seconds that a core has been busy, or lost to the hypervisor."""
    for line in text.splitlines():
        words = line.split()
        if words and words[0] == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, words[1:9])
            busy = user + nice + system + steal
            return (busy + irq + softirq if interrupts else busy) * _TICK
    raise LookupError(f"no core {core} in /proc/stat")


def core_seconds(core: int) -> float:
    """The seconds since boot that a core was busy in the sense of `Process.cpu`, or was stolen.

    Interrupts, with most of the network stack, count if the kernel charges them to the process
    that they happen upon: it does unless built with CONFIG_IRQ_TIME_ACCOUNTING.
    """
    return parse_core(
        Path("/proc/stat").read_text(), core, interrupts=charges_interrupts_to_processes()
    )


@cache
def charges_interrupts_to_processes() -> bool:
    """What the kernel's configuration says; true if it cannot be read."""
    option = b"\nCONFIG_IRQ_TIME_ACCOUNTING=y\n"
    try:
        return option not in gzip.decompress(Path("/proc/config.gz").read_bytes())
    except OSError:
        pass
    try:
        return option not in Path(f"/boot/config-{os.uname().release}").read_bytes()
    except OSError:
        return True
