"""The sockets on which the front end accepts clients: opened here, or passed by a parent.

This file opens TCP and unix sockets, adopts sockets that are passed by number or by systemd, and
removes unix sockets at the end. It never accepts connections. Every error here is for the operator
to correct and raises `OperatorError`.
"""

import errno
import logging
import os
import socket
import stat
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Literal

from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.sockets.addresses import (
    DEFAULT_BIND,
    AdminBind,
    Bind,
    FDBind,
    SystemdBind,
    TCPBind,
    UnixBind,
    is_number,
    written,
)

__all__ = [
    "KEEPALIVE",
    "SYSTEMD_FIRST_FD",
    "Listener",
    "Speech",
    "all_or_none",
    "open_admin",
    "open_health",
    "open_listeners",
    "open_metrics",
    "open_redirect",
    "systemd_passes_sockets",
]

logger = logging.getLogger(__name__)


SYSTEMD_FIRST_FD = 3
"""Number of the first descriptor that systemd passes (sd_listen_fds(3))."""

KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 6))
"""Keep-alive probes that detect a vanished client after two minutes: seconds of silence before the
first probe, seconds between probes, and their number (tcp(7))."""

_ADMIN_BACKLOG = 64
_PLAIN_NAME = "plain"
"""The FileDescriptorName= of a systemd socket without TLS (systemd.socket(5))."""
_REDIRECT_NAME = "redirect-http"
"""The same of one whose requests are redirected to TLS."""


class Speech(Enum):
    """What is spoken on the connections of a listener.

    HTTP: HTTP/1.1, plain.
    TLS: HTTP after a TLS handshake.
    REDIRECT: HTTP/1.1, plain. Each request is redirected to https.
    """

    HTTP = "http"
    TLS = "tls"
    REDIRECT = "redirect"


class Listener:
    """A listening stream socket, non-blocking and close-on-exec.

    TCP sockets have TCP_NODELAY and keep-alive probes. Linux hands these options on to every
    accepted socket, so the loop need not set them.

    socket: the socket itself.
    family: AF_INET, AF_INET6 or AF_UNIX.
    kind: "tcp" or "unix".
    name: its name in the log: `http://127.0.0.1:8000` with the real port, or `unix:/run/app.sock`.
    origin: "" if opened here, else `fd:3` or `systemd:NAME`, for the log.
    plain: it must not speak TLS.
    speech: what is spoken on its connections.
    app: the name of the app that gets all requests; "": the routes decide.
    """

    __slots__ = (
        "_made",
        "_path",
        "app",
        "family",
        "kind",
        "name",
        "origin",
        "plain",
        "socket",
        "speech",
    )

    def __init__(
        self, sock: socket.socket, origin: str = "", *, plain: bool = False, app: str = ""
    ) -> None:
        """Take over a listening socket. `origin`: where it comes from, if it was not opened
        here."""
        self.app = app
        self.speech = Speech.HTTP
        sock.setblocking(False)
        sock.set_inheritable(False)
        self.socket = sock
        self.family = socket.AddressFamily(sock.family)
        self.kind: Literal["tcp", "unix"] = "unix" if self.family == socket.AF_UNIX else "tcp"
        self.origin = origin
        self.plain = plain or self.kind == "unix"
        if self.kind == "tcp":
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in KEEPALIVE:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
        self.name = _name_of(sock)
        self._path: str | None = None
        self._made: tuple[int, int] | None = None

    def owns_path(self, path: str) -> None:
        """Have `close` remove the unix socket at `path`, which was made for this listener."""
        self._path = os.path.abspath(path)
        self._made = _identity(self._path)

    @property
    def path(self) -> str | None:
        """The path of the unix socket that `close` removes, or None."""
        return self._path

    def speak_tls(self) -> None:
        """Let each connection begin with a TLS handshake, unless the listener is plain.

        A socket from systemd may say by its name that its requests are redirected.
        """
        if self.origin == f"systemd:{_REDIRECT_NAME}":
            self.speech = Speech.REDIRECT
        elif not self.plain:
            self.speech = Speech.TLS
            self.name = self.name.replace("http:", "https:", 1)

    def leave(self) -> None:
        """Stop listening in this process; another process goes on with the same socket and path."""
        self._path = None
        self.close()

    def close(self) -> None:
        """Stop listening. Remove the unix socket from the file system if it is still ours.

        The path is removed first. As long as we listen, no other server takes our socket for a
        stale one, so the removed path cannot be a successor's.
        """
        if self._path is not None and self._made == _identity(self._path):
            try:
                os.unlink(self._path)
            except OSError as error:
                logger.warning("cannot remove %s: %s", self.name, error.strerror)
        self._path = None
        self.socket.close()


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _name_of(sock: socket.socket) -> str:
    address = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        if isinstance(address, bytes):  # the abstract namespace: a NUL, then the name
            return "unix:@" + os.fsdecode(address[1:])
        return f"unix:{address}"
    host, port = socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def all_or_none() -> Iterator[list[Listener]]:
    """Yield a list for the listeners that the block opens. If the block raises, close them."""
    listeners: list[Listener] = []
    try:
        yield listeners
    except BaseException:
        for listener in listeners:
            listener.close()
        raise


