"""The file that takes lines: pipes that nobody reads, full disks, rotations. Nothing may wait."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from reactor_run.frontend.access_log import log_file
from reactor_run.frontend.access_log.log_file import STDOUT, WAITING_MAX, LogFile
from reactor_run.frontend.loop.epoll import Loop

LINES = b"".join(b"line %07d of a log\n" % number for number in range(1000))


class SteppedLoop(Loop):
    """A loop that runs as long as it has events, or until the next deadline."""

    def turn(self) -> None:
        """Handle the events that have arrived."""
        self.after_batch(self.stop)
        self.defer(lambda: None)
        self.run()
        self.not_after_batch(self.stop)

    def later(self, seconds: float) -> None:
        self.now += seconds
        self._sweep()


@pytest.fixture
def loop() -> Iterator[SteppedLoop]:
    loop = SteppedLoop()
    yield loop
    loop._epoll.close()
    assert not loop._handlers


@pytest.fixture
def stdout() -> Iterator[None]:
    """Let a test replace descriptor 1."""
    kept = os.dup(1)
    yield
    os.dup2(kept, 1)
    os.close(kept)


def read_all(fd: int) -> bytes:
    """Read what a non-blocking descriptor has now."""
    data = b""
    try:
        while piece := os.read(fd, 1 << 20):
            data += piece
    except BlockingIOError:
        pass
    return data


def pipe(kind: str, tmp_path: Path) -> tuple[int, int]:
    """Return the ends of a channel, to read without waiting and to write."""
    if kind == "socket":
        one, other = socket.socketpair()
        one.setblocking(False)
        return one.detach(), other.detach()
    if kind == "terminal":
        import pty
        import tty

        ours, theirs = pty.openpty()
        tty.setraw(theirs)
        os.set_blocking(ours, False)
        return ours, theirs
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    return ours, theirs


@pytest.mark.parametrize("kind", ["pipe", "socket", "terminal", "closed to us"])
def test_standard_output_that_nobody_reads(
    loop: SteppedLoop,
    stdout: None,
    tmp_path: Path,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ours, theirs = pipe(kind, tmp_path)
    os.dup2(theirs, 1)
    if kind == "closed to us":
        # As for a pipe of another user.
        monkeypatch.setattr(log_file, "_OPEN", -1)
    file = LogFile(loop, STDOUT)
    with caplog.at_level(logging.WARNING, "reactor_run.error"):
        for _ in range(2 * WAITING_MAX // len(LINES)):
            file.write(LINES, 1000)
    assert not fcntl.fcntl(1, fcntl.F_GETFL) & os.O_NONBLOCK, "others share this descriptor"
    assert file.lost > 0
    assert file.lost % 1000 == 0
    (warning,) = caplog.records
    assert "standard output takes no more (its reader is slow), 1000 lines" in warning.getMessage()
    # The reader comes back. No line is torn, and no line is missing that was not counted.
    data = b""
    while piece := read_all(ours):
        data += piece
        loop.turn()
    assert data == LINES * (len(data) // len(LINES))
    written = 1000 * (len(data) // len(LINES))
    assert written + file.lost == 1000 * (2 * WAITING_MAX // len(LINES))
    file.write(b"again\n", 1)
    assert read_all(ours) == b"again\n"
    file.close()
    os.close(ours)
    os.close(theirs)


def test_standard_output_without_a_reader(loop: SteppedLoop, stdout: None, tmp_path: Path) -> None:
    ours, theirs = pipe("pipe", tmp_path)
    os.dup2(theirs, 1)
    file = LogFile(loop, STDOUT)
    os.close(ours)
    file.write(b"a\nb\n", 2)
    file.write(b"c\n", 1)
    assert file.lost == 3
    file.close()
    os.close(theirs)


def test_a_reader_that_goes_while_lines_wait(
    loop: SteppedLoop, stdout: None, tmp_path: Path
) -> None:
    ours, theirs = pipe("pipe", tmp_path)
    os.dup2(theirs, 1)
    file = LogFile(loop, STDOUT)
    for _ in range(10):
        file.write(LINES, 1000)
    os.close(ours)
    loop.turn()
    assert 0 < file.lost <= 10_000
    file.close()
    os.close(theirs)


def test_standard_output_to_a_file_shares_its_offset(
    loop: SteppedLoop, stdout: None, tmp_path: Path
) -> None:
    path = tmp_path / "out"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.dup2(fd, 1)
    file = LogFile(loop, STDOUT)
    os.write(1, b"before\n")
    file.write(b"line\n", 1)
    os.write(1, b"after\n")
    file.close()
    os.close(fd)
    assert path.read_bytes() == b"before\nline\nafter\n"


def test_a_full_disk(
    loop: SteppedLoop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = LogFile(loop, "/dev/full")
    # epoll refuses regular files, as it refuses none of the devices.
    monkeypatch.setattr(loop, "watch", refuse)
    with caplog.at_level(logging.WARNING, "reactor_run.error"):
        file.write(LINES, 1000)
        assert "/dev/full takes no more (No space left on device), 0 lines" in caplog.text
        for _ in range(2 * WAITING_MAX // len(LINES)):
            file.write(LINES, 1000)
    assert file.lost > 0
    lost = file.lost
    loop.later(100)
    assert file.lost == lost
    with caplog.at_level(logging.WARNING, "reactor_run.error"):
        file.close()
    assert "lines were lost" in caplog.records[-1].getMessage()
    assert file.lost == 1000 * (2 * WAITING_MAX // len(LINES) + 1)


def test_space_on_the_disk_again(
    loop: SteppedLoop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "log"
    file = LogFile(loop, str(path))
    send = file._send
    left = [len(LINES) // 2]

    def send_some(data: bytes) -> int:
        if not left[0]:
            raise OSError(28, "No space left on device")
        sent = send(data[: left[0]])
        left[0] -= sent
        return sent

    monkeypatch.setattr(file, "_send", send_some)
    file.write(LINES, 1000)
    file.write(LINES, 1000)
    assert path.read_bytes() == LINES[: len(LINES) // 2]
    left[0] = 1 << 20
    loop.later(0.7)
    assert path.read_bytes() == LINES + LINES
    assert file.lost == 0
    file.close()


def refuse(*_: object) -> None:
    raise PermissionError


def test_rotation(loop: SteppedLoop, tmp_path: Path) -> None:
    path, old = tmp_path / "log", tmp_path / "log.1"
    path.write_text("before\n")
    file = LogFile(loop, str(path))
    file.write(b"1\n", 1)
    path.rename(old)
    file.write(b"2\n", 1)
    assert file.reopen() is None
    file.write(b"3\n", 1)
    file.close()
    assert old.read_text() == "before\n1\n2\n"
    assert path.read_text() == "3\n"


def test_a_rotation_that_fails_keeps_the_old_file(loop: SteppedLoop, tmp_path: Path) -> None:
    path, old = tmp_path / "log", tmp_path / "log.1"
    file = LogFile(loop, str(path))
    path.rename(old)
    path.mkdir()
    assert file.reopen() == f"{path}: Is a directory"
    file.write(b"1\n", 1)
    file.close()
    assert old.read_text() == "1\n"


def test_lines_that_wait_survive_a_rotation(loop: SteppedLoop, tmp_path: Path) -> None:
    fifo, path = tmp_path / "fifo", tmp_path / "log"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    path.symlink_to(fifo)
    file = LogFile(loop, str(path))
    for _ in range(10):
        file.write(LINES, 1000)
    path.unlink()
    assert file.reopen() is None
    data = read_all(reader) + path.read_bytes()
    assert data == LINES * 10
    assert file.lost == 0
    file.close()
    os.close(reader)


def test_a_relative_path_stays_where_it_was(
    loop: SteppedLoop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = LogFile(loop, "log")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert file.reopen() is None
    file.close()
    assert not (tmp_path / "other" / "log").exists()
