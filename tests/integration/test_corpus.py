"""The corpus against a live server, through both interfaces and every way of relaying."""

from __future__ import annotations

import pytest

from tests.corpus.loader import SERVERS, Case, load
from tests.corpus.reading import at_random
from tests.corpus.wire import Cut, run
from tests.integration.certificates import Authority
from tests.integration.conftest import LANE_PROXIES, Config, Start

CASES = load()
# The express lane has PROXY headers of its own, whatever --lane-proxy says.
WAYS = [("express", "v2"), *(("plain", lane_proxy) for lane_proxy in LANE_PROXIES)]
CONFIGS = [
    Config(interface, lanes, lane_proxy=lane_proxy)
    for interface in ("asgi", "wsgi")
    for lanes, lane_proxy in WAYS
]
# ASGI on the express lane, WSGI on lanes with PROXY v2.
TWO_CONFIGS = [CONFIGS[0], CONFIGS[5]]
# An interface does not know which PROXY header came before: one shows v1, the other none.
SLOW_CONFIGS = [CONFIGS[3], CONFIGS[6]]
OTHERS = [name for name in SERVERS if name != "default"]


def whole(case: Case) -> list[bytes]:
    return [case.data]


def byte_by_byte(case: Case) -> list[bytes]:
    if case.large:
        return at_random(case.data, str(case))
    return [case.data[i : i + 1] for i in range(len(case.data))]


def in_random_pieces(case: Case) -> list[bytes]:
    return at_random(case.data, str(case))


CUTS: list[Cut] = [whole, byte_by_byte, in_random_pieces]


def check(
    shared: Start, config: Config, name: str, cut: Cut, authority: Authority | None = None
) -> None:
    """Run the cases that ask for this server; its log must be without a traceback then.

    `authority`: run them inside TLS.
    """
    app = f"tests.corpus.apps:{config.interface}"
    tls = None
    options: list[str] = []
    if authority is not None:
        tls = authority.client()
        options = authority.options("localhost", file="localhost")
    server = shared(app, *config.options, *SERVERS[name], *options)
    cases = [
        case for case in CASES if case.server == name and case.only in (None, config.interface)
    ]
    reactors = server.reactor_pids()
    before = len(server.log())
    failures = run(server.address, cases, cut, tls)
    assert not failures, "\n".join(failures)
    assert "Traceback" not in server.log()[before:]
    assert "ERROR" not in server.log()[before:]
    assert server.reactor_pids() == reactors


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(config, marks=pytest.mark.slow if config in SLOW_CONFIGS else ())
        for config in CONFIGS
    ],
    ids=str,
)
def test_whole(shared: Start, config: Config) -> None:
    check(shared, config, "default", whole)


@pytest.mark.parametrize("cut", [byte_by_byte, in_random_pieces])
@pytest.mark.parametrize("config", TWO_CONFIGS, ids=str)
def test_in_pieces(shared: Start, config: Config, cut: Cut) -> None:
    check(shared, config, "default", cut)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("config", TWO_CONFIGS, ids=str)
def test_other_servers(shared: Start, config: Config, name: str) -> None:
    check(shared, config, name, whole)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize("cut", [whole, pytest.param(in_random_pieces, marks=pytest.mark.slow)])
def test_inside_tls(shared: Start, authority: Authority, cut: Cut) -> None:
    check(shared, CONFIGS[0], "default", cut, authority)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("config", TWO_CONFIGS, ids=str)
def test_every_server_inside_tls(shared: Start, config: Config, authority: Authority) -> None:
    for name in SERVERS:
        # A PROXY header comes before TLS, and its faults too.
        if "--proxy-protocol" not in SERVERS[name]:
            for cut in CUTS:
                check(shared, config, name, whole if name == "hasty" else cut, authority)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_every_server_and_every_cut(shared: Start, config: Config) -> None:
    for name in SERVERS:
        # Whoever sends single bytes to a hasty server is refused for that.
        for cut in [whole] if name == "hasty" else CUTS:
            check(shared, config, name, cut)
