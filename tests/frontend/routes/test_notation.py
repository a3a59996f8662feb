"""Routes as operators write them, and what is wrong with some."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reactor_run.frontend.cli import read_settings
from reactor_run.frontend.command.routing import route_table
from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.routes.notation import parse_route, parse_static, show_route
from reactor_run.frontend.routes.route import (
    AnswerTarget,
    AppTarget,
    RedirectTarget,
    StaticTarget,
)


def written(**table: Any) -> str:
    return json.dumps({key.replace("_", "-"): value for key, value in table.items()})


def test_each_target(tmp_path: Path) -> None:
    directory = str(tmp_path)
    files = parse_route(
        written(
            host="Shop.Example:8443",
            prefix="/a/b/",
            static=directory,
            index="off",
            fallback="app.html",
            cache={"*.js": "max-age=60"},
            compressed=False,
        )
    )
    assert (files.host, files.prefix) == (b"shop.example:8443", (b"a", b"b"))
    assert files.target == StaticTarget(directory, "", "app.html", (("*.js", "max-age=60"),), False)
    assert show_route(files) == f"shop.example:8443/a/b -> static {directory}"
    redirect = parse_route(written(prefix="/", redirect="https://shop.example", status=301))
    assert redirect.target == RedirectTarget("https://shop.example", 301)
    assert show_route(redirect) == "/ -> redirect https://shop.example"
    answer = parse_route(written(prefix="/ä b", answer="gone", status=410, fields={"x-y": "z"}))
    assert answer.prefix == ("ä b".encode(),)
    assert answer.target == AnswerTarget("gone", 410, fields=(("x-y", "z"),))
    app = parse_route(written(prefix="/", app="default", cors={"origins": ["*"]}))
    assert app.target == AppTarget("default")
    assert app.cross_origin is not None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x", "expected a table in JSON"),
        ("[]", "expected a table in JSON"),
        (written(prefix="/"), "one of the keys app, static, redirect, answer, not none"),
        (written(prefix="/", rediret="/b"), "no key 'rediret' here; the nearest is 'redirect' of"),
        (written(prefix="/", answer="a", redirect="/b"), "not 2 of them"),
        (written(answer="a"), "the key prefix"),
        (written(prefix="a", answer="a"), "expected a path"),
        (written(prefix="/a//b", answer="a"), "expected a path"),
        (written(prefix="/a/../b", answer="a"), "expected a path"),
        (written(prefix="/a\nb", answer="a"), "expected a path"),
        (written(prefix="//", answer="a"), "expected a path"),
        (written(prefix="", answer="a"), "expected a path"),
        (written(prefix="/a%20b", answer="a"), "expected a path"),
        (written(prefix="/a/*", answer="a"), "expected a path"),
        (written(prefix="/a?b", answer="a"), "expected a path"),
        (written(prefix="/", host="a/b", answer="a"), "expected a host"),
        (written(prefix="/", host="*.shop.example", answer="a"), "there are no wildcards"),
        (written(prefix="/", answer=1), "answer: expected a string, not 1"),
        (written(prefix="/", answer="a", status=True), "status: expected a whole number"),
        (written(prefix="/", answer="a", status=304), "that of a response with a body, not 304"),
        (
            written(prefix="/", answer="a", indx="b"),
            "no key 'indx' here; the nearest is 'prefix' of host",
        ),
        (written(prefix="/", answer="a", fields={"a b": "c"}), "a b: expected a name"),
        (written(prefix="/", answer="a", fields={"x": "a\r\nb"}), "x: the value has a line end"),
        (written(prefix="/", answer="a", fields={"Connection": "x"}), "the server itself sets"),
        (written(prefix="/", answer="a", fields={"content-Type": "x"}), "the key content-type"),
        (written(prefix="/", redirect="//evil.example"), "redirect: expected a path or a URL"),
        (written(prefix="/", redirect="javascript:x"), "redirect: expected a path or a URL"),
        (written(prefix="/", redirect="https://a b"), "redirect: expected a path or a URL"),
        (written(prefix="/", redirect="/a\r\nx"), "redirect: expected a path or a URL"),
        (written(prefix="/", redirect=""), "redirect: expected a path or a URL"),
        (written(prefix="/", redirect="/a", status=300), "status: expected 301, 302"),
        (written(prefix="/", redirect="/a?b"), "add append = false"),
        (written(prefix="/", static="/nowhere"), "'/nowhere' is not a directory"),
        (written(prefix="/", static="/", index="../x"), "expected the name of a file"),
        (written(prefix="/", static="/", fallback="/x"), "expected the name of a file"),
        (written(prefix="/", static="/", cache={"a": 1}), "a: expected a string"),
        (written(prefix="/", static="/", cache={"a": "b\nc"}), "cache-control: the value has"),
        (written(prefix="/", answer="", cors={}), "cors: list the origins"),
        (written(prefix="/", answer="", cors={"origins": "*"}), "origins: expected a list"),
        (written(prefix="/", answer="", cors={"origins": [1]}), "origins: expected a list"),
        (written(prefix="/", answer="", cors={"origins": ["x"]}), "cors: expected an origin"),
        (written(prefix="/", answer="", cors={"origins": ["*"], "max-age": -1}), "expected 0 to"),
    ],
)
def test_what_is_wrong_with_a_table(text: str, complaint: str) -> None:
    with pytest.raises(OperatorError) as caught:
        parse_route(text)
    assert complaint in str(caught.value)


def test_static() -> None:
    flag = parse_static("shop.example/a=/")
    assert (flag.host, flag.prefix, flag.directory) == (b"shop.example", (b"a",), "/")
    assert str(flag) == "shop.example/a=/"
    assert str(parse_static("/=/")) == "/=/"
    for text in "/a", "a=/", "/a=/nowhere", "a b/c=/", "/a/./b=/":
        with pytest.raises(OperatorError):
            parse_static(text)


def test_no_routes_cost_nothing() -> None:
    assert route_table(read_settings(["a:b"], {})) is None


def test_the_app_gets_the_rest() -> None:
    table = route_table(read_settings(["a:b", "--static", "/static=/", "--cors-origin=*"], {}))
    assert table is not None
    static, app = table.routes
    assert (static.name, static.cross_origin) == ("/static", None)
    assert (app.name, app.target) == ("/", AppTarget("default"))
    assert app.cross_origin is not None
    only_cors = route_table(read_settings(["a:b", "--cors-origin=*"], {}))
    assert only_cors is not None
    assert [route.name for route in only_cors.routes] == ["/"]


def test_the_app_may_have_routes_of_its_own() -> None:
    words = ["a:b", "--static=/=/", "--route", written(prefix="/api", app="default")]
    table = route_table(read_settings(words, {}))
    assert table is not None
    assert {route.name for route in table.routes} == {"/", "/api"}


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--static=/=/"], "a route takes / of each host, so the app gets no request"),
        (["--static=/a=/", "--static=/a=/"], "two routes take /a"),
        (["--static-index=x"], "--static-index has no effect without --static"),
        (["--cors-credentials"], "--cors-credentials has no effect without --cors-origin"),
        (["--cors-origin=*", "--cors-credentials"], "--cors-origin: * with credentials"),
        (["--static=/a=/", "--static-cache=x"], "--static-cache: expected PATTERN=VALUE"),
    ],
)
def test_what_is_wrong_with_flags(words: list[str], complaint: str) -> None:
    with pytest.raises(OperatorError) as caught:
        read_settings(["a:b", *words], {})
    assert complaint in str(caught.value)


def test_tables_of_a_file(tmp_path: Path) -> None:
    config = tmp_path / "shop.toml"
    config.write_text(
        'app = "a:b"\n[[route]]\nprefix = "/x"\nanswer = "y"\n'
        '[[route]]\nprefix = "/z"\nredirect = "/x"\ncors = { origins = ["*"] }\n'
    )
    settings = read_settings(["--config", str(config)], {})
    assert [parse_route(text).name for text in settings.route] == ["/x", "/z"]
    config.write_text('app = "a:b"\n[[route]]\nprefix = "/x"\nanswer = 2026-11-30\n')
    with pytest.raises(OperatorError, match=r"route in .*: expected strings, numbers"):
        read_settings(["--config", str(config)], {})
