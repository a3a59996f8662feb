"""Files of a directory from a real service: what clients get, compared with nginx, and what not."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.certificates import Authority
from tests.integration.client import Client, Response, request
from tests.integration.proxies import address_of, listen, nginx
from tests.integration.server import Server
from tests.integration.waiting import eventually

HELLO = "bench.apps.hello:asgi"
LARGE = random.Random(1).randbytes(3_000_000)
SMALL = b"0123456789" * 10
MODIFIED = 784111777
SAME = "Sun, 06 Nov 1994 08:49:37 GMT"
BEFORE = "Sun, 06 Nov 1994 08:49:36 GMT"
LATER = "Sun, 06 Nov 1994 08:49:38 GMT"
SECRET = b"secret-content"


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory `site`, with a secret beside it. It is open to nginx's user."""
    top = Path(tempfile.mkdtemp())
    top.chmod(0o755)
    site = top / "site"
    (site / "sub").mkdir(parents=True)
    (site / "empty").mkdir()
    (site / ".git").mkdir()
    files = {
        "index.html": b"<h1>index</h1>",
        "small.txt": SMALL,
        "large.bin": LARGE,
        "nothing.txt": b"",
        "app.js": b"let x = 1\n" * 100,
        "app.js.gz": gzip.compress(b"let x = 1\n" * 100, mtime=0),
        "sub/index.html": b"sub",
        "sub/a b%c.txt": b"odd",
        "sub/ümlaut.css": b"umlaut",
        "sub/back\\slash.txt": b"backslash",
        ".env": SECRET,
        ".git/config": SECRET,
        "../secret.txt": SECRET,
    }
    for name, content in files.items():
        (site / name).write_bytes(content)
        os.utime(site / name, (MODIFIED, MODIFIED))
    (site / "link.txt").symlink_to("small.txt")
    (site / "up.txt").symlink_to("../secret.txt")
    (site / "absolute.txt").symlink_to(top / "secret.txt")
    (site / "out").symlink_to("..")
    os.mkfifo(site / "fifo.txt")
    unreadable = site / "unreadable.txt"
    unreadable.write_bytes(b"x")
    unreadable.chmod(0)
    yield site
    shutil.rmtree(top)


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[Server]:
    with Server(
        HELLO,
        f"--static=/s={place}",
        "--static-cache=sub/*=max-age=60",
        "--path-policy=pass",
        "--access-log-format=json",
        f"--access-log={place.parent}/log",
        "--request-id",
    ) as found:
        yield found


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.address) as found:
        yield found


def test_a_small_file(client: Client) -> None:
    answer = client.get("/s/small.txt")
    assert answer.body == SMALL
    assert answer.field("content-type") == b"text/plain; charset=utf-8"
    assert answer.field("content-length") == b"100"
    assert answer.field("last-modified") == SAME.encode()
    assert answer.field("accept-ranges") == b"bytes"
    assert answer.field("cache-control") is None
    assert answer.field("x-request-id") is not None


def test_a_large_file(client: Client) -> None:
    assert client.get("/s/large.bin").body == LARGE
    assert client.get("/s/small.txt").body == SMALL


def test_an_empty_file(client: Client) -> None:
    answer = client.get("/s/nothing.txt")
    assert (answer.body, answer.field("content-length")) == (b"", b"0")


def test_the_app_gets_the_rest(client: Client) -> None:
    assert client.get("/").body == client.get("/static").body != SMALL


def test_pipelined_requests(client: Client) -> None:
    targets = ["/s/small.txt", "/s/large.bin", "/", "/s/gone", "/s/app.js", "/s/large.bin"] * 3
    client.send(b"".join(request("GET", target) for target in targets))
    answers = [client.response() for _ in targets]
    assert [len(answer.body) for answer in answers[:6]] == [
        *(100, 3_000_000, len(answers[2].body), 10, 1000, 3_000_000)
    ]
    assert [answer.status for answer in answers[:6]] == [200, 200, 200, 404, 200, 200]
    assert [answer.body for answer in answers[:6]] == [answer.body for answer in answers[12:]]


