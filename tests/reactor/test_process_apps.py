"""Apps that fail or misbehave: the client's answer, and no effect on other exchanges."""

from __future__ import annotations

from http.client import IncompleteRead

import pytest

from reactor_run.protocol.express import ABORT, ANSWER_DONE, ASK, DONE
from tests.reactor.driver import get

NOT_ERRORS = ["SystemExit", "KeyboardInterrupt", "GeneratorExit"]


# Failing


@pytest.mark.parametrize("where", ["before", "started"])
def test_an_app_that_fails_before_its_answer_is_sent_gives_a_500(asgi, where):
    (number,) = asgi.request(get(f"/fail?where={where}"))
    response = asgi.answer(number)
    assert (response.status, response.text) == (500, "Internal Server Error\n")
    assert asgi.kinds(number) == [ANSWER_DONE]
    assert f"LookupError: failed {where}" in asgi.log()


def test_an_app_that_fails_after_its_answer_keeps_the_answer(asgi):
    (number,) = asgi.request(get("/fail?where=after"))
    assert asgi.answer(number).text == "all"
    asgi.wait_log("LookupError: failed after")


def test_an_app_that_fails_while_it_streams_aborts_its_answer(asgi, key):
    (number,) = asgi.request(get(f"/fail?where=streaming&key={key}"))
    pieces = asgi.relayed(number)
    pieces.read_until(b"a part\r\n")
    key.open(asgi)
    asgi.wait_done(number)
    assert sorted(asgi.kinds(number)) == sorted([ASK, ABORT, DONE])


def test_an_app_that_fails_before_a_part_leaves_gives_a_500(asgi, key):
    """Nothing was sent before the failure, so a 500 can replace the answer."""
    key.open(asgi)
    (number,) = asgi.request(get(f"/cut?how=short&late=1&key={key}"))
    asgi.wait_done(number)
    if asgi.kinds(number) == [ANSWER_DONE]:
        assert asgi.answer(number).status == 500
    else:
        with pytest.raises(IncompleteRead):
            asgi.relayed(number).response()


@pytest.mark.parametrize("how", ["silent", "started", "long", "short"])
def test_an_invalid_answer_becomes_a_500(asgi, key, how):
    (number,) = asgi.request(get(f"/cut?how={how}&key={key}"))
    assert asgi.answer(number).status == 500
    assert asgi.kinds(number) == [ANSWER_DONE]
    if how in ("long", "short"):
        (note,) = key.notes(asgi)
        assert f"{how}er than its Content-Length" in note


def test_a_message_that_breaks_the_content_length_is_not_sent(asgi, key):
    assert asgi.get(f"/mended?key={key}").text == "0123456789"
    notes = asgi.wait(lambda: len(found := key.notes(asgi)) == 2 and found)
    assert "shorter than its Content-Length" in notes[0]
    assert "longer than its Content-Length" in notes[1]


@pytest.mark.parametrize("how", ["long", "short", "unfinished"])
def test_a_streamed_answer_that_breaks_its_length_is_aborted(asgi, key, how):
    (number,) = asgi.request(get(f"/cut?how={how}&late=1&key={key}"))
    pieces = asgi.relayed(number)
    pieces.read_until(b"01234" if how != "unfinished" else b"a part\r\n")
    key.open(asgi)
    asgi.wait_done(number)
    assert sorted(asgi.kinds(number)) == sorted([ASK, ABORT, DONE])


def test_messages_out_of_order_raise_in_the_app_and_change_nothing(asgi, key):
    assert asgi.get(f"/order?key={key}").text == "ordered"
    notes = asgi.wait(lambda: len(found := key.notes(asgi)) == 5 and found)
    for note, expected in zip(
        notes,
        [
            "http.response.start comes first",
            "no message 'http.response.push'",
            "http.response.body comes next",
            "the response is complete",
            "the response is complete",
        ],
        strict=True,
    ):
        assert expected in note


@pytest.mark.parametrize("what", [*NOT_ERRORS, "StopIteration"])
@pytest.mark.parametrize("late", ["", "&late=1"])
def test_an_exception_of_an_app_ends_only_its_exchange(asgi, key, what, late):
    (waiting,) = asgi.request(get(f"/wait?key={key}"))
    assert asgi.get(f"/raise?what={what}{late}").status == 500
    key.open(asgi)
    assert asgi.answer(waiting).text == "waited"
    assert what in asgi.log()


@pytest.mark.parametrize("what", NOT_ERRORS)
def test_an_exception_of_a_wsgi_app_ends_only_its_exchange(wsgi, what):
    raising, other = wsgi.request(get(f"/raise?what={what}"), get("/hello"))
    assert wsgi.answer(raising).status == 500
    assert wsgi.answer(other).text == "hello"
    assert what in wsgi.log()


