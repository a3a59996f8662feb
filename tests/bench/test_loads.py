"""The generators against a small local server: schedules, latency from the due time, outcomes."""

import gc
import socket
import time

import pytest

from bench.errors import RunFailed
from bench.load import drip, events, idle, steady, transfer
from bench.load import open as open_loop
from bench.load.answers import Answer, Answers, Outcome, percentile
from bench.load.client import request
from tests.bench.tiny import tiny


@pytest.fixture
def server():
    with tiny() as found:
        yield found


def one(address, path, timeout=10.0):
    """How a single request ends."""
    answers = open_loop.run(
        address, [(0.0, "one")], {"one": request(path)}, 0.01, connections=0, timeout=timeout
    )
    (answer,) = answers.all
    return answer.outcome


@pytest.mark.parametrize(
    ("path", "outcome"),
    [
        ("/", Outcome.OK),
        ("/chunked", Outcome.OK),
        ("/until-close", Outcome.OK),
        ("/busy", Outcome.REFUSED),
        ("/bare", Outcome.BARE_503),
        ("/wrong", Outcome.STATUS),
        ("/garbled", Outcome.GARBLED),
        ("/reset", Outcome.RESET),
        ("/closed", Outcome.CLOSED),
        ("/cut", Outcome.CUT),
    ],
)
def test_every_end_of_a_request_has_its_name(server, path, outcome):
    assert one(server.address, path) is outcome


def test_no_answer_in_time_is_a_timeout_that_counts_with_its_latency(server):
    answers = open_loop.run(
        server.address,
        [(0.0, "one")],
        {"one": request("/sleep/30")},
        0.01,
        connections=0,
        timeout=0.2,
    )
    assert answers.outcomes() == {"no answer in time": 1}
    assert answers.percentiles()["p99"] >= 0.2


def test_nobody_there_is_a_refused_connection():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    assert one(address, "/") is Outcome.CONNECT


def test_arrivals_are_the_same_for_every_server_and_as_many_as_asked_for():
    arrivals = open_loop.poisson(1000, 10, seed=3)
    assert arrivals == open_loop.poisson(1000, 10, seed=3) != open_loop.poisson(1000, 10, seed=4)
    assert arrivals == sorted(arrivals)
    assert len(arrivals) == pytest.approx(10_000, rel=0.05)
    assert arrivals[-1] < 10
    kinds = [kind for _, kind in open_loop.mixed(arrivals, 0.05, seed=3)]
    assert kinds.count("slow") == pytest.approx(500, rel=0.3)


def test_the_open_loop_sends_all_that_is_due_and_reuses_connections(server):
    arrivals = [(number / 1000, "get") for number in range(300)]
    answers = open_loop.run(
        server.address, arrivals, {"get": request("/")}, 0.3, connections=8, timeout=20
    )
    assert answers.outcomes() == {"answered": 300}
    assert server.requests == 300 + 8, "one more on each connection beforehand"
    assert server.connections < 300
    assert [a.due - answers.begin for a in answers.all] == pytest.approx([w for w, _ in arrivals])
    assert all(answer.noticed >= answer.due for answer in answers.all)


def test_the_open_loop_does_not_wait_for_a_server_that_stalls(server):
    arrivals = [(number / 100, "get") for number in range(40)]

    def stall():
        server.pause_until = time.monotonic() + 0.5

    answers = open_loop.run(
        server.address, arrivals, {"get": request("/")}, 0.4, events=[(0.0, stall)], timeout=20
    )
    assert answers.failed() == 0
    assert answers.answered_in_time() == 0
    # Whoever was due early has waited for nearly all of the stall, and nobody was left out.
    assert len(answers.all) == 40
    assert answers.all[0].latency > 0.4
    assert answers.percentiles()["p50"] > 0.2


def test_the_generator_tells_when_it_was_late_itself(server):
    arrivals = [(number / 100, "get") for number in range(20)]
    answers = open_loop.run(
        server.address,
        arrivals,
        {"get": request("/")},
        0.2,
        events=[(0.05, lambda: time.sleep(0.3))],
        timeout=20,
    )
    assert answers.late() > 0.1
    assert answers.percentiles()["max"] > 0.2, "counts from when it was due, not from when it went"
    assert answers.remarks == ["the generator came to 1 % of the requests more than 5 ms too late"]


def test_garbage_collection_goes_on_after_a_run(server):
    assert gc.isenabled()
    one(server.address, "/")
    assert gc.isenabled()


