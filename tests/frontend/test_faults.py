"""Unexpected errors: the part that raises one is ended, and the service goes on."""

from __future__ import annotations

from typing import Any

import pytest

from reactor_run.frontend.clients import http1 as client_module
from reactor_run.frontend.clients.requester import Http1Requester
from reactor_run.incoming import Incoming
from reactor_run.protocol.response_head import KnownResponseHeads
from tests.frontend.conftest import Start
from tests.frontend.standin import OK, get


class Bug(Exception):
    """An unexpected error."""


def fail(*_: object, **__: object) -> None:
    raise Bug("unexpected")


def test_a_fault_in_a_client_costs_its_connection(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = start()
    (reactor,) = front.reactors
    client, other = front.connect(), front.connect()
    with monkeypatch.context() as patch:
        patch.setattr(client_module, "parse_request_head", fail)
        client.send(get("/a"))
        front.settle()
        with pytest.raises((ConnectionResetError, AssertionError)):
            assert not client.at_end()
    other.send(get("/b"))
    reactor.reply(reactor.request()[0])
    assert other.response().status == 200
    assert any("internal error" in line for line in front.log)


@pytest.mark.parametrize("broken", ["_split", "receive"])
def test_a_fault_in_a_message_of_a_reactor_costs_the_reactor(
    start: Start, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """receive: also what it sent last cannot be read. Its end is handled all the same."""
    front = start(replay="off")
    (reactor,) = front.reactors
    client = front.connect()
    client.send(get())
    number, _ = reactor.request()
    with monkeypatch.context() as patch:
        assert reactor.inside.express is not None
        where = reactor.inside.express._incoming if broken == "_split" else Incoming
        patch.setattr(where, broken, fail)
        reactor.reply(number)
        reactor.wait_for_end()
    assert client.response().status == 502
    second = front.reactors[-1]
    second.ready()
    client.send(get())
    second.reply(second.request()[0])
    assert client.response().status == 200


def test_a_fault_in_an_answer_costs_its_exchange(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = start(lanes="plain")
    (reactor,) = front.reactors
    client = front.connect()
    client.send(get())
    lane = reactor.lane()
    lane.head()
    with monkeypatch.context() as patch:
        patch.setattr(KnownResponseHeads, "parse", fail)
        lane.send(OK)
        assert client.response().status == 502
    front.settle()
    assert lane.closed
    reactor.drop(lane)
    client.send(get())
    lane = reactor.lane()
    lane.head()
    lane.send(OK)
    assert client.response().status == 200


def test_a_fault_at_a_deadline_costs_no_other_deadline(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = start()
    clients = [front.connect() for _ in range(3)]
    for client in clients:
        client.send(b"GET")
    front.settle()
    reject = Http1Requester.reject
    faults: list[Http1Requester] = []

    def fail_once(self: Http1Requester, rule: object, *arrived: Any, **since: Any) -> None:
        if not faults:
            faults.append(self)
            raise Bug("unexpected")
        reject(self, rule, *arrived, **since)  # type: ignore[arg-type]

    monkeypatch.setattr(Http1Requester, "reject", fail_once)
    front.pass_time(40)
    answered = 0
    for client in clients:
        data = client._sock.recv(65536)
        answered += data.startswith(b"HTTP/1.1 408")
    assert answered == 2


def test_a_fault_in_ending_a_client_stops_its_handler_only(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = start()
    (reactor,) = front.reactors
    client, other = front.connect(), front.connect()
    front.settle()
    with monkeypatch.context() as patch:
        patch.setattr(client_module, "parse_request_head", fail)
        patch.setattr(Http1Requester, "abandon", fail)
        client.send(get("/a"))
        # The loop comes to rest: the handler of this client is gone.
        front.settle()
    other.send(get("/b"))
    reactor.reply(reactor.request()[0])
    assert other.response().status == 200
    for left in list(front.clients):
        front.call(left.connection.close)