def test_a_wsgi_app_that_fails_before_its_answer_is_sent_gives_a_500(wsgi):
    (number,) = wsgi.request(get("/fail?where=before"))
    assert wsgi.answer(number).status == 500
    assert wsgi.kinds(number) == [ANSWER_DONE]
    assert "LookupError: failed before" in wsgi.log()


def test_a_wsgi_app_that_fails_while_it_streams_aborts_its_answer(wsgi):
    (number,) = wsgi.request(get("/fail?where=streaming"))
    pieces = wsgi.relayed(number)
    with pytest.raises(IncompleteRead):
        pieces.response()
    wsgi.wait_done(number)


# The wrong runtime


def test_an_app_that_needs_asyncio_gets_a_hint_on_trio(on_trio):
    assert on_trio.get("/asyncio-only").status == 500
    assert "--runtime asyncio" in on_trio.log()


def test_an_app_that_needs_asyncio_runs_on_asyncio(on_asyncio):
    assert on_asyncio.get("/asyncio-only").text == "slept"


# What an app leaves behind


def test_each_exchange_has_its_own_context_variables(asgi):
    for _ in range(3):
        assert asgi.get("/variable").text == "unset set"


def test_each_exchange_of_a_wsgi_app_has_its_own_context_variables(wsgi):
    names = set()
    for _ in range(20):
        before, name = wsgi.get("/variable").text.split()
        assert before == "unset"
        names.add(name)
    assert all(name.startswith(("MainThread", "wsgi-")) for name in names)


@pytest.mark.parametrize("path", ["/leave-scope", "/leave-scope?late=1", "/leave-nursery"])
def test_a_scope_left_open_on_trio_affects_no_other_exchange(on_trio, key, path):
    """Checked for the next exchange in the batch, for waiting exchanges, and for later ones."""
    warning = "left a cancel scope"
    before = on_trio.log().count(warning)
    (waiting,) = on_trio.request(get(f"/wait?key={key}"))
    leaving, behind = on_trio.request(get(path), get(f"/wait?key={key}"))
    assert on_trio.answer(leaving).text.startswith("left")
    on_trio.wait_done(leaving)
    on_trio.wait(lambda: on_trio.log().count(warning) > before)
    assert on_trio.get("/cancel-left").text == "cancelled"
    key.open(on_trio)
    assert on_trio.answer(waiting).text == "waited"
    assert on_trio.answer(behind).text == "waited"
    assert on_trio.get(f"/wait?key={key}").text == "waited"


def test_a_reactor_outlives_an_app_that_cancels_its_tasks(on_trio, key):
    """All suspended apps are cancelled then. Later exchanges are served."""
    (waiting,) = on_trio.request(get(f"/wait?key={key}"))
    (cancelling,) = on_trio.request(get("/cancel-everything"))
    for number in (waiting, cancelling):
        on_trio.wait_done(number)
    assert on_trio.get("/hello").text == "hello"
    lane = on_trio.open_lane()
    assert lane.exchange(get("/variable")).text == "unset set"
    assert "starting new ones" in on_trio.log()


@pytest.mark.parametrize("path", ["/leave-handle", "/leave-handle?late=1"])
def test_a_task_that_an_app_keeps_on_asyncio_affects_no_other_exchange(on_asyncio, key, path):
    (waiting,) = on_asyncio.request(get(f"/wait?key={key}"))
    leaving, behind = on_asyncio.request(get(path), get(f"/wait?key={key}"))
    assert on_asyncio.answer(leaving).text == "left a handle"
    on_asyncio.wait_done(leaving)
    (later,) = on_asyncio.request(get(f"/wait?key={key}"))
    assert on_asyncio.get("/cancel-left").text == "cancelled"
    key.open(on_asyncio)
    for number in (waiting, behind, later):
        assert on_asyncio.answer(number).text == "waited"


@pytest.mark.parametrize("late", ["", "?late=1"])
def test_an_app_that_cancels_its_own_task_affects_no_other_exchange(on_asyncio, key, late):
    (waiting,) = on_asyncio.request(get(f"/wait?key={key}"))
    cancelled, behind = on_asyncio.request(get(f"/cancel-oneself{late}"), get(f"/wait?key={key}"))
    assert on_asyncio.answer(cancelled).text == "cancelled"
    on_asyncio.wait_done(cancelled)
    assert on_asyncio.get("/hello").text == "hello"
    key.open(on_asyncio)
    assert on_asyncio.answer(waiting).text == "waited"
    assert on_asyncio.answer(behind).text == "waited"
    assert "cancelled the reactor's own tasks" not in on_asyncio.log()


# Memory


def test_garbage_collections_skip_objects_of_the_start_up(asgi):
    (number,) = asgi.request(get("/collected"))
    assert asgi.answer(number).text == "[]"
