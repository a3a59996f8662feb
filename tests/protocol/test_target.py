"""The forms of a request target and their parts (protocol/target.py and protocol/path.py)."""

from __future__ import annotations

import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor_run.protocol.path import decode_path, mount_prefix, quote_path
from reactor_run.protocol.target import (
    authority_of,
    remove_dot_segments,
    split_target,
)


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", b"/", b""),
        (b"/where?q=now", b"/where", b"q=now"),
        (b"/where?", b"/where", b""),
        (b"/?", b"/", b""),
        (b"/a?b?c", b"/a", b"b?c"),
        (b"//double//slash/", b"//double//slash/", b""),
        (b"//host.example/x?y", b"//host.example/x", b"y"),
        (b"/a%2Fb%3Fc", b"/a%2Fb%3Fc", b""),
        (b"/a?u=http://example.org/b?c", b"/a", b"u=http://example.org/b?c"),
        (b"/http://example.org/", b"/http://example.org/", b""),
        (b"/\xc3\xa9", b"/\xc3\xa9", b""),
        (b"http://example.org/where?q=now", b"/where", b"q=now"),
        (b"HTTP://EXAMPLE.org/Where", b"/Where", b""),
        (b"https://example.org/", b"/", b""),
        (b"http://example.org", b"/", b""),
        (b"http://example.org?q=now", b"/", b"q=now"),
        (b"http://example.org?", b"/", b""),
        (b"http://example.org?u=/a/b", b"/", b"u=/a/b"),
        (b"http://example.org:8080//x", b"//x", b""),
        (b"http://[::1]:8080/x?y", b"/x", b"y"),
        (b"http://[2001:db8::1]", b"/", b""),
        (b"http://user:pass@example.org/x@y?z@", b"/x@y", b"z@"),
        (b"http:///x", b"/x", b""),
        (b"*", b"*", b""),
        (b"example.org:443", b"", b""),
        (b"[::1]:443", b"", b""),
    ],
)
def test_split_target(target: bytes, path: bytes, query: bytes) -> None:
    assert split_target(target) == (path, query)


@pytest.mark.parametrize(
    "target", [b"", b"?", b"?q=now", b"where", b"*x", b"://", b"1http://x/", b"mailto:a@b", b"#x"]
)
def test_a_target_without_a_form_has_no_path(target: bytes) -> None:
    assert split_target(target) == (b"", b"")
    assert authority_of(target) == b""


@pytest.mark.parametrize(
    ("target", "authority"),
    [
        (b"http://example.org/", b"example.org"),
        (b"http://example.org", b"example.org"),
        (b"http://example.org:8080?q", b"example.org:8080"),
        (b"http://[::1]:8080/", b"[::1]:8080"),
        (b"http://[::1]", b"[::1]"),
        (b"http://example.org/a@b", b"example.org"),
        (b"http://example.org?a@b", b"example.org"),
        (b"http://example.org#a@b", b"example.org"),
        (b"http:///x", b""),
        (b"/http://example.org/", b""),
        (b"example.org:443", b""),
        (b"*", b""),
    ],
)
def test_the_authority_of_an_absolute_form(target: bytes, authority: bytes) -> None:
    assert authority_of(target) == authority


@pytest.mark.parametrize(
    ("raw", "decoded"),
    [
        (b"", b""),
        (b"/plain", b"/plain"),
        (b"/a+b", b"/a+b"),
        (b"/a%2Fb%2fc", b"/a/b/c"),
        (b"/%C3%A9", b"/\xc3\xa9"),
        (b"/\xc3\xa9%20", b"/\xc3\xa9 "),
        (b"/%252F", b"/%2F"),
        (b"/%FF%00", b"/\xff\x00"),
        (b"/100%", b"/100%"),
        (b"/%zz%4", b"/%zz%4"),
        (b"/%%41", b"/%A"),
    ],
)
def test_decode_path(raw: bytes, decoded: bytes) -> None:
    assert decode_path(raw) == decoded


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_quoting_then_decoding_a_path_changes_nothing(path: str) -> None:
    quoted = quote_path(path)
    assert quoted.isascii()
    assert not set(quoted) & set(b" ?#\r\n")
    assert decode_path(quoted) == path.encode()


@given(st.binary() | st.builds(b"http://%b".__mod__, st.binary()))
def test_no_bytes_make_it_raise(target: bytes) -> None:
    path, query = split_target(target)
    decode_path(path)
    assert b"?" not in path
    assert authority_of(target) in target
    if target.startswith(b"/"):
        assert target in (path + b"?" + query, path)


SEGMENTS = ["", ".", "..", "a", "%2e", ".%2E", "%2e%2e", "...", "b.", "%2f", "%61"]


@given(st.lists(st.sampled_from(SEGMENTS), min_size=1))
def test_nothing_is_left_to_be_removed_from_a_path(segments: list[str]) -> None:
    reduced = remove_dot_segments(("/" + "/".join(segments)).encode())
    assert reduced.startswith(b"/")
    assert remove_dot_segments(reduced) == reduced
    assert not {b".", b"..", b"%2e", b".%2E", b"%2e%2e"} & set(reduced.split(b"/"))


@given(st.lists(st.sampled_from(SEGMENTS[1:]), min_size=1))
def test_dot_segments_are_removed_as_from_a_file_name(segments: list[str]) -> None:
    path = "/" + "/".join(segments)
    reduced = remove_dot_segments(path.encode()).decode()
    decoded = path.replace("%2e", ".").replace("%2E", ".")
    assert (reduced.rstrip("/") or "/") == posixpath.normpath(decoded)
    # A path that ends with a dot segment names a directory.
    assert reduced.endswith("/") == decoded.endswith(("/.", "/.."))


@pytest.mark.parametrize(
    ("root_path", "prefix"),
    [("", ""), ("/", ""), ("/api", "/api"), ("/api/", "/api"), ("/a/b//", "/a/b"), ("/é", "/é")],
)
def test_mount_prefix(root_path: str, prefix: str) -> None:
    assert mount_prefix(root_path) == prefix


@pytest.mark.parametrize("root_path", ["api", "api/", "http://example.org/api", " /api"])
def test_a_root_path_begins_with_a_slash(root_path: str) -> None:
    with pytest.raises(ValueError, match="begins with a slash"):
        mount_prefix(root_path)
