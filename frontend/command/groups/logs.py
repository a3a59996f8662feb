"""Logs: messages, and a line for each request."""

from typing import Literal

from reactor_run.clock import Zone
from reactor_run.frontend.command.options import SWITCH, Kind, choice, parse_text
from reactor_run.frontend.command.table import Group, option
from reactor_run.frontend.errors import OperatorError

LogLevel = Literal["debug", "info", "warning", "error"]

LogFormat = Literal["text", "json"]

AUTO = "auto"
"""The default of --access-log, which depends on the terminal."""


def _parse_log_path(text: str) -> str:
    """Return the value of --access-log. A word that looks like a switch is no file."""
    if not text or (text != "off" and text.lower() in ("on", "off", "yes", "no", "true", "false")):
        raise OperatorError(
            f"expected -, off or the path of a file, not {text!r}"
            + (f" (the file of this name is ./{text})" if text else "")
        )
    return text


def _parse_format(text: str) -> str:
    # It is imported only if it is needed, since every command reads this file.
    from reactor_run.frontend.access_log.format import LineFormat

    LineFormat(text, Zone(0))
    return text


class LogsGroup(Group, key="logs", title="Logs"):
    """Logs: messages, and a line for each request."""

    log_level: LogLevel = option(
        choice(LogLevel), "info", "Lowest level of messages that are logged."
    )
    log_format: LogFormat = option(
        choice(LogFormat),
        "text",
        "What a message looks like. text: a line, coloured on a terminal; json: an object a line.",
    )
    log_config: str = option(
        Kind("FILE", parse_text),
        "",
        "Configuration of Python's logging, for the front end, the reactors and the app: "
        "dictConfig as .toml or .json, else an INI file for fileConfig.",
        shown_default="none",
    )
    access_log: str = option(
        Kind("-|PATH|off", _parse_log_path),
        AUTO,
        "Where each request is logged, in one line. -: standard output; off: nowhere.",
        shown_default="- if standard error is a terminal, else off",
    )
    request_id: bool = option(
        SWITCH,
        False,
        "Each request has an id, in the field X-Request-ID of request and response and in both "
        "logs. A trusted proxy may name it (--forwarded-allow-from).",
    )
    server_timing: bool = option(
        SWITCH,
        False,
        "Responses have a Server-Timing field with the time in the queue and in the app.",
    )
    access_log_format: str = option(
        Kind("combined|common|json|FORMAT", _parse_format),
        "combined",
        "What a line of the access log holds. A FORMAT has gunicorn's atoms and our own, as in "
        "'%(h)s \"%(r)s\" %(s)s %(L)s'. docs/logging.md lists them.",
    )