def test_head(client: Client) -> None:
    for target in "/s/small.txt", "/s/large.bin", "/s/gone", "/s/sub", "/s/":
        whole = client.request("GET", target)
        head = client.request("HEAD", target)
        assert head.status == whole.status
        assert head.body == b""
        for name in "content-length", "content-type", "etag", "last-modified", "location":
            assert head.field(name) == whole.field(name)


def test_methods(client: Client) -> None:
    for method in "POST", "PUT", "DELETE", "PATCH":
        answer = client.request(method, "/s/small.txt", body=b"x")
        assert answer.status == 405
        assert answer.field("allow") == b"GET, HEAD, OPTIONS"
    answer = client.request("OPTIONS", "/s/small.txt")
    assert (answer.status, answer.field("allow")) == (204, b"GET, HEAD, OPTIONS")


def test_a_body_that_is_on_its_way_is_not_awaited(server: Server) -> None:
    for fields in "Content-Length: 1000000", "Transfer-Encoding: chunked":
        with Client(server.address) as client:
            client.send(f"PUT /s/small.txt HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n".encode())
            assert client.response("PUT").status == 405
            assert client.at_end()
    with Client(server.address) as client:
        client.send(b"GET /s/large.bin HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
        assert client.response().body == LARGE
        assert client.at_end()


def test_old_and_last_requests(server: Server) -> None:
    for line, fields in (
        ("GET /s/large.bin HTTP/1.0", ""),
        ("GET /s/small.txt HTTP/1.0", ""),
        ("GET /s/large.bin HTTP/1.1", "Host: a\r\nConnection: close\r\n"),
    ):
        with Client(server.address) as client:
            client.send(f"{line}\r\n{fields}\r\n".encode())
            assert len(client.response().body) in (100, 3_000_000)
            assert client.at_end()


def test_directories(client: Client) -> None:
    assert client.get("/s/").body == b"<h1>index</h1>"
    assert client.get("/s/sub/").body == b"sub"
    for target, location in (
        ("/s", b"/s/"),
        ("/s?x=1", b"/s/?x=1"),
        ("/s/sub", b"/s/sub/"),
        ("/s/sub?//evil.example", b"/s/sub/?//evil.example"),
        ("/s/%73ub", b"/s/sub/"),
    ):
        answer = client.request("GET", target)
        assert (answer.status, answer.field("location")) == (308, location)
    assert client.request("GET", "/s/empty/").status == 404


def test_cache_control(client: Client) -> None:
    answer = client.get("/s/sub/index.html")
    assert answer.field("cache-control") == b"max-age=60"
    tag = (answer.field("etag") or b"").decode()
    answer = client.request("GET", "/s/sub/index.html", [("If-None-Match", tag)])
    assert (answer.status, answer.field("cache-control")) == (304, b"max-age=60")


def test_compressed_files(client: Client) -> None:
    plain = client.get("/s/app.js")
    packed = client.request("GET", "/s/app.js", [("Accept-Encoding", "br, gzip")])
    assert packed.field("content-encoding") == b"gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert packed.field("content-type") == plain.field("content-type")
    assert packed.field("etag") != plain.field("etag")
    assert packed.field("vary") == plain.field("vary") == b"accept-encoding"
    refused = client.request("GET", "/s/app.js", [("Accept-Encoding", "gzip;q=0, *;q=1")])
    assert refused.body == plain.body
    part = client.request("GET", "/s/app.js", [("Accept-Encoding", "gzip"), ("Range", "bytes=1-3")])
    assert (part.status, part.body) == (206, packed.body[1:4])


def test_odd_names(client: Client) -> None:
    assert client.get("/s/sub/a%20b%25c.txt").body == b"odd"
    assert client.get("/s/sub/%C3%BCmlaut.css").body == b"umlaut"
    assert client.get("/s/sub/back%5Cslash.txt").body == b"backslash"
    assert client.get("/s/sub/back\\slash.txt").body == b"backslash"
    assert client.get("/s/link.txt").body == SMALL


UP = ("..", "%2e%2e", ".%2e", "%2E.")
TRICKS = [
    *(f"/s/{up}/secret.txt" for up in UP),
    *(f"/s/sub/{up}/{up}/secret.txt" for up in UP),
    *(f"/s/{up}%2fsecret.txt" for up in UP),
    *(f"/s/sub%2f{up}%2f{up}%2fsecret.txt" for up in UP),
    *(f"/s/{up}\\secret.txt" for up in UP),
    *(f"/s/{up}%5csecret.txt" for up in UP),
    *(f"/s/{up}%00/secret.txt" for up in UP),
    *(f"/s//{up}/secret.txt" for up in UP),
    *(f"/s/./{up}/secret.txt" for up in UP),
    *(f"/{up}/s/{up}/secret.txt" for up in UP),
    *(f"/s/{up}/site/.env" for up in UP),
    "/s/..;/secret.txt",
    "/s/..%c0%afsecret.txt",
    "/s/%c0%ae%c0%ae/secret.txt",
    "/s/%e0%80%ae%e0%80%ae/secret.txt",
    "/s/%252e%252e/secret.txt",
    "/s/%252e%252e%252fsecret.txt",
    "/s/..%252fsecret.txt",
    "/s/....//secret.txt",
    "/s/.../secret.txt",
    "/s/%u002e%u002e/secret.txt",
    "/s/small.txt/../../secret.txt",
    "/s/small.txt%00.html",
    "/s/small.txt%2f",
    "/s/small.txt/",
    "/s/up.txt",
    "/s/absolute.txt",
    "/s/out/secret.txt",
    "/s/out/site/small.txt",
    "/s/out%2fsecret.txt",
    "/s/.env",
    "/s/%2eenv",
    "/s/sub/../.env",
    "/s/.git/config",
    "/s/%2egit/config",
    "/s//.git/config",
    "/s/fifo.txt",
    "/s//etc/passwd",
    "/s/%2fetc/passwd",
    "/s/%2fetc%2fpasswd",
    "/s/proc/self/environ",
    "/s/C:/secret.txt",
    "/s/file:///etc/passwd",
    "/s/" + "../" * 40 + "etc/passwd",
    "/s/" + "%2e%2e%2f" * 40 + "etc/passwd",
    "/s/" + "a/" * 3000 + "x",
    "/s/" + "x" * 4000,
    "http://a/s/../secret.txt",
    "http://a/s/%2e%2e/secret.txt",
    "http://a/s/.env",
]


@pytest.mark.parametrize("policy", ["reject", "normalize", "pass"])
def test_tricks(place: Path, policy: str) -> None:
    with Server(HELLO, f"--static=/s={place}", f"--path-policy={policy}") as server:
        for target in TRICKS:
            with Client(server.address) as client:
                client.send(request("GET", target))
                answer = client.response()
            assert SECRET not in answer.body, target
            assert b"root:" not in answer.body, target
            assert answer.status in (400, 404) or b"Hello" in answer.body, (target, answer)


def test_a_deployed_directory_is_found(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "x.txt").write_text("one")
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "x.txt").write_text("two")
    (tmp_path / "current").symlink_to("1")
    with (
        Server(HELLO, f"--static=/s={tmp_path}/current") as server,
        Client(server.address) as client,
    ):
        assert client.get("/s/x.txt").body == b"one"
        (tmp_path / "new").symlink_to("2")
        os.rename(tmp_path / "new", tmp_path / "current")
        assert eventually(lambda: client.get("/s/x.txt").body == b"two")
        # If the name is gone for a while, the old directory is used.
        os.rename(tmp_path / "current", tmp_path / "away")
        assert eventually(
            lambda: client.get("/s/x.txt").body == b"two" and "cannot open" in server.log()
        )
        (tmp_path / "current").symlink_to("1")
        assert eventually(lambda: client.get("/s/x.txt").body == b"one")


