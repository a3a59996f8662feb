"""WebSockets."""

from reactor_run.frontend.command.kinds import OnOff
from reactor_run.frontend.command.options import byte_size, choice, count, seconds
from reactor_run.frontend.command.table import Group, option


class WebSocketGroup(Group, key="websocket", title="WebSocket"):
    """WebSockets."""

    ws_max_message_size: int = option(
        byte_size(1),
        16 << 20,
        "Maximum size of a WebSocket message from a client, in bytes. Larger: close code 1009.",
    )
    ws_max: int = option(
        count(0),
        0,
        "Maximum number of WebSockets in each reactor. More: 503. 0: no limit.",
    )
    ws_ping_interval: float = option(
        seconds(zero=True),
        20.0,
        "Seconds between two pings to each client. 0: none are sent.",
    )
    ws_ping_timeout: float = option(
        seconds(zero=True),
        20.0,
        "Seconds that a client has to answer a ping. Then its WebSocket is closed. 0: no limit.",
    )
    ws_close_timeout: float = option(
        seconds(zero=False),
        10.0,
        "Seconds that a client has to answer a close frame. Then its connection is cut.",
    )
    ws_drain: float = option(
        seconds(zero=True),
        5.0,
        "Seconds over which WebSockets are closed when a reactor retires or the service stops, so "
        "that not all clients connect again at once.",
    )
    ws_compression: OnOff = option(
        choice(OnOff),
        "off",
        "Offer clients to compress messages (permessage-deflate, RFC 7692). Takes about 20 KiB for "
        "each WebSocket that uses it, and CPU.",
    )
