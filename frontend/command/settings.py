"""The settings of reactor-run: one table, from which the command line, the environment variables
and docs/settings.md are derived.

The table is the body of `Settings`: each field says its default, how its text is read, its unit and
its meaning. `OPTIONS` lists them in order. In which order command line and environment are read,
and which settings exclude each other, is `cli`'s.
"""

import os
import re
from collections.abc import Callable
from typing import Any, Final, Generic, Literal, NamedTuple, TypeVar, get_args

from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.exchanges.replay import Replay
from reactor_run.frontend.sockets.listeners import (
    AdminBind,
    Bind,
    TCPBind,
    parse_admin,
    parse_bind,
    parse_health,
)
from reactor_run.frontend.sockets.networks import LOCAL, NOBODY, Networks, parse_networks
from reactor_run.protocol.policy import FIELD_COUNT_MAX, PathPolicy

T = TypeVar("T")

Interface = Literal["auto", "asgi", "wsgi"]
Runtime = Literal["trio", "asyncio", "uvloop"]
Lifespan = Literal["auto", "on", "off"]
LogLevel = Literal["debug", "info", "warning", "error"]
Lanes = Literal["express", "plain"]
LaneProxy = Literal["v2", "v1", "off"]
ForwardedFields = Literal["x-forwarded", "forwarded"]

GROUPS = {
    "app": "The app",
    "server": "Server",
    "proxies": "Proxies in front",
    "operation": "Operation",
    "lanes": "Lanes between front end and reactors",
    "limits": "Limits",
    "timeouts": "Timeouts",
}
"""Groups of options, in the order in which help and documentation show them."""


MISSING: Final = object()
"""The default of what has none."""


class Kind(NamedTuple, Generic[T]):
    """A sort of value.

    metavar: what help calls it.
    parse: reads its text; raises OperatorError, which does not name the option.
    show: writes it the way an operator would.
    """

    metavar: str
    parse: Callable[[str], T]
    show: Callable[[T], str] = str


class Option(NamedTuple):
    """One setting, as an operator meets it.

    name: the field of `Settings`.
    default: MISSING for the app, which has none.
    shown_default: the default as text, for help and documentation.
    repeatable: may be given several times; the value is a tuple.
    """

    name: str
    group: str
    kind: Kind[Any]
    meaning: str
    default: Any
    shown_default: str
    repeatable: bool

    @property
    def positional(self) -> bool:
        """Whether it stands alone on the command line, without a flag."""
        return self.default is MISSING

    @property
    def switch(self) -> bool:
        """Whether its flag takes no value."""
        return self.kind is SWITCH

    @property
    def flag(self) -> str:
        """Its flag, or what the usage line calls it."""
        return self.kind.metavar if self.positional else "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return "REACTOR_RUN_" + self.name.upper()

    def parse(self, texts: list[str]) -> Any:
        """Read the value from what was written for it; raises OperatorError."""
        values = tuple(self.kind.parse(text) for text in texts)
        return values if self.repeatable else values[-1]


# --- sorts of values ---


def _count(least: int, most: int | None = None) -> Kind[int]:
    bounds = f"of at least {least}" if most is None else f"from {least} to {most}"

    def parse(text: str) -> int:
        number = int(text) if re.fullmatch("[0-9]{1,18}", text) else -1
        if number < least or (most is not None and number > most):
            raise OperatorError(f"expected a whole number {bounds}, not {text!r}")
        return number

    return Kind("N", parse)


_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def _size(least: int) -> Kind[int]:
    def parse(text: str) -> int:
        match = re.fullmatch("([0-9]{1,12})([KMG]?)", text.upper())
        size = int(match[1]) * _UNITS[match[2]] if match else -1
        if size < least:
            raise OperatorError(
                f"expected a size of at least {least} in bytes, or with K, M or G, as in 10M, "
                f"not {text!r}"
            )
        return size

    return Kind("SIZE", parse, _show_size)


def _show_size(size: int) -> str:
    for unit in "GMK":
        if size and size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]}{unit}"
    return str(size)


def _seconds(*, zero: bool) -> Kind[float]:
    def parse(text: str) -> float:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) or (float(text) == 0 and not zero):
            least = "0 or more" if zero else "more than 0"
            raise OperatorError(f"expected a number of seconds, {least}, as in 1.5, not {text!r}")
        return float(text)

    return Kind("SECONDS", parse, lambda seconds: f"{seconds:g}")


def _choice(literal: Any) -> Kind[Any]:
    alternatives: tuple[str, ...] = get_args(literal)

    def parse(text: str) -> str:
        if text not in alternatives:
            raise OperatorError(f"expected {' or '.join(alternatives)}, not {text!r}")
        return text

    return Kind("|".join(alternatives), parse)


