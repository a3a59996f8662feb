"""`breakpoint()`, pdb and `input()` of an app, typed at a pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.client import Client, Response
from tests.integration.conftest import Start
from tests.integration.server import clean_environment, command, is_alive, process_fields
from tests.integration.waiting import eventually

ASGI = """
import os, signal, sys

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    answer = 1
    if scope["path"] == "/break":
        breakpoint()
        answer += 1
    elif scope["path"] == "/ask":
        answer = input("name? ")
    elif scope["path"] == "/pid":
        answer = os.getpid()
    elif scope["path"] == "/child":
        ours, theirs = os.pipe()
        if not os.fork():
            os.write(theirs, str(signal.getsignal(signal.SIGINT)).encode())
            os._exit(0)
        answer = os.read(ours, 100).decode()
    elif scope["path"] == "/hook":
        import hook
        breakpoint()
        answer = hook.line
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(answer).encode()})
"""
WSGI = """
import signal

def app(environ, start_response):
    answer = 1
    if environ["PATH_INFO"] == "/break":
        breakpoint()
        answer += 1
    elif environ["PATH_INFO"] == "/ask":
        answer = input("name? ")
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/hook":
        breakpoint()
        return Interrupted([b"1"])
    return [str(answer).encode()]

class Interrupted(list):
    def __iter__(self):
        # The reactor calls this right after the call of the app.
        signal.raise_signal(signal.SIGINT)
        return super().__iter__()
"""
HOOK = """
import os

line = None

def set_trace():
    '''Reads as prompt_toolkit does: the descriptor, and not by input().'''
    global line
    os.write(1, b"(hook) ")
    line = os.read(0, 100).decode().strip()
"""
PROMPT = r"\(Pdb\) $"


class Typist:
    """`reactor-run` in the foreground of a terminal, and who sits there."""

    def __init__(
        self, folder: Path, *options: str, shell: bool = False, until: str = "accepting connections"
    ) -> None:
        words = command("--bind", f"unix:{folder}/s", "--access-log", "off", *options, "web:app")
        self.folder = folder
        environment = clean_environment({"TERM": "dumb", "PS1": "$ ", "HISTFILE": ""})
        environment.pop("PYTHONBREAKPOINT", None)
        if "--hook" in words:
            words.remove("--hook")
            environment["PYTHONBREAKPOINT"] = "hook.set_trace"
        self.pid, self._terminal = pty.fork()
        if not self.pid:
            os.chdir(folder)
            program = ["bash", "--norc", "--noprofile", "-i"] if shell else words
            os.execvpe(program[0], program, environment)
        self.screen = ""
        if shell:
            self.reads(r"\$ $")
            self.types(" ".join(words))
        self.reads(until)

    def _look(self, seconds: float) -> None:
        if select.select([self._terminal], [], [], seconds)[0]:
            try:
                self.screen += os.read(self._terminal, 65536).decode()
            except OSError:
                # The last process has closed the terminal.
                pass

    def reads(self, pattern: str, deadline: float = 30.0) -> str:
        """Read the screen from the last match on, until it matches. Returns what was matched."""
        end = time.monotonic() + deadline
        while (found := re.search(pattern, self.screen)) is None:
            assert time.monotonic() < end, f"no {pattern!r} on {self.screen!r}"
            self._look(0.1)
        self.screen = self.screen[found.end() :]
        return found[0]

    def types(self, text: str) -> None:
        os.write(self._terminal, text.encode() + b"\n")

    def presses(self, key: str) -> None:
        """Press a key together with Ctrl."""
        os.write(self._terminal, bytes([ord(key) & 0x1F]))

    def thinks(self, seconds: float) -> None:
        """Do nothing for this time: it is what the test is about."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._look(left)

    @property
    def foreground(self) -> int:
        """The process group that reads from the terminal."""
        return int.from_bytes(
            fcntl.ioctl(self._terminal, termios.TIOCGPGRP, b"    "), sys.byteorder
        )

    def get(self, path: str = "/") -> Response:
        with Client(f"unix:{self.folder}/s") as client:
            return client.request("GET", path)

    def ends(self) -> int:
        """Press Ctrl-C, and return the exit status."""
        self.presses("C")
        return self.ended()

    def ended(self) -> int:
        status: list[int] = []

        def is_over() -> bool:
            self._look(0)
            pid, how = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                status.append(os.waitstatus_to_exitcode(how))
            return bool(pid)

        eventually(is_over)
        self.pid = 0
        return status[0]

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._terminal)


