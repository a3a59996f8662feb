"""The client that the fields name (protocol/forwarded.py): a table of lines, and forged lines."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor_run.protocol.forwarded import (
    HOPS_MAX,
    LINE_MAX,
    UNKNOWN,
    Forwarded,
    read_forwarded,
    read_x_forwarded,
)

PROXIES = [ip_network("10.0.0.0/8"), ip_network("2001:db8:1::/48")]


def trusts(packed: bytes) -> bool:
    address = ip_address(packed)
    return any(address in network for network in PROXIES)


def shown(result: Forwarded) -> tuple[str | None, str | None]:
    """Return the client as text: "" if unknown, None if no hop is named."""
    if result.client is None:
        return None, result.scheme
    return str(ip_address(result.client)) if result.client else "", result.scheme


def x_client(*lines: str) -> str | None:
    return shown(read_x_forwarded([line.encode("latin-1") for line in lines], [], trusts))[0]


def forwarded(*lines: str) -> tuple[str | None, str | None]:
    return shown(read_forwarded([line.encode("latin-1") for line in lines], trusts))


# X-Forwarded-For ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        ([], None),
        ([""], None),
        ([" , ,"], None),
        # One hop, and the ways to write it.
        (["203.0.113.7"], "203.0.113.7"),
        ([" 203.0.113.7\t"], "203.0.113.7"),
        (["203.0.113.7:4711"], "203.0.113.7"),
        (["2001:db8::7"], "2001:db8::7"),
        (["[2001:db8::7]"], "2001:db8::7"),
        (["[2001:db8::7]:4711"], "2001:db8::7"),
        (["2001:DB8:0:0::7"], "2001:db8::7"),
        (["::ffff:203.0.113.7"], "203.0.113.7"),
        (["[::ffff:203.0.113.7]:80"], "203.0.113.7"),
        # The last hop that is not trusted.
        (["203.0.113.7, 10.0.0.1"], "203.0.113.7"),
        (["203.0.113.7,10.0.0.1,2001:db8:1::2"], "203.0.113.7"),
        (["198.51.100.1, 203.0.113.7"], "203.0.113.7"),
        (["198.51.100.1, 203.0.113.7, 10.0.0.1"], "203.0.113.7"),
        (["198.51.100.1, ::ffff:10.0.0.2"], "198.51.100.1"),
        (["10.0.0.2", "203.0.113.7"], "203.0.113.7"),
        # All hops are trusted.
        (["10.0.0.1"], "10.0.0.1"),
        (["10.0.0.3, 10.0.0.2, 10.0.0.1"], "10.0.0.3"),
        # Empty elements mean nothing.
        ([",198.51.100.1,, 203.0.113.7 ,, 10.0.0.1,"], "203.0.113.7"),
        # Lines are one list.
        (["198.51.100.1", "203.0.113.7", "10.0.0.1"], "203.0.113.7"),
        (["198.51.100.1, 203.0.113.7", "", "10.0.0.1, 10.0.0.2"], "203.0.113.7"),
        # Hops before the client are not read.
        (["garbage, 203.0.113.7"], "203.0.113.7"),
        (["127.0.0.1, <script>, 203.0.113.7"], "203.0.113.7"),
        (['"', "unknown", "203.0.113.7, 10.0.0.1"], "203.0.113.7"),
        # The client is unknown.
        (["unknown"], ""),
        (["_hidden"], ""),
        (["unix:"], ""),
        (["garbage"], ""),
        (["203.0.113.7, unknown"], ""),
        (["203.0.113.7, unknown, 10.0.0.1"], ""),
        (["203.0.113.7, garbage, 10.0.0.1"], ""),
        (["203.0.113.256"], ""),
        (["203.0.113"], ""),
        (["203.0.113.07"], ""),
        (["0x7f.1"], ""),
        (["203.0.113.7:"], ""),
        (["203.0.113.7:port"], ""),
        (["203.0.113.7:123456"], ""),
        (["2001:db8::7:4711:1:2:3:4:5"], ""),
        (["[2001:db8::7"], ""),
        (["[203.0.113.7]"], ""),
        (["fe80::1%eth0"], ""),
        (['"203.0.113.7"'], ""),
        (["203.0.113.7 203.0.113.8"], ""),
        (["203.0.113.7\xe9"], ""),
        (["for=203.0.113.7"], ""),
    ],
)
def test_x_forwarded_for(lines: list[str], client: str | None) -> None:
    assert x_client(*lines) == client


def test_hops_are_bounded() -> None:
    proxies = ", ".join(f"10.0.0.{number}" for number in range(1, HOPS_MAX))
    assert x_client(f"203.0.113.7, {proxies}") == "203.0.113.7"
    assert x_client(f"203.0.113.7, 10.0.1.1, {proxies}") == ""
    assert x_client(f"203.0.113.7, {'10.0.0.1,' * 4000}") == ""
    assert forwarded(f"for=203.0.113.7,{' ' * (LINE_MAX - 16)}") == ("203.0.113.7", None)
    assert forwarded(f"for=203.0.113.7,{' ' * (LINE_MAX - 15)}") == ("", None)
    hops = ", ".join(f"for=10.0.0.{number}" for number in range(1, HOPS_MAX + 1))
    assert forwarded(f"for=203.0.113.7;proto=https, {hops}") == ("", None)


@pytest.mark.parametrize(
    ("lines", "scheme"),
    [
        ([], None),
        (["https"], "https"),
        (["http"], "http"),
        ([" HTTPS\t"], "https"),
        ([""], None),
        (["ftp"], None),
        (["wss"], None),
        (["httpss"], None),
        (['"https"'], None),
        # Whose scheme is whose?
        (["https, http"], None),
        (["https,https"], None),
        (["https", "http"], None),
        (["https", "https"], None),
        (["", "https"], None),
    ],
)
def test_x_forwarded_proto(lines: list[str], scheme: str | None) -> None:
    told = read_x_forwarded([b"203.0.113.7"], [line.encode() for line in lines], trusts)
    assert shown(told) == ("203.0.113.7", scheme)
    assert read_x_forwarded([], [line.encode() for line in lines], trusts) == (None, scheme)


# Forwarded ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "client", "scheme"),
    [
        ([], None, None),
        ([""], None, None),
        ([" , ;, ,"], None, None),
        # The examples of RFC 7239 §4, §6 and §7.1.
        (['For="[2001:db8:cafe::17]:4711"'], "2001:db8:cafe::17", None),
        (["for=192.0.2.60;proto=http;by=203.0.113.43"], "192.0.2.60", "http"),
        (["for=192.0.2.43, for=198.51.100.17"], "198.51.100.17", None),
        (['for="_gazonk"'], "", None),
        (['for="_mdn:_hidden"'], "", None),
        (['for="192.0.2.43:47011"'], "192.0.2.43", None),
        (['for="[2001:db8:cafe::17]:47011"'], "2001:db8:cafe::17", None),
        (["for=unknown"], "", None),
        (['for=192.0.2.43, for="[2001:db8:cafe::17]"'], "2001:db8:cafe::17", None),
        # Names and schemes in any case, quoted or not, with white space around.
        (["FOR=192.0.2.60;PROTO=HTTPS"], "192.0.2.60", "https"),
        (['for="192.0.2.60";proto="https"'], "192.0.2.60", "https"),
        (["\tfor=192.0.2.60 ; proto=https , "], "192.0.2.60", "https"),
        (['for="1\\92.0.2.60"'], "192.0.2.60", None),
        (['secret="a\\",;b";for=192.0.2.60'], "192.0.2.60", None),
        ([";for=192.0.2.60;"], "192.0.2.60", None),
        (['for="192.0.2.60:_x"'], "192.0.2.60", None),
        (['for="[::ffff:192.0.2.60]"'], "192.0.2.60", None),
        # The scheme is the client's, not that of a later hop.
        (["for=192.0.2.60;proto=https, for=10.0.0.1;proto=http"], "192.0.2.60", "https"),
        (["for=192.0.2.60, for=10.0.0.1;proto=https"], "192.0.2.60", None),
        (["for=192.0.2.60;proto=https, for=198.51.100.1"], "198.51.100.1", None),
        (["for=192.0.2.60;proto=gopher"], "192.0.2.60", None),
        (["for=unknown;proto=https"], "", "https"),
        (["proto=https"], "", "https"),
        # Hops, elements and lines.
        (["for=10.0.0.2;proto=https, for=10.0.0.1"], "10.0.0.2", "https"),
        (["for=192.0.2.60", 'for=10.0.0.2, for="[2001:db8:1::1]"'], "192.0.2.60", None),
        (["for=192.0.2.60,, for=10.0.0.2,"], "192.0.2.60", None),
        (["for=192.0.2.60, for=unknown, for=10.0.0.2"], "", None),
        # Garbage before the client is not read, in lines of its own.
        (['for="', "for=192.0.2.60"], "192.0.2.60", None),
        (["for=127.0.0.1", "garbage", "for=192.0.2.60, for=10.0.0.1"], "192.0.2.60", None),
        # A line that breaks the grammar names no client.
        (["garbage"], "", None),
        (["for=192.0.2.60:80"], "", None),
        (["for=[2001:db8::1]"], "", None),
        (["for"], "", None),
        (["for="], "", None),
        (["=192.0.2.60"], "", None),
        (["for =192.0.2.60"], "", None),
        (["for= 192.0.2.60"], "", None),
        (["for=192.0.2.60 proto=https"], "", None),
        (["for=192.0.2.60;proto=https;for=10.0.0.1"], "", None),
        (['for="192.0.2.60'], "", None),
        (['for="192.0.2.60"x'], "", None),
        (['for="192.0.2.60\\"'], "", None),
        (["garbage, for=192.0.2.60"], "", None),
        (["for=192.0.2.60, garbage"], "", None),
        (["for=192.0.2.60", "garbage"], "", None),
        (['for=198.51.100.1;x=", for=192.0.2.60'], "", None),
        (['for=198.51.100.1;x=", for="[2001:db8::1]"'], "", None),
        # Nodes that are no address.
        (['for=""'], "", None),
        (['for="192.0.2.60:"'], "", None),
        (['for="192.0.2.60:80:80"'], "", None),
        (['for="2001:db8::1"'], "", None),
        (['for="[192.0.2.60]"'], "", None),
        (['for="[2001:db8::1%eth0]"'], "", None),
    ],
)
def test_forwarded(lines: list[str], client: str | None, scheme: str | None) -> None:
    assert forwarded(*lines) == (client, scheme)


# Whatever clients send ----------------------------------------------------------------------------

FIELD = st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"]))
FORGED = st.one_of(
    FIELD,
    st.text(' ,;="\\[]:._forunkwptsh0129abf', max_size=60),
    st.sampled_from(["127.0.0.1", "10.0.0.1", "for=127.0.0.1", 'for="', 'for="[::1]";x="\\']),
)


@given(st.lists(FORGED, max_size=4), FORGED)
def test_a_client_cannot_choose_what_a_proxy_that_appends_says(
    lines: list[str], start: str
) -> None:
    """The proxy's address is the last: in a line of its own, or at the end of the client's line."""
    assert x_client(*lines, "203.0.113.7, 10.0.0.1") == "203.0.113.7"
    assert x_client(*lines, f"{start}, 203.0.113.7") == "203.0.113.7"
    assert forwarded(*lines, "for=203.0.113.7;proto=http") == ("203.0.113.7", "http")
    for added in "for=203.0.113.7", 'for="203.0.113.7";proto="https"', 'for="[2001:db8::7]:80"':
        client, _ = forwarded(*lines, f"{start}, {added}")
        assert client in ("203.0.113.7", "2001:db8::7", "")


@given(st.lists(FORGED, max_size=4))
def test_any_bytes_are_read_without_an_error(lines: list[str]) -> None:
    encoded = [line.encode("latin-1") for line in lines]
    for told in (
        read_x_forwarded(encoded, encoded, trusts),
        read_forwarded(encoded, trusts),
    ):
        assert told.client in (None, UNKNOWN) or len(told.client or b"") in (4, 16)
        assert told.scheme in (None, "http", "https")
