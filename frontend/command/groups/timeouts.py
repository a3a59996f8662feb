"""Timeouts and minimum rates."""

from reactor_run.frontend.command.options import Kind, byte_size, seconds
from reactor_run.frontend.command.table import Group, option


def _parse_grace(text: str) -> float | None:
    return None if text == "off" else seconds(zero=True).parse(text)


def _show_grace(value: float | None) -> str:
    return "off" if value is None else f"{value:g}"


GRACE = Kind("SECONDS|off", _parse_grace, _show_grace)


class TimeoutsGroup(Group, key="timeouts", title="Timeouts"):
    """Timeouts and minimum rates."""

    handshake_timeout: float = option(
        seconds(zero=False),
        10.0,
        "Seconds for a TLS handshake. Then the connection closes.",
    )
    head_timeout: float = option(
        seconds(zero=True),
        30.0,
        "Seconds from the first byte of a request to the end of its head. Then: 408. 0: off.",
    )
    body_timeout: float = option(
        seconds(zero=True),
        30.0,
        "Seconds that a request body may stall, or stay below --min-body-rate. Then: 408. 0: off.",
    )
    min_body_rate: int = option(
        byte_size(0),
        240,
        "Minimum bytes/s of a request body. So many bytes extend its deadline by 1 s, to at most "
        "--body-timeout from now. 0: any byte extends it fully.",
    )
    keep_alive: float = option(
        seconds(zero=False),
        75.0,
        "Seconds that a connection may be idle between requests.",
    )
    max_connection_age: float = option(
        seconds(zero=True),
        0.0,
        "Seconds after which the next request on a connection is its last one, so that its client "
        "connects anew, perhaps to another server behind a balancer. 0: no limit.",
    )
    response_timeout: float = option(
        seconds(zero=True),
        60.0,
        "Seconds that a client may stop reading a response, or stay below --min-response-rate. "
        "Then its connection is aborted. 0: off.",
    )
    min_response_rate: int = option(
        byte_size(0),
        240,
        "Minimum bytes/s at which a client reads a response. So many bytes extend its deadline "
        "by 1 s, to at most --response-timeout from now. 0: any byte extends it fully.",
    )
    queue_timeout: float = option(
        seconds(zero=True),
        30.0,
        "Seconds that a request may wait for a reactor. Then: 503. 0: off.",
    )
    first_byte_timeout: float = option(
        seconds(zero=True),
        0.0,
        "Seconds from the call of the app, or from the end of the request if that is later, to "
        "the first byte of the response. Then: 504, and the app is cancelled. 0: off.",
    )
    request_timeout: float = option(
        seconds(zero=True),
        0.0,
        "Seconds from the call of the app to the end of the response. Then: 504, or the response "
        "is aborted; the app is cancelled. 0: off.",
    )
    timeout: float = option(
        seconds(zero=True),
        30.0,
        "Seconds that a reactor's loop may stall. Then the reactor is killed. A WSGI app in one "
        "thread may take longer. 0: off.",
    )
    graceful_timeout: float = option(
        seconds(zero=False),
        30.0,
        "Seconds for requests in flight to finish when a reactor retires or the service stops.",
    )
    event_stream_grace: float | None = option(
        GRACE,
        None,
        "The same for event streams (text/event-stream) of ASGI apps, which may last until their "
        "clients leave. off: as for other requests. Ctrl-C in a terminal ends them at once.",
    )
    shutdown_delay: float = option(
        seconds(zero=True),
        0.0,
        "Seconds that the service keeps serving after it is told to stop, while /readyz fails "
        "and balancers notice.",
    )
    close_grace: float = option(
        seconds(zero=True),
        1.0,
        "Seconds that idle connections have for one last request when the service stops.",
    )
    start_timeout: float = option(
        seconds(zero=True),
        60.0,
        "Seconds for a reactor to import the app and become ready. 0: off.",
    )
