"""On what and with what was measured."""

import os
import platform
import re
import resource
import shutil
import subprocess
from collections.abc import Iterable
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench import proc
from bench.load import wrk
from bench.pinning import Cores
from bench.running import ROOT


def describe(cores: Cores, distributions: Iterable[str]) -> dict[str, str]:
    """The facts that belong to every report, each under its name, in the order to show them.

    Raises CannotMeasure if wrk is not installed.
    """
    found = sorted({f"{name} {_version(name)}" for name in distributions})
    found += [f"{name} {_program_version(name)}" for name in ("nginx", "haproxy")]
    return {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "machine": f"{_cpu_model()}, {os.cpu_count()} cores, {platform.machine()}",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "cores": f"servers on {cores.servers[0]}, or on {cores.servers[0]} and {cores.servers[1]}; "
        f"load on {cores.load}{', which it shares with servers of two cores' * cores.shared}"
        f"{_siblings(cores)}",
        "load average": f"{os.getloadavg()[0]:.1f} before the first run",
        "open files": f"at most {resource.getrlimit(resource.RLIMIT_NOFILE)[0]:,} a process",
        "socket buffers": f"net.core.wmem_max {_sysctl('net/core/wmem_max'):,} bytes",
        "system": f"{platform.system()} {platform.release()}, interrupts charged to "
        + ("processes" if proc.charges_interrupts_to_processes() else "none"),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "wrk": wrk.version(),
        "versions": ", ".join(found),
        "commit": _commit(),
    }


def _sysctl(name: str) -> int:
    return int(Path("/proc/sys", name).read_text())


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def _program_version(name: str) -> str:
    """The first number that `NAME -v` prints."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin")
    if found is None:
        return "not installed"
    text = subprocess.run([found, "-v"], capture_output=True, text=True, check=False)
    number = re.search(r"\d+\.\d[\w.-]*", text.stdout + text.stderr)
    return number[0] if number else "of unknown version"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return "unknown processor"


def _siblings(cores: Cores) -> str:
    """A warning if the two cores are threads of one."""
    topology = Path(f"/sys/devices/system/cpu/cpu{cores.servers[0]}/topology/thread_siblings_list")
    try:
        text = topology.read_text().strip()
    except OSError:
        return ""
    shared: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        shared.update(range(int(first), int(last or first) + 1))
    return "; two threads of one core: they slow each other down" if cores.load in shared else ""


def _commit() -> str:
    """The commit of this tree, and whether it has changes that are in none."""
    try:
        git = ["git", "-C", str(ROOT)]
        head = subprocess.check_output([*git, "rev-parse", "--short", "HEAD"], text=True)
        changes = subprocess.check_output([*git, "status", "--porcelain"], text=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.strip() + (" with uncommitted changes" if changes else "")
