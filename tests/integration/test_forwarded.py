"""`--forwarded-allow-from`: what apps are told of clients behind nginx, HAProxy and others."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.integration.apps.shared import pattern
from tests.integration.client import Client
from tests.integration.conftest import LANES, Config, Start
from tests.integration.proxies import address_of, backend_of, haproxy, listen, nginx
from tests.integration.server import Server

Connect = Callable[..., Client]

CONFIGS = [Config(interface, lanes) for interface in ("asgi", "wsgi") for lanes in LANES]
CONFIGS.append(Config("wsgi", threads=2))
BODIES = {"small": b"".join(pattern(10)), "large": b"".join(pattern(200_000))}
BINDS = ("127.0.0.1:0", "[::1]:0")
LOOPBACK = "127.0.0.1,::1,unix"
CLIENT = "127.0.0.9"
"""Where clients of the real proxies connect from: not an address that is believed."""


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    """Short enough for the paths of unix sockets, and open to the users of proxies."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def told(
    client: Client, config: Config, fields: Sequence[tuple[str, str]] = (), body: bytes = b""
) -> dict[str, Any]:
    """What the app is told: client, scheme, host, and the fields."""
    if config.interface == "asgi":
        scope = client.request("POST", "/scope", fields, body).json()
        return {
            "client": scope["client"] and tuple(scope["client"]),
            "scheme": scope["scheme"],
            "fields": dict(scope["headers"]),
        }
    environ = client.request("POST", "/environ", fields, body).json()
    host = environ["REMOTE_ADDR"]
    return {
        "client": (host, int(environ["REMOTE_PORT"])) if host else None,
        "scheme": environ["wsgi.url_scheme"],
        "fields": {
            name.removeprefix("HTTP_").lower().replace("_", "-"): value
            for name, value in environ.items()
            if name.startswith("HTTP_")
        },
    }


# By hand ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("size", BODIES)
def test_apps_are_told_of_the_client(
    shared: Start, connect: Connect, config: Config, size: str
) -> None:
    server = shared(config.app, *config.options, "--forwarded-allow-from", LOOPBACK, bind=BINDS)
    for address in server.addresses:
        proxy = connect(address)
        for host in "203.0.113.7", "2001:db8::7":
            fields = [
                ("X-Forwarded-For", "127.0.0.1, ::1"),
                ("X-Forwarded-For", host),
                ("X_Forwarded_For", "127.0.0.1"),
                ("X-Forwarded-Proto", "https"),
                ("X-Forwarded-Host", "forged.example"),
                ("X-Forwarded-Port", "1"),
            ]
            seen = told(proxy, config, fields, BODIES[size])
            assert (seen["client"], seen["scheme"]) == ((host, 0), "https")
            assert seen["fields"]["host"] == "test"
            assert seen["fields"]["x-forwarded-proto"] == "https"
            assert seen["fields"]["x-forwarded-for"].endswith(host)
        seen = told(proxy, config, [("X-Forwarded-For", "unknown")], BODIES[size])
        assert (seen["client"], seen["scheme"]) == (None, "http")
        seen = told(proxy, config, [], BODIES[size])
        assert (seen["client"], seen["scheme"]) == (proxy.local, "http")


OTHERS = ("--forwarded-allow-from", "192.0.2.1,::1,unix")
BELIEVES_OTHERS = [CONFIGS[0], CONFIGS[3]]
"""Whom a front end believes does not depend on its reactors: two of them show it."""


@pytest.mark.parametrize(
    ("config", "options"),
    [
        *((config, ()) for config in CONFIGS[:4]),
        *((config, OTHERS) for config in BELIEVES_OTHERS),
        pytest.param(CONFIGS[4], (), marks=pytest.mark.slow),
        *(
            pytest.param(config, OTHERS, marks=pytest.mark.slow)
            for config in CONFIGS
            if config not in BELIEVES_OTHERS
        ),
    ],
    ids=str,
)
def test_the_word_of_others_changes_nothing(
    shared: Start, connect: Connect, config: Config, options: tuple[str, ...]
) -> None:
    client = connect(shared(config.app, *config.options, *options))
    fields = [
        ("X-Forwarded-For", "203.0.113.7"),
        ("X-Forwarded-Proto", "https"),
        ("Forwarded", "for=203.0.113.7;proto=https"),
    ]
    seen = told(client, config, fields)
    assert (seen["client"], seen["scheme"]) == (client.local, "http")
    # The fields are the app's, as they were sent.
    assert [seen["fields"][name.lower()] for name, _ in fields] == [value for _, value in fields]


