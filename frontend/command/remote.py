"""Commands to a service over its admin socket: `reactor-run status|top|reload|…`.

Exit status 0: done. 1: the service is not ready, reports a failure, or does not answer. 2: the
operator has to correct something, such as the address of a socket at which no service listens.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from reactor_run.frontend.command.admin_client import NoAnswer, RunningService
from reactor_run.frontend.command.config_file import Found
from reactor_run.frontend.command.help import Parser
from reactor_run.frontend.command.quantities import duration, size
from reactor_run.frontend.command.sources import find_settings
from reactor_run.frontend.command.top import run_top
from reactor_run.frontend.errors import OperatorError

__all__ = ["run_command"]

_APP_HELP: Final = "One of several apps."
_MAINTENANCE_HELP: Final = "One of several apps, and what clients get to read."
_OFF_WITH_TEXT: Final = "off takes no text; remove it, or check the name of the app"
_SCALE_HELP: Final = "One of several apps, and the number of its reactors."
_TEXT_MAX: Final = 500
"""Most characters of the text for clients: a request to the service has at most 8 KiB."""
_VARIABLE: Final = "REACTOR_RUN_ADMIN"


def run_command(words: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command that is the first of `words`; return the exit status.

    Raises OperatorError, and SystemExit(0) after help.
    """
    parser = Parser(
        prog=f"reactor-run {words[0]}",
        description={
            "status": "Show the status of a running service.",
            "top": "Show what a running service does, and update it each second. q ends it.",
            "reload": "Reload the app of a running service, as SIGHUP does, and wait until the new "
            "generation serves.",
            "reopen-logs": "Open the log files of a running service anew, after a rotation.",
            "maintenance": "Answer the app's requests with 503 from now on, or let the app answer "
            "again.",
            "scale": "Change the number of reactors of a running service.",
            "stop": "Stop a running service, as SIGTERM does, and wait until it has ended.",
        }[words[0]],
        allow_abbrev=False,
    )
    parser.add_argument(
        "--admin",
        metavar="ADDRESS",
        help=f"The --admin address of the service (default: {_VARIABLE}, then the file).",
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="The --config file of the service, which may hold the address.",
    )
    if words[0] == "status":
        parser.add_argument("--json", action="store_true", help="Print the whole report as JSON.")
    if words[0] in ("status", "reload"):
        parser.add_argument("app", nargs="?", default="", metavar="NAME", help=_APP_HELP)
    elif words[0] == "maintenance":
        parser.add_argument("state", choices=("on", "off"), metavar="on|off")
        parser.add_argument(
            "words", nargs="*", default=(), metavar="[NAME] [TEXT]", help=_MAINTENANCE_HELP
        )
    elif words[0] == "scale":
        parser.add_argument("words", nargs="+", metavar="[NAME] N", help=_SCALE_HELP)
    options = parser.parse_args(words[1:])
    if words[0] == "maintenance":
        if len(options.words) > 2:
            raise OperatorError("expected the name of an app and a text; put the text in quotes")
        if len(options.words) == 2 and options.state == "off":
            raise OperatorError(_OFF_WITH_TEXT)
        for text in options.words:
            if not text.isprintable() or len(text) > _TEXT_MAX:
                raise OperatorError(f"expected one line of at most {_TEXT_MAX} characters")
    elif words[0] == "scale":
        *names, number = options.words
        if len(names) > 1 or not re.fullmatch("[1-9][0-9]{0,4}", number):
            raise OperatorError(
                "expected a number of reactors, at least 1, as in `reactor-run scale 4`, or the "
                f"name of an app before it, as in `scale api 4`, not {' '.join(options.words)!r}"
            )
    if options.admin:
        admin: Found | None = Found("--admin", [options.admin])
    elif environ.get(_VARIABLE):
        admin = Found(_VARIABLE, [environ[_VARIABLE]])
    else:
        # A file is read only if it is needed: a fault in it must not keep a service from stopping.
        written = {"config": [options.config]} if options.config else {}
        admin = find_settings(written, environ).found.get("admin")
    if admin is None:
        raise OperatorError(
            f"no service given; name it by --admin unix:/PATH, by {_VARIABLE}, or by admin in the "
            "configuration file"
        )
    try:
        service = RunningService(admin)
        service.check()
        if words[0] == "status":
            return _status(service, options.app, raw=options.json)
        if words[0] == "top":
            return run_top(service)
        if words[0] == "reload":
            return _reload(service, options.app)
        if words[0] == "reopen-logs":
            print(service.ask("POST", "/reopen-logs"))
            return 0
        if words[0] == "maintenance":
            return _maintain(service, options.state, options.words)
        if words[0] == "scale":
            *name, number = options.words
            print(service.ask("POST", f"/scale?to={number}{_for_app(*name)}"))
            return 0
        return _stop(service)
    except NoAnswer as error:
        print(f"reactor-run: {error}", file=sys.stderr)
        return 1


