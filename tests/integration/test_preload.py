"""`--preload on`: one process imports the app, and forks the reactors."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.integration.client import Client
from tests.integration.conftest import Start
from tests.integration.load import Load
from tests.integration.server import (
    ROOT,
    START_DEADLINE,
    DidNotStart,
    Server,
    clean_environment,
    command,
    is_alive,
    process_fields,
)
from tests.integration.waiting import eventually
from tests.needs import need_module

Connect = Callable[..., Client]

APP = """
import os, sys
from pathlib import Path

FOLDER = Path({folder!r})
with (FOLDER / "imports").open("a") as file:
    print(os.getpid(), file=file)

{more}

async def app(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/fork":
        pid = os.fork()
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)
    if scope["path"] == "/fail":
        raise RuntimeError("as asked")
    text = b"%d" % os.getpid()
    fields = [(b"content-length", b"%d" % len(text))]
    await send({{"type": "http.response.start", "status": 200, "headers": fields}})
    await send({{"type": "http.response.body", "body": text}})
"""


class Preloaded:
    """A server whose app notes each of its imports."""

    def __init__(self, start: Start, folder: Path) -> None:
        self._start = start
        self._folder = folder
        self.server: Server

    def write(self, more: str = "") -> None:
        (self._folder / "preloaded.py").write_text(APP.format(folder=str(self._folder), more=more))

    def start(self, *options: str, more: str = "", reactors: int = 2) -> Server:
        self.write(more)
        options = ("--lifespan", "off", "--preload", "on", *options)
        words = ["preloaded:app", "--reactors", str(reactors), *options]
        self.server = self._start(*words, app_dir=self._folder)
        eventually(lambda: self.server.log().count(" is ready") == reactors)
        return self.server

    def imports(self) -> list[int]:
        """The processes that have imported the app."""
        return [*map(int, (self._folder / "imports").read_text().split())]


@pytest.fixture
def preloaded(start: Start, tmp_path: Path) -> Preloaded:
    return Preloaded(start, tmp_path)


# The life of reactors -----------------------------------------------------------------------------


def test_reactors_are_forked_from_the_one_import(preloaded: Preloaded, connect: Connect) -> None:
    server = preloaded.start(reactors=3)
    (zygote,) = server.zygote_pids()
    assert preloaded.imports() == [zygote]
    pids = server.reactor_pids()
    assert len(pids) == 3
    assert int(connect(server).get("/").text) in pids
    for pid in pids:
        # Each leads a process group of its own, in the session of the front end.
        assert int(process_fields(pid)[2]) == pid
    for number in 1, 2, 3:
        assert re.search(rf"reactor {number} \(pid \d+\) is ready: asgi on trio", server.log())
    assert server.stop() == 0
    assert not any(map(is_alive, [zygote, *pids]))


def test_status_and_metrics_show_the_zygote(preloaded: Preloaded, tmp_path: Path) -> None:
    server = preloaded.start("--admin", f"unix:{tmp_path}/admin")
    (zygote,) = server.zygote_pids()
    with Client(f"unix:{tmp_path}/admin") as client:
        metrics = client.get("/metrics").text
    assert 'reactor_run_zygotes{state="ready"} 1' in metrics
    assert 'reactor_run_zygotes{state="importing"} 0' in metrics
    (memory,) = re.findall(r"reactor_run_zygote_resident_memory_bytes (\d+)", metrics)
    assert int(memory) > 1_000_000
    status = run("status", "--admin", f"unix:{tmp_path}/admin", options=())
    assert re.search(rf"  zygote       {zygote}, ready, up ", status.stdout), status.stdout


def test_a_killed_reactor_is_forked_again(preloaded: Preloaded, connect: Connect) -> None:
    server = preloaded.start()
    (zygote,) = server.zygote_pids()
    victim = server.reactor_pids()[0]
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: "reactor 3 " in server.log() and server.log().count(" is ready") == 3)
    # The exit status is known, so the front end is its parent.
    assert re.search(rf"reactor . \(pid {victim}\) was killed by signal 9", server.log())
    assert preloaded.imports() == [zygote]
    assert len(server.reactor_pids()) == 2
    assert connect(server).get("/").status == 200


def await_ready(server: Server, count: int) -> None:
    """Wait until so many reactors have become ready since the start."""
    eventually(lambda: server.log().count(" is ready") >= count, deadline=10)


def open_files(pid: int) -> int:
    """How many file descriptors a process holds."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_many_kills_in_a_row_lose_no_request(preloaded: Preloaded) -> None:
    """With the backoff of reactors that are imported anew, this would take minutes."""
    server = preloaded.start()
    (zygote,) = server.zygote_pids()
    files = open_files(zygote)
    loads = [Load(server.address, target="/") for _ in range(4)]
    try:
        for number in range(20):
            (victim, *_) = eventually(server.reactor_pids)
            os.kill(victim, signal.SIGKILL)
            await_ready(server, number + 3)
    finally:
        for load in loads:
            load.stop()
    assert server.zygote_pids() == preloaded.imports() == [zygote]
    assert eventually(lambda: open_files(zygote) == files)
    for load in loads:
        assert load.failure is None
        assert set(load.statuses) == {200}


