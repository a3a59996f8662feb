"""Control channels: what the kernel refuses, one end against the other."""

from __future__ import annotations

import errno
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from reactor_run.channel import ControlChannel
from reactor_run.protocol.control import encode_control
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
        # No child of an app gets it by exec.
        assert not os.get_inheritable(message.fd)
        os.close(message.fd)
    assert closed == ClientsClosed([1])


@contextmanager
def no_free_descriptor() -> Iterator[None]:
    """While the block runs, this process can open nothing (EMFILE)."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A new descriptor gets the lowest free number, which must be below the limit.
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("size", [1, 10, 1000])
def test_a_descriptor_without_a_free_number_leaves_the_others_to_their_messages(
    ends, tmp_path, size
):
    """EMFILE: the kernel drops it. Of its message only `size` bytes may have come by then."""
    sender, receiver = ends
    path = tmp_path / "file"
    path.touch()
    with path.open() as file:
        line = encode_control(ClientShared(1, file.fileno()).to_json())
        socket.send_fds(sender.sock, [line[:size]], [file.fileno()])
        with no_free_descriptor():
            got = receiver.receive()
        if line[size:]:
            sender.sock.send(line[size:])
        sender.send(ClientShared(2, file.fileno()), file.fileno())
        while messages := receiver.receive():
            got += messages
        inode = os.fstat(file.fileno()).st_ino
    first, second = got
    assert (first.number, first.fd) == (1, None)
    assert second.number == 2
    assert os.fstat(second.fd).st_ino == inode
    os.close(second.fd)
