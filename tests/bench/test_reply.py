"""Answers are read whole, however their bytes are cut."""

import pytest

from bench.load.reply import Garbled, Reply

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 503 No\r\nretry-after: 3\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n0\r\n\r\n"
)


@pytest.mark.parametrize("text", [LENGTH, CHUNKED, b"HTTP/1.1 100 Continue\r\n\r\n" + LENGTH])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_an_answer_is_whole_with_its_last_byte_and_not_before(text, size):
    reply = Reply()
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    assert [reply.feed(piece) for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert reply.is_whole
    assert reply.status == (503 if text is CHUNKED else 200)
    assert reply.retry is (text is CHUNKED)
    assert not reply.closes


def test_an_answer_without_a_length_ends_with_the_connection():
    reply = Reply()
    assert not reply.eof()
    assert not reply.feed(b"HTTP/1.1 200 OK\r\n\r\nhello")
    assert reply.closes
    assert reply.eof()


@pytest.mark.parametrize("field", [b"Connection: close", b"connection:close"])
def test_it_is_told_that_the_connection_closes(field):
    reply = Reply()
    assert reply.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + field + b"\r\n\r\n")
    assert reply.closes


@pytest.mark.parametrize(
    "text",
    [
        LENGTH + b"!",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n",
    ],
)
def test_what_is_no_answer_is_garbled(text):
    with pytest.raises(Garbled):
        Reply().feed(text)
