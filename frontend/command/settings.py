"""The settings of reactor-run, as one table.

The table is the body of `Settings`: each field gives its default, the kind of its value, its unit
and its meaning. Flags, environment variables, keys of configuration files and docs/settings.md are
derived from it. `OPTIONS` lists the rows in order. `sources` reads them. `cli` knows which settings
exclude each other.
"""

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from reactor_run.clock import Zone
from reactor_run.frontend.command.app_tables import check_app_table
from reactor_run.frontend.command.options import (
    MISSING,
    MODE,
    REACTORS,
    SWITCH,
    UMASK,
    VARIABLE,
    Kind,
    Option,
    byte_size,
    choice,
    count,
    parse_app,
    parse_directory,
    parse_module,
    parse_root_path,
    parse_text,
    seconds,
)
from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.sockets.addresses import (
    AdminBind,
    Bind,
    TCPBind,
    parse_admin,
    parse_bind,
    parse_health,
    parse_metrics,
    parse_redirect,
    split_binds,
    written,
)
from reactor_run.frontend.sockets.networks import LOCAL, NOBODY, Networks, parse_networks
from reactor_run.protocol.own_fields import read_own_field
from reactor_run.protocol.policy import FIELD_COUNT_MAX, PathPolicy

if TYPE_CHECKING:
    from reactor_run.frontend.routes.notation import MountFlag, StaticFlag

T = TypeVar("T")

