"""The service: its listeners and its reactors."""

import os
from typing import Literal

from reactor_run.frontend.command.options import (
    MODE,
    REACTORS,
    SWITCH,
    Kind,
    byte_size,
    choice,
    count,
    seconds,
)
from reactor_run.frontend.command.table import Group, option, options
from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.sockets.addresses import Bind, parse_bind, split_binds, written
from reactor_run.protocol.own_fields import read_own_field

Runtime = Literal["auto", "trio", "asyncio", "uvloop"]

Replay = Literal["safe", "idempotent", "off"]

Preload = Literal["auto", "on", "off"]

Http2Use = Literal["auto", "on", "off"]


def _parse_header(text: str) -> tuple[bytes, bytes]:
    try:
        return read_own_field(os.fsencode(text))
    except ValueError as error:
        raise OperatorError(f"{text!r}: {error}") from None


HEADER = Kind("NAME:VALUE", _parse_header, lambda field: os.fsdecode(b":".join(field)))


class ServerGroup(Group, key="server", title="Server"):
    """The service: its listeners and its reactors."""

    bind: tuple[Bind, ...] = options(
        Kind("ADDRESS", parse_bind, written, split=split_binds),
        "Address to listen on: HOST:PORT, [IPV6]:PORT, :PORT (every interface), unix:/PATH, "
        "unix:@NAME (abstract), fd:N (passed by the parent) or fd:NAME (passed by systemd under "
        "this name). With a certificate, TCP has TLS unless `,plain` follows. May be repeated.",
        shown_default="127.0.0.1:8000, or the sockets that systemd passes",
        short="-b",
    )
    unix_mode: int = option(
        MODE,
        0o666,
        "Permissions of unix sockets, octal. A client needs write permission to connect.",
    )
    backlog: int = option(
        count(1),
        2048,
        "Connections that the kernel queues for a listener until they are accepted.",
    )
    reactors: int = option(
        REACTORS,
        1,
        "Number of reactor processes. auto: one for each CPU that affinity and cgroup allow; it "
        "follows their number.",
        short="-r",
    )
    runtime: Runtime = option(
        choice(Runtime),
        "auto",
        "Event loop of the reactors, for ASGI apps. auto: uvloop, or asyncio if uvloop is not "
        "installed, for an app that imports a library that needs asyncio; else trio. WSGI apps run "
        "in no event loop.",
    )
    preload: Preload = option(
        choice(Preload),
        "auto",
        "on: one process imports the app, and forks the reactors. They share memory and start in "
        "milliseconds, but not every app can be forked: see docs/preload.md. auto: off.",
    )
    max_requests: int = option(
        count(0),
        0,
        "Requests after which a reactor is replaced. 0: off.",
    )
    max_requests_jitter: int = option(
        count(0),
        0,
        "Maximum of a random number that is added to --max-requests for each reactor.",
    )
    max_rss: int = option(
        byte_size(0),
        0,
        "Resident memory in bytes above which a reactor is replaced. 0: off.",
    )
    max_lifetime: float = option(
        seconds(zero=True),
        0.0,
        "Seconds from its start after which a reactor is replaced. 0: off.",
    )
    threads: int = option(
        count(1),
        1,
        "WSGI requests that a reactor runs at once, each in a thread. 1: one at a time, in the "
        "main thread.",
    )
    concurrency: int = option(
        count(1),
        1000,
        "ASGI requests that a reactor runs at once. Requests that wait only for their client, to "
        "send more of the body or to read, do not count.",
    )
    replay: Replay = option(
        choice(Replay),
        "safe",
        "Requests that are retried once on another reactor if theirs dies before it responds. "
        "safe: GET, HEAD, OPTIONS and TRACE; idempotent: also PUT and DELETE; off: only what has "
        "not begun.",
    )
    header: tuple[tuple[bytes, bytes], ...] = options(
        HEADER,
        "Header field of every response, also of those of the front end, unless the app sets it. "
        "May be repeated.",
        shown_default="none",
        separator="\n",
    )
    no_server_header: bool = option(
        SWITCH, False, "Responses have no Server field, unless the app sets it."
    )
    no_date_header: bool = option(
        SWITCH, False, "Responses have no Date field, unless the app sets it."
    )
    http2: Http2Use = option(
        choice(Http2Use),
        "auto",
        "Speak HTTP/2 with clients that choose it in TLS (ALPN), or that begin with it on a plain "
        "listener. auto: if the package for it is installed; on: its lack is an error. Needs the "
        "extra http2.",
    )
