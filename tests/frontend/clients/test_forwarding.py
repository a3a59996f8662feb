"""Connections from trusted proxies: the client of each request, as its reactor sees it."""

from __future__ import annotations

from typing import Any

import pytest

from reactor_run.frontend.sockets.networks import parse_networks
from reactor_run.protocol.origin import Origin, origin_tlvs, read_origin
from reactor_run.protocol.proxy import Endpoint, decode_v2, encode_v2
from tests.frontend.conftest import Start
from tests.frontend.standin import OK, Front, LaneEnd, StandIn, get, post
from tests.integration.client import Client

CLIENT = ("203.0.113.7", 0)


def begin(start: Start, allow: str = "127.0.0.1,unix", **settings: Any) -> tuple[Front, StandIn]:
    front = start(forwarded_allow_from=parse_networks(allow), **settings)
    return front, front.reactors[0]


def serve(client: Client, reactor: StandIn, *fields: str) -> Origin:
    """Send a request with these fields, and answer it; return its origin."""
    client.send(get("/", *fields))
    number, payload = reactor.request()
    # The app gets the fields too, whether or not the peer is trusted.
    assert payload == get("/", *fields)
    reactor.reply(number)
    assert client.response().status == 200
    return reactor.origin


def on_lane(lane: LaneEnd) -> Origin:
    """Return the origin in the PROXY header of a request on a lane."""
    data = b""
    while (header := decode_v2(data)) is None:
        data += lane.exactly(1)
    return read_origin(header)


def test_each_request_of_a_connection_names_its_own_client(start: Start) -> None:
    front, reactor = begin(start)
    proxy = front.connect()
    itself = Origin(proxy.local, proxy.remote)
    for _ in range(2):
        for number in range(1, 100):
            host = f"203.0.113.{number}"
            origin = serve(proxy, reactor, f"X-Forwarded-For: {host}")
            assert origin == Origin((host, 0), proxy.remote, "http")
        origin = serve(proxy, reactor, "X-Forwarded-Proto: https", "x-forwarded-for: 2001:db8::7")
        assert origin == Origin(("2001:db8::7", 0), proxy.remote, "https")
        assert serve(proxy, reactor, "X-Forwarded-Proto: https") == itself._replace(scheme="https")
        assert serve(proxy, reactor, "X-Forwarded-For: unknown") == itself._replace(client=None)
        # Its own, such as health checks.
        assert serve(proxy, reactor) == itself
    assert len(front.inside.requester.origin._prefixes) < 100  # type: ignore[attr-defined]


def test_long_fields_are_not_remembered(start: Start) -> None:
    front, reactor = begin(start)
    proxy = front.connect()
    assert serve(proxy, reactor, f"X-Forwarded-For: {'x' * 5000}, {CLIENT[0]}").client == CLIENT
    assert not front.inside.requester.origin._prefixes  # type: ignore[attr-defined]


def test_a_proxy_on_a_unix_socket(start: Start) -> None:
    front, reactor = begin(start, "unix")
    proxy = front.connect(front.unix)
    listener = "\0" + front.unix.removeprefix("unix:\0"), None
    assert serve(proxy, reactor, "X-Forwarded-For: 203.0.113.7") == Origin(CLIENT, listener, "http")
    assert serve(proxy, reactor) == Origin(None, listener, "http")
    stranger = front.connect()
    origin = serve(stranger, reactor, "X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: https")
    assert origin == Origin(stranger.local, stranger.remote, "http")


def test_no_peer_is_trusted_by_default(start: Start) -> None:
    front = start()
    for address in front.tcp, front.unix:
        client = front.connect(address)
        told = serve(client, front.reactors[0])
        fields = [
            "X-Forwarded-For: 203.0.113.7",
            "X-Forwarded-Proto: https",
            "Forwarded: for=203.0.113.7;proto=https",
        ]
        assert serve(client, front.reactors[0], *fields) == told


FORGED = [
    pytest.param(["X-Forwarded-For: 127.0.0.1, 203.0.113.7"], id="same line"),
    pytest.param(["X-Forwarded-For: 127.0.0.1", "X-Forwarded-For: 203.0.113.7"], id="two lines"),
    pytest.param(["X-Forwarded-For: @;\"'", "x-forwarded-for: 203.0.113.7"], id="garbage"),
    pytest.param(
        ["X_Forwarded_For: 127.0.0.1", "X-Forwarded-For: 203.0.113.7"], id="underscores before"
    ),
    pytest.param(
        ["X-Forwarded-For: 203.0.113.7", "X_Forwarded-For: 127.0.0.1"], id="underscores behind"
    ),
    pytest.param(
        ["X-Forwarded-For: 203.0.113.7", "Forwarded: for=127.0.0.1;proto=https"], id="other field"
    ),
    pytest.param(
        ["X-Forwarded-For: 203.0.113.7", "X-Real-IP: 127.0.0.1", "X-Client-IP: 127.0.0.1"],
        id="other names",
    ),
    pytest.param(
        ["X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: https", "X-Forwarded-Proto: http"],
        id="two schemes",
    ),
]