def test_a_race_with_links(tmp_path: Path) -> None:
    """Directories of the site become links that lead outside, and back, while clients ask."""
    site, outside = tmp_path / "site", tmp_path / "outside"
    (site / "sub").mkdir(parents=True)
    (site / "sub" / "x.txt").write_text("inside")
    outside.mkdir()
    (outside / "x.txt").write_bytes(SECRET)
    (tmp_path / "link").symlink_to(outside)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            os.rename(site / "sub", tmp_path / "real")
            os.rename(tmp_path / "link", site / "sub")
            os.rename(site / "sub", tmp_path / "link")
            os.rename(tmp_path / "real", site / "sub")

    with Server(HELLO, f"--static=/s={site}") as server, Client(server.address) as client:
        thread = threading.Thread(target=swap)
        thread.start()
        try:
            for _ in range(50):
                client.send(request("GET", "/s/sub/x.txt") * 20)
                for _ in range(20):
                    answer = client.response()
                    assert answer.status in (200, 404)
                    assert answer.status == 404 or answer.body == b"inside"
        finally:
            stop.set()
            thread.join()


def test_a_file_that_shrinks_gives_a_cut_answer(tmp_path: Path) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(64 << 20))
    with Server(HELLO, f"--static=/s={tmp_path}") as server:
        with Client(server.address) as client:
            client.send(request("GET", "/s/large.bin"))
            head = client.begin()
            assert head.field("content-length") == b"%d" % (64 << 20)
            os.truncate(large, 1000)
            assert len(client.rest()) < 64 << 20
        assert eventually(lambda: "a file has become shorter" in server.log())
        with Client(server.address) as client:
            assert client.get("/s/large.bin").body == bytes(1000)


