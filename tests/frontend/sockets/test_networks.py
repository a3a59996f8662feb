"""Which addresses a list of networks covers, and which texts are no list."""

from __future__ import annotations

import pytest

from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.sockets.networks import LOCAL, NO_NETWORKS, pack_address, parse_networks


@pytest.mark.parametrize(
    ("text", "host", "covered"),
    [
        ("10.0.0.0/8", "10.255.0.1", True),
        ("10.0.0.0/8", "11.0.0.1", False),
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1,198.51.100.0/24", "198.51.100.7", True),
        (" 192.0.2.1 , 198.51.100.0/24,", "198.51.100.7", True),
        ("0.0.0.0/0", "203.0.113.1", True),
        ("0.0.0.0/0", "2001:db8::1", False),
        ("::/0", "2001:db8::1", True),
        ("::/0", "203.0.113.1", False),
        ("2001:db8::/32", "2001:db8:ffff::1", True),
        ("2001:db8::/32", "2001:db9::1", False),
        ("fe80::/10", "fe80::1%eth0", True),
        ("::1", "::1", True),
        ("unix", "127.0.0.1", False),
        # An IPv4 address in IPv6 form counts as IPv4.
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("::/0", "::ffff:192.0.2.1", False),
    ],
)
def test_addresses(text: str, host: str, covered: bool) -> None:
    networks = parse_networks(text)
    assert networks.cover((host, 80)) is covered
    assert networks.cover_address(pack_address(host)) is covered


@pytest.mark.parametrize("path", ["", "/run/client.sock", "\0abstract"])
def test_unix_sockets(path: str) -> None:
    assert parse_networks("10.0.0.0/8,unix").cover((path, None))
    assert not parse_networks("0.0.0.0/0,::/0").cover((path, None))


def test_local_is_what_it_says() -> None:
    assert parse_networks(LOCAL.text) == LOCAL


def test_an_empty_list_covers_no_address() -> None:
    assert parse_networks("none") == NO_NETWORKS
    assert not NO_NETWORKS.cover(("127.0.0.1", 80))
    assert not NO_NETWORKS.cover(("", None))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("10.0.0.1/8", "'10.0.0.1/8' has bits beyond its mask"),
        ("10.0.0.0/33", "'10.0.0.0/33' is not one of these"),
        ("10.0.0", "'10.0.0' is not one of these"),
        ("localhost", "'localhost' is not one of these"),
        ("*", "'*' is not one of these"),
        ("unix:/run/proxy.sock", "'unix:/run/proxy.sock' is not one of these"),
        ("[::1]", r"'\[::1\]' is not one of these"),
        ("none,10.0.0.0/8", "'none' is not one of these"),
        ("", "the list is empty"),
        (",", "the list is empty"),
    ],
)
def test_texts_that_are_no_list(text: str, complaint: str) -> None:
    with pytest.raises(OperatorError, match=complaint):
        parse_networks(text)