@pytest.mark.parametrize("config", [Config(), Config("wsgi")], ids=str)
def test_forwarded_of_rfc_7239(shared: Start, connect: Connect, config: Config) -> None:
    options = ("--forwarded-allow-from", LOOPBACK, "--forwarded-fields", "forwarded")
    proxy = connect(shared(config.app, *config.options, *options))
    fields = [
        ("Forwarded", 'for="[2001:db8::7]:4711";proto=https;host=a.example, for=127.0.0.1'),
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Forwarded-Proto", "http"),
    ]
    seen = told(proxy, config, fields)
    assert (seen["client"], seen["scheme"]) == (("2001:db8::7", 0), "https")
    assert seen["fields"]["host"] == "test"


# The programs, as docs/proxies.md sets them up ----------------------------------------------------

NGINX = """
proxy_set_header Host $host;
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
proxy_set_header X-Forwarded-Proto $scheme;
"""
HAPROXY = """
  mode http
  option forwardfor
  http-request set-header X-Forwarded-Proto https if { ssl_fc }
  http-request set-header X-Forwarded-Proto http if !{ ssl_fc }
"""


@pytest.fixture(scope="module", params=["asgi", "wsgi"])
def config(request: pytest.FixtureRequest) -> Config:
    return Config(request.param)


@pytest.fixture(scope="module")
def server(
    config: Config, shared_servers: dict[tuple[object, ...], Server], directory: Path
) -> Server:
    """One server for both programs."""
    server = shared_servers.get(("programs", config))
    if server is None:
        options = (*config.options, "--forwarded-allow-from", LOOPBACK)
        binds = (*BINDS, f"unix:{directory}/{config.interface}")
        server = shared_servers["programs", config] = Server(config.app, *options, bind=binds)
    return server


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=pytest.mark.needs(name)) for name in ("nginx", "haproxy")],
)
def proxies(
    request: pytest.FixtureRequest, server: Server, directory: Path
) -> Iterator[dict[str, str]]:
    """Addresses of one of the programs, by the family of the connection behind it."""
    sockets: dict[str, socket.socket] = {
        back: listen("tcp4", directory) for back in ("tcp4", "tcp6", "unix")
    }
    addresses = {back: address_of(sock) for back, sock in sockets.items()}
    if request.param == "nginx":
        paths = " ".join(
            f"{kind}_temp_path {directory}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        blocks = f"http {{ access_log off; {paths} {NGINX}\n"
        for back, address in addresses.items():
            blocks += f"server {{ listen {address.removeprefix('http://')}; location / {{"
            blocks += f"proxy_pass http://{backend_of(server, back)}; }} }}\n"
        running = nginx(directory, blocks + "}\n", [*sockets.values()])
    else:
        sections = ""
        for back, sock in sockets.items():
            sections += f"listen {back}\n  bind fd@{sock.fileno()}{HAPROXY}"
            sections += f"  server s {backend_of(server, back)}\n"
        running = haproxy(directory, sections, [*sockets.values()])
    with running:
        yield addresses


@pytest.mark.parametrize("back", ["tcp4", "tcp6", "unix"])
@pytest.mark.parametrize("size", BODIES)
def test_behind_real_proxies(
    proxies: dict[str, str], connect: Connect, config: Config, back: str, size: str
) -> None:
    client = connect(proxies[back], source=(CLIENT, 0))
    forged = [
        ("X-Forwarded-For", "127.0.0.1"),
        ("X-Forwarded-For", "::1, garbage, 127.0.0.1"),
        ("X-Forwarded-Proto", "https"),
        ("Forwarded", "for=127.0.0.1;proto=https"),
    ]
    for fields in [], forged[:1], forged:
        seen = told(client, config, fields, BODIES[size])
        assert (seen["client"], seen["scheme"]) == ((CLIENT, 0), "http")
        assert seen["fields"]["x-forwarded-for"].endswith(CLIENT)
