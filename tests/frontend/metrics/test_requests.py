"""What is counted of the requests that have ended."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from reactor_run.frontend.exchanges.record import CLIENT_LEFT, Record, UnparsedHead
from reactor_run.frontend.loop.epoll import Loop
from reactor_run.frontend.metrics import failures
from reactor_run.frontend.metrics.histogram import BOUNDS, Histogram, quantile
from reactor_run.frontend.metrics.recent import Recent
from reactor_run.frontend.metrics.requests import METHODS, RequestMetrics
from reactor_run.protocol.policy import Limits
from reactor_run.protocol.request import parse_request_head

CLOCK = SimpleNamespace(now=100.0)


def metrics() -> RequestMetrics:
    return RequestMetrics(cast(Loop, CLOCK))


def record(
    method: str = "GET",
    path: str = "/",
    *,
    status: str = "200",
    took: float = 0.02,
    waited: float = 0.0,
    began: float = 0.0,
    **facts: Any,
) -> Record:
    head = parse_request_head(f"{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode(), Limits())
    assert head is not None
    made = Record(cast(Any, None), head, 100, 50.0)
    made.dispatched = 50.0 + waited
    made.ended = 50.0 + took
    made.answer_began = 50.0 + began if began else 0.0
    made.status_code = status.encode()
    made.bytes_out = 200
    for name, value in facts.items():
        setattr(made, name, value)
    return made


def requests(counted: RequestMetrics) -> dict[tuple[str, str], int]:
    return {(method, name): n for method, name, n in counted.by_method_and_status() if n}


def buckets(histogram: Histogram) -> dict[float, int]:
    """Return the buckets that are not empty, by their bounds."""
    bounds = (*BOUNDS, float("inf"))
    return {bound: n for bound, n in zip(bounds, histogram.counts, strict=True) if n}


def test_requests_are_counted_by_method_and_class() -> None:
    counted = metrics()
    counted.ended([record(), record(status="204"), record("POST", status="404")])
    counted.ended([record("PURGE"), record("GET", status="", error=CLIENT_LEFT)])
    assert requests(counted) == {
        ("GET", "2xx"): 2,
        ("POST", "4xx"): 1,
        ("other", "2xx"): 1,
        ("GET", "none"): 1,
    }
    assert (counted.bytes_in, counted.bytes_out) == (500, 1000)


def test_methods_that_clients_invent_take_no_memory() -> None:
    counted = metrics()
    counted.ended([record("A" * 3 + chr(65 + letter)) for letter in range(26)])
    assert requests(counted) == {("other", "2xx"): 26}
    assert len(list(counted.by_method_and_status())) == (len(METHODS) + 1) * 6


def test_a_request_that_could_not_be_parsed_has_no_method_of_its_own() -> None:
    counted = metrics()
    unparsed = Record(cast(Any, None), UnparsedHead(b"\x16\x03\x01\x02"), 4, 50.0)
    unparsed.ended, unparsed.status_code, unparsed.rule = 50.0, b"400", "request-malformed"
    counted.ended([unparsed])
    assert requests(counted) == {("other", "4xx"): 1}
    # No reactor had it, so it did not wait for one.
    assert sum(counted.queue.counts) == 0


def test_durations_of_whole_answers_and_of_answers_in_pieces() -> None:
    counted = metrics()
    counted.ended([record(took=0.02), record(took=0.7, began=0.004), record(took=100.0)])
    assert buckets(counted.duration) == {0.025: 1, 1.0: 1, float("inf"): 1}
    assert buckets(counted.first_byte) == {0.025: 1, 0.005: 1, float("inf"): 1}
    assert counted.duration.total == pytest.approx(100.72)
    assert counted.first_byte.total == pytest.approx(100.024)


def test_a_client_that_leaves_before_its_answer_has_no_duration() -> None:
    counted = metrics()
    counted.ended([record(status="", took=30.0)])
    assert buckets(counted.duration) == buckets(counted.first_byte) == {}


def test_the_time_in_the_queue() -> None:
    counted = metrics()
    counted.ended([record(), record(waited=0.2), record(dispatched=0.0, status="503")])
    # A body that was collected first does not count as a wait for a reactor.
    counted.ended([record(waited=3.0, collected=53.0)])
    assert buckets(counted.queue) == {BOUNDS[0]: 2, 0.25: 1}
    assert counted.queue.total == pytest.approx(0.2)


# Failures


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (record(status="500"), "response of the app"),
        (record(status="503", error="Service Unavailable"), "Service Unavailable"),
        (record(status="400", rule="target"), "target"),
        (record(began=0.01, error="Bad Gateway"), "Bad Gateway"),
        (record(), None),
        (record(status="404"), None),
        (record(began=0.01, error=CLIENT_LEFT), None),
        (record(status="", error=CLIENT_LEFT), None),
    ],
)
def test_what_is_a_failure(made: Record, why: str | None) -> None:
    counted = metrics()
    counted.ended([made])
    assert [failure.why for failure in counted.failures] == ([] if why is None else [why])


def test_a_failure_has_no_query_and_no_control_bytes() -> None:
    counted = metrics()
    counted.ended([record("POST", "/pay%1b?card=4111", status="500", request_id="7")])
    (failure,) = counted.failures
    assert (failure.name, failure.status, failure.reactor) == ("POST /pay%1b", 500, "")
    assert time.time() - 60 < failure.when <= time.time()


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (b"GET /a?card=4111\x1b HTTP/1.1", "GET /a"),
        (b"GET /<\x1b> HTTP/1.1", "GET /<\\x1b>"),
        (b"\x16\x03\x01", " "),
        (b"GET  /?card=4111", "GET "),
    ],
)
def test_a_failure_before_the_parse_has_the_path_as_far_as_it_is_known(
    line: bytes, name: str
) -> None:
    unparsed = Record(cast(Any, None), UnparsedHead(line + b"\r\n"), 4, 50.0)
    unparsed.ended, unparsed.status_code, unparsed.rule = 50.0, b"400", "target-character"
    counted = metrics()
    counted.ended([unparsed])
    assert counted.failures[0].name == name


def test_few_failures_are_kept_the_newest_first() -> None:
    counted = metrics()
    for number in range(failures.KEPT + 5):
        counted.ended([record(path=f"/{number}", status="500")])
    names = [failure.name for failure in counted.failures]
    assert (len(names), names[0]) == (failures.KEPT, f"GET /{failures.KEPT + 4}")


# The last seconds


def test_quantiles_are_estimated_within_a_bucket() -> None:
    histogram = Histogram()
    assert quantile(0.5, histogram.counts) is None
    for seconds in (0.011, 0.012, 0.013, 0.2):
        histogram.observe(seconds)
    assert quantile(0.5, histogram.counts) == pytest.approx(0.01 + 0.015 * 2 / 3)
    assert quantile(0.99, histogram.counts) == pytest.approx(0.1 + 0.15 * 0.96)
    histogram.observe(1000.0)
    assert quantile(1.0, histogram.counts) == BOUNDS[-1]


def rate_after(turns: list[tuple[float, int]], now: float) -> float:
    """Return the rate at `now`, after so many requests at each of these times."""
    recent = Recent(0.0)
    counts, ended = [0] * (len(BOUNDS) + 1), 0
    for when, count in turns:
        if when >= recent.due:
            recent.keep(when, ended, counts)
        ended += count
        counts[4] += count
    return recent.figures(now, ended, counts).requests_per_second


def test_the_rate_is_that_of_the_last_ten_seconds() -> None:
    steady = [(tick / 10, 5) for tick in range(600)]
    assert rate_after(steady, 60.0) == pytest.approx(50, rel=0.02)
    # The service has just begun, or requests have just begun or ended.
    assert rate_after(steady[:30], 3.0) == pytest.approx(50, rel=0.02)
    assert rate_after([(100.0, 40)], 101.0) == 4.0
    assert rate_after(steady, 65.0) == pytest.approx(25, rel=0.1)
    assert rate_after(steady, 71.1) == 0.0
    assert rate_after([], 1.0) == 0.0


def test_the_quantiles_are_those_of_the_last_ten_seconds() -> None:
    recent = Recent(0.0)
    histogram = Histogram()
    for when, seconds in [(0.0, 5.0), (1.5, 5.0), (20.0, 0.0004), (20.5, 0.0004)]:
        if when >= recent.due:
            recent.keep(when, sum(histogram.counts), histogram.counts)
        histogram.observe(seconds)
    figures = recent.figures(21.0, 4, histogram.counts)
    assert figures.p99 is not None
    assert figures.p99 < 0.0005
    assert recent.figures(40.0, 4, histogram.counts).p99 is None


def test_requests_that_are_alike_are_counted_together_and_no_others() -> None:
    """Each order of these gives the same totals as one turn for each of them."""
    different = [
        record(),
        record("POST"),
        record(status="302"),
        record(status="404"),
        record(status="500"),
        record(status="", error=CLIENT_LEFT),
        record(waited=0.01),
        record(dispatched=0.0),
        record(took=0.4),
        record(began=0.01),
        record(arrived=49.0, dispatched=49.0),
    ]
    one_by_one = metrics()
    for each in different * 3:
        one_by_one.ended([each])
    for turn in (different * 3, [each for each in different for _ in range(3)]):
        together = metrics()
        together.ended(turn)
        assert requests(together) == requests(one_by_one)
        for name in ("duration", "first_byte", "queue"):
            one, other = getattr(together, name), getattr(one_by_one, name)
            assert one.counts == other.counts
            assert one.total == pytest.approx(other.total)
        assert together.bytes_in == one_by_one.bytes_in == 100 * 33
        assert len(together.failures) == len(one_by_one.failures) == 3
