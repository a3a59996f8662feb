"""The command-line options of a reactor process.

The front end writes them, and has already checked them. So they are read without argparse: its
import would take as long as all other imports of this package.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple, NoReturn

__all__ = ["HELP", "Options", "parse_options"]

HELP: Final = """\
usage: python -m reactor_run.reactor [options] --control-fd N APP

  APP                                  module[:attribute]
  --control-fd N                       the control channel: an inherited descriptor
  --name TEXT                          what its log lines call it (reactor)
  --interface auto|asgi|wsgi           what the app speaks (auto)
  --runtime auto|trio|asyncio|uvloop   the event loop; auto: as the app needs it (auto)
  --threads N                          WSGI: requests at once, each in a thread (1)
  --concurrency N                      ASGI: requests at once (1000)
  --multiprocess                       other reactors run the app too
  --lifespan auto|on|off               ASGI: whether the app has a lifespan (auto)
  --terminal                           standard input is a terminal that the app may use
  --no-sched-yield                     keep the processor around the wait for events
  --factory                            APP is a function that makes the app
  --app-dir DIR                        where the app is imported from (.)
  --hooks MODULE                       functions to call at events of this process
  --root-path PATH                     where a proxy has mounted the app
  --mount-path PATH                    where this server has mounted it
  --lane-proxy v2|v1|off               the header before each request on a lane (v2)
  --answers direct|relay               who writes large answers to clients (direct)
  --ws-max-message-size BYTES          of a client (16777216)
  --ws-max N                           WebSockets at once; 0: no limit (0)
  --ws-ping-interval SECONDS           between two pings to a client; 0: none (20.0)
  --ws-ping-timeout SECONDS            that a client has to answer one; 0: no limit (20.0)
  --ws-close-timeout SECONDS           that a client has to answer a close frame (10.0)
  --ws-compression on|off              permessage-deflate (off)
  --header NAME:VALUE                  a field of each answer; may be repeated
  --no-server-header                   answers have no Server field
  --no-date-header                     answers have no Date field
  --request-id                         each request has an id, which its log lines name
  --log-level LEVEL                    the least urgent message logged (info)
  --log-format text|json               the form of its log lines (text)
  --log-config FILE                    how its logging and that of the app is configured
  --utc-offset SECONDS                 of the times in its log, from UTC (those of its time zone)
  --zygote                             import APP and fork reactors of it; only as the first word
  --help                               show this
"""

_CHOICES: Final = {
    "interface": ("auto", "asgi", "wsgi"),
    "runtime": ("auto", "trio", "asyncio", "uvloop"),
    "lifespan": ("auto", "on", "off"),
    "lane_proxy": ("v2", "v1", "off"),
    "answers": ("direct", "relay"),
    "ws_compression": ("on", "off"),
    "log_format": ("text", "json"),
}


class Options(NamedTuple):
    """The options. HELP describes each of them."""

    app: str
    control_fd: int
    name: str = "reactor"
    interface: str = "auto"
    runtime: str = "auto"
    threads: int = 1
    concurrency: int = 1000
    multiprocess: bool = False
    lifespan: Literal["auto", "on", "off"] = "auto"
    terminal: bool = False
    no_sched_yield: bool = False
    factory: bool = False
    app_dir: str = "."
    hooks: str = ""
    root_path: str = ""
    mount_path: str = ""
    lane_proxy: str = "v2"
    answers: str = "direct"
    ws_max_message_size: int = 16 << 20
    ws_max: int = 0
    ws_ping_interval: float = 20.0
    ws_ping_timeout: float = 20.0
    ws_close_timeout: float = 10.0
    ws_compression: str = "off"
    header: tuple[str, ...] = ()
    no_server_header: bool = False
    no_date_header: bool = False
    request_id: bool = False
    log_level: str = "info"
    log_format: Literal["text", "json"] = "text"
    log_config: str = ""
    utc_offset: int | None = None


_FIELDS: Final = {"--" + name.replace("_", "-"): name for name in Options._fields[1:]}
_NUMBERS: Final = (
    *("control_fd", "threads", "concurrency", "utc_offset"),
    *("ws_max_message_size", "ws_max"),
)
_SECONDS: Final = ("ws_ping_interval", "ws_ping_timeout", "ws_close_timeout")
_SWITCHES: Final = (
    "terminal",
    "multiprocess",
    "no_sched_yield",
    "request_id",
    "factory",
    "no_server_header",
    "no_date_header",
)


def parse_options(argv: Sequence[str] | None = None) -> Options:
    """Read the options from `argv`, by default the arguments of the process.

    Raises SystemExit with status 0 after `--help`, and with status 2 after an error, which is
    written to standard error.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    values: dict[str, Any] = {}
    apps: list[str] = []
    while words:
        word = words.pop(0)
        if word == "--":
            apps += words
            break
        if word == "--help":
            print(HELP, end="")
            raise SystemExit(0)
        flag, equals, text = word.partition("=")
        name = _FIELDS.get(flag)
        if name is None:
            if word.startswith("-"):
                _fail(f"there is no option {word}")
            apps.append(word)
        elif name in _SWITCHES:
            if equals:
                _fail(f"{flag} takes no value")
            values[name] = True
        else:
            if not equals:
                if not words:
                    _fail(f"{flag} needs a value")
                text = words.pop(0)
            if name == "header":
                values[name] = (*values.get(name, ()), text)
            else:
                values[name] = _value(flag, name, text)
    if len(apps) != 1:
        _fail("name one app")
    if "control_fd" not in values:
        _fail("--control-fd is missing")
    return Options(apps[0], **values)


def _value(flag: str, name: str, text: str) -> str | int | float:
    if name in _NUMBERS:
        digits = text.removeprefix("-") if name == "utc_offset" else text
        if not (digits.isascii() and digits.isdigit()):
            _fail(f"{flag}: {text!r} is not a number")
        return int(text)
    if name in _SECONDS:
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
            _fail(f"{flag}: {text!r} is not a number of seconds")
        return float(text)
    if name in _CHOICES and text not in _CHOICES[name]:
        *rest, last = _CHOICES[name]
        _fail(f"{flag}: expected {', '.join(rest)} or {last}, not {text!r}")
    return text


def _fail(why: str) -> NoReturn:
    print(f"python -m reactor_run.reactor: error: {why}; see --help", file=sys.stderr)
    raise SystemExit(2)
