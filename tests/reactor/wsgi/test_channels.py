"""`wsgi.input` and `write` of a WSGI app after the end of their exchange."""

from __future__ import annotations

import pytest

from reactor_run.protocol.express import ANSWER, ANSWER_DONE, END
from tests.reactor.driver import get, post


def test_a_thread_that_waits_for_the_body_wakes_when_the_exchange_ends(wsgi, key):
    lane = wsgi.open_lane()
    lane.send(get(f"/leave-reader?key={key}", "Content-Length: 100", method="POST") + b"some of it")
    assert lane.response().text == "left"
    assert wsgi.verdict(lane) == "drop"
    assert key.wait_for(wsgi, "OSError") == ["OSError"]
    assert lane.is_hung_up


@pytest.mark.parametrize("way", ["express", "lane"])
def test_a_thread_that_waits_in_write_wakes_when_its_answer_is_aborted(wsgi, key, way):
    if way == "express":
        (number,) = wsgi.request(get(f"/leave-writer?key={key}"))
        wsgi.wait_done(number)
        assert not {ANSWER, ANSWER_DONE, END} & set(wsgi.kinds(number))
    else:
        lane = wsgi.open_lane()
        lane.send(get(f"/leave-writer?key={key}"))
        assert wsgi.verdict(lane) == "drop"
        assert lane.is_hung_up
    assert key.wait_for(wsgi, "OSError") == ["OSError"]


@pytest.mark.parametrize("body", [b"", b"unread"])
def test_kept_channels_raise_after_the_exchange(wsgi, key, body):
    lane = wsgi.open_lane()
    assert lane.exchange(post("/keep-channels", body)).text == "kept"
    assert wsgi.verdict(lane) == ("drop" if body else "done")
    assert wsgi.get(f"/use-channels?key={key}").text == "used"
    assert key.notes(wsgi) == ["OSError" if body else "the end", "ValueError"]


@pytest.mark.parametrize("how", ["list", "iterator", "write"])
def test_a_bytes_subclass_with_a_wrong_len_does_not_break_the_framing(wsgi, how):
    lane = wsgi.open_lane()
    assert lane.exchange(get(f"/odd?how={how}")).text == "odd bytes"
    assert wsgi.verdict(lane) == "done"
    assert lane.exchange(get("/hello")).text == "hello"
    if how == "list":
        assert wsgi.get(f"/odd?how={how}").text == "odd bytes"
    assert wsgi.get("/hello").text == "hello"
