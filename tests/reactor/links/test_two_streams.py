"""Two streams of one exchange: early hints from a thread, while the whole answer is completed."""

from __future__ import annotations

import select
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from reactor_run.protocol.express import (
    ASK,
    BYTES,
    DONE,
    END,
    INTERIM,
    PIECE_MAX,
    RELAY,
    pack_message,
    pack_request,
    read_answers,
    request_prefix,
)
from reactor_run.pulse import Pulse
from reactor_run.reactor.links.express import ExpressPort
from reactor_run.reactor.links.stream import StreamEnd
from tests.reactor.driver import DEADLINE

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
BODY = b"b" * (PIECE_MAX + 1000)
ANSWER = [b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(BODY), BODY]


class Loop:
    """What an express port uses of the reactor's loop."""

    def __init__(self):
        self.pulse = Pulse()

    def watch(self, fd, events, handler):
        self.handle = handler

    def after_batch(self, function):
        pass

    def flush_soon(self):
        pass


@pytest.fixture
def loop():
    loop = Loop()
    yield loop
    loop.pulse.close()


@pytest.mark.parametrize("hints_first", [True, False])
def test_an_answer_goes_on_after_the_stream_of_early_hints_has_ended(loop, hints_first):
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def open_stream(number):
            return StreamEnd(loop, port, number, None, asks=True)

        exchange: Any = SimpleNamespace()
        no_clients: Any = None
        port = ExpressPort(loop, ours, no_clients, lambda *_: exchange, lambda: None, open_stream)
        theirs.sendall(pack_request(request_prefix(None, None), 1, len(REQUEST)) + REQUEST)
        loop.handle(select.EPOLLIN)
        # A thread has asked for early hints when the app returned its whole answer.
        hinting = open_stream(1)
        if hints_first:
            hinting.send_interim(HINTS)
        port.over(1, ANSWER, sum(map(len, ANSWER)))
        hinting.release()

        theirs.sendall(pack_message(1, RELAY))
        loop.handle(select.EPOLLIN)
        port.flush()
        data = b""
        messages: list[tuple[int, int, bytes]] = []
        theirs.settimeout(DEADLINE)
        while END not in [kind for _, kind, _ in messages]:
            data += theirs.recv(1 << 20)
            messages, _ = read_answers(data)
        kinds = [kind for _, kind, _ in messages]
        assert kinds[: 2 + hints_first] == [INTERIM] * hints_first + [ASK, DONE]
        answer = b"".join(payload for _, kind, payload in messages if kind in (ASK, BYTES))
        assert answer == b"".join(ANSWER)
        assert not port.streams
