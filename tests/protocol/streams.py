"""Request streams that are nearly legal, built from decisions that come as bytes.

The same bytes always make the same stream, so a source of bytes can search: hypothesis, a
coverage-guided fuzzer, or a seeded generator. Zeros, and the end of the bytes, choose the simplest
part. So shorter and smaller decisions make simpler streams.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

__all__ = ["Choices", "mutate", "pieces_of", "request_stream"]

T = TypeVar("T")

ODDITY: Final = 40
"""One part in so many is an odd one."""

METHODS: Final = [b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"PATCH", b"PROPFIND"]
ODD_METHODS: Final = [
    b"CONNECT", b"get", b"Get", b"M-SEARCH", b"PRI", b"BREW", b"", b" GET", b"GET\t", b"G\0T",
    b"GET/", b"\x16\x03\x01", b"A" * 30, b"PROXY", b"GET POST", b"QUERY", b"\xc2\xb5POST",
]  # fmt: skip

TARGETS: Final = [
    b"/", b"/a", b"/a/b?c=d&e", b"/%41%2f", b"/a?q=100%", b"/a;p=1", b"//a//b", b"/a/.b/..c",
    b"http://a/", b"/?", b"/a:80",
]  # fmt: skip
ODD_TARGETS: Final = [
    b"*", b"a:80", b"a", b"", b"/#f", b"/%zz", b"/%00", b"/\xff", b"/a b", b"/\t", b"/\0",
    b"/{}|^`", b"/a?<\">", b"http://", b"http://u@a/", b"http://a b/", b"?a", b"[::1]:80", b"/a\\b",
    b"1://a/", b"http:/a", b"/ HTTP/1.1", b"/"+b"a" * 300, b"/\x7f", b"/a?b#c", b"HTTP://A/",
    b"urn:a://b", b"/a/../b", b"/a/%2e%2e", b"http://a.example:80/x?y", b"https://a",
]  # fmt: skip

VERSIONS: Final = [b"HTTP/1.1"] * 5 + [b"HTTP/1.0"]
ODD_VERSIONS: Final = [
    b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.", b"HTTP/1", b"http/1.1", b"HTTP/1.1 ", b"",
    b"HTTP/01.1", b"HTTP/1.10", b"HTTP/1.1\t", b"HTTP /1.1", b"HTTQ/1.1", b"HTTP/1.1\0",
    b" HTTP/1.1",
]  # fmt: skip

LINE_END: Final = b"\r\n"
ODD_LINE_ENDS: Final = [
    b"\n", b"\r", b"\r\r\n", b"\n\r", b" \r\n", b"\t\r\n", b"\0\r\n", b"\r\n ", b"\r\n\t", b"",
    b"\x0b\r\n", b"\x85", b"\r\n\r\n", b"\n\n", b"\r \n",
]  # fmt: skip

COLONS: Final = [b": "] * 5 + [b":", b":\t", b":  "]
ODD_COLONS: Final = [b" :", b" : ", b"\t:", b"", b"::", b"=", b":\r\n ", b"\0: ", b":\0", b":\x0b"]

HOSTS: Final = [b"a", b"a.example", b"a:80", b"127.0.0.1:8000", b"[::1]", b"[::1]:80", b""]
ODD_HOSTS: Final = [
    b"a b", b"a,b", b"a/b", b"a:b", b"[::1", b"u@a", b"\xe4", b"a\0", b"%zz", b"a:80:80",
]  # fmt: skip

CONNECTIONS: Final = [b"keep-alive", b"close", b"Keep-Alive", b"Close", b"te", b"keep-alive, te"]
ODD_CONNECTIONS: Final = [
    b"upgrade", b"close, keep-alive", b"keep-alive,close", b",close", b"close,", b"close;x", b"",
    b"closed", b"close close", b"\tclose", b"clo\tse", b'"close"', b"content-length", b"close\0",
    b"keep-alive, Upgrade", b" , ,close , ", b"transfer-encoding, host",
]  # fmt: skip

LENGTH_NAMES: Final = [b"Content-Length", b"content-length", b"CONTENT-LENGTH"]
CODING_NAMES: Final = [b"Transfer-Encoding", b"transfer-encoding", b"TRANSFER-ENCODING"]
ODD_LENGTHS: Final = [
    b"+%d", b"-%d", b" %d ", b"%d, %d", b"%d,%d", b"%d;", b"0x%x", b"0%d", b"000000%d", b"%d.0",
    b"%d %d", b"'%d'", b"%d\0", b"\0%d", b"%d\t", b"%d\x0b", b"\x0b%d", b"99999999999999999999%d",
    b"18446744073709551616%d", b"%de0", b"", b"_%d", b"%d_0", b"%d\r", b"\xb2%d", b"%d\xa0", b"%d,",
]  # fmt: skip
ODD_CODINGS: Final = [
    b"Chunked", b"CHUNKED", b"chunked, chunked", b"chunked,chunked", b"gzip, chunked", b"identity",
    b"chunked, gzip", b"chunked, identity", b"chunked;q=1", b"chunked ", b"chunked\t", b"\tchunked",
    b"xchunked", b"chunkedx", b"chunked,", b",chunked", b", chunked", b'"chunked"', b"'chunked'",
    b"chunked\0", b"\0chunked", b"\x0bchunked", b"chunked\x0b", b"chun ked", b"chunke", b"gzip",
    b"", b"\xa0chunked", b"chun\r\n ked", b"chunked\r", b"identity, chunked", b"x",
]  # fmt: skip
DISGUISES: Final = [
    b"%b ", b" %b", b"%b\t", b"\t%b", b"\x0b%b", b"%b\x0b", b"%b\0", b"\0%b", b"X-%b", b"%b-X",
    b"%b\xa0", b"\xe2\x80\x8b%b", b"%b\r\n", b"X: y\n%b", b"X: y\r%b", b"X: y\r\n %b",
]  # fmt: skip

PLAIN_FIELDS: Final = [
    b"Accept: */*", b"X-A: b", b"Cookie: a=b; c=d", b"User-Agent: x", b"X-Empty:", b"TE: trailers",
    b"Content-Type: text/plain", b"Expect: 100-continue", b"Trailer: X-T", b"X: \xe4\xff",
]  # fmt: skip
ODD_FIELDS: Final = [
    b"Upgrade: websocket", b"Upgrade: h2c", b"Expect: tea", b"Expect: 100-Continue, x", b": y",
    b"X", b"X Y: z", b"X: a\0b", b"X: a\x7fb", b"X: a\rb", b"X: a\nb", b" X: y", b"(X): y",
    b"X\xff: y", b"X_Y: z", b"Content-Type: a\r\nContent-Type: b", b"Proxy-Connection: close",
    b"Keep-Alive: timeout=5", b"HTTP2-Settings: AA", b"X: "+b"y" * 300, b"X: y\r\n\tz",
    b"X: y\r\n z: w", b"Host : b", b"Proxy-Connection: upgrade", b"X: y\x0c",
    b"X: y\r\n\r\nGET /cut HTTP/1.1", b"Transfer_Encoding: chunked", b"Content.Length: 5",
]  # fmt: skip

BODIES: Final = [
    b"hello", b"", b"x", b"GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n", b"\r\n", b"0\r\n\r\n",
    b"a=b" * 9, b"POST /in HTTP/1.1\r\nHost: evil\r\nContent-Length: 5\r\n\r\n", b"\0" * 17,
]  # fmt: skip

SIZES: Final = [b"%x", b"%X", b"0%x", b"0000000%x"]
ODD_SIZES: Final = [
    b"+%x", b"-%x", b"0x%x", b" %x", b"%x ", b"%x\t", b"\t%x", b"%xg", b"_%x", b"%x_0", b"",
    b"fffffffffffffff%x", b"10000000000000000%x", b"00000000000000000%x", b"%x\0", b"%x\r",
    b"\xb2%x", b"%x,",
]  # fmt: skip
EXTENSIONS: Final = [b""] * 6 + [b";a=b", b";a", b';a="b c"']
ODD_EXTENSIONS: Final = [
    b" ;a", b"; a = b", b";", b";;", b";a=\r", b";a\nb", b";\0", b";a=\"\r\n", b"a=b", b";a\x7f",
    b";\xff", b";"+b"a" * 300, b",a", b"\t;a", b";a=\"\\\"\"",
]  # fmt: skip
TRAILERS: Final = [b""] * 4 + [b"X-T: y\r\n", b"A: b\r\nC: d\r\n"]
ODD_TRAILERS: Final = [
    b"X", b"X\r\n", b" X: y\r\n", b"X : y\r\n", b"X: y\n", b"X: y\r\n z\r\n", b"X: a\0\r\n",
    b"X: a\rb\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: evil\r\n",
    b"GET / HTTP/1.1\r\n", b": y\r\n", b"X:y\r\n" * 70, b"\n", b"\r", b"X_Y: z\r\n",
    b"Connection: close\r\n",
]  # fmt: skip

ODD_BYTES: Final = [
    b"\r", b"\n", b"\r\n", b" ", b"\t", b"\0", b"\x0b", b"\x0c", b"\x85", b"\xa0", b":", b";", b",",
    b"0", b"\xff", b"\x7f", b"\r\n\r\n", b"%", b"#", b"a", b"_",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
]  # fmt: skip


class Choices:
    """Decisions, taken from bytes one after another. After the last byte every decision is 0."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def below(self, bound: int) -> int:
        """Return a number from 0 to `bound` - 1."""
        width = 1 if bound <= 256 else 2
        taken = self._data[self._at : self._at + width]
        self._at += width
        return int.from_bytes(taken, "big") % bound

    def pick(self, options: Sequence[T]) -> T:
        return options[self.below(len(options))]

    def rarely(self, odds: int) -> bool:
        """Return True once in `odds` times."""
        return self.below(odds) == odds - 1

    def part(self, usual: Sequence[T], odd: Sequence[T]) -> T:
        """Return mostly one of the usual parts, rarely an odd one."""
        return self.pick(odd) if self.rarely(ODDITY) else self.pick(usual)

    def rest(self) -> bytes:
        """Return the bytes that no decision has taken yet."""
        return self._data[self._at :]


