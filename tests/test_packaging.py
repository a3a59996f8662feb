"""The installed package: one top-level module, real files, and no module that hides a user's own.

It is built here without a network: setuptools and the dependencies come from this environment.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import reactor_run

ROOT = Path(__file__).parents[1]
ROOMS = ("frontend", "protocol", "reactor")


NAMES = (
    "_memory",
    "_sockets",
    "protocol/_frames",
    "protocol/_head",
    "protocol/_http2",
    "protocol/_response",
)
EXTENSIONS = {f"reactor_run/{name}{sysconfig.get_config_var('EXT_SUFFIX')}" for name in NAMES}
"""The extensions in C, by their paths in a wheel."""
PAGE = "frontend/service/status_page.html"
C_SOURCES = tuple(f"{name}{end}" for name in NAMES for end in (".c", ".pyi"))
LEFT_OUT = ("PYTHONPATH", "REACTOR_RUN_PURE")


def run(*command: str | Path, cwd: Path, **more: str) -> str:
    """Return the standard output of `command`, which can import only from its own environment."""
    environ = {name: value for name, value in os.environ.items() if name not in LEFT_OUT} | more
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=environ, capture_output=True, text=True
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(what: str, tree: Path, into: Path, **environ: str) -> Path:
    """Build `what` ("sdist" or "wheel") from `tree` as PEP 517 frontends do."""
    into.mkdir()
    hook = f"import setuptools.build_meta as backend; backend.build_{what}({str(into)!r})"
    run(sys.executable, "-c", hook, cwd=tree, **environ)
    (built,) = into.iterdir()
    return built


def modules(folder: Path) -> set[str]:
    """Return the Python files under `folder`, by their paths in a package."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*.py")}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources with its links, so that a build leaves no traces among the
    originals."""
    copy = tmp_path_factory.mktemp("sources") / "tree"
    ignore = shutil.ignore_patterns(
        ".*", "*.egg-info", "*.so", "__pycache__", "bench", "build", "dist", "tests"
    )
    shutil.copytree(ROOT, copy, symlinks=True, ignore=ignore)
    return copy


@pytest.fixture(scope="module")
def sdist(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", tree, tmp_path_factory.mktemp("sdist") / "out")


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel that is built from the sdist, as an installer does it."""
    folder = tmp_path_factory.mktemp("wheel")
    run("tar", "-xf", sdist, cwd=folder)
    return build("wheel", folder / f"reactor_run-{reactor_run.__version__}", folder / "out")


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, which borrows the dependencies of ours."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    install = ("install", "--quiet", "--no-deps", "--no-index", wheel)
    run(*pip, "--python", folder / "bin/python", *install, cwd=folder)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    # A folder that a .pth names does not have its own .pth files read: the editable install is left
    # out.
    (site_packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


@pytest.fixture(params=["editable", "wheel"])
def python(request: pytest.FixtureRequest) -> Path:
    """A Python in whose environment reactor-run is installed."""
    if request.param == "editable":
        return Path(sys.executable)
    installed: Path = request.getfixturevalue("installed")
    return installed / "bin/python"


def test_sdist_holds_real_files(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    package = Path(f"reactor_run-{reactor_run.__version__}/src/reactor_run")
    files = {member.name for member in members if member.isfile()}
    assert [member.name for member in members if not (member.isfile() or member.isdir())] == []
    for room in ROOMS:
        expected = {str(package / room / module) for module in modules(ROOT / room)}
        assert expected, room
        assert expected <= files
    assert {str(package / name) for name in C_SOURCES} <= files
    assert str(package / PAGE) in files


def test_wheel_is_the_same_from_the_tree_and_from_the_sdist(
    tree: Path, wheel: Path, tmp_path: Path
) -> None:
    direct = build("wheel", tree, tmp_path / "out")
    with zipfile.ZipFile(direct) as one, zipfile.ZipFile(wheel) as other:
        assert {member.filename: member.CRC for member in one.infolist()} == {
            member.filename: member.CRC for member in other.infolist()
        }


def test_wheel_holds_every_room_and_one_top_level_module(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names} == {
        "reactor_run",
        f"reactor_run-{reactor_run.__version__}.dist-info",
    }
    for room in ROOMS:
        assert {f"reactor_run/{room}/{module}" for module in modules(ROOT / room)} <= set(names)
    assert f"reactor_run/{PAGE}" in names
    stubs = {f"reactor_run/{name}" for name in C_SOURCES if name.endswith(".pyi")}
    assert {"reactor_run/py.typed"} | stubs | EXTENSIONS <= set(names)
    assert not [name for name in names if name.endswith(".c")]


def test_installed_package_uses_the_extension(python: Path, tmp_path: Path) -> None:
    code = "from reactor_run.native import NATIVE; print(NATIVE)"
    assert run(python, "-c", code, cwd=tmp_path) == "True\n"


def test_it_is_built_without_a_compiler(sdist: Path, tmp_path: Path) -> None:
    run("tar", "-xf", sdist, cwd=tmp_path)
    sources = tmp_path / f"reactor_run-{reactor_run.__version__}"
    built = build("wheel", sources, tmp_path / "out", CC="/nonexistent/cc")
    with zipfile.ZipFile(built) as archive:
        assert not EXTENSIONS & set(archive.namelist())
        archive.extractall(tmp_path / "package")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'package')!r})\n"
        "from reactor_run import native; print(native.NATIVE, native.__file__)\n"
    )
    native, _, file = run(sys.executable, "-c", code, cwd=tmp_path).strip().partition(" ")
    assert native == "False"
    assert Path(file).is_relative_to(tmp_path)


def test_version_stands_in_one_place(wheel: Path) -> None:
    (metadata,) = importlib.metadata.distributions(name="reactor-run", path=[str(wheel)])
    assert metadata.version == reactor_run.__version__
    assert importlib.metadata.version("reactor-run") == reactor_run.__version__


def test_rooms_are_imported_from_where_they_are_installed(installed: Path, tmp_path: Path) -> None:
    code = "\n".join(f"import reactor_run.{room} as r; print(r.__file__)" for room in ROOMS)
    for line in run(installed / "bin/python", "-c", code, cwd=tmp_path).splitlines():
        assert Path(line).is_relative_to(installed)


def test_command_and_module_tell_the_version(python: Path, tmp_path: Path) -> None:
    for command in ([python.with_name("reactor-run")], [python, "-m", "reactor_run"]):
        assert reactor_run.__version__ in run(*command, "--version", cwd=tmp_path)


def test_rooms_are_no_modules_of_their_own(python: Path, tmp_path: Path) -> None:
    code = f"import importlib.util as u; print([u.find_spec(n) for n in {ROOMS}])"
    assert run(python, "-c", code, cwd=tmp_path) == "[None, None, None]\n"


def test_an_app_keeps_its_own_modules_of_the_same_names(python: Path, tmp_path: Path) -> None:
    (tmp_path / "protocol.py").write_text("WHOSE = 'the app'\n")
    for package in ("frontend", "reactor"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("from protocol import WHOSE\n")
    (tmp_path / "app.py").write_text(
        "import frontend, protocol, reactor\n"
        "import reactor_run.frontend, reactor_run.protocol, reactor_run.reactor\n"
        "print(frontend.WHOSE, protocol.WHOSE, reactor.WHOSE)\n"
        "print([hasattr(room, 'WHOSE') for room in\n"
        "       (reactor_run.frontend, reactor_run.protocol, reactor_run.reactor)])\n"
    )
    answer = run(python, "app.py", cwd=tmp_path)
    assert answer == "the app the app the app\n[False, False, False]\n"
