"""The ASGI scope of a request (protocol/scope.py)."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor_run.protocol.body import CHUNKED
from reactor_run.protocol.origin import Origin
from reactor_run.protocol.policy import Limits
from reactor_run.protocol.request import ParsedHead, RequestHead, parse_request_head
from reactor_run.protocol.scope import HOP_BY_HOP, ScopeBuilder

CLIENT = ("192.0.2.7", 4711)
SERVER = ("127.0.0.1", 8000)
ORIGIN = Origin(CLIENT, SERVER)
HOST = (b"Host", b"example.org")


def head_of(
    target: bytes = b"/",
    *fields: tuple[bytes, bytes],
    method: bytes = b"GET",
    minor_version: int = 1,
    body: int = 0,
) -> RequestHead:
    return ParsedHead(
        method=method,
        target=target,
        minor_version=minor_version,
        fields=fields or (HOST,),
        size=100,
        body=body,
        keep_alive=True,
        expect_continue=False,
        upgrade=False,
    )


def scope_of(head: RequestHead, scheme: str = "http", **settings: Any) -> dict[str, Any]:
    return ScopeBuilder(**settings).build(head, Origin(CLIENT, SERVER, scheme))


def test_a_parsed_request_gives_a_whole_scope() -> None:
    head = parse_request_head(
        b"POST /caf%C3%A9?q=%20 HTTP/1.1\r\n"
        b"Host: example.org\r\nX-Thing:  One \r\nContent-Length: 2\r\n\r\n",
        Limits(),
    )
    assert head is not None
    assert scope_of(head) == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/café",
        "raw_path": b"/caf%C3%A9",
        "query_string": b"q=%20",
        "root_path": "",
        "headers": [(b"host", b"example.org"), (b"x-thing", b"One"), (b"content-length", b"2")],
        "client": CLIENT,
        "server": SERVER,
    }


@pytest.mark.parametrize(
    ("target", "path", "raw_path", "query"),
    [
        (b"/", "/", b"/", b""),
        (b"/?", "/", b"/", b""),
        (b"/a?b=1&c", "/a", b"/a", b"b=1&c"),
        (b"/a?100%", "/a", b"/a", b"100%"),
        (b"//a//", "//a//", b"//a//", b""),
        (b"/a%2Fb", "/a/b", b"/a%2Fb", b""),
        (b"/a%252Fb", "/a%2Fb", b"/a%252Fb", b""),
        (b"/%C3%A9", "/é", b"/%C3%A9", b""),
        (b"/\xc3\xa9", "/é", b"/\xc3\xa9", b""),
        (b"/\xc3%A9", "/é", b"/\xc3%A9", b""),
        (b"/%FF", "/\ufffd", b"/%FF", b""),
        (b"/\xff%20", "/\ufffd ", b"/\xff%20", b""),
        (b"/%E2%82", "/\ufffd", b"/%E2%82", b""),
        (b"/a%", "/a%", b"/a%", b""),
        (b"*", "*", b"*", b""),
        (b"http://h/a%20b?c", "/a b", b"/a%20b", b"c"),
        (b"http://h?c", "/", b"/", b"c"),
        (b"http://h", "/", b"/", b""),
        (b"h:443", "", b"", b""),
    ],
)
def test_path_and_query(target: bytes, path: str, raw_path: bytes, query: bytes) -> None:
    scope = scope_of(head_of(target))
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == (path, raw_path, query)


@pytest.mark.parametrize(
    ("root_path", "target", "path", "raw_path"),
    [
        ("/api", b"/x%20y?z", "/api/x y", b"/api/x%20y"),
        ("/api", b"/", "/api/", b"/api/"),
        ("/api/", b"/x", "/api/x", b"/api/x"),
        ("/", b"/x", "/x", b"/x"),
        ("/é b", b"/x", "/é b/x", b"/%C3%A9%20b/x"),
        ("/api", b"http://h", "/api/", b"/api/"),
        ("/api", b"/api/x", "/api/api/x", b"/api/api/x"),
        ("/api", b"*", "*", b"*"),
        ("/api", b"h:443", "", b""),
    ],
)
def test_the_root_path_is_put_before_the_path(
    root_path: str, target: bytes, path: str, raw_path: bytes
) -> None:
    scope = scope_of(head_of(target), root_path=root_path)
    assert (scope["path"], scope["raw_path"]) == (path, raw_path)
    assert scope["root_path"] == root_path.rstrip("/")


@pytest.mark.parametrize(("root_path", "root"), [("", "/api"), ("/shop", "/shop/api")])
def test_the_mount_path_is_in_the_path_already(root_path: str, root: str) -> None:
    scope = scope_of(head_of(b"/api/x%20y"), root_path=root_path, mount_path="/api")
    assert scope["root_path"] == root
    assert scope["path"] == f"{root}/x y"
    assert scope["raw_path"] == f"{root}/x%20y".encode()


def test_a_root_path_without_a_slash_is_rejected() -> None:
    with pytest.raises(ValueError, match="begins with a slash"):
        ScopeBuilder(root_path="api")


@pytest.mark.parametrize(("minor_version", "http_version"), [(0, "1.0"), (1, "1.1")])
def test_version_method_and_scheme(minor_version: int, http_version: str) -> None:
    head = head_of(method=b"M-SEARCH", minor_version=minor_version)
    scope = scope_of(head, scheme="https")
    assert (scope["http_version"], scope["method"]) == (http_version, "M-SEARCH")
    assert scope["scheme"] == "https"


def test_an_absolute_target_does_not_choose_the_scheme() -> None:
    assert scope_of(head_of(b"https://example.org/"))["scheme"] == "http"


def test_order_repetition_and_values_of_fields_are_kept() -> None:
    fields = (HOST, (b"X-B", b"1"), (b"x-a", b" \xff"), (b"X-b", b"2"), (b"X_B", b""))
    assert scope_of(head_of(b"/", *fields))["headers"] == [
        (b"host", b"example.org"),
        (b"x-b", b"1"),
        (b"x-a", b" \xff"),
        (b"x-b", b"2"),
        (b"x_b", b""),
    ]


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP))
@pytest.mark.parametrize("spell", [bytes.lower, bytes.upper, bytes.title])
def test_hop_by_hop_fields_are_not_shown(name: bytes, spell: Any) -> None:
    builder = ScopeBuilder()
    for _ in range(2):  # the second time the name comes from the cache
        scope = builder.build(head_of(b"/", HOST, (spell(name), b"x")), ORIGIN)
        assert scope["headers"] == [(b"host", b"example.org")]


def test_a_field_named_by_connection_is_shown() -> None:
    fields = ((b"Connection", b"close, X-Forwarded-For"), (b"X-Forwarded-For", b"192.0.2.1"))
    assert scope_of(head_of(b"/", *fields))["headers"] == [(b"x-forwarded-for", b"192.0.2.1")]


def test_a_chunked_body_is_told_by_no_field() -> None:
    head = head_of(b"/", HOST, (b"Transfer-Encoding", b"chunked"), body=CHUNKED)
    assert scope_of(head)["headers"] == [(b"host", b"example.org")]


@pytest.mark.parametrize("server", [("::1", 8000), ("/run/app.sock", None), None])
@pytest.mark.parametrize("client", [CLIENT, ("::1", 5), None])
def test_addresses_are_passed_on(client: Any, server: Any) -> None:
    scope = ScopeBuilder().build(head_of(), Origin(client, server))
    assert (scope["client"], scope["server"]) == (client, server)


def test_state_is_a_shallow_copy_of_what_lifespan_gave() -> None:
    shared: list[int] = []
    state: dict[str, Any] = {"pool": shared}
    builder = ScopeBuilder(state=state)
    first = builder.build(head_of(), ORIGIN)
    assert first["state"] == state
    assert first["state"]["pool"] is shared
    first["state"]["mine"] = 1
    assert builder.build(head_of(), ORIGIN)["state"] == {"pool": shared}
    assert state == {"pool": shared}


def test_state_and_extensions_are_only_there_when_given() -> None:
    assert not {"state", "extensions"} & set(scope_of(head_of(), extensions={}))
    assert scope_of(head_of(), state={})["state"] == {}
    extensions: dict[str, dict[str, Any]] = {"http.response.early_hint": {}}
    assert scope_of(head_of(), extensions=extensions)["extensions"] == extensions


def test_a_websocket_shows_what_it_is() -> None:
    """Whatever else the client has named in Connection."""
    head = parse_request_head(
        b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n"
        b"Upgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
        Limits(),
    )
    assert head is not None
    builder = ScopeBuilder(extensions={"http.response.pathsend": {}, "x": {}})
    for _ in range(2):
        scope = builder.build_websocket(head, Origin(CLIENT, SERVER, "https"), ["a"])
        assert (scope["type"], scope["scheme"]) == ("websocket", "wss")
        assert "method" not in scope
        assert scope["subprotocols"] == ["a"]
        assert scope["extensions"] == {"websocket.http.response": {}, "x": {}}
        assert scope["headers"] == [
            (b"host", b"a"),
            (b"sec-websocket-version", b"13"),
            (b"connection", b"Upgrade"),
            (b"upgrade", b"websocket"),
        ]


def test_changes_by_an_app_stay_in_its_scope() -> None:
    builder = ScopeBuilder(state={}, extensions={"x": {}})
    first = builder.build(head_of(), ORIGIN)
    untouched = deepcopy(first)
    for part in (first["asgi"], first["state"], first["extensions"], first):
        part["mine"] = 1
    first["headers"].append((b"x", b"y"))
    assert builder.build(head_of(), ORIGIN) == untouched


@given(
    st.binary(),
    st.lists(st.tuples(st.binary(), st.binary())),
    st.sampled_from(["", "/api"]),
)
def test_no_bytes_make_it_raise(
    target: bytes, fields: list[tuple[bytes, bytes]], root_path: str
) -> None:
    scope = scope_of(head_of(target, *fields, method=target), root_path=root_path)
    assert isinstance(scope["path"], str)
    assert all(name == name.lower() and name not in HOP_BY_HOP for name, _ in scope["headers"])