def _parse_switch(text: str) -> bool:
    try:
        return {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False}[
            text.lower()
        ]
    except KeyError:
        raise OperatorError(f"expected on or off, not {text!r}") from None


SWITCH = Kind("on|off", _parse_switch, lambda on: "on" if on else "off")


def _parse_app(text: str) -> str:
    module, colon, attribute = text.partition(":")
    if "/" in module or module.endswith(".py"):
        raise OperatorError(
            f"{text!r} is a file; name its module, as in shop.web:app, and its folder by --app-dir"
        )
    if attribute.endswith(")"):
        raise OperatorError(f"{text!r} is a call; name the function and add --factory")
    dotted = [module, attribute] if colon else [module]
    if not all(part.isidentifier() for name in dotted for part in name.split(".")):
        raise OperatorError(f"expected module:attribute, as in shop.web:app, not {text!r}")
    return text


def _parse_mode(text: str) -> int:
    if not re.fullmatch("(0o)?0?[0-7]{3}", text):
        raise OperatorError(f"expected a mode of three octal digits, as in 0o660, not {text!r}")
    return int(text, 8)


def _parse_reactors(text: str) -> int:
    return 0 if text == "auto" else _count(1).parse(text)


def _show_reactors(number: int) -> str:
    return str(number) if number else "auto"


def _parse_directory(text: str) -> str:
    if not os.path.isdir(text):
        raise OperatorError(f"{text!r} is not a directory; name an existing one")
    return text


def _parse_root_path(text: str) -> str:
    if text and (not text.startswith("/") or text.endswith("/") or not text.isprintable()):
        raise OperatorError(
            f"expected a path as in /shop, without a slash at its end, not {text!r}"
        )
    return text


NETWORKS = Kind("NETWORKS", parse_networks, lambda networks: networks.text)


def _parse_admin(text: str) -> AdminBind | None:
    return None if text == "off" else parse_admin(text)


ADMIN = Kind("ADDRESS", _parse_admin, lambda _: "off")


def _parse_health(text: str) -> TCPBind | None:
    return None if text == "off" else parse_health(text)


HEALTH = Kind("ADDRESS", _parse_health, lambda _: "off")


_rows: list[dict[str, Any]] = [
    {
        "group": "app",
        "kind": Kind("module[:attribute]", _parse_app),
        "meaning": "The WSGI or ASGI app: the module that holds it and its name there.",
        "default": MISSING,
        "shown_default": "",
        "repeatable": False,
    }
]
"""What is said of each field of `Settings`, in order; of the first, which has no default, here."""


def _option(
    group: str, kind: Kind[T], default: T, meaning: str, *, shown_default: str | None = None
) -> T:
    """Add the row of a field of `Settings`; its default."""
    row = {
        "group": group,
        "kind": kind,
        "meaning": meaning,
        "default": default,
        "shown_default": kind.show(default) if shown_default is None else shown_default,
        "repeatable": False,
    }
    _rows.append(row)
    return default


def _options(group: str, kind: Kind[T], meaning: str, *, shown_default: str) -> tuple[T, ...]:
    """Add the row of a repeatable field of `Settings`, which is empty if it is not given."""
    row = {
        "group": group,
        "kind": kind,
        "meaning": meaning,
        "default": (),
        "shown_default": shown_default,
        "repeatable": True,
    }
    _rows.append(row)
    return ()


