"""Limits of sizes and numbers."""

from reactor_run.frontend.command.options import byte_size, choice, count
from reactor_run.frontend.command.table import Group, option
from reactor_run.protocol.policy import FIELD_COUNT_MAX, PathPolicy


class LimitsGroup(Group, key="limits", title="Limits"):
    """Limits of sizes and numbers."""

    limit_request_line: int = option(
        byte_size(1), 8190, "Maximum length of the request line, in bytes. Longer: 414."
    )
    limit_field_count: int = option(
        count(1, FIELD_COUNT_MAX),
        100,
        f"Maximum number of header fields in a request, at most {FIELD_COUNT_MAX}. More: 431.",
    )
    limit_field_size: int = option(
        byte_size(1),
        8190,
        "Maximum length of a field line, in bytes. Longer: 431.",
    )
    limit_head_size: int = option(
        byte_size(1),
        64 << 10,
        "Maximum size of a request head (request line and fields), in bytes. Larger: 431.",
    )
    max_body_size: int = option(
        byte_size(0),
        1 << 30,
        "Maximum size of a request body, in bytes. Larger: 413. 0: no limit.",
    )
    path_policy: PathPolicy = option(
        choice(PathPolicy),
        "reject",
        "Paths with a segment . or .. (also %2e). reject: respond with 400; normalize: resolve "
        "the segment before the app sees the path; pass: leave it to the app.",
    )
    answer_spool_size: int = option(
        byte_size(1),
        1 << 30,
        "Maximum bytes of a WSGI response in a temporary file while its client is slow.",
    )
    max_connections: int = option(
        count(0),
        10000,
        "Maximum number of client connections. 0: as many as the limit of open files allows; "
        "that limit always applies.",
    )
    h2_max_streams: int = option(
        count(1),
        100,
        "Maximum number of requests at once on one HTTP/2 connection.",
    )
    max_connections_per_address: int = option(
        count(0),
        0,
        "Maximum number of client connections from one IPv4 address or one IPv6 /64 network. "
        "More are closed. 0: no limit.",
    )
    queue_size: int = option(
        count(0),
        1024,
        "Maximum number of requests that wait for a reactor. More: 503. 0: none waits.",
    )
