"""HTTP inside TLS, with clients of Python's ssl, curl and openssl."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from reactor_run.protocol.certificate import as_pem
from reactor_run.protocol.proxy import encode_v1, encode_v2
from reactor_run.testing import serve as serve_for_test
from tests.integration.apps.shared import hash_of, pattern
from tests.integration.certificates import Authority
from tests.integration.client import Client, chunked, request
from tests.integration.conftest import Config, Gate, Notes, Start
from tests.integration.frames import Frames, get
from tests.integration.proxies import listen, nginx
from tests.integration.server import ROOT, Server
from tests.integration.waiting import eventually
from tests.integration.websocket import BINARY, WebSocketClient
from tests.needs import path_of

Connect = Callable[..., Client]

CONFIGS = [
    Config(interface, lanes) for interface in ("asgi", "wsgi") for lanes in ("express", "plain")
]
TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
LARGE = 5_000_000


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def options(authority: Authority) -> list[str]:
    """The flags of the shared servers."""
    return authority.options("localhost", "127.0.0.1")


@pytest.fixture
def serve(shared: Start, options: list[str]) -> Callable[..., Server]:
    """`serve(config)`: a shared server with TLS."""

    def get(config: Config = CONFIGS[0], *more: str) -> Server:
        return shared(config.app, *config.options, *options, *more)

    return get


@dataclass(frozen=True)
class Beside:
    """The addresses of a server with a listener of each kind, and its log."""

    secret: str
    plain: str
    unix: str
    redirecting: str
    admin: str
    access_log: Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("beside")


@pytest.fixture
def beside(shared: Start, options: list[str], place: Path) -> Beside:
    """A shared server with listeners without TLS beside the one with it."""
    log, admin = place / "access.log", f"unix:{place}/admin"
    told = "%(U)s %(tls_version)s %(tls_cipher)s"
    words = ["--access-log", str(log), "--access-log-format", told]
    words += ["--admin", admin, "--redirect-http", "127.0.0.1:0"]
    binds = ("127.0.0.1:0", "127.0.0.1:0,plain", f"unix:{place}/s")
    server = shared(CONFIGS[0].app, *options, *words, bind=binds)
    secret, plain, unix, redirecting = server.addresses
    return Beside(secret, plain, unix, redirecting, admin, log)


@pytest.fixture(scope="module")
def two_names(authority: Authority) -> list[str]:
    """The flags of a server with two certificates."""
    return [*authority.options("localhost"), *authority.options("second.test")]


@pytest.fixture
def secure(authority: Authority, connect: Connect) -> Connect:
    """`secure(server, ...)`: a client that speaks TLS."""

    def to(server: Server | str, **options: Any) -> Client:
        options.setdefault("tls", authority.client())
        return connect(server, **options)

    return to


# Requests and answers -----------------------------------------------------------------------------


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_bodies_both_ways(
    serve: Callable[..., Server],
    secure: Connect,
    authority: Authority,
    config: Config,
    version: ssl.TLSVersion,
) -> None:
    context = authority.client()
    context.maximum_version = version
    client = secure(serve(config), tls=context)
    assert client.tls.version() == version.name.replace("_", ".")
    assert client.tls.selected_alpn_protocol() is None
    for size in (0, 1, 16384, 16385, 70_000, LARGE):
        body = b"".join(pattern(size))
        told = client.request("POST", "/hash", body=body).json()
        assert told == {"sha256": hashlib.sha256(body).hexdigest(), "size": size}
        answer = client.get(f"/download?size={size}")
        assert hashlib.sha256(answer.body).hexdigest() == hash_of(pattern(size))
    # Not from two threads: a socket of Python's ssl is for one at a time.
    fields = [("Transfer-Encoding", "chunked")]
    client.send(request("POST", "/hash", fields))
    for piece in chunked([b"x" * 100] * 1000):
        client.send(piece)
    assert client.response().json()["size"] == 100_000
    assert client.get(f"/download?size={LARGE}&length=0").body == b"".join(pattern(LARGE))


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_pipelined_requests_and_single_bytes(
    serve: Callable[..., Server], secure: Connect, config: Config
) -> None:
    client = secure(serve(config))
    bodies = [b"%d" % number * 50 for number in range(100)]
    client.send(b"".join(request("POST", "/echo", (), body) for body in bodies))
    for body in bodies:
        assert client.response().body == body
    client.send_bytewise(request("POST", "/echo", (), b"abc"))
    assert client.response().body == b"abc"


@pytest.mark.parametrize("config", [CONFIGS[0], CONFIGS[2]], ids=str)
def test_a_slow_reader_gets_all_of_a_large_answer(
    serve: Callable[..., Server], secure: Connect, config: Config
) -> None:
    client = secure(serve(config), receive_buffer=4096)
    client.send(request("GET", f"/download?size={LARGE}"))
    client.begin()
    digest = hashlib.sha256()
    for piece in client.pieces():
        digest.update(piece)
    assert digest.hexdigest() == hash_of(pattern(LARGE))


def test_a_file(shared: Start, options: list[str], secure: Connect, tmp_path: Path) -> None:
    content = b"".join(pattern(LARGE))
    (tmp_path / "file").write_bytes(content)
    server = shared("tests.integration.apps.wsgi:app", *CONFIGS[2].options, *options)
    answer = secure(server).get(f"/file?path={tmp_path}/file")
    assert answer.body == content


def test_events_come_one_by_one(
    serve: Callable[..., Server], secure: Connect, gate: Gate, second_gate: Gate
) -> None:
    client = secure(serve())
    client.send(request("GET", f"/steps?gate={gate}&gate2={second_gate}"))
    client.begin()
    pieces = client.pieces()
    assert next(pieces) == b"data: 1\n\n"
    gate.open()
    assert next(pieces) == b"data: 2\n\n"
    second_gate.open()
    assert b"".join(pieces) == b"data: 3\n\n"


def test_answers_are_never_direct(beside: Beside, secure: Connect, connect: Connect) -> None:
    assert len(secure(beside.secret).get(f"/download?size={LARGE}").body) == LARGE
    metrics = connect(beside.admin).get("/metrics").text
    assert 'reactor_run_responses_in_pieces_total{way="direct"} 0\n' in metrics


# Ends ---------------------------------------------------------------------------------------------


def test_close_notify_precedes_the_fin(serve: Callable[..., Server], secure: Connect) -> None:
    client = secure(serve())
    client.request("GET", "/echo", [("Connection", "close")])
    # Without close_notify, the client raises SSLEOFError.
    assert client.at_end()


def test_an_idle_client_that_closes_its_side_gets_close_notify(
    serve: Callable[..., Server], secure: Connect
) -> None:
    idle = secure(serve())
    idle.get("/echo")
    # It waits for our close_notify.
    idle.tls.unwrap().close()


def test_a_request_and_close_notify_in_one_read(
    serve: Callable[..., Server], authority: Authority
) -> None:
    answer = _end_at_once(serve(), authority, request("GET", "/echo"))
    assert answer.startswith(b"HTTP/1.1 200 ")


def _end_at_once(server: Server, authority: Authority, data: bytes) -> bytes:
    """Send `data` and close_notify in one segment; return the answer.

    By hand: SSLSocket.unwrap fails if the answer is there before it has looked for close_notify.
    """
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = authority.client().wrap_bio(incoming, outgoing, server_hostname="localhost")
    port = int(server.address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(outgoing.read())
                incoming.write(sock.recv(65536))
        tls.write(data)
        with pytest.raises(ssl.SSLWantReadError):
            tls.unwrap()
        sock.sendall(outgoing.read())
        answer = b""
        while True:
            incoming.write(sock.recv(65536))
            try:
                while piece := tls.read(65536):
                    answer += piece
                return answer
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLZeroReturnError:
                return answer


def test_a_cut_body_is_a_reset(serve: Callable[..., Server], secure: Connect, notes: Notes) -> None:
    client = secure(serve())
    client.send(request("POST", f"/hash?notes={notes}", [("Content-Length", "500000")]) + b"abc")
    notes.wait_for("received 3")
    socket.socket.shutdown(client.tls, socket.SHUT_WR)
    notes.wait_for("disconnected")


def test_a_body_that_close_notify_ends_too_early_is_rejected(
    serve: Callable[..., Server], authority: Authority
) -> None:
    head = request("POST", "/hash", [("Content-Length", "100")])
    answer = _end_at_once(serve(CONFIGS[2]), authority, head + b"abc")
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_a_reset_reaches_the_app(
    serve: Callable[..., Server], secure: Connect, notes: Notes
) -> None:
    client = secure(serve())
    client.send(request("GET", f"/endless?notes={notes}"))
    notes.wait_for("started")
    client.reset()
    notes.wait_for("OSError")


def test_a_cut_answer_has_no_close_notify(
    start: Start, options: list[str], secure: Connect, gate: Gate
) -> None:
    server = start(CONFIGS[0].app, *options)
    client = secure(server)
    client.send(request("GET", f"/steps?gate={gate}"))
    client.begin()
    assert next(client.pieces()) == b"data: 1\n\n"
    os.kill(server.reactor_pids()[0], signal.SIGKILL)
    with pytest.raises(ssl.SSLEOFError):
        client.tls.recv(65536)


def test_a_last_answer_reaches_a_client_that_still_sends(
    serve: Callable[..., Server], secure: Connect
) -> None:
    client = secure(serve(CONFIGS[0], "--max-body-size", "100000"))
    client.send(request("POST", "/hash", [("Content-Length", "500000")]))
    # The answer is sent when the head has come. To close at once would destroy it.
    for _ in range(10):
        client.send(bytes(50_000))
    answer = client.response()
    assert (answer.status, answer.field("connection")) == (413, b"close")
    # The server has ended its side. It still reads: a socket that is closed resets the second one.
    assert client.at_end()
    for _ in range(3):
        client.send(bytes(1000))


@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
def test_a_request_whose_reactor_dies_is_retried(
    start: Start,
    options: list[str],
    secure: Connect,
    authority: Authority,
    gate: Gate,
    notes: Notes,
    http2: bool,
) -> None:
    server = start(CONFIGS[0].app, *options)
    path = f"/wait?gate={gate}&notes={notes}"
    with ExitStack() as stack:
        if http2:
            frames = stack.enter_context(Frames(server, tls=authority.client()))
            stream = frames.begin(get(path))
        else:
            client = secure(server)
            client.send(request("GET", path))
        notes.first()
        os.kill(server.reactor_pids()[0], signal.SIGKILL)
        assert eventually(lambda: len(notes.lines()) == 2)
        gate.open()
        answer = frames.answer(stream) if http2 else client.response()
        assert (answer.status, answer.body) == (200, b"waited")


# Handshakes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "OPTIONS", "DELETE", "PRI"])
def test_a_plain_request_is_told_so(
    serve: Callable[..., Server], connect: Connect, method: str
) -> None:
    client = connect(serve())
    client.send(f"{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n".encode())
    answer = client.response(method)
    assert answer.status == 400
    assert b"TLS" in answer.body
    assert client.at_end()


@pytest.mark.parametrize(
    "garbage", [b"\x80\x2e\x01\x03\x01" + bytes(60), b"\x16\x03\x01\x00\x05hello", bytes(100)]
)
def test_garbage_ends_the_connection(
    serve: Callable[..., Server], connect: Connect, secure: Connect, garbage: bytes
) -> None:
    server = serve()
    client = connect(server)
    client.send(garbage)
    client.rest()
    assert secure(server).get("/echo").status == 200
    assert "Traceback" not in server.log()


def test_a_handshake_has_a_deadline(start: Start, options: list[str], connect: Connect) -> None:
    server = start(CONFIGS[0].app, *options, "--handshake-timeout", "0.2")
    silent, slow = connect(server), connect(server)
    slow.send(b"\x16\x03\x01\x02\x00\x01\x00")
    assert silent.at_end()
    assert slow.at_end()


@pytest.mark.parametrize(
    ("minimum", "accepted"), [("1.2", (TLS_1_2, TLS_1_3)), ("1.3", (TLS_1_3,))]
)
def test_versions(
    serve: Callable[..., Server],
    secure: Connect,
    authority: Authority,
    minimum: str,
    accepted: tuple[ssl.TLSVersion, ...],
) -> None:
    server = serve(CONFIGS[0], "--tls-min", minimum)
    for version in (TLS_1_2, TLS_1_3):
        context = authority.client()
        context.minimum_version = context.maximum_version = version
        if version in accepted:
            assert secure(server, tls=context).get("/echo").status == 200
        else:
            with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
                secure(server, tls=context)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_versions_are_refused(
    serve: Callable[..., Server], secure: Connect, authority: Authority
) -> None:
    context = authority.client()
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        secure(serve(), tls=context)


def test_ciphers(serve: Callable[..., Server], secure: Connect, authority: Authority) -> None:
    server = serve(CONFIGS[0], "--ciphers", "ECDHE+AESGCM+AES128")
    context = authority.client()
    context.maximum_version = TLS_1_2
    client = secure(server, tls=context)
    cipher = client.tls.cipher()
    assert cipher is not None
    assert cipher[0] == "ECDHE-ECDSA-AES128-GCM-SHA256"
    told = client.get("/scope").json()["extensions"]["tls"]
    assert told["cipher_suite"] == 0xC02B
    context.set_ciphers("ECDHE+CHACHA20")
    with pytest.raises(ssl.SSLError):
        secure(server, tls=context)


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
def test_sessions_are_resumed(
    serve: Callable[..., Server],
    secure: Connect,
    authority: Authority,
    version: ssl.TLSVersion,
) -> None:
    context = authority.client()
    context.maximum_version = version
    first = secure(serve(), tls=context)
    # With TLS 1.3 the tickets come after the handshake.
    first.get("/echo")
    session = first.tls.session
    first.close()
    second = secure(serve(), tls=context, session=session)
    assert second.tls.session_reused
    assert second.get("/scope").json()["extensions"]["tls"]["tls_version"] in (0x0303, 0x0304)


@pytest.mark.needs("openssl")
def test_renegotiation_is_refused(serve: Callable[..., Server], authority: Authority) -> None:
    server = serve()
    address = server.address.removeprefix("https://")
    done = subprocess.run(
        [path_of("openssl"), "s_client", "-connect", address, "-tls1_2", "-CAfile", authority.file],
        input="R\n",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "Verify return code: 0 (ok)" in done.stdout
    assert "Secure Renegotiation IS supported" in done.stdout
    assert "no renegotiation" in done.stderr + done.stdout


@pytest.mark.needs("openssl")
def test_many_key_updates(serve: Callable[..., Server], authority: Authority) -> None:
    address = serve().address.removeprefix("https://")
    command = [path_of("openssl"), "s_client", "-connect", address, "-tls1_3", "-ign_eof"]
    done = subprocess.run(
        [*command, "-CAfile", authority.file],
        input="K\n" * 5 + "GET /echo HTTP/1.1\nHost: a\nConnection: close\n\n",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "HTTP/1.1 " in done.stdout


@pytest.mark.needs("curl")
def test_curl(serve: Callable[..., Server], authority: Authority, tmp_path: Path) -> None:
    server = serve()
    body = tmp_path / "body"
    body.write_bytes(b"".join(pattern(LARGE)))
    url = f"{server.address}/echo"
    command = [path_of("curl"), "--silent", "--show-error", "--cacert", authority.file]
    done = subprocess.run(
        [*command, "--data-binary", f"@{body}", url, "--next", *command[1:], url],
        capture_output=True,
        timeout=50,
        check=True,
    )
    assert done.stdout == body.read_bytes()


# What the app is told -----------------------------------------------------------------------------


@pytest.mark.parametrize("lanes", ["express", "plain"])
def test_asgi_apps_are_told(serve: Callable[..., Server], secure: Connect, lanes: str) -> None:
    scope = secure(serve(Config("asgi", lanes))).get("/scope").json()
    assert scope["scheme"] == "https"
    assert scope["extensions"]["tls"] == {
        "server_cert": None,
        "client_cert_chain": [],
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": 0x0304,
        "cipher_suite": 0x1302,
    }


@pytest.mark.parametrize("lanes", ["express", "plain"])
def test_wsgi_apps_are_told(serve: Callable[..., Server], secure: Connect, lanes: str) -> None:
    environ = secure(serve(Config("wsgi", lanes))).get("/environ").json()
    assert environ["wsgi.url_scheme"] == "https"
    assert environ["HTTPS"] == "on"
    assert environ["SSL_PROTOCOL"] == "TLSv1.3"
    assert environ["SSL_CIPHER"] == "TLS_AES_256_GCM_SHA384"
    assert environ["SSL_CLIENT_VERIFY"] == "NONE"
    assert "SSL_CLIENT_CERT" not in environ


def test_a_plain_listener_beside(beside: Beside, connect: Connect, secure: Connect) -> None:
    assert beside.secret.startswith("https://")
    assert beside.plain.startswith("http://")
    assert secure(beside.secret).get("/scope").json()["scheme"] == "https"
    scope = connect(beside.plain).get("/scope").json()
    assert scope["scheme"] == "http"
    assert "tls" not in scope["extensions"]


def test_a_trusted_proxy_names_the_scheme(serve: Callable[..., Server], secure: Connect) -> None:
    client = secure(serve(CONFIGS[0], "--forwarded-allow-from", "127.0.0.1"))
    assert "tls" in client.get("/scope").json()["extensions"]
    for fields in ([("X-Forwarded-Proto", "http")], [("X-Forwarded-For", "192.0.2.7")]):
        scope = client.request("GET", "/scope", fields).json()
        assert scope["scheme"] == ("http" if "Proto" in fields[0][0] else "https")
        # The TLS is that of the proxy.
        assert "tls" not in scope["extensions"]


# Clients' certificates ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority of the clients."""
    return Authority(tmp_path_factory.mktemp("people"), "people")


