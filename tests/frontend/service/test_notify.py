"""Messages to the service manager, over a real datagram socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from math import inf
from pathlib import Path
from time import monotonic_ns

import pytest

from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.loop.epoll import Loop
from reactor_run.frontend.service.notify import Notifier


class Manager:
    """The service manager's end of the socket."""

    def __init__(self, name: str) -> None:
        """`name`: a path, or `@` and an abstract name, as in NOTIFY_SOCKET."""
        self.name = name
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind("\0" + name[1:] if name.startswith("@") else name)
        self.sock.setblocking(False)

    def heard(self) -> list[str]:
        """Return all messages that have arrived."""
        messages = []
        while True:
            try:
                messages.append(self.sock.recv(4096).decode())
            except BlockingIOError:
                return messages


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    abstract = f"@reactor-run-notify-{os.getpid()}"
    manager = Manager(abstract if request.param == "abstract" else str(tmp_path / "notify"))
    yield manager
    manager.sock.close()


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    assert not any(loop._due.values()), "a deadline was left behind"
    loop._epoll.close()


def environ(manager: Manager, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": manager.name, "PATH": "/bin", **more}


def test_the_variables_are_taken_away(manager: Manager) -> None:
    variables = environ(manager, WATCHDOG_USEC="30000000", WATCHDOG_PID="1")
    Notifier(variables).close()
    assert variables == {"PATH": "/bin"}


def test_ready_reloading_stopping(manager: Manager, loop: Loop) -> None:
    notifier = Notifier(environ(manager))
    notifier.attach(loop, lambda: "all is well")
    assert manager.heard() == ["STATUS=all is well"]
    notifier.ready()
    assert manager.heard() == ["READY=1\nSTATUS=all is well"]
    before = monotonic_ns() // 1000
    notifier.reloading()
    (message,) = manager.heard()
    words, _, time = message.rpartition("=")
    assert words == "RELOADING=1\nMONOTONIC_USEC"
    assert before <= int(time) <= monotonic_ns() // 1000
    notifier.main_pid(4711)
    notifier.stopping(40.5)
    notifier.status("over")
    assert manager.heard() == [
        "MAINPID=4711",
        "STOPPING=1\nEXTEND_TIMEOUT_USEC=40500000",
        "STATUS=over",
    ]
    notifier.close()


def test_figures_are_told_when_they_change(manager: Manager, loop: Loop) -> None:
    figures = "1 request"
    notifier = Notifier(environ(manager))
    notifier.attach(loop, lambda: figures)
    notifier.on_deadline()
    assert manager.heard() == ["STATUS=1 request"]
    figures = "2 requests"
    notifier.on_deadline()
    notifier.on_deadline()
    assert manager.heard() == ["STATUS=2 requests"]
    assert notifier.deadline - loop.now >= 3, "told more often than every few seconds"
    notifier.close()


def test_the_watchdog_is_fed_in_time(manager: Manager, loop: Loop) -> None:
    for seconds in 3, 4, 10, 30, 600:
        for pid in {}, {"WATCHDOG_PID": str(os.getpid())}:
            notifier = Notifier(environ(manager, WATCHDOG_USEC=f"{seconds}000000", **pid))
            notifier.attach(loop, str)
            assert manager.heard() == ["WATCHDOG=1"]
            # A deadline may be two seconds late.
            assert 0 < notifier.deadline - loop.now + 2 < seconds
            notifier.on_deadline()
            assert manager.heard() == ["WATCHDOG=1"]
            notifier.close()


def test_the_watchdog_of_another_process_is_not_fed(manager: Manager, loop: Loop) -> None:
    notifier = Notifier(environ(manager, WATCHDOG_USEC="30000000", WATCHDOG_PID="1"))
    notifier.attach(loop, str)
    notifier.on_deadline()
    assert manager.heard() == []
    notifier.close()


def test_messages_that_a_full_manager_could_not_take_come_later_in_order(
    manager: Manager, loop: Loop
) -> None:
    notifier = Notifier(environ(manager, WATCHDOG_USEC="30000000"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        try:
            while True:
                other.sendto(b"noise", manager.sock.getsockname())
        except BlockingIOError:
            pass
    notifier.reloading()
    assert manager.sock.recv(4096) == b"noise"
    notifier.ready()  # has RELOADING=1 take the one place, and waits
    notifier.attach(loop, str)
    heard = [text for text in manager.heard() if text != "noise"]
    notifier.on_deadline()
    heard += manager.heard()
    kinds = [text.partition("\n")[0] for text in heard]
    assert kinds == ["RELOADING=1", "READY=1", "WATCHDOG=1"]
    notifier.close()


def test_without_a_manager_no_message_is_sent(loop: Loop) -> None:
    notifier = Notifier({"WATCHDOG_USEC": "30000000"})
    notifier.attach(loop, str)
    notifier.ready()
    notifier.stopping(1)
    assert notifier.deadline == inf
    notifier.close()


def test_a_manager_that_is_gone_is_logged_once(
    manager: Manager, loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifier(environ(manager, WATCHDOG_USEC="30000000"))
    manager.sock.close()
    if not manager.name.startswith("@"):
        os.unlink(manager.name)
    notifier.ready()
    notifier.attach(loop, lambda: "all is well")
    notifier.stopping(1)
    (record,) = caplog.records
    assert "cannot send to the service manager" in record.getMessage()
    notifier.close()


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"NOTIFY_SOCKET": "vsock:2:1234"}, "NOTIFY_SOCKET=vsock:2:1234"),
        ({"WATCHDOG_USEC": "often"}, "WATCHDOG_USEC=often"),
        ({"WATCHDOG_USEC": "9", "WATCHDOG_PID": "me"}, "WATCHDOG_PID=me"),
        ({"WATCHDOG_USEC": "2900000"}, "WatchdogSec=2.9 is too short"),
    ],
)
def test_variables_that_are_malformed(variables: dict[str, str], words: str) -> None:
    with pytest.raises(OperatorError, match=words):
        Notifier(left := {"NOTIFY_SOCKET": "@nobody", **variables})
    assert left == {}