def test_records_name_the_route(server: Server, place: Path) -> None:
    with Client(server.address) as client:
        client.get("/s/small.txt?one")
        client.request("GET", "/s/large.bin?two", [("Range", "bytes=100000-299999")])
        client.request("GET", "/s/gone?three")
    with Client(server.address, receive_buffer=4096) as client:
        client.send(request("GET", "/s/large.bin?four"))
        client.begin()
        client.reset()

    def records() -> dict[str, dict[str, object]]:
        lines = (place.parent / "log").read_text().splitlines()
        found = [json.loads(line) for line in lines]
        return {each["target"].partition("?")[2]: each for each in found}

    assert eventually(lambda: {"one", "two", "three", "four"} <= records().keys())
    found = records()
    assert [found[name]["reactor"] for name in ("one", "two", "three", "four")] == ["/s"] * 4
    assert [found[name]["status"] for name in ("one", "two", "three", "four")] == [
        *(200, 206, 404, 200)
    ]
    assert [found[name]["error"] for name in ("one", "two", "three")] == ["", "", ""]
    assert found["four"]["error"] == "the client left"
    out = found["two"]["bytes_out"]
    assert isinstance(out, int)
    assert 200_000 < out < 201_000
    cut = found["four"]["bytes_out"]
    assert isinstance(cut, int)
    assert cut < len(LARGE)


# Like nginx ---------------------------------------------------------------------------------------


@contextmanager
def peer(place: Path) -> Iterator[str]:
    """nginx with the same directory at the same path."""
    with tempfile.TemporaryDirectory() as directory:
        sock = listen("tcp4", Path(directory))
        address = address_of(sock)
        text = f"""http {{ access_log off; default_type application/octet-stream;
            if_modified_since before; gzip_static on; gzip_vary on; server_tokens off;
            types {{ text/plain txt; text/html html; text/javascript js; }}
            server {{ listen {address.removeprefix("http://")};
                location /s/ {{ alias {place}/; }} }} }}\n"""
        with nginx(Path(directory), text, [sock]):
            yield address


