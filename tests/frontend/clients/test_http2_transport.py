"""The byte stream of one HTTP/2 stream, over a session that notes what it is told."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock, call

import pytest

from reactor_run.frontend.clients.http2_transport import StreamTransport
from reactor_run.protocol.http2.session import PROTOCOL_ERROR


def opened(length: int) -> tuple[StreamTransport, Any]:
    """Return the transport of a request with this Content-Length, and its session."""
    owner = Mock()
    transport = StreamTransport(owner)
    transport.begin(1)
    assert transport.open(b"POST", length, False) == b""
    return transport, owner.session


@pytest.mark.parametrize(
    "pieces",
    [
        [(b"123456", False)],
        [(b"12345", False), (b"6", False)],
        [(b"12345", False), (b"6", True)],
        [(b"1234", True)],
        [(b"123", False), (b"", True)],
    ],
)
def test_content_that_is_not_as_long_as_its_length(pieces: list[tuple[bytes, bool]]) -> None:
    """The library refuses it too. If it did not, the rest would be read as another request."""
    transport, session = opened(5)
    for data, ended in pieces:
        assert transport.number
        transport.put(data, ended)
    assert session.reset.mock_calls == [call(1, PROTOCOL_ERROR)]
    assert not transport.number
    with pytest.raises(BlockingIOError):
        transport.recv(100)


def test_content_as_long_as_its_length() -> None:
    transport, session = opened(5)
    transport.put(b"123", False)
    transport.put(b"45", True)
    assert transport.recv(100) == b"12345"
    assert session.acknowledge.mock_calls == [call(1, 5)]
    assert not session.reset.mock_calls