CRASHING = """
import os, signal
from pathlib import Path

def after_fork(reactor):
    if Path({path!r}).exists():
        os.kill(os.getpid(), signal.SIGSEGV)
"""


def test_an_app_that_keeps_crashing_is_forked_with_a_backoff(
    preloaded: Preloaded, tmp_path: Path
) -> None:
    (tmp_path / "crashing.py").write_text(CRASHING.format(path=str(tmp_path / "crash")))
    server = preloaded.start("--hooks", "crashing")
    (tmp_path / "crash").touch()
    os.kill(server.reactor_pids()[0], signal.SIGKILL)
    eventually(lambda: "was killed by signal 11" in server.log())
    assert re.search(r"reactor 3: its replacement starts in 1 s", server.log())


def test_a_reload_imports_the_app_again(preloaded: Preloaded) -> None:
    server = preloaded.start()
    (first,) = server.zygote_pids()
    server.signal(signal.SIGHUP)
    eventually(lambda: "generation 2 serves" in server.log())
    eventually(lambda: len(server.zygote_pids()) == 1 and len(server.reactor_pids()) == 2)
    (second,) = server.zygote_pids()
    assert preloaded.imports() == [first, second]
    assert "error" not in server.log()


def test_a_reload_that_fails_keeps_the_zygote(preloaded: Preloaded) -> None:
    server = preloaded.start()
    (first,) = server.zygote_pids()
    preloaded.write("raise ValueError('broken')")
    server.signal(signal.SIGHUP)
    eventually(lambda: "RELOAD FAILED" in server.log())
    assert "RELOAD FAILED: importing preloaded failed: ValueError: broken" in server.log()
    os.kill(server.reactor_pids()[0], signal.SIGKILL)
    eventually(lambda: server.log().count(" is ready") == 3)
    assert server.zygote_pids() == [first]


HANGS = pytest.param(signal.SIGSTOP, marks=[pytest.mark.slow, pytest.mark.timeout(200)])


@pytest.mark.parametrize("number", [signal.SIGKILL, HANGS])
def test_a_zygote_that_dies_or_hangs_is_replaced_when_it_is_needed(
    preloaded: Preloaded, connect: Connect, number: signal.Signals
) -> None:
    server = preloaded.start("--start-timeout", "20")
    (zygote,) = server.zygote_pids()
    os.kill(zygote, number)
    if number == signal.SIGKILL:
        eventually(lambda: "was killed by signal 9" in server.log())
        assert len(server.reactor_pids()) == 2
    assert connect(server).get("/").status == 200
    os.kill(server.reactor_pids()[0], signal.SIGKILL)
    eventually(
        lambda: len(preloaded.imports()) == 2 and len(server.reactor_pids()) == 2, deadline=120
    )
    assert connect(server).get("/").status == 200
    eventually(lambda: server.zygote_pids() == preloaded.imports()[1:])


FATE = """
import signal

ZYGOTE = os.getpid()

def is_between():
    return os.getppid() == ZYGOTE and (FOLDER / "strike").exists()

def before():
    global strikes
    strikes = is_between()
    if strikes:
        (FOLDER / "strike").unlink()
        before_reactor()

def in_parent():
    if strikes:
        after_reactor()

def in_child():
    if strikes:
        in_reactor()

def nothing():
    pass

before_reactor = after_reactor = in_reactor = nothing
os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)
"""
"""Calls functions in the process between zygote and reactor, and in the reactor, around a fork."""


def test_a_reactor_that_is_killed_before_it_may_begin_leaves_the_zygote_alone(
    preloaded: Preloaded, tmp_path: Path
) -> None:
    more = """
def in_reactor():
    os.kill(os.getpid(), signal.SIGKILL)

def after_reactor():
    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
"""
    server = preloaded.start(more=FATE + more)
    (zygote,) = server.zygote_pids()
    (tmp_path / "strike").touch()
    os.kill(server.reactor_pids()[0], signal.SIGKILL)
    await_ready(server, 3)
    assert re.search(r"error reactor 3 \(pid \d+\) was killed by signal 9", server.log())
    assert server.zygote_pids() == [zygote]
    assert "Traceback" not in server.log()