def verifying(people: Authority, mode: str) -> list[str]:
    return ["--ca-certs", people.file, "--verify-client", mode]


@pytest.mark.parametrize("mode", ["optional", "required"])
@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
def test_a_certificate_is_shown_to_the_app(
    serve: Callable[..., Server],
    secure: Connect,
    authority: Authority,
    people: Authority,
    mode: str,
    version: ssl.TLSVersion,
) -> None:
    own = people.issue("ada@example.org", common_name="Ada, Countess")
    context = authority.client(own)
    context.maximum_version = version
    pem = as_pem(ssl.PEM_cert_to_DER_cert(Path(own[0]).read_text()))
    for config in (CONFIGS[0], CONFIGS[3]) if mode == "required" else CONFIGS[:1]:
        server = serve(config, *verifying(people, mode))
        client = secure(server, tls=context)
        for again in range(2):
            if config.interface == "asgi":
                told = client.get("/scope").json()["extensions"]["tls"]
                assert told["client_cert_chain"][0] == pem
                assert told["client_cert_name"].startswith("CN=Ada\\, Countess,")
                assert told["client_cert_error"] is None
            else:
                environ = client.get("/environ").json()
                assert environ["SSL_CLIENT_VERIFY"] == "SUCCESS"
                assert environ["SSL_CLIENT_CERT"] == pem
                assert environ["SSL_CLIENT_S_DN_CN"] == "Ada, Countess"
                assert environ["SSL_CLIENT_I_DN"].startswith("OU=Testing CA")
            if not again:
                # The app is told the same if the session is resumed.
                client = secure(server, tls=context, session=client.tls.session)
                assert client.tls.session_reused


