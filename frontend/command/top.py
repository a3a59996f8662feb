"""`reactor-run top`: what a running service does, on a screen that is updated each second.

Without a terminal it prints the report once.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator, Mapping, Sequence
from time import localtime, monotonic, strftime
from typing import Any, Final

from reactor_run.frontend.command.admin_client import NoAnswer, RunningService
from reactor_run.frontend.command.full_screen import FullScreen, has_terminal
from reactor_run.frontend.command.quantities import brief, duration, size
from reactor_run.frontend.errors import OperatorError
from reactor_run.logs import printable

__all__ = ["Screen", "compose", "run_top"]

_EVERY: Final = 1.0
"""Seconds between two reports."""
_LOOK: Final = 0.25
"""Seconds between two looks at the size of the terminal."""
_PLAIN_WIDTH: Final = 1000
_PLAIN_LINES: Final = 1000
"""Bounds of what is printed without a terminal."""
_REACTORS: Final = "REACTOR       PROCESS  STATE            IN FLIGHT    CPU      MEMORY  AGE"
_RUNNING: Final = "RUNNING, THE LONGEST FIRST"
_ERRORS: Final = "LAST ERRORS"

Report = Mapping[str, Any]


class Screen:
    """Lines, and the indices of those that are titles."""

    def __init__(self, width: int) -> None:
        self.lines: list[str] = []
        self.titles: list[int] = []
        self._width = width

    def add(self, line: str) -> None:
        """Add a line, as far as it fits. It can hold text of clients."""
        self.lines.append(printable(line)[: self._width].rstrip())

    def add_title(self, line: str) -> None:
        """Add a title."""
        self.titles.append(len(self.lines))
        self.add(line)


def run_top(service: RunningService) -> int:
    """Show the reports of a service until a key ends that; return the exit status.

    Raises OperatorError and NoAnswer if there is no report at all.
    """
    report = _report(service)
    if not has_terminal():
        print("\n".join(compose(report, None, _PLAIN_WIDTH, _PLAIN_LINES).lines))
        return 0
    # The command line is read without garbage collection, and this may run for days.
    gc.enable()
    with FullScreen() as terminal:
        try:
            _watch(service, report, terminal)
        except KeyboardInterrupt:
            pass
    return 0


def _report(service: RunningService) -> Report:
    """Return the report. Raises NoAnswer and OperatorError."""
    report: Report = json.loads(service.ask("GET", "/status"))
    if "recent" not in report:
        raise NoAnswer("the service is of an older version; use `reactor-run status`")
    return report


def _watch(service: RunningService, report: Report, terminal: FullScreen) -> None:
    """Show reports until q, Ctrl-D or the end of all input."""
    before: Report | None = None
    trouble = ""
    due = monotonic() + _EVERY
    shown: object = None
    while True:
        columns, rows = terminal.size
        if shown != (report, trouble, columns, rows):
            shown = (report, trouble, columns, rows)
            screen = compose(report, before, columns, rows, trouble)
            terminal.show(screen.lines, screen.titles)
        key = terminal.key(max(0.0, min(_LOOK, due - monotonic())))
        if key in ("q", "Q", "\x04", ""):
            return
        if monotonic() >= due:
            try:
                new = _report(service)
                before, report, trouble = report, new, ""
            except (NoAnswer, OperatorError) as error:
                trouble = str(error)
            due = monotonic() + _EVERY


# What the screen shows ---------------------------------------------------------------------------


def compose(
    report: Report, before: Report | None, width: int, height: int, trouble: str = ""
) -> Screen:
    """Return at most `height` lines of at most `width` characters about a report.

    `before`: the last report; None: there is none, and CPU is the mean since the start. `trouble`:
    why there is no newer report.
    """
    screen = Screen(width)
    for line in _summary(report, before, trouble):
        screen.add(line)
    reactors = list(_reactors(report, before))
    running = list(_running(report))
    errors = list(_errors(report))
    # Three titles, and an empty line before each.
    room = max(0, height - len(screen.lines) - 6)
    shares = _shares([len(reactors), len(running), len(errors)], room)
    for title, lines, share in zip(
        (_REACTORS, _RUNNING, _ERRORS), (reactors, running, errors), shares, strict=True
    ):
        screen.add("")
        screen.add_title(title)
        for line in _at_most(lines, share):
            screen.add(line)
    del screen.lines[height:]
    return screen


def _shares(wanted: Sequence[int], room: int) -> list[int]:
    """Divide `room` lines among sections, each of which gets at most what it wants.

    Lines go round, so that a short section leaves its rest to the others.
    """
    shares = [0] * len(wanted)
    while room and shares != list(wanted):
        for index, want in enumerate(wanted):
            if room and shares[index] < want:
                shares[index] += 1
                room -= 1
    return shares


def _at_most(lines: Sequence[str], count: int) -> Iterator[str]:
    """Yield the lines, or the first ones and how many more there are."""
    if len(lines) <= count:
        yield from lines
    elif count:
        yield from lines[: count - 1]
        yield f"and {len(lines) - count + 1} more"


def _summary(report: Report, before: Report | None, trouble: str) -> Iterator[str]:
    counters, recent, queue = report["counters"], report["recent"], report["queue"]
    connections, answers = report["connections"], counters["answers"]
    reactors = report["reactors"]
    websockets = sum(reactor.get("websockets", 0) for reactor in reactors)
    state = trouble or report["reason"] or "ready"
    names = ", ".join(app["app"] for app in report.get("apps", ())) or report["app"]
    yield f"{strftime('%H:%M:%S', localtime())}  {names}: {state}"
    yield (
        f"requests/s {recent['requests_per_second']:g}   p50 {brief(recent['p50'])}   "
        f"p99 {brief(recent['p99'])}   queue {queue['waiting']} of {queue['size']}   "
        f"in flight {sum(reactor['in_flight'] for reactor in reactors)}"
        + (f"   WebSockets {websockets}" if websockets else "")
    )
    yield (
        f"connections {connections['open']} of {connections['max']}   requests "
        f"{counters['requests']}   4xx {answers['4xx']}   5xx {answers['5xx']}   "
        f"reactors died {counters['reactor_deaths']}"
    )
    if report["reloading"]:
        reloads = "reloading"
    elif report["reload_failure"]:
        reloads = "the last reload failed: see the log"
    else:
        reloads = f"reloads {counters['reloads']}, {counters['reload_failures']} failed"
    yield (
        f"front end {report['pid']}: CPU {_cpu(report, before, report)}, {size(report['rss'])}, "
        f"up {duration(report['uptime'])}"
    )
    # A service of an older version does not report these.
    apps = [app for app in report.get("apps", ()) if "recent" in app]
    if len(apps) < 2:
        yield f"generation {report['generation']}   {reloads}"
        return
    yield reloads
    for app in apps:
        yield _app(app)


def _app(app: Report) -> str:
    recent = app["recent"]
    state = "did not start" if app["failed"] else f"generation {app['generation']}"
    if app["maintenance"] is not None:
        state += ", maintenance"
    if app["reloading"]:
        state += ", reloading"
    return (
        f"{app['name']}: {state}   requests/s {recent['requests_per_second']:g}   "
        f"p99 {brief(recent['p99'])}   queue {app['queue']['waiting']}   "
        f"5xx {app['requests']['5xx']}   reactors died {app['reactor_deaths']}"
    )


def _cpu(process: Report, before: Report | None, report: Report) -> str:
    """Return the share of one CPU that a process used since `before`, or since its start."""
    used, lived = process["cpu"], process.get("age", report["uptime"])
    if before is not None:
        for old in (before, *before["reactors"]):
            if old["pid"] == process["pid"]:
                used -= old["cpu"]
                lived = report["uptime"] - before["uptime"]
    return f"{100 * used / lived:.0f} %" if lived > 0 else "-"


def _reactors(report: Report, before: Report | None) -> Iterator[str]:
    for each in report["reactors"]:
        state = f"stalls, {brief(each['step'])}" if each["step"] >= 1 else each["state"]
        busy = f"{each['in_flight']}/{each['capacity']}"
        yield (
            f"{each['name']:<13} {each['pid']:<8} {state:<15} {busy:>10} "
            f"{_cpu(each, before, report):>6}  {size(each['rss']):>10}  {duration(each['age'])}"
        )


def _running(report: Report) -> Iterator[str]:
    runs = [
        (run["seconds"], each["name"], run["request"])
        for each in report["reactors"]
        for run in each["runs"]
    ]
    for seconds, name, request in sorted(runs, key=lambda run: -run[0]):
        yield f"{brief(seconds):>11}  {name:<13} {request}"


def _errors(report: Report) -> Iterator[str]:
    for each in report["errors"]:
        when = strftime("%H:%M:%S", localtime(each["time"]))
        yield (
            f"{when}  {each['status'] or '-':<4} {each['reactor'] or '-':<13} {each['why']}: "
            f"{each['request']}"
        )