@pytest.mark.parametrize("fields", FORGED)
def test_fields_that_the_client_adds_change_nothing(start: Start, fields: list[str]) -> None:
    front, reactor = begin(start)
    proxy = front.connect()
    assert serve(proxy, reactor, *fields) == Origin(CLIENT, proxy.remote, "http")


def test_forwarded_counts_if_it_is_chosen(start: Start) -> None:
    front, reactor = begin(start, "127.0.0.0/8,2001:db8:1::/48", forwarded_fields="forwarded")
    proxy = front.connect()
    fields = [
        "Forwarded: for=127.0.0.1;proto=http",
        'Forwarded: for=203.0.113.7;proto=https, for="[2001:db8:1::1]:4711"',
    ]
    assert serve(proxy, reactor, *fields) == Origin(CLIENT, proxy.remote, "https")
    fields = ["X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: https"]
    assert serve(proxy, reactor, *fields) == Origin(proxy.local, proxy.remote, "http")


# With a PROXY header before -----------------------------------------------------------------------

BALANCER: tuple[Endpoint, Endpoint] = ("192.0.2.9", 1111), ("192.0.2.1", 443)


def test_the_address_in_a_proxy_header_decides(start: Start) -> None:
    front, reactor = begin(start, "192.0.2.9", proxy_protocol=True)
    proxy, stranger = front.connect(), front.connect()
    proxy.send(encode_v2(*BALANCER))
    assert serve(proxy, reactor, "X-Forwarded-For: 203.0.113.7") == Origin(
        CLIENT, BALANCER[1], "http"
    )
    other = ("198.51.100.1", 1111)
    stranger.send(encode_v2(other, BALANCER[1]))
    assert serve(stranger, reactor, "X-Forwarded-For: 203.0.113.7").client == other


def test_a_field_overrides_the_scheme_of_the_connection(start: Start) -> None:
    front, reactor = begin(start, "192.0.2.9", proxy_protocol=True)
    proxy = front.connect()
    proxy.send(encode_v2(BALANCER[0], BALANCER[1], origin_tlvs(https=True)))
    assert serve(proxy, reactor).scheme == "https"
    assert serve(proxy, reactor, "X-Forwarded-Proto: http").scheme == "http"
    assert serve(proxy, reactor, "X-Forwarded-Proto: nonsense").scheme == "https"


# Other ways to a reactor --------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"small", b"x" * 200_000], ids=["none", "small", "large"])
def test_lanes_name_the_client_too(start: Start, body: bytes) -> None:
    front, reactor = begin(start, lanes="plain")
    proxy = front.connect()
    fields = ["X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: https"]
    lane = None
    for _ in range(2):
        with proxy.sending([post(body, *fields)]):
            lane = lane or reactor.lane()
            assert on_lane(lane) == Origin(CLIENT, proxy.remote, "https")
            assert lane.exactly(len(post(body, *fields))) == post(body, *fields)
        lane.send(OK)
        reactor.done(lane)
        front.settle()
        assert proxy.response().status == 200


def test_requests_with_collected_bodies_name_the_client(start: Start) -> None:
    front, reactor = begin(start, interface="wsgi")
    proxy = front.connect()
    request = post(b"body", "X-Forwarded-For: 203.0.113.7")
    proxy.send(request[:-1])
    front.settle()
    proxy.send(request[-1:])
    reactor.reply(reactor.request()[0])
    assert reactor.origin.client == CLIENT
    assert proxy.response().status == 200


def test_requests_in_the_queue_keep_their_client(start: Start) -> None:
    front, reactor = begin(start, capacities=(1,))
    proxies = [front.connect() for _ in range(3)]
    for number, proxy in enumerate(proxies):
        proxy.send(get("/", f"X-Forwarded-For: 203.0.113.{number}") * 2)
        front.settle()
    for number in [0, 1, 2] * 2:
        exchange, _ = reactor.request()
        assert reactor.origin.client == (f"203.0.113.{number}", 0)
        reactor.reply(exchange)
        assert proxies[number].response().status == 200
