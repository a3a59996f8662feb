"""The descriptors that a child of an app shares with its reactor."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.reactor.driver import get

APPS = Path(__file__).parents[1] / "integration" / "apps"
KINDS = [
    *(("asgi", "--runtime", runtime) for runtime in ("trio", "asyncio", "uvloop")),
    *(("wsgi", "--threads", threads) for threads in ("1", "2")),
]


@pytest.mark.parametrize("kind", KINDS, ids=" ".join)
def test_a_child_holds_neither_lanes_nor_clients_nor_the_control_channel(start, kind):
    """Otherwise the child would keep them open after the reactor has ended."""
    interface, *options = kind
    driver = start(f"forking:{interface}", "--lifespan", "off", *options, app_dir=APPS)
    lane = driver.open_lane()
    driver.get("/pid")
    before = driver.open_files()
    _, client = driver.share_client()
    driver.wait(lambda: driver.open_files() == before + 1)
    child = int(driver.get("/daemon").body)
    try:
        driver.process.kill()
        driver.process.wait()
        # The kernel reports this when no process holds the other end any more.
        driver.wait(lambda: driver.control.fileno() < 0)
        assert lane.sock.recv(1) == b""
        assert client.recv(1) == b""
        driver.wait(lambda: driver._express.fileno() < 0)
        os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("kind", KINDS, ids=" ".join)
def test_an_answer_of_a_child_is_not_sent(start, kind):
    interface, *options = kind
    driver = start(f"forking:{interface}", "--lifespan", "off", *options, app_dir=APPS)
    (number,) = driver.request(get("/returns"))
    assert driver.answer(number).body == b"0"
    assert driver.get("/pid").body == str(driver.process.pid).encode()
    assert driver.stop() == 0
    assert len(driver.kinds(number)) <= 2
    assert len([data for each, _, data in driver.frames if each == number and data]) == 1