class Asking:
    """A request whose answer is awaited in a thread."""

    def __init__(self, typist: Typist, path: str) -> None:
        self._responses: list[Response] = []
        self._thread = threading.Thread(target=lambda: self._responses.append(typist.get(path)))
        self._thread.start()

    def response(self) -> Response:
        self._thread.join(30)
        return self._responses[0]


Sit = Callable[..., Typist]


@pytest.fixture
def sit(tmp_path: Path) -> Iterator[Sit]:
    """`sit(source, *options)`: start the app at a terminal of its own."""
    typists = []

    def run(source: str, *options: str, **more: Any) -> Typist:
        (tmp_path / "web.py").write_text(source)
        (tmp_path / "hook.py").write_text(HOOK)
        typists.append(Typist(tmp_path, *options, **more))
        return typists[-1]

    yield run
    for typist in typists:
        typist.close()


@pytest.mark.parametrize(
    ("source", "options"),
    [
        (ASGI, ["--runtime", "trio"]),
        (ASGI, ["--runtime", "asyncio"]),
        (ASGI, ["--runtime", "uvloop"]),
        (WSGI, []),
        (WSGI, ["--threads", "2"]),
    ],
    ids=["trio", "asyncio", "uvloop", "wsgi", "threads"],
)
def test_a_breakpoint_stops_the_app_and_the_timeout(
    sit: Sit, source: str, options: list[str]
) -> None:
    typist = sit(source, "--timeout", "0.4", *options)
    asking = Asking(typist, "/break")
    typist.reads(PROMPT)
    typist.thinks(1.0)
    typist.types("answer + 40")
    typist.reads("41")
    typist.reads(PROMPT)
    typist.types("answer = 7")
    typist.reads(PROMPT)
    typist.types("c")
    assert asking.response().body == b"8"
    asking = Asking(typist, "/ask")
    typist.reads(r"name\? $")
    typist.thinks(0.6)
    typist.types("Ada")
    assert asking.response().body == b"Ada"
    assert typist.ends() == 0
    assert "killing it" not in typist.screen


def waits(pid: int) -> bool:
    """Whether a process sleeps. Between its prompt and its wait, Python itself misses a signal."""
    return process_fields(pid)[:1] == ["S"]


def test_ctrl_c_interrupts_the_prompt_and_then_stops_the_service(sit: Sit) -> None:
    typist = sit(ASGI)
    front_end = typist.foreground
    asking = Asking(typist, "/break")
    typist.reads(PROMPT)
    assert eventually(lambda: typist.foreground != front_end)
    assert eventually(lambda: waits(typist.foreground))
    typist.presses("C")
    typist.reads("--KeyboardInterrupt--")
    typist.reads(PROMPT)
    # Ctrl-Z would stop a process that no shell waits for.
    typist.presses("Z")
    typist.types("c")
    assert asking.response().body == b"2"
    assert eventually(lambda: typist.foreground == front_end)
    asking = Asking(typist, "/ask")
    typist.reads(r"name\? $")
    assert eventually(lambda: waits(typist.foreground))
    typist.presses("C")
    assert asking.response().status == 500
    typist.reads("KeyboardInterrupt")
    assert typist.get().body == b"1"
    assert typist.ends() == 0
    assert "SIGINT received" in typist.screen


def test_a_prompt_in_a_thread_cannot_be_interrupted(sit: Sit) -> None:
    typist = sit(WSGI, "--threads", "2")
    asking = Asking(typist, "/break")
    typist.reads(PROMPT)
    typist.presses("Z")
    typist.presses("C")
    typist.reads(r"cannot interrupt a prompt in a thread; in pdb, enter q\)")
    typist.types("c")
    assert asking.response().body == b"2"
    assert typist.ends() == 0


def test_a_child_of_the_app_has_the_ordinary_handler_of_ctrl_c(sit: Sit) -> None:
    typist = sit(ASGI)
    assert typist.get("/child").body == str(signal.default_int_handler).encode()
    assert typist.ends() == 0


def test_a_hang_between_two_prompts_is_found(sit: Sit) -> None:
    typist = sit(ASGI, "--timeout", "0.4")
    front_end = typist.foreground
    asking = Asking(typist, "/break")
    typist.reads(PROMPT)
    typist.types("import threading; threading.Event().wait()")
    typist.reads("no answer to a ping for 0.4 s, killing it")
    # The retry stops there too.
    typist.reads(PROMPT)
    assert typist.foreground != front_end
    typist.types("c")
    assert asking.response().body == b"2"
    assert typist.ends() == 0


