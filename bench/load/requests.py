"""Requests as clients send them: no two alike, except those of `hello`.

A load is a pool of requests, longer than any cache of a server. wrk and the lock-step client go
through the same pool, request by request, and begin again at its end.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Final

__all__ = ["LOADS", "Load", "pool", "write"]

_HOST: Final = "shop.example:8000"
_POOL: Final = 8192
"""Requests in a pool, if they are small."""
_POOL_SIZE: Final = 48 << 20
"""Bytes of a pool at most."""
_POOL_MIN: Final = 64
_SEED: Final = 2718
_AGENTS: Final = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/129.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
    " Version/18.0 Safari/605.1.15",
    "Mozilla/5.0 (X11; Linux x86_64; rv:131.0) Gecko/20100101 Firefox/131.0",
    "Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/129.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like"
    " Gecko) Version/17.6 Mobile/15E148 Safari/604.1",
)
_LANGUAGES: Final = ("en-US,en;q=0.9", "de-DE,de;q=0.9,en;q=0.8", "fr-FR,fr;q=0.9,en;q=0.7")
_SECTIONS: Final = ("shoes", "books", "garden", "toys", "audio", "kitchen", "bikes", "games")
_POSTS: Final = 0.3
"""Share of requests with a body in the loads `browser` and `api`."""

Make = Callable[[Random, int], bytes]
"""Makes the request with this number, of what is left to chance."""


@dataclass(frozen=True)
class Load:
    """A kind of request. Two loads are equal if they make the same requests."""

    name: str
    path: str = "/"
    """Where `distinct`, `identical` and `upload` go."""
    body: int = 0
    """Bytes of an upload."""
    pipelined: int = 1
    """Requests that are sent at once on a connection."""


def _head(line: str, fields: list[tuple[str, str]], body: bytes | None = None) -> bytes:
    """A request of this request line."""
    if body is not None:
        fields = [*fields, ("Content-Length", str(len(body)))]
    lines = [f"{line} HTTP/1.1", *(f"{name}: {value}" for name, value in fields), "", ""]
    return "\r\n".join(lines).encode() + (body or b"")


def _token(random: Random, digits: int = 32) -> str:
    return f"{random.getrandbits(4 * digits):0{digits}x}"


def _identical(load: Load) -> Make:
    request = _head(f"GET {load.path}", [("Host", _HOST)])
    return lambda random, number: request


def _distinct(load: Load) -> Make:
    """A short head whose target and cookie differ."""

    def make(random: Random, number: int) -> bytes:
        fields = [("Host", _HOST), ("Cookie", f"session={_token(random)}")]
        return _head(f"GET {load.path}?n={number}&q={_token(random, 8)}", fields)

    return make


def _upload(load: Load) -> Make:
    body = bytes(load.body)

    def make(random: Random, number: int) -> bytes:
        fields = [
            ("Host", _HOST),
            ("User-Agent", "python-httpx/0.28.1"),
            ("Authorization", f"Bearer {_token(random, 64)}"),
            ("Content-Type", "application/octet-stream"),
        ]
        return _head(f"PUT {load.path}?n={number}", fields, body)

    return make


def _browser_fields(random: Random, number: int, accept: str) -> list[tuple[str, str]]:
    """What a browser sends with each request: its cookies are its own."""
    cookie = (
        f"session={_token(random)}; csrftoken={_token(random)}; "
        f"_ga=GA1.1.{number}.{random.randrange(10**9)}; theme=dark"
    )
    return [
        ("Host", _HOST),
        ("Connection", "keep-alive"),
        ("sec-ch-ua", '"Chromium";v="129", "Not=A?Brand";v="8"'),
        ("sec-ch-ua-mobile", "?0"),
        ("sec-ch-ua-platform", '"Windows"'),
        ("User-Agent", random.choice(_AGENTS)),
        ("Accept", accept),
        ("Sec-Fetch-Site", "same-origin"),
        ("Referer", f"http://{_HOST}/{random.choice(_SECTIONS)}?page={number % 49}"),
        ("Accept-Encoding", "gzip, deflate, br, zstd"),
        ("Accept-Language", random.choice(_LANGUAGES)),
        ("Cookie", cookie),
    ]


def _order(random: Random, number: int) -> bytes:
    """An order in JSON, as bench.apps.fastapi_items takes it."""
    lines = [
        {
            "sku": f"sku-{random.randrange(100_000):05}",
            "quantity": random.randint(1, 9),
            "price": random.randint(100, 30_000) / 100,
        }
        for _ in range(random.randint(2, 4))
    ]
    order = {"customer": _token(random, 16), "note": _token(random, 16), "lines": lines}
    return json.dumps(order).encode()


def _browser(load: Load) -> Make:
    """A browser: pages, and forms that send JSON; about 900 bytes each."""

    def make(random: Random, number: int) -> bytes:
        section = random.choice(_SECTIONS)
        item = random.randrange(10**9)
        if random.random() < _POSTS:
            line = f"POST /api/v1/{section}/{item}/orders?src=web&t={number}"
            fields = _browser_fields(random, number, "application/json, text/plain, */*")
            fields += [("Origin", f"http://{_HOST}"), ("Content-Type", "application/json")]
            return _head(line, fields, _order(random, number))
        line = f"GET /{section}/item-{item}/details?page={number % 50}&ref={_token(random, 16)}"
        accept = "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8"
        fields = _browser_fields(random, number, accept)
        return _head(line, [*fields, ("Upgrade-Insecure-Requests", "1")])

    return make


def _api(load: Load) -> Make:
    """A service that calls another one: a token, an id for each request; about 400 bytes each."""

    def make(random: Random, number: int) -> bytes:
        account = random.randrange(10**9)
        token = f"eyJhbGciOiJIUzI1NiJ9.{_token(random, 96)}.{_token(random, 43)}"
        fields = [
            ("host", _HOST),
            ("user-agent", "python-httpx/0.28.1"),
            ("accept", "application/json"),
            ("accept-encoding", "gzip, deflate"),
            ("authorization", f"Bearer {token}"),
            ("x-request-id", _token(random)),
        ]
        if random.random() < _POSTS:
            fields.append(("content-type", "application/json"))
            return _head(f"POST /v1/accounts/{account}/events", fields, _order(random, number))
        after = _token(random, 16)
        return _head(f"GET /v1/accounts/{account}/items/{number}?limit=50&after={after}", fields)

    return make


def _orders(load: Load) -> Make:
    """A browser that places orders, each of which has a body."""

    def make(random: Random, number: int) -> bytes:
        fields = _browser_fields(random, number, "application/json, text/plain, */*")
        fields += [("Origin", f"http://{_HOST}"), ("Content-Type", "application/json")]
        line = f"POST /shops/{random.randint(1, 5000)}/orders?discount=0.1"
        return _head(line, fields, _order(random, number))

    return make


def _pages(load: Load) -> Make:
    """A browser that asks for pages."""

    def make(random: Random, number: int) -> bytes:
        fields = _browser_fields(random, number, "text/html,*/*;q=0.8")
        return _head(f"GET {load.path}?title=Page+{number}&ref={_token(random, 8)}", fields)

    return make


LOADS: Final[dict[str, Callable[[Load], Make]]] = {
    "identical": _identical,
    "distinct": _distinct,
    "upload": _upload,
    "browser": _browser,
    "api": _api,
    "orders": _orders,
    "pages": _pages,
}


@cache
def pool(load: Load) -> tuple[bytes, ...]:
    """The requests of a load; `pipelined` of them are joined to one entry."""
    random = Random(_SEED)
    make = LOADS[load.name](load)
    each = len(make(random, 0)) * load.pipelined
    entries = max(_POOL_MIN, min(_POOL // load.pipelined, _POOL_SIZE // each))
    numbers = iter(range(1, entries * load.pipelined + 1))
    return tuple(
        b"".join(make(random, next(numbers)) for _ in range(load.pipelined)) for _ in range(entries)
    )


def write(load: Load, path: Path) -> None:
    """Write a pool for wrk.lua: the length of each entry on a line, then the entry."""
    path.write_bytes(b"".join(b"%d\n%b" % (len(entry), entry) for entry in pool(load)))
