"""The settings of reactor-run, as one table.

The table is the body of `Settings`: each field gives its default, the kind of its value, its unit
and its meaning. Flags, environment variables and docs/settings.md are derived from it. `OPTIONS`
lists the rows in order. `cli` reads them and knows which settings exclude each other.
"""

import re
from typing import Any, Literal, NamedTuple, TypeVar

from reactor_run.frontend.command.options import (
    MISSING,
    MODE,
    REACTORS,
    SWITCH,
    Kind,
    Option,
    byte_size,
    choice,
    count,
    parse_app,
    parse_directory,
    parse_root_path,
    seconds,
)
from reactor_run.frontend.sockets.addresses import (
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
Replay = Literal["safe", "idempotent", "off"]
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
        "kind": Kind("module[:attribute]", parse_app),
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
        "app",
        Kind("DIR", parse_directory),
        ".",
        "Directory from which the app is imported; looked up anew whenever a reactor starts.",
    )
    interface: Interface = _option(
        "app", choice(Interface), "auto", "What the app speaks; auto finds out by looking at it."
    )
    lifespan: Lifespan = _option(
        "app",
        choice(Lifespan),
        "auto",
        "ASGI lifespan events: on requires them, off sends none, auto goes on without them if the "
        "app does not take them.",
    )
    root_path: str = _option(
        "app",
        Kind("PATH", parse_root_path),
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
        MODE,
        0o666,
        "Permissions of unix sockets, octal. Connecting takes the right to write.",
    )
    backlog: int = _option(
        "server", count(1), 2048, "Connections the kernel holds ready for a listener to accept."
    )
    reactors: int = _option(
        "server",
        REACTORS,
        1,
        "Reactor processes; auto: one for each CPU that affinity and cgroup leave us, also when "
        "their number changes.",
    )
    runtime: Runtime = _option(
        "server",
        choice(Runtime),
        "trio",
        "Event loop in which the reactors run an ASGI app. Calls of a WSGI app have none around "
        "them.",
    )
    max_requests: int = _option(
        "server",
        count(0),
        0,
        "Requests after which a reactor is replaced by a new one. 0: never.",
    )
    max_requests_jitter: int = _option(
        "server",
        count(0),
        0,
        "Most requests, by chance, that are added to --max-requests for each reactor.",
    )
    max_rss: int = _option(
        "server",
        byte_size(0),
        0,
        "Resident memory of a reactor, in bytes, beyond which it is replaced. 0: any.",
    )
    max_lifetime: float = _option(
        "server",
        seconds(zero=True),
        0.0,
        "Seconds of service after which a reactor is replaced. 0: for ever.",
    )
    threads: int = _option(
        "server",
        count(1),
        1,
        "WSGI requests that a reactor runs at once, each in a thread; 1: in the loop itself.",
    )
    concurrency: int = _option(
        "server", count(1), 1000, "ASGI requests that a reactor runs at once."
    )
    replay: Replay = _option(
        "server",
        choice(Replay),
        "safe",
        "Requests that are tried once more on another reactor if theirs dies before it answers: "
        "safe: GET, HEAD, OPTIONS and TRACE; idempotent: PUT and DELETE too.",
    )
    log_level: LogLevel = _option(
        "server", choice(LogLevel), "info", "Least urgent message logged."
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
        choice(ForwardedFields),
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
        MODE,
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
        choice(Lanes),
        "express",
        "express: small requests share one socket pair per reactor; plain: each has a lane of its "
        "own.",
    )
    lane_proxy: LaneProxy = _option(
        "lanes",
        choice(LaneProxy),
        "v2",
        "PROXY protocol header before each request on a lane. The express lane always has v2.",
    )

    limit_request_line: int = _option(
        "limits", byte_size(1), 8190, "Longest request line, in bytes; longer: 414."
    )
    limit_field_count: int = _option(
        "limits",
        count(1, FIELD_COUNT_MAX),
        100,
        f"Most header fields of a request, at most {FIELD_COUNT_MAX}; more: 431.",
    )
    limit_field_size: int = _option(
        "limits", byte_size(1), 8190, "Longest header field line, in bytes; longer: 431."
    )
    limit_head_size: int = _option(
        "limits",
        byte_size(1),
        64 << 10,
        "Largest request head, in bytes: request line and fields; larger: 431.",
    )
    max_body_size: int = _option(
        "limits", byte_size(0), 1 << 30, "Largest request body, in bytes; larger: 413. 0: no limit."
    )
    path_policy: PathPolicy = _option(
        "limits",
        choice(PathPolicy),
        "reject",
        "Paths with a segment . or .. (also as %2e): reject answers 400, normalize takes it out of "
        "the request, pass leaves it to the app.",
    )
    answer_spool_size: int = _option(
        "limits",
        byte_size(1),
        1 << 30,
        "Most bytes of a WSGI answer held in a temporary file while its client is slow.",
    )
    max_connections: int = _option(
        "limits",
        count(0),
        10000,
        "Client connections at once. 0: as many as open files allow, which bound it in any case.",
    )
    max_connections_per_address: int = _option(
        "limits",
        count(0),
        0,
        "Client connections at once of one IPv4 address or one IPv6 /64 network; any more are "
        "closed. 0: no such limit.",
    )
    queue_size: int = _option(
        "limits",
        count(0),
        1024,
        "Requests that wait for a reactor with room; any more: 503. 0: none waits.",
    )

    head_timeout: float = _option(
        "timeouts",
        seconds(zero=True),
        30.0,
        "Seconds from the first byte of a request to the end of its head; then 408. 0: off.",
    )
    body_timeout: float = _option(
        "timeouts",
        seconds(zero=True),
        30.0,
        "Seconds that a request body may bring nothing, or too little; then 408. 0: off.",
    )
    min_body_rate: int = _option(
        "timeouts",
        byte_size(0),
        240,
        "Bytes of a request body that buy its client a second, never beyond --body-timeout from "
        "now. 0: any byte buys all of it.",
    )
    keep_alive: float = _option(
        "timeouts",
        seconds(zero=False),
        75.0,
        "Seconds that a connection may idle between requests.",
    )
    response_timeout: float = _option(
        "timeouts",
        seconds(zero=True),
        60.0,
        "Seconds that a client may take nothing, or too little, of an answer that waits for it; "
        "then it is cut off. 0: off.",
    )
    min_response_rate: int = _option(
        "timeouts",
        byte_size(0),
        240,
        "Bytes taken of an answer that buy its client a second, never beyond --response-timeout "
        "from now. 0: any byte buys all of it.",
    )
    queue_timeout: float = _option(
        "timeouts",
        seconds(zero=True),
        30.0,
        "Seconds that a request waits for a reactor; then 503. 0: off.",
    )
    first_byte_timeout: float = _option(
        "timeouts",
        seconds(zero=True),
        0.0,
        "Seconds from the call of the app, or the end of the request if that comes later, to the "
        "first byte of its answer; then 504, and the app is cancelled. 0: off.",
    )
    request_timeout: float = _option(
        "timeouts",
        seconds(zero=True),
        0.0,
        "Seconds from the call of the app to the end of its answer; then 504, or "
        "the answer is cut, and the app is cancelled. 0: off.",
    )
    timeout: float = _option(
        "timeouts",
        seconds(zero=True),
        30.0,
        "Seconds that a reactor's loop may stand still; then the reactor is killed. A WSGI app in "
        "one thread may take longer. 0: off.",
    )
    graceful_timeout: float = _option(
        "timeouts",
        seconds(zero=False),
        30.0,
        "Seconds for running requests to end when a reactor is stopped or replaced.",
    )
    shutdown_delay: float = _option(
        "timeouts",
        seconds(zero=True),
        0.0,
        "Seconds of further service after the word to stop, for balancers to look elsewhere.",
    )
    close_grace: float = _option(
        "timeouts",
        seconds(zero=True),
        1.0,
        "Seconds that connections without a request have, when the service stops, for a last one.",
    )
    start_timeout: float = _option(
        "timeouts",
        seconds(zero=True),
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
