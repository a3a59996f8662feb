"""Runs the comparison of native.py with AddressSanitizer and UndefinedBehaviorSanitizer.

`python -m tests.fuzz.sanitized [SECONDS] [HEADS] [SEED]` builds protocol/_head.c once more, by gcc,
and runs a Python that loads it. A read beyond a buffer, a use after free or an overflow ends the
run with a report and a status other than 0. libasan must be loaded before Python, by LD_PRELOAD.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
MODULE: Final = "reactor_run.protocol._head"
BUILT: Final = "SANITIZED_HEAD"
"""The environment variable that names the built extension to the second Python."""
FLAGS: Final = (
    "-shared", "-fPIC", "-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
)  # fmt: skip


def build() -> Path:
    """Return the path of the extension, built with both sanitizers. Raises CalledProcessError."""
    built = ROOT / ".fuzz" / ("_head.sanitized" + str(sysconfig.get_config_var("EXT_SUFFIX")))
    built.parent.mkdir(exist_ok=True)
    include = "-I" + sysconfig.get_path("include")
    source = ROOT / "protocol" / "_head.c"
    subprocess.run(["gcc", *FLAGS, include, str(source), "-o", str(built)], check=True)
    return built


def library(name: str) -> str:
    """Return the path of a library of gcc."""
    asked = ["gcc", f"-print-file-name={name}"]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()


def run_again(built: Path, argv: list[str]) -> None:
    """Replace this process by a Python with libasan."""
    os.environ |= {
        BUILT: str(built),
        "LD_PRELOAD": library("libasan.so"),
        # Each object in a block of its own, so that a read beyond it is found.
        "PYTHONMALLOC": "malloc",
        # Python itself frees little at its end.
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        # This Python reads what it is given, not the extension that is installed.
        "REACTOR_RUN_PURE": "0",
    }
    os.execv(sys.executable, [sys.executable, "-m", "tests.fuzz.sanitized", *argv[1:]])


def load(built: str) -> None:
    """Load the built extension under the name of the installed one."""
    spec = importlib.util.spec_from_file_location(MODULE, built)
    assert spec is not None
    assert spec.loader is not None
    # It is executed here already, so that no import finds the installed one.
    sys.modules[MODULE] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


if __name__ == "__main__":
    if BUILT in os.environ:
        load(os.environ[BUILT])
        from tests.fuzz import native

        assert vars(native)["read_head"] is sys.modules[MODULE].read_head
        native.main(sys.argv)
    else:
        run_again(build(), sys.argv)