def test_the_chain_as_far_as_python_tells_it(
    serve: Callable[..., Server], secure: Connect, authority: Authority, people: Authority
) -> None:
    department = people.ca.create_child_ca()
    leaf = department.issue_cert("ada@example.org")
    context = authority.client()
    leaf.configure_cert(context)
    client = secure(serve(CONFIGS[0], *verifying(people, "required")), tls=context)
    chain = client.get("/scope").json()["extensions"]["tls"]["client_cert_chain"]
    whole = [leaf.cert_chain_pems[0], department.cert_pem, people.ca.cert_pem]
    known = whole if sys.version_info >= (3, 13) else whole[:1]
    assert chain == [pem.bytes().decode() for pem in known]


def refused(client_context: ssl.SSLContext, server: Server, secure: Connect) -> bool:
    """Whether the server ends the handshake. With TLS 1.3 a client notices when it reads."""
    try:
        client = secure(server, tls=client_context)
        client.get("/echo")
    except (ssl.SSLError, ConnectionError):
        return True
    return False


@pytest.mark.parametrize("mode", ["off", "optional", "required"])
@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3])
def test_invalid_and_missing_certificates(
    serve: Callable[..., Server],
    secure: Connect,
    authority: Authority,
    people: Authority,
    tmp_path: Path,
    mode: str,
    version: ssl.TLSVersion,
) -> None:
    import datetime

    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    expired = people.issue("old@example.org", not_after=past, file=str(tmp_path / "expired"))
    foreign = Authority(tmp_path, "foreign").issue("eve@example.org")
    server = serve(CONFIGS[0], *([] if mode == "off" else verifying(people, mode)))
    for own, allowed in (
        (None, mode != "required"),
        (expired, mode == "off"),
        (foreign, mode == "off"),
    ):
        context = authority.client(own)
        context.maximum_version = version
        assert refused(context, server, secure) is not allowed


