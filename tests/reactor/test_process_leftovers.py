"""An exchange that has ended leaves nothing in its task and nothing in memory."""

from __future__ import annotations

import json

import pytest

from tests.reactor.conftest import RUNTIMES
from tests.reactor.driver import get, post


@pytest.mark.parametrize("how", ["weak", "key", "name"])
@pytest.mark.parametrize("late", ["", "&late=1"])
def test_data_of_a_task_reaches_no_other_exchange(asgi, key, how, late):
    """Checked alone, before another exchange of the batch, and on a lane."""
    path = f"/task-state?key={key}&how={how}{late}"
    nothing = [None, None, None]
    for _ in range(3):
        for number in asgi.request(*[get(path)] * 3):
            assert json.loads(asgi.answer(number).body) == nothing
        assert json.loads(asgi.open_lane().exchange(get(path)).body) == nothing


@pytest.mark.parametrize("late", ["", "&late=1"])
def test_a_done_callback_of_a_task_on_asyncio_is_called(on_asyncio, key, late):
    path = f"/task-state?key={key}&how=callback{late}"
    for number in on_asyncio.request(*[get(path)] * 20):
        on_asyncio.answer(number)
    on_asyncio.wait(lambda: on_asyncio.get(f"/called?key={key}").text == "20")


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("way", ["express", "lane"])
def test_an_idle_asgi_reactor_frees_its_last_request(start, key, runtime, way):
    """No garbage collection runs here, because in practice the next one may be hours away."""
    driver = start("driven_asgi:app", "--runtime", runtime)
    for number, options in enumerate(["", "&late=1", "&fail=1", "&fail=1&late=1"]):
        request = get(f"/precious?key={key}-{number}{options}")
        if way == "express":
            driver.request(request)
        else:
            driver.open_lane().send(request)
        driver.wait_log(f"{key}-{number} is gone")


@pytest.mark.parametrize("threads", ["1", "2"])
@pytest.mark.parametrize("way", ["express", "lane"])
def test_an_idle_wsgi_reactor_frees_its_last_request(start, key, threads, way):
    driver = start("driven_wsgi:app", "--threads", threads)
    for number, options in enumerate(["", "&fail=1"]):
        request = post(f"/precious?key={key}-{number}{options}", b"body")
        if way == "express":
            driver.request(request)
        else:
            driver.open_lane().send(request)
        driver.wait_log(f"{key}-{number} is gone")
