"""The lines of `reactor-run top`, for reports of any size."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from reactor_run.frontend.command.top import compose


def report(reactors: int = 2, runs: int = 1, errors: int = 3) -> dict[str, Any]:
    return {
        "app": "shop:app",
        "pid": 10,
        "rss": 30 << 20,
        "cpu": 4.0,
        "uptime": 100.0,
        "generation": 3,
        "reloading": False,
        "reload_failure": None,
        "reason": None,
        "reactors": [
            {
                "name": f"reactor {number + 1}",
                "pid": 100 + number,
                "state": "ready",
                "in_flight": runs,
                "capacity": 1000,
                "age": 50.0,
                "rss": 60 << 20,
                "cpu": 10.0,
                "step": 0.0,
                "runs": [
                    {"request": f"GET /{number}/{run}", "seconds": 1.0 + number + run}
                    for run in range(runs)
                ],
            }
            for number in range(reactors)
        ],
        "queue": {"waiting": 1, "size": 1024},
        "connections": {"open": 5, "max": 1000},
        "recent": {"seconds": 10.0, "requests_per_second": 123.4, "p50": 0.0021, "p99": None},
        "errors": [
            {
                "time": 0.0,
                "request": f"GET /{number}",
                "status": 500,
                "why": "response of the app",
                "reactor": "reactor 1",
            }
            for number in range(errors)
        ],
        "counters": {
            "requests": 7,
            "answers": {"4xx": 1, "5xx": 2},
            "reactor_deaths": 0,
            "reloads": 2,
            "reload_failures": 1,
        },
    }


@pytest.mark.parametrize("width", [20, 80, 200])
@pytest.mark.parametrize("height", [1, 5, 12, 24, 60])
@pytest.mark.parametrize("size", [(0, 0, 0), (1, 0, 0), (2, 1, 3), (64, 5, 20)])
def test_the_lines_fit_the_terminal(width: int, height: int, size: tuple[int, int, int]) -> None:
    screen = compose(report(*size), None, width, height)
    assert len(screen.lines) <= height
    assert max(map(len, screen.lines)) <= width


def app(name: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "app": f"shop.{name}:app",
        "generation": 1,
        "failed": False,
        "maintenance": None,
        "reloading": False,
        "recent": {"seconds": 10.0, "requests_per_second": 12.5, "p50": 0.001, "p99": 0.25},
        "queue": {"waiting": 3, "size": 1024},
        "requests": {"5xx": 4},
        "reactor_deaths": 2,
        **more,
    }


def test_several_apps_have_a_line_each() -> None:
    apps = [app("web"), app("api", failed=True), app("live", maintenance="", reloading=True)]
    lines = compose(report(1, 0, 0) | {"apps": apps}, None, 120, 24).lines
    assert "shop.web:app, shop.api:app, shop.live:app: ready" in lines[0]
    assert "web: generation 1   requests/s 12.5   p99 250 ms   queue 3   5xx 4" in lines[5]
    assert lines[6].startswith("api: did not start   requests/s")
    assert lines[7].startswith("live: generation 1, maintenance, reloading   requests/s")


def test_each_section_has_room_at_80_times_24() -> None:
    lines = compose(report(16, 5, 20), None, 80, 24).lines
    assert len(lines) == 24
    text = "\n".join(lines)
    for part in "reactor 1 ", "GET /15/4", "GET /0":
        assert part in text
    assert text.count(" more") == 3


def test_the_longest_requests_come_first() -> None:
    lines = compose(report(3, 2), None, 80, 40).lines
    requests = [line.split()[-1] for line in lines if "GET" in line and "app" not in line]
    assert requests[0] == "/2/1"
    assert requests[-1] == "/0/0"


def test_cpu_is_that_since_the_last_report() -> None:
    before = report()
    now = copy.deepcopy(before)
    assert " 20 %" in compose(now, None, 80, 24).lines[8]
    now["uptime"] += 2.0
    now["reactors"][0]["cpu"] += 1.0
    lines = compose(now, before, 80, 24).lines
    assert " 50 %" in lines[7]
    assert " 0 %" in lines[8]
    assert "CPU 0 %" in lines[3]


def test_what_is_wrong_is_said() -> None:
    told = report()
    told |= {"reason": "the service is stopping", "reload_failure": "importing shop failed: key 1"}
    told["reactors"][1]["step"] = 12.34
    lines = compose(told, None, 80, 24).lines
    assert lines[0].endswith("shop:app: the service is stopping")
    assert lines[4].endswith("the last reload failed: see the log")
    assert "stalls, 12.3 s" in lines[8]
    assert compose(told, None, 80, 24, "no service listens").lines[0].endswith("no service listens")


def test_no_control_byte_of_a_report_reaches_the_terminal() -> None:
    told = report()
    told["reactors"][0]["runs"][0]["request"] = "GET /\x1b]0;title\x07\u202e\r\n"
    told["errors"][0]["why"] = "\x9b31m"
    told["app"] = "shop\n:app"
    text = "".join(compose(told, None, 200, 50).lines)
    assert text.isprintable()
    assert "GET /\\x1b]0;title\\x07\\u202e" in text


def test_websockets_are_counted_if_there_are_any() -> None:
    now = report()
    assert "WebSockets" not in "\n".join(map(str, compose(now, None, 100, 30).lines))
    for each in now["reactors"]:
        each["websockets"] = 3
    assert "WebSockets 6" in "\n".join(map(str, compose(now, None, 100, 30).lines))
