"""`/metrics` of a real server, read as Prometheus reads it."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.client import Client, request
from tests.integration.conftest import Gate, Start
from tests.integration.server import Server
from tests.integration.waiting import eventually
from tests.needs import need_module

APP = "tests.integration.apps.asgi:app"
Connect = Callable[..., Client]
ROOT = Path(__file__).parents[2]


class Scraped:
    """The samples of one scrape."""

    def __init__(self, text: str) -> None:
        parser = need_module("prometheus_client.parser")
        self.families: dict[str, Any] = {}
        for family in parser.text_string_to_metric_families(text):
            assert family.name not in self.families
            assert family.documentation
            self.families[family.name] = family

    def samples(self) -> Iterator[Any]:
        for family in self.families.values():
            yield from family.samples

    def __call__(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of this name with at least these labels."""
        found = [
            sample.value
            for sample in self.samples()
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        assert found, name
        return sum(found)


def metrics_url(server: Server) -> str:
    (url,) = re.findall(r"metrics on (\S+)\n", server.log())
    return str(url)


def scrape(connect: Connect, where: str) -> Scraped:
    response = connect(where).get("/metrics")
    assert response.status == 200
    assert response.field("content-type") == b"text/plain; version=0.0.4; charset=utf-8"
    assert response.text.endswith("\n")
    return Scraped(response.text)


@pytest.fixture
def measured(shared: Start) -> Server:
    return shared(APP, "--reactors", "2", "--metrics", "127.0.0.1:0", "--queue-size", "7")


def test_each_metric_is_exposed_and_documented(measured: Server, connect: Connect) -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    documented = dict(re.findall(r"^\| `((?:reactor_run|process)_\w+)` \| (\w+) \|", page, re.M))
    exposed = {
        family.name + ("_total" if family.type == "counter" else ""): family.type
        for family in scrape(connect, metrics_url(measured)).families.values()
    }
    assert len(exposed) > 30
    assert documented == exposed
    queried = re.findall(
        r"\b(?:reactor_run|process)_[a-z_]+", "".join(re.findall("^ {4}.*", page, re.M))
    )
    assert len(set(queried)) > 10
    assert {re.sub("_(bucket|count|sum)$", "", name) for name in queried} <= exposed.keys()


def test_names_follow_the_conventions(measured: Server, connect: Connect) -> None:
    for family in scrape(connect, metrics_url(measured)).families.values():
        assert re.fullmatch("(reactor_run|process)(_[a-z][a-z0-9]*)+", family.name)
        if family.type == "histogram":
            assert family.name.endswith("_seconds")


def test_requests_are_counted(measured: Server, connect: Connect) -> None:
    url = metrics_url(measured)
    before = scrape(connect, url)
    client = connect(measured)
    bodies = [client.request("POST", "/echo", body=b"x" * 1000) for _ in range(3)]
    assert {response.status for response in bodies} == {200}
    assert client.request("GET", "/no-such-path").status == 404
    raw = connect(measured)
    raw.send(b"GET /<\x1b> HTTP/1.1\r\nHost: a\r\n\r\n")
    assert raw.response().status == 400
    after = eventually_counted(connect, url, before("reactor_run_requests_total") + 5)

    def grown(name: str, **labels: str) -> float:
        return after(name, **labels) - before(name, **labels)

    assert grown("reactor_run_requests_total", method="POST", status="2xx") == 3
    assert grown("reactor_run_request_duration_seconds_count") == 5
    assert grown("reactor_run_request_first_byte_seconds_count") == 5
    assert grown("reactor_run_request_queue_seconds_count") == 4
    assert grown("reactor_run_request_duration_seconds_bucket", le="60.0") == 5
    assert grown("reactor_run_request_bytes_total") > 3000
    assert grown("reactor_run_response_bytes_total") > 3000
    assert grown("reactor_run_rejections_total", rule="target-character") == 1
    assert after("reactor_run_own_responses_total", status="400") >= 1
    assert grown("reactor_run_connections_accepted_total") == 2
    assert grown("reactor_run_reactor_requests_total") == 4
    labels = {(k, v) for sample in after.samples() for k, v in sample.labels.items()}
    assert not any("<" in value or "\x1b" in value for _, value in labels)


def eventually_counted(connect: Connect, url: str, requests: float) -> Scraped:
    """A request is counted at the end of the turn that has written its answer."""
    kept: list[Scraped] = []

    def counted() -> bool:
        kept.append(scrape(connect, url))
        return kept[-1]("reactor_run_requests_total") >= requests

    eventually(counted)
    return kept[-1]


def test_figures_of_the_processes(measured: Server, connect: Connect) -> None:
    url = metrics_url(measured)
    eventually(lambda: scrape(connect, url)("reactor_run_reactors", state="ready") == 2)
    scraped = scrape(connect, url)
    for number in 1, 2:
        name = f"reactor {number}"
        assert scraped("reactor_run_reactor_resident_memory_bytes", reactor=name) > 1 << 20
        assert scraped("reactor_run_reactor_cpu_seconds_total", reactor=name) > 0
        assert scraped("reactor_run_reactor_capacity", reactor=name) == 1000
        assert scraped("reactor_run_reactor_step_seconds", reactor=name) == 0
    assert scraped("reactor_run_reactors_wanted") == 2
    assert scraped("reactor_run_queue_limit") == 7
    assert scraped("reactor_run_ready") == scraped("reactor_run_build_info") == 1
    assert scraped("process_resident_memory_bytes") > 1 << 20
    assert scraped("process_cpu_seconds_total") > 0
    assert scraped("process_open_fds") > 5
    assert scraped("reactor_run_connections", state="idle") >= 0


def test_a_stall_a_death_and_a_reload(start: Start, connect: Connect, gate: Gate) -> None:
    server = start(APP, "--metrics", "127.0.0.1:0")
    url = metrics_url(server)
    client = connect(server)
    client.send(request("GET", f"/wait?gate={gate}"))
    eventually(lambda: scrape(connect, url)("reactor_run_requests_in_flight") == 1)
    gate.open()
    assert client.response().status == 200
    os.kill(server.reactor_pids()[0], signal.SIGKILL)
    eventually(lambda: scrape(connect, url)("reactor_run_reactor_deaths_total") == 1)
    server.signal(signal.SIGHUP)
    # The listener survives a reload of the app.
    eventually(lambda: scrape(connect, url)("reactor_run_reloads_total", outcome="success") == 1)
    scraped = scrape(connect, url)
    assert scraped("reactor_run_generation") == 2
    assert scraped("reactor_run_reactor_starts_total") == 3


def test_steps_that_stall_the_loop(start: Start, connect: Connect, tmp_path: Path) -> None:
    (tmp_path / "stalling.py").write_text(
        "import time\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'lifespan':\n"
        "        raise NotImplementedError\n"
        "    time.sleep(0.25)\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
        "    await send({'type': 'http.response.body'})\n"
    )
    admin = f"unix:{tmp_path}/admin"
    server = start("stalling:app", "--admin", admin, app_dir=tmp_path)
    client = connect(server)
    client.send(request("GET", "/"))
    name = "reactor_run_reactor_step_seconds"
    eventually(lambda: 0 < scrape(connect, admin)(name) < 0.25)
    assert client.response().status == 200
    stalled = "reactor_run_reactor_stall_seconds_total"
    eventually(lambda: scrape(connect, admin)(stalled) > 0)
    scraped = scrape(connect, admin)
    assert 0.2 < scraped(stalled) < 2
    assert scraped(name) == 0
    assert scraped("reactor_run_request_duration_seconds_bucket", le="0.1") == 0


def test_large_answers_by_the_way_that_they_took(
    start: Start, connect: Connect, tmp_path: Path
) -> None:
    (tmp_path / "large.py").write_text(
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'lifespan':\n"
        "        raise NotImplementedError\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
        "    await send({'type': 'http.response.body', 'body': b'x' * 300_000})\n"
    )
    admin = f"unix:{tmp_path}/admin"
    server = start("large:app", "--admin", admin, app_dir=tmp_path)
    client = connect(server)
    for _ in range(2):
        assert len(client.get("/").body) == 300_000
    assert len(connect(server).request("GET", "/", [("Connection", "close")]).body) == 300_000
    scraped = eventually_counted(connect, admin, 3)
    name = "reactor_run_responses_in_pieces_total"
    assert (scraped(name, way="direct"), scraped(name, way="relayed")) == (2, 1)
    assert scraped("reactor_run_shared_client_sockets") == 1
    assert scraped("reactor_run_grants_given_back_total") == 0
    assert scraped("reactor_run_response_bytes_total") > 900_000


def test_an_upgrade_passes_the_listener_on(start: Start, connect: Connect) -> None:
    server = start(APP, "--metrics", "127.0.0.1:0")
    url = metrics_url(server)
    started = scrape(connect, url)("process_start_time_seconds")
    server.signal(signal.SIGUSR2)
    assert server.wait() == 0
    (new,) = [int(pid) for pid in re.findall(r"front end is process (\d+)", server.log())]
    try:
        assert scrape(connect, url)("process_start_time_seconds") > started
    finally:
        os.kill(new, signal.SIGTERM)
        eventually(lambda: not Path(f"/proc/{new}/cmdline").exists() or _gone(new))


def _gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}/cmdline").read_bytes()


def test_it_may_listen_on_every_interface(start: Start, connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = start(APP, "--metrics", f":{port}")
    assert f"metrics on http://0.0.0.0:{port}" in server.log()
    assert connect(f"http://127.0.0.1:{port}").get("/metrics").status == 200
    assert connect(f"http://127.0.0.1:{port}").request("GET", "/status").status == 404
