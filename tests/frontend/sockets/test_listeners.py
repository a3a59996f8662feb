"""Real sockets of every kind, and the errors that an operator reads when one cannot be opened."""

import errno
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.sockets import listeners as module
from reactor_run.frontend.sockets import tcp
from reactor_run.frontend.sockets.addresses import (
    DEFAULT_BIND,
    TCPBind,
    parse_admin,
    parse_bind,
    parse_health,
)
from reactor_run.frontend.sockets.listener import Listener
from reactor_run.frontend.sockets.listeners import (
    open_admin,
    open_health,
    open_listeners,
)

Open = Callable[..., list[Listener]]


@pytest.fixture
def opened() -> Iterator[Open]:
    """Open listeners for some addresses, and close them when the test ends."""
    everything: list[Listener] = []

    def open_them(*texts: str, unix_mode: int = 0o666, backlog: int = 2048) -> list[Listener]:
        bind = tuple(parse_bind(text) for text in texts)
        listeners = open_listeners(bind, {}, backlog=backlog, unix_mode=unix_mode)
        everything.extend(listeners)
        return listeners

    yield open_them
    for listener in everything:
        listener.close()


def refusal(open_them: Open, *texts: str) -> str:
    with pytest.raises(OperatorError) as caught:
        open_them(*texts)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def exchange(listener: Listener) -> None:
    """Check that a client can connect and that the listener accepts it."""
    with socket.socket(listener.family) as client:
        client.settimeout(5)
        client.connect(listener.socket.getsockname())
        accepted, _ = listener.socket.accept()
        with accepted:
            client.sendall(b"x")
            accepted.settimeout(5)
            assert accepted.recv(1) == b"x"


# --- TCP ---


def test_a_tcp_listener(opened: Open) -> None:
    (listener,) = opened("127.0.0.1:0")
    port = listener.socket.getsockname()[1]
    assert port != 0
    assert listener.name == f"http://127.0.0.1:{port}"
    assert (listener.kind, listener.family, listener.origin) == ("tcp", socket.AF_INET, "")
    assert not listener.socket.getblocking()
    assert not listener.socket.get_inheritable()
    with pytest.raises(BlockingIOError):
        listener.socket.accept()
    exchange(listener)


def test_accepted_tcp_sockets_inherit_nodelay_and_keepalive(opened: Open) -> None:
    (listener,) = opened("127.0.0.1:0")
    with socket.create_connection(listener.socket.getsockname(), timeout=5):
        accepted, _ = listener.socket.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0
            idle, interval, count = (
                accepted.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            )
            assert idle + interval * count == 120


def test_the_port_can_be_taken_again_at_once(opened: Open) -> None:
    (listener,) = opened("127.0.0.1:0")
    address = listener.socket.getsockname()
    with socket.create_connection(address, timeout=5) as client:
        accepted, _ = listener.socket.accept()
        accepted.close()  # we close first, so the connection stays in TIME_WAIT on our side
        assert client.recv(1) == b""
    listener.close()
    (again,) = opened(f"127.0.0.1:{address[1]}")
    exchange(again)


