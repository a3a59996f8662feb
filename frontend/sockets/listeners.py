"""The sockets on which the front end accepts clients: opened here, or handed over by a parent.

Owns the addresses an operator may write (`parse_bind`), the opening of TCP and unix sockets, the
adoption of sockets passed by number or by systemd, and the removal of unix sockets at the end. It
never accepts: that is the loop's. Everything that can go wrong here is the operator's to mend and
raises `OperatorError`.
"""

import errno
import logging
import os
import socket
import stat
from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Literal, NamedTuple

from reactor_run.frontend.errors import OperatorError

if TYPE_CHECKING:
    from reactor_run.frontend.command.settings import Settings

logger = logging.getLogger(__name__)

UNIX_PATH_MAX = 107
"""Bytes of a unix socket's path: `sun_path` holds 108, one of them the final NUL (unix(7))."""

SYSTEMD_FIRST_FD = 3
"""Number of the first descriptor that systemd passes (sd_listen_fds(3))."""

KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 6))
"""A client that has vanished without a word is missed after two minutes: seconds of silence, then
seconds between probes, and their number (tcp(7))."""

_ADMIN_BACKLOG = 64

_BIND_FORMS = "HOST:PORT, [IPV6]:PORT, :PORT, unix:/PATH, unix:@NAME or fd:N"


class TCPBind(NamedTuple):
    """`HOST:PORT`. An empty host means every interface; port 0 lets the kernel choose."""

    host: str
    port: int


class UnixBind(NamedTuple):
    """`unix:PATH`. A path that begins with `@` is a name in the abstract namespace (unix(7))."""

    path: str


class FDBind(NamedTuple):
    """`fd:N`, a listening socket that the parent process left open."""

    fd: int


Bind = TCPBind | UnixBind | FDBind
AdminBind = TCPBind | UnixBind

DEFAULT_BIND = TCPBind("127.0.0.1", 8000)


def parse_bind(text: str) -> Bind:
    """Read an address to listen on.

    Accepts `HOST:PORT`, `[IPV6]:PORT`, `:PORT` (every interface), `unix:PATH`, `unix:@NAME`
    (abstract namespace) and `fd:N`. Raises OperatorError, naming the text, on anything else.
    """
    scheme, colon, rest = text.partition(":")
    if colon and scheme == "unix":
        return _parse_unix(text, rest)
    if colon and scheme == "fd":
        if not _is_number(rest):
            raise OperatorError(f"{text!r}: expected the number of a descriptor, as in fd:3")
        return FDBind(int(rest))
    if "/" in text:
        hint = "leave the scheme and the path out" if "://" in text else f"did you mean unix:{text}"
        raise OperatorError(f"{text!r} is no address to listen on ({hint}); write {_BIND_FORMS}")
    if _is_number(text):
        raise OperatorError(
            f"{text!r} is a port without a host; write 127.0.0.1:{text} for this machine alone "
            f"or :{text} for every interface"
        )
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not bracketed and (":" in host or (colon and "]" in port)):
        raise OperatorError(
            f"{text!r}: write an IPv6 address in brackets and a port behind it, as in [::1]:8000"
        )
    if not colon or not _is_number(port) or int(port) > 65535 or host == "[]":
        raise OperatorError(
            f"{text!r} is no address to listen on; write {_BIND_FORMS} "
            "(a port is a number up to 65535)"
        )
    return TCPBind(host[1:-1] if bracketed else host, int(port))


def _parse_unix(text: str, path: str) -> UnixBind:
    if path in ("", "@"):
        raise OperatorError(f"{text!r} names no socket; write unix:/PATH or unix:@NAME")
    length = len(os.fsencode(path))
    if length > UNIX_PATH_MAX:
        raise OperatorError(
            f"{text!r}: the path has {length} bytes, Linux allows {UNIX_PATH_MAX}; choose a "
            "shorter one"
        )
    return UnixBind(path)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9


class Listener:
    """A listening stream socket: non-blocking, close-on-exec, TCP with TCP_NODELAY and keep-alive
    probes.

    Linux hands these options on to every accepted socket, so the loop need not set them.

    socket: the socket itself.
    family: AF_INET, AF_INET6 or AF_UNIX.
    kind: "tcp" or "unix".
    name: what logs call it: `http://127.0.0.1:8000` with the real port, or `unix:/run/app.sock`.
    origin: "" if opened here, else `fd:3` or `systemd:NAME`, for logs.
    """

    __slots__ = ("_made", "_path", "family", "kind", "name", "origin", "socket")

    def __init__(self, sock: socket.socket, origin: str = "") -> None:
        """Take over a listening socket; `origin` says who opened it, if not we."""
        sock.setblocking(False)
        sock.set_inheritable(False)
        self.socket = sock
        self.family = socket.AddressFamily(sock.family)
        self.kind: Literal["tcp", "unix"] = "unix" if self.family == socket.AF_UNIX else "tcp"
        self.origin = origin
        if self.kind == "tcp":
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in KEEPALIVE:
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
        self.name = _name_of(sock)
        self._path: str | None = None
        self._made: tuple[int, int] | None = None

    def owns_path(self, path: str) -> None:
        """Remember that the unix socket at `path` was made for this listener, to be removed."""
        self._path = os.path.abspath(path)
        self._made = _identity(self._path)

    @property
    def path(self) -> str | None:
        """The unix socket's path, if it is removed at the end."""
        return self._path

    def leave(self) -> None:
        """Stop listening here; somebody else goes on with the same socket and its path."""
        self._path = None
        self.close()

    def close(self) -> None:
        """Stop listening. Remove the unix socket from the file system if it is still ours.

        The path goes first: while we listen nobody takes our socket for a stale one, so what we
        remove cannot be a successor's.
        """
        if self._path is not None and self._made == _identity(self._path):
            try:
                os.unlink(self._path)
            except OSError as error:
                logger.warning("%s could not be removed: %s", self.name, error.strerror)
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


