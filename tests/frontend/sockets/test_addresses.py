"""Addresses as an operator writes them, and the errors for texts that are no address."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.sockets.addresses import (
    UNIX_PATH_MAX,
    Bind,
    FDBind,
    SystemdBind,
    TCPBind,
    UnixBind,
    parse_admin,
    parse_bind,
    parse_health,
    parse_metrics,
    written,
)


@pytest.mark.parametrize(
    ("text", "bind"),
    [
        ("127.0.0.1:8000", TCPBind("127.0.0.1", 8000)),
        ("localhost:0", TCPBind("localhost", 0)),
        ("[::1]:8000", TCPBind("::1", 8000)),
        ("[fe80::1%eth0]:65535", TCPBind("fe80::1%eth0", 65535)),
        (":80", TCPBind("", 80)),
        ("unix:/run/shop.sock", UnixBind("/run/shop.sock")),
        ("unix:run/a:b.sock", UnixBind("run/a:b.sock")),
        ("unix:@shop", UnixBind("@shop")),
        ("fd:3", FDBind(3)),
        ("fd:web", SystemdBind("web")),
        ("fd:reactor-run@shop.socket,plain", SystemdBind("reactor-run@shop.socket", True)),
    ],
)
def test_addresses(text: str, bind: Bind) -> None:
    assert parse_bind(text) == bind
    assert parse_bind(written(bind)) == bind


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "write HOST:PORT"),
        ("localhost", "write HOST:PORT"),
        ("localhost:", "a port is a number"),
        ("localhost:http", "a port is a number"),
        ("localhost:65536", "up to 65535"),
        ("localhost:-1", "a port is a number"),
        ("[]:80", "write HOST:PORT"),
        ("::1:8000", "in brackets"),
        ("::1", "in brackets"),
        ("[::1]", "then the port"),
        ("[::1]8000", "in brackets"),
        ("8000", "127.0.0.1:8000 for this machine only"),
        ("http://127.0.0.1:8000", "remove the scheme"),
        ("/run/shop.sock", "did you mean unix:/run/shop.sock"),
        ("unix:", "names no socket"),
        ("unix:@", "names no socket"),
        ("fd:", "fd:3"),
        ("fd:a:b", "fd:web"),
        ("fd:-1", "fd:3"),
    ],
)
def test_texts_that_are_no_address(text: str, says: str) -> None:
    with pytest.raises(OperatorError) as caught:
        parse_bind(text)
    assert says in str(caught.value)
    assert repr(text) in str(caught.value)


def test_a_path_too_long_for_linux_is_rejected_before_it_is_tried() -> None:
    assert parse_bind("unix:/" + "a" * (UNIX_PATH_MAX - 1))
    with pytest.raises(OperatorError, match="the path has 108 bytes, Linux allows 107"):
        parse_bind("unix:/" + "a" * UNIX_PATH_MAX)


@given(st.text(alphabet="[]:@/.0189afnduix%é", max_size=14))
def test_any_text_is_an_address_or_rejected(text: str) -> None:
    try:
        bind = parse_bind(text)
    except OperatorError:
        return
    assert parse_bind(written(bind)) == bind


@pytest.mark.parametrize(
    ("parse", "text", "advice"),
    [
        (parse_admin, "9000", "write 127.0.0.1:9000 for this machine only"),
        (parse_admin, "web", "write 127.0.0.1:PORT, [::1]:PORT or unix:/PATH (a port is"),
        (parse_health, "9000", "for this machine only or :9000 for every interface"),
        (parse_metrics, "web", "write HOST:PORT, [IPV6]:PORT or :PORT (a port is"),
    ],
)
def test_only_what_the_option_takes_is_advised(
    parse: Callable[[str], object], text: str, advice: str
) -> None:
    with pytest.raises(OperatorError) as raised:
        parse(text)
    assert advice in str(raised.value)
    if parse is parse_admin:
        assert "interface" not in str(raised.value)