def test_the_default_address(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_bind("127.0.0.1:8000") == DEFAULT_BIND
    monkeypatch.setattr(module, "DEFAULT_BIND", TCPBind("127.0.0.1", 0))
    (listener,) = opened()
    exchange(listener)


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_an_ipv6_listener_takes_ipv6_alone(opened: Open) -> None:
    (listener,) = opened("[::1]:0")
    port = listener.socket.getsockname()[1]
    assert listener.name == f"http://[::1]:{port}"
    assert listener.socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
    exchange(listener)


def test_every_interface_is_one_listener_for_each_family_on_one_port(opened: Open) -> None:
    listeners = opened(":0")
    families = [listener.family for listener in listeners]
    assert families == [socket.AF_INET, socket.AF_INET6][: 2 if has_ipv6() else 1]
    ports = {listener.socket.getsockname()[1] for listener in listeners}
    assert len(ports) == 1
    assert listeners[0].name == f"http://0.0.0.0:{ports.pop()}"
    with socket.create_connection(
        ("127.0.0.1", listeners[0].socket.getsockname()[1]), timeout=5
    ) as client:
        accepted, peer = listeners[0].socket.accept()
        accepted.close()
        assert peer == client.getsockname()  # an IPv4 client is never an IPv6 address


def _no_ipv6(code: int) -> Callable[..., socket.socket]:
    real = tcp._listen_tcp

    def listen(family: int, address: tuple[str, int], backlog: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(code, os.strerror(code))
        return real(family, address, backlog)

    return listen


@pytest.mark.parametrize("code", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_a_missing_family_matters_only_if_there_is_no_other(
    opened: Open, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setattr(tcp, "_listen_tcp", _no_ipv6(code))
    assert [listener.family for listener in opened(":0")] == [socket.AF_INET]
    assert "--bind" in refusal(opened, "[::1]:0")


def test_a_busy_port(opened: Open) -> None:
    (listener,) = opened("127.0.0.1:0")
    port = listener.socket.getsockname()[1]
    assert refusal(opened, f"127.0.0.1:{port}") == (
        f"port {port} on 127.0.0.1 is in use; stop the other server or choose another --bind"
    )


def test_a_privileged_port(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    def listen(*_: object) -> socket.socket:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tcp, "_listen_tcp", listen)
    said = refusal(opened, "127.0.0.1:80")
    assert said.startswith("port 80 on 127.0.0.1 needs a privilege; choose a port from 1024 up")


def test_an_address_of_another_machine(opened: Open) -> None:
    said = refusal(opened, "192.0.2.1:0")
    assert said.startswith("192.0.2.1 is not an address of this machine")


@pytest.mark.parametrize("host", ["nowhere.invalid", "a..b", "x" * 64])
def test_a_host_that_cannot_be_resolved(
    opened: Open, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    real = socket.getaddrinfo

    def offline(name: str, *args: int, **kwargs: int) -> object:
        if name.endswith(".invalid"):  # not a question for whatever resolver there is
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    assert refusal(opened, f"{host}:0").startswith(f"host {host} cannot be resolved (")


def test_if_one_fails_those_opened_already_are_closed(opened: Open, tmp_path: Path) -> None:
    (busy,) = opened("127.0.0.1:0")
    before = descriptors()
    refusal(
        opened,
        f"unix:{tmp_path}/web.sock",
        "127.0.0.1:0",
        f"127.0.0.1:{busy.socket.getsockname()[1]}",
    )
    assert descriptors() == before
    assert not (tmp_path / "web.sock").exists()


def test_an_address_that_is_given_twice_is_named(opened: Open, tmp_path: Path) -> None:
    said = refusal(opened, f"unix:{tmp_path}/web.sock", f"unix:{tmp_path}/web.sock")
    assert said == f"--bind names unix:{tmp_path}/web.sock twice; remove one"


def test_any_free_port_may_be_asked_for_twice(opened: Open) -> None:
    one, other = opened("127.0.0.1:0", "127.0.0.1:0")
    assert one.name != other.name


# --- unix ---


def test_a_unix_listener_is_there_and_gone(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    (listener,) = opened(f"unix:{path}")
    assert (listener.name, listener.kind) == (f"unix:{path}", "unix")
    assert listener.family == socket.AF_UNIX
    assert not listener.socket.getblocking()
    assert not listener.socket.get_inheritable()
    exchange(listener)
    listener.close()
    assert not path.exists()
    listener.close()  # once more does nothing


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0o777])
def test_the_mode_holds_when_the_socket_appears(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    path = tmp_path / "web.sock"
    seen: list[int] = []

    class Watched(socket.socket):
        def bind(self, address: str) -> None:  # type: ignore[override]
            super().bind(address)
            seen.append(stat.S_IMODE(path.stat().st_mode))

    monkeypatch.setattr(socket, "socket", Watched)
    umask = os.umask(0o022)
    try:
        opened(f"unix:{path}", unix_mode=mode)
        assert seen == [mode]
        assert os.umask(0o022) == 0o022  # as it was
    finally:
        os.umask(umask)


def test_a_stale_socket_is_replaced(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))
        gone.listen()
    (listener,) = opened(f"unix:{path}")
    exchange(listener)


@pytest.mark.parametrize("full", [False, True])
def test_a_socket_that_is_served_stays(opened: Open, tmp_path: Path, full: bool) -> None:
    path = tmp_path / "web.sock"
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(path))
        server.listen(0)
        if full:
            client.connect(str(path))
        inode = path.stat().st_ino
        said = refusal(opened, f"unix:{path}")
        assert said.startswith(f"unix:{path} is already served by another process")
        assert path.stat().st_ino == inode


def test_a_path_that_is_no_stream_socket_is_never_removed(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    assert "exists and is not a socket" in refusal(opened, f"unix:{path}")
    assert path.read_text() == "data"

    link = tmp_path / "link.sock"
    link.symlink_to(path)
    assert "exists and is not a socket" in refusal(opened, f"unix:{link}")
    assert link.is_symlink()

    other = tmp_path / "datagram.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram:
        datagram.bind(str(other))
        assert "cannot be probed" in refusal(opened, f"unix:{other}")
        assert other.is_socket()


def test_a_successors_socket_is_not_removed(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    (listener,) = opened(f"unix:{path}")
    path.rename(tmp_path / "old.sock")  # keeps the inode in use, so that it is not given anew
    with socket.socket(socket.AF_UNIX) as successor:
        successor.bind(str(path))
        listener.close()
        assert path.is_socket()


def test_a_relative_path_is_removed_wherever_we_are_by_then(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (listener,) = opened("unix:web.sock")
    assert (tmp_path / "web.sock").is_socket()
    monkeypatch.chdir("/")
    listener.close()
    assert not (tmp_path / "web.sock").exists()


def test_a_directory_that_is_missing_or_none(opened: Open, tmp_path: Path) -> None:
    said = refusal(opened, f"unix:{tmp_path}/none/web.sock")
    assert said == (
        f"directory {tmp_path}/none of unix:{tmp_path}/none/web.sock does not exist; create it"
    )
    (tmp_path / "file").write_text("")
    assert "is not a directory" in refusal(opened, f"unix:{tmp_path}/file/web.sock")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_directory_without_permission(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    class Rejected(socket.socket):
        def bind(self, address: object) -> None:
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(socket, "socket", Rejected)
    before = descriptors()
    said = refusal(opened, f"unix:{tmp_path}/web.sock")
    assert said.startswith(f"no permission to create a socket in {tmp_path}")
    assert os.strerror(code) in said
    assert descriptors() == before


def test_an_abstract_name(opened: Open) -> None:
    name = f"@reactor-run-test-{os.getpid()}"
    (listener,) = opened(f"unix:{name}")
    assert listener.name == f"unix:{name}"
    exchange(listener)
    assert "already served by another process" in refusal(opened, f"unix:{name}")
    listener.close()
    assert not os.path.lexists(name)


# --- passed by number ---


def test_a_listening_socket_by_number(opened: Open) -> None:
    given_socket = socket.create_server(("127.0.0.1", 0))
    given_socket.set_inheritable(True)
    port = given_socket.getsockname()[1]
    fd = given_socket.detach()
    (listener,) = opened(f"fd:{fd}")
    assert listener.socket.fileno() == fd
    assert (listener.name, listener.origin) == (f"http://127.0.0.1:{port}", f"fd:{fd}")
    assert not listener.socket.getblocking()
    assert not listener.socket.get_inheritable()
    exchange(listener)


def test_a_unix_socket_that_a_parent_passes_keeps_its_path(opened: Open, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as given_socket:
        given_socket.bind(str(tmp_path / "web.sock"))
        given_socket.listen()
        (listener,) = opened(f"fd:{os.dup(given_socket.fileno())}")
        assert listener.name == f"unix:{tmp_path}/web.sock"
        listener.close()
        assert (tmp_path / "web.sock").is_socket()


def test_numbers_that_are_no_listening_stream_socket(opened: Open) -> None:
    read_end, write_end = os.pipe()
    os.close(write_end)
    idle = socket.socket()
    datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with idle, datagram:
        for fd, says in (
            (read_end, "is not a socket"),
            (idle.fileno(), "is not listening"),
            (datagram.fileno(), "is not a stream socket"),
        ):
            assert refusal(opened, f"fd:{fd}").startswith(f"fd {fd} {says}")
            os.fstat(fd)  # still open: it is not ours to close
    os.close(read_end)
    assert refusal(opened, f"fd:{read_end}").startswith(f"fd {read_end} is not open")


# --- the admin socket ---


def test_the_admin_socket_has_its_own_mode(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    for mode in 0o600, 0o660:
        (listener,) = open_admin(parse_admin(f"unix:{path}"), mode)
        assert stat.S_IMODE(path.stat().st_mode) == mode
        listener.close()
        assert not path.exists()


def test_the_admin_socket_on_this_machine() -> None:
    for text in "127.0.0.1:0", "127.0.0.2:0", "localhost:0", *(["[::1]:0"] if has_ipv6() else []):
        listeners = open_admin(parse_admin(text), 0o600)
        assert listeners
        for listener in listeners:
            listener.close()


@pytest.mark.parametrize("text", ["0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:9000", "[2001:db8::1]:1"])
def test_an_admin_socket_for_other_machines_is_rejected(text: str) -> None:
    with pytest.raises(OperatorError, match=r"^--admin .*: other machines can reach "):
        open_admin(parse_admin(text), 0o600)


@pytest.mark.parametrize("text", ["unix:@admin", "fd:3"])
def test_an_unprotected_admin_socket_is_rejected(text: str) -> None:
    with pytest.raises(OperatorError, match="has no permissions"):
        parse_admin(text)


def test_an_admin_socket_that_cannot_be_opened_names_its_own_flag() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OperatorError, match=f"{port}.*choose another --admin$"):
            open_admin(parse_admin(f"127.0.0.1:{port}"), 0o600)


def test_a_unix_admin_socket_that_cannot_be_opened_names_its_own_flag(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    path.write_text("precious")
    with pytest.raises(OperatorError, match=r"is not a socket; .* choose another --admin$"):
        open_admin(parse_admin(f"unix:{path}"), 0o600)
    with socket.socket(socket.AF_UNIX) as other:
        path.unlink()
        other.bind(str(path))
        other.listen()
        with pytest.raises(OperatorError, match=r"already served .* choose another --admin$"):
            open_admin(parse_admin(f"unix:{path}"), 0o600)


def test_an_admin_socket_is_open_on_all_addresses_of_its_name_or_on_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for each in module, tcp:
        monkeypatch.setattr(
            each,
            "addresses_of",
            lambda _: iter([(socket.AF_INET, "127.0.0.1", 0), (socket.AF_INET, "127.0.0.2", 0)]),
        )
    with socket.create_server(("127.0.0.2", 0)) as other:
        before = descriptors()
        with pytest.raises(OperatorError, match=r"127\.0\.0\.2 is in use"):
            open_admin(TCPBind("localhost", other.getsockname()[1]), 0o600)
        assert descriptors() == before


# --- health for other machines ---


@pytest.mark.parametrize("text", [":0", "0.0.0.0:0", "127.0.0.1:0"])
def test_health_may_be_open_to_other_machines(text: str) -> None:
    listeners = open_health(parse_health(text))
    assert listeners
    for listener in listeners:
        listener.close()


@pytest.mark.parametrize("text", ["unix:/run/health.sock", "unix:@health", "fd:3"])
def test_a_health_address_that_other_machines_cannot_reach_is_rejected(text: str) -> None:
    with pytest.raises(OperatorError, match=r"other machines cannot reach .*--admin"):
        parse_health(text)


def test_a_health_address_that_cannot_be_opened_names_its_own_flag() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OperatorError, match=f"{port}.*choose another --health$"):
            open_health(parse_health(f"127.0.0.1:{port}"))


# --- systemd ---

CHILD = """
import fcntl, json, logging, os, sys
from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.sockets.addresses import parse_bind
from reactor_run.frontend.sockets.listeners import open_listeners

logging.basicConfig(format="%(message)s")
fds, variables, binds, own, default = json.loads(sys.argv[1])
spare = [fcntl.fcntl(fd, fcntl.F_DUPFD, 50) for fd in fds]  # away from the numbers of systemd
for number, fd in enumerate(spare, start=3):
    os.dup2(fd, number)
variables = {key: value.replace("PID", str(os.getpid())) for key, value in variables.items()}
environ = {"PATH": "/bin"} | variables
binds = [parse_bind(text) for text in binds]
own = {app: [parse_bind(text) for text in texts] for app, texts in own.items()}
try:
    listeners = open_listeners(
        binds, environ, backlog=2048, unix_mode=0o666, own=own, default=default
    )
except OperatorError as error:
    print(json.dumps({"error": str(error), "environ": sorted(environ)}))
else:
    print(json.dumps({
        "listeners": [[l.socket.fileno(), l.name, l.origin] for l in listeners],
        "apps": [l.app for l in listeners],
        "private": all(not l.socket.get_inheritable() for l in listeners),
        "blocking": any(l.socket.getblocking() for l in listeners),
        "environ": sorted(environ),
    }))
"""


class Answer(dict[str, object]):
    """What the child found, and what it logged."""

    log: str


def started(
    sockets: list[socket.socket],
    binds: list[str],
    own: Mapping[str, list[str]] | None = None,
    default: bool = True,
    **variables: str,
) -> Answer:
    """Start a child as systemd does: `sockets` from descriptor 3 up, announced by `variables`.

    `own`: the addresses of single apps. `default`: without others, the default one is opened.
    """
    fds = [sock.fileno() for sock in sockets]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps([fds, variables, binds, own or {}, default])],
        pass_fds=fds,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    answer = Answer(json.loads(done.stdout))
    answer.log = done.stderr
    return answer


@pytest.fixture
def passed(tmp_path: Path) -> Iterator[list[socket.socket]]:
    """A TCP and a unix socket, both listening."""
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "web.sock"))
        unix.listen()
        yield [tcp, unix]


def test_systemd_sockets_replace_the_default(passed: list[socket.socket], tmp_path: Path) -> None:
    answer = started(passed, [], LISTEN_PID="PID", LISTEN_FDS="2", LISTEN_FDNAMES="web:local")
    port = passed[0].getsockname()[1]
    assert answer["listeners"] == [
        [3, f"http://127.0.0.1:{port}", "systemd:web"],
        [4, f"unix:{tmp_path}/web.sock", "systemd:local"],
    ]
    assert answer["private"]
    assert not answer["blocking"]
    assert answer["environ"] == ["PATH"]


def test_systemd_sockets_come_before_those_of_bind(
    passed: list[socket.socket], tmp_path: Path
) -> None:
    answer = started(passed[:1], [f"unix:{tmp_path}/more.sock"], LISTEN_PID="PID", LISTEN_FDS="1")
    assert isinstance(answer["listeners"], list)
    assert [origin for _, _, origin in answer["listeners"]] == ["systemd:unknown", ""]
    assert answer["listeners"][1][1] == f"unix:{tmp_path}/more.sock"


def test_systemd_sockets_of_another_process_are_left_alone(
    passed: list[socket.socket], tmp_path: Path
) -> None:
    answer = started(
        passed, [f"unix:{tmp_path}/more.sock"], LISTEN_PID=str(os.getpid()), LISTEN_FDS="2"
    )
    assert isinstance(answer["listeners"], list)
    assert [name for _, name, _ in answer["listeners"]] == [f"unix:{tmp_path}/more.sock"]
    assert f"are for process {os.getpid()}, this is process " in answer.log
    assert answer["environ"] == ["PATH"]


def test_systemd_sockets_that_cannot_be_used(tmp_path: Path) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram,
        socket.socket() as idle,
        open(tmp_path / "fifo", "w+") as file,
    ):
        datagram.bind(("127.0.0.1", 0))
        for sock, says in ((datagram, "ListenStream="), (idle, "Accept=no"), (file, "a socket")):
            answer = started(
                [sock],  # type: ignore[list-item]
                [],
                LISTEN_PID="PID",
                LISTEN_FDS="1",
                LISTEN_FDNAMES="web",
            )
            assert says in str(answer["error"])
            assert str(answer["error"]).startswith("fd 3 (systemd:web) is not ")


def test_systemd_variables_that_are_malformed() -> None:
    answer = started([], [], LISTEN_PID="PID", LISTEN_FDS="many")
    assert "LISTEN_FDS=many" in str(answer["error"])
    assert answer["environ"] == ["PATH"]
    answer = started([], [], LISTEN_PID="PID", LISTEN_FDS="1")
    assert str(answer["error"]).startswith("fd 3 (systemd:unknown) is not open")


def test_a_socket_that_systemd_passes_is_not_to_be_named_again(
    passed: list[socket.socket],
) -> None:
    answer = started(passed, ["fd:4"], LISTEN_PID="PID", LISTEN_FDS="2")
    assert answer["error"] == "systemd already passes fd 4; remove --bind fd:4"


NAMES: dict[str, Any] = {"LISTEN_PID": "PID", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "web:api"}


def test_an_app_gets_the_sockets_of_a_name(passed: list[socket.socket], tmp_path: Path) -> None:
    answer = started(passed, [], {"shop": ["fd:api", f"unix:{tmp_path}/own"]}, **NAMES)
    assert answer["apps"] == ["", "shop", "shop"]
    answer = started(passed, ["fd:web"], {"shop": ["fd:api"]}, **NAMES)
    assert answer["apps"] == ["", "shop"]


def test_without_routes_the_default_is_not_opened(passed: list[socket.socket]) -> None:
    own = {"shop": ["fd:api"], "other": ["fd:web"]}
    assert started(passed, [], own, False, **NAMES)["apps"] == ["other", "shop"]
    found = started(passed, [], own, **NAMES)
    # Port 8000 may be taken on this machine.
    assert found.get("apps") == ["other", "shop", ""] or "port 8000" in str(found["error"])


@pytest.mark.parametrize(
    ("binds", "own", "says"),
    [
        (
            [],
            {"shop": ["fd:shop"]},
            "bind of [app.shop] fd:shop: systemd passes no socket of this name "
            "(FileDescriptorName=), but web, api",
        ),
        (["fd:api"], {"shop": ["fd:api"]}, "bind of [app.shop] names fd:api twice; remove one"),
        ([], {"a": ["fd:api"], "b": ["fd:api"]}, "bind of [app.b] names fd:api twice; remove one"),
        ([], {"shop": ["fd:4"]}, "systemd already passes fd 4; remove bind of [app.shop] fd:4"),
    ],
)
def test_sockets_that_an_app_cannot_have(
    passed: list[socket.socket], binds: list[str], own: dict[str, list[str]], says: str
) -> None:
    assert started(passed, binds, own, **NAMES)["error"] == says


def test_a_name_without_systemd() -> None:
    found = started([], ["fd:web"])
    assert str(found["error"]).endswith("(FileDescriptorName=), but none at all")