def open_listeners(
    binds: Sequence[Bind],
    environ: MutableMapping[str, str],
    *,
    backlog: int,
    unix_mode: int,
    own: Mapping[str, Sequence[Bind]] | None = None,
    default: bool = True,
) -> list[Listener]:
    """Open a listener for each of `binds` and `own`, and adopt those that systemd passes.

    `backlog`: connections that the kernel holds ready. `unix_mode`: permissions of unix sockets.
    `own`: the listeners of single apps, by name. `default`: without other listeners, those of apps
    aside, the default address is opened.

    Sockets passed by systemd replace the default address and come before those of `--bind`. The
    variables that announce them are removed from `environ`. The umask of the process changes for a
    moment, so call this before any thread starts. Raises OperatorError; then no socket stays open.
    """
    wanted = [("--bind", "", bind) for bind in binds]
    wanted += [
        (f"bind of [app.{app}]", app, bind)
        for app, app_binds in (own or {}).items()
        for bind in app_binds
    ]
    with all_or_none() as listeners:
        for fd, name in _systemd_sockets(environ):
            listeners.append(_adopt(fd, f"systemd:{name}", plain=name == _PLAIN_NAME))
        passed = listeners.copy()
        _claim(wanted, passed)
        if default and not binds and all(listener.app for listener in passed):
            wanted.insert(0, ("--bind", "", DEFAULT_BIND))
        descriptors = {listener.socket.fileno() for listener in passed}
        seen: set[Bind] = set()
        for option, app, bind in wanted:
            if bind in seen:
                raise OperatorError(f"{option} names {written(bind)} twice; remove one")
            seen.add(bind)
            before = len(listeners)
            match bind:
                case TCPBind():
                    _open_tcp(bind, backlog, listeners, option)
                case UnixBind():
                    listeners.append(_open_unix(bind, unix_mode, backlog, option))
                case FDBind(fd) if fd in descriptors:
                    raise OperatorError(f"systemd already passes fd {fd}; remove {option} fd:{fd}")
                case FDBind(fd, plain):
                    listeners.append(_adopt(fd, f"fd:{fd}", plain=plain))
            for listener in listeners[before:]:
                listener.app = app
    return listeners


def _claim(wanted: Sequence[tuple[str, str, Bind]], passed: Sequence[Listener]) -> None:
    """Give apps the sockets that systemd passes for them. Raises OperatorError if there is none.

    `wanted`: the option, the app and the address of each listener.
    """
    for option, app, bind in wanted:
        if isinstance(bind, SystemdBind):
            found = [each for each in passed if each.origin == f"systemd:{bind.name}"]
            if not found:
                names = [each.origin.removeprefix("systemd:") for each in passed]
                raise OperatorError(
                    f"{option} {written(bind)}: systemd passes no socket of this name "
                    f"(FileDescriptorName=), but {', '.join(names) or 'none at all'}"
                )
            for listener in found:
                listener.app = app
                listener.plain = listener.plain or bind.plain


def open_admin(bind: AdminBind, mode: int) -> list[Listener]:
    """Open the admin socket, on every address of its host name.

    `mode`: permissions of a unix socket. Raises OperatorError, also if other machines can reach a
    TCP address; then no socket stays open.
    """
    from ipaddress import ip_address  # imported here, because most services do not need it

    option = "--admin"
    with all_or_none() as listeners:
        if isinstance(bind, UnixBind):
            listeners.append(_open_unix(bind, mode, _ADMIN_BACKLOG, option))
            return listeners
        for _family, host, _scope in _addresses(bind):
            if not ip_address(host.partition("%")[0]).is_loopback:
                raise OperatorError(
                    f"{option} {written(bind)}: other machines can reach {host}; "
                    f"use 127.0.0.1:{bind.port} or unix:/PATH"
                )
        _open_tcp(bind, _ADMIN_BACKLOG, listeners, option)
    return listeners