def _for_app(name: str = "") -> str:
    """Return the end of a query: it names the app."""
    if not name:
        return ""
    from urllib.parse import quote

    return f"&app={quote(name, safe='')}"


def _reload(service: RunningService, app: str) -> int:
    print(service.ask("POST", f"/reload?{_for_app(app)}".rstrip("?"), patient=True))
    return 0


def _maintain(service: RunningService, state: str, words: Sequence[str]) -> int:
    from urllib.parse import quote

    app, text = "", ""
    if len(words) == 2:
        app, text = words
    elif words:
        report = json.loads(service.ask("GET", "/status"))
        if any(each["name"] == words[0] for each in report["apps"]):
            app = words[0]
        else:
            text = words[0]
    if text and state == "off":
        raise OperatorError(_OFF_WITH_TEXT)
    value = f"={quote(text, safe='')}" if text else ""
    print(service.ask("POST", f"/maintenance?{state}{value}{_for_app(app)}"))
    return 0


def _stop(service: RunningService) -> int:
    service.ask("POST", "/stop", patient=True)
    print("stopped")
    return 0


def _status(service: RunningService, app: str, *, raw: bool) -> int:
    text = service.ask("GET", "/status")
    report = json.loads(text)
    if app:
        return _status_of(report, app, raw=raw)
    print(text if raw else "\n".join(_page(report)))
    return 0 if report["ready"] else 1


def _status_of(report: Mapping[str, Any], name: str, *, raw: bool) -> int:
    """Print the status of one app; return 0 if a reactor of it is ready, else 1."""
    apps = {app["name"]: app for app in report["apps"]}
    if name not in apps:
        raise OperatorError(f"there is no app {name!r}; the apps are {', '.join(apps)}")
    app = apps[name]
    reactors = [each for each in report["reactors"] if each["name"] in app["reactors"]]
    if raw:
        print(json.dumps({**app, "reactors": reactors}))
    else:
        print("\n".join([*_app_lines(app), "", *_table(reactors)]))
    return 0 if any(each["state"] == "ready" for each in reactors) else 1


# The output of `status` --------------------------------------------------------------------------


def _app_lines(app: Mapping[str, Any]) -> Iterable[str]:
    state = "did not start" if app["failed"] else f"generation {app['generation']}"
    if app["reloading"]:
        state += ", reloading"
    if app["reload_failure"]:
        state += f" (the last reload failed: {app['reload_failure']})"
    if app["maintenance"] is not None:
        state += ", in maintenance"
    queue = app["queue"]
    yield (
        f"  {app['name']}: {app['app']}, {state}, {len(app['reactors'])} of "
        f"{app['reactors_wanted']} reactors, {app['in_flight']} in flight, "
        f"{queue['waiting']} of {queue['size']} wait"
    )
    # A service of an older version does not report this.
    if recent := app.get("recent"):
        p99 = "" if recent["p99"] is None else f", p99 {recent['p99'] * 1e3:.1f} ms"
        yield (
            f"    {recent['requests_per_second']:g} requests/s{p99}; "
            f"{_amounts(app['requests']) or 'no requests'}; "
            f"{app['reactor_deaths']} reactors have died"
        )