def test_fast_clients_keep_their_schedule_and_slow_ones_ask_without_pause(server):
    answers = steady.run(
        server.address,
        request("/"),
        request("/sleep/0.05"),
        0.48,
        fast_clients=4,
        slow_clients=2,
        period=0.1,
        timeout=20,
    )
    assert answers.failed() == 0
    fast = [answer for answer in answers.all if answer.kind == "fast"]
    # A busy machine may leave no time for the last ones.
    assert 4 * 2 <= len(fast) <= 4 * 5
    slow = [answer for answer in answers.all if answer.kind == "slow"]
    assert 2 <= len(slow) <= 2 * 10
    assert all(answer.latency >= 0.05 for answer in slow)
    assert server.connections == 6


def test_what_a_fast_client_had_to_wait_for_its_own_connection_counts(server):
    answers = steady.run(
        server.address,
        request("/sleep/0.2"),
        request("/"),
        0.35,
        fast_clients=1,
        slow_clients=0,
        period=0.1,
        timeout=20,
    )
    latencies = [answer.latency for answer in answers.all]
    assert len(latencies) == 4
    # Each takes 0.2 s and is due 0.1 s after the last: every one waits 0.1 s longer.
    assert all(late >= 0.19 + 0.1 * number for number, late in enumerate(latencies))


def test_idle_connections_have_been_answered_and_stay(server):
    with idle.idle(server.address, 250) as socks:
        assert len(socks) == 250
        assert server.requests == 250
        assert idle.still_open(socks) == 250
        assert {sock.getsockname()[0] for sock in socks} == {"127.0.0.2"}


def test_a_server_that_closes_idle_connections_does_not_keep_them(server, monkeypatch):
    monkeypatch.setattr(idle, "request", lambda path: request("/until-close"))
    with pytest.raises(RunFailed, match="closed"), idle.idle(server.address, 3):
        pass


def test_slow_clients_move_bytes_and_are_replaced_when_given_up(server):
    slow = drip.Drip(server.address, "head")
    slow.open(3)
    slow.turn()
    assert slow.given_up == 0
    for sock in slow.socks:
        sock.shutdown(socket.SHUT_RDWR)
    slow.turn()
    assert slow.given_up == 3
    for sock in slow.socks:
        sock.close()


def test_events_that_come_are_timed_and_those_that_do_not_are_lost(server):
    seen = events.run(server.address, 5, 1.0, ramp=0.1)
    assert (seen.connected, seen.ended) == (5, 0)
    assert seen.expected == 5
    assert len(seen.lateness) == 5
    assert seen.lost == 0
    assert all(late >= 0 for late in seen.lateness)
    seen.lateness.pop()
    assert seen.lost == 1


@pytest.mark.parametrize("size", [0, 1, 3 * transfer.CHUNK + 5])
def test_a_transfer_is_whole_or_fails(server, size):
    assert transfer.down(server.address, size).size == size
    assert transfer.up(server.address, size).size == size


def test_a_transfer_that_is_cut_or_refused_fails(server):
    server.cuts = True
    with pytest.raises(RunFailed, match="cut with 1 bytes"):
        transfer.down(server.address, 1000)
    with pytest.raises(RunFailed, match="answered 200"):
        transfer.up(server.address, 1000)


def test_percentiles_are_values_that_occurred():
    values = [float(number) for number in range(1, 1001)]
    assert percentile(values, 0.5) == 500
    assert percentile(values, 0.99) == 990
    assert percentile(values, 0.999) == 999
    assert percentile(values, 1.0) == 1000
    assert percentile([7.0], 0.99) == 7


def test_what_is_left_at_the_end_is_given_up_and_refusals_have_no_latency():
    answers = Answers(0.0, 1.0)
    answers.all = [
        Answer("a", 0.1, 0.1, 0.2, Outcome.OK),
        Answer("a", 0.1, 0.1, 0.15, Outcome.REFUSED),
        Answer("b", 0.2, 0.2, 1.5, Outcome.OK),
        Answer("b", 0.3, 0.3),
    ]
    answers.finish()
    assert answers.outcomes() == {
        "answered": 2,
        "503 with Retry-After": 1,
        "no answer in time": 1,
    }
    assert answers.failed() == 2
    assert answers.failed("a") == 1
    assert answers.answered_in_time() == 1
    assert answers.latencies("a") == pytest.approx([0.1])
    assert len(answers.latencies("b")) == 2
    both = Answers.together([answers, Answers(2.0, 3.0, [Answer("a", 2, 2, 2.1, Outcome.OK)])])
    assert (len(both.all), both.begin, both.end) == (5, 0.0, 3.0)
