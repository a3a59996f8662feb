"""HTTP/2 with the clients and proxies that people use."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.apps.shared import hash_of, pattern
from tests.integration.browser import NEEDS, Browser
from tests.integration.certificates import Authority
from tests.integration.conftest import LANES, Start
from tests.integration.proxies import address_of, haproxy, listen, nginx
from tests.integration.server import Server
from tests.integration.waiting import eventually
from tests.needs import path_of

APP = "tests.integration.apps.asgi:app"
SIZE = 3_000_000

Run = Callable[..., str]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def options(authority: Authority) -> list[str]:
    return authority.options("localhost", "127.0.0.1")


@pytest.fixture(params=["tls", "plain"])
def server(shared: Start, options: list[str], request: pytest.FixtureRequest) -> Server:
    return shared(APP, *(options if request.param == "tls" else ()))


def run(program: str, *words: str) -> str:
    """Run a client; return what it prints."""
    done = subprocess.run(
        [path_of(program), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=50,
    )
    text = done.stdout.decode(errors="replace")
    assert done.returncode == 0, text
    return text


# Programs -----------------------------------------------------------------------------------------


@pytest.fixture
def curl(server: Server, authority: Authority) -> Run:
    """`curl(path, *words)`: what curl prints, with the version of HTTP in the last line."""
    speak = "--http2" if server.address.startswith("https:") else "--http2-prior-knowledge"

    def ask(path: str, *words: str) -> str:
        told = ["-w", "\\n%{http_version} %{http_code}", "--cacert", authority.file]
        return run("curl", "-sS", speak, *told, *words, server.address + path)

    return ask


@pytest.mark.needs("curl")
def test_curl(curl: Run, server: Server, tmp_path: Path) -> None:
    tls = server.address.startswith("https:")
    body = tmp_path / "body"
    body.write_bytes(b"".join(pattern(SIZE)))
    told = json.dumps({"sha256": hash_of(pattern(SIZE)), "size": SIZE})
    for words in ((), ("-H", "Expect: 100-continue"), ("-H", "Transfer-Encoding: chunked")):
        text, _, last = curl("/hash", "--data-binary", f"@{body}", *words).rpartition("\n")
        assert (json.loads(text), last) == (json.loads(told), "2 200")
    assert curl("/echo", "-I").endswith("\n2 200")
    found = tmp_path / "found"
    assert curl(f"/download?size={SIZE}", "-o", str(found)) == "\n2 200"
    assert hashlib.sha256(found.read_bytes()).hexdigest() == hash_of(pattern(SIZE))
    if tls:
        # 60 answers at once, on one connection. With prior knowledge, curl 7.88 fails by itself.
        text = curl("/download?size=50000&[1-60]", "-Z", "-o", "/dev/null")
        assert text.count("2 200") == 60


@pytest.mark.needs("curl")
def test_an_upgrade_to_h2c_is_ignored(shared: Start) -> None:
    server = shared(APP)
    assert run(
        "curl", "-sS", "--http2", "-w", "%{http_version}", f"{server.address}/echo"
    ).endswith("1.1")


@pytest.mark.needs("nghttp")
def test_nghttp(server: Server, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"x" * 100_000)
    url = f"{server.address}/hash"
    told = run("nghttp", "--no-verify-peer", "-v", "-d", str(body), "-H", ":method: POST", url)
    assert '"size": 100000' in told
    # Padded frames, and a window of 1 KiB.
    urls = [f"{server.address}/download?size=100000&{number}" for number in range(3)]
    told = run("nghttp", "--no-verify-peer", "-ns", "-w", "10", "-b", "64", *urls)
    assert len(re.findall(r" 200 +\d+K? /download", told)) == 3, told


@pytest.mark.needs("openssl")
def test_openssl_sees_the_protocol(shared: Start, options: list[str]) -> None:
    server = shared(APP, *options)
    where = server.address.removeprefix("https://")
    told = run("openssl", "s_client", "-connect", where, "-alpn", "h2,http/1.1")
    assert "ALPN protocol: h2" in told
    told = run("openssl", "s_client", "-connect", where, "-alpn", "http/1.1")
    assert "ALPN protocol: http/1.1" in told


NODE = """
const http2 = require("http2"), fs = require("fs");
const [url, ca] = process.argv.slice(1);
const session = http2.connect(url, { ca: fs.readFileSync(ca) });
function ask(fields, body) {
  return new Promise((resolve, reject) => {
    const stream = session.request(fields);
    let status, size = 0, text = "";
    stream.on("response", (h) => { status = h[":status"]; });
    stream.on("data", (piece) => { size += piece.length; if (size < 1000) text += piece; });
    stream.on("end", () => resolve({ status, size, text }));
    stream.on("error", reject);
    stream.end(body);
  });
}
(async () => {
  const all = [];
  for (let n = 0; n < 50; n++) all.push(ask({ ":path": `/download?size=${n * 1000}` }));
  all.push(ask({ ":path": "/hash", ":method": "POST" }, "x".repeat(300000)));
  // A stream that is given up does not end the others.
  const given = session.request({ ":path": "/download?size=50000000" });
  given.once("data", () => given.close(http2.constants.NGHTTP2_CANCEL));
  await new Promise((resolve) => given.on("close", resolve));
  console.log(JSON.stringify(await Promise.all(all)));
  session.close();
})();
"""


@pytest.mark.needs("node")
def test_node(server: Server, authority: Authority) -> None:
    answers = json.loads(run("node", "-e", NODE, server.address, authority.file))
    assert [each["size"] for each in answers[:50]] == [number * 1000 for number in range(50)]
    assert json.loads(answers[50]["text"])["size"] == 300_000
    assert {each["status"] for each in answers} == {200}


# A browser ----------------------------------------------------------------------------------------


@pytest.mark.needs(*NEEDS)
@pytest.mark.parametrize("lanes", LANES)
def test_a_page_on_one_connection(start: Start, options: list[str], lanes: str) -> None:
    app = "tests.integration.apps.page:app"
    server = start(app, "--lanes", lanes, "--lifespan", "off", *options)
    with Browser(trusting=True) as browser:
        browser.open(f"{server.address}/")
        shown = "return [...document.images].filter((each) => each.complete && each.naturalWidth)"
        assert eventually(lambda: len(browser.run(shown)) == 100)
        assert eventually(lambda: browser.run("return window.event") == "one")
        assert eventually(lambda: browser.run("return window.message") == "hello back")
        seen = httpx.get(f"{server.address}/seen", verify=False, trust_env=False).json()
        # The icon of the page may come too.
        wanted = {"/", "/events", "/ws", *(f"/image/{number}.svg" for number in range(100))}
        assert wanted <= {path for path, _, _ in seen}
        assert {version for _, version, _ in seen} == {"2"}
        assert len({port for _, _, port in seen}) == 1


# Proxies ------------------------------------------------------------------------------------------


@pytest.fixture
def through_haproxy(
    start: Start, tmp_path: Path, authority: Authority
) -> Iterator[tuple[str, Server]]:
    """HAProxy, which speaks HTTP/2 to its clients and to the server, after a PROXY header."""
    server = start(APP, "--proxy-protocol", "--proxy-allow-from", "127.0.0.1")
    certfile, keyfile = authority.issue("localhost", "127.0.0.1", file="haproxy")
    both = tmp_path / "both.pem"
    both.write_text(Path(certfile).read_text() + Path(keyfile).read_text())
    front = listen("tcp4", tmp_path)
    backend = server.address.removeprefix("http://")
    sections = f"""
