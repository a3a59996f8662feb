"""Flags and variables of other servers, and what takes their place here.

`SERVERS` is the one table. The answers to a flag or variable come from it, and so does
docs/migrating.md. It is imported only when one is met.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from reactor_run.frontend.command.options import Option
from reactor_run.frontend.command.settings import OPTIONS

__all__ = [
    "PREFIXES",
    "SERVERS",
    "Row",
    "answer_flags",
    "answer_variable",
    "counterpart",
    "reference",
]


class Row(NamedTuple):
    """Flags of another server that have one counterpart here.

    theirs: the flags, separated by spaces.
    ours: what to write instead; "" if nothing takes their place.
    note: what differs, or why there is no counterpart.
    """

    theirs: str
    ours: str
    note: str = ""


_PASSWORD: Final = "the password stands in a file"
_TLS_MIN: Final = "`1.2` or `1.3`"
_VERIFY: Final = "`off`, `optional` or `required`"
_CIPHERS: Final = "of TLS 1.2"
_WEBSOCKET: Final = "every ASGI app may accept WebSockets; one implementation"
_HTTP2: Final = "with the extra `http2`, also on plain listeners"
_HTTP2_WINDOWS: Final = "fixed: 256 KiB for a stream, 1 MiB for a connection"
_TO_STDERR: Final = "the log goes to standard error"
_NO_STATSD: Final = "no statsd; `--metrics ADDRESS` serves metrics for Prometheus"
_TITLES: Final = "titles name the process and the app (extra `proctitle`)"
_SYSTEMD: Final = "systemd: `User=` and `Group=`"
_NO_DAEMON: Final = "it stays in the foreground: let systemd or a container run it"
_RUNTIME: Final = "`auto`, `trio`, `asyncio` or `uvloop`"

SERVERS: Final[dict[str, tuple[Row, ...]]] = {
    "uvicorn": (
        Row("--host --port", "--bind HOST:PORT"),
        Row("--uds", "--bind unix:/PATH"),
        Row("--fd", "--bind fd:N"),
        Row("--workers", "--reactors N"),
        Row("--loop", "--runtime RUNTIME", _RUNTIME),
        Row("--interface", "--interface INTERFACE", "`asgi3` is `asgi`"),
        Row("--http --h11-max-incomplete-event-size", "--limit-head-size SIZE", "one parser"),
        Row("--ws", "", _WEBSOCKET),
        Row("--ws-max-size", "--ws-max-message-size SIZE"),
        Row("--ws-max-queue", "", "64 KiB are read ahead of the app"),
        Row("--ws-ping-interval", "--ws-ping-interval SECONDS"),
        Row("--ws-ping-timeout", "--ws-ping-timeout SECONDS"),
        Row("--ws-per-message-deflate", "--ws-compression on|off"),
        Row("--lifespan", "--lifespan auto|on|off"),
        Row("--log-level", "--log-level LEVEL", "no `critical`, no `trace`"),
        Row("--access-log", "--access-log -", "it takes a value: `-`, a path or `off`"),
        Row("--no-access-log", "--access-log off"),
        Row("--log-config", "--log-config FILE", "TOML, JSON or INI; loggers `reactor_run.*`"),
        Row("--use-colors --no-use-colors", "", "on a terminal, unless `NO_COLOR` is set"),
        Row(
            "--proxy-headers --forwarded-allow-ips",
            "--forwarded-allow-from NETWORKS",
            "no proxy is trusted by default, not even this machine",
        ),
        Row("--no-proxy-headers", "--forwarded-allow-from none", "the default"),
        Row("--root-path", "--root-path PATH"),
        Row(
            "--limit-concurrency",
            "--queue-size N",
            "503 when so many requests wait; `--max-connections` limits connections",
        ),
        Row("--backlog", "--backlog N"),
        Row("--limit-max-requests", "--max-requests N"),
        Row("--limit-max-requests-jitter", "--max-requests-jitter N"),
        Row("--timeout-keep-alive", "--keep-alive SECONDS", "75 s by default, not 5 s"),
        Row("--timeout-graceful-shutdown", "--graceful-timeout SECONDS", "30 s by default"),
        Row("--timeout-worker-healthcheck", "--timeout SECONDS"),
        Row("--ssl-certfile", "--certfile FILE"),
        Row("--ssl-keyfile", "--keyfile FILE"),
        Row("--ssl-keyfile-password", "--keyfile-password-file FILE", _PASSWORD),
        Row("--ssl-version", "--tls-min VERSION", _TLS_MIN),
        Row("--ssl-cert-reqs", "--verify-client MODE", _VERIFY),
        Row("--ssl-ca-certs", "--ca-certs FILE"),
        Row("--ssl-ciphers", "--ciphers LIST", _CIPHERS),
        Row("--env-file", "--env-file FILE", "settings too, not only variables of the app"),
        Row("--header", "--header NAME:VALUE", "the app's own field of that name wins"),
        Row("--no-server-header", "--no-server-header"),
        Row("--no-date-header", "--no-date-header"),
        Row("--server-header --date-header", "", "the default"),
        Row("--app-dir", "--app-dir DIR"),
        Row("--factory", "--factory"),
        Row("--reload", "--reload"),
        Row("--reload-dir", "--reload-dir DIR"),
        Row("--reload-include", "--reload-include PATTERN"),
        Row("--reload-exclude", "--reload-exclude PATTERN"),
        Row("--reload-delay", "", "the kernel tells of changes at once"),
        Row("--reset-contextvars", "", "each request has a context of its own"),
    ),
    "gunicorn": (
        Row("-c --config", "--config FILE", "TOML, no Python; `gunicorn.conf.py` is not read"),
        Row("-b --bind", "--bind ADDRESS", "`fd://3` is `fd:3`; a port is required"),
        Row("--backlog", "--backlog N"),
        Row("-w --workers", "--reactors N"),
        Row(
            "-k --worker-class",
            "--runtime RUNTIME",
            "for ASGI apps; `--threads` for WSGI apps. No gevent, no eventlet",
        ),
        Row("--threads", "--threads N"),
        Row("--worker-connections", "--max-connections N", "of the service, not of a worker"),
        Row("--max-requests", "--max-requests N"),
        Row("--max-requests-jitter", "--max-requests-jitter N"),
        Row(
            "-t --timeout",
            "--timeout SECONDS",
            "for a loop that stalls; `--request-timeout` limits a request",
        ),
        Row("--graceful-timeout", "--graceful-timeout SECONDS"),
        Row("--keep-alive", "--keep-alive SECONDS", "75 s by default, not 2 s"),
        Row("--limit-request-line", "--limit-request-line SIZE"),
        Row("--limit-request-fields", "--limit-field-count N"),
        Row("--limit-request-field_size", "--limit-field-size SIZE"),
        Row("--reload", "--reload"),
        Row("--reload-extra-file", "--reload-include PATTERN", "`--reload-dir` for other places"),
        Row("--reload-engine", "", "the kernel tells of changes at once"),
        Row("--check-config", "reactor-run check"),
        Row("--print-config", "reactor-run config"),
        Row("--preload", "--preload on", "forks from a process beside the front end"),
        Row("--no-sendfile --reuse-port", "", "not needed: one process accepts"),
        Row(
            "--chdir --pythonpath",
            "--app-dir DIR",
            "it does not change the working directory; systemd: `WorkingDirectory=`",
        ),
        Row("-D --daemon", "", _NO_DAEMON),
        Row("-e --env", "--env NAME=VALUE", "of the app; there is no short form"),
        Row("-p --pid", "--pid-file FILE"),
        Row("-m --umask", "--umask MASK", "octal; inherited by default"),
        Row("-n --name", "", _TITLES),
        Row("--worker-tmp-dir", "", "`TMPDIR` in the environment, for bodies and answers"),
        Row("-u --user -g --group --initgroups", "", _SYSTEMD),
        Row("--forwarded-allow-ips", "--forwarded-allow-from NETWORKS", "no proxy by default"),
        Row("--error-logfile --log-file --capture-output", "", _TO_STDERR),
        Row("--log-config --log-config-json", "--log-config FILE", "loggers `reactor_run.*`"),
        Row("--log-level", "--log-level LEVEL", "no `critical`"),
        Row("--access-logfile", "--access-log PATH"),
        Row("--access-logformat", "--access-log-format FORMAT", "the same atoms"),
        Row("--logger-class", "", "`--log-config` configures Python's logging"),
        Row(
            "--log-syslog --log-syslog-to --log-syslog-prefix --log-syslog-facility "
            "--disable-redirect-access-to-syslog -R --enable-stdio-inheritance",
            "",
            f"{_TO_STDERR}; systemd passes it to the journal",
        ),
        Row("--paste --paster --paste-global", "", "write a function that makes the app"),
        Row("--proxy-protocol", "--proxy-protocol"),
        Row("--proxy-allow-from", "--proxy-allow-from NETWORKS"),
        Row("--certfile", "--certfile FILE"),
        Row("--keyfile", "--keyfile FILE"),
        Row("--ssl-version", "--tls-min VERSION", _TLS_MIN),
        Row("--cert-reqs", "--verify-client MODE", _VERIFY),
        Row("--ca-certs", "--ca-certs FILE"),
        Row("--ciphers", "--ciphers LIST", _CIPHERS),
        Row(
            "--suppress-ragged-eofs --do-handshake-on-connect",
            "",
            "a cut is always seen, and handshakes never block",
        ),
        Row("--http-protocols --http2-cleartext", "--http2 auto|on|off", _HTTP2),
        Row("--http2-max-concurrent-streams", "--h2-max-streams N"),
        Row("--http2-initial-window-size --http2-max-frame-size", "", _HTTP2_WINDOWS),
        Row("--http2-max-header-list-size", "--limit-head-size SIZE"),
        Row(
            "--permit-obsolete-folding --strip-header-spaces --permit-unconventional-http-method "
            "--permit-unconventional-http-version --casefold-http-method --header-map "
            "--forwarder-headers --http-parser",
            "",
            "one strict policy for all requests",
        ),
        Row("--asgi-loop", "--runtime RUNTIME", _RUNTIME),
        Row("--asgi-lifespan", "--lifespan auto|on|off"),
        Row("--root-path", "--root-path PATH"),
        Row("--control-socket", "--admin ADDRESS"),
        Row("--control-socket-mode", "--admin-mode MODE"),
        Row("--websocket-max-message-size", "--ws-max-message-size SIZE"),
        Row("--no-control-socket", "--admin off", "the default"),
        Row(
            "--asgi-disconnect-grace-period",
            "",
            "the app is told at once that its client has left, and may go on",
        ),
        Row("--protocol --uwsgi-allow-from", "", "it speaks HTTP alone, not the uwsgi protocol"),
        Row(
            "--dirty-app --dirty-workers --dirty-timeout --dirty-threads --dirty-graceful-timeout",
            "",
            "use a task queue",
        ),
        Row(
            "--statsd-host --statsd-prefix --dogstatsd-tags --enable-backlog-metric",
            "--admin ADDRESS",
            _NO_STATSD,
        ),
        Row("--spew", "", "SIGUSR1 writes the stacks to the log"),
        Row("-v", "-V", "the long form is the same"),
    ),
    "granian": (
        Row("--host --port", "--bind HOST:PORT"),
        Row("--uds", "--bind unix:/PATH"),
        Row("--uds-permissions", "--unix-mode MODE"),
        Row("--interface", "--interface INTERFACE", "`asgi` or `wsgi`; no RSGI"),
        Row("--http", "--http2 auto|on|off", _HTTP2),
        Row("--http2-max-concurrent-streams", "--h2-max-streams N"),
        Row("--http2-max-headers-size", "--limit-head-size SIZE"),
        Row("--http2-keep-alive-timeout", "--keep-alive SECONDS"),
        Row("--http2-keep-alive-interval", "", "the kernel probes clients that are silent"),
        Row(
            "--http2-adaptive-window --no-http2-adaptive-window "
            "--http2-initial-connection-window-size --http2-initial-stream-window-size "
            "--http2-max-frame-size --http2-max-send-buffer-size",
            "",
            _HTTP2_WINDOWS,
        ),
        Row("--ws --no-ws", "", _WEBSOCKET),
        Row("--workers", "--reactors N"),
        Row("--blocking-threads", "--threads N", "for WSGI apps"),
        Row(
            "--runtime-threads --runtime-blocking-threads --runtime-mode --task-impl "
            "--blocking-threads-idle-timeout",
            "",
            "there is no such choice",
        ),
        Row("--loop", "--runtime RUNTIME", _RUNTIME),
        Row("--backlog", "--backlog N"),
        Row("--backpressure", "--concurrency N", "requests that wait: `--queue-size`"),
        Row("--http1-buffer-size", "--limit-head-size SIZE"),
        Row("--http1-header-read-timeout", "--head-timeout SECONDS", "s, not ms"),
        Row(
            "--http1-keep-alive --no-http1-keep-alive --http1-pipeline-flush "
            "--no-http1-pipeline-flush",
            "--keep-alive SECONDS",
            "cannot be switched off",
        ),
        Row("--log-config", "--log-config FILE", "TOML, JSON or INI; loggers `reactor_run.*`"),
        Row("--log-level", "--log-level LEVEL"),
        Row("--log --no-log", "--log-level LEVEL", "the log cannot be switched off"),
        Row("--access-log", "--access-log -", "it takes a value: `-`, a path or `off`"),
        Row("--no-access-log", "--access-log off"),
        Row("--access-log-fmt", "--access-log-format FORMAT", "with gunicorn's atoms"),
        Row("--ssl-certificate", "--certfile FILE"),
        Row("--ssl-keyfile", "--keyfile FILE"),
        Row("--ssl-keyfile-password", "--keyfile-password-file FILE", _PASSWORD),
        Row("--ssl-protocol-min", "--tls-min VERSION", _TLS_MIN),
        Row("--ssl-ca", "--ca-certs FILE"),
        Row("--ssl-crl", "--ca-certs FILE", "lists of revoked certificates are not read"),
        Row("--ssl-client-verify", "--verify-client required"),
        Row("--no-ssl-client-verify", "--verify-client off", "the default"),
        Row("--url-path-prefix", "--root-path PATH"),
        Row(
            "--respawn-failed-workers --no-respawn-failed-workers --respawn-interval",
            "",
            "reactors that die are always replaced",
        ),
        Row("--workers-lifetime", "--max-lifetime SECONDS"),
        Row("--workers-max-rss", "--max-rss SIZE", "bytes, not MiB: `512M`"),
        Row("--rss-sample-interval --rss-samples", "", "memory is measured by its own rule"),
        Row(
            "--metrics --metrics-address --metrics-port --metrics-scrape-interval",
            "--metrics HOST:PORT",
            "metrics are collected when they are asked for",
        ),
        Row("--no-metrics", "--metrics off", "the default"),
        Row("--process-name", "", _TITLES),
        Row("--pid-file", "--pid-file FILE"),
        Row("--workers-kill-timeout", "--graceful-timeout SECONDS"),
        Row("--factory", "--factory"),
        Row("--no-factory", "", "the default"),
        Row("--env-files", "--env-file FILE", "one file"),
        Row(
            "--working-dir",
            "--app-dir DIR",
            "it does not change the working directory; systemd: `WorkingDirectory=`",
        ),
        Row("--reload", "--reload"),
        Row("--no-reload", "", "the default"),
        Row("--reload-paths", "--reload-dir DIR"),
        Row(
            "--reload-ignore-dirs --reload-ignore-patterns --reload-ignore-paths",
            "--reload-exclude PATTERN",
        ),
        Row("--reload-tick", "", "the kernel tells of changes at once"),
        Row("--reload-ignore-worker-failure --no-reload-ignore-worker-failure", "", "always so"),
        Row("--static-path-route --static-path-mount", "--static PREFIX=DIR"),
        Row("--static-path-dir-to-file", "--static-index FILE", "`index.html` by default"),
        Row("--static-path-expires", "--static-cache PATTERN=VALUE", "no field by default"),
    ),
    "hypercorn": (
        Row("-c --config", "--config FILE", "TOML; the keys are our long flags"),
        Row("-b --bind --insecure-bind", "--bind ADDRESS", "`fd://3` is `fd:3`"),
        Row("--quic-bind", "", "HTTP/3 is not supported"),
        Row("--backlog", "--backlog N"),
        Row("-w --workers", "--reactors N"),
        Row("-k --worker-class", "--runtime RUNTIME", _RUNTIME),
        Row("--graceful-timeout", "--graceful-timeout SECONDS"),
        Row("--read-timeout", "--body-timeout SECONDS"),
        Row("--keep-alive", "--keep-alive SECONDS"),
        Row("--max-requests", "--max-requests N"),
        Row("--max-requests-jitter", "--max-requests-jitter N"),
        Row("--error-log --error-logfile --log-file", "", _TO_STDERR),
        Row("--log-config", "--log-config FILE", "TOML, JSON or INI; loggers `reactor_run.*`"),
        Row("--log-level", "--log-level LEVEL"),
        Row("--access-log --access-logfile", "--access-log PATH"),
        Row("--access-logformat", "--access-log-format FORMAT", "the same atoms"),
        Row("--debug", "--log-level debug"),
        Row("--reload", "--reload"),
        Row("-D --daemon", "", _NO_DAEMON),
        Row("-u --user -g --group", "", _SYSTEMD),
        Row("-p --pid", "--pid-file FILE"),
        Row("-m --umask", "--umask MASK", "octal"),
        Row("--root-path", "--root-path PATH"),
        Row("--statsd-host --statsd-prefix", "--admin ADDRESS", _NO_STATSD),
        Row("--server-name", "", "a proxy such as nginx selects hosts"),
        Row("--certfile", "--certfile FILE"),
        Row("--keyfile", "--keyfile FILE"),
        Row("--keyfile-password", "--keyfile-password-file FILE", _PASSWORD),
        Row("--ca-certs", "--ca-certs FILE"),
        Row("--cert-reqs --verify-mode", "--verify-client MODE", _VERIFY),
        Row("--ciphers", "--ciphers LIST", _CIPHERS),
        Row("--websocket-ping-interval", "--ws-ping-interval SECONDS"),
    ),
    "uWSGI": (
        Row("--ini --yaml --xml --json", "--config FILE", "TOML; the keys are our long flags"),
        Row("--http --http-socket --http11-socket", "--bind ADDRESS"),
        Row(
            "-s --socket --uwsgi-socket --fastcgi-socket --scgi-socket",
            "--bind unix:/PATH",
            "it speaks HTTP: in nginx `proxy_pass`, not `uwsgi_pass`",
        ),
        Row("--https --https-socket", "--certfile FILE", "with --keyfile and --bind"),
        Row("-C --chmod-socket", "--unix-mode MODE"),
        Row("-l --listen", "--backlog N"),
        Row("-p --processes --workers", "--reactors N"),
        Row("--threads --enable-threads -T", "--threads N", "an app may always start threads"),
        Row("--mount", "--mount PREFIX=APP", "and the first app as an argument"),
        Row(
            "-w --module --wsgi-file --file --callable",
            "",
            "the app is an argument: `reactor-run shop.web:app`",
        ),
        Row("-M --master --need-app --die-on-term --vacuum --lazy-apps", "", "always so"),
        Row("--single-interpreter --strict", "", "always so"),
        Row(
            "-t --harakiri --http-timeout",
            "--request-timeout SECONDS",
            "`--timeout` is for a loop that stalls",
        ),
        Row("-R --max-requests", "--max-requests N"),
        Row("--max-worker-lifetime", "--max-lifetime SECONDS"),
        Row("--reload-on-rss --evil-reload-on-rss", "--max-rss SIZE", "bytes, not MiB: `512M`"),
        Row("--worker-reload-mercy --reload-mercy", "--graceful-timeout SECONDS"),
        Row("-b --buffer-size", "--limit-head-size SIZE"),
        Row("--limit-post", "--max-body-size SIZE"),
        Row("--post-buffering --http-keepalive --thunder-lock --offload-threads", "", "always so"),
        Row("--chdir --pythonpath --python-path --pp", "--app-dir DIR"),
        Row("-H --home --virtualenv --venv", "", "start the `reactor-run` of that environment"),
        Row("--env", "--env NAME=VALUE", "of the app"),
        Row("--uid --gid", "", _SYSTEMD),
        Row("--pidfile --pidfile2 --safe-pidfile", "--pid-file FILE"),
        Row("--umask", "--umask MASK", "octal; inherited by default"),
        Row("--procname --procname-prefix --procname-prefix-spaced --auto-procname", "", _TITLES),
        Row("-d --daemonize --logto", "", f"{_NO_DAEMON}. {_TO_STDERR.capitalize()}"),
        Row("--py-autoreload --py-auto-reload --touch-reload", "--reload"),
        Row("-L --disable-logging", "--access-log off"),
        Row("--req-logger", "--access-log PATH"),
        Row("--log-format --logformat", "--access-log-format FORMAT", "with gunicorn's atoms"),
        Row("--cheaper --cheaper-algo --cheaper-initial", "", "SIGTTIN and SIGTTOU add and remove"),
        Row("--static-map --check-static", "--static PREFIX=DIR"),
        Row("--static-index", "--static-index FILE", "`index.html` by default"),
        Row("--stats", "--admin ADDRESS", "`reactor-run status`"),
    ),
}
"""Rows in the order of docs/migrating.md, by server."""

PREFIXES: Final = {"UVICORN_": "uvicorn", "GRANIAN_": "granian", "UWSGI_": "uWSGI"}
"""The servers that read each flag from a variable too, by the prefix."""

_JOINED: Final = re.compile("-[a-zA-Z][0-9]+")
"""A short flag with its value, as in `-w4`."""
_OWN: Final = {option.flag: option for option in OPTIONS if not option.positional}


def answer_flags(words: Sequence[str], server: str = "") -> str | None:
    """Return one line on those words of a command line that are flags of other servers; None if
    there are none. `server`: consider its flags alone."""
    told: dict[str, list[str]] = {}
    for word in words:
        if word == "--":
            break
        flag = word.partition("=")[0]
        if _JOINED.fullmatch(word):
            flag = word[:2]
        if flag.startswith("-") and flag not in _OWN:
            answer = _answer(flag, server)
            flags = told.setdefault(answer, [])
            if answer and flag not in flags:
                flags.append(flag)
    told.pop("", None)
    if not told:
        return None
    lines = [f"there is no {' or '.join(flags)}: {answer}" for answer, flags in told.items()]
    return f"{'; '.join(lines)}; see docs/migrating.md"


def counterpart(flag: str) -> Option | None:
    """Return the setting that takes the place of a flag of another server; None if there is
    none."""
    for rows in SERVERS.values():
        for row in rows:
            ours = row.ours.partition(" ")[0]
            if flag in row.theirs.split() and ours in _OWN:
                return _OWN[ours]
    return None


def answer_variable(name: str, text: str) -> str:
    """Return one line on a variable of another server, which has the value `text`."""
    if name == "GUNICORN_CMD_ARGS":
        told = answer_flags(text.split(), "gunicorn") or "write its flags on the command line"
        return f"{name} has no effect here: {told}"
    prefix = next(each for each in PREFIXES if name.startswith(each))
    flag = "--" + name.removeprefix(prefix).lower().replace("_", "-")
    told = _answer(flag, PREFIXES[prefix]) or (f"use {flag}" if flag in _OWN else "")
    variables = [_OWN[each].variable for each in re.findall(r"--[a-z-]+", told) if each in _OWN]
    if variables:
        told = f"use {variables[0]}, or {told.removeprefix('use ')}"
    return f"{name} has no effect here: {told or 'see docs/migrating.md'}"


def _answer(flag: str, server: str) -> str:
    """Return what to do instead of using a flag of a server, or of any; "" if none has it."""
    rows = [
        (name, row)
        for name, rows in SERVERS.items()
        for row in rows
        if flag in row.theirs.split() and server in ("", name)
    ]
    told: dict[str, list[str]] = {}
    for name, row in rows:
        told.setdefault(f"use {row.ours}" if row.ours else row.note, []).append(name)
    if len({row for _, row in rows}) == 1 and rows[0][1].ours and rows[0][1].note:
        answer = f"use {rows[0][1].ours} ({rows[0][1].note})"
    elif len(told) == 1:
        answer = next(iter(told))
    else:
        answer = ", or ".join(f"{each} ({', '.join(names)})" for each, names in told.items())
    return answer.replace("`", "")


def reference() -> str:
    """Return the tables of docs/migrating.md, in Markdown."""
    lines = []
    for server, rows in SERVERS.items():
        lines += [f"## {server}", "", f"| {server} | reactor-run | |", "|---|---|---|"]
        for row in rows:
            theirs = ", ".join(f"`{flag}`" for flag in row.theirs.split())
            ours = f"`{row.ours}`".replace("|", r"\|") if row.ours else "none"
            lines.append(f"| {theirs} | {ours} | {row.note} |")
        lines.append("")
    return "\n".join(lines)
