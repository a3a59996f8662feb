"""The admin listener: its answers, who may ask, and that no client can harm the service by it."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reactor_run import turns
from reactor_run.frontend.service import admin as admin_module
from reactor_run.frontend.service.admin import Admin, Purpose
from reactor_run.frontend.sockets.addresses import TCPBind, parse_admin, parse_health, parse_metrics
from reactor_run.frontend.sockets.listeners import open_admin, open_health, open_metrics
from tests.frontend.conftest import Start
from tests.frontend.standin import Front, answer, get, post
from tests.integration.client import Client, Response

ROOT = Path(__file__).parents[3]


class AdminFront:
    """A front end with an admin socket, or a listener for one purpose, and clients of it."""

    def __init__(self, front: Front, address: str, purpose: Purpose) -> None:
        self.front = front
        if purpose is Purpose.ADMIN:
            listeners = open_admin(parse_admin(address), 0o600)
        elif purpose is Purpose.HEALTH:
            listeners = open_health(parse_health(address))
        else:
            listeners = open_metrics(parse_metrics(address))
        server = front.server
        self.admin = Admin(
            server.loop,
            listeners,
            server.status,
            server.scrape,
            reload=server.commands.reload,
            reopen_logs=server.commands.reopen_logs,
            maintain=server.commands.maintain,
            scale=server.commands.scale,
            stop=server.stop,
            own_fields=server.clients.own_fields,
            purpose=purpose,
        )
        front.call(self.admin.begin)
        self.address = listeners[0].name

    def connect(self, **options: Any) -> Client:
        return self.front.connect(self.address, **options)

    def ask(self, path: str, *fields: str, method: str = "GET", version: str = "1.1") -> Response:
        client = self.connect()
        words = ["Host: localhost", *fields] if version == "1.1" else list(fields)
        client.send("\r\n".join([f"{method} {path} HTTP/{version}", *words, "", ""]).encode())
        response = client.response(method)
        assert client.at_end()
        return response

    def ready(self) -> tuple[int, str]:
        response = self.ask("/readyz")
        return response.status, response.text.rstrip()

    def report(self) -> dict[str, Any]:
        response = self.ask("/status")
        assert response.status == 200
        assert response.field("content-type") == b"application/json"
        report: dict[str, Any] = response.json()
        return report

    def close(self) -> None:
        self.front.call(self.admin.close)


Open = Callable[..., AdminFront]


@pytest.fixture
def admin_front(start: Start, tmp_path: Path) -> Iterator[Open]:
    """`admin_front(address=..., **options)`: a front end with these options and an admin socket."""
    desks: list[AdminFront] = []

    def open_one(
        address: str = f"unix:{tmp_path}/admin.sock",
        *,
        purpose: Purpose = Purpose.ADMIN,
        **options: Any,
    ) -> AdminFront:
        desks.append(AdminFront(start(**options), address, purpose))
        return desks[-1]

    yield open_one
    for each in desks:
        if each.front._thread.is_alive():
            each.close()


# Answers.


def test_healthz_succeeds_while_the_loop_turns(admin_front: Open) -> None:
    here = admin_front(capacities=())
    response = here.ask("/healthz")
    assert (response.status, response.text) == (200, "alive\n")
    assert response.field("cache-control") == b"no-store"
    response = here.ask("/healthz?verbose", method="HEAD")
    assert (response.status, response.body) == (200, b"")
    assert response.field("content-length") == b"6"


def test_it_is_ready_from_the_first_reactor_until_the_stop(admin_front: Open) -> None:
    here = admin_front(capacities=())
    assert here.ready() == (503, "no reactor is ready")
    (reactor,) = here.front.reactors
    reactor.ready(1)
    here.front.settle()
    assert here.ready() == (200, "ready")
    client = here.front.connect()
    client.send(get())
    number, _ = reactor.request()
    here.front.signal(signal.SIGTERM)
    assert here.ready() == (503, "the service is stopping")
    assert here.ask("/healthz").status == 200
    reactor.reply(number)
    assert client.response().status == 200


def test_it_is_not_ready_without_a_living_reactor(admin_front: Open) -> None:
    here = admin_front(capacities=(1,))
    (reactor,) = here.front.reactors
    reactor.die()
    here.front.settle()
    assert here.ready() == (503, "no reactor is ready")


def test_a_full_queue_is_ready(admin_front: Open) -> None:
    here = admin_front(capacities=(1,), queue_size=1)
    for _ in range(2):
        here.front.connect().send(get())
        here.front.settle()
    refused = here.front.connect()
    refused.send(get())
    assert refused.response().status == 503
    assert here.ready() == (200, "ready")


def test_the_report_counts_what_happened(admin_front: Open) -> None:
    here = admin_front(capacities=(1, 1), queue_size=7, replay="off")
    front = here.front
    first, second = front.reactors
    clients = [front.connect() for _ in range(4)]
    for client in clients[:3]:
        client.send(get())
        front.settle()
    clients[3].send(b"GET / HTTP/1.1\r\n\r\n")
    assert clients[3].response().status == 400
    clients[3].close()
    front.settle()
    report = here.report()
    assert report["queue"] == {"waiting": 1, "size": 7}
    assert report["connections"]["open"] == 3 == report["connections"]["states"]["busy"]
    assert [each["in_flight"] for each in report["reactors"]] == [1, 1]
    assert [each["state"] for each in report["reactors"]] == ["ready", "ready"]
    assert [each["pid"] for each in report["reactors"]] == [r.inside.pid for r in front.reactors]
    assert all(each["rss"] > 0 for each in (report, *report["reactors"]))

    first.reply(first.request()[0], answer(b"", status="302 Found"))
    assert clients[0].response().status == 302
    first.request()
    second.request()
    second.die()
    assert clients[1].response().status == 502
    front.settle()
    report = here.report()
    assert report["queue"]["waiting"] == 0
    assert report["connections"]["states"] == {
        "stranger": 0,
        "handshake": 0,
        "idle": 2,
        "head": 0,
        "buffering": 0,
        "busy": 1,
        "flushing": 0,
        "http2": 0,
        "draining": 0,
        "websocket": 0,
        "lingering": 0,
    }
    assert report["counters"] == {
        "connections": 4,
        "requests": 3,
        "answers": {"2xx": 0, "3xx": 1, "4xx": 1, "5xx": 1},
        "http2_connections": 0,
        "http2_refused": 0,
        "websockets": 0,
        "own_answers": {"400": 1, "502": 1},
        "refused": {"host-missing": 1},
        "replays": 0,
        "moves": 0,
        "reloads": 0,
        "reload_failures": 0,
        "reactor_starts": 3,
        "reactor_deaths": 1,
        "access_log_lost": 0,
    }
    assert {each["name"]: each["state"] for each in report["reactors"]} == {
        "reactor 1": "ready",
        "reactor 3": "starting",
    }


def test_replays_and_reloads_count(admin_front: Open) -> None:
    here = admin_front(capacities=(1,))
    (reactor,) = here.front.reactors
    client = here.front.connect()
    client.send(get())
    reactor.request()
    reactor.die()
    here.front.settle()
    here.front.signal(signal.SIGHUP)
    here.front.reactors[2].ready()
    here.front.settle()
    here.front.reactors[2].reply(here.front.reactors[2].request()[0])
    assert client.response().status == 200
    counters = here.report()["counters"]
    assert counters["replays"] == counters["reloads"] == 1
    assert counters["reactor_starts"] == 3
    assert counters["requests"] == 2


def test_answers_on_lanes_count_too(admin_front: Open) -> None:
    here = admin_front(capacities=(9,), lanes="plain")
    (reactor,) = here.front.reactors
    client = here.front.connect()
    client.send(post(b"body"))
    lane = reactor.lane()
    lane.head()
    lane.send(answer(b"", status="404 Not Found"))
    assert client.response().status == 404
    reactor.done(lane)
    here.front.settle()
    report = here.report()
    assert report["counters"]["answers"]["4xx"] == 1
    assert report["counters"]["requests"] == 1
    assert report["lanes"] == {"mode": "plain", "open": 1}


def test_decisions_of_heuristics_are_counted(admin_front: Open) -> None:
    here = admin_front(capacities=(9, 9))
    (first, _) = here.front.reactors
    first.say(slow="GET /slow", seconds=0.3)
    here.front.settle()
    client = here.front.connect()
    client.send(get("/slow"))
    first.reply(first.request()[0])
    assert client.response().status == 200
    heuristics = here.report()["heuristics"]
    assert heuristics["set_aside"] == {
        "routes": 1,
        "set_aside": 0,
        "called_up": 0,
        "not_worth_it": 1,
        "too_much": 0,
    }
    assert heuristics["sched_yield"]["given"] > 0
    assert set(heuristics["busy_poll"]) == {"found", "missed"}


def test_heuristics_that_are_switched_off_decide_nothing(
    admin_front: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "_never", False)
    here = admin_front(capacities=(9, 9), sched_yield="off", busy_poll="off", set_aside="off")
    (first, _) = here.front.reactors
    first.say(slow="GET /slow", seconds=0.3)
    here.front.settle()
    client = here.front.connect()
    for _ in range(100):
        client.send(get("/slow"))
        first.reply(first.request()[0])
        assert client.response().status == 200
    for counts in here.report()["heuristics"].values():
        assert not any(counts.values())


def names(report: Any) -> set[str]:
    """Return all names in a report."""
    if isinstance(report, dict):
        return set(report).union(*map(names, report.values()))
    if isinstance(report, list):
        return set().union(*map(names, report))
    return set()


def test_every_name_of_the_report_is_documented(admin_front: Open) -> None:
    page = (ROOT / "docs" / "admin.md").read_text()
    report = admin_front(capacities=(1,)).report()
    assert {name for name in names(report) if f"`{name}`" not in page} == set()


# Who may ask.


@pytest.mark.parametrize(
    ("method", "path", "fields", "status"),
    [
        ("GET", "/favicon.ico", [], 404),
        ("GET", "/status/", [], 404),
        ("POST", "/healthz", [], 405),
        ("PUT", "/status", [], 405),
        ("GET", "/stop", [], 405),
        ("HEAD", "/stop", [], 405),
        ("POST", "/stop", ["Content-Length: 1"], 413),
        ("GET", "/healthz", ["Transfer-Encoding: chunked"], 413),
        ("GET", "/healthz", ["Host: again"], 400),
        ("GET", "/healthz", ["X: " + "x" * 9000], 431),
        ("GET", "http://another.example/healthz", [], 400),
        ("CONNECT", "localhost:80", [], 501),
    ],
)
def test_requests_that_are_rejected(
    admin_front: Open, method: str, path: str, fields: list[str], status: int
) -> None:
    here = admin_front(capacities=(1,))
    response = here.ask(path, *fields, method=method)
    assert response.status == status
    if status == 405:
        assert response.field("allow") in (b"GET, HEAD", b"POST")
    assert not here.front.server.lifecycle.stopping


def test_over_tcp_nothing_can_be_changed(admin_front: Open) -> None:
    here = admin_front("127.0.0.1:0", capacities=(1,))
    for path in "/stop", "/reload", "/reopen-logs", "/maintenance?on", "/scale?to=2":
        assert here.ask(path, method="POST").status == 403
    assert not here.front.server.lifecycle.stopping
    assert len(here.front.reactors) == 1
    assert here.report()["maintenance"] is None
    assert here.ask("/status").status == 200


@pytest.mark.parametrize("host", ["localhost", "localhost:9000", "127.0.0.1:9", "[::1]", "[::1]:9"])
def test_over_tcp_a_request_names_this_machine(admin_front: Open, host: str) -> None:
    here = admin_front("127.0.0.1:0", capacities=(1,))
    client = here.connect()
    client.send(f"GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert client.response().status == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.example:80"])
def test_over_tcp_another_name_of_this_machine_is_rejected(admin_front: Open, host: str) -> None:
    here = admin_front("127.0.0.1:0", capacities=(1,))
    client = here.connect()
    client.send(f"GET /status HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert client.response().status == 403


def test_over_tcp_browsers_are_rejected_and_old_probes_are_not(admin_front: Open) -> None:
    here = admin_front("127.0.0.1:0", capacities=(1,))
    assert here.ask("/status", "Origin: http://localhost").status == 403
    assert here.ask("/readyz", version="1.0").status == 200


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("/status", ["Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors"], 200),
        ("/status", ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors"], 403),
        ("/status", ["Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: no-cors"], 403),
        ("/", ["Sec-Fetch-Site: none", "Sec-Fetch-Mode: navigate"], 200),
        ("/", ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"], 200),
        ("/", ["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate", "Origin: null"], 403),
    ],
)
def test_over_tcp_pages_of_other_origins_cannot_ask(
    admin_front: Open, path: str, fields: list[str], status: int
) -> None:
    here = admin_front("127.0.0.1:0", capacities=(1,))
    assert here.ask(path, *fields).status == status


def test_a_browser_cannot_stop_it_through_a_forwarded_unix_socket(admin_front: Open) -> None:
    here = admin_front(capacities=(1,))
    for field in "Origin: http://evil.example", "Sec-Fetch-Site: cross-site":
        for path in "/stop", "/reload", "/reopen-logs", "/maintenance?on", "/scale?to=2":
            assert here.ask(path, field, "Sec-Fetch-Mode: navigate", method="POST").status == 403
    assert not here.front.server.lifecycle.stopping


def test_the_page_allows_nothing_but_its_own_script(admin_front: Open) -> None:
    response = admin_front(capacities=(1,)).ask("/")
    assert response.field("content-type") == b"text/html; charset=utf-8"
    policy = response.field("content-security-policy") or b""
    assert policy.startswith(b"default-src 'none'; script-src 'sha256-")
    assert b"frame-ancestors 'none'" in policy
    assert b"unsafe" not in policy
    assert response.field("x-frame-options") == b"DENY"
    assert response.field("x-content-type-options") == b"nosniff"
    assert b"http://" not in response.body.replace(b"http://www.w3.org/", b"")
    assert b"https://" not in response.body
    assert b" style=" not in response.body
    assert b"innerHTML" not in response.body


@pytest.mark.parametrize(
    ("options", "observed"),
    [
        ({}, False),
        ({"health": TCPBind("", 0)}, False),
        ({"metrics": TCPBind("", 0)}, True),
        ({"admin": TCPBind("127.0.0.1", 0)}, True),
    ],
)
def test_requests_are_observed_only_if_someone_can_ask(
    start: Start, options: dict[str, TCPBind], observed: bool
) -> None:
    front = start(**options)
    assert (front.server.clients.ended is not None) is observed


# Other machines


def test_other_machines_may_ask_for_health_only(admin_front: Open) -> None:
    here = admin_front("127.0.0.1:0", purpose=Purpose.HEALTH, capacities=(1,))
    host = "Host: 192.0.2.1:8001"
    for path, text in [("/healthz", "alive\n"), ("/readyz", "ready\n")]:
        client = here.connect()
        client.send(f"GET {path} HTTP/1.1\r\n{host}\r\nOrigin: http://a\r\n\r\n".encode())
        response = client.response()
        assert (response.status, response.text) == (200, text)
    for method, path, status in [
        ("GET", "/status", 404),
        ("POST", "/stop", 404),
        ("POST", "/reload", 404),
        ("POST", "/readyz", 405),
    ]:
        assert here.ask(path, method=method).status == status
    assert not here.front.server.lifecycle.stopping
    here.front.signal(signal.SIGTERM)
    assert here.ready() == (503, "the service is stopping")


def test_other_machines_may_ask_for_metrics_only(admin_front: Open) -> None:
    here = admin_front("127.0.0.1:0", purpose=Purpose.METRICS, capacities=(1,))
    client = here.connect()
    client.send(b"GET /metrics HTTP/1.1\r\nHost: shop.internal:9100\r\n\r\n")
    response = client.response()
    assert response.status == 200
    assert response.field("content-type") == b"text/plain; version=0.0.4; charset=utf-8"
    for path in "/", "/status", "/healthz", "/reload", "/stop":
        assert here.ask(path).status == 404


# Clients that cannot harm the service.


def test_a_request_may_come_bytewise_but_not_for_ever(admin_front: Open) -> None:
    here = admin_front(capacities=(1,))
    client, slow = here.connect(), here.connect()
    client.send_bytewise(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.response().status == 200
    slow.send(b"GET /healthz HTTP/1.1\r\n")
    here.front.pass_time(8)
    assert here.front.silent(slow)
    here.front.pass_time(4)
    assert slow.at_end()


def test_the_oldest_of_too_many_connections_is_closed(admin_front: Open) -> None:
    here = admin_front(capacities=(1,))
    clients = [here.connect() for _ in range(admin_module._CONNECTIONS_MAX + 1)]
    here.front.settle()
    assert clients[0].at_end()
    assert all(here.front.silent(client) for client in clients[1:])
    assert here.ask("/healthz").status == 200


def test_bytes_after_a_request_are_dropped(admin_front: Open) -> None:
    here = admin_front("127.0.0.1:0", capacities=(1,))
    client = here.connect()
    client.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)
    assert client.response().status == 200
    assert client.at_end()


def test_a_report_of_any_size_arrives_and_a_client_that_does_not_read_is_closed(
    admin_front: Open,
) -> None:
    here = admin_front(capacities=(1,))

    def bloat() -> None:
        here.front.server.clients.counters.refused.update(
            {f"rule {n}": n for n in range(1, 100_000)}
        )

    here.front.call(bloat)
    sleeper = here.connect()
    sleeper.send(b"GET /status HTTP/1.1\r\nHost: a\r\n\r\n")
    assert len(here.report()["counters"]["refused"]) == 99_999
    here.front.pass_time(12)
    assert b"}}\n" not in b"".join(iter(lambda: sleeper._sock.recv(1 << 20), b""))


def test_a_client_that_leaves_leaves_nothing_behind(admin_front: Open) -> None:
    here = admin_front(capacities=(1,))
    for data in b"", b"GET /hea", b"GET /status HTTP/1.1\r\nHost: a\r\n\r\n":
        client = here.connect()
        client.send(data)
        client.close()
    here.front.settle()
    assert not here.admin._connections


def test_it_pauses_when_descriptors_run_out(
    admin_front: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = admin_front(capacities=(1,))
    here.front.settle()

    def refuse(_: socket.socket) -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "accept", refuse)
        client = here.connect()
        here.front.settle()  # it fails if the loop spins
    here.front.pass_time(3)
    client.send(get("/healthz"))
    assert client.response().status == 200
    assert sum("cannot accept" in line for line in here.front.log) == 1


# Commands of the operator.


def reload(admin_front: AdminFront) -> Client:
    """An operator who waits for a reload."""
    operator = admin_front.connect()
    operator.send(get("/reload", method="POST"))
    admin_front.front.settle()
    return operator


def test_reload_answers_when_the_new_generation_serves(admin_front: Open) -> None:
    here = admin_front(capacities=(1, 1))
    operator = reload(here)
    assert any(
        "reload command received over the admin socket, from process" in line
        for line in here.front.log
    )
    assert here.report()["reloading"]
    here.front.reactors[2].ready()
    here.front.pass_time(20)  # longer than any other connection lasts
    assert here.front.silent(operator)
    here.front.reactors[3].ready()
    response = operator.response("POST")
    assert (response.status, response.text) == (200, "generation 2 serves\n")
    assert here.report()["generation"] == 2


def test_reload_answers_why_the_new_generation_does_not_serve(admin_front: Open) -> None:
    here = admin_front(capacities=(1,))
    operator = reload(here)
    here.front.reactors[1].say(failed="cannot import 'shop'", details=None)
    here.front.reactors[1].die()
    response = operator.response("POST")
    assert (response.status, response.text) == (500, "cannot import 'shop'\n")
    assert here.report()["reload_failure"] == "cannot import 'shop'"
    assert here.front.call(here.front.server.status.line).endswith("failed: cannot import 'shop'")
    assert here.ready() == (200, "ready")


def test_a_reload_command_during_a_reload_waits_for_the_next_one(admin_front: Open) -> None:
    here = admin_front(capacities=(1,))
    first, second, third = reload(here), reload(here), reload(here)
    here.front.reactors[1].ready()
    assert first.response("POST").text == "generation 2 serves\n"
    assert here.front.silent(second)
    here.front.reactors[2].ready()
    for operator in second, third:
        assert operator.response("POST").text == "generation 3 serves\n"


def test_a_stop_ends_the_wait_for_a_reload(admin_front: Open) -> None:
    here = admin_front(capacities=(1,))
    waiting = reload(here)
    left = reload(here)
    left.close()
    here.front.signal(signal.SIGTERM)
    response = waiting.response("POST")
    assert (response.status, response.text) == (500, "the service is stopping\n")
    response = here.ask("/reload", method="POST")
    assert (response.status, response.text) == (500, "the service is stopping\n")


def test_stop_drains_and_its_connection_ends_with_the_service(admin_front: Open) -> None:
    here = admin_front(capacities=(1,))
    (reactor,) = here.front.reactors
    client = here.front.connect()
    client.send(get())
    number, _ = reactor.request()
    operator = here.connect()
    operator.send(get("/stop", method="POST"))
    assert operator.response("POST").status == 202
    assert here.front.silent(operator)
    here.front.pass_time(20)
    assert here.front.silent(operator)
    assert any(
        "stop command received over the admin socket, from process" in line
        for line in here.front.log
    )
    reactor.reply(number)
    assert client.response().status == 200
    assert reactor.hear("stop")
    reactor.die()
    here.front.exit()
    here.admin.close()
    assert operator.at_end()
