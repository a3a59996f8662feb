"""An ASGI app with a route for each behaviour of HTTP that a server must get right."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import anyio

from tests.integration.apps.asgi_kit import COMMON, Disconnected, Exchange, app_of
from tests.integration.apps.shared import BLOCK, pattern

# Request bodies


async def echo(http: Exchange) -> None:
    """The request body back, piece by piece while it comes, with the same framing."""
    length = http.field(b"content-length")
    await http.start(fields=[(b"content-length", length)] if length else [])
    async for piece in http.pieces():
        await http.body(piece, more=True)
    await http.body()


async def hash(http: Exchange) -> None:
    """The SHA-256 and the size of the request body, read once the gate is open; notes how far."""
    digest, size = hashlib.sha256(), 0
    http.note("started")
    await http.gate()
    try:
        async for piece in http.pieces():
            digest.update(piece)
            size += len(piece)
            http.note(f"received {size}")
    except Disconnected:
        http.note("disconnected")
        return
    await http.reply_json({"sha256": digest.hexdigest(), "size": size})


async def early(http: Exchange) -> None:
    """An answer that does not wait for the body, nor read it."""
    await http.reply(b"no need to read that", int(http.number("status", 200)))


# Response bodies


async def download(http: Exchange) -> None:
    """`size` bytes of the pattern, with Content-Length unless `length=0`; notes what went out."""
    size = int(http.number("size", 0))
    length = [(b"content-length", str(size).encode())] if http.number("length", 1) else []
    await http.start(fields=length)
    sent = 0
    for piece in pattern(size):
        await http.body(piece, more=True)
        sent += len(piece)
        http.note(f"sent {sent}")
    await http.body()
    http.note("finished")


async def steps(http: Exchange, *fields: tuple[bytes, bytes]) -> None:
    """Three events, the last two each behind a gate of its own: `gate` and `gate2`."""
    await http.start(fields=[(b"content-type", b"text/event-stream"), *fields])
    await http.body(b"data: 1\n\n", more=True)
    await http.gate()
    await http.body(b"data: 2\n\n", more=True)
    http.query["gate"] = http.query["gate2"]
    await http.gate()
    await http.body(b"data: 3\n\n")


async def x_accel_buffering(http: Exchange) -> None:
    """The same, with the word that nginx shall not keep them back."""
    await steps(http, (b"x-accel-buffering", b"no"))


async def endless(http: Exchange) -> None:
    """The pattern for ever; notes how `send` says that the client is gone."""
    await http.start()
    http.note("started")
    try:
        while True:
            await http.body(BLOCK, more=True)
    except OSError:
        http.note("OSError")
        raise


async def timer(http: Exchange) -> None:
    """How late the worst of `count` sleeps of 5 ms woke up, in seconds."""
    worst = 0.0
    for _ in range(int(http.number("count", 20))):
        due = time.monotonic() + 0.005
        await anyio.sleep(0.005)
        worst = max(worst, time.monotonic() - due)
    await http.reply_json(worst)


# Heads


async def scope(http: Exchange) -> None:
    """The scope as JSON, bytes as latin-1; reads the body first."""
    async for _ in http.pieces():
        pass
    await http.reply_json(_plain({k: v for k, v in http.scope.items() if k != "state"}))


def _plain(value: Any) -> Any:
    match value:
        case bytes():
            return value.decode("latin-1")
        case dict():
            return {str(key): _plain(each) for key, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
    return value


async def peer(http: Exchange) -> None:
    """Notes the client's host."""
    http.note(http.scope["client"][0])
    await http.reply(b"noted")


async def cookies(http: Exchange) -> None:
    await http.reply(b"", fields=[(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2; Path=/")])


async def status(http: Exchange) -> None:
    """An answer of any status without a body, and without a field that frames it."""
    await http.start(int(http.number("code", 200)))
    await http.body()


async def hop_by_hop(http: Exchange) -> None:
    """Fields that are not for an app to send."""
    fields = [(b"connection", b"close"), (b"keep-alive", b"timeout=1"), (b"x-mine", b"kept")]
    await http.reply(b"fine", fields=fields)


# Clients that leave


async def long_poll(http: Exchange) -> None:
    """Wait for the disconnect, then answer all the same."""
    http.note("started")
    async for _ in http.pieces():
        pass
    http.note((await http.receive())["type"])
    try:
        await http.reply(b"late")
        http.note("answered")
    except OSError:
        http.note("OSError")


# Apps that are wrong


async def raise_before(http: Exchange) -> None:
    raise ValueError("before the start")


async def raise_after(http: Exchange) -> None:
    await http.start(fields=[(b"content-type", b"text/plain")])
    await http.body(b"some of it", more=True)
    raise ValueError("after the start")


async def no_answer(http: Exchange) -> None:
    """Return without a word."""


async def too_few(http: Exchange) -> None:
    await http.start(fields=[(b"content-length", b"10")])
    await http.body(b"12345")


async def too_many(http: Exchange) -> None:
    await http.start(fields=[(b"content-length", b"5")])
    await http.body(b"1234567890")


ILLEGAL = {
    "value-crlf": (b"x-bad", b"a\r\nx-forged: 1"),
    "value-lf": (b"x-bad", b"a\nx-forged: 1"),
    "value-nul": (b"x-bad", b"a\0b"),
    "name-space": (b"x bad", b"a"),
    "name-crlf": (b"x-bad\r\nx-forged", b"1"),
    "name-empty": (b"", b"1"),
}


async def illegal(http: Exchange) -> None:
    """A field that must never reach the wire."""
    await http.reply(b"fine", fields=[ILLEGAL[http.query["field"]]])


START = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body", "body": b"fine"}
WRONG_ORDERS: dict[str, list[dict[str, Any]]] = {
    "body-first": [BODY],
    "start-twice": [START, START],
    "unknown": [{"type": "http.response.nonsense"}],
    "body-after-end": [START, BODY, BODY],
    "start-after-end": [START, BODY, START],
}


async def order(http: Exchange) -> None:
    """Messages in a wrong order, of which the last one must raise at once in the app."""
    *right, wrong = WRONG_ORDERS[http.query["case"]]
    for message in right:
        await http.send(message)
    try:
        await http.send(wrong)
    except Exception as error:
        http.note(f"raised {type(error).__name__}")
        raise
    http.note("accepted")


app = app_of(
    [
        *COMMON,
        echo,
        hash,
        early,
        download,
        steps,
        x_accel_buffering,
        endless,
        timer,
        scope,
        peer,
        cookies,
        status,
        hop_by_hop,
        long_poll,
        raise_before,
        raise_after,
        no_answer,
        too_few,
        too_many,
        illegal,
        order,
    ]
)
