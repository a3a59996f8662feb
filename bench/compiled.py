"""Python's compiled files of what is measured out of this checkout.

pip compiles what it installs, and so every peer. What lies in a checkout is compiled when it is
first imported, or, with PYTHONDONTWRITEBYTECODE, in each process anew: that would be measured as
time to start, and as memory.
"""

from __future__ import annotations

import compileall
from pathlib import Path

import reactor_run
from bench.running import ROOT

__all__ = ["compile_ours"]


def compile_ours() -> None:
    """Compile reactor-run and the apps, as an installation would have them."""
    package = Path(reactor_run.__file__).parent
    # Its rooms may be symbolic links, which compileall does not follow.
    for folder in (package, *filter(Path.is_dir, package.iterdir()), ROOT / "bench"):
        compileall.compile_dir(folder, quiet=2)
