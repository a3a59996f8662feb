"""What wrk prints, read."""

import pytest

from bench.errors import RunFailed
from bench.wrk import parse

CLEAN = """Running 2s test @ http://127.0.0.1:8000/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.48ms    2.26ms   1.36s    87.29%
    Req/Sec    50.53k     3.76k   61.53k    80.00%
  Latency Distribution
     50%  813.00us
     75%    1.92ms
     90%    4.31ms
     99%    1.08s
  101557 requests in 2.02s, 7.26MB read
Requests/sec:  50459.71
Transfer/sec:      3.15MB
"""

WITH_ERRORS = CLEAN.replace(
    "Requests/sec:",
    "  Socket errors: connect 0, read 3, write 0, timeout 2\n"
    "  Non-2xx or 3xx responses: 7\n"
    "Requests/sec:",
)


def test_reads_rate_and_percentiles():
    result = parse(CLEAN)
    assert result.requests == 101557
    assert result.rate == 50459.71
    assert result.percentiles == {50: 813, 75: 1920, 90: 4310, 99: pytest.approx(1_080_000)}
    assert result.errors == 0


def test_counts_every_error():
    result = parse(WITH_ERRORS)
    assert result.non_2xx == 7
    assert result.socket_errors == {"connect": 0, "read": 3, "write": 0, "timeout": 2}
    assert result.errors == 12


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unable to connect to 127.0.0.1:8000 Connection refused\n",
        CLEAN.replace("     99%    1.08s\n", ""),
    ],
)
def test_refuses_what_is_no_result(text):
    with pytest.raises(RunFailed):
        parse(text)
