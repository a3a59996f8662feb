"""Runs native.py, frames.py, websocket.py and more with ASan and UBSan of gcc.

`python -m tests.fuzz.sanitized [SECONDS] [HEADS] [SEED]` builds the extensions once more, by gcc,
and runs a Python that loads them. A read beyond a buffer, a use after free or an overflow ends the
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
MODULES: Final = ("_head", "_frames", "_http2", "_response")
BUILT: Final = "SANITIZED"
"""The environment variable that names the built extensions' folder to the second Python."""
FRAMES: Final = 10.0
"""Seconds for each of the others, after the heads."""
SUFFIX: Final = f".sanitized{sysconfig.get_config_var('EXT_SUFFIX')}"
FLAGS: Final = (
    "-shared", "-fPIC", "-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
)  # fmt: skip


def build() -> Path:
    """Return the folder of the extensions, built with both sanitizers. Raises
    CalledProcessError."""
    folder = ROOT / ".fuzz"
    folder.mkdir(exist_ok=True)
    include = "-I" + sysconfig.get_path("include")
    for name in MODULES:
        source, built = ROOT / "protocol" / f"{name}.c", folder / f"{name}{SUFFIX}"
        subprocess.run(["gcc", *FLAGS, include, str(source), "-o", str(built)], check=True)
    return folder


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


def load(folder: str, name: str) -> None:
    """Load a built extension under the name of the installed one."""
    module_name = f"reactor_run.protocol.{name}"
    path = Path(folder) / f"{name}{SUFFIX}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    # It is executed here already, so that no import finds the installed one.
    sys.modules[module_name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


if __name__ == "__main__":
    if BUILT in os.environ:
        for each in MODULES:
            load(os.environ[BUILT], each)
        from tests.fuzz import encoding, frames, native, translation, websocket

        assert vars(native)["read_head"] is sys.modules["reactor_run.protocol._head"].read_head
        assert vars(frames)["NATIVE"]
        native.main(sys.argv)
        frames.main(FRAMES)
        websocket.main(FRAMES)
        translation.main(FRAMES)
        encoding.main(FRAMES)
    else:
        run_again(build(), sys.argv)