def request_stream(choices: Choices) -> bytes:
    """Return one request or several. In one of three cases a few bytes are changed."""
    stream = b"".join([_request(choices) for _ in range(1 + choices.below(4))])
    return mutate(choices, stream) if choices.rarely(3) else stream


def pieces_of(choices: Choices, stream: bytes) -> list[bytes]:
    """Return the stream, cut at a few places or at every byte."""
    if choices.rarely(8):
        return [stream[i : i + 1] for i in range(len(stream))]
    cuts = sorted(choices.below(len(stream) + 1) for _ in range(choices.below(5)))
    return [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) if a < b]


def _request(choices: Choices) -> bytes:
    method = choices.part(METHODS, ODD_METHODS)
    target = choices.part(TARGETS, ODD_TARGETS)
    if choices.rarely(ODDITY):
        method, target = b"CONNECT", b"a:80"
    lines = [
        method
        + choices.part([b" "], [b"  ", b"\t", b" \t", b"\x0b", b"\r\n "])
        + target
        + choices.part([b" "], [b"  ", b"\t", b"", b"\xa0", b" \r\n"])
        + choices.part(VERSIONS, ODD_VERSIONS)
    ]
    fields = [_field(choices, b"Host", choices.part(HOSTS, ODD_HOSTS))]
    if choices.rarely(ODDITY):
        fields *= choices.below(3)
    body = choices.pick(BODIES)
    framing, sent = _framed(choices, body)
    fields += framing
    if choices.rarely(4):
        value = choices.part(CONNECTIONS, ODD_CONNECTIONS)
        fields.append(_field(choices, b"Connection", value))
    for _ in range(choices.below(3)):
        fields.append(choices.part(PLAIN_FIELDS, ODD_FIELDS))
    if choices.rarely(4):
        fields.reverse()
    lines += fields
    head = b"".join([line + choices.part([LINE_END] * 3, ODD_LINE_ENDS) for line in lines])
    return (
        choices.part([b""] * 9 + [b"\r\n"], [b"\n", b"\r\n\r\n", b" ", b"\r"])
        + head
        + choices.part([LINE_END], ODD_LINE_ENDS)
        + sent
    )


