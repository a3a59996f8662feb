"""What is measured out of a checkout has Python's compiled files, as what pip installs."""

import importlib.util
import sys
from pathlib import Path

import reactor_run
from bench.compiled import compile_ours


def test_every_module_that_a_server_may_import_is_compiled(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    compile_ours()
    package = Path(reactor_run.__file__).parent
    sources = [
        *package.glob("*.py"),
        *package.glob("*/*.py"),
        *package.glob("*/*/*.py"),
        *Path("bench/apps").glob("*.py"),
    ]
    assert len(sources) > 80
    compiled = [importlib.util.cache_from_source(str(path.absolute())) for path in sources]
    assert [path for path in compiled if not Path(path).exists()] == []