def _page(report: Mapping[str, Any]) -> Iterable[str]:
    reactors = report["reactors"]
    connections = report["connections"]
    counters = report["counters"]
    in_flight = sum(reactor["in_flight"] for reactor in reactors)
    # A service of an older version does not report this.
    waiting = sum(reactor.get("waiting_for_client", 0) for reactor in reactors)
    listeners = [
        f"{listener['name']} ({listener['origin']})" if listener["origin"] else listener["name"]
        for listener in report["listeners"]
    ]
    yield f"reactor-run {report['version']}: {report['reason'] or 'ready'}"
    memory = size(report["rss"])
    if (text := report.get("maintenance")) is not None:
        yield f"  maintenance  on{text and f': {text}'}"
    yield f"  process      {report['pid']}, up {duration(report['uptime'])}, {memory}"
    reload = ", reloading" if report["reloading"] else ""
    if report["reload_failure"]:
        reload += f" (the last reload failed: {report['reload_failure']})"
    yield f"  generation   {report['generation']}{reload}"
    yield f"  listening    {', '.join(listeners)}"
    # A service of an older version has no TLS.
    if tls := report.get("tls"):
        yield from _certificates(tls)
    yield (
        f"  connections  {connections['open']} of {connections['max']}"
        f"{_amounts(connections['states'], ': ')}"
    )
    yield f"  queue        {report['queue']['waiting']} of {report['queue']['size']}"
    yield (
        f"  requests     {counters['requests']}, {in_flight} in flight, "
        f"{waiting} of them wait for their client"
    )
    yield f"  answers      {_amounts(counters['answers']) or 'none'}"
    yield f"  our own      {_amounts(counters['own_answers']) or 'none'}"
    yield f"  refused      {_amounts(counters['refused']) or 'none'}"
    if lost := counters.get("access_log_lost", 0):
        yield f"  access log   {lost} lines were lost"
    apps = report.get("apps", ())
    if len(apps) > 1:
        for app in apps:
            yield from _app_lines(app)
    for app in apps:
        # A service of an older version does not report these.
        for each in app.get("zygotes", ()):
            whose = f" of {app['name']}" if len(apps) > 1 else ""
            yield (
                f"  zygote{whose:<6} {each['pid']}, {each['state']}, up {duration(each['age'])}, "
                f"{size(each['rss'])}"
            )
    yield ""
    yield from _table(reactors)


def _table(reactors: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """Return a table with a line for each reactor."""
    titles = (
        "REACTOR",
        "PROCESS",
        "GENERATION",
        "STATE",
        "IN FLIGHT",
        "CAPACITY",
        "SERVED",
        "AGE",
        "MEMORY",
    )
    rows = [
        (
            reactor["name"],
            str(reactor["pid"]),
            str(reactor["generation"]),
            reactor["state"],
            str(reactor["in_flight"]),
            str(reactor["capacity"]),
            str(reactor["served"]),
            duration(reactor["age"]),
            size(reactor["rss"]),
        )
        for reactor in reactors
    ]
    table = [titles, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _certificates(tls: Mapping[str, Any]) -> Iterable[str]:
    for each in tls["certificates"]:
        until = datetime.fromtimestamp(each["expires"], UTC).strftime("%Y-%m-%d %H:%M UTC")
        yield f"  certificate  {each['file']} until {until}: {', '.join(each['names'])}"
    if tls["failure"]:
        yield f"  certificate  the old ones stay in use: {tls['failure']}"


def _amounts(amounts: Mapping[str, int], before: str = "") -> str:
    """Return the amounts that are not 0, as in `3 idle, 1 busy`."""
    parts = [f"{amount} {name}" for name, amount in amounts.items() if amount]
    return before + ", ".join(parts) if parts else ""
