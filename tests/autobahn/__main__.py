"""Run the Autobahn test suite against real servers: `python -m tests.autobahn [CASES [LANES...]]`.

CASES is a list like 1.*,12.3.4. `make test-autobahn` runs all, on both kinds of lanes. The suite
needs Python 2.7, on PATH or with pyenv. Its packages go to build/autobahn, and its reports, as web
pages, to build/autobahn/reports. The exit status is 1 if a case failed. docs/websocket.md explains
the cases that are NON-STRICT.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from tests.integration.server import Server

HOME: Final = Path(__file__).parents[2] / "build" / "autobahn"
PACKAGES: Final = HOME / "packages"
REPORTS: Final = HOME / "reports"
SUITE: Final = "autobahntestsuite==25.10.1"
APP: Final = "tests.integration.apps.websockets:app"
OPTIONS: Final = ("--ws-compression", "on", "--ws-ping-interval", "0")
SERVERS: Final = {lanes: ("--lanes", lanes, *OPTIONS) for lanes in ("express", "plain")}
RUN: Final = (
    "import site, sys; site.addsitedir(sys.argv.pop(1)); "
    "from autobahntestsuite.wstest import run; run()"
)
"""A program of Python 2.7. The packages of the suite need their .pth files."""
PASSED: Final = ("OK", "NON-STRICT", "INFORMATIONAL")


def main() -> None:
    cases = sys.argv[1].split(",") if len(sys.argv) > 1 else ["*"]
    chosen = sys.argv[2:] or SERVERS
    python = find_python()
    install(python)
    shutil.rmtree(REPORTS, ignore_errors=True)
    with ExitStack() as stack:
        addresses = {
            name: stack.enter_context(Server(APP, *SERVERS[name])).address for name in chosen
        }
        run_suite(python, addresses, cases)
    sys.exit(report(json.loads((REPORTS / "index.json").read_text())))


def find_python() -> str:
    """Return a Python 2.7."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    found = [*pyenv.glob("versions/2.7*/bin/python2.7"), shutil.which("python2.7")]
    for python in found:
        if python is not None:
            return str(python)
    sys.exit("The Autobahn test suite needs Python 2.7; with pyenv: pyenv install 2.7.18")


def install(python: str) -> None:
    """Install the suite, unless that was done before."""
    done = PACKAGES / SUITE
    if done.exists():
        return
    print(f"Installing {SUITE} into {PACKAGES}", flush=True)
    pip = (python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    environ = os.environ | {"PYTHONWARNINGS": "ignore"}
    subprocess.run([*pip, "--target", str(PACKAGES), SUITE], check=True, env=environ)
    done.touch()


def run_suite(python: str, addresses: dict[str, str], cases: list[str]) -> None:
    """Run the cases against each server, by its name. The suite writes REPORTS."""
    spec = {
        "outdir": str(REPORTS),
        "servers": [
            {"agent": name, "url": address.replace("http://", "ws://") + "/echo"}
            for name, address in addresses.items()
        ],
        "cases": cases,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    path = HOME / "spec.json"
    path.write_text(json.dumps(spec))
    with (HOME / "log").open("wb") as log:
        print(f"Running the suite; its log is {log.name}", flush=True)
        words = [python, "-c", RUN, str(PACKAGES), "--mode", "fuzzingclient", "--spec", str(path)]
        subprocess.run(words, check=True, stdout=log, stderr=log, cwd=HOME)


def report(results: dict[str, dict[str, Any]]) -> int:
    """Print what is not simply OK; return the exit status."""
    failed = not results
    for name, cases in results.items():
        print(f"{name}: {len(cases)} cases")
        for count in Counter(case["behavior"] for case in cases.values()).most_common():
            print(f"  {count[0]}: {count[1]}")
        for number in sorted(cases, key=lambda number: [int(part) for part in number.split(".")]):
            behaviors = (cases[number]["behavior"], cases[number]["behaviorClose"])
            if any(behavior not in PASSED for behavior in behaviors):
                failed = True
                print(f"  {number} FAILED: {behaviors[0]}, at the close {behaviors[1]}")
            elif "NON-STRICT" in behaviors:
                print(f"  {number} NON-STRICT")
    return int(failed)


main()