def open_listeners(settings: "Settings", environ: MutableMapping[str, str]) -> list[Listener]:
    """Open every listener that `settings` asks for and adopt those that systemd passes.

    Sockets passed by systemd take the place of the default address and come before those of
    `--bind`. The variables that announce them are removed from `environ`. Sets the umask of the
    process for a moment, so call it before any thread starts. Raises OperatorError; then nothing
    stays open.
    """
    listeners: list[Listener] = []
    try:
        for fd, name in _systemd_sockets(environ):
            listeners.append(_adopt(fd, f"systemd:{name}"))
        passed = {listener.socket.fileno() for listener in listeners}
        binds = settings.bind or (() if listeners else (DEFAULT_BIND,))
        for position, bind in enumerate(binds):
            if bind in binds[:position]:
                raise OperatorError(f"--bind names {_written(bind)} twice; once is enough")
            match bind:
                case TCPBind():
                    _open_tcp(bind, settings.backlog, listeners)
                case UnixBind():
                    listeners.append(_open_unix(bind, settings.unix_mode, settings.backlog))
                case FDBind(fd) if fd in passed:
                    raise OperatorError(f"systemd passes fd {fd} already; leave --bind fd:{fd} out")
                case FDBind(fd):
                    listeners.append(_adopt(fd, f"fd:{fd}"))
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def parse_admin(text: str) -> AdminBind:
    """Read the address of the admin socket: `unix:PATH` or `HOST:PORT`. Raises OperatorError."""
    bind = parse_bind(text)
    if isinstance(bind, FDBind) or (isinstance(bind, UnixBind) and bind.path.startswith("@")):
        raise OperatorError(
            f"{text!r} has no permissions that would guard it; write unix:/PATH or 127.0.0.1:PORT"
        )
    return bind


def open_admin(bind: AdminBind, mode: int) -> list[Listener]:
    """Open the admin socket, on every address that its name stands for.

    `mode`: permissions of a unix socket. Raises OperatorError, also where a TCP address could be
    reached from another machine; then nothing stays open.
    """
    from ipaddress import ip_address  # here, since most services need it for nothing

    listeners: list[Listener] = []
    try:
        if isinstance(bind, UnixBind):
            listeners.append(_open_unix(bind, mode, _ADMIN_BACKLOG))
            return listeners
        for _family, host, _scope in _addresses(bind):
            if not ip_address(host.partition("%")[0]).is_loopback:
                raise OperatorError(
                    f"--admin {_written(bind)}: other machines could reach {host}; "
                    f"use 127.0.0.1:{bind.port} or unix:/PATH"
                )
        _open_tcp(bind, _ADMIN_BACKLOG, listeners)
    except OperatorError as error:
        for listener in listeners:
            listener.close()
        raise OperatorError(str(error).replace("--bind", "--admin")) from error
    return listeners


def parse_health(text: str) -> TCPBind:
    """Read the address for health checks of other machines: `HOST:PORT`. Raises OperatorError."""
    bind = parse_bind(text)
    if not isinstance(bind, TCPBind):
        raise OperatorError(
            f"{text!r} cannot be reached from other machines; write :PORT or HOST:PORT, or use "
            "--admin on this one"
        )
    return bind


def open_health(bind: TCPBind) -> list[Listener]:
    """Open what other machines ask for health. Raises OperatorError; then nothing stays open."""
    listeners: list[Listener] = []
    try:
        _open_tcp(bind, _ADMIN_BACKLOG, listeners)
    except OperatorError as error:
        for listener in listeners:
            listener.close()
        raise OperatorError(str(error).replace("--bind", "--health")) from error
    return listeners


def _written(bind: Bind) -> str:
    match bind:
        case TCPBind(host, port):
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        case UnixBind(path):
            return f"unix:{path}"
        case FDBind(fd):
            return f"fd:{fd}"


# --- TCP ---