def test_a_reactor_whose_zygote_dies_before_it_may_begin_ends_quietly(
    preloaded: Preloaded, tmp_path: Path
) -> None:
    more = """
def before_reactor():
    os.kill(ZYGOTE, signal.SIGSTOP)
"""
    server = preloaded.start(more=FATE + more)
    (zygote,) = server.zygote_pids()
    (tmp_path / "strike").touch()
    os.kill(server.reactor_pids()[0], signal.SIGKILL)
    # The front end becomes its parent when the process between has sent the number, and has ended.
    # It has the title of the zygote until it may begin.
    (reactor,) = eventually(lambda: set(server.zygote_pids()) - {zygote})
    os.kill(zygote, signal.SIGKILL)
    eventually(lambda: not is_alive(reactor))
    await_ready(server, 3)
    assert "Traceback" not in server.log()


def test_nothing_outlives_the_front_end(preloaded: Preloaded) -> None:
    server = preloaded.start()
    pids = [*server.zygote_pids(), *server.reactor_pids()]
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    eventually(lambda: not any(map(is_alive, pids)))


def test_forked_reactors_are_scaled_and_recycled(preloaded: Preloaded, connect: Connect) -> None:
    server = preloaded.start("--max-requests", "5")
    (zygote,) = server.zygote_pids()
    server.signal(signal.SIGTTIN)
    eventually(lambda: server.log().count(" is ready") == 3)
    with connect(server) as client:
        for _ in range(20):
            assert client.get("/").status == 200
    eventually(lambda: "replacing it" in server.log() and server.log().count(" is ready") > 3)
    assert preloaded.imports() == [zygote]


def test_a_child_that_the_app_forks_is_an_ordinary_process(
    preloaded: Preloaded, connect: Connect
) -> None:
    server = preloaded.start(reactors=1)
    with connect(server) as client:
        for _ in range(3):
            assert client.get("/fork").text == str(server.reactor_pids()[0])


def test_log_lines_name_the_forked_reactor(preloaded: Preloaded, connect: Connect) -> None:
    server = preloaded.start(reactors=1)
    assert connect(server).request("GET", "/fail").status == 500
    eventually(lambda: "RuntimeError: as asked" in server.log())
    assert re.search(r"error reactor 1: GET /fail: the app failed", server.log())


# Apps that cannot be forked -----------------------------------------------------------------------

LEFTOVERS = {
    "thread": (
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=[1000], name='poller', daemon=True).start()",
        r"the thread 'poller' \(from .*/preloaded.py, line \d+\)",
    ),
    "thread of C": (
        "import _thread, time\n_thread.start_new_thread(time.sleep, (1000,))",
        "a thread of a C library; see",
    ),
    "connection": (
        "import socket\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "connection = socket.create_connection(listener.getsockname())",
        r"a listener on 127.0.0.1:\d+ \(from .*/preloaded.py, line \d+\), "
        r"a connection to 127.0.0.1:\d+ \(from .*/preloaded.py, line \d+\)",
    ),
    "loop": (
        "import asyncio\nloop = asyncio.new_event_loop()",
        r"an event loop \(descriptor \d+\)",
    ),
}


@pytest.mark.parametrize("what", LEFTOVERS)
def test_an_app_that_cannot_be_forked_is_imported_by_each_reactor(
    preloaded: Preloaded, connect: Connect, what: str
) -> None:
    code, told = LEFTOVERS[what]
    server = preloaded.start(more=code)
    assert re.search(
        f"the app cannot be preloaded, so each reactor imports it: the import leaves {told}",
        server.log(),
    )
    pids = server.reactor_pids()
    assert set(preloaded.imports()[1:]) == set(pids)
    eventually(lambda: not server.zygote_pids())
    assert int(connect(server).get("/").text) in pids
    os.kill(pids[0], signal.SIGKILL)
    eventually(lambda: server.log().count(" is ready") == 3)
    # The app is not tried again before a reload.
    assert len(preloaded.imports()) == 4
    assert server.log().count("cannot be preloaded") == 1


def test_datagram_sockets_may_be_shared(preloaded: Preloaded) -> None:
    more = "import socket\nsender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)"
    preloaded.start(more=more)
    assert len(preloaded.imports()) == 1


# Starts that fail ---------------------------------------------------------------------------------


def run(
    *words: str, options: Sequence[str] = ("--preload", "on", "--bind", "127.0.0.1:0")
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words, *options),
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=START_DEADLINE,
        check=False,
    )


def test_an_app_that_fails_to_import_ends_the_service(preloaded: Preloaded, tmp_path: Path) -> None:
    preloaded.write("raise ValueError('broken')")
    done = run("preloaded:app", "--app-dir", str(tmp_path), "--reactors", "2")
    assert done.returncode == 2
    assert "error: importing preloaded failed: ValueError: broken\n" in done.stderr
    assert "in <module>" in done.stderr


