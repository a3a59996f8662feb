"""Control channels: what the kernel refuses, one end against the other."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from reactor_run.channel import ControlChannel
from reactor_run.protocol.control_messages import ClientsClosed, ClientShared, read_for_reactor


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ControlChannel(ours, read_for_reactor), ControlChannel(theirs, read_for_reactor)


def test_a_descriptor_too_many_leaves_the_others_to_their_messages(ends, monkeypatch, tmp_path):
    """ETOOMANYREFS (unix(7)): too many descriptors of the user are on their way."""
    sender, receiver = ends
    send_fds = socket.send_fds
    refused = 0

    def refusing(sock, buffers, descriptors):
        nonlocal refused
        if b'"client":2,' in buffers[0]:
            refused += 1
            raise OSError(errno.ETOOMANYREFS, "too many references")
        return send_fds(sock, buffers, descriptors)

    monkeypatch.setattr(socket, "send_fds", refusing)
    inodes = []
    for number in (1, 2, 3):
        path = tmp_path / str(number)
        with path.open("w") as file:
            inodes.append(os.fstat(file.fileno()).st_ino)
            sender.send(ClientShared(number, file.fileno()), file.fileno())
    sender.send(ClientsClosed([1]))
    assert refused == 1
    got = []
    while messages := receiver.receive():
        got += messages
    first, second, third, closed = got
    assert (first.number, second.number, third.number) == (1, 2, 3)
    assert second.fd is None
    for message, inode in ((first, inodes[0]), (third, inodes[2])):
        assert os.fstat(message.fd).st_ino == inode
        os.close(message.fd)
    assert closed == ClientsClosed([1])
