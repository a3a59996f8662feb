"""Whether HTTP/2 is spoken, by the setting and by what is installed."""

from __future__ import annotations

import importlib.util

import pytest

from reactor_run.frontend.clients.http2_service import open_http2
from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.loop.epoll import Loop
from reactor_run.protocol.http2.session import PREFACE
from tests.frontend.conftest import Start

SETTINGS = 4
EMPTY_SETTINGS = bytes((0, 0, 0, SETTINGS, 0, 0, 0, 0, 0))


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    loop = Loop()
    assert open_http2("auto", loop, streams_max=1) is None
    assert open_http2("off", loop, streams_max=1) is None
    with pytest.raises(OperatorError, match=r"pip install 'reactor-run\[http2\]'"):
        open_http2("on", loop, streams_max=1)


def test_a_preface_in_two_pieces(start: Start) -> None:
    """The first piece alone is no request that could be judged (RFC 9113 §3.4)."""
    front = start()
    for size in range(1, len(PREFACE)):
        client = front.connect()
        client.send(PREFACE[:size])
        front.settle()
        client.send(PREFACE[size:] + EMPTY_SETTINGS)
        assert client._sock.recv(1 << 16)[3] == SETTINGS, size


def test_what_only_begins_like_a_preface_is_rejected(start: Start) -> None:
    front = start()
    client = front.connect()
    client.send(b"PRI * HTTP/2")
    front.settle()
    client.send(b".1\r\n\r\n")
    assert client._sock.recv(1 << 16).startswith(b"HTTP/1.1 505 ")
