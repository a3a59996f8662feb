"""The access log of a real service: files, pipes, rotation, losses, and what gets no line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.client import Client
from tests.integration.conftest import LANES, Gate, Notes, Start
from tests.integration.server import ROOT, Server, clean_environment, command
from tests.integration.terminal import OnTerminal
from tests.integration.waiting import eventually

ASGI = "tests.integration.apps.asgi:app"
HELLO = "bench.apps.hello:asgi"


def lines(path: Path, count: int) -> list[str]:
    """Return the lines of a file once there are so many."""
    assert eventually(lambda: len(path.read_text().splitlines()) >= count), path.read_text()
    return path.read_text().splitlines()


def ask(server: Server, request: bytes) -> int:
    """Send a request on a connection of its own; return the status of the answer."""
    with Client(server.address) as client:
        client.send(request)
        return client.response("HEAD" if request.startswith(b"HEAD") else "GET").status


def run(*options: str) -> subprocess.CompletedProcess[str]:
    """Run a service that is expected to end at once."""
    return subprocess.run(
        command(HELLO, "--app-dir", str(ROOT), "--bind", "127.0.0.1:0", *options),
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_every_answer_has_one_line(start: Start, tmp_path: Path, gate: Gate) -> None:
    path = tmp_path / "log"
    server = start(
        ASGI,
        f"--access-log={path}",
        "--access-log-format=json",
        "--concurrency=1",
        "--queue-size=0",
        "--head-timeout=1",
    )
    expected: list[tuple[str, int | None, str, str]] = []

    def expect(target: str, status: int | None, rule: str = "", reactor: str = "") -> None:
        expected.append((target, status, rule, reactor))

    assert ask(server, b"GET /hello?secret HTTP/1.1\r\nHost: a\r\n\r\n") == 200
    expect("/hello?secret", 200, reactor="reactor 1")
    assert ask(server, b"HEAD /hello HTTP/1.0\r\n\r\n") == 200
    expect("/hello", 200, reactor="reactor 1")
    assert ask(server, b"GET / HTTP/1.1\r\n\r\n") == 400
    expect("GET / HTTP/1.1", 400, "host-missing")
    assert ask(server, b"\x16\x03\x01 \x1b[2J\r\n\r\n") == 400
    expect("\x16\x03\x01 \x1b[2J", 400, "request-malformed")
    assert ask(server, b"GET / HTTP/1.1\r\nHost: a\r\nx: " + b"y" * 9000) == 431
    expect("GET / HTTP/1.1", 431, "field-too-large")
    assert ask(server, b"GET /lat") == 408
    expect("GET /lat", 408, "head-timeout")
    with Client(server.address) as waiting:
        waiting.send(f"GET /wait?gate={gate} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert eventually(
            lambda: ask(server, b"GET /hello?full HTTP/1.1\r\nHost: a\r\n\r\n") == 503
        )
        gate.open()
        assert waiting.response().status == 200
    assert eventually(lambda: f'"/wait?gate={gate}"' in path.read_text())
    told = [json.loads(line) for line in path.read_text().splitlines()]
    full = [each for each in told if each["target"] == "/hello?full" and each["status"] == 503]
    assert full
    assert full[0]["error"] == "Service Unavailable"
    rest = [
        each
        for each in told
        if "/hello?full" not in each["target"] and "/wait" not in each["target"]
    ]
    found = [(each["target"], each["status"], each["rule"], each["reactor"]) for each in rest]
    assert found == expected
    assert all(each["client"] == "127.0.0.1" for each in told)
    assert 1 <= rest[5]["duration"] < 5
    server.signal(signal.SIGTERM)
    server.wait()
    assert len(path.read_text().splitlines()) == len(told)


def test_a_client_that_leaves_has_a_line_without_a_status(
    start: Start, tmp_path: Path, gate: Gate
) -> None:
    path = tmp_path / "log"
    server = start(ASGI, f"--access-log={path}", '--access-log-format=%(r)s %(s)s "%(error)s"')
    with Client(server.address) as client:
        client.send(f"GET /wait?gate={gate} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert eventually(lambda: server.is_at_rest())
        client.reset()
    assert lines(path, 1)[0].endswith(' HTTP/1.1 - "the client left"')


def test_a_service_that_is_stopped_at_once_logs_what_it_cuts(
    start: Start, tmp_path: Path, gate: Gate, notes: Notes
) -> None:
    path = tmp_path / "log"
    server = start(
        ASGI, f"--access-log={path}", '--access-log-format=%(m)s %(U)s %(s)s "%(error)s"'
    )
    with Client(server.address) as client:
        client.send(f"GET /wait?gate={gate}&notes={notes} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        notes.first()
        server.signal(signal.SIGQUIT)
        assert server.wait() == 0
    assert path.read_text() == 'GET /wait - "the service was stopped"\n'


def test_rotation_by_command_and_by_sighup(start: Start, tmp_path: Path) -> None:
    path, admin = tmp_path / "log", tmp_path / "admin"
    server = start(HELLO, f"--access-log={path}", f"--admin=unix:{admin}")

    def rotate(by: Callable[[], object], name: str) -> None:
        assert ask(server, f"GET /{name} HTTP/1.1\r\nHost: a\r\n\r\n".encode()) == 200
        lines(path, 1)
        path.rename(tmp_path / name)
        by()
        assert eventually(path.exists)

    def reopen() -> None:
        done = subprocess.run(
            command("reopen-logs", "--admin", f"unix:{admin}"),
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        assert done.stdout == "the log files are open anew\n"

    rotate(reopen, "first")
    rotate(lambda: server.signal(signal.SIGHUP), "second")
    assert ask(server, b"GET /third HTTP/1.1\r\nHost: a\r\n\r\n") == 200
    for name in ("first", "second"):
        assert [line.split()[6] for line in lines(tmp_path / name, 1)] == [f"/{name}"]
    assert [line.split()[6] for line in lines(path, 1)] == ["/third"]
    # The new name may be unusable: then the old file goes on.
    path.unlink()
    path.mkdir()
    failed = subprocess.run(
        command("reopen-logs", "--admin", f"unix:{admin}"),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert failed.returncode == 1
    assert "Is a directory" in failed.stderr
    assert ask(server, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") == 200
    assert eventually(lambda: "reload" in server.log())


@pytest.mark.parametrize("kind", ["pipe", "full disk"])
def test_lines_are_lost_and_no_request_is_delayed(kind: str, tmp_path: Path) -> None:
    """More lines than may wait: all requests are answered, and the status counts the rest."""
    admin = tmp_path / "admin"
    ours, theirs = os.pipe()
    words = [HELLO, "--app-dir", str(ROOT), "--bind", f"unix:{tmp_path}/web"]
    target = "-" if kind == "pipe" else "/dev/full"
    process = subprocess.Popen(
        command(*words, f"--admin=unix:{admin}", f"--access-log={target}"),
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )
    os.close(theirs)
    try:
        assert process.stderr is not None
        assert any("ready, accepting" in line for line in process.stderr)
        request = b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % (b"x" * 8000)
        with Client(f"unix:{tmp_path}/web") as client:
            for _ in range(300):
                client.send(request)
                assert client.response().status == 200
        report = json.loads(
            subprocess.run(
                command("status", "--json", "--admin", f"unix:{admin}"),
                capture_output=True,
                text=True,
                check=True,
                timeout=30,
            ).stdout
        )
        assert 100 < report["counters"]["access_log_lost"] < 250
        page = subprocess.run(
            command("status", "--admin", f"unix:{admin}"),
            capture_output=True,
            text=True,
            timeout=30,
        ).stdout
        assert re.search(r"^  access log   1\d\d lines were lost$", page, re.MULTILINE)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
        assert process.returncode == 0
        reason = "its reader is slow" if kind == "pipe" else "No space left on device"
        assert f"takes no more ({reason})" in log
        assert re.search(r"[1-9]\d* lines were lost", log)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def output_on_a_terminal(*options: str) -> str:
    """Ask a service once; return what it wrote to standard output, which is no terminal."""
    with OnTerminal(HELLO, *options) as service:
        with Client(service.address) as client:
            assert client.get("/on-a-terminal").status == 200
        service.stop()
        return service.output


def test_it_is_on_by_default_if_standard_error_is_a_terminal() -> None:
    assert '"GET /on-a-terminal HTTP/1.1" 200 13 "-" "-"\n' in output_on_a_terminal()


def test_it_can_be_switched_off_on_a_terminal() -> None:
    assert output_on_a_terminal("--access-log=off") == ""


def test_it_is_off_by_default_without_a_terminal(shared: Start) -> None:
    server = shared(HELLO)
    assert ask(server, b"GET /silent HTTP/1.1\r\nHost: a\r\n\r\n") == 200
    assert eventually(server.is_at_rest)
    assert "/silent" not in server.log()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--access-log=/nowhere/log",), "'/nowhere/log': No such file or directory"),
        (("--access-log=/",), "Is a directory"),
        (("--access-log-format=%(nonsense)s",), "--access-log-format: there is no atom"),
        (("--access-log-format=%h",), "--access-log-format: '%h' is no atom"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(options: tuple[str, ...], complaint: str) -> None:
    ended = run(*options)
    assert ended.returncode == 2
    (line,) = [line for line in ended.stderr.splitlines() if "error:" in line]
    assert complaint in line


def test_a_fifo_without_a_reader_is_said_in_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    ended = run(f"--access-log={tmp_path}/fifo")
    assert ended.returncode == 2
    assert f"error: --access-log: no process reads the FIFO '{tmp_path}/fifo';" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("lanes", LANES)
def test_answers_of_all_sizes(shared: Start, tmp_path: Path, lanes: str) -> None:
    path = tmp_path.parent / f"log-{lanes}"
    server = shared(ASGI, f"--lanes={lanes}", f"--access-log={path}", "--access-log-format=json")
    sizes = [0, 10, 100_000, 3_000_000]
    with Client(server.address) as client:
        for size in sizes:
            response = client.get(f"/download?size={size}")
            assert response.status == 200
    told = [json.loads(line) for line in lines(path, len(sizes))]
    assert [each["target"] for each in told] == [f"/download?size={size}" for size in sizes]
    for each, size in zip(told, sizes, strict=True):
        assert size < each["bytes_out"] < size + 1000
