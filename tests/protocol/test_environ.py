"""The WSGI environ of a request (protocol/environ.py)."""

from __future__ import annotations

import io
import sys
from typing import Any
from wsgiref.util import request_uri
from wsgiref.validate import validator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.wrappers import Request

from reactor_run.protocol.body import CHUNKED
from reactor_run.protocol.environ import EnvironBuilder
from reactor_run.protocol.origin import Origin
from reactor_run.protocol.policy import Limits
from reactor_run.protocol.request import ParsedHead, RequestHead, parse_request_head
from reactor_run.protocol.scope import HOP_BY_HOP

CLIENT = ("192.0.2.7", 4711)
SERVER = ("127.0.0.1", 8000)
UNIX = ("/run/app.sock", None)
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


def builder_of(**settings: Any) -> EnvironBuilder:
    return EnvironBuilder(**({"multithread": False, "multiprocess": True} | settings))


def environ_of(
    head: RequestHead,
    *,
    client: tuple[str, int] | None = CLIENT,
    server: tuple[str, int | None] | None = SERVER,
    scheme: str = "http",
    **settings: Any,
) -> dict[str, Any]:
    return validated(builder_of(**settings).build(head, Origin(client, server, scheme)))


def validated(environ: dict[str, Any]) -> dict[str, Any]:
    """Return the environ after wsgiref has checked it. Raises AssertionError if it is invalid."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b""]

    added = {"wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr}
    answer = validator(app)(environ | added, lambda *_: lambda _: None)
    assert list(answer) == [b""]
    answer.close()  # type: ignore[attr-defined]
    return environ


def http_keys(environ: dict[str, Any]) -> set[str]:
    return {key for key in environ if key.startswith("HTTP_")}


def test_a_parsed_request_gives_a_whole_environ() -> None:
    head = parse_request_head(
        b"POST /caf%C3%A9?q=%20 HTTP/1.1\r\nHost: example.org\r\nX-Thing:  One \r\n"
        b"Content-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\n",
        Limits(),
    )
    assert head is not None
    assert environ_of(head) == {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/caf\xc3\xa9",
        "QUERY_STRING": "q=%20",
        "REQUEST_URI": "/caf%C3%A9?q=%20",
        "RAW_URI": "/caf%C3%A9?q=%20",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "192.0.2.7",
        "REMOTE_PORT": "4711",
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": "2",
        "HTTP_HOST": "example.org",
        "HTTP_X_THING": "One",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", "/", ""),
        (b"/?", "/", ""),
        (b"/a?b=1&c", "/a", "b=1&c"),
        (b"/a?100%", "/a", "100%"),
        (b"/a?\xc3\xa9%20", "/a", "\xc3\xa9%20"),
        (b"//a//", "//a//", ""),
        (b"/a%2Fb", "/a/b", ""),
        (b"/a%252Fb", "/a%2Fb", ""),
        (b"/%C3%A9", "/\xc3\xa9", ""),
        (b"/\xc3\xa9", "/\xc3\xa9", ""),
        (b"/%FF", "/\xff", ""),
        (b"/a%", "/a%", ""),
        (b"*", "", ""),
        (b"http://h/a%20b?c", "/a b", "c"),
        (b"http://h/*", "/*", ""),
        (b"http://h?c", "/", "c"),
        (b"http://h", "/", ""),
        (b"h:443", "", ""),
    ],
)
@pytest.mark.parametrize("script_name", ["", "/api"])
def test_path_and_query(target: bytes, path: str, query: str, script_name: str) -> None:
    environ = environ_of(head_of(target), script_name=script_name)
    assert (environ["PATH_INFO"], environ["QUERY_STRING"]) == (path, query)
    assert environ["SCRIPT_NAME"] == script_name
    assert environ["REQUEST_URI"] == environ["RAW_URI"] == target.decode("latin-1")


@pytest.mark.parametrize(
    ("script_name", "seen"), [("/", ""), ("/api/", "/api"), ("/é", "/\xc3\xa9")]
)
def test_script_name(script_name: str, seen: str) -> None:
    assert environ_of(head_of(), script_name=script_name)["SCRIPT_NAME"] == seen


@pytest.mark.parametrize(
    ("target", "mount_path", "name", "info"),
    [
        (b"/api/x?y", "/api", "/api", "/x"),
        (b"/api", "/api", "/api", ""),
        (b"/api/", "/api", "/api", "/"),
        (b"/%61pi/x", "/api", "/api", "/x"),
        (b"/api/api/x", "/api", "/api", "/api/x"),
        (b"/%C3%A9/x", "/é", "/\xc3\xa9", "/x"),
        (b"http://a/api/x", "/api", "/api", "/x"),
        (b"*", "/api", "/api", ""),
    ],
)
def test_the_mount_path_goes_to_script_name(
    target: bytes, mount_path: str, name: str, info: str
) -> None:
    method = b"OPTIONS" if target == b"*" else b"GET"
    environ = environ_of(head_of(target, method=method), mount_path=mount_path)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (name, info)
    environ = environ_of(head_of(target, method=method), script_name="/shop", mount_path=mount_path)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/shop" + name, info)


def test_a_script_name_without_a_slash_is_rejected() -> None:
    with pytest.raises(ValueError, match="begins with a slash"):
        builder_of(script_name="api")


@pytest.mark.parametrize("multithread", [True, False])
@pytest.mark.parametrize("multiprocess", [True, False])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_variables_of_the_server(multithread: bool, multiprocess: bool, scheme: str) -> None:
    environ = environ_of(
        head_of(minor_version=0),
        scheme=scheme,
        multithread=multithread,
        multiprocess=multiprocess,
    )
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.0"
    assert environ["wsgi.url_scheme"] == scheme
    assert environ["wsgi.multithread"] is multithread
    assert environ["wsgi.multiprocess"] is multiprocess
    assert environ["wsgi.run_once"] is False


def test_an_absolute_target_does_not_choose_the_scheme() -> None:
    assert environ_of(head_of(b"https://example.org/"))["wsgi.url_scheme"] == "http"


def test_no_client_is_an_empty_address() -> None:
    environ = environ_of(head_of(), client=None)
    assert environ["REMOTE_ADDR"] == ""
    assert "REMOTE_PORT" not in environ


@pytest.mark.parametrize(
    ("fields", "seen"),
    [
        ([(b"Accept", b"a"), (b"accept", b"b")], {"HTTP_ACCEPT": "a, b"}),
        ([(b"A", b"1"), (b"B", b"x"), (b"a", b"2"), (b"A", b"3")], {"HTTP_A": "1, 2, 3"}),
        ([(b"Cookie", b"a=1"), (b"cookie", b"b=2, 3")], {"HTTP_COOKIE": "a=1; b=2, 3"}),
        ([(b"A", b""), (b"a", b"")], {"HTTP_A": ", "}),
        ([(b"X-Name", b"\xc3\xa9\xff")], {"HTTP_X_NAME": "\xc3\xa9\xff"}),
        ([(b"X-Empty", b"")], {"HTTP_X_EMPTY": ""}),
        ([(b"X.Dot!", b"1")], {"HTTP_X.DOT!": "1"}),
        ([(b"Content-Encoding", b"gzip")], {"HTTP_CONTENT_ENCODING": "gzip"}),
        ([(b"content-type", b"a/b")], {"CONTENT_TYPE": "a/b"}),
        ([(b"Content-Type", b"a/b"), (b"Content-Type", b"c/d")], {"CONTENT_TYPE": "a/b, c/d"}),
    ],
)
def test_fields(fields: list[tuple[bytes, bytes]], seen: dict[str, str]) -> None:
    assert seen.items() <= environ_of(head_of(b"/", *fields)).items()


@pytest.mark.parametrize("name", [*sorted(HOP_BY_HOP), b"proxy"])
@pytest.mark.parametrize("spell", [bytes.lower, bytes.upper, bytes.title])
@pytest.mark.parametrize("underscores", ["drop", "keep"])
def test_fields_that_are_never_shown(name: bytes, spell: Any, underscores: str) -> None:
    builder = builder_of(underscores=underscores)
    for sent in (name, name.replace(b"-", b"_")):
        for _ in range(2):  # the second time the name comes from the cache
            head = head_of(b"/", (b"X-A", b"1"), (spell(sent), b"x"))
            assert http_keys(builder.build(head, Origin(CLIENT, SERVER))) == {"HTTP_X_A"}


def test_a_field_named_by_connection_is_shown() -> None:
    head = head_of(b"/", (b"Connection", b"X-Forwarded-For"), (b"X-Forwarded-For", b"192.0.2.1"))
    assert environ_of(head)["HTTP_X_FORWARDED_FOR"] == "192.0.2.1"


@pytest.mark.parametrize(
    ("underscores", "seen"),
    [("drop", {"HTTP_X_USER": "proxy"}), ("keep", {"HTTP_X_USER": "forged, proxy"})],
)
def test_a_field_with_an_underscore_is_dropped_unless_kept(
    underscores: str, seen: dict[str, str]
) -> None:
    head = head_of(b"/", (b"X_User", b"forged"), (b"X-User", b"proxy"))
    environ = environ_of(head, underscores=underscores)
    assert {key: environ[key] for key in http_keys(environ)} == seen


@pytest.mark.parametrize("name", [b"Content_Length", b"content_type", b"_", b"Proxy_Connection"])
def test_an_underscore_forges_nothing(name: bytes) -> None:
    environ = environ_of(head_of(b"/", HOST, (name, b"9")), underscores="drop")
    assert http_keys(environ) == {"HTTP_HOST"}
    assert not {"CONTENT_LENGTH", "CONTENT_TYPE"} & set(environ)


@pytest.mark.parametrize("name", [b"Content_Length", b"CONTENT_TYPE"])
def test_an_underscore_forges_no_content_field_when_kept(name: bytes) -> None:
    environ = environ_of(head_of(b"/", HOST, (name, b"9")), underscores="keep")
    assert http_keys(environ) == {"HTTP_HOST"}
    assert not {"CONTENT_LENGTH", "CONTENT_TYPE"} & set(environ)


@pytest.mark.parametrize(
    ("value", "body", "seen"),
    [(b"5", 5, "5"), (b"0", 0, "0"), (b"007", 7, "7")],
)
def test_content_length_is_the_accepted_one(value: bytes, body: int, seen: str) -> None:
    environ = environ_of(head_of(b"/", HOST, (b"Content-Length", value), body=body))
    assert environ["CONTENT_LENGTH"] == seen
    assert "HTTP_CONTENT_LENGTH" not in environ


def test_a_request_without_content_fields_has_no_content_keys() -> None:
    environ = environ_of(head_of())
    assert not {key for key in environ if "CONTENT" in key}


def test_a_chunked_request_has_no_content_length() -> None:
    fields = (HOST, (b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"5"))
    environ = environ_of(head_of(b"/", *fields, method=b"POST", body=CHUNKED))
    assert "CONTENT_LENGTH" not in environ
    assert http_keys(environ) == {"HTTP_HOST"}
    assert environ["wsgi.input_terminated"] is True


@pytest.mark.parametrize(
    ("server", "name", "port"),
    [
        (("192.0.2.1", 80), "192.0.2.1", "80"),
        (("::1", 8000), "[::1]", "8000"),
        (("192.0.2.1", 0), "192.0.2.1", "0"),
    ],
)
def test_the_server_is_named_by_its_address(server: Any, name: str, port: str) -> None:
    environ = environ_of(head_of(), server=server)
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == (name, port)


@pytest.mark.parametrize("server", [UNIX, None])
@pytest.mark.parametrize(
    ("host", "scheme", "name", "port"),
    [
        (b"example.org", "http", "example.org", "80"),
        (b"example.org", "https", "example.org", "443"),
        (b"example.org:8080", "https", "example.org", "8080"),
        (b"example.org:", "http", "example.org", "80"),
        (b"[::1]", "http", "[::1]", "80"),
        (b"[::1]:8080", "http", "[::1]", "8080"),
        (b"", "http", "localhost", "80"),
        (b":8080", "http", "localhost", "8080"),
    ],
)
def test_a_server_on_a_unix_socket_is_named_by_the_host_field(
    server: Any, host: bytes, scheme: str, name: str, port: str
) -> None:
    environ = environ_of(head_of(b"/", (b"Host", host)), server=server, scheme=scheme)
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == (name, port)


def test_a_server_on_a_unix_socket_without_host_field_is_localhost() -> None:
    environ = environ_of(head_of(b"/", (b"X-A", b"1"), minor_version=0), server=UNIX)
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("localhost", "80")


@pytest.mark.parametrize(
    ("server", "fields", "url"),
    [
        (SERVER, [HOST], "http://example.org/api/caf%C3%A9?q=1"),
        (SERVER, [(b"X-A", b"1")], "http://127.0.0.1:8000/api/caf%C3%A9?q=1"),
        (("::1", 8000), [(b"X-A", b"1")], "http://[::1]:8000/api/caf%C3%A9?q=1"),
        (UNIX, [(b"X-A", b"1")], "http://localhost/api/caf%C3%A9?q=1"),
        (UNIX, [(b"Host", b"[::1]:81")], "http://[::1]:81/api/caf%C3%A9?q=1"),
    ],
)
def test_apps_reconstruct_the_url(server: Any, fields: list[tuple[bytes, bytes]], url: str) -> None:
    head = head_of(b"/caf%C3%A9?q=1", *fields)
    environ = environ_of(head, server=server, script_name="/api")
    assert request_uri(environ) == url
    request = Request(environ)
    assert request.path == "/café"
    assert request.root_path == "/api"
    assert request.url_root == url.partition("caf")[0]


def test_changes_by_an_app_stay_in_its_environ() -> None:
    builder = builder_of()
    first = builder.build(head_of(), Origin(CLIENT, SERVER))
    untouched = first.copy()
    first["mine"] = 1
    del first["SCRIPT_NAME"]
    assert builder.build(head_of(), Origin(CLIENT, SERVER)) == untouched


TOKENS = st.text("AZaz09-_.!", min_size=1).map(str.encode)


@given(
    st.sampled_from([b"/", b"http://h/", b"http://h?", b"*", b""]),
    st.binary(),
    st.lists(st.tuples(TOKENS | st.sampled_from([*HOP_BY_HOP, b"Host"]), st.binary())),
    st.sampled_from(["drop", "keep"]),
    st.sampled_from([SERVER, UNIX, None]),
)
def test_no_bytes_make_it_raise_or_break_the_gateway_rules(
    start: bytes,
    rest: bytes,
    fields: list[tuple[bytes, bytes]],
    underscores: str,
    server: Any,
) -> None:
    if start == b"*":
        rest = b""
    elif start == b"":
        rest = b"h" + rest.replace(b":", b"")
    environ = environ_of(head_of(start + rest, *fields), server=server, underscores=underscores)
    dropped = {"HTTP_" + name.decode().upper().replace("-", "_") for name in HOP_BY_HOP}
    assert not http_keys(environ) & (dropped | {"HTTP_PROXY"})
    assert environ["SERVER_NAME"]
    assert environ["SERVER_PORT"]


# What requests share ------------------------------------------------------------------------------


def test_constants_are_in_every_environ() -> None:
    errors = io.StringIO()
    builder = builder_of(constants={"wsgi.errors": errors, "wsgi.input": None})
    for head in (head_of(), head_of(b"/other")):
        environ = builder.build(head, Origin(CLIENT, SERVER))
        assert environ["wsgi.errors"] is errors
        assert environ["wsgi.input"] is None


def test_a_request_tells_nothing_of_the_requests_before() -> None:
    builder = builder_of()
    head = head_of(b"/a%20b?c", HOST, (b"Cookie", b"d=e"))
    origins = [
        Origin(CLIENT, SERVER),
        Origin(None, UNIX),
        Origin(("192.0.2.8", 1), SERVER, "https"),
    ]
    for origin in (*origins, *origins[::-1]):
        environ = builder.build(head, origin)
        assert environ == builder_of().build(head, origin)
        assert ("REMOTE_PORT" in environ) == (origin.client is not None)
        environ["PATH_INFO"] = "/changed"
        environ["app.own"] = object()
        del environ["HTTP_COOKIE"]
