"""What clients can do to the log: neither forge a record, nor act on a terminal, nor fill it."""

from __future__ import annotations

import re
import time

import pytest

from reactor_run.logs import RepeatLimit
from tests.integration.client import Client, request
from tests.integration.conftest import LANES, Config, Start, quick
from tests.integration.waiting import eventually

RUNTIMES = ("trio", "asyncio", "uvloop")
CONFIGS = [
    *(Config("asgi", lanes, runtime=runtime) for lanes in LANES for runtime in RUNTIMES),
    *(Config("wsgi", lanes) for lanes in LANES),
]
HOSTILE = "/%1b%5b2K%0d%0a2026-01-01%2000:00:00%20%5b1%5d%20error%20forged%e2%80%a8x"
RECORD = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4} \[\d+\] [a-z]+ ")


@pytest.mark.parametrize("config", quick(*CONFIGS))
def test_a_client_cannot_write_records_or_fill_the_log(config: Config, start: Start) -> None:
    server = start(f"tests.integration.apps.failing:{config.interface}", *config.options)
    began = time.monotonic()
    with Client(server.address) as client:
        for _ in range(100):
            client.send(request("GET", HOSTILE))
            assert client.response().status == 500
    assert eventually(lambda: server.log().count("the app failed") >= RepeatLimit.BURST)
    server.stop()
    lines = server.log().split("\n")
    assert all(line.isprintable() for line in lines)
    assert all(not line or line.startswith("  ") or RECORD.match(line) for line in lines), lines
    periods = 1 + (time.monotonic() - began) // RepeatLimit.PERIOD
    assert sum("the app failed" in line for line in lines) <= RepeatLimit.BURST * periods
    assert not any(line.startswith("2026-01-01") for line in lines)