def _open_tcp(bind: TCPBind, backlog: int, listeners: list[Listener]) -> None:
    """Open one listener for each address of `bind` and append them to `listeners`.

    Every interface, or a name that stands for an IPv4 and an IPv6 address, gives one listener each.
    IPv6 sockets take IPv6 alone, so a client's address never reads `::ffff:192.0.2.1`. An address
    that this machine lacks is left out if there is another. Port 0: all get the port of the first.
    """
    port = bind.port
    missing: OperatorError | None = None
    opened = False
    for family, host, scope in _addresses(bind):
        address = (host, port) if family == socket.AF_INET else (host, port, 0, scope)
        try:
            sock = _listen_tcp(family, address, backlog)
        except OSError as error:
            refusal = OperatorError(_tcp_trouble(error, host, port))
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise refusal from error
            missing = missing or refusal
            continue
        listeners.append(Listener(sock))
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
        # The resolver would say the same, after importing Python's codec for foreign names.
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


def _tcp_trouble(error: OSError, host: str, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"port {port} on {host} is in use; stop the other server or choose another --bind"
            )
        case errno.EACCES | errno.EPERM:
            return (
                f"port {port} on {host} needs a privilege; choose a port from 1024 up, grant "
                "CAP_NET_BIND_SERVICE or let systemd pass the socket"
            )
        case errno.EADDRNOTAVAIL:
            return f"{host} is no address of this machine; choose another --bind (`ip address`)"
        case errno.EAFNOSUPPORT:
            return f"this machine has no network for {host}; choose another --bind"
    return f"cannot listen on port {port} of {host}: {error.strerror}"


# --- unix ---


def _open_unix(bind: UnixBind, mode: int, backlog: int) -> Listener:
    """Listen at a path (or an abstract name, which has no mode and leaves nothing behind).

    The socket is bound under its own name, not renamed into place: the kernel keeps the name of the
    bind, and `ss -xl` should show the one that the operator wrote.
    """
    abstract = bind.path.startswith("@")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if abstract:
            sock.bind(b"\0" + os.fsencode(bind.path[1:]))
        else:
            _remove_stale(bind.path)
            umask = os.umask(0o777 & ~mode)  # the mode holds from the first moment on
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
        raise OperatorError(_unix_trouble(error, bind.path)) from error
    except BaseException:
        sock.close()
        raise
    return listener


def _remove_stale(path: str) -> None:
    """Remove a socket at `path` that no process serves. Anything else there is an OperatorError."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise OperatorError(
            f"{path} exists and is not a socket; remove it or choose another --bind"
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a server whose backlog is full answers EAGAIN, not after a wait
        outcome = probe.connect_ex(path)
    if outcome in (0, errno.EAGAIN):
        raise OperatorError(_unix_trouble(OSError(errno.EADDRINUSE, ""), path))
    if outcome == errno.ENOENT:
        return
    if outcome != errno.ECONNREFUSED:
        raise OperatorError(
            f"{path} is a socket that cannot be tried ({os.strerror(outcome)}); remove it or "
            "choose another --bind"
        )
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise OperatorError(
            f"{path} is a stale socket and cannot be removed ({error.strerror}); remove it or "
            "choose another --bind"
        ) from error


def _unix_trouble(error: OSError, path: str) -> str:
    directory = os.path.dirname(path) or "."
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"unix:{path} is already served by another process; stop it or choose another "
                "--bind"
            )
        case errno.ENOENT:
            return f"directory {directory} of unix:{path} does not exist; create it"
        case errno.ENOTDIR:
            return f"{directory} of unix:{path} is not a directory; choose another --bind"
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return (
                f"no permission to make a socket in {directory} for unix:{path} "
                f"({error.strerror}); make it writable or choose another --bind"
            )
    return f"cannot listen on unix:{path}: {error.strerror}"


# --- handed over ---


def _adopt(fd: int, origin: str) -> Listener:
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
        sock.detach()  # not ours: leave it to whoever opened it
        raise
    return Listener(sock, origin)


def _systemd_sockets(environ: MutableMapping[str, str]) -> list[tuple[int, str]]:
    """Take from `environ` what systemd passes: (descriptor, name) of each (sd_listen_fds(3)).

    The variables go in any case, so that no child takes them for its own. A LISTEN_PID of another
    process means that the sockets are not for us.
    """
    pid = environ.pop("LISTEN_PID", "")
    count = environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    environ.pop("LISTEN_PIDFDID", None)
    if not pid or not count:
        return []
    if not _is_number(pid) or not _is_number(count):
        raise OperatorError(
            f"LISTEN_PID={pid} and LISTEN_FDS={count} are not numbers; unset them or start "
            "reactor-run from systemd"
        )
    if int(pid) != os.getpid():
        logger.warning(
            "the sockets that systemd passes are for process %s, this is %d: not used; "
            "let ExecStart= run reactor-run itself, or `exec` it",
            pid,
            os.getpid(),
        )
        return []
    names += ["unknown"] * int(count)
    return [(SYSTEMD_FIRST_FD + index, names[index] or "unknown") for index in range(int(count))]
