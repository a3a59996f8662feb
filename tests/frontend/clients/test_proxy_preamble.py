"""Connections that must begin with a PROXY header: valid, invalid and late headers."""

from __future__ import annotations

import signal
import struct
from typing import Any

import pytest

from reactor_run.frontend.clients.http1 import Http1
from reactor_run.frontend.clients.requester import Http1Requester
from reactor_run.frontend.sockets.networks import parse_networks
from reactor_run.protocol.origin import Origin, origin_tlvs
from reactor_run.protocol.proxy import Endpoint, encode_v1, encode_v2
from tests.frontend.conftest import Start
from tests.frontend.standin import OK, Front, StandIn, get, post
from tests.integration.client import Client

V4 = ("203.0.113.7", 1111), ("192.0.2.1", 443)
V6 = ("2001:db8::7", 1111), ("2001:db8::1", 443)
UNIX: tuple[Endpoint, Endpoint] = (("/run/them.sock", None), ("/run/us.sock", None))
TLVS = ((0x01, b"http/1.1"), (0x02, b"example.org"), (0x05, b"id"), (0x04, b"padding"))
TLS = origin_tlvs(https=True)


def begin(start: Start, **settings: Any) -> tuple[Front, Client, StandIn]:
    front = start(proxy_protocol=True, **settings)
    return front, front.connect(), front.reactors[0]


def serve(client: Client, reactor: StandIn, request: bytes) -> Origin:
    """Send a request, and answer it; return its origin."""
    number, payload = reactor.request()
    assert payload == request
    reactor.reply(number)
    assert client.response().status == 200
    return reactor.origin


# What a header says -------------------------------------------------------------------------------

TOLD = [
    pytest.param(encode_v1(*V4), Origin(*V4), id="v1 TCP4"),
    pytest.param(encode_v1(*V6), Origin(*V6), id="v1 TCP6"),
    pytest.param(encode_v2(*V4), Origin(*V4), id="v2 TCP4"),
    pytest.param(encode_v2(*V6, TLVS, crc32c=True), Origin(*V6), id="v2 TCP6"),
    pytest.param(encode_v2(*V4, TLS), Origin(*V4, "https"), id="TLS"),
    pytest.param(encode_v2(*V4, [(0x20, bytes(5))]), Origin(*V4), id="no TLS"),
    pytest.param(encode_v2(*UNIX), Origin(None, UNIX[1]), id="v2 UNIX"),
]
NOT_TOLD = [
    pytest.param(b"PROXY UNKNOWN\r\n", "http", id="v1 UNKNOWN"),
    pytest.param(b"PROXY UNKNOWN whatever it says\r\n", "http", id="v1 UNKNOWN and more"),
    pytest.param(encode_v2(None, None, local=True), "http", id="LOCAL"),
    pytest.param(encode_v2(None, None, TLS, local=True), "http", id="LOCAL with TLVs"),
    pytest.param(encode_v2(None, None), "http", id="UNSPEC"),
    pytest.param(encode_v2(None, None, TLS), "https", id="UNSPEC with TLVs"),
]


@pytest.mark.parametrize(("header", "origin"), TOLD)
@pytest.mark.parametrize("listener", ["tcp", "unix"])
def test_the_header_names_both_ends(
    start: Start, header: bytes, origin: Origin, listener: str
) -> None:
    front = start(proxy_protocol=True)
    client, reactor = front.connect(getattr(front, listener)), front.reactors[0]
    client.send(header + get())
    assert serve(client, reactor, get()) == origin
    # The header is the connection's: it holds for each of its requests.
    client.send(get("/next"))
    assert serve(client, reactor, get("/next")) == origin


@pytest.mark.parametrize(("header", "scheme"), NOT_TOLD)
def test_a_header_without_addresses_keeps_those_of_the_connection(
    start: Start, header: bytes, scheme: str
) -> None:
    _, client, reactor = begin(start)
    client.send(header + get())
    assert serve(client, reactor, get()) == Origin(client.local, client.remote, scheme)


@pytest.mark.parametrize(
    "header", [encode_v1(*V6), encode_v2(*V4, TLVS, crc32c=True)], ids=["v1", "v2"]
)
def test_a_header_may_arrive_byte_by_byte(start: Start, header: bytes) -> None:
    front, client, reactor = begin(start)
    for byte in header + get():
        client.send(bytes([byte]))
        front.settle()
    serve(client, reactor, get())


@pytest.mark.parametrize("header", [encode_v1(*V4), encode_v2(*V4)], ids=["v1", "v2"])
@pytest.mark.parametrize("behind", [b"", get()[:5], get() + get("/b"), post(b"x" * 200_000)[:9999]])
def test_bytes_after_a_header_are_the_first_request(
    start: Start, header: bytes, behind: bytes
) -> None:
    front, client, reactor = begin(start)
    client.send(header + behind)
    front.settle()
    if behind == get() + get("/b"):
        serve(client, reactor, get())
        serve(client, reactor, get("/b"))
    elif behind.startswith(b"POST"):
        assert reactor.link().head().startswith(b"POST")
    else:
        assert reactor.silent
        client.send(get()[len(behind) :])
        serve(client, reactor, get())


