"""The zygote: it imports the app once, and forks reactors from it (`--preload on`).

It runs no event loop and serves no client. The front end asks it for one reactor after another. A
reactor shares the memory of the app with it, until one of them writes to a page.

The front end must be the parent of each reactor, so that it learns of its end. So the zygote forks
twice, and the process in between exits. The kernel then gives the reactor to the front end, which
is a subreaper (prctl(2)). These are the steps:

    zygote              between              reactor
    forks ------------> forks -------------> waits for the word to go
                        tells its number
    reads the number <- exits                belongs to the front end now
    tells the front end
    gives the word ------------------------> asks for PDEATHSIG, checks its parent, serves

If the zygote dies meanwhile, the reactor reads the end of the socket or a reset, not the word, and
exits. If the reactor dies, the front end learns it as its parent, and the zygote goes on.
"""

from __future__ import annotations

import errno
import gc
import os
import select
import signal
import socket
import sys
from contextlib import suppress
from typing import NoReturn

from reactor_run.channel import ControlChannel
from reactor_run.hooks import AppReactor
from reactor_run.protocol.preload_messages import (
    AppFailed,
    Fork,
    Forked,
    ForkFailed,
    NotForkable,
    Preloaded,
    read_for_zygote,
)
from reactor_run.reactor import fork
from reactor_run.reactor.hooks import ReactorHooks, import_hooks
from reactor_run.reactor.leftovers import ImportWatch
from reactor_run.reactor.log import AppFailure, configure_by, rename
from reactor_run.reactor.options import Options, parse_options
from reactor_run.reactor.process import (
    APP_FAILED,
    LoadedApp,
    die_with_parent,
    import_early,
    load,
    open_control,
    run,
    set_up,
)
from reactor_run.title import set_title

__all__ = ["main"]

_GO = b"g"
"""The word by which a reactor begins."""


class Forker:
    """The imported app, and the channel to the front end."""

    def __init__(
        self,
        options: Options,
        channel: ControlChannel[Fork],
        hooks: ReactorHooks | None,
        loaded: LoadedApp,
    ) -> None:
        self._options = options
        self._channel = channel
        self._hooks = hooks
        self._loaded = loaded
        self._front_end = os.getppid()

    def serve(self) -> int:
        """Fork reactors until the front end closes the channel. Returns only in a reactor, when it
        ends: its exit status."""
        poll = select.poll()
        poll.register(self._channel.fileno(), select.POLLIN)
        while True:
            poll.poll()
            messages = self._channel.receive()
            if messages is None:
                _exit(0)
            for message in messages:
                if message.fd is None:
                    self._refuse(message.name, "its control channel was lost: too many open files")
                    continue
                if self._fork(message):
                    return self._become(message, message.fd)
                os.close(message.fd)

    def _refuse(self, name: str, why: str, details: str | None = None) -> None:
        self._channel.send(ForkFailed(name, why, details))
        self._channel.drain(5)

    def _fork(self, message: Fork) -> bool:
        """Fork a reactor; return whether this process is the reactor."""
        try:
            if self._hooks is not None:
                self._hooks.before_fork(message.name)
            reactor, sock = _fork_twice()
        except AppFailure as failure:
            self._refuse(message.name, failure.message, failure.details)
            return False
        except OSError as error:
            self._refuse(message.name, f"it cannot be forked: {error.strerror}")
            return False
        with sock:
            if reactor:
                self._channel.send(Forked(message.name, reactor))
                self._channel.drain(5)
                # It may have been killed. The front end is its parent, and so learns that.
                with suppress(OSError):
                    sock.send(_GO)
            elif not _may_go(sock):
                _exit(0)
        return not reactor

    def _become(self, message: Fork, control_fd: int) -> int:
        """Be a reactor, until it ends. Returns its exit status."""
        options = self._options._replace(
            control_fd=control_fd, name=message.name, multiprocess=message.multiprocess
        )
        self._channel.in_child()
        self._channel.sock.close()
        fork.forget_parts()
        die_with_parent(control_fd)
        if os.getppid() != self._front_end:
            _exit(0)
        rename(options.name)
        set_title(f"{options.name} {options.app}")
        gc.enable()
        return run(
            options, open_control(control_fd), None, lambda _: self._begin(), lambda _: self._loaded
        )

    def _begin(self) -> ReactorHooks | None:
        """Call the first hooks of a reactor. Raises AppFailure."""
        if self._hooks is not None:
            self._hooks.after_fork()
            self._hooks.init()
        return self._hooks


def _fork_twice() -> tuple[int, socket.socket]:
    """Fork a reactor that is no child of this process. Returns in both.

    In the zygote: its number, and a socket to which the word is written. In the reactor: 0, and a
    socket from which the word is read. Raises OSError.
    """
    ours, theirs = socket.socketpair()
    # If the app ignored SIGCHLD, the kernel would drop the status of the process in between.
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL) or signal.SIG_DFL
    try:
        between = fork.fork_own()
        if not between:
            ours.close()
            _fork_again(theirs)
            return 0, theirs
        theirs.close()
        number = ours.recv(20)
        os.waitpid(between, 0)
        if not number:
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return int(number), ours
    except OSError:
        ours.close()
        theirs.close()
        raise
    finally:
        signal.signal(signal.SIGCHLD, before)


def _fork_again(theirs: socket.socket) -> None:
    """Fork the reactor from the process in between, which ends here. Returns in the reactor."""
    try:
        reactor = fork.fork_own()
    except OSError:
        os._exit(1)
    if reactor:
        try:
            # Before the front end knows the number: it signals the group.
            os.setpgid(reactor, reactor)
            theirs.send(b"%d" % reactor)
        finally:
            # Even if the zygote has died: this process must not go on in its place.
            os._exit(0)


def _may_go(sock: socket.socket) -> bool:
    """Wait for the word in the reactor; return whether it came. Otherwise the zygote has died."""
    try:
        return sock.recv(1) == _GO
    except ConnectionResetError:
        # It died before it had read the number.
        return False


def _exit(status: int) -> NoReturn:
    """End a process without what the app has registered with `atexit`: reactors still use it."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(status)


def main(argv: list[str]) -> int:
    """Import the app, then fork reactors. Returns the exit status of a reactor."""
    options = parse_options(argv)
    set_up(options)
    os.set_inheritable(options.control_fd, False)
    channel = ControlChannel[Fork](socket.socket(fileno=options.control_fd), read_for_zygote)
    fork.in_child(lambda: fork.disconnect(channel.in_child()))
    fork.watch_forks()
    import_early(options)
    hooks = None
    try:
        if options.log_config:
            configure_by(options.log_config)
        with ImportWatch() as watch:
            if options.hooks:
                this = AppReactor("", os.getpid(), options.app, "", "")
                hooks = import_hooks(options.hooks, options.app_dir, this)
            loaded = load(options)
    except AppFailure as failure:
        if fork.is_child:
            fork.leave(failure.__cause__ or failure)
        channel.send(AppFailed(failure.message, failure.details))
        channel.drain(5)
        _exit(APP_FAILED)
    # Garbage may hold a socket. And what is written to later is not shared any more.
    gc.collect()
    if leftovers := watch.leftovers():
        channel.send(NotForkable(leftovers))
        channel.drain(5)
        _exit(0)
    gc.disable()
    gc.freeze()
    channel.send(Preloaded())
    return Forker(options, channel, hooks, loaded).serve()
