"""http.response.pathsend, on the express lane and on plain lanes."""

from __future__ import annotations

import os
from urllib.parse import urlencode

import pytest

from reactor_run.protocol.express import ANSWER, ANSWER_DONE, EXPRESS_MAX, WRITTEN
from tests.reactor.driver import get

WAYS = pytest.mark.parametrize("way", ["express", "lane"])
SIZES = [0, 1, 200, EXPRESS_MAX, EXPRESS_MAX + 1, 200_000, 6_000_000]


def content(size):
    return (bytes(range(251)) * (size // 251 + 1))[:size]


@pytest.fixture
def path(tmp_path):
    """A file in which each piece differs from its neighbours."""

    def make(size):
        file = tmp_path / str(size)
        file.write_bytes(content(size))
        return file

    return make


def target(path, **query):
    return "/file?" + urlencode({"path": str(path), **query})


def ask(driver, way, target, method="GET"):
    """Send a request for a file, and return its answer."""
    request = get(target, method=method)
    if way == "lane":
        lane = driver.open_lane()
        response = lane.exchange(request)
        # The lane may carry another exchange.
        assert driver.verdict(lane) == "done"
        assert lane.exchange(get("/hello")).text == "hello"
        return response
    (number,) = driver.request(request)
    driver.wait_done(number)
    if {ANSWER, ANSWER_DONE} & set(driver.kinds(number)):
        return driver.answer(number, method)
    return driver.relayed(number).response(method)


@WAYS
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_a_file_is_the_whole_body(asgi, path, way, size, late):
    query = {"late": 1} if late else {}
    response = ask(asgi, way, target(path(size), **query))
    assert response.status == 200
    assert response.headers["content-length"] == str(size)
    assert response.body == content(size)


@WAYS
@pytest.mark.parametrize("size", [200, 200_000])
@pytest.mark.parametrize(
    ("method", "status", "shown"), [("HEAD", 200, True), ("GET", 204, False), ("GET", 304, False)]
)
def test_a_response_without_a_body_sends_nothing_of_a_file(
    on_trio, path, way, size, method, status, shown
):
    response = ask(on_trio, way, target(path(size), status=status), method)
    assert response.status == status
    assert response.headers["content-length"] == (str(size) if shown else None)
    assert response.body == b""


@WAYS
@pytest.mark.parametrize("size", [200, 200_000])
def test_a_file_that_has_grown_is_sent_up_to_the_declared_length(on_trio, path, way, size):
    response = ask(on_trio, way, target(path(size), length=size - 50))
    assert response.body == content(size - 50)


@WAYS
@pytest.mark.parametrize("size", [200, 200_000])
def test_a_file_that_has_shrunk_is_not_begun(on_trio, key, path, way, size):
    response = ask(on_trio, way, target(path(size), length=size + 1, key=key))
    assert response.status == 500
    assert key.notes(on_trio) == ["RuntimeError"]


@WAYS
@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("missing", "FileNotFoundError"),
        ("directory", "IsADirectoryError"),
        ("pipe", "OSError"),
        ("/dev/zero", "OSError"),
        ("locked/file", "NotADirectoryError"),
    ],
)
def test_what_is_no_regular_file_raises_in_the_app(asgi, key, tmp_path, way, what, error):
    (tmp_path / "directory").mkdir()
    (tmp_path / "locked").touch()
    os.mkfifo(tmp_path / "pipe")
    assert ask(asgi, way, target(tmp_path / what, key=key)).status == 500
    assert key.notes(asgi) == [error]
    # The app may send another body instead.
    assert ask(asgi, way, target(tmp_path / what, fallback=1)).text == "fallback"


@pytest.mark.parametrize("size", [200, 200_000])
def test_a_file_completes_the_response(asgi, key, path, size):
    response = ask(asgi, "express", target(path(size), key=key, again=1))
    assert response.body == content(size)
    assert key.notes(asgi) == [
        "http.disconnect",
        "http.response.pathsend is out of order: the response is complete",
    ]


def test_a_file_is_not_mixed_with_other_parts_of_a_body(on_trio, key, path):
    """ASGI documentation, "Path Send"."""
    assert on_trio.get(target(path(200), key=key, early=1)).status == 500
    (number,) = on_trio.request(get(target(path(200), key=key, body=1, length=201)))
    on_trio.wait_done(number)
    assert key.notes(on_trio) == ["RuntimeError", "RuntimeError"]


def test_a_file_is_written_to_the_client(asgi, path):
    size = 6_000_000
    number_of_client, client = asgi.share_client()
    (number,) = asgi.request(get(target(path(size))))
    asgi.wait_done(number)
    asgi.grant(number, number_of_client)
    with client.makefile("rb") as stream:
        assert stream.read(size) == content(size)
    assert asgi.number_in(number, WRITTEN) == size


def test_a_file_that_shrinks_gives_a_cut_answer_on_the_express_lane(asgi, path):
    file = path(6_000_000)
    (number,) = asgi.request(get(target(file)))
    asgi.wait_done(number)
    pieces = asgi.relayed(number)
    assert pieces.read(100_000).startswith(b"HTTP/1.1 200 ")
    os.truncate(file, 3_000_000)
    body = bytes(pieces._to_end()).partition(b"\r\n\r\n")[2]
    assert pieces.is_cut
    assert body == content(3_000_000)
    assert asgi.get("/hello").text == "hello"


def test_a_file_that_shrinks_gives_a_cut_answer_on_a_plain_lane(asgi, path):
    """The kernel has some bytes of the file. What it has of the part that is cut becomes zero."""
    file = path(12_000_000)
    lane = asgi.open_lane()
    lane.send(get(target(file)))
    assert asgi.verdict(lane) == "done"
    os.truncate(file, 6_000_000)
    body = lane.read_to_end().partition(b"\r\n\r\n")[2]
    assert len(body) == 6_000_000
    assert body[:100_000] == content(100_000)
    asgi.wait(lambda: asgi.drops(lane))
    assert asgi.get("/hello").text == "hello"


def test_a_client_that_leaves_closes_the_file(asgi, path):
    def is_open():
        folder = f"/proc/{asgi.process.pid}/fd"
        names = []
        for fd in os.listdir(folder):
            try:
                names.append(os.readlink(f"{folder}/{fd}"))
            except FileNotFoundError:
                continue
        return str(file) in names

    file = path(6_000_000)
    lane = asgi.open_lane()
    lane.send(get(target(file)))
    assert asgi.verdict(lane) == "done"
    assert is_open()
    lane.close()
    asgi.wait(lambda: not is_open())
