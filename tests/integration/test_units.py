"""The units in deploy/systemd: systemd accepts them, they are tight, and they fit the settings."""

from __future__ import annotations

import grp
import os
import re
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from reactor_run.frontend.command.settings import OPTIONS, Settings
from tests.needs import path_of

UNITS = Path(__file__).parents[2] / "deploy" / "systemd"
SERVICE = UNITS / "reactor-run@.service"
SOCKET = UNITS / "reactor-run@.socket"
OWN_SOCKET = UNITS / "reactor-run-api@.socket"
TLS = UNITS / "tls"


class Unit(ConfigParser):
    """A unit file; of a setting that is repeated, the last value."""

    def __init__(self, path: Path) -> None:
        super().__init__(strict=False, interpolation=None)
        self.optionxform = str  # type: ignore[assignment, method-assign]
        self.read(path)


@pytest.fixture
def installed(tmp_path: Path) -> list[str]:
    """The units, where the program that they start exists: systemd looks for it."""
    for unit in SERVICE, SOCKET, OWN_SOCKET:
        text = unit.read_text().replace("/opt/%i/venv/bin/reactor-run", sys.executable)
        (tmp_path / unit.name).write_text(text)
    return [str(tmp_path / unit.name) for unit in (SERVICE, SOCKET, OWN_SOCKET)]


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    program = path_of("systemd-analyze")
    return subprocess.run(
        [program, *words], capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.needs("systemd-analyze")
def test_systemd_accepts_the_units(installed: list[str]) -> None:
    done = analyze("verify", *installed)
    # It has exit status 0 for settings that it does not know, too.
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.needs("systemd-analyze")
def test_systemd_would_not_accept_just_anything(installed: list[str]) -> None:
    unit = Path(installed[0])
    unit.write_text(unit.read_text().replace("OOMPolicy=continue", "OOMPolicy=perhaps"))
    assert "perhaps" in analyze("verify", installed[0]).stderr


@pytest.mark.needs("systemd-analyze")
def test_little_is_exposed(installed: list[str]) -> None:
    done = analyze("security", "--offline=true", "--no-pager", installed[0])
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert exposure is not None, done.stderr
    assert float(exposure[1]) <= 2.0


def test_timeouts_and_limits_fit_the_defaults() -> None:
    service = Unit(SERVICE)["Service"]
    defaults = Settings(app="shop.main:app")
    assert int(service["TimeoutStartSec"]) > defaults.start_timeout
    assert int(service["TimeoutStopSec"]) > defaults.shutdown_delay + defaults.graceful_timeout + 10
    assert int(service["WatchdogSec"]) >= 6
    assert int(service["LimitNOFILE"]) > 2 * defaults.max_connections + 1000


def test_variables_and_paths_are_those_of_the_program() -> None:
    text = SERVICE.read_text()
    assert set(re.findall(r"REACTOR_RUN_\w+", text)) <= {option.variable for option in OPTIONS}
    service = Unit(SERVICE)["Service"]
    assert f"unix:/run/{service['RuntimeDirectory']}/" in text
    # It would go with the directory.
    listens = Unit(SOCKET)["Socket"]["ListenStream"]
    assert not listens.startswith(f"/run/{service['RuntimeDirectory']}/")
    page = (UNITS.parents[1] / "docs" / "deployment.md").read_text()
    assert listens.replace("%i", "shop") in page


# TLS ----------------------------------------------------------------------------------------------


@pytest.mark.needs("systemd-analyze")
def test_systemd_accepts_the_units_with_tls(installed: list[str], tmp_path: Path) -> None:
    sockets = sorted(TLS.glob("*.socket"))
    assert len(sockets) == 2
    for unit in sockets:
        (tmp_path / unit.name).write_text(unit.read_text())
    drop_in = tmp_path / "reactor-run@.service.d"
    drop_in.mkdir()
    (drop_in / "tls.conf").write_text((TLS / "tls.conf").read_text())
    done = analyze("verify", *installed, *(str(tmp_path / unit.name) for unit in sockets))
    assert (done.returncode, done.stderr) == (0, "")


def test_the_drop_in_fits_the_program_and_the_page() -> None:
    text = (TLS / "tls.conf").read_text()
    assert set(re.findall(r"REACTOR_RUN_\w+", text)) <= {option.variable for option in OPTIONS}
    names = [Unit(unit)["Socket"]["FileDescriptorName"] for unit in sorted(TLS.glob("*.socket"))]
    assert names == ["redirect-http", "https"]
    page = (UNITS.parents[1] / "docs" / "deployment.md").read_text()
    assert all(unit.name.replace("@", "@shop") in page for unit in TLS.glob("*.socket"))


def test_the_hook_puts_both_files_where_the_drop_in_names_them(tmp_path: Path) -> None:
    lineage = tmp_path / "live" / "shop"
    lineage.mkdir(parents=True)
    (tmp_path / "tls").mkdir()
    group = grp.getgrgid(os.getgid()).gr_name
    environment = {
        **os.environ,
        "RENEWED_LINEAGE": str(lineage),
        "TLS_DIRECTORY": str(tmp_path / "tls"),
        "TLS_GROUP": group,
    }
    for content in ("old", "new"):
        for name in ("privkey.pem", "fullchain.pem"):
            (lineage / name).write_text(f"{content} {name}")
        subprocess.run([str(TLS / "renewed")], env=environment, check=True, timeout=30)
    files = {path.name: path.read_text() for path in (tmp_path / "tls").iterdir()}
    assert files == {"shop.key": "new privkey.pem", "shop.crt": "new fullchain.pem"}
    assert (tmp_path / "tls" / "shop.key").stat().st_mode & 0o777 == 0o640
    assert re.findall(r"FILE=\S+/(%i\.\w+)", (TLS / "tls.conf").read_text()) == ["%i.crt", "%i.key"]
