"""A reactor process from start to end, driven only over the control channel."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from reactor_run.protocol.express import pack_message, pack_request, request_prefix
from tests.reactor.driver import CLIENT, SERVER, get, post

APP_FAILED = 3
RUNTIMES = ["trio", "asyncio", "uvloop"]


# The start


@pytest.mark.parametrize(
    ("app", "options", "ready"),
    [
        (
            "driven_asgi:app",
            ["--concurrency", "7"],
            {"interface": "asgi", "capacity": 7, "inline": False},
        ),
        ("driven_wsgi:app", [], {"interface": "wsgi", "capacity": 1, "inline": True}),
        (
            "driven_wsgi:app",
            ["--threads", "3"],
            {"interface": "wsgi", "capacity": 3, "inline": False},
        ),
    ],
)
def test_ready_names_the_interface_and_the_capacity(start, app, options, ready):
    driver = start(app, *options)
    assert {name: driver.ready[name] for name in ready} == ready


# Each takes milliseconds to import, at every start of a reactor, and nothing here needs it on Trio.
DISPENSABLE = {"argparse", "asyncio", "email", "importlib.metadata", "multiprocessing", "uvloop"}


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_app_is_imported_after_all_modules_of_the_reactor(start, runtime):
    facts = json.loads(start("at_start:app", "--runtime", runtime, cold=True).get("/").text)
    before, now = facts["before"], facts["now"]
    # The garbage collector works for the app as usual, and skips the reactor's own objects.
    assert before["collects"]
    assert now["collects"]
    assert now["frozen"] > before["frozen"] > 10_000
    if runtime == "trio":
        assert "trio" in before["modules"]
        assert DISPENSABLE.intersection(before["modules"]) == set()


@pytest.mark.parametrize("interface", ["auto", "wsgi"])
@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_wsgi_app_is_served_without_an_async_library(start, threads, interface):
    options = ["--interface", interface, "--threads", threads]
    driver = start("at_start:wsgi_app", *options, cold=True)
    modules = set(json.loads(driver.get("/").text))
    assert modules & {"anyio", "trio", "sniffio", *DISPENSABLE} == set()


@pytest.mark.parametrize(
    ("app", "told", "detail"),
    [
        ("absent:app", "absent", None),
        ("driven_asgi:absent", "absent", None),
        ("failing_import:app", "LookupError: no configuration", "failing_import.py"),
        ("failing_start:app", "the database is away", None),
    ],
)
def test_an_app_that_cannot_start_is_reported_and_ends_the_process(start, app, told, detail):
    driver = start(app, wait=False)
    failure = driver.wait_message("failed")
    assert told in failure["failed"]
    assert "\n" not in failure["failed"]
    if detail is not None:
        assert detail in failure["details"]
    assert driver.wait_exit() == APP_FAILED
    assert not any("ready" in message for message in driver.messages)


@pytest.mark.parametrize("runtime", RUNTIMES[1:])
def test_a_failed_start_is_reported_on_every_runtime(start, runtime):
    driver = start("failing_start:app", "--runtime", runtime, wait=False)
    assert "the database is away" in driver.wait_message("failed")["failed"]
    assert driver.wait_exit() == APP_FAILED


# The end


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_stop_runs_the_shutdown_and_ends_the_process(start, runtime):
    driver = start("driven_asgi:app", "--runtime", runtime)
    assert driver.stop() == 0
    assert "the lifespan has shut down" in driver.log()
    assert "Traceback" not in driver.log()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_stop_cancels_running_apps(start, runtime, key):
    driver = start("driven_asgi:app", "--runtime", runtime)
    (waiting,) = driver.request(get(f"/wait?key={key}"))
    assert driver.get("/hello").text == "hello"
    assert driver.stop() == 0
    assert driver.answer(waiting).status == 500
    assert "the lifespan has shut down" in driver.log()
    assert "Traceback" not in driver.log()


@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_wsgi_reactor_stops(start, threads):
    driver = start("driven_wsgi:app", "--threads", threads)
    assert driver.get("/hello").text == "hello"
    assert driver.stop() == 0


def test_a_control_channel_that_ends_ends_the_process(start):
    driver = start("driven_asgi:app")
    driver.control.close()
    assert driver.wait_exit() == 0
    assert "the lifespan has shut down" in driver.log()


def test_an_express_lane_that_ends_ends_the_process(start):
    driver = start("driven_asgi:app")
    driver.close_express()
    assert driver.wait_exit() == 0


def test_a_process_whose_parent_is_killed_ends_even_while_its_app_blocks(start, tmp_path):
    """The control channel stays open here, so only the parent's death can end the process."""
    pid_file, blocked = tmp_path / "pid", tmp_path / "blocked"
    parent = (
        "import pathlib, subprocess, sys;"
        f"p = subprocess.Popen(sys.argv[1:], close_fds=False);"
        f"pathlib.Path({str(pid_file)!r}).write_text(str(p.pid));"
        "p.wait()"
    )
    driver = start("blocking:app", wrapper=(sys.executable, "-c", parent))
    reactor = int(pid_file.read_text())
    handle = os.pidfd_open(reactor)
    try:
        driver.request(get(f"/?{blocked}"))
        driver.wait(blocked.exists)
        driver.process.send_signal(signal.SIGKILL)
        driver.wait(lambda: not _runs(reactor))
    finally:
        try:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.close(handle)