def _field(choices: Choices, name: bytes, value: bytes) -> bytes:
    return name + choices.part(COLONS, ODD_COLONS) + value


def _framed(choices: Choices, body: bytes) -> tuple[list[bytes], bytes]:
    """Return the framing fields of a body, and the body as it is sent."""
    match choices.part(["none", "length", "chunked"], ["both", "twice", "disguised", "wrong"]):
        case "none":
            return [], b""
        case "length":
            return [_length(choices, len(body))], body
        case "chunked":
            return [_coding(choices)], _chunked(choices, body)
        case "both":
            fields = [_length(choices, len(body)), _coding(choices)]
            return fields, choices.pick([body, _chunked(choices, body)])
        case "twice":
            again = len(body) + choices.below(3)
            fields = [_length(choices, len(body)), _length(choices, again)]
            return choices.pick([fields, [_coding(choices), _coding(choices)]]), body
        case "disguised":
            name = choices.pick(
                [*LENGTH_NAMES, *CODING_NAMES, b"Content_Length", b"Transfer_Encoding"]
            )
            value = choices.pick([b"%d" % len(body), b"chunked", b"0"])
            return [choices.pick(DISGUISES) % name + b": " + value], body
        case _:
            size = max(0, len(body) + choices.below(5) - 2)
            return [_length(choices, size)], body