RANGES = [
    "bytes=0-9",
    "bytes=0-0",
    "bytes=10-",
    "bytes=99-",
    "bytes=90-1000",
    "bytes=-10",
    "bytes=-1000",
    "bytes=100-",
    "bytes=100-200",
    "items=0-9",
]
CASES: list[tuple[str, str, list[tuple[str, str]]]] = [
    *(("GET", "/s/small.txt", [("Range", each)]) for each in RANGES),
    ("GET", "/s/small.txt", []),
    ("HEAD", "/s/small.txt", []),
    ("GET", "/s/", []),
    ("GET", "/s/sub/", []),
    ("GET", "/s/gone", []),
    ("GET", "/s/sub/gone", []),
    ("GET", "/s/empty/gone/", []),
    ("GET", "/s/small.txt/", []),
    ("GET", "/s/unreadable.txt", []),
    ("GET", "/s/nothing.txt", []),
    *(("GET", "/s/nothing.txt", [("Range", each)]) for each in RANGES),
    ("GET", "/s/app.js", [("Accept-Encoding", "gzip")]),
    ("GET", "/s/app.js", [("Accept-Encoding", "deflate, gzip;q=0.5")]),
    ("GET", "/s/app.js", [("Accept-Encoding", "gzip;q=0")]),
    ("GET", "/s/app.js", [("Accept-Encoding", "br")]),
    ("GET", "/s/small.txt", [("If-Modified-Since", SAME)]),
    ("GET", "/s/small.txt", [("If-Modified-Since", LATER)]),
    ("GET", "/s/small.txt", [("If-Modified-Since", BEFORE)]),
    ("HEAD", "/s/small.txt", [("If-Modified-Since", SAME)]),
    ("GET", "/s/small.txt", [("If-Unmodified-Since", SAME)]),
    ("GET", "/s/small.txt", [("If-Unmodified-Since", LATER)]),
    ("GET", "/s/small.txt", [("If-Unmodified-Since", BEFORE)]),
    ("GET", "/s/small.txt", [("If-None-Match", "*")]),
    ("GET", "/s/small.txt", [("If-None-Match", '"x"')]),
    ("GET", "/s/small.txt", [("If-None-Match", "TAG")]),
    ("GET", "/s/small.txt", [("If-None-Match", "W/TAG")]),
    ("GET", "/s/small.txt", [("If-None-Match", '"x", TAG')]),
    ("GET", "/s/small.txt", [("If-Match", "*")]),
    ("GET", "/s/small.txt", [("If-Match", '"x"')]),
    ("GET", "/s/small.txt", [("If-Match", "TAG")]),
    ("GET", "/s/small.txt", [("If-Match", '"x", TAG')]),
    ("GET", "/s/small.txt", [("If-None-Match", "TAG"), ("Range", "bytes=0-9")]),
    ("GET", "/s/small.txt", [("If-Match", '"x"'), ("Range", "bytes=0-9")]),
    ("GET", "/s/small.txt", [("If-Range", "TAG"), ("Range", "bytes=0-9")]),
    ("GET", "/s/small.txt", [("If-Range", '"x"'), ("Range", "bytes=0-9")]),
    ("GET", "/s/small.txt", [("If-Range", SAME), ("Range", "bytes=0-9")]),
    ("GET", "/s/small.txt", [("If-Range", LATER), ("Range", "bytes=0-9")]),
    ("GET", "/s/small.txt", [("If-Range", "TAG"), ("Range", "bytes=100-")]),
]
COMPARED = ("content-length", "content-range", "content-encoding", "last-modified")
"""Fields that both send alike with a file."""


def seen(address: str, method: str, target: str, fields: list[tuple[str, str]]) -> Response:
    with Client(address) as client:
        tag = client.request("HEAD", target).field("etag") or b""
        sent = [(name, value.replace("TAG", tag.decode())) for name, value in fields]
        return client.request(method, target, sent)