def test_an_import_that_hangs_ends_the_service(preloaded: Preloaded, tmp_path: Path) -> None:
    preloaded.write("import time\ntime.sleep(1000)")
    done = run("preloaded:app", "--app-dir", str(tmp_path), "--start-timeout", "1")
    assert done.returncode == 2
    assert "the app was not ready after 1 s; see --start-timeout\n" in done.stderr


def test_a_stop_during_the_import_ends_all(preloaded: Preloaded, tmp_path: Path) -> None:
    preloaded.write("import time\ntime.sleep(1000)")
    words = command("preloaded:app", "--app-dir", str(tmp_path), "--preload", "on")
    process = subprocess.Popen(
        [*words, "--bind", "127.0.0.1:0", "--reactors", "2"],
        env=clean_environment(),
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    with process:
        eventually(preloaded.imports)
        (zygote,) = preloaded.imports()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=START_DEADLINE)
    assert process.returncode == 0, errors
    assert not is_alive(zygote)


# Hooks --------------------------------------------------------------------------------------------

HOOKS = """
import os
from pathlib import Path

def note(name, reactor):
    with Path({folder!r}, "hooks").open("a") as file:
        print(name, os.getpid() == reactor.pid, reactor.name, file=file)

def before_fork(reactor):
    note("before_fork", reactor)

def after_fork(reactor):
    note("after_fork", reactor)
    {more}

def reactor_init(reactor):
    note("reactor_init", reactor)

def on_reactor_start(reactor):
    assert reactor.pid > 0
"""


def test_hooks_around_the_fork(preloaded: Preloaded, tmp_path: Path) -> None:
    (tmp_path / "my_hooks.py").write_text(HOOKS.format(folder=str(tmp_path), more=""))
    server = preloaded.start("--hooks", "my_hooks", reactors=1)
    assert (tmp_path / "hooks").read_text().splitlines() == [
        "before_fork True reactor 1",
        "after_fork True reactor 1",
        "reactor_init True reactor 1",
    ]
    assert "error" not in server.log()


def test_an_after_fork_that_fails_ends_the_start(preloaded: Preloaded, tmp_path: Path) -> None:
    text = HOOKS.format(folder=str(tmp_path), more="raise KeyError('none')")
    (tmp_path / "my_hooks.py").write_text(text)
    with pytest.raises(DidNotStart, match="the hook after_fork failed: KeyError: 'none'"):
        preloaded.start("--hooks", "my_hooks")


# Frameworks ---------------------------------------------------------------------------------------

APPS = {
    "fastapi": ("fastapi", ["examples.fastapi_app:app", "--runtime", "uvloop"], "/"),
    "starlette on trio": ("starlette", ["examples.starlette_app:app", "--runtime", "trio"], "/"),
    "flask": ("flask", ["examples.flask_app:app", "--threads", "4"], "/"),
    "django": ("django", ["examples.django_app:application", "--threads", "8"], "/"),
    "django asgi": ("django", ["examples.django_app:asgi_application"], "/"),
}


@pytest.mark.parametrize("name", APPS)
def test_frameworks_are_preloaded(start: Start, connect: Connect, name: str) -> None:
    module, words, path = APPS[name]
    need_module(module)
    server = start(*words, "--preload", "on", "--reactors", "2", app_dir=ROOT)
    eventually(lambda: server.log().count(" is ready") == 2)
    assert "cannot be preloaded" not in server.log()
    (zygote,) = server.zygote_pids()
    assert connect(server).get(path).status == 200
    for pid in server.reactor_pids():
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: server.log().count(" is ready") == 4)
    assert connect(server).get(path).status == 200
    assert server.zygote_pids() == [zygote]


ENGINE = """
import sqlalchemy

engine = sqlalchemy.create_engine("sqlite:///{path}")

def app(environ, start_response):
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("INSERT INTO visits (pid) VALUES (1)"))
        (count,) = connection.execute(sqlalchemy.text("SELECT count(*) FROM visits")).one()
    text = b"%d" % count
    start_response("200 OK", [("Content-Length", str(len(text)))])
    return [text]
"""


def test_an_engine_of_sqlalchemy_made_at_import_is_shared(
    start: Start, connect: Connect, tmp_path: Path
) -> None:
    """It connects only when it is used, and so in each reactor."""
    need_module("sqlalchemy")
    import sqlite3

    path = tmp_path / "visits.db"
    with sqlite3.connect(path) as made:
        made.execute("CREATE TABLE visits (pid INTEGER)")
    made.close()
    (tmp_path / "engine_app.py").write_text(ENGINE.format(path=path))
    server = start("engine_app:app", "--preload", "on", "--reactors", "2", app_dir=tmp_path)
    assert server.zygote_pids()
    clients = [connect(server) for _ in range(4)]
    for count, client in enumerate(clients, 1):
        assert client.get("/").text == str(count)