Interface = Literal["auto", "asgi", "wsgi"]
Runtime = Literal["auto", "trio", "asyncio", "uvloop"]
Lifespan = Literal["auto", "on", "off"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["text", "json"]
Lanes = Literal["express", "plain"]
Replay = Literal["safe", "idempotent", "off"]
LaneProxy = Literal["v2", "v1", "off"]
Answers = Literal["direct", "relay"]
ForwardedFields = Literal["x-forwarded", "forwarded"]
OnOff = Literal["on", "off"]
Preload = Literal["auto", "on", "off"]
VerifyClient = Literal["off", "optional", "required"]
TlsVersion = Literal["1.2", "1.3"]
Http2Use = Literal["auto", "on", "off"]

GROUPS = {
    "app": "The app",
    "files": "Files with settings",
    "server": "Server",
    "tls": "TLS",
    "routes": "Routes and files",
    "proxies": "Proxies in front",
    "logs": "Logs",
    "operation": "Operation",
    "development": "Development",
    "lanes": "Lanes between front end and reactors",
    "heuristics": "Heuristics",
    "websocket": "WebSocket",
    "limits": "Limits",
    "timeouts": "Timeouts",
}
"""Groups of options, in the order in which help and documentation show them."""

NETWORKS = Kind("NETWORKS", parse_networks, lambda networks: networks.text)


def _parse_admin(text: str) -> AdminBind | None:
    return None if text == "off" else parse_admin(text)


def _show_address(bind: Bind | None) -> str:
    return "off" if bind is None else written(bind)


ADMIN = Kind("ADDRESS", _parse_admin, _show_address)


def _parse_health(text: str) -> TCPBind | None:
    return None if text == "off" else parse_health(text)


HEALTH = Kind("ADDRESS", _parse_health, _show_address)


def _parse_metrics(text: str) -> TCPBind | None:
    return None if text == "off" else parse_metrics(text)


METRICS = Kind("ADDRESS", _parse_metrics, _show_address)


def _parse_redirect(text: str) -> TCPBind | None:
    return None if text == "off" else parse_redirect(text)


REDIRECT = Kind("ADDRESS", _parse_redirect, _show_address)


def _parse_header(text: str) -> tuple[bytes, bytes]:
    try:
        return read_own_field(os.fsencode(text))
    except ValueError as error:
        raise OperatorError(f"{text!r}: {error}") from None


def _by_notation(name: str) -> Callable[[Any], Any]:
    """Return a function of the notation of routes. It is imported only if it is needed."""

    def call(value: Any) -> Any:
        from reactor_run.frontend.routes import notation

        return getattr(notation, name)(value)

    return call


ROUTE = Kind("TABLE", _by_notation("check_route"), takes_table=True)
MOUNT = Kind("[HOST]/PREFIX=APP", _by_notation("parse_mount"))
STATIC = Kind("[HOST]/PREFIX=DIR", _by_notation("parse_static"))
FILE_NAME = Kind("FILE|off", _by_notation("parse_file_name"), lambda name: name or "off")
CACHE_RULE = Kind("PATTERN=VALUE", _by_notation("parse_cache_rule"), "=".join)

HEADER = Kind("NAME:VALUE", _parse_header, lambda field: os.fsdecode(b":".join(field)))


def _parse_grace(text: str) -> float | None:
    return None if text == "off" else seconds(zero=True).parse(text)


def _show_grace(value: float | None) -> str:
    return "off" if value is None else f"{value:g}"


GRACE = Kind("SECONDS|off", _parse_grace, _show_grace)


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


_rows: list[dict[str, Any]] = [
    {
        "group": "app",
        "kind": Kind("module[:attribute]", parse_app),
        "meaning": "The WSGI or ASGI app: its module, and its name in the module.",
        "default": MISSING,
        "shown_default": "",
    }
]
"""The row of each field of `Settings`, in order. The first field has no default, so its row is
here."""


def _option(
    group: str,
    kind: Kind[T],
    default: T,
    meaning: str,
    *,
    shown_default: str | None = None,
    short: str = "",
) -> T:
    """Add the row of a field of `Settings`; return the default."""
    row = {
        "group": group,
        "kind": kind,
        "meaning": meaning,
        "default": default,
        "shown_default": kind.show(default) if shown_default is None else shown_default,
        "short": short,
    }
    _rows.append(row)
    return default


def _options(
    group: str,
    kind: Kind[T],
    meaning: str,
    *,
    shown_default: str,
    separator: str = ",",
    short: str = "",
) -> tuple[T, ...]:
    """Add the row of a repeatable field of `Settings`; return its default, which is empty."""
    row = {
        "group": group,
        "kind": kind,
        "meaning": meaning,
        "default": (),
        "shown_default": shown_default,
        "repeatable": True,
        "separator": separator,
        "short": short,
    }
    _rows.append(row)
    return ()


class Settings(NamedTuple):
    """All that an operator decides. Sizes are in bytes, times in seconds. The table has the
    details."""

    app: str
    factory: bool = _option(
        "app", SWITCH, False, "The attribute is a function without parameters that returns the app."
    )
    app_dir: str = _option(
        "app",
        Kind("DIR", parse_directory),
        ".",
        "Directory from which the app is imported. Each start of a reactor looks it up again.",
    )
    interface: Interface = _option(
        "app", choice(Interface), "auto", "What the app speaks. auto: detect it from the app."
    )
    lifespan: Lifespan = _option(
        "app",
        choice(Lifespan),
        "auto",
        "ASGI lifespan events. on: the app must support them; off: send none; auto: send them, "
        "and go on if the app does not support them.",
    )
    root_path: str = _option(
        "app",
        Kind("PATH", parse_root_path),
        "",
        "Path under which the app is mounted: ASGI root_path, WSGI SCRIPT_NAME.",
        shown_default="not mounted",
    )
    env: tuple[tuple[str, str], ...] = _options(
        "app",
        VARIABLE,
        "Environment variable of the app. It wins over the real environment. May be repeated; a "
        "table in a file.",
        shown_default="none",
        separator="\n",
    )

    config: str = _option(
        "files",
        Kind("FILE", parse_text),
        "",
        "TOML file with settings. Its keys are the long flags without --.",
        shown_default="[tool.reactor-run] in pyproject.toml",
    )
    env_file: str = _option(
        "files",
        Kind("FILE", parse_text),
        "",
        "File with variables, as NAME=VALUE, for the app and for settings. The real environment "
        "wins. It needs python-dotenv.",
        shown_default="none",
    )

    bind: tuple[Bind, ...] = _options(
        "server",
        Kind("ADDRESS", parse_bind, written, split=split_binds),
        "Address to listen on: HOST:PORT, [IPV6]:PORT, :PORT (every interface), unix:/PATH, "
        "unix:@NAME (abstract), fd:N (passed by the parent) or fd:NAME (passed by systemd under "
        "this name). With a certificate, TCP has TLS unless `,plain` follows. May be repeated.",
        shown_default="127.0.0.1:8000, or the sockets that systemd passes",
        short="-b",
    )
    unix_mode: int = _option(
        "server",
        MODE,
        0o666,
        "Permissions of unix sockets, octal. A client needs write permission to connect.",
    )
    backlog: int = _option(
        "server",
        count(1),
        2048,
        "Connections that the kernel queues for a listener until they are accepted.",
    )
    reactors: int = _option(
        "server",
        REACTORS,
        1,
        "Number of reactor processes. auto: one for each CPU that affinity and cgroup allow; it "
        "follows their number.",
        short="-r",
    )
    runtime: Runtime = _option(
        "server",
        choice(Runtime),
        "auto",
        "Event loop of the reactors, for ASGI apps. auto: uvloop, or asyncio if uvloop is not "
        "installed, for an app that imports a library that needs asyncio; else trio. WSGI apps run "
        "in no event loop.",
    )
    preload: Preload = _option(
        "server",
        choice(Preload),
        "auto",
        "on: one process imports the app, and forks the reactors. They share memory and start in "
        "milliseconds, but not every app can be forked: see docs/preload.md. auto: off.",
    )
    max_requests: int = _option(
        "server",
        count(0),
        0,
        "Requests after which a reactor is replaced. 0: off.",
    )
    max_requests_jitter: int = _option(
        "server",
        count(0),
        0,
        "Maximum of a random number that is added to --max-requests for each reactor.",
    )
    max_rss: int = _option(
        "server",
        byte_size(0),
        0,
        "Resident memory in bytes above which a reactor is replaced. 0: off.",
    )
    max_lifetime: float = _option(
        "server",
        seconds(zero=True),
        0.0,
        "Seconds from its start after which a reactor is replaced. 0: off.",
    )
    threads: int = _option(
        "server",
        count(1),
        1,
        "WSGI requests that a reactor runs at once, each in a thread. 1: one at a time, in the "
        "main thread.",
    )
    concurrency: int = _option(
        "server",
        count(1),
        1000,
        "ASGI requests that a reactor runs at once. Requests that wait only for their client, to "
        "send more of the body or to read, do not count.",
    )
    replay: Replay = _option(
        "server",
        choice(Replay),
        "safe",
        "Requests that are retried once on another reactor if theirs dies before it responds. "
        "safe: GET, HEAD, OPTIONS and TRACE; idempotent: also PUT and DELETE; off: only what has "
        "not begun.",
    )
    header: tuple[tuple[bytes, bytes], ...] = _options(
        "server",
        HEADER,
        "Header field of every response, also of those of the front end, unless the app sets it. "
        "May be repeated.",
        shown_default="none",
        separator="\n",
    )
    no_server_header: bool = _option(
        "server", SWITCH, False, "Responses have no Server field, unless the app sets it."
    )
    no_date_header: bool = _option(
        "server", SWITCH, False, "Responses have no Date field, unless the app sets it."
    )

    certfile: tuple[str, ...] = _options(
        "tls",
        Kind("FILE", parse_text),
        "Certificate in PEM, with those of the authorities between it and the root. With it, TCP "
        "has TLS. May be repeated; clients get the one for the host name that they ask for, or the "
        "first.",
        shown_default="none: no TLS",
    )
    keyfile: tuple[str, ...] = _options(
        "tls",
        Kind("FILE", parse_text),
        "Private key of a certificate, in PEM. May be repeated, in the order of --certfile.",
        shown_default="the file of the certificate",
    )
    keyfile_password_file: str = _option(
        "tls",
        Kind("FILE", parse_text),
        "",
        "File with the password of the private keys, in its first line.",
        shown_default="none",
    )
    ca_certs: str = _option(
        "tls",
        Kind("FILE", parse_text),
        "",
        "Certificates in PEM of the authorities that sign clients' certificates.",
        shown_default="none",
    )
    verify_client: VerifyClient = _option(
        "tls",
        choice(VerifyClient),
        "off",
        "Ask clients for a certificate. optional: they may have none; required: they must have "
        "one. An invalid one ends the handshake in both cases. Needs --ca-certs.",
    )
    tls_min: TlsVersion = _option(
        "tls", choice(TlsVersion), "1.2", "Lowest version of TLS that clients may speak."
    )
    ciphers: str = _option(
        "tls",
        Kind("LIST", parse_text),
        "",
        "Ciphers for TLS 1.2, as in openssl-ciphers(1). Those of TLS 1.3 are fixed.",
        shown_default="those of Python's ssl",
    )
    tls_dev: bool = _option(
        "tls",
        SWITCH,
        False,
        "For development: make a certificate for localhost, which no client trusts. Needs the "
        "extra tls-dev.",
    )
    redirect_http: TCPBind | None = _option(
        "tls",
        REDIRECT,
        None,
        "Address, HOST:PORT or :PORT, without TLS. Requests there are redirected to https (308).",
    )
    route: tuple[str, ...] = _options(
        "routes",
        ROUTE,
        "Who answers the requests with a host and a prefix: the app, files, a redirect or a text. "
        "docs/routes.md lists the keys. May be repeated; [[route]] in a file.",
        shown_default="the app answers all requests",
        separator="\n",
    )
    mount: tuple["MountFlag", ...] = _options(
        "routes",
        MOUNT,
        "Another app in this service, with reactors of its own, and the path under which it is "
        "mounted. May be repeated.",
        shown_default="none",
    )
    app_table: tuple[str, ...] = _options(
        "routes",
        Kind("TABLE", check_app_table, takes_table=True),
        "Another app: its name, its module and its settings. docs/routes.md lists them. May be "
        "repeated; [app.NAME] in a file.",
        shown_default="none",
        separator="\n",
    )
    static: tuple["StaticFlag", ...] = _options(
        "routes",
        STATIC,
        "Directory whose files the front end serves, and the path under which it does. May be "
        "repeated.",
        shown_default="none",
    )
    static_index: str = _option(
        "routes",
        FILE_NAME,
        "index.html",
        "With --static: file that is sent for its directory.",
    )
    static_fallback: str = _option(
        "routes",
        FILE_NAME,
        "",
        "With --static: file that is sent where there is none, unless the path ends with a name "
        "that has a dot. For apps that run in the browser.",
        shown_default="off",
    )
    static_cache: tuple[tuple[str, str], ...] = _options(
        "routes",
        CACHE_RULE,
        "With --static: Cache-Control of the files that match a pattern, as in "
        "'assets/*=immutable'. The first that matches counts. May be repeated.",
        shown_default="none",
        separator="\n",
    )
    cors_origin: tuple[str, ...] = _options(
        "routes",
        Kind("ORIGIN", str),
        "Origin whose pages may read the app's responses: https://shop.example, "
        "https://*.shop.example, null, or * for any. May be repeated.",
        shown_default="the app itself answers cross-origin requests",
    )
    cors_method: tuple[str, ...] = _options(
        "routes",
        Kind("METHOD", str),
        "With --cors-origin: method that these pages may use, besides GET, HEAD and POST. May be "
        "repeated.",
        shown_default="none",
    )
    cors_field: tuple[str, ...] = _options(
        "routes",
        Kind("FIELD", str),
        "With --cors-origin: request field that these pages may set, or * for any. May be "
        "repeated.",
        shown_default="none",
    )
    cors_expose: tuple[str, ...] = _options(
        "routes",
        Kind("FIELD", str),
        "With --cors-origin: response field that these pages may read, or * for any. May be "
        "repeated.",
        shown_default="none",
    )
    cors_credentials: bool = _option(
        "routes",
        SWITCH,
        False,
        "With --cors-origin: these pages may send cookies and other credentials.",
    )
    cors_max_age: int = _option(
        "routes",
        count(0, 86400),
        600,
        "Seconds for which a browser may keep the answer to a preflight.",
    )

    log_level: LogLevel = _option(
        "logs", choice(LogLevel), "info", "Lowest level of messages that are logged."
    )
    log_format: LogFormat = _option(
        "logs",
        choice(LogFormat),
        "text",
        "What a message looks like. text: a line, coloured on a terminal; json: an object a line.",
    )
    log_config: str = _option(
        "logs",
        Kind("FILE", parse_text),
        "",
        "Configuration of Python's logging, for the front end, the reactors and the app: "
        "dictConfig as .toml or .json, else an INI file for fileConfig.",
        shown_default="none",
    )
    access_log: str = _option(
        "logs",
        Kind("-|PATH|off", _parse_log_path),
        AUTO,
        "Where each request is logged, in one line. -: standard output; off: nowhere.",
        shown_default="- if standard error is a terminal, else off",
    )
    request_id: bool = _option(
        "logs",
        SWITCH,
        False,
        "Each request has an id, in the field X-Request-ID of request and response and in both "
        "logs. A trusted proxy may name it (--forwarded-allow-from).",
    )
    server_timing: bool = _option(
        "logs",
        SWITCH,
        False,
        "Responses have a Server-Timing field with the time in the queue and in the app.",
    )
    access_log_format: str = _option(
        "logs",
        Kind("combined|common|json|FORMAT", _parse_format),
        "combined",
        "What a line of the access log holds. A FORMAT has gunicorn's atoms and our own, as in "
        "'%(h)s \"%(r)s\" %(s)s %(L)s'. docs/logging.md lists them.",
    )

    proxy_protocol: bool = _option(
        "proxies",
        SWITCH,
        False,
        "Every connection must begin with a PROXY protocol header, version 1 or 2, which names "
        "the client.",
    )
    proxy_allow_from: Networks = _option(
        "proxies",
        NETWORKS,
        LOCAL,
        "Peers that may connect with --proxy-protocol: addresses, networks such as 10.0.0.0/8, "
        "and unix for clients of unix sockets, separated by commas.",
    )

    forwarded_allow_from: Networks = _option(
        "proxies",
        NETWORKS,
        NOBODY,
        "Trusted proxies, whose fields set the client's address and scheme: addresses, networks "
        "and unix, separated by commas.",
    )
    forwarded_fields: ForwardedFields = _option(
        "proxies",
        choice(ForwardedFields),
        "x-forwarded",
        "What these proxies write. x-forwarded: X-Forwarded-For and X-Forwarded-Proto; "
        "forwarded: Forwarded (RFC 7239).",
    )

    admin: AdminBind | None = _option(
        "operation",
        ADMIN,
        None,
        "Admin socket: health, status, metrics, reload and stop, over HTTP. unix:/PATH, or "
        "HOST:PORT with a loopback address.",
    )
    admin_mode: int = _option(
        "operation",
        MODE,
        0o600,
        "Permissions of a unix admin socket, octal. Write permission allows a user to stop the "
        "service.",
    )
    hooks: str = _option(
        "operation",
        Kind("MODULE", parse_module),
        "",
        "Module with functions that are called when the service and its reactors start, reload and "
        "end, and for each request. It is imported from --app-dir. docs/hooks.md lists them.",
        shown_default="none",
    )
    pid_file: str = _option(
        "operation",
        Kind("FILE", parse_text),
        "",
        "File for the process number of the front end. It is removed at the end.",
        shown_default="none",
    )
    umask: int | None = _option(
        "operation",
        UMASK,
        None,
        "Permissions that files of the app and of the server do not get, octal.",
        shown_default="that of the parent",
    )
    health: TCPBind | None = _option(
        "operation",
        HEALTH,
        None,
        "Address for health checks from other machines, HOST:PORT or :PORT. It serves only "
        "/healthz and /readyz.",
    )
    metrics: TCPBind | None = _option(
        "operation",
        METRICS,
        None,
        "Address for Prometheus, HOST:PORT or :PORT, which other machines may reach. It serves "
        "only /metrics. --admin serves them too.",
    )

    reload: bool = _option(
        "development",
        SWITCH,
        False,
        "Start the app anew when its files change. Needs the extra reload.",
    )
    reload_dir: tuple[str, ...] = _options(
        "development",
        Kind("DIR", parse_directory),
        "With --reload: directory to watch, besides --app-dir. May be repeated.",
        shown_default="none",
    )
    reload_include: tuple[str, ...] = _options(
        "development",
        Kind("PATTERN", str),
        "With --reload: files that count besides *.py, as in *.html. May be repeated.",
        shown_default="none",
    )
    reload_exclude: tuple[str, ...] = _options(
        "development",
        Kind("PATTERN", str),
        "With --reload: files or directories that do not count, as in tests. May be repeated.",
        shown_default="none",
    )

    http2: Http2Use = _option(
        "server",
        choice(Http2Use),
        "auto",
        "Speak HTTP/2 with clients that choose it in TLS (ALPN), or that begin with it on a plain "
        "listener. auto: if the package for it is installed; on: its lack is an error. Needs the "
        "extra http2.",
    )
    lanes: Lanes = _option(
        "lanes",
        choice(Lanes),
        "express",
        "express: all requests share one socket pair per reactor; plain: each request has a socket "
        "pair of its own.",
    )
    answers: Answers = _option(
        "lanes",
        choice(Answers),
        "direct",
        "direct: a reactor writes large and streamed answers to the client's socket; relay: the "
        "front end writes all answers. Plain lanes always relay.",
    )
    lane_proxy: LaneProxy = _option(
        "lanes",
        choice(LaneProxy),
        "v2",
        "PROXY protocol header before each request on a lane. The express lane always uses v2.",
    )

    sched_yield: OnOff = _option(
        "heuristics",
        choice(OnOff),
        "on",
        "Front end and reactors yield the CPU around their wait for events.",
    )
    busy_poll: OnOff = _option(
        "heuristics",
        choice(OnOff),
        "on",
        "Poll for up to 50 µs instead of sleeping, while a single client sends one request after "
        "another. Needs --sched-yield on.",
    )
    set_aside: OnOff = _option(
        "heuristics",
        choice(OnOff),
        "on",
        "With several reactors, requests of routes that stall a reactor leave one reactor to the "
        "other requests.",
    )

    ws_max_message_size: int = _option(
        "websocket",
        byte_size(1),
        16 << 20,
        "Maximum size of a WebSocket message from a client, in bytes. Larger: close code 1009.",
    )
    ws_max: int = _option(
        "websocket",
        count(0),
        0,
        "Maximum number of WebSockets in each reactor. More: 503. 0: no limit.",
    )
    ws_ping_interval: float = _option(
        "websocket",
        seconds(zero=True),
        20.0,
        "Seconds between two pings to each client. 0: none are sent.",
    )
    ws_ping_timeout: float = _option(
        "websocket",
        seconds(zero=True),
        20.0,
        "Seconds that a client has to answer a ping. Then its WebSocket is closed. 0: no limit.",
    )
    ws_close_timeout: float = _option(
        "websocket",
        seconds(zero=False),
        10.0,
        "Seconds that a client has to answer a close frame. Then its connection is cut.",
    )
    ws_drain: float = _option(
        "websocket",
        seconds(zero=True),
        5.0,
        "Seconds over which WebSockets are closed when a reactor retires or the service stops, so "
        "that not all clients connect again at once.",
    )
    ws_compression: OnOff = _option(
        "websocket",
        choice(OnOff),
        "off",
        "Offer clients to compress messages (permessage-deflate, RFC 7692). Takes about 20 KiB for "
        "each WebSocket that uses it, and CPU.",
    )

    limit_request_line: int = _option(
        "limits", byte_size(1), 8190, "Maximum length of the request line, in bytes. Longer: 414."
    )
    limit_field_count: int = _option(
        "limits",
        count(1, FIELD_COUNT_MAX),
        100,
        f"Maximum number of header fields in a request, at most {FIELD_COUNT_MAX}. More: 431.",
    )
    limit_field_size: int = _option(
        "limits",
        byte_size(1),
        8190,
        "Maximum length of a field line, in bytes. Longer: 431.",
    )
    limit_head_size: int = _option(
        "limits",
        byte_size(1),
        64 << 10,
        "Maximum size of a request head (request line and fields), in bytes. Larger: 431.",
    )
    max_body_size: int = _option(
        "limits",
        byte_size(0),
        1 << 30,
        "Maximum size of a request body, in bytes. Larger: 413. 0: no limit.",
    )
    path_policy: PathPolicy = _option(
        "limits",
        choice(PathPolicy),
        "reject",
        "Paths with a segment . or .. (also %2e). reject: respond with 400; normalize: resolve "
        "the segment before the app sees the path; pass: leave it to the app.",
    )
    answer_spool_size: int = _option(
        "limits",
        byte_size(1),
        1 << 30,
        "Maximum bytes of a WSGI response in a temporary file while its client is slow.",
    )
    max_connections: int = _option(
        "limits",
        count(0),
        10000,
        "Maximum number of client connections. 0: as many as the limit of open files allows; "
        "that limit always applies.",
    )
    h2_max_streams: int = _option(
        "limits",
        count(1),
        100,
        "Maximum number of requests at once on one HTTP/2 connection.",
    )
    max_connections_per_address: int = _option(
        "limits",
        count(0),
        0,
        "Maximum number of client connections from one IPv4 address or one IPv6 /64 network. "
        "More are closed. 0: no limit.",
    )
    queue_size: int = _option(
        "limits",
        count(0),
        1024,
        "Maximum number of requests that wait for a reactor. More: 503. 0: none waits.",
    )

    handshake_timeout: float = _option(
        "timeouts",
        seconds(zero=False),
        10.0,
        "Seconds for a TLS handshake. Then the connection closes.",
    )
    head_timeout: float = _option(
        "timeouts",
        seconds(zero=True),
        30.0,
        "Seconds from the first byte of a request to the end of its head. Then: 408. 0: off.",
    )
    body_timeout: float = _option(
        "timeouts",
        seconds(zero=True),
        30.0,
        "Seconds that a request body may stall, or stay below --min-body-rate. Then: 408. 0: off.",
    )
    min_body_rate: int = _option(
        "timeouts",
        byte_size(0),
        240,
        "Minimum bytes/s of a request body. So many bytes extend its deadline by 1 s, to at most "
        "--body-timeout from now. 0: any byte extends it fully.",
    )
    keep_alive: float = _option(
        "timeouts",
        seconds(zero=False),
        75.0,
        "Seconds that a connection may be idle between requests.",
    )
    max_connection_age: float = _option(
        "timeouts",
        seconds(zero=True),
        0.0,
        "Seconds after which the next request on a connection is its last one, so that its client "
        "connects anew, perhaps to another server behind a balancer. 0: no limit.",
    )
    response_timeout: float = _option(
        "timeouts",
        seconds(zero=True),
        60.0,
        "Seconds that a client may stop reading a response, or stay below --min-response-rate. "
        "Then its connection is aborted. 0: off.",
    )
    min_response_rate: int = _option(
        "timeouts",
        byte_size(0),
        240,
        "Minimum bytes/s at which a client reads a response. So many bytes extend its deadline "
        "by 1 s, to at most --response-timeout from now. 0: any byte extends it fully.",
    )
    queue_timeout: float = _option(
        "timeouts",
        seconds(zero=True),
        30.0,
        "Seconds that a request may wait for a reactor. Then: 503. 0: off.",
    )
    first_byte_timeout: float = _option(
        "timeouts",
        seconds(zero=True),
        0.0,
        "Seconds from the call of the app, or from the end of the request if that is later, to "
        "the first byte of the response. Then: 504, and the app is cancelled. 0: off.",
    )
    request_timeout: float = _option(
        "timeouts",
        seconds(zero=True),
        0.0,
        "Seconds from the call of the app to the end of the response. Then: 504, or the response "
        "is aborted; the app is cancelled. 0: off.",
    )
    timeout: float = _option(
        "timeouts",
        seconds(zero=True),
        30.0,
        "Seconds that a reactor's loop may stall. Then the reactor is killed. A WSGI app in one "
        "thread may take longer. 0: off.",
    )
    graceful_timeout: float = _option(
        "timeouts",
        seconds(zero=False),
        30.0,
        "Seconds for requests in flight to finish when a reactor retires or the service stops.",
    )
    event_stream_grace: float | None = _option(
        "timeouts",
        GRACE,
        None,
        "The same for event streams (text/event-stream) of ASGI apps, which may last until their "
        "clients leave. off: as for other requests. Ctrl-C in a terminal ends them at once.",
    )
    shutdown_delay: float = _option(
        "timeouts",
        seconds(zero=True),
        0.0,
        "Seconds that the service keeps serving after it is told to stop, while /readyz fails "
        "and balancers notice.",
    )
    close_grace: float = _option(
        "timeouts",
        seconds(zero=True),
        1.0,
        "Seconds that idle connections have for one last request when the service stops.",
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
    """Return the tables of docs/settings.md, in Markdown."""
    lines = []
    for group, title in GROUPS.items():
        lines += [f"## {title}", "", "| Option | Default | Environment | Meaning |"]
        lines += ["|---|---|---|---|"]
        for option in OPTIONS:
            if option.group == group:
                written = f"{option.short}, {option.flag}" if option.short else option.flag
                if not option.positional and not option.switch:
                    written += " " + option.kind.metavar
                cells = (written, option.shown_default, option.variable, option.meaning)
                written, default, variable, meaning = (text.replace("|", r"\|") for text in cells)
                default = f"`{default}`" if re.fullmatch(r"\S+", default) else default
                lines.append(f"| `{written}` | {default} | `{variable}` | {meaning} |")
        lines.append("")
    return "\n".join(lines)
