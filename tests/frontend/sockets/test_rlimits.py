"""Open files, the connections that they allow, and CPUs by affinity and cgroup."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from reactor_run.frontend.sockets import rlimits as limits


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    child = (
        "import resource\n"
        "from reactor_run.frontend.sockets.rlimits import raise_nofile_limit\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300))\n"
        "print(raise_nofile_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))\n"
        "print(raise_nofile_limit())\n"
    )
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["300", "300", "300", "300"]


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [
        (1024, resource.RLIM_INFINITY, limits.NOFILE_CAP),
        (1024, 1_073_741_816, limits.NOFILE_CAP),
        (2_000_000, 3_000_000, 2_000_000),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, limits.NOFILE_CAP),
    ],
)
def test_an_enormous_hard_limit_is_not_used_up_and_nothing_is_lowered(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, expected: int
) -> None:
    set_to: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _which, limit: set_to.append(limit))
    assert limits.raise_nofile_limit() == expected
    assert set_to == ([(expected, hard)] if soft == 1024 else [])


def test_as_many_connections_as_wanted_where_files_allow() -> None:
    connections, line, lacks_files = limits.connections_for(65536, 10000, 4)
    assert connections == 10000
    assert not lacks_files
    assert "10000 client connections" in line
    assert "65536" in line


def test_too_few_open_files_are_reported_with_the_remedy() -> None:
    connections, line, lacks_files = limits.connections_for(1024, 10000, 1)
    assert lacks_files
    assert 400 < connections < 512  # two descriptors each, and some kept back
    assert f"{connections} client connections" in line
    assert "ulimit -n" in line
    assert "10000" in line


def test_without_max_connections_the_open_files_decide() -> None:
    connections, line, lacks_files = limits.connections_for(20000, 0, 2)
    assert not lacks_files
    assert 9900 < connections < 10000
    assert "--max-connections" not in line
    assert limits.connections_for(10, 100, 1).connections == 1


@pytest.fixture
def cgroup(tmp_path: Path) -> Path:
    (tmp_path / "system.slice" / "shop.service").mkdir(parents=True)
    (tmp_path / "membership").write_text("1:name=systemd:/\n0::/system.slice/shop.service\n")
    return tmp_path


@pytest.fixture
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))


@pytest.mark.usefixtures("eight_cpus")
@pytest.mark.parametrize(
    ("own", "above", "expected"),
    [
        ("max 100000", "max 100000", 8),
        ("150000 100000", "max 100000", 2),
        ("20000 100000", "max 100000", 1),
        ("max 100000", "300000 100000", 3),
        ("400000 100000", "300000 100000", 3),
        ("1600000 100000", None, 8),
        ("nonsense", None, 8),
    ],
)
def test_cpus_are_bounded_by_every_quota_on_the_way_up(
    cgroup: Path, own: str, above: str | None, expected: int
) -> None:
    (cgroup / "system.slice" / "shop.service" / "cpu.max").write_text(own + "\n")
    if above is not None:
        (cgroup / "system.slice" / "cpu.max").write_text(above + "\n")
    assert limits.available_cpus(cgroup, cgroup / "membership") == expected


@pytest.mark.usefixtures("eight_cpus")
def test_a_container_sees_its_quota_at_the_root(tmp_path: Path) -> None:
    (tmp_path / "membership").write_text("0::/\n")
    (tmp_path / "cpu.max").write_text("200000 100000\n")
    assert limits.available_cpus(tmp_path, tmp_path / "membership") == 2


@pytest.mark.usefixtures("eight_cpus")
def test_without_cgroup_v2_affinity_decides(tmp_path: Path) -> None:
    assert limits.available_cpus(tmp_path, tmp_path / "none") == 8
    (tmp_path / "membership").write_text("9:name=systemd:/\n1:cpu:/\n")
    assert limits.available_cpus(tmp_path, tmp_path / "membership") == 8