class Settings(NamedTuple):
    """Everything an operator decides. Sizes in bytes, times in seconds; the table says the rest."""

    app: str
    factory: bool = _option(
        "app", SWITCH, False, "The attribute is a function without parameters that makes the app."
    )
    app_dir: str = _option(
        "app", Kind("DIR", _parse_directory), ".", "Directory from which the app is imported."
    )
    interface: Interface = _option(
        "app", _choice(Interface), "auto", "What the app speaks; auto finds out by looking at it."
    )
    lifespan: Lifespan = _option(
        "app",
        _choice(Lifespan),
        "auto",
        "ASGI lifespan events: on requires them, off sends none, auto goes on without them if the "
        "app does not take them.",
    )
    root_path: str = _option(
        "app",
        Kind("PATH", _parse_root_path),
        "",
        "Path under which the app is mounted: ASGI root_path, WSGI SCRIPT_NAME.",
        shown_default="not mounted",
    )

    bind: tuple[Bind, ...] = _options(
        "server",
        Kind("ADDRESS", parse_bind),
        "Address to listen on: HOST:PORT, [IPV6]:PORT, :PORT (every interface), unix:/PATH, "
        "unix:@NAME (abstract) or fd:N (passed by the parent). May be repeated.",
        shown_default="127.0.0.1:8000, or the sockets that systemd passes",
    )
    unix_mode: int = _option(
        "server",
        Kind("MODE", _parse_mode, lambda mode: f"0o{mode:03o}"),
        0o666,
        "Permissions of unix sockets, octal. Connecting takes the right to write.",
    )
    backlog: int = _option(
        "server", _count(1), 2048, "Connections the kernel holds ready for a listener to accept."
    )
    reactors: int = _option(
        "server",
        Kind("N|auto", _parse_reactors, _show_reactors),
        1,
        "Reactor processes; auto: one for each CPU that affinity and cgroup leave us, also when "
        "their number changes.",
    )
    runtime: Runtime = _option(
        "server", _choice(Runtime), "trio", "Event loop in which the reactors run the app."
    )
    max_requests: int = _option(
        "server",
        _count(0),
        0,
        "Requests after which a reactor is replaced by a new one. 0: never.",
    )
    max_requests_jitter: int = _option(
        "server",
        _count(0),
        0,
        "Most requests, by chance, that are added to --max-requests for each reactor.",
    )
    max_rss: int = _option(
        "server",
        _size(0),
        0,
        "Resident memory of a reactor, in bytes, beyond which it is replaced. 0: any.",
    )
    max_lifetime: float = _option(
        "server",
        _seconds(zero=True),
        0.0,
        "Seconds of service after which a reactor is replaced. 0: for ever.",
    )
    threads: int = _option(
        "server",
        _count(1),
        1,
        "WSGI requests that a reactor runs at once, each in a thread; 1: in the loop itself.",
    )
    concurrency: int = _option(
        "server", _count(1), 1000, "ASGI requests that a reactor runs at once."
    )
    replay: Replay = _option(
        "server",
        _choice(Replay),
        "safe",
        "Requests that are tried once more on another reactor if theirs dies before it answers: "
        "safe: GET, HEAD, OPTIONS and TRACE; idempotent: PUT and DELETE too.",
    )
    log_level: LogLevel = _option(
        "server", _choice(LogLevel), "info", "Least urgent message logged."
    )

    proxy_protocol: bool = _option(
        "proxies",
        SWITCH,
        False,
        "Every connection begins with a PROXY protocol header, version 1 or 2, which tells whose "
        "it is.",
    )
    proxy_allow_from: Networks = _option(
        "proxies",
        NETWORKS,
        LOCAL,
        "Who may connect with --proxy-protocol: addresses, networks as in 10.0.0.0/8, unix for "
        "clients of unix sockets, with commas between them.",
    )

    forwarded_allow_from: Networks = _option(
        "proxies",
        NETWORKS,
        NOBODY,
        "Proxies whose word on their client's address and scheme counts: addresses, networks, "
        "unix, with commas between them.",
    )
    forwarded_fields: ForwardedFields = _option(
        "proxies",
        _choice(ForwardedFields),
        "x-forwarded",
        "The fields in which they tell it. x-forwarded: X-Forwarded-For and X-Forwarded-Proto; "
        "forwarded: Forwarded, of RFC 7239.",
    )

    admin: AdminBind | None = _option(
        "operation",
        ADMIN,
        None,
        "Admin socket: health, status, reload and stop, over HTTP. unix:/PATH, or HOST:PORT of "
        "this machine alone.",
    )
    admin_mode: int = _option(
        "operation",
        Kind("MODE", _parse_mode, lambda mode: f"0o{mode:03o}"),
        0o600,
        "Permissions of a unix admin socket, octal. Whoever may write may stop the service.",
    )
    health: TCPBind | None = _option(
        "operation",
        HEALTH,
        None,
        "Health alone, for balancers and probes: HOST:PORT or :PORT, where other machines may GET "
        "/healthz and /readyz.",
    )

    lanes: Lanes = _option(
        "lanes",
        _choice(Lanes),
        "express",
        "express: small requests share one socket pair per reactor; plain: each has a lane of its "
        "own.",
    )
    lane_proxy: LaneProxy = _option(
        "lanes",
        _choice(LaneProxy),
        "v2",
        "PROXY protocol header before each request on a lane. The express lane always has v2.",
    )

    limit_request_line: int = _option(
        "limits", _size(1), 8190, "Longest request line, in bytes; longer: 414."
    )
    limit_field_count: int = _option(
        "limits",
        _count(1, FIELD_COUNT_MAX),
        100,
        f"Most header fields of a request, at most {FIELD_COUNT_MAX}; more: 431.",
    )
    limit_field_size: int = _option(
        "limits", _size(1), 8190, "Longest header field line, in bytes; longer: 431."
    )
    limit_head_size: int = _option(
        "limits",
        _size(1),
        64 << 10,
        "Largest request head, in bytes: request line and fields; larger: 431.",
    )
    max_body_size: int = _option(
        "limits", _size(0), 1 << 30, "Largest request body, in bytes; larger: 413. 0: no limit."
    )
    path_policy: PathPolicy = _option(
        "limits",
        _choice(PathPolicy),
        "reject",
        "Paths with a segment . or .. (also as %2e): reject answers 400, normalize takes it out of "
        "the request, pass leaves it to the app.",
    )
    answer_spool_size: int = _option(
        "limits",
        _size(1),
        1 << 30,
        "Most bytes of a WSGI answer held in a temporary file while its client is slow.",
    )
    max_connections: int = _option(
        "limits",
        _count(0),
        10000,
        "Client connections at once. 0: as many as open files allow, which bound it in any case.",
    )
    max_connections_per_address: int = _option(
        "limits",
        _count(0),
        0,
        "Client connections at once of one IPv4 address or one IPv6 /64 network; any more are "
        "closed. 0: no such limit.",
    )
    queue_size: int = _option(
        "limits",
        _count(0),
        1024,
        "Requests that wait for a reactor with room; any more: 503. 0: none waits.",
    )

    head_timeout: float = _option(
        "timeouts",
        _seconds(zero=True),
        30.0,
        "Seconds from the first byte of a request to the end of its head; then 408. 0: off.",
    )
    body_timeout: float = _option(
        "timeouts",
        _seconds(zero=True),
        30.0,
        "Seconds that a request body may bring nothing, or too little; then 408. 0: off.",
    )
    min_body_rate: int = _option(
        "timeouts",
        _size(0),
        240,
        "Bytes of a request body that buy its client a second, never beyond --body-timeout from "
        "now. 0: any byte buys all of it.",
    )
    keep_alive: float = _option(
        "timeouts",
        _seconds(zero=False),
        75.0,
        "Seconds that a connection may idle between requests.",
    )
    response_timeout: float = _option(
        "timeouts",
        _seconds(zero=True),
        60.0,
        "Seconds that a client may take nothing, or too little, of an answer that waits for it; "
        "then it is cut off. 0: off.",
    )
    min_response_rate: int = _option(
        "timeouts",
        _size(0),
        240,
        "Bytes taken of an answer that buy its client a second, never beyond --response-timeout "
        "from now. 0: any byte buys all of it.",
    )
    queue_timeout: float = _option(
        "timeouts",
        _seconds(zero=True),
        30.0,
        "Seconds that a request waits for a reactor; then 503. 0: off.",
    )
    first_byte_timeout: float = _option(
        "timeouts",
        _seconds(zero=True),
        0.0,
        "Seconds from a request's dispatch, or its end if that comes later, to the first byte of "
        "its answer; then 504, and the app is cancelled. 0: off.",
    )
    request_timeout: float = _option(
        "timeouts",
        _seconds(zero=True),
        0.0,
        "Seconds for a request altogether, from dispatch to the end of its answer; then 504, or "
        "the answer is cut, and the app is cancelled. 0: off.",
    )
    timeout: float = _option(
        "timeouts",
        _seconds(zero=True),
        30.0,
        "Seconds that a reactor's loop may stand still; then the reactor is killed. A WSGI app in "
        "one thread may take longer. 0: off.",
    )
    graceful_timeout: float = _option(
        "timeouts",
        _seconds(zero=False),
        30.0,
        "Seconds for running requests to end when a reactor is stopped or replaced.",
    )
    shutdown_delay: float = _option(
        "timeouts",
        _seconds(zero=True),
        0.0,
        "Seconds of further service after the word to stop, for balancers to look elsewhere.",
    )
    close_grace: float = _option(
        "timeouts",
        _seconds(zero=True),
        1.0,
        "Seconds that connections without a request have, when the service stops, for a last one.",
    )
    start_timeout: float = _option(
        "timeouts",
        _seconds(zero=True),
        60.0,
        "Seconds for a reactor to import the app and become ready. 0: off.",
    )


OPTIONS: tuple[Option, ...] = tuple(
    Option(name, **row) for name, row in zip(Settings._fields, _rows, strict=True)
)
"""The table: every setting, in the order in which help and documentation show it."""


def reference() -> str:
    """Write the tables of docs/settings.md, in Markdown."""
    lines = []
    for group, title in GROUPS.items():
        lines += [f"## {title}", "", "| Option | Default | Environment | Meaning |"]
        lines += ["|---|---|---|---|"]
        for option in OPTIONS:
            if option.group == group:
                written = option.flag
                if not option.positional and not option.switch:
                    written += " " + option.kind.metavar
                cells = (written, option.shown_default, option.variable, option.meaning)
                written, default, variable, meaning = (text.replace("|", r"\|") for text in cells)
                default = f"`{default}`" if re.fullmatch(r"\S+", default) else default
                lines.append(f"| `{written}` | {default} | `{variable}` | {meaning} |")
        lines.append("")
    return "\n".join(lines)