frontend in
  mode http
  bind fd@{front.fileno()} ssl crt {both} alpn h2,http/1.1
  default_backend app
backend app
  mode http
  server one {backend} proto h2 send-proxy-v2
"""
    url = address_of(front).replace("http", "https", 1)
    with haproxy(tmp_path, sections, [front]):
        yield url, server


@pytest.mark.needs("haproxy")
def test_haproxy(through_haproxy: tuple[str, Server], authority: Authority) -> None:
    url, _ = through_haproxy
    options: dict[str, Any] = {"verify": authority.client(), "trust_env": False, "timeout": 30}
    for http2 in (True, False):
        with httpx.Client(base_url=url, http2=http2, http1=not http2, **options) as client:
            check_through_proxy(client, "2")


@pytest.mark.needs("nginx")
def test_nginx(start: Start, tmp_path: Path, authority: Authority) -> None:
    """nginx speaks HTTP/2 to clients, and HTTP/1.1 to the server."""
    server = start(APP, "--forwarded-allow-from", "127.0.0.1")
    certfile, keyfile = authority.issue("localhost", "127.0.0.1", file="nginx")
    front = listen("tcp4", tmp_path)
    host, port = front.getsockname()
    blocks = f"""
http {{
  access_log off; client_max_body_size 0; client_body_temp_path {tmp_path}/body;
  proxy_temp_path {tmp_path}/proxy; fastcgi_temp_path {tmp_path}/f; uwsgi_temp_path {tmp_path}/u;
  scgi_temp_path {tmp_path}/s;
  server {{
    listen {host}:{port} ssl http2;
    ssl_certificate {certfile}; ssl_certificate_key {keyfile};
    location / {{
      proxy_pass {server.address}; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_request_buffering off; proxy_max_temp_file_size 0;
      proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto https;
    }}
  }}
}}
"""
    url = address_of(front).replace("http", "https", 1)
    options: dict[str, Any] = {"verify": authority.client(), "trust_env": False, "timeout": 30}
    with (
        nginx(tmp_path, blocks, [front]),
        httpx.Client(base_url=url, http1=False, http2=True, **options) as client,
    ):
        check_through_proxy(client, "1.1")


def check_through_proxy(client: httpx.Client, version: str) -> None:
    """Ask for the scope, and send and get large bodies. `version`: of HTTP at the server."""
    scope = client.get("/scope").json()
    assert scope["http_version"] == version
    assert scope["client"][0] == "127.0.0.1"
    body = b"".join(pattern(SIZE))
    wanted = {"sha256": hashlib.sha256(body).hexdigest(), "size": SIZE}
    assert client.post("/hash", content=body).json() == wanted
    found = client.get(f"/download?size={SIZE}").content
    assert hashlib.sha256(found).hexdigest() == wanted["sha256"]
    statuses = Counter(
        client.get(f"/status?status={status}").status_code for status in (204, 404, 500)
    )
    assert sum(statuses.values()) == 3