@pytest.mark.needs("nginx")
def test_nginx_with_a_certificate(
    serve: Callable[..., Server],
    connect: Connect,
    authority: Authority,
    people: Authority,
    tmp_path: Path,
) -> None:
    """nginx speaks TLS to the server. Each verifies the other."""
    server = serve(CONFIGS[0], *verifying(people, "required"))
    certfile, keyfile = people.issue("nginx.example")
    front = listen("tcp4", tmp_path)
    host, port = front.getsockname()
    temporary = " ".join(
        f"{kind}_temp_path {tmp_path}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    blocks = f"""
http {{
  access_log off; client_max_body_size 0; {temporary}
  upstream app {{ server {server.address.removeprefix("https://")}; keepalive 4; }}
  server {{
    listen {host}:{port};
    location / {{
      proxy_pass https://app; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_request_buffering off; proxy_max_temp_file_size 0;
      proxy_ssl_verify on; proxy_ssl_trusted_certificate {authority.file};
      proxy_ssl_server_name on; proxy_ssl_name localhost;
      proxy_ssl_certificate {certfile}; proxy_ssl_certificate_key {keyfile};
    }}
  }}
}}
"""
    with nginx(tmp_path, blocks, [front]):
        client = connect(f"http://{host}:{port}")
        body = b"".join(pattern(LARGE))
        told = client.request("POST", "/hash", body=body[:900_000]).json()
        assert told["size"] == 900_000
        assert client.get(f"/download?size={LARGE}").body == body
        scope = client.get("/scope").json()
        assert scope["scheme"] == "https"
        pem = as_pem(ssl.PEM_cert_to_DER_cert(Path(certfile).read_text()))
        assert scope["extensions"]["tls"]["client_cert_chain"][0] == pem


# Several certificates -----------------------------------------------------------------------------


def name_of(client: Client) -> list[str]:
    certificate = client.tls.getpeercert()
    assert certificate is not None
    names: Any = certificate["subjectAltName"]
    return [name for _, name in names]


def test_the_name_selects_the_certificate(
    start: Start, secure: Connect, authority: Authority, people: Authority
) -> None:
    first = authority.options("localhost", "first.test")
    second = authority.options("second.test")
    wild = authority.options("*.wild.test")
    exact = authority.options("exact.wild.test")
    server = start(CONFIGS[0].app, *first, *second, *wild, *exact, *verifying(people, "required"))
    own = people.issue("ada@example.org")
    for host, names in [
        ("localhost", ["localhost", "first.test"]),
        ("first.test", ["localhost", "first.test"]),
        ("second.test", ["second.test"]),
        ("SECOND.test", ["second.test"]),
        ("a.wild.test", ["*.wild.test"]),
        ("exact.wild.test", ["exact.wild.test"]),
    ]:
        client = secure(server, tls=authority.client(own), host=host)
        assert name_of(client) == names
        # Clients are verified whatever name they send.
        assert client.get("/scope").json()["extensions"]["tls"]["client_cert_chain"]
        assert refused(authority.client(), server, partial(secure, host=host))
    for host in ("wild.test", "a.b.wild.test", "unknown.test", "127.0.0.1"):
        context = authority.client(own)
        context.check_hostname = False
        assert name_of(secure(server, tls=context, host=host))[0] == "localhost"


def test_a_name_that_is_not_ascii_ends_only_its_handshake(
    shared: Start, two_names: list[str], secure: Connect, connect: Connect, authority: Authority
) -> None:
    server = shared(CONFIGS[0].app, *two_names)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = authority.client().wrap_bio(incoming, outgoing, server_hostname="abcdef.test")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    client = connect(server)
    client.send(outgoing.read().replace(b"abcdef.test", b"abc\xff\xfe\xfd.test"))
    client.rest()
    assert secure(server).get("/echo").status == 200
    assert "Traceback" not in server.log()
    assert "Exception" not in server.log()


# Before and beside --------------------------------------------------------------------------------


@pytest.mark.parametrize("split", [False, True], ids=["apart", "together"])
def test_a_proxy_header_precedes_the_handshake(
    serve: Callable[..., Server], secure: Connect, authority: Authority, split: bool
) -> None:
    server = serve(CONFIGS[0], "--proxy-protocol")
    ends = (("203.0.113.7", 1111), ("192.0.2.1", 443))
    for header in (encode_v1(*ends), encode_v2(*ends)):
        if split:
            client = secure(server, before=header)
            scope = client.get("/scope").json()
        else:
            scope = json.loads(_by_hand(server, authority, header)[1])
        assert scope["client"] == list(ends[0])
        assert scope["server"] == list(ends[1])
        assert scope["scheme"] == "https"
        assert scope["extensions"]["tls"]["tls_version"] == 0x0304


def _by_hand(server: Server, authority: Authority, before: bytes) -> tuple[bytes, bytes]:
    """Send `before` and the first message of a handshake in one segment; GET /scope."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = authority.client().wrap_bio(incoming, outgoing, server_hostname="localhost")
    port = int(server.address.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        done = False
        while not done:
            try:
                tls.do_handshake()
                done = True
                tls.write(request("GET", "/scope", [("Connection", "close")]))
            except ssl.SSLWantReadError:
                pass
            sock.sendall(before + outgoing.read())
            before = b""
            if not done:
                incoming.write(sock.recv(65536))
        answer = b""
        while True:
            try:
                piece = tls.read(65536)
                if not piece:
                    break
                answer += piece
            except ssl.SSLWantReadError:
                incoming.write(sock.recv(65536))
            except ssl.SSLZeroReturnError:
                break
    head, _, body = answer.partition(b"\r\n\r\n")
    return head, body


def test_requests_are_redirected(beside: Beside, connect: Connect) -> None:
    port = beside.secret.rpartition(":")[2].encode()
    client = connect(beside.redirecting)
    for host, target, location in [
        (b"shop.test", b"/a?b=c", b"https://shop.test/a?b=c"),
        (b"shop.test:8080", b"/", b"https://shop.test:" + port + b"/"),
        (b"[::1]:80", b"//x", b"https://[::1]:" + port + b"//x"),
        (b"[::1]", b"/", b"https://[::1]/"),
    ]:
        client.send(b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, host))
        answer = client.response()
        assert (answer.status, answer.field("location")) == (308, location)
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok")
    assert client.response().status == 308
    client.send(b"GET / HTTP/1.0\r\n\r\n")
    assert client.response().status == 400


def test_no_route_takes_a_request_that_is_redirected(
    start: Start, options: list[str], connect: Connect, tmp_path: Path
) -> None:
    server = start(
        "tests.integration.apps.several:wsgi",
        "--mount=/api=tests.integration.apps.several:asgi",
        f"--static=/s={tmp_path}",
        '--route={"prefix": "/old", "redirect": "/new"}',
        *options,
        "--redirect-http=127.0.0.1:0",
    )
    for framing in "Content-Length: 5", "Transfer-Encoding: chunked":
        for path in "/pid", "/api/pid", "/s/file", "/old":
            client = connect(server.addresses[1])
            # The body is on its way. It is not awaited.
            client.send(f"POST {path} HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n".encode())
            answer = client.response()
            assert (answer.status, answer.field("location")) == (308, b"https://a" + path.encode())
            assert client.at_end()


def test_unix_sockets_have_no_tls(beside: Beside, connect: Connect) -> None:
    assert connect(beside.unix).get("/scope").json()["scheme"] == "http"


# Operation ----------------------------------------------------------------------------------------


@pytest.fixture
def unfinished(connect: Connect) -> Callable[[Server], Client]:
    """`unfinished(server)`: a client whose handshake has begun and does not end."""

    def begin(server: Server) -> Client:
        client = connect(server)
        client.send(b"\x16\x03\x01\x02\x00\x01\x00")
        return client

    return begin


def test_a_stop_waits_for_a_handshake_and_a_last_request(
    start: Start, options: list[str], authority: Authority
) -> None:
    server = start(CONFIGS[0].app, *options, "--close-grace", "20")
    raw = Client(server.address)
    eventually(lambda: _opened(server) >= 1)
    server.signal(15)
    eventually(lambda: "shutting down" in server.log() or "stop" in server.log())
    sock = authority.client().wrap_socket(raw._sock, server_hostname="localhost")
    sock.sendall(request("GET", "/echo"))
    answer = sock.recv(65536)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in answer.lower()
    sock.close()
    assert server.wait() == 0


def _opened(server: Server) -> int:
    return sum(1 for pid in [server.pid] for _ in Path(f"/proc/{pid}/fd").iterdir()) - 1


def test_a_stop_ends_unfinished_handshakes(
    start: Start, options: list[str], unfinished: Callable[[Server], Client]
) -> None:
    server = start(CONFIGS[0].app, *options)
    client = unfinished(server)
    server.signal(15)
    assert server.wait() == 0
    client.rest()


def test_an_upgrade(start: Start, options: list[str], secure: Connect, connect: Connect) -> None:
    binds = ("127.0.0.1:0", "127.0.0.1:0,plain")
    server = start(CONFIGS[0].app, *options, bind=binds)
    secret, plain = server.addresses
    before = secure(secret)
    before.get("/echo")
    server.signal(12)
    eventually(lambda: server.process.poll() is not None)
    try:
        assert secure(secret).get("/scope").json()["scheme"] == "https"
        assert connect(plain).get("/scope").json()["scheme"] == "http"
    finally:
        server.kill()


def test_a_certificate_for_development(start: Start, connect: Connect) -> None:
    server = start(CONFIGS[0].app, "--tls-dev")
    assert "no browser or client trusts this certificate" in server.log()
    with pytest.raises(ssl.SSLCertVerificationError):
        connect(server, tls=ssl.create_default_context())
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    assert connect(server, tls=context).get("/scope").json()["scheme"] == "https"


def test_a_reload_reads_new_certificates(
    start: Start, secure: Connect, authority: Authority, tmp_path: Path
) -> None:
    certfile, keyfile = authority.issue("localhost", file=str(tmp_path / "live"))
    options = ["--certfile", certfile, "--keyfile", keyfile]
    server = start(CONFIGS[0].app, *options, "--admin", f"unix:{tmp_path}/admin")
    kept = secure(server)
    assert name_of(kept) == ["localhost"]
    for old, new in zip(
        (certfile, keyfile), authority.issue("localhost", "new.test", file="new"), strict=True
    ):
        os.replace(new, old)
    server.signal(signal.SIGHUP)
    assert eventually(lambda: name_of(secure(server)) == ["localhost", "new.test"])
    assert kept.get("/echo").status == 200
    words = [sys.executable, "-m", "reactor_run", "status", "--admin", f"unix:{tmp_path}/admin"]
    page = subprocess.run(words, capture_output=True, text=True, timeout=30, check=True).stdout
    assert re.search(rf"certificate  {certfile} until \d{{4}}-.*: localhost, new.test", page)


def test_changed_files_are_noticed(
    start: Start, secure: Connect, authority: Authority, tmp_path: Path
) -> None:
    certfile, keyfile = authority.issue("localhost", file=str(tmp_path / "live"))
    server = start(CONFIGS[0].app, "--certfile", certfile, "--keyfile", keyfile)
    for old, new in zip(
        (certfile, keyfile), authority.issue("localhost", "new.test", file="new"), strict=True
    ):
        os.replace(new, old)
    assert eventually(lambda: name_of(secure(server)) == ["localhost", "new.test"])


def test_the_access_log_tells_version_and_cipher(
    beside: Beside, secure: Connect, connect: Connect
) -> None:
    def lines() -> list[str]:
        found = beside.access_log.read_text().splitlines()
        return [line for line in found if line.startswith("/logged")]

    secure(beside.secret).request("GET", "/logged/1")
    assert eventually(lines) == ["/logged/1 TLSv1.3 TLS_AES_256_GCM_SHA384"]
    connect(beside.plain).request("GET", "/logged/2")
    assert eventually(lambda: lines()[1:]) == ["/logged/2 - -"]


# WebSocket ----------------------------------------------------------------------------------------

WEBSOCKETS = "tests.integration.apps.websockets:app"


@pytest.mark.parametrize("lanes", ["express", "plain"])
def test_websockets(shared: Start, options: list[str], authority: Authority, lanes: str) -> None:
    server = shared(WEBSOCKETS, "--lanes", lanes, *options)
    with WebSocketClient(server, "/scope", tls=authority.client()) as ws:
        scope = json.loads(ws.message())
        assert scope["scheme"] == "wss"
        assert scope["extensions"]["tls"]["tls_version"] == 0x0304
        ws.finish()
    with WebSocketClient(server, "/echo", tls=authority.client()) as ws:
        for size in (0, 125, 70_000, 500_000):
            ws.send(BINARY, b"x" * size)
            assert ws.message() == b"x" * size
        # finish() waits for close_notify.
        ws.finish()


def test_websockets_end_at_a_reload(start: Start, options: list[str], authority: Authority) -> None:
    server = start(WEBSOCKETS, *options)
    with WebSocketClient(server, "/echo", tls=authority.client()) as ws:
        server.signal(signal.SIGHUP)
        assert ws.close_frame()[0] == 1012
        ws.close(1012)
        assert ws.ends()


# Elsewhere ----------------------------------------------------------------------------------------


def test_servers_of_tests(authority: Authority, connect: Connect) -> None:
    certfile, keyfile = authority.issue("localhost", file="testing")
    for bind, scheme in ("127.0.0.1:0", "https"), ("127.0.0.1:0,plain", "http"):
        settings: dict[str, Any] = {"certfile": certfile, "keyfile": keyfile, "bind": bind}
        with serve_for_test(CONFIGS[0].app, app_dir=str(ROOT), **settings) as url:
            assert re.fullmatch(rf"{scheme}://127\.0\.0\.1:\d+", url)
            client = connect(url, tls=authority.client() if scheme == "https" else None)
            assert client.get("/scope").json()["scheme"] == scheme


def test_check_reads_the_certificates(authority: Authority) -> None:
    certfile, _ = authority.issue("localhost", file="checked")
    _, other = authority.issue("localhost", file="other")
    words = ["check", CONFIGS[0].app, "--app-dir", str(ROOT), "--certfile", certfile]
    done = subprocess.run(
        [sys.executable, "-m", "reactor_run", *words, "--keyfile", other],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 2
    assert "does not belong to" in done.stderr


def test_sessions_of_the_second_certificate_are_resumed(
    shared: Start, two_names: list[str], secure: Connect, authority: Authority
) -> None:
    server = shared(CONFIGS[0].app, *two_names)
    context = authority.client()
    first = secure(server, tls=context, host="second.test")
    first.get("/echo")
    again = secure(server, tls=context, host="second.test", session=first.tls.session)
    assert again.tls.session_reused
    assert again.get("/echo").status == 200