def open_health(bind: TCPBind) -> list[Listener]:
    """Open the sockets for health checks from other machines.

    Raises OperatorError; then no socket stays open.
    """
    return _open_for_machines(bind, "--health")


def open_metrics(bind: TCPBind) -> list[Listener]:
    """Open the sockets for scrapes of metrics, also from other machines.

    Raises OperatorError; then no socket stays open.
    """
    return _open_for_machines(bind, "--metrics")


def open_redirect(bind: TCPBind | None, backlog: int) -> list[Listener]:
    """Open the sockets whose requests are redirected to TLS; none without `bind`.

    Raises OperatorError; then no socket stays open.
    """
    with all_or_none() as listeners:
        if bind is not None:
            _open_tcp(bind._replace(plain=True), backlog, listeners, "--redirect-http")
    return listeners


def _open_for_machines(bind: TCPBind, option: str) -> list[Listener]:
    with all_or_none() as listeners:
        _open_tcp(bind, _ADMIN_BACKLOG, listeners, option)
    return listeners


# --- TCP ---


def _open_tcp(bind: TCPBind, backlog: int, listeners: list[Listener], option: str) -> None:
    """Open one listener for each address of `bind` and append them to `listeners`.

    Every interface, or a name with an IPv4 and an IPv6 address, gives one listener for each family.
    IPv6 sockets accept IPv6 only, so a client's address never reads `::ffff:192.0.2.1`. An address
    that this machine lacks is left out if there is another. With port 0 all get the port of the
    first.

    `option`: the flag that an error tells the operator to change.
    """
    port = bind.port
    missing: OperatorError | None = None
    opened = False
    for family, host, scope in _addresses(bind):
        address = (host, port) if family == socket.AF_INET else (host, port, 0, scope)
        try:
            sock = _listen_tcp(family, address, backlog)
        except OSError as error:
            refusal = OperatorError(_tcp_trouble(error, host, port, option))
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise refusal from error
            missing = missing or refusal
            continue
        listeners.append(Listener(sock, plain=bind.plain))
        port = sock.getsockname()[1]
        opened = True
    if missing is not None and not opened:
        raise missing