def test_the_longest_header(start: Start) -> None:
    tlvs = [(0xEE, b"x" * 30_000), (0xEF, b"y" * (0xFFFF - 12 - 30_000 - 6))]
    header = encode_v2(*V4, tlvs)
    assert len(header) == 16 + 0xFFFF
    front, client, reactor = begin(start)
    client.send(header[:40_000])
    front.settle()
    client.send(header[40_000:] + get())
    assert serve(client, reactor, get()) == Origin(*V4)


# What is no header --------------------------------------------------------------------------------

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
GARBLED = [
    pytest.param(get(), id="no header"),
    pytest.param(b"PROXY / HTTP/1.1\r\nHost: a\r\n\r\n", id="a method PROXY"),
    pytest.param(b"PROXY TCP4 203.0.113.7 192.0.2.1 1111\r\n", id="v1 a field short"),
    pytest.param(b"PROXY TCP4 203.0.113.7 192.0.2.1 1111 65536\r\n", id="v1 port"),
    pytest.param(b"PROXY TCP4 2001:db8::7 2001:db8::1 1111 443\r\n", id="v1 wrong family"),
    pytest.param(b"PROXY TCP4 203.0.113.7 192.0.2.1 1111 443\n", id="v1 bare LF"),
    pytest.param(b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n", id="v1 of 108 bytes"),
    pytest.param(b"PROXY UNKNOWN " + b"x" * 200, id="v1 without an end"),
    pytest.param(SIGNATURE + b"\x31\x11\0\x0c" + bytes(12), id="v2 version 3"),
    pytest.param(SIGNATURE + b"\x22\x11\0\x0c" + bytes(12), id="v2 unknown command"),
    pytest.param(SIGNATURE + b"\x21\x12\0\x0c" + bytes(12), id="v2 UDP"),
    pytest.param(SIGNATURE + b"\x21\x41\0\x0c" + bytes(12), id="v2 unknown family"),
    pytest.param(SIGNATURE + b"\x21\x21\0\x0c" + bytes(12), id="v2 too short for its family"),
    pytest.param(SIGNATURE + b"\x21\x11\0\x0d" + bytes(13), id="v2 half a TLV"),
    pytest.param(encode_v2(*V4, crc32c=True)[:-1] + b"\0", id="v2 checksum"),
    pytest.param(SIGNATURE + b"\x21\x11\0\x10" + bytes(12) + b"\x20\0\1\1", id="v2 TLS cut short"),
    pytest.param(b"\r\n\r\n\0\r\nQUIX\n", id="v2 signature"),
]


@pytest.mark.parametrize("garbled", GARBLED)
def test_an_invalid_header_is_rejected(start: Start, garbled: bytes) -> None:
    front, client, reactor = begin(start)
    client.send(garbled)
    assert client.response().status == 400
    assert client.at_end()
    assert reactor.silent
    (line,) = (line for line in front.log if "no PROXY header" in line)
    assert line.startswith("warning no PROXY header from 127.0.0.1: ")


@pytest.mark.parametrize("header", [encode_v1(*V4), encode_v2(*V4)], ids=["v1", "v2"])
def test_a_second_header_is_rejected(start: Start, header: bytes) -> None:
    _, client, reactor = begin(start)
    client.send(header + header + get())
    assert client.response().status == 400
    assert client.at_end()
    assert reactor.silent


@pytest.mark.parametrize("header", [encode_v1(*V4), encode_v2(*V6, TLVS)], ids=["v1", "v2"])
def test_a_connection_that_ends_within_its_header_is_closed(start: Start, header: bytes) -> None:
    front = start(proxy_protocol=True)
    for size in range(len(header)):
        client = front.connect()
        client.send(header[:size])
        client.finish_sending()
        assert client.at_end()
    front.settle()
    assert front.reactors[0].silent
    assert not front.server.acceptor._inbound


def test_no_header_is_required_unless_it_is_asked_for(start: Start) -> None:
    front = start()
    for header in encode_v1(*V4), encode_v2(*V4):
        client = front.connect()
        client.send(header + get())
        assert client.response().status == 400
        assert client.at_end()
    assert front.reactors[0].silent


# Time, and the end --------------------------------------------------------------------------------


@pytest.mark.parametrize("header", [b"", b"PROXY ", encode_v2(*V4)[:-1]], ids=["none", "v1", "v2"])
def test_a_header_must_come_in_time(start: Start, header: bytes) -> None:
    front, client, _ = begin(start, head_timeout=20.0)
    client.send(header)
    front.settle()
    front.pass_time(15)
    assert front.silent(client)
    front.pass_time(10)
    if header:
        assert client.response().status == 408
    assert client.at_end()


def test_the_connection_goes_on_like_any_other(start: Start) -> None:
    front, client, reactor = begin(start, head_timeout=20.0, keep_alive=50.0)
    client.send(encode_v2(*V4))
    front.pass_time(15)
    client.send(get())
    serve(client, reactor, get())
    front.pass_time(45)
    client.send(get())
    serve(client, reactor, get())
    front.pass_time(55)
    assert client.at_end()


def test_a_connection_without_a_header_does_not_delay_the_end(start: Start) -> None:
    front, client, _ = begin(start)
    client.send(b"PROXY ")
    front.settle()
    front.signal(signal.SIGTERM)
    assert client.at_end()


def test_a_last_request_may_come_while_the_service_stops(start: Start) -> None:
    front, client, reactor = begin(start, close_grace=5.0)
    others = [front.connect() for _ in range(3)]
    client.send(encode_v2(*V4)[:5])
    others[0].send(encode_v2(*V4)[:5])
    front.settle()
    front.signal(signal.SIGTERM)
    client.send(encode_v2(*V4)[5:])
    front.settle()
    client.send(get())
    assert serve(client, reactor, get()) == Origin(*V4)
    assert client.at_end()
    others[2].send(encode_v2(*V4))
    front.settle()
    front.pass_time(10)
    assert others[0].response().status == 408
    for other in others:
        assert other.at_end()
    # It has waited for them.
    assert "stop" in reactor.hear("stop")


def test_connections_in_the_backlog_are_served_before_the_end(start: Start) -> None:
    front = start(proxy_protocol=True, close_grace=5.0)
    with front.held():
        clients = [front.connect() for _ in range(100)]
        for client in clients:
            client.send(encode_v2(*V4) + get())
        front._post(lambda: front._on_signal(signal.SIGTERM))
    for _ in clients:
        number, _ = front.reactors[0].request()
        front.reactors[0].reply(number)
    for client in clients:
        assert client.response().status == 200
        assert client.at_end()


@pytest.mark.parametrize("place", ["take", "reject", "__init__"])
def test_an_internal_error_closes_only_its_connection(
    start: Start, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    front, client, reactor = begin(start)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("an internal error of the test")

    with monkeypatch.context() as patch:
        patch.setattr(Http1Requester if place == "reject" else Http1, place, fail)
        client.send(get() if place == "reject" else encode_v2(*V4) + get())
        front.settle()
        assert not front.clients
        assert not front.server.acceptor._inbound
    assert any("internal error" in line for line in front.log)
    other = front.connect()
    other.send(encode_v2(*V4) + get())
    serve(other, reactor, get())


# Who may send one ---------------------------------------------------------------------------------


def test_peers_that_are_not_allowed_are_closed(start: Start) -> None:
    front = start(proxy_protocol=True, proxy_allow_from=parse_networks("192.0.2.1,unix"))
    for _ in range(3):
        stranger = front.connect()
        assert stranger.at_end()
    friend = front.connect(front.unix)
    friend.send(encode_v2(*V4) + get())
    assert serve(friend, front.reactors[0], get()) == Origin(*V4)
    # A flood of them does not fill the log.
    lines = [line for line in front.log if "127.0.0.1 is not in --proxy-allow-from" in line]
    assert len(lines) == 1
    front.pass_time(120)
    assert front.connect().at_end()
    assert sum("127.0.0.1 is not in" in line for line in front.log) == 2


def test_unix_sockets_are_allowed_by_name(start: Start) -> None:
    front = start(proxy_protocol=True, proxy_allow_from=parse_networks("127.0.0.1"))
    assert front.connect(front.unix).at_end()
    assert "unix is not in --proxy-allow-from" in front.log[-1]


# Lanes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lane_proxy", ["v2", "v1", "off"])
def test_lanes_name_the_client_as_far_as_they_can(start: Start, lane_proxy: str) -> None:
    _, client, reactor = begin(start, lanes="plain", lane_proxy=lane_proxy)
    client.send(encode_v2(*V4, TLS) + get())
    lane = reactor.lane()
    expected = {"v2": encode_v2(*V4, TLS), "v1": encode_v1(*V4), "off": b""}[lane_proxy]
    assert lane.exactly(len(expected + get())) == expected + get()
    lane.send(OK)
    assert client.response().status == 200


def test_our_header_has_the_form_of_the_specification() -> None:
    """The bytes are compared, because a bug may be in the encoder and in the decoder."""
    value = b"\x01" + struct.pack("!I", 1)
    assert encode_v2(*V4, TLS)[16 + 12 :] == b"\x20" + struct.pack("!H", 5) + value
