"""Fuzz one target: `python -m tests.fuzz TARGET [options of libFuzzer]`. `make fuzz` runs all.

New inputs go to .fuzz/TARGET, where the next run begins. A finding is written to .fuzz/ and ends
the run with a status other than 0. Put that file into tests/fuzz/regressions/TARGET.
"""

from __future__ import annotations

import sys
from hashlib import sha1
from importlib import import_module
from pathlib import Path

import atheris

from tests.fuzz.inputs import TARGETS, kept

MEMORY_MAX = 1024
"""Most MiB that a run may take."""
SLOW = 5
"""Most seconds that one input may take."""


def main(argv: list[str]) -> None:
    if len(argv) < 2 or argv[1] not in TARGETS:
        sys.exit(f"usage: python -m tests.fuzz {{{','.join(TARGETS)}}} [options of libFuzzer]")
    name = argv[1]
    with atheris.instrument_imports(include=["reactor_run.protocol"]):
        target = import_module(f"tests.fuzz.{name}")

    folder = Path(".fuzz") / name
    folder.mkdir(parents=True, exist_ok=True)
    for data in (*target.seeds(), *kept(name)):
        (folder / sha1(data).hexdigest()).write_bytes(data)
    options = [
        f"-rss_limit_mb={MEMORY_MAX}",
        f"-timeout={SLOW}",
        f"-artifact_prefix=.fuzz/{name}-",
        "-print_final_stats=1",
    ]
    atheris.Setup([argv[0], *options, *argv[2:], str(folder)], target.check)
    atheris.Fuzz()


main(sys.argv)
