"""`--runtime auto`, advice for apps on the wrong runtime, and apps that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.client import Client
from tests.integration.conftest import Start
from tests.integration.server import DidNotStart
from tests.needs import need_module

ANSWER = """
async def answer(send, text, status=200):
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": str(text).encode()})
"""
ON_ASYNCIO = (
    ANSWER
    + """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "http":
        await asyncio.sleep(0)
        await answer(send, type(asyncio.get_running_loop()).__module__)
"""
)
ON_TRIO = (
    ANSWER
    + """
import trio, httpx

async def app(scope, receive, send):
    if scope["type"] == "http":
        await trio.sleep(0)
        await answer(send, "trio")
"""
)
SHADOWING = (
    ANSWER
    + """
import outcome, ssl

async def app(scope, receive, send):
    if scope["type"] == "http":
        import trio
        await trio.sleep(0)
        await answer(send, (outcome.WHOSE, ssl.WHOSE))
"""
)
HANDLES_ITS_ERRORS = (
    ANSWER
    + """
async def app(scope, receive, send):
    if scope["type"] == "http":
        try:
            import asyncio
            await asyncio.sleep(1)
        except Exception as error:
            await answer(send, "sorry", 500)
"""
)
HANDLES_ITS_START_UP = """
async def app(scope, receive, send):
    await receive()
    try:
        import asyncio
        asyncio.get_running_loop()
    except Exception as error:
        await send({"type": "lifespan.startup.failed", "message": "no luck"})
"""
PATCHING = """
from gevent import monkey
monkey.patch_all()

def app(environ, start_response):
    raise NotImplementedError
"""
PATCHING_LATE = """
async def app(scope, receive, send):
    await receive()
    from gevent import monkey
    monkey.patch_all()
    await send({"type": "lifespan.startup.complete"})
    await receive()
"""
ONLY_IMPORTING = """
import gevent.monkey

def app(environ, start_response):
    start_response("200 OK", [])
    return [b"unpatched"]
"""


def body(client: Client, path: str = "/") -> str:
    response = client.get(path)
    assert response.status == 200, response
    return response.body.decode()


@pytest.mark.parametrize(
    ("source", "answer", "told"),
    [
        (ON_ASYNCIO, "uvloop", "asgi on uvloop, because own imports asyncio"),
        (ON_TRIO, "trio", "asgi on trio, because own imports trio"),
    ],
)
def test_the_runtime_fits_the_app_and_the_log_says_why(
    start: Start, connect, tmp_path: Path, source: str, answer: str, told: str
) -> None:
    (tmp_path / "own.py").write_text(source)
    server = start("own:app", app_dir=tmp_path, cold=True)
    assert body(connect(server)) == answer
    assert told in server.log()


@pytest.mark.parametrize(
    ("package", "app", "runtime"),
    [
        ("fastapi", "examples.fastapi_app:app", "trio"),
        ("django", "examples.django_app:asgi_application", "uvloop"),
    ],
)
def test_frameworks_run_on_the_runtime_that_they_need(
    start: Start, connect, package: str, app: str, runtime: str
) -> None:
    need_module(package)
    server = start(app, cold=True)
    assert connect(server).get("/").status == 200
    assert f"asgi on {runtime}, because" in server.log()


def test_an_app_and_its_runtime_have_modules_of_the_same_name(
    start: Start, connect, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(SHADOWING)
    for name in ("outcome", "ssl"):
        (tmp_path / f"{name}.py").write_text("WHOSE = 'the app'\n")
    assert body(connect(start("own:app", app_dir=tmp_path, cold=True))) == str(
        ("the app", "the app")
    )


def test_advice_for_an_app_that_handles_its_errors_itself(
    start: Start, connect, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(HANDLES_ITS_ERRORS)
    server = start("own:app", "--runtime", "trio", app_dir=tmp_path, cold=True)
    assert connect(server).request("GET", "/").body == b"sorry"
    assert "GET /: the app responds 500 (this app needs asyncio" in server.log()


def test_advice_for_an_app_that_reports_its_failed_start_itself(
    start: Start, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(HANDLES_ITS_START_UP)
    with pytest.raises(DidNotStart, match=r"start-up failed: no luck; this app needs asyncio"):
        start("own:app", "--runtime", "trio", app_dir=tmp_path, cold=True)


@pytest.mark.parametrize("source", [PATCHING, PATCHING_LATE])
def test_an_app_with_gevents_patches_is_refused(start: Start, tmp_path: Path, source: str) -> None:
    need_module("gevent")
    (tmp_path / "own.py").write_text(source)
    with pytest.raises(DidNotStart, match=r"error: the app applies gevent's monkey patching"):
        start("own:app", app_dir=tmp_path, cold=True)


def test_an_app_that_only_imports_gevent_is_served(start: Start, connect, tmp_path: Path) -> None:
    need_module("gevent")
    (tmp_path / "own.py").write_text(ONLY_IMPORTING)
    assert body(connect(start("own:app", app_dir=tmp_path, cold=True))) == "unpatched"