def test_a_reactor_that_dies_at_its_prompt_gives_the_terminal_back(sit: Sit) -> None:
    typist = sit(ASGI, "--replay", "off")
    front_end = typist.foreground
    pid = int(typist.get("/pid").body)
    asking = Asking(typist, "/ask")
    typist.reads(r"name\? $")
    assert typist.foreground == pid
    os.kill(pid, signal.SIGKILL)
    assert asking.response().status == 502
    assert typist.foreground == front_end
    assert eventually(lambda: typist.get().body == b"1")
    assert typist.ends() == 0


def test_a_prompt_while_the_app_is_imported(sit: Sit) -> None:
    typist = sit(
        "first = input('first? ')\n" + WSGI.replace("answer = 1", "answer = first"),
        "--start-timeout",
        "2.5",
        until=r"first\? $",
    )
    typist.thinks(3.0)
    typist.types("seven")
    typist.reads("ready, accepting connections")
    assert typist.get().body == b"seven"
    assert typist.ends() == 0


def test_another_debugger_gets_the_terminal_from_breakpoint(sit: Sit) -> None:
    typist = sit(ASGI, "--hook", "--timeout", "0.4")
    front_end = typist.foreground
    asking = Asking(typist, "/hook")
    typist.reads(r"\(hook\) $")
    typist.thinks(0.8)
    typist.types("typed")
    assert asking.response().body == b"typed"
    assert eventually(lambda: typist.foreground == front_end)
    assert typist.ends() == 0


def test_ctrl_c_after_the_call_with_another_debugger_stops_the_service(sit: Sit) -> None:
    """The reactor has the terminal still. An exception in it would end its loop."""
    typist = sit(WSGI, "--hook")
    asking = Asking(typist, "/hook")
    typist.reads(r"\(hook\) $")
    typist.types("go on")
    typist.reads("SIGINT received, shutting down")
    assert asking.response().body == b"1"
    assert typist.ended() == 0


def test_a_reload_does_not_end_a_debugger(sit: Sit) -> None:
    typist = sit(ASGI, "--graceful-timeout", "0.5")
    asking = Asking(typist, "/break")
    typist.reads(PROMPT)
    os.kill(typist.pid, signal.SIGHUP)
    typist.reads("generation 2 serves")
    typist.thinks(1.0)
    assert typist.get().body == b"1"
    typist.types("c")
    assert asking.response().body == b"2"
    assert typist.ends() == 0


def test_a_stop_at_a_prompt(sit: Sit) -> None:
    typist = sit(ASGI, "--graceful-timeout", "0.5")
    pid = int(typist.get("/pid").body)
    asking = Asking(typist, "/break")
    typist.reads(PROMPT)
    os.kill(typist.pid, signal.SIGTERM)
    assert typist.ended() == 0
    assert asking.response().status in (500, 502)
    assert not is_alive(pid)


def test_under_a_shell_with_job_control(sit: Sit) -> None:
    typist = sit(ASGI, shell=True)
    asking = Asking(typist, "/break")
    typist.reads(PROMPT)
    typist.types("c")
    assert asking.response().body == b"2"
    # In the background, an app that asks waits until it is in the foreground.
    typist.presses("Z")
    typist.reads("Stopped")
    typist.types("bg")
    asking = Asking(typist, "/ask")
    typist.types("echo 'still' 'here'")
    typist.reads("still here")
    typist.types("fg")
    typist.reads(r"name\? $")
    typist.types("Ada")
    assert asking.response().body == b"Ada"
    typist.presses("C")
    typist.reads(r"\$ $")
    typist.types("echo status $?; stty -a")
    typist.reads("status 0")
    typist.reads(" echo ")
    typist.types("exit")
    typist.ended()


@pytest.mark.parametrize(("source", "path"), [(ASGI, "/break"), (WSGI, "/ask")])
def test_without_a_terminal_the_log_says_what_is_missing(
    start: Start, connect: Callable[..., Client], tmp_path: Path, source: str, path: str
) -> None:
    (tmp_path / "web.py").write_text(source)
    server = start("web:app", app_dir=tmp_path)
    assert connect(server).request("GET", path).status == 500
    assert "(breakpoint() and input() need a terminal, and --reactors 1)" in server.log()