def test_a_process_whose_parent_died_before_it_began_does_not_import_the_app(tmp_path):
    (tmp_path / "endless.py").write_text("while True: pass")
    front_end, control = socket.socketpair()
    front_end.close()
    with control:
        words = [f"--control-fd={control.fileno()}", f"--app-dir={tmp_path}", "endless:app"]
        done = subprocess.run(
            [sys.executable, "-m", "reactor_run.reactor", *words],
            pass_fds=[control.fileno()],
            timeout=30,
        )
    assert done.returncode == 0


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_ctrl_c_does_not_end_a_reactor(start):
    driver = start("driven_asgi:app")
    driver.process.send_signal(signal.SIGINT)
    assert driver.get("/hello").text == "hello"
    assert driver.stop() == 0
    assert "Traceback" not in driver.log()


# In between


def test_ping_is_answered_with_its_token(asgi):
    asgi.tell({"ping": "a word"})
    assert asgi.wait(lambda: {"pong": "a word"} in asgi.messages)


def test_messages_wait_while_the_control_channel_is_full(start):
    """No message is lost while the front end does not read."""
    driver = start("driven_asgi:app", express=False)
    count = 5000
    for number in range(count):
        driver.tell({"ping": number})
    pongs = [{"pong": number} for number in range(count)]
    driver.wait(lambda: driver.messages[1:] == pongs)


def test_an_unknown_message_is_ignored(on_trio):
    on_trio.tell({"a later version's": "word"})
    on_trio.tell({"ping": "after"})
    assert on_trio.wait(lambda: {"pong": "after"} in on_trio.messages)


@pytest.mark.parametrize("line", [b"no JSON\n", b"[1]\n"])
def test_a_malformed_control_channel_ends_the_process(start, line):
    driver = start("driven_asgi:app")
    driver.control.sendall(line)
    assert driver.wait_exit() == 1
    assert "ControlError" in driver.log()


# An express lane out of step

REQUEST = get("/hello")
PREFIX = request_prefix(CLIENT, SERVER)


def frame(request):
    return pack_request(PREFIX, 1, len(request)) + request


FRAME = frame(REQUEST)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        pytest.param(REQUEST + bytes(64), "FrameError", id="no PROXY header"),
        pytest.param(FRAME.replace(b"\5\0\10", b"\4\0\10"), "FrameError", id="no TLVs"),
        pytest.param(pack_message(1, 0xE9), "FrameError", id="unknown kind"),
        pytest.param(frame(REQUEST[:9]), "FrameError", id="half a request"),
        pytest.param(frame(post("/echo", b"body") + b"!"), "FrameError", id="more than a body"),
        pytest.param(frame(b"\0\0\r\n\r\n"), "Rejected", id="no request"),
        pytest.param(pack_request(PREFIX, 1, 1 << 30), "FrameError", id="too large"),
    ],
)
def test_a_malformed_express_lane_ends_the_process(start, data, told):
    driver = start("driven_asgi:app")
    driver.send_express(data)
    assert driver.wait_exit() == 1
    assert told in driver.log()


def test_a_longer_body_behind_a_known_head_ends_the_process(start):
    driver = start("driven_asgi:app")
    request = post("/echo", b"body")
    for _ in range(3):
        for number in driver.request(request):
            driver.answer(number)
    driver.send_express(frame(request + b"!"))
    assert driver.wait_exit() == 1
    assert "FrameError" in driver.log()


@pytest.mark.parametrize("runtime", RUNTIMES[1:])
def test_a_malformed_express_lane_ends_the_process_on_every_runtime(start, runtime):
    driver = start("driven_asgi:app", "--runtime", runtime)
    driver.send_express(bytes(64))
    assert driver.wait_exit() == 1
    assert "FrameError" in driver.log()