def _length(choices: Choices, size: int) -> bytes:
    text = choices.part([b"%d"] * 4 + [b"00%d"], ODD_LENGTHS)
    value = text % ((size,) * text.count(b"%"))
    return _field(choices, choices.pick(LENGTH_NAMES), value)


def _coding(choices: Choices) -> bytes:
    value = choices.part([b"chunked"] * 4 + [b"Chunked"], ODD_CODINGS)
    return _field(choices, choices.pick(CODING_NAMES), value)


def _chunked(choices: Choices, body: bytes) -> bytes:
    size = choices.pick([len(body) or 1, 1, 2, 7])
    chunks = [body[i : i + size] for i in range(0, len(body), size)]
    sent = [_size_line(choices, len(chunk)) + chunk + _chunk_end(choices) for chunk in chunks]
    sent.append(_size_line(choices, 0))
    sent.append(choices.part(TRAILERS, ODD_TRAILERS))
    return b"".join(sent) + choices.part([LINE_END], ODD_LINE_ENDS)


def _size_line(choices: Choices, size: int) -> bytes:
    if choices.rarely(4):
        text = choices.part(SIZES, ODD_SIZES)
        extension = choices.part(EXTENSIONS, ODD_EXTENSIONS)
        return text % ((size,) * text.count(b"%")) + extension + _chunk_end(choices)
    return b"%x\r\n" % size


def _chunk_end(choices: Choices) -> bytes:
    return choices.pick(ODD_LINE_ENDS) if choices.rarely(2 * ODDITY) else LINE_END


def mutate(choices: Choices, stream: bytes) -> bytes:
    """Return the stream with up to three changes of a few bytes."""
    for _ in range(1 + choices.below(3)):
        stream = _change(choices, stream)
    return stream


def _change(choices: Choices, stream: bytes) -> bytes:
    at = choices.below(len(stream) + 1)
    size = 1 + choices.below(4)
    match choices.below(6):
        case 0:
            return stream[:at] + choices.pick(ODD_BYTES) + stream[at:]
        case 1:
            return stream[:at] + stream[at + size :]
        case 2:
            return stream[:at] + choices.pick(ODD_BYTES) + stream[at + 1 :]
        case 3:
            end = at + choices.below(40)
            return stream[:end] + stream[at:]
        case 4:
            return stream[:at]
        case _:
            return stream[:at] + bytes([choices.below(256)]) + stream[at + 1 :]
