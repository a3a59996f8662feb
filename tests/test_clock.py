"""The Date field of responses is written as by the standard library."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime

from hypothesis import given
from hypothesis import strategies as st

from reactor_run.clock import http_date


@given(st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC)))
def test_dates_are_written_as_by_the_standard_library(moment: datetime) -> None:
    moment = moment.replace(microsecond=0)
    assert http_date(moment.timestamp()) == format_datetime(moment, usegmt=True)
