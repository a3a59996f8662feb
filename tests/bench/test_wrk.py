"""What wrk's script prints, read."""

import pytest

from bench.errors import RunFailed
from bench.load.wrk import parse

RESULT = (
    "Running 2s test @ http://127.0.0.1:8000/\n"
    '  RESULT is what comes last\nRESULT {"requests":101557,"microseconds":2020000,"bytes":1,'
    '"status":7,"connect":0,"read":3,"write":0,"timeout":2,"p50":813,"p99":1080000,'
    '"p99.9":1200000,"max":1300000}\n'
)


def test_reads_rate_percentiles_and_failures():
    result = parse(RESULT, busy=0.5)
    assert result.requests == 101557
    assert result.rate == pytest.approx(50275.7, abs=0.1)
    assert result.latency == {"p50": 0.000813, "p99": 1.08, "p99.9": 1.2, "max": 1.3}
    assert result.failures == {"status": 7, "read": 3, "timeout": 2}
    assert result.busy == 0.5


@pytest.mark.parametrize("text", ["", "unable to connect to 127.0.0.1:8000 Connection refused\n"])
def test_refuses_what_is_no_result(text):
    with pytest.raises(RunFailed):
        parse(text)
