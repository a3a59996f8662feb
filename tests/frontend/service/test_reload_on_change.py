"""`--reload`: what requests meet while the app is started anew, and who sees its traceback."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable

import pytest

from reactor_run.frontend.clients.reload_gate import FAILED_MAX, START_MAX
from reactor_run.frontend.reloading import file_watch
from tests.frontend.conftest import Start
from tests.frontend.standin import Front, StandIn, get, post
from tests.integration.client import Client, Response

TRACEBACK = 'Traceback:\n  File "web.py", line 1\n    <script>alert("ü")</script>'
LATE = 1.0
"""Seconds by which a deadline may be late, at most."""


class NoWatcher:
    """In the place of FileWatch: the test says what has changed."""

    pid = 0

    def __init__(self, *_: object) -> None:
        pass

    def begin(self) -> None:
        pass

    def end(self) -> None:
        pass


@pytest.fixture
def start_reloading(start: Start, monkeypatch: pytest.MonkeyPatch) -> Start:
    monkeypatch.setattr(file_watch, "FileWatch", NoWatcher)
    return lambda **options: start(reload=True, **options)


def change(front: Front) -> StandIn:
    """Change a file; return the reactor that starts."""
    front.call(lambda: front.server._files_changed(["/srv/web.py"]))
    front.settle()
    return front.reactors[-1]


def fail(front: Front, reactor: StandIn, details: str | None = TRACEBACK) -> None:
    reactor.say(failed="importing web failed: <boom>", details=details)
    front.settle()
    reactor.die()
    reactor.wait_for_end()
    front.settle()


def ask(front: Front, *fields: str, host: str = "localhost:8000", via: str | None = None) -> Client:
    client = front.connect(via)
    client.send(get("/page", *fields).replace(b"Host: a", f"Host: {host}".encode()))
    front.settle()
    return client


def shown(front: Front, *fields: str) -> Response:
    """The page that a developer gets."""
    client = ask(front, *fields)
    front.pass_time(FAILED_MAX + LATE)
    return client.response()


def served_by(reactor: StandIn, client: Client, body: bytes = b"ok") -> bool:
    number, request = reactor.request()
    assert request.startswith(b"GET /page")
    reactor.reply(number)
    return client.response().body == body


def test_requests_after_a_change_wait_for_the_new_code(start_reloading: Start) -> None:
    front = start_reloading()
    (old,) = front.reactors
    before = ask(front)
    new = change(front)
    after = [ask(front), ask(front, host="shop.example")]
    # A request that the old code has begun ends there.
    assert served_by(old, before)
    assert old.silent
    assert all(map(front.silent, after))
    new.ready()
    front.settle()
    assert all(served_by(new, client) for client in after)
    assert served_by(new, ask(front))


def test_a_request_does_not_wait_for_long_if_the_old_code_can_answer(
    start_reloading: Start,
) -> None:
    front = start_reloading()
    (old,) = front.reactors
    change(front)
    client = ask(front)
    front.pass_time(START_MAX - 2 * LATE)
    assert front.silent(client)
    front.pass_time(3 * LATE)
    assert served_by(old, client)


def test_a_change_during_a_start_begins_it_anew(start_reloading: Start) -> None:
    front = start_reloading()
    first = change(front)
    client = ask(front)
    second = change(front)
    first.wait_for_end()
    assert front.silent(client)
    second.ready()
    front.settle()
    assert served_by(second, client)
    assert front.call(lambda: front.server.supervisor.generation) == 2
    assert not any(line.startswith("error") for line in front.log)


def test_a_change_before_the_first_app_is_ready_begins_anew(start_reloading: Start) -> None:
    front = start_reloading(capacities=())
    (first,) = front.reactors
    second = change(front)
    fail(front, first)
    second.ready()
    front.settle()
    assert served_by(second, ask(front))


@pytest.mark.parametrize("accept", ["text/html", "application/xml, Text/HTML;q=0.9", "*/*", ""])
def test_a_failed_start_is_shown_as_html_or_text(start_reloading: Start, accept: str) -> None:
    front = start_reloading()
    fail(front, change(front))
    response = shown(front, *([f"Accept: {accept}"] if accept else []))
    assert response.status == 500
    assert response.field("cache-control") == b"no-store"
    text = response.body.decode()
    if "html" in accept.lower():
        assert response.field("content-type") == b"text/html; charset=utf-8"
        assert b"default-src 'none'" in (response.field("content-security-policy") or b"")
        assert "<script>" not in text
        assert "&lt;script&gt;alert(&quot;ü&quot;)&lt;/script&gt;" in text
        assert "importing web failed: &lt;boom&gt;" in text
    else:
        assert response.field("content-type") == b"text/plain; charset=utf-8"
        assert text == f"{TRACEBACK}\n\nstand:in does not start: importing web failed: <boom>\n"


def test_a_head_request_and_one_with_a_body(start_reloading: Start) -> None:
    front = start_reloading()
    fail(front, change(front), None)
    client = front.connect()
    for request, method in ((get(method="HEAD"), "HEAD"), (post(b"x" * 100), "POST")):
        client.send(request.replace(b"Host: a", b"Host: localhost"))
        front.settle()
        front.pass_time(FAILED_MAX + LATE)
        response = client.response(method)
        assert response.status == 500
        assert bool(response.body) == (method == "POST")


def test_a_request_waits_for_the_next_good_version(start_reloading: Start) -> None:
    front = start_reloading()
    fail(front, change(front))
    client = ask(front)
    good = change(front)
    front.pass_time(FAILED_MAX + LATE)
    assert front.silent(client)
    good.ready()
    front.settle()
    assert served_by(good, client)


def test_a_request_that_waited_sees_the_newest_failure(start_reloading: Start) -> None:
    front = start_reloading()
    fail(front, change(front), "first")
    client = ask(front)
    fail(front, change(front), "second")
    front.pass_time(FAILED_MAX + LATE)
    assert b"second" in client.response().body


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:80",
        "app.localhost:8000",
        "127.0.0.1:8000",
        "127.8.0.1",
        "[::1]:8000",
    ],
)
def test_hosts_that_name_this_machine(start_reloading: Start, host: str) -> None:
    front = start_reloading()
    fail(front, change(front))
    for name in (host, socket.gethostname()):
        client = ask(front, host=name)
        front.pass_time(FAILED_MAX + LATE)
        assert client.response().status == 500


@pytest.mark.parametrize(
    "strange",
    [
        lambda front: ask(front, host="shop.example"),
        lambda front: ask(front, host="localhost.shop.example"),
        lambda front: ask(front, host="127.0.0.1.shop.example"),
        lambda front: ask(front, host="192.0.2.1"),
        lambda front: ask(front, host=""),
        lambda front: ask(front, "Forwarded: for=192.0.2.1"),
        lambda front: ask(front, "X-Forwarded-For: 127.0.0.1"),
        lambda front: ask(front, "x-forwarded-anything: 1"),
        lambda front: ask(front, "Via: 1.1 proxy"),
        lambda front: ask(front, "X-Real-IP: 127.0.0.1"),
        lambda front: ask(front, via=front.unix),
    ],
)
def test_others_are_served_by_the_old_code_and_see_no_traceback(
    start_reloading: Start, strange: Callable[[Front], Client]
) -> None:
    front = start_reloading()
    (old,) = front.reactors
    fail(front, change(front))
    assert served_by(old, strange(front))


def test_an_absolute_target_is_for_another_host(start_reloading: Start) -> None:
    front = start_reloading()
    (old,) = front.reactors
    fail(front, change(front))
    client = front.connect()
    client.send(b"GET http://shop.example/page HTTP/1.1\r\nHost: shop.example\r\n\r\n")
    number, _ = old.request()
    old.reply(number)
    assert client.response().body == b"ok"


def test_without_reload_the_old_code_answers(start: Start) -> None:
    front = start()
    (old,) = front.reactors
    front.signal(signal.SIGHUP)
    front.settle()
    fail(front, front.reactors[1])
    assert served_by(old, ask(front))


def test_a_first_start_that_fails_waits_for_a_change(start_reloading: Start) -> None:
    front = start_reloading(capacities=())
    (first,) = front.reactors
    fail(front, first)
    assert b"boom" in shown(front).body
    assert any("; waiting for a change" in line and TRACEBACK in line for line in front.log)
    # A client from elsewhere waits for the app.
    stranger = ask(front, host="shop.example")
    fail(front, change(front))
    assert any("RELOAD FAILED" in line and "no generation serves" in line for line in front.log)
    good = change(front)
    good.ready()
    front.settle()
    assert served_by(good, stranger)
    assert served_by(good, ask(front))


def test_clients_that_leave_while_they_wait(start_reloading: Start) -> None:
    front = start_reloading()
    new = change(front)
    gone = [ask(front), ask(front)]
    gone[0].close()
    gone[1].finish_sending()
    stays = ask(front)
    front.settle()
    new.ready()
    front.settle()
    assert served_by(new, stays)
    assert new.silent


def test_the_queue_timeout_holds_while_requests_wait(start_reloading: Start) -> None:
    front = start_reloading(queue_timeout=5.0)
    change(front)
    client = ask(front)
    front.pass_time(5 + LATE)
    assert client.response().status == 503


def test_a_stop_during_a_start_answers_the_requests_that_wait(start_reloading: Start) -> None:
    front = start_reloading()
    (old,) = front.reactors
    change(front)
    client = ask(front)
    front.signal(signal.SIGTERM)
    front.settle()
    front.pass_time(LATE)
    assert served_by(old, client)


def test_a_stop_while_no_app_has_started(start_reloading: Start) -> None:
    front = start_reloading(capacities=())
    fail(front, front.reactors[0])
    client = ask(front)
    front.signal(signal.SIGTERM)
    front.settle()
    front.exit(FAILED_MAX + LATE)
    assert client.response().status == 500
