"""The byte stream to one client."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import pytest

from reactor_run.frontend.clients.transport import Transport


def test_no_call_waits_on_a_shared_socket_whose_flag_was_cleared(tmp_path) -> None:
    """A duplicate shares O_NONBLOCK, and a child of an app may clear it."""
    ours, client = socket.socketpair()
    (tmp_path / "file").write_bytes(bytes(1 << 22))
    with ours, client, (tmp_path / "file").open("rb") as file:
        ours.setblocking(False)
        transport = Transport(ours)
        transport.share()
        calls = [
            lambda: transport.recv(1),
            lambda: transport.recv_into(bytearray(1)),
            lambda: transport.send(bytes(65536)),
            lambda: transport.sendmsg([bytes(65536), b"more"]),
            lambda: transport.send_file(file.fileno(), 0, 1 << 22),
        ]
        for call in calls:
            os.set_blocking(ours.fileno(), True)
            with pytest.raises(BlockingIOError):
                _repeat(call)
        assert not transport.has_arrived


def _repeat(call: Callable[[], object]) -> None:
    """Call until the kernel's buffer is full."""
    for _ in range(1000):
        call()