@pytest.mark.needs("nginx")
def test_answers_are_those_of_nginx(server: Server, place: Path) -> None:
    """Known differences, which RFC 9110 backs, are not among the cases: HEAD with Range gets 200
    here, several ranges and malformed ones get all of the file, a compressed file has ranges too,
    and If-None-Match overrules If-Modified-Since."""
    if os.geteuid() == 0:
        cases = [case for case in CASES if "unreadable" not in case[1]]
    else:
        cases = CASES
    with peer(place) as address:
        for case in cases:
            theirs, ours = seen(address, *case), seen(server.address, *case)
            assert ours.status == theirs.status, case
            if ours.status not in (200, 206):
                continue
            assert ours.body == theirs.body, case
            for name in COMPARED:
                assert ours.field(name) == theirs.field(name), (case, name)


# Slow disks and old kernels -----------------------------------------------------------------------


@pytest.mark.parametrize("lacks", ["openat2", "nowait"])
def test_without_what_newer_kernels_have(place: Path, tmp_path: Path, lacks: str) -> None:
    """All is left to threads then. Clients see no difference."""
    (tmp_path / "sitecustomize.py").write_text(
        "from reactor_run.frontend.static import beneath, content\n"
        + (
            "beneath.Directory._probed = beneath.Directory.walks = True\n"
            if lacks == "openat2"
            else "content.read_ready = lambda *_: False\ncontent.ready = lambda *_: 0\n"
            "from reactor_run.frontend.clients import file_answers, file_writer\n"
            "file_answers.read_ready = content.read_ready\nfile_writer.ready = content.ready\n"
        )
    )
    with (
        Server(HELLO, f"--static=/s={place}", env={"PYTHONPATH": str(tmp_path)}) as server,
        Client(server.address) as client,
    ):
        targets = ["/s/small.txt", "/s/large.bin", "/s/gone", "/s/sub/", "/s/nothing.txt"]
        client.send(b"".join(request("GET", target) for target in targets * 2))
        answers = [client.response() for _ in targets * 2]
        assert [answer.status for answer in answers] == [200, 200, 404, 200, 200] * 2
        assert answers[0].body == SMALL
        assert answers[1].body == LARGE
        part = client.request("GET", "/s/large.bin", [("Range", "bytes=1000000-")])
        assert (part.status, part.body) == (206, LARGE[1_000_000:])
        # Clients that leave while a thread works.
        for _ in range(20):
            with Client(server.address) as leaving:
                leaving.send(request("GET", "/s/large.bin"))
        assert client.get("/s/large.bin").body == LARGE
        pid = server.pid
        assert eventually(lambda: not _open_below(pid, place))


def _open_below(pid: int, place: Path) -> list[str]:
    """Files of the directory that a process has open."""
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            name = os.readlink(f"/proc/{pid}/fd/{fd}")
        except FileNotFoundError:
            continue
        if name.startswith(f"{place}/"):
            found.append(name)
    return found


def test_no_descriptor_is_left(server: Server, place: Path) -> None:
    with Client(server.address) as client:
        for target in "/s/small.txt", "/s/large.bin", "/s/gone", "/s/sub", "/s/fifo.txt":
            client.request("GET", target)
            client.request("HEAD", target)
            client.request("GET", target, [("Range", "bytes=9999999-")])
            client.request("GET", target, [("If-None-Match", "*")])
            client.request("GET", target, [("If-Match", '"x"')])
    assert eventually(lambda: not _open_below(server.pid, place))


def test_files_over_tls(place: Path, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    options = authority.options("localhost", "127.0.0.1")
    with (
        Server(HELLO, f"--static=/s={place}", *options) as server,
        Client(server.address, tls=authority.client()) as client,
    ):
        assert client.get("/s/large.bin").body == LARGE
        part = client.request("GET", "/s/large.bin", [("Range", "bytes=100-2500000")])
        assert (part.status, part.body) == (206, LARGE[100:2_500_001])
        client.send(request("GET", "/s/large.bin") + request("GET", "/s/small.txt"))
        assert client.response().body == LARGE
        assert client.response().body == SMALL