def _listen_tcp(
    family: int, address: tuple[str, int] | tuple[str, int, int, int], backlog: int
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(backlog)  # with SO_REUSEADDR a busy port may show only here
    except BaseException:
        sock.close()
        raise
    return sock


def _addresses(bind: TCPBind) -> Iterator[tuple[int, str, int]]:
    """Yield (family, numeric host, IPv6 scope) for each address of a host, IPv4 first."""
    if not bind.host:
        yield socket.AF_INET, "0.0.0.0", 0
        yield socket.AF_INET6, "::", 0
        return
    if _is_ipv4(bind.host):
        # The resolver would return the same, after importing Python's codec for foreign names.
        yield socket.AF_INET, bind.host, 0
        return
    try:
        found = socket.getaddrinfo(
            bind.host, bind.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (socket.gaierror, UnicodeError) as error:
        why = error.strerror if isinstance(error, socket.gaierror) else "not a host name"
        raise OperatorError(
            f"host {bind.host} cannot be resolved ({why}); check its spelling or give an IP address"
        ) from error
    unique = {(family, *address) for family, _type, _protocol, _name, address in found}
    for family, host, _port, *rest in sorted(unique):  # AF_INET is the smaller number
        yield family, str(host), int(rest[1]) if rest else 0


def _is_ipv4(host: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET, host)
    except (OSError, ValueError):
        return False
    return True


def _tcp_trouble(error: OSError, host: str, port: int, option: str) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"port {port} on {host} is in use; stop the other server or choose another {option}"
            )
        case errno.EACCES | errno.EPERM:
            return (
                f"port {port} on {host} needs a privilege; choose a port from 1024 up, grant "
                "CAP_NET_BIND_SERVICE or let systemd pass the socket"
            )
        case errno.EADDRNOTAVAIL:
            return (
                f"{host} is not an address of this machine; choose another {option} (`ip address`)"
            )
        case errno.EAFNOSUPPORT:
            return (
                f"this machine does not support the address family of {host}; choose another "
                f"{option}"
            )
    return f"cannot listen on port {port} of {host}: {error.strerror}"


# --- unix ---


def _open_unix(bind: UnixBind, mode: int, backlog: int, option: str) -> Listener:
    """Listen at a path, or at an abstract name, which has no mode and needs no removal.

    The socket is bound under its own name and not renamed into place: the kernel keeps the name of
    the bind, and `ss -xl` should show the name that the operator wrote.
    """
    abstract = bind.path.startswith("@")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if abstract:
            sock.bind(b"\0" + os.fsencode(bind.path[1:]))
        else:
            _remove_stale(bind.path, option)
            umask = os.umask(0o777 & ~mode)  # the socket has its mode from the first moment on
            try:
                sock.bind(bind.path)
            finally:
                os.umask(umask)
        sock.listen(backlog)
        listener = Listener(sock)
        if not abstract:
            listener.owns_path(bind.path)
    except OSError as error:
        sock.close()
        raise OperatorError(_unix_trouble(error, bind.path, option)) from error
    except BaseException:
        sock.close()
        raise
    return listener


def _remove_stale(path: str, option: str) -> None:
    """Remove a socket at `path` that no process serves. Raises OperatorError for anything else
    there."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise OperatorError(
            f"{path} exists and is not a socket; remove it or choose another {option}"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # with a full backlog: EAGAIN at once instead of a wait
        outcome = probe.connect_ex(path)
    if outcome in (0, errno.EAGAIN):
        raise OperatorError(_unix_trouble(OSError(errno.EADDRINUSE, ""), path, option))
    if outcome == errno.ENOENT:
        return
    if outcome != errno.ECONNREFUSED:
        raise OperatorError(
            f"{path} is a socket that cannot be probed ({os.strerror(outcome)}); remove it or "
            f"choose another {option}"
        )
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise OperatorError(
            f"{path} is a stale socket and cannot be removed ({error.strerror}); remove it or "
            f"choose another {option}"
        ) from error


def _unix_trouble(error: OSError, path: str, option: str) -> str:
    directory = os.path.dirname(path) or "."
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"unix:{path} is already served by another process; stop it or choose another "
                f"{option}"
            )
        case errno.ENOENT:
            return f"directory {directory} of unix:{path} does not exist; create it"
        case errno.ENOTDIR:
            return f"{directory} of unix:{path} is not a directory; choose another {option}"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return (
                f"no permission to create a socket in {directory} for unix:{path} "
                f"({error.strerror}); make it writable or choose another {option}"
            )
    return f"cannot listen on unix:{path}: {error.strerror}"


# --- passed by a parent ---


def _adopt(fd: int, origin: str, *, plain: bool) -> Listener:
    """Take over a descriptor that must be a listening stream socket."""
    where = f"fd {fd}" if origin.startswith("fd:") else f"fd {fd} ({origin})"
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        wrong = "not open" if error.errno == errno.EBADF else "not a socket"
        raise OperatorError(f"{where} is {wrong}; pass a listening stream socket") from error
    try:
        if sock.type != socket.SOCK_STREAM:
            raise OperatorError(
                f"{where} is not a stream socket; pass one (ListenStream= in a systemd unit)"
            )
        if sock.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
            raise OperatorError(f"{where} is neither a TCP nor a unix socket; pass one of these")
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise OperatorError(
                f"{where} is not listening; call listen() on it before passing it (Accept=no in a "
                "systemd unit)"
            )
    except BaseException:
        sock.detach()  # not ours: the process that opened it closes it
        raise
    return Listener(sock, origin, plain=plain)


def systemd_passes_sockets(environ: Mapping[str, str]) -> bool:
    """Whether systemd passes sockets to this process (sd_listen_fds(3))."""
    return environ.get("LISTEN_PID") == str(os.getpid()) and bool(environ.get("LISTEN_FDS"))


def _systemd_sockets(environ: MutableMapping[str, str]) -> list[tuple[int, str]]:
    """Take from `environ` the sockets that systemd passes: (descriptor, name) of each
    (sd_listen_fds(3)).

    The variables are always removed, so that no child takes the sockets for its own. A LISTEN_PID
    of another process means that the sockets are not for this one. Raises OperatorError.
    """
    pid = environ.pop("LISTEN_PID", "")
    count = environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    environ.pop("LISTEN_PIDFDID", None)
    if not pid or not count:
        return []
    if not is_number(pid) or not is_number(count):
        raise OperatorError(
            f"LISTEN_PID={pid} and LISTEN_FDS={count} are not numbers; unset them or start "
            "reactor-run from systemd"
        )
    if int(pid) != os.getpid():
        logger.warning(
            "ignoring the sockets from systemd: they are for process %s, this is process %d; "
            "let ExecStart= run reactor-run itself, or `exec` it from the wrapper",
            pid,
            os.getpid(),
        )
        return []
    names += ["unknown"] * int(count)
    return [(SYSTEMD_FIRST_FD + index, names[index] or "unknown") for index in range(int(count))]
