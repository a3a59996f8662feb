"""Lines of the access log, made of records: each atom, and what a client may put into a line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reactor_run.clock import Zone
from reactor_run.frontend.access_log.atoms import ATOMS
from reactor_run.frontend.access_log.format import LineFormat
from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.exchanges.record import Record, UnparsedHead
from reactor_run.protocol.meaning import Fields
from reactor_run.protocol.policy import Limits
from reactor_run.protocol.request import judge_request_head, parse_request_head
from reactor_run.protocol.tls import Tlvs, tls_tlvs
from reactor_run.protocol.websocket.summary import Summary
from tests.frontend.standin import answer, get

NOW = 1764518405.25  # 2025-11-30 16:00:05 UTC
HOUR = Zone(3600)
OK = answer(b"hello", "Server: test", "X-Id: 7", "x-id: 8")


class Requester:
    """Who is at the other end of a connection."""

    tls: Tlvs = tls_tlvs("TLSv1.3", "TLS_AES_256_GCM_SHA384", 0x1302, None, [])
    http2 = False

    def __init__(self, client: bytes) -> None:
        self.client = client

    def client_of(self, fields: Fields) -> bytes:
        return b""


class Served(Record):
    """The record of an exchange that a reactor has answered."""

    reactor_name = "reactor 2"


def record(
    request: bytes = get("/"),
    *,
    reply: bytes = OK,
    pure: bool = False,
    client: bytes = b"192.0.2.7",
    **facts: Any,
) -> Record:
    """A record of a request that took 1.5 s, of them 0.25 s in the queue."""
    head = (judge_request_head if pure else parse_request_head)(request, Limits())
    assert head is not None
    made = Served(Requester(client), head, len(request), 100.0)
    made.dispatched = 100.25
    made.answer_began = 101.0
    made.ended = 101.5
    made.answer_head = reply
    made.status_code = reply[9:12]
    made.bytes_out = len(reply)
    for name, value in facts.items():
        setattr(made, name, value)
    return made


def line(text: str, *records: Record) -> str:
    """Return the lines for these records, or for an ordinary one, without the last line end."""
    lines = LineFormat(text, HOUR).lines(records or [record()], NOW)
    assert lines.endswith(b"\n")
    assert lines.isascii()
    return lines[:-1].decode()


FIELDS = (
    "User-Agent: Mozilla/5.0 (X11)",
    "referer: http://a/b",
    "Authorization: Basic am9lOnB3",
    "X-Request-ID: first",
    "x-request-id: second",
)


@pytest.mark.parametrize("pure", [False, True], ids=["native", "pure"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%(h)s %(l)s %(u)s", "192.0.2.7 - joe"),
        ("%(t)s", "[30/Nov/2025:17:00:05 +0100]"),
        ("%(time)s", "2025-11-30T17:00:05.250+01:00"),
        ("%(r)s|%(m)s|%(U)s|%(q)s|%(H)s", "GET /a/b?c=d HTTP/1.1|GET|/a/b|c=d|HTTP/1.1"),
        ("%(s)s %(B)s %(b)s", "200 5 5"),
        ("%(f)s %(a)s", "http://a/b Mozilla/5.0 (X11)"),
        ("%(T)s %(M)s %(D)s %(L)s", "1 1500 1500000 1.500000"),
        ("%(queue)s %(first_byte)s", "0.250000 1.000000"),
        ("%(reactor)s, %(tries)s", "reactor 2, 1"),
        ("%({x-request-id}i)s %({X-Request-ID}i)s", "second second"),
        ("%({server}o)s %({X-ID}o)s %({x-none}o)s", "test 7, 8 -"),
        ("%({HTTP_REFERER}e)s %({http_x_none}e)s", "http://a/b -"),
        ("%({REQUEST_METHOD}e)s %({RAW_URI}e)s %({REMOTE_ADDR}e)s", "GET /a/b?c=d 192.0.2.7"),
        ("%({PATH_INFO}e)s %({QUERY_STRING}e)s %({SERVER_PROTOCOL}e)s", "/a/b c=d HTTP/1.1"),
        ("%({CONTENT_TYPE}e)s %({CONTENT_LENGTH}e)s", "- -"),
        ("%(rule)s %(error)s %(id)s", "- - -"),
        ("100 %% of %(s)5s|%(s)-5s|%(D)d", "100 % of   200|200  |1500000"),
        ('a\tb \\ "é" %(s)s', None),
    ],
)
def test_atoms(text: str, expected: str | None, pure: bool) -> None:
    made = record(get("/a/b?c=d", *FIELDS), pure=pure)
    if expected is None:
        lines = LineFormat(text, HOUR).lines([made, made], NOW)
        assert lines == 'a\tb \\ "é" 200\n'.encode() * 2
    else:
        assert line(text, made, made) == f"{expected}\n{expected}"


def test_the_process() -> None:
    import os

    assert line("%(p)s") == f"<{os.getpid()}>"


def test_bytes_on_the_wire() -> None:
    assert line("%(in)s %(out)s") == f"{len(get('/'))} {len(OK)}"


def test_the_formats_with_a_name() -> None:
    made = record(get("/", "User-Agent: curl/8", "Referer: http://a/"))
    common = '192.0.2.7 - - [30/Nov/2025:17:00:05 +0100] "GET / HTTP/1.1" 200 5'
    assert line("common", made) == common
    assert line("combined", made) == f'{common} "http://a/" "curl/8"'


def test_what_is_missing_is_a_hyphen() -> None:
    made = record(client=b"", reply=b"", dispatched=0.0, answer_began=0.0)
    made.bytes_out = 0
    assert line("combined", made) == (
        '- - - [30/Nov/2025:17:00:05 +0100] "GET / HTTP/1.1" - - "-" "-"'
    )
    assert line("%(first_byte)s %(B)s %(tries)s %(queue)s", made) == "- 0 0 1.500000"


def test_an_answer_without_a_body() -> None:
    empty = b"HTTP/1.1 204 No Content\r\n\r\n"
    assert line("%(b)s %(B)s", record(reply=empty)) == "- 0"


def test_a_request_that_was_not_parsed() -> None:
    made = Record(Requester(b"192.0.2.7"), UnparsedHead(b'\x16\x03"\xff /\r\nX: y'), 12, 5.0)
    made.ended, made.status_code, made.rule, made.error = 5.0, b"400", "request-line", "bad"
    assert line('%(h)s "%(r)s" %(m)s %(U)s %(H)s %(s)s %(rule)s', made) == (
        '192.0.2.7 "\\x16\\x03\\"\\xff /" - - - 400 request-line'
    )
    told = json.loads(line("json", made))
    assert told["target"] == '\x16\x03"\\xff /'
    assert (told["method"], told["protocol"], told["status"]) == ("", "", 400)
    assert (told["rule"], told["error"], told["duration"]) == ("request-line", "bad", 0.0)


HOSTILE = [
    (b'"', '\\"'),
    (b"\\", "\\\\"),
    (b'" 200 5\\', '\\" 200 5\\\\'),
    (b"\t", "\\x09"),
    (b"\xc3\xa9\xff", "\\xc3\\xa9\\xff"),
    (b"%(h)s %s", "%(h)s %s"),
]


@pytest.mark.parametrize(("value", "escaped"), HOSTILE)
def test_a_client_cannot_forge_a_line(value: bytes, escaped: str) -> None:
    hostile = record(b"GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: x" + value + b"y\r\n\r\n")
    fine = record(get("/", "User-Agent: fine"))
    lines = line('%(s)s "%(a)s"', fine, hostile, fine).split("\n")
    assert lines == ['200 "fine"', f'200 "x{escaped}y"', '200 "fine"']


@pytest.mark.parametrize("byte", [*range(32), 127, 128, 255])
def test_no_control_byte_gets_into_a_line(byte: int) -> None:
    made = record()
    made.head = UnparsedHead(b"GET /%c HTTP/1.1" % byte)
    for text in ("%(r)s", "json"):
        assert line(text, made).isprintable()


def test_the_user_is_escaped_too() -> None:
    import base64

    credentials = base64.b64encode(b'j"\n\x1b:pw').decode()
    made = record(get("/", f"Authorization: Basic {credentials}"))
    assert line("%(u)s", made) == 'j\\"\\x0a\\x1b'


@pytest.mark.parametrize("value", ["Basic", "Basic !", "Basic YQ", "Bearer am9lOnB3", "x" * 100])
def test_credentials_that_name_no_user(value: str) -> None:
    assert line("%(u)s", record(get("/", f"Authorization: {value}"))) == "-"


def test_response_fields_are_escaped() -> None:
    assert line("%({x}o)s", record(reply=answer(b"", 'X: a"b'))) == 'a\\"b'


def test_json() -> None:
    made = record(get("/a?b", "User-Agent: curl/8", "Referer: http://a/"))
    made.request_id = "abc"
    assert json.loads(line("json", made)) == {
        "time": "2025-11-30T17:00:05.250+01:00",
        "client": "192.0.2.7",
        "method": "GET",
        "target": "/a?b",
        "protocol": "HTTP/1.1",
        "status": 200,
        "bytes_in": made.bytes_in,
        "bytes_out": len(OK),
        "app": "",
        "duration": 1.5,
        "queue": 0.25,
        "first_byte": 1.0,
        "reactor": "reactor 2",
        "tries": 1,
        "referer": "http://a/",
        "user_agent": "curl/8",
        "request_id": "abc",
        "ws_code": None,
        "ws_received": None,
        "ws_sent": None,
        "rule": "",
        "error": "",
    }


def test_a_websocket() -> None:
    made = record(status_code=b"101", websocket=Summary(1001, 5, 7))
    assert line("%(s)s %(ws_code)s %(ws_received)s %(ws_sent)s", made) == "101 1001 5 7"
    assert line("%(ws_code)s %(ws_received)s %(ws_sent)s", record()) == "- - -"
    told = json.loads(line("json", made))
    assert (told["ws_code"], told["ws_received"], told["ws_sent"]) == (1001, 5, 7)


def test_json_of_an_exchange_without_an_answer() -> None:
    made = record(reply=b"", error="the client left")
    made.bytes_out = 0
    told = json.loads(line("json", made))
    assert (told["status"], told["first_byte"], told["error"]) == (None, None, "the client left")


@pytest.mark.parametrize(
    "value", [b'a"b', b"a\\b", "é 日本".encode(), b"\xff", b"\t", "\u2028".encode()]
)
def test_json_of_what_a_client_sent(value: bytes) -> None:
    made = record(b"GET / HTTP/1.1\r\nHost: a\r\nReferer: x" + value + b"y\r\n\r\n")
    fine = record()
    lines = line("json", made, fine).split("\n")
    assert json.loads(lines[0])["referer"] == f"x{value.decode('utf-8', 'backslashreplace')}y"
    assert json.loads(lines[1])["referer"] == ""


def test_json_of_garbage_of_an_app() -> None:
    assert json.loads(line("json", record(status_code=b"ab")))["status"] is None


@pytest.mark.parametrize(
    ("status", "colour"), [(b"200", 32), (b"304", 36), (b"404", 33), (b"503", 31), (b"", None)]
)
def test_a_terminal_shows_the_status_in_a_colour(status: bytes, colour: int | None) -> None:
    made = record(get("/", 'User-Agent: a"\\'), status_code=status)
    shown = f"\x1b[{colour}m{status.decode()}\x1b[0m" if colour else "-"
    lines = LineFormat("%(s)s %(a)s %(s)4s", HOUR, colours=True).lines([made], NOW).decode()
    padded = f"\x1b[{colour}m {status.decode()}\x1b[0m" if colour else "   -"
    assert lines == f'{shown} a\\"\\\\ {padded}\n'


def test_json_has_no_colours() -> None:
    assert b"\x1b" not in LineFormat("json", HOUR, colours=True).lines([record()], NOW)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "empty"),
        ("%(x)s", "'%(x)s'"),
        ("%(h)", "'%(h)'"),
        ("50% of %(s)s", "'% of '"),
        ("%h %s", "'%h %s'"),
        ("%({}i)s", "'%({}i)s'"),
        ("%({a b}i)s", "'%({a b}i)s'"),
        ("%({host}x)s", "'%({host}x)s'"),
        ("%({wsgi.version}e)s", "'%({wsgi.version}e)s'"),
        ("%(s)s\n", "control character"),
        ("jsonn", "'jsonn' has no atom, so all lines would be the same; choose combined"),
        ("100 %%", "has no atom"),
    ],
)
def test_a_wrong_format(text: str, complaint: str) -> None:
    with pytest.raises(OperatorError) as raised:
        LineFormat(text, HOUR)
    assert complaint in str(raised.value)
    assert "\n" not in str(raised.value)


def test_every_atom_gives_a_line_for_every_record() -> None:
    """No atom fails, whatever a record lacks: one failure would cost the lines of a whole turn."""
    unparsed = Record(Requester(b""), UnparsedHead(b""), 0, 0.0)
    waiting = record(reply=b"", dispatched=0.0, collected=float("inf"))
    everything = " ".join(f"%({name})s" for name in ATOMS)
    everything += " %({a}i)s %({a}o)s %({http_a}e)s"
    assert len(line(everything, unparsed, waiting, record()).split("\n")) == 3
    assert len(line("json", unparsed, waiting, record()).split("\n")) == 3
