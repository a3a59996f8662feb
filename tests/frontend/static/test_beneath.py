"""Opening files: nothing leads out of the directory, with openat2 and without."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reactor_run.frontend.static.beneath import Directory
from reactor_run.frontend.static.content import FileShrunk, load, read_all, read_ready, ready

RACES = 3000


@pytest.fixture(params=["openat2", "walk"])
def walks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether each directory is walked."""
    monkeypatch.setattr(Directory, "walks", request.param == "walk")
    monkeypatch.setattr(Directory, "_probed", True)
    return bool(request.param == "walk")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory `in`, a secret beside it."""
    (tmp_path / "secret").write_text("secret")
    inside = tmp_path / "in"
    (inside / "sub" / "deep").mkdir(parents=True)
    (inside / "file").write_text("file")
    (inside / "sub" / "file").write_text("sub")
    (inside / "sub" / "deep" / "file").write_text("deep")
    return inside


@pytest.fixture
def directory(place: Path, walks: bool) -> Iterator[Directory]:
    found = Directory(str(place))
    yield found
    found.close()


Read = Callable[[str], str]


@pytest.fixture
def read(directory: Directory) -> Read:
    """Reads a file, in memory or not."""

    def run(name: str) -> str:
        found = directory.open(name.encode(), from_memory=False)
        with open(found.fd) as file:
            assert os.fstat(found.fd).st_size == found.size
            return file.read()

    return run


def test_files(read: Read) -> None:
    assert [read(name) for name in ("file", "sub/file", "sub/deep/file")] == ["file", "sub", "deep"]


def test_what_is_no_file(read: Read, place: Path) -> None:
    for name in ("gone", "sub/gone", "gone/file", "file/x", "x" * 300, "sub/" + "x/" * 3000 + "x"):
        with pytest.raises(FileNotFoundError):
            read(name)
    for name in ("sub", "sub/deep"):
        with pytest.raises(IsADirectoryError):
            read(name)
    os.mkfifo(place / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        before = os.getcwd()
        os.chdir(place)
        try:
            listener.bind("socket")
        finally:
            os.chdir(before)
        for name in ("fifo", "socket"):
            with pytest.raises(FileNotFoundError):
                read(name)


def test_links(read: Read, place: Path, walks: bool) -> None:
    (place / "up").symlink_to("../secret")
    (place / "absolute").symlink_to(place.parent / "secret")
    (place / "own").symlink_to(place / "file")
    (place / "directory").symlink_to("..")
    (place / "root").symlink_to("/")
    (place / "proc").symlink_to("/proc/self/cwd")
    (place / "circle").symlink_to("circle")
    (place / "dangling").symlink_to("nothing")
    (place / "inside").symlink_to("sub")
    (place / "sub" / "back").symlink_to("../file")
    for name in (
        "up",
        "absolute",
        "own",
        "directory/secret",
        "directory/in/file",
        "root/etc/passwd",
        "proc/file",
        "circle",
        "dangling",
        "../secret",
        "sub/../../secret",
        "/etc/passwd",
    ):
        with pytest.raises(FileNotFoundError):
            read(name)
    if walks:
        for name in ("inside/file", "sub/back"):
            with pytest.raises(FileNotFoundError):
                read(name)
    else:
        assert read("inside/file") == "sub"
        assert read("sub/back") == "file"


def test_a_race_with_links(directory: Directory, place: Path) -> None:
    """A thread makes directories links that lead outside, and back."""
    outside = place.parent / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "file").write_text("outside")
    (outside / "file").write_text("outside")
    (place.parent / "link").symlink_to(outside)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            os.rename(place / "sub", place.parent / "real")
            os.rename(place.parent / "link", place / "sub")
            os.rename(place / "sub", place.parent / "link")
            os.rename(place.parent / "real", place / "sub")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(RACES):
            try:
                file = directory.open(b"sub/deep/file", from_memory=False)
            except OSError:
                continue
            with open(file.fd) as opened:
                assert opened.read() == "deep"
    finally:
        stop.set()
        thread.join()
    assert directory.open(b"sub/deep/file", from_memory=False).size == 4


def test_a_directory_stays_when_its_name_goes_to_another(directory: Directory, place: Path) -> None:
    os.rename(place, place.parent / "old")
    place.mkdir()
    file = directory.open(b"file", from_memory=False)
    assert os.read(file.fd, 9) == b"file"
    os.close(file.fd)


def test_no_descriptor_is_left(directory: Directory, place: Path) -> None:
    os.mkfifo(place / "fifo")
    before = len(os.listdir("/proc/self/fd"))
    for name in (b"fifo", b"sub", b"gone", b"sub/deep/gone", b"file/x"):
        with pytest.raises((FileNotFoundError, IsADirectoryError)):
            directory.open(name, from_memory=False)
    os.close(directory.open(b"sub/deep/file", from_memory=False).fd)
    assert len(os.listdir("/proc/self/fd")) == before


def test_from_memory(place: Path) -> None:
    directory = Directory(str(place))
    if Directory.walks or Directory.lacks_cached:
        pytest.skip("this kernel has no openat2 with RESOLVE_CACHED")
    (place / "sub" / "file").read_text()
    os.close(directory.open(b"sub/file", from_memory=True).fd)
    (place / "up").symlink_to("../secret")
    with pytest.raises((FileNotFoundError, BlockingIOError)):
        directory.open(b"up", from_memory=True)
    directory.close()


def test_without_openat2_memory_says_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = Directory(str(place))
    for name in ("walks", "lacks_cached"):
        with monkeypatch.context() as patch:
            patch.setattr(Directory, name, True)
            with pytest.raises(BlockingIOError):
                directory.open(b"file", from_memory=True)
    directory.close()


# Content ------------------------------------------------------------------------------------------


def test_content(directory: Directory, place: Path) -> None:
    (place / "large").write_bytes(bytes(range(256)) * 1000)
    file = directory.open(b"large", from_memory=False)
    try:
        assert read_all(file, 255, 258) == b"\xff\x00\x01"
        assert load(file.fd, 0, 1 << 20) == 256_000
        assert load(file.fd, 256_000, 10) == 0
        # Of a file system that does not tell what is in memory, nothing is.
        assert ready(file.fd, 0, 256_000) in (0, 256_000)
        space = memoryview(bytearray(3))
        assert not read_ready(file.fd, 255, space) or bytes(space) == b"\xff\x00\x01"
        os.truncate(place / "large", 100)
        with pytest.raises(FileShrunk):
            read_all(file, 0, 256_000)
        assert not read_ready(file.fd, 99, space)
    finally:
        os.close(file.fd)


def test_a_shrunk_file_is_noticed(directory: Directory, place: Path) -> None:
    (place / "large").write_bytes(b"x" * 100)
    file = directory.open(b"large", from_memory=False)
    try:
        if ready(file.fd, 0, 100):
            with pytest.raises(FileShrunk):
                ready(file.fd, 100, 10)
    finally:
        os.close(file.fd)
