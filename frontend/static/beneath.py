"""Opens files of a directory. No name, symbolic link or race leads outside of it.

openat2(2) with RESOLVE_BENEATH has the kernel guarantee that. Links that stay in the directory
work. Where the kernel or a filter of system calls does not allow it, the segments are opened one by
one with O_NOFOLLOW: then no link works.

Files that are no regular ones are not opened for reading by their content: O_NONBLOCK keeps the
open from waiting for the other end of a FIFO, and their kind is checked before a byte is read.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from typing import Final, NamedTuple

__all__ = ["Directory", "OpenFile"]

_OPENAT2: Final = 437
"""The number of the system call, the same on each architecture but Alpha."""
_NO_MAGICLINKS: Final = 0x02
_BENEATH: Final = 0x08
_CACHED: Final = 0x20
_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_WALK: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MISSING: Final = (
    errno.ENOTDIR,
    errno.ENAMETOOLONG,
    errno.EINVAL,
    # A link that leads outside, in a circle, or anywhere at all where links do not work.
    errno.EXDEV,
    errno.ELOOP,
    # A socket, or a device without a driver.
    errno.ENXIO,
)
_TRIES: Final = 32
"""How often an open is tried that races with renames."""


class _How(ctypes.Structure):
    """struct open_how of openat2(2)."""

    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def _how(resolve: int) -> ctypes._Pointer[_How]:
    return ctypes.pointer(_How(_READ, 0, resolve))


_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long
_ANYHOW: Final = _how(_BENEATH | _NO_MAGICLINKS)
_FROM_MEMORY: Final = _how(_BENEATH | _NO_MAGICLINKS | _CACHED)
_SIZE: Final = ctypes.sizeof(_How)


class OpenFile(NamedTuple):
    """A regular file, open for reading. Who has it closes it.

    modified: in nanoseconds since 1970.
    """

    fd: int
    size: int
    modified: int


class Directory:
    """One directory, open. It stays the same if its name is given to another one."""

    walks = False
    """openat2 does not work here."""
    lacks_cached = False
    """openat2 has no RESOLVE_CACHED, which is younger (Linux 5.12)."""
    _probed = False

    def __init__(self, path: str) -> None:
        """Raises OSError."""
        self._hold(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))

    def duplicate(self) -> Directory:
        """Return another one, for another thread. Raises OSError."""
        other = Directory.__new__(Directory)
        other._hold(os.dup(self.fd))
        return other

    def _hold(self, fd: int) -> None:
        self.fd = fd
        if not Directory._probed:
            Directory._probed = True
            self._probe()

    def _probe(self) -> None:
        """Find out what the kernel, and a filter such as seccomp, allow."""
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        for resolve in (_BENEATH | _NO_MAGICLINKS | _CACHED, _BENEATH | _NO_MAGICLINKS):
            fd = _syscall(_OPENAT2, self.fd, b".", ctypes.pointer(_How(flags, 0, resolve)), _SIZE)
            if fd >= 0:
                os.close(fd)
                return
            code = ctypes.get_errno()
            if code in (errno.ENOSYS, errno.EPERM):
                Directory.walks = True
                return
            Directory.lacks_cached = code == errno.EINVAL

    def close(self) -> None:
        """Close the directory. Files that were opened stay open."""
        os.close(self.fd)

    def open(self, name: bytes, *, from_memory: bool) -> OpenFile:
        """Open a regular file by its path in the directory, without dot segments.

        `from_memory`: do not wait for a disk. Raises BlockingIOError if that is not possible,
        IsADirectoryError, and other OSErrors; FileNotFoundError also for what is no regular file
        of this directory.
        """
        try:
            fd = self._open(name, from_memory=from_memory)
        except OSError as error:
            if error.errno in _MISSING:
                raise FileNotFoundError(errno.ENOENT, "there is no such file") from error
            raise
        try:
            status = os.fstat(fd)
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, "this is a directory")
            if not stat.S_ISREG(status.st_mode):
                raise FileNotFoundError(errno.ENOENT, "this is no regular file")
        except BaseException:
            os.close(fd)
            raise
        return OpenFile(fd, status.st_size, status.st_mtime_ns)

    def _open(self, name: bytes, *, from_memory: bool) -> int:
        if from_memory and (Directory.walks or Directory.lacks_cached):
            raise BlockingIOError
        if Directory.walks:
            return self._walk(name)
        how = _FROM_MEMORY if from_memory else _ANYHOW
        for _ in range(_TRIES):
            fd = _syscall(_OPENAT2, self.fd, name, how, _SIZE)
            if fd >= 0:
                return int(fd)
            code = ctypes.get_errno()
            if from_memory or code not in (errno.EAGAIN, errno.EINTR):
                # From memory, EAGAIN is a BlockingIOError: the disk would be needed.
                raise OSError(code, os.strerror(code))
        raise OSError(errno.ENOENT, "renames have raced with the open for too long")

    def _walk(self, name: bytes) -> int:
        """Open the segments one by one. None may be a symbolic link."""
        at = self.fd
        *parents, last = segments = name.split(b"/")
        if b".." in segments:
            raise FileNotFoundError(errno.ENOENT, "this may lead outside")
        try:
            for parent in parents:
                below = os.open(parent, _WALK, dir_fd=at)
                if at != self.fd:
                    os.close(at)
                at = below
            return os.open(last, _READ | os.O_NOFOLLOW, dir_fd=at)
        finally:
            if at != self.fd:
                os.close(at)
