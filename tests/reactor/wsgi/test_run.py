"""run_wsgi with a sink that records its calls and checks their order."""

from __future__ import annotations

import contextlib
import gc
import gzip
import io
import itertools
import logging
import os
import sys
import weakref
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from reactor_run.logs import RepeatLimit
from reactor_run.protocol.body import CHUNKED
from reactor_run.reactor.wsgi.file import FileWrapper, bytes_left
from reactor_run.reactor.wsgi.input import ClientGone, LaneInput
from reactor_run.reactor.wsgi.run import ERRORS, run_wsgi

LOG = logging.getLogger("tests.reactor.wsgi")

PLAIN = [("Content-Type", "text/plain")]
ERROR = [
    (
        "begin",
        500,
        b"Internal Server Error",
        [(b"Content-Type", b"text/plain; charset=utf-8"), (b"Content-Length", b"21")],
        21,
    ),
    ("write", b"Internal Server Error"),
    ("finish",),
]


def sized(length):
    return [*PLAIN, ("Content-Length", str(length))]


class Recorder:
    """An AnswerSink. fails: the call that raises OSError, and how many of it succeed before;
    sends_files: bytes that send_file sends at most, None if it can't."""

    def __init__(self, method="GET", fails=("", 0), sends_files=None):
        self.method = method
        self.fails = fails
        self.sends_files = sends_files
        self.calls = []
        self.body = b""
        self.framing = CHUNKED
        self.head_sent = False
        self.ended = False
        self.rejects = False
        self.name = f"{method} /"

    def _record(self, *call):
        assert not self.ended, f"{call} after the end"
        self.calls.append(call)
        name, successes = self.fails
        if call[0] == name and self.names().count(name) > successes:
            self.head_sent = True
            raise ConnectionResetError(104, "Connection reset by peer")

    def names(self):
        return [call[0] for call in self.calls]

    @property
    def head(self):
        return [call for call in self.calls if call[0] == "begin"][-1]

    def begin(self, head, length):
        assert not self.head_sent
        status, reason, texts, _ = head
        assert {type(text) for field in texts for text in field} <= {str}
        fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in texts]
        self._record("begin", status, reason.encode("latin-1"), fields, length)
        if self.rejects and status != 500:
            raise ValueError("illegal fields")
        self.body = b""
        declared = dict(fields).get(b"Content-Length")
        if declared is not None:
            assert length == int(declared)
        if self.method == "HEAD" or status in (204, 304):
            self.framing = 0
        elif length is None:
            self.framing = CHUNKED
        else:
            self.framing = length
        return self.framing

    def write(self, data):
        assert isinstance(data, bytes)
        assert data
        self.body += data
        assert self.framing == CHUNKED or len(self.body) <= self.framing
        self._record("write", data)

    def flush(self):
        self._record("flush")
        self.head_sent = True

    def answer_whole(self, head, length, blocks):
        assert length == sum(map(len, blocks))
        framing = self.begin(head, length)
        if framing == length:
            for block in blocks:
                if block:
                    self.write(block)
            self.finish()
        return framing

    def send_file(self, file, count):
        assert count > 0
        if self.sends_files is None:
            return False
        part = os.pread(file.fileno(), min(count, self.sends_files), file.tell())
        self._record("send_file", part)
        self.head_sent = True
        self.body += part
        if len(part) < count:
            raise EOFError
        return True

    def finish(self):
        assert self.framing in (CHUNKED, len(self.body))
        self._record("finish")
        self.ended = True

    def abort(self):
        self._record("abort")
        self.ended = True


def environ_for(method="GET", **more):
    environ = {"REQUEST_METHOD": method, "wsgi.errors": ERRORS, "wsgi.file_wrapper": FileWrapper}
    environ.update(more)
    setup_testing_defaults(environ)
    environ.setdefault("QUERY_STRING", "")
    environ.setdefault("wsgi.input", io.BytesIO())
    return environ


def run(app, method="GET", *, sink=None, environ=None, **options):
    sink = sink or Recorder(method, **options)
    run_wsgi(app, environ or environ_for(method), sink, RepeatLimit(LOG))
    assert sink.ended
    return sink


@pytest.fixture(autouse=True)
def logged(caplog):
    """The errors in the log. A test that expects errors takes them."""
    caplog.set_level(logging.DEBUG, LOG.name)

    class Errors(list):
        def take(self):
            found = [
                record.getMessage() + (f" {record.exc_info[1]!r}" if record.exc_info else "")
                for record in caplog.records
                if record.levelno >= logging.ERROR
            ]
            caplog.clear()
            return found

    yield Errors()
    left = [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    assert left == []


class Blocks:
    """An iterable of blocks, exceptions to raise, and functions to call. It records its close()."""

    def __init__(self, *blocks, close_error=None):
        self.blocks = iter(blocks)
        self.taken = 0
        self.closed = 0
        self.close_error = close_error

    def __iter__(self):
        return self

    def __next__(self):
        block = next(self.blocks)
        self.taken += 1
        if isinstance(block, BaseException):
            raise block
        return block() if callable(block) else block

    def close(self):
        self.closed += 1
        if self.close_error is not None:
            raise self.close_error


def answering(result, headers=PLAIN, status="200 OK"):
    def app(environ, start_response):
        start_response(status, headers)
        return result

    return app


# How the body goes out ----------------------------------------------------------------------------


def test_hello_is_a_head_a_body_and_an_end():
    sink = run(answering([b"Hello, world!"], sized(13)))
    assert sink.calls == [
        (
            "begin",
            200,
            b"OK",
            [(b"Content-Type", b"text/plain"), (b"Content-Length", b"13")],
            13,
        ),
        ("write", b"Hello, world!"),
        ("finish",),
    ]


@pytest.mark.parametrize(
    ("result", "length"),
    [([], 0), ((), 0), ([b"", b""], 0), ([b"one"], 3), ((b"one", b"", b"three"), 8)],
)
def test_a_list_or_tuple_goes_out_as_a_whole(result, length):
    sink = run(answering(result))
    assert sink.head[4] == length
    assert sink.body == b"".join(result)
    assert sink.names() == ["begin"] + ["write"] * sum(map(bool, result)) + ["finish"]


def test_other_blocks_are_flushed_before_the_app_is_asked_for_the_next():
    sink = Recorder()
    seen = []

    def block(data):
        def give():
            seen.append(sink.names())
            return data

        return give

    run(answering(Blocks(block(b""), block(b"one"), block(b"two"))), sink=sink)
    head = ["begin", "write", "flush"]
    assert seen == [[], [], head]
    assert sink.names() == [*head, "write", "flush", "finish"]
    assert sink.head[4] is None


def test_nothing_is_sent_for_empty_blocks():
    sink = run(answering(Blocks(b"", b"")))
    assert sink.names() == ["begin", "finish"]
    assert sink.head[4] == 0


def test_a_generator_may_call_start_response_before_its_first_block():
    def app(environ, start_response):
        yield b""
        yield b""
        start_response("200 OK", PLAIN)
        yield b"one"

    assert run(app).body == b"one"


def test_the_block_that_completes_the_content_length_needs_no_flush():
    assert run(answering(Blocks(b"Hello"), sized(5))).names() == ["begin", "write", "finish"]


def test_a_complete_answer_does_not_wait_for_the_rest_of_the_app_nor_for_close():
    sink = Recorder()
    ended = []

    def app(environ, start_response):
        start_response("200 OK", sized(5))
        try:
            yield b"Hello"
            ended.append(sink.ended)
        finally:
            ended.append(sink.ended)

    run(app, sink=sink)
    assert ended == [True, True]

    class NotesClose(Blocks):
        def close(self):
            ended.append(sink.ended)

    sink = Recorder()
    run(answering(NotesClose(b"Hello")), sink=sink)
    assert ended == [True, True, True]


def test_write_returns_after_a_flush():
    sink = Recorder()
    names = []

    def app(environ, start_response):
        write = start_response("200 OK", PLAIN)
        write(b"")
        names.append(sink.names())
        write(b"one")
        names.append(sink.names())
        return [b"two", b"three"]

    run(app, sink=sink)
    head = ["begin", "write", "flush"]
    assert names == [[], head]
    assert sink.names() == [*head, "write", "write", "finish"]
    assert sink.body == b"onetwothree"


def test_write_that_completes_the_content_length_finishes():
    def app(environ, start_response):
        start_response("200 OK", sized(3))(b"one")
        return Blocks()

    assert run(app).names() == ["begin", "write", "finish"]


# The phases ---------------------------------------------------------------------------------------

TOO_LATE = LookupError("the app's own")


def start(start_response, write):
    start_response("201 Created", PLAIN)


def restart(start_response, write):
    try:
        raise TOO_LATE
    except LookupError:
        start_response("202 Accepted", PLAIN, sys.exc_info())


def write_some(start_response, write):
    write(b"more")


@pytest.mark.parametrize(
    ("phase", "act", "outcome"),
    [
        ("SILENT", start, "201"),
        ("SILENT", restart, "202"),
        ("STARTED", start, AssertionError),
        ("STARTED", restart, "202"),
        ("STARTED", write_some, "200 more"),
        ("BEGUN", start, AssertionError),
        ("BEGUN", restart, LookupError),
        ("BEGUN", write_some, "200 firstmore"),
        ("BEGUN, nothing sent", restart, "202"),
        ("ENDED", start, AssertionError),
        ("ENDED", restart, LookupError),
        ("ENDED", write_some, ValueError),
        ("GONE", start, AssertionError),
        ("GONE", restart, LookupError),
        ("GONE", write_some, ClientGone),
    ],
)
def test_what_the_app_may_do_in_each_phase(phase, act, outcome):
    sink = Recorder(fails=("write", 0) if phase == "GONE" else ("", 0))
    raised = []

    def app(environ, start_response):
        write: Any = None
        if phase != "SILENT":
            write = start_response("200 OK", sized(5) if phase == "ENDED" else PLAIN)
        if phase in ("BEGUN", "BEGUN, nothing sent", "ENDED", "GONE"):
            with contextlib.suppress(ClientGone):
                write(b"first")
        if phase == "BEGUN, nothing sent":
            sink.head_sent = False
        try:
            act(start_response, write)
        except Exception as exc:
            raised.append(type(exc))
        return []

    run(app, sink=sink)
    if isinstance(outcome, str):
        assert raised == []
        assert f"{sink.head[1]} {sink.body.decode()}".strip() == outcome
    else:
        assert raised == [outcome]


def test_the_next_block_in_each_phase(logged):
    run(lambda environ, start_response: Blocks(b"x"))
    assert "AssertionError('start_response was not called')" in logged.take()[0]

    assert run(answering(Blocks(b"a", b"b"))).body == b"ab"

    blocks = Blocks(b"Hello", b"surplus", b"not asked for")
    assert run(answering(blocks, sized(5))).body == b"Hello"
    assert (blocks.taken, blocks.closed) == (2, 1)
    assert "longer than its Content-Length" in logged.take()[0]

    blocks = Blocks(b"Hello", b"not asked for")
    run(answering(blocks), fails=("write", 0))
    assert (blocks.taken, blocks.closed) == (1, 1)


@pytest.mark.parametrize("result", [[], [b"x"], Blocks(), Blocks(b"x")])
def test_start_response_never_called(result, logged):
    assert run(lambda environ, start_response: result).calls == ERROR
    assert "start_response was not called" in logged.take()[0]


def test_start_response_takes_exc_info_by_name_and_replaces_the_whole_head():
    def app(environ, start_response):
        start_response("200 OK", sized(100))
        try:
            raise LookupError
        except LookupError:
            start_response("404 Not Found", [("X-A", "b")], exc_info=sys.exc_info())
        return [b"sorry"]

    sink = run(app)
    assert sink.head == ("begin", 404, b"Not Found", [(b"X-A", b"b")], 5)
    assert sink.names() == ["begin", "write", "finish"]


@pytest.mark.parametrize("sent", [False, True])
def test_exc_info_leaves_no_reference_cycle(sent, logged):
    class Marker:
        pass

    alive = []

    def app(environ, start_response):
        marker = Marker()
        alive.append(weakref.ref(marker))
        write = start_response("200 OK", PLAIN)
        if sent:
            write(b"x")
        try:
            raise LookupError
        except LookupError:
            start_response("500 Oh", PLAIN, sys.exc_info())
        return [b"late"]

    gc.disable()
    try:
        # `run` is not used: its log records would keep the exception and the app's frame.
        quiet = logging.Logger("quiet", logging.CRITICAL)
        sink = Recorder()
        run_wsgi(app, environ_for(), sink, RepeatLimit(quiet))
        assert alive[0]() is None
    finally:
        gc.enable()
    assert sink.names()[-1] == ("abort" if sent else "finish")


# Content-Length -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [list, tuple, lambda blocks: Blocks(*blocks)])
@pytest.mark.parametrize("blocks", [[b"abcdef"], [b"abc", b"def"], [b"ab", b"", b"cd", b"ef"]])
def test_a_longer_body_ends_at_its_content_length(kind, blocks, logged):
    sink = run(answering(kind(blocks), sized(3)))
    assert sink.body == b"abc"
    assert sink.names()[-1] == "finish"
    [error] = logged.take()
    assert "longer than its Content-Length" in error


@pytest.mark.parametrize("kind", [list, tuple, lambda blocks: Blocks(*blocks)])
@pytest.mark.parametrize("blocks", [[], [b"ab"], [b"a", b"", b"b"]])
def test_a_shorter_body_is_aborted(kind, blocks, logged):
    sink = run(answering(kind(blocks), sized(3)))
    assert sink.body == b"".join(blocks)
    assert sink.names()[-1] == "abort"
    [error] = logged.take()
    assert "shorter than its Content-Length" in error


def test_write_beyond_the_content_length_raises(logged):
    def app(environ, start_response):
        write = start_response("200 OK", sized(3))
        write(b"ab")
        write(b"cde")

    sink = run(app)
    assert sink.body == b"abc"
    assert sink.names()[-1] == "finish"
    assert "ValueError('write goes beyond" in logged.take()[0]


def test_an_empty_body_may_be_declared(logged):
    assert run(answering(Blocks(), sized(0))).names() == ["begin", "finish"]
    assert run(answering(Blocks(b"x"), sized(0))).names() == ["begin", "finish"]
    assert "longer" in logged.take()[0]


# HEAD, 204, 304 -----------------------------------------------------------------------------------

bodyless = pytest.mark.parametrize(
    ("method", "status"),
    [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Not Modified")],
)


@bodyless
@pytest.mark.parametrize("headers", [PLAIN, sized(100)])
def test_no_body_is_sent_for_head_204_and_304(method, status, headers):
    for result in ([b"abc"], [], Blocks(b"abc"), Blocks(), FileWrapper(io.BytesIO(b"abc"))):
        sink = run(answering(result, headers, status), method, sends_files=100)
        assert sink.names() == ["begin", "finish"]
        if headers != PLAIN:
            assert sink.head[4] == 100


@bodyless
def test_without_a_body_the_app_is_asked_until_its_head_is_final(method, status):
    blocks = Blocks(b"", b"abc", b"not asked for")
    run(answering(blocks, status=status), method)
    assert (blocks.taken, blocks.closed) == (2, 1)


@bodyless
def test_without_a_body_write_discards(method, status):
    def app(environ, start_response):
        write = start_response(status, PLAIN)
        write(b"abc")
        write(b"def")
        return [b"ghi"]

    assert run(app, method).names() == ["begin", "finish"]


def test_the_answer_to_head_has_the_length_of_get():
    assert run(answering([b"abc"]), "HEAD").head[4] == 3


def test_middleware_that_changes_the_method_does_not_change_head():
    def app(environ, start_response):
        environ["REQUEST_METHOD"] = "GET"
        start_response("200 OK", sized(3))
        return [b"abc"]

    assert run(app, "HEAD").names() == ["begin", "finish"]


def test_an_app_may_replace_its_head_of_an_answer_to_head():
    def app(environ, start_response):
        start_response("200 OK", PLAIN)

        def blocks():
            try:
                raise LookupError
            except LookupError:
                start_response("404 Not Found", PLAIN, sys.exc_info())
            yield b"sorry"

        return blocks()

    assert run(app, "HEAD").head[1] == 404


# The head -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        ("200 OK", 200, b"OK"),
        ("200", 200, b""),
        ("200 ", 200, b""),
        ("404 Not Found", 404, b"Not Found"),
        ("299 Tr\xe8s bien", 299, b"Tr\xe8s bien"),
        ("599 a  b", 599, b"a  b"),
    ],
)
def test_status(status, code, reason):
    assert run(answering([], status=status)).head[1:3] == (code, reason)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (200, TypeError),
        (b"200 OK", TypeError),
        (None, TypeError),
        ("", ValueError),
        ("OK", ValueError),
        ("20 OK", ValueError),
        ("2000 OK", ValueError),
        ("200OK", ValueError),
        ("-20 OK", ValueError),
        ("²00 OK", ValueError),
        ("200 OK\r\nX-Evil: 1", ValueError),
        ("200 \u2713", ValueError),
        ("100 Continue", ValueError),
        ("101 Switching Protocols", ValueError),
    ],
)
def test_a_status_that_cannot_be_sent_raises_in_the_app(status, error):
    caught = []

    def app(environ, start_response):
        try:
            start_response(status, PLAIN)
        except Exception as exc:
            caught.append(type(exc))
        start_response("200 OK", PLAIN)
        return []

    run(app)
    assert len(caught) == 1
    assert issubclass(caught[0], error)


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ((("X-A", "b"),), TypeError),
        ({"X-A": "b"}, TypeError),
        (None, TypeError),
        ([("X-A",)], ValueError),
        ([("X-A", "b", "c")], ValueError),
        ([(b"X-A", "b")], TypeError),
        ([(["X-A"], "b")], TypeError),
        ([("X-A", b"b")], TypeError),
        ([("X-A", 3)], TypeError),
        ([("X-A", None)], TypeError),
        ([("", "b")], ValueError),
        ([("X A", "b")], ValueError),
        ([("X-A:", "b")], ValueError),
        ([("X-A\r\nX-B", "b")], ValueError),
        ([("X-\xe9", "b")], ValueError),
        ([("X-\u2713", "b")], ValueError),
        ([("X-A", "b\r\nX-B: c")], ValueError),
        ([("X-A", "b\n c")], ValueError),
        ([("X-A", "b\0")], ValueError),
        ([("X-A", "b\x7f")], ValueError),
        ([("X-A", "\u2713")], ValueError),
        ([("Content-Length", "")], ValueError),
        ([("Content-Length", "x")], ValueError),
        ([("Content-Length", "-1")], ValueError),
        ([("Content-Length", "+1")], ValueError),
        ([("Content-Length", "1_0")], ValueError),
        ([("Content-Length", "²")], ValueError),
        ([("content-length", "1"), ("Content-Length", "2")], ValueError),
    ],
)
def test_a_field_that_cannot_be_sent_raises_in_the_app(headers, error, logged):
    sink = run(answering([], headers))
    assert sink.calls == ERROR
    [message] = logged.take()
    assert error.__name__ in message or "UnicodeEncodeError" in message


def test_the_sink_gets_the_fields_unchanged():
    class Safe(str):
        pass

    headers = [
        ("X-Tab", "a\tb"),
        ("x-latin", "d\xe9j\xe0\xa0\x85"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("X-Empty", ""),
        (Safe("X-Safe"), Safe("yes")),
        ("Connection", "close"),
    ]
    fields = run(answering([], headers)).head[3]
    assert fields == [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


@pytest.mark.parametrize("headers", [[("Content-Length", " 3 ")], [("content-length", "3")] * 2])
def test_content_length_may_have_space_around_it_or_be_repeated(headers):
    class Lenient(Recorder):
        def begin(self, head, length):
            status, reason, _, _ = head
            return super().begin((status, reason, (), length), length)

    assert run(answering([b"abc"], headers), sink=Lenient()).head[4] == 3


def test_changes_to_headers_after_start_response_are_ignored():
    headers = list(PLAIN)

    def app(environ, start_response):
        start_response("200 OK", headers)
        headers.append(("X-Late", "1"))
        return []

    assert run(app).head[3] == [(b"Content-Type", b"text/plain")]


def test_a_head_that_equals_an_earlier_one_is_still_checked(logged):
    fields = [(b"X-A", b"1"), (b"Content-Length", b"3")]
    headers = [("X-A", "1"), ("Content-Length", "3")]
    for _ in range(2):
        assert run(answering([b"abc"], headers)).head == ("begin", 200, b"OK", fields, 3)
        assert run(answering([b"abc"], headers, "404 No")).head == ("begin", 404, b"No", fields, 3)
        assert run(answering([b"abc"], headers[::-1])).head[3] == fields[::-1]
        assert run(answering([b"ab"], [headers[0], ("Content-Length", "2")])).head[4] == 2
        # Unhashable arguments cannot be remembered.
        assert run(answering([b"abc"], [list(pair) for pair in headers])).head[3] == fields
        assert logged.take() == []
        # An error is not remembered either.
        assert run(answering([b"abc"], [("X-A", 1), headers[1]])).calls == ERROR
        assert "value of X-A is a str" in logged.take()[0]


def test_a_head_of_many_fields_is_sent_like_any_other():
    headers = [(f"X-{number}", str(number)) for number in range(100)]
    for _ in range(2):
        fields = run(answering([], headers)).head[3]
        assert fields == [(name.encode(), value.encode()) for name, value in headers]


def test_fields_that_the_sink_rejects_become_a_500(logged):
    sink = Recorder()
    sink.rejects = True
    run(answering([b"abc"]), sink=sink)
    assert sink.calls[1:] == ERROR
    assert "illegal fields" in logged.take()[0]


# Failures -----------------------------------------------------------------------------------------

failures = pytest.mark.parametrize(
    "failure",
    [
        RuntimeError,
        OSError,
        BrokenPipeError,
        SystemExit,
        KeyboardInterrupt,
        GeneratorExit,
    ],
)


def raising(failure):
    raise failure("app")


@failures
def test_a_call_that_raises_is_a_500(failure, logged):
    assert run(lambda environ, start_response: raising(failure)).calls == ERROR
    [error] = logged.take()
    assert error == f"GET /: the app failed {failure('app')!r}"


@failures
def test_an_iteration_that_raises_before_the_first_block_is_a_500(failure, logged):
    blocks = Blocks(b"", failure("app"))
    assert run(answering(blocks)).calls == ERROR
    assert blocks.closed == 1
    assert repr(failure("app")) in logged.take()[0]


@failures
def test_an_iteration_that_raises_after_the_first_block_is_aborted(failure, logged):
    blocks = Blocks(b"one", failure("app"), b"not asked for")
    sink = run(answering(blocks))
    assert sink.names() == ["begin", "write", "flush", "abort"]
    assert (blocks.taken, blocks.closed) == (2, 1)
    assert repr(failure("app")) in logged.take()[0]


def test_an_exception_after_a_complete_answer_is_only_logged(logged):
    blocks = Blocks(b"one", RuntimeError("app"))
    assert run(answering(blocks, sized(3))).names() == ["begin", "write", "finish"]
    assert blocks.closed == 1
    assert "RuntimeError" in logged.take()[0]


@failures
def test_an_error_in_close_is_logged(failure, logged):
    blocks = Blocks(b"one", close_error=failure("app"))
    assert run(answering(blocks)).names()[-1] == "finish"
    assert blocks.closed == 1
    assert logged.take() == [f"GET /: the app failed in close() {failure('app')!r}"]


def test_close_of_a_list_that_has_one():
    class Closing(list):
        closed = False

        def close(self):
            self.closed = True

    result = Closing([b"x"])
    run(answering(result))
    assert result.closed


@pytest.mark.parametrize(
    "result", [None, 3, "text", b"bytes", ["text"], [None], [b"x", ""], Blocks(""), Blocks(b"", 0)]
)
def test_a_result_that_is_no_iterable_of_bytes_is_a_500(result, logged):
    assert run(answering(result)).calls == ERROR
    assert "TypeError" in logged.take()[0]


@pytest.mark.parametrize("data", ["text", None, 3, bytearray(b"x")])
def test_write_takes_bytes_only(data, logged):
    def app(environ, start_response):
        start_response("200 OK", PLAIN)(data)

    assert run(app).calls == ERROR
    assert "TypeError" in logged.take()[0]


def test_head_of_a_failing_app_has_no_body(logged):
    assert run(lambda environ, start_response: raising(OSError), "HEAD").names() == [
        "begin",
        "finish",
    ]
    assert len(logged.take()) == 1


def test_the_sink_is_not_used_after_the_exchange(logged):
    kept = []

    def app(environ, start_response):
        kept.append(start_response)
        kept.append(start_response("200 OK", PLAIN))
        raise RuntimeError

    run(app)
    logged.take()
    start_response, write = kept
    with pytest.raises(ValueError, match="beyond the end"):
        write(b"late")
    with pytest.raises(AssertionError):
        start_response("200 OK", PLAIN)


# The client is gone -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fails", [("begin", 0), ("write", 0), ("flush", 0), ("write", 1), ("flush", 1), ("finish", 0)]
)
def test_a_client_that_is_gone_ends_the_iteration_without_an_error(fails, caplog):
    blocks = Blocks(b"one", b"two", *([b"three"] * (fails[0] != "finish")))
    sink = run(answering(blocks), fails=fails)
    assert sink.names()[-2:] == [fails[0], "abort"]
    assert blocks.taken == (2 if fails[0] == "finish" else fails[1] + 1)
    assert blocks.closed == 1
    [record] = caplog.records
    assert record.levelno == logging.DEBUG
    assert "Connection reset by peer" in record.getMessage()


@pytest.mark.parametrize("fails", [("begin", 0), ("write", 0), ("finish", 0)])
def test_a_client_that_is_gone_ends_a_list_without_an_error(fails):
    sink = run(answering([b"one"], sized(3)), fails=fails)
    assert sink.names()[-2:] == [fails[0], "abort"]


def test_a_client_that_is_gone_before_the_500(logged):
    sink = run(lambda environ, start_response: raising(RuntimeError), fails=("begin", 0))
    assert sink.names() == ["begin", "abort"]
    assert len(logged.take()) == 1


def test_an_abort_that_fails_is_not_logged():
    class Broken(Recorder):
        def abort(self):
            super().abort()
            raise OSError("gone too")

    blocks = Blocks(b"one")
    run(answering(blocks), sink=Broken(fails=("flush", 0)))
    assert blocks.closed == 1


def test_write_raises_oserror_and_the_iterable_is_not_used():
    blocks = Blocks(b"two")

    def app(environ, start_response):
        with pytest.raises(OSError, match="Connection reset"):
            start_response("200 OK", PLAIN)(b"one")
        return blocks

    run(app, fails=("write", 0))
    assert (blocks.taken, blocks.closed) == (0, 1)


def test_an_app_that_fails_because_the_client_is_gone_is_logged_and_sends_nothing(logged):
    def app(environ, start_response):
        try:
            start_response("200 OK", PLAIN)(b"one")
        except OSError as exc:
            raise RuntimeError("wrapped") from exc

    assert run(app, fails=("write", 0)).names() == ["begin", "write", "abort"]
    assert "wrapped" in logged.take()[0]


def test_a_request_body_that_is_cut_aborts_without_an_error(caplog):
    def read_some(size):
        raise ConnectionResetError(104, "Connection reset by peer")

    def app(environ, start_response):
        environ["wsgi.input"].read()

    sink = run(app, environ=environ_for("POST", **{"wsgi.input": LaneInput(read_some)}))
    assert sink.names() == ["abort"]
    assert [record.levelno for record in caplog.records] == [logging.DEBUG]


# Files --------------------------------------------------------------------------------------------

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize("sends_files", [None, 1 << 30])
@pytest.mark.parametrize("buffering", [-1, 0])
@pytest.mark.parametrize("mode", ["rb", "r+b"])
@pytest.mark.parametrize("offset", [0, 1000])
@pytest.mark.parametrize("declared", [None, 10, 200_000])
def test_a_regular_file_is_sent_from_its_position(
    path, sends_files, buffering, mode, offset, declared
):
    file = open(path, mode, buffering=buffering)  # noqa: SIM115
    file.seek(offset - offset // 2)
    file.read(offset // 2)
    headers = PLAIN if declared is None else sized(declared)
    sink = run(answering(FileWrapper(file), headers), sends_files=sends_files)
    count = len(CONTENT) - offset if declared is None else declared
    assert sink.head[4] == count
    assert sink.body == CONTENT[offset : offset + count]
    assert "flush" not in sink.names()
    assert sink.names()[-1] == "finish"
    assert ("send_file" in sink.names()) == (sends_files is not None)
    assert file.closed


def test_a_file_that_was_just_written_is_flushed_first(path):
    file = path.open("r+b")
    file.read(10)
    file.seek(0)
    file.write(b"changed")
    file.seek(3)
    assert path.read_bytes() == CONTENT, "a seek within what was read ahead flushes nothing"
    assert run(answering(FileWrapper(file)), sends_files=1 << 30).body == b"nged" + CONTENT[7:]


@pytest.mark.parametrize("sends_files", [None, 1 << 30])
def test_a_file_shorter_than_content_length_is_aborted(path, sends_files, logged):
    headers = sized(len(CONTENT) + 1)
    sink = run(answering(FileWrapper(path.open("rb")), headers), sends_files=sends_files)
    assert sink.body == CONTENT
    assert sink.names()[-1] == "abort"
    assert "shorter" in logged.take()[0]


@pytest.mark.parametrize("sends_files", [None, 100])
def test_a_file_that_shrinks_while_it_is_sent_is_aborted(path, sends_files, logged):
    class Shrinking(Recorder):
        def begin(self, *args):
            os.truncate(path, 100)
            return super().begin(*args)

    sink = Shrinking(sends_files=sends_files)
    run(answering(FileWrapper(path.open("rb"))), sink=sink)
    assert sink.body == CONTENT[:100]
    assert sink.names()[-1] == "abort"
    assert "shorter" in logged.take()[0]


def test_bytes_in_memory_are_sent_as_a_whole():
    file = io.BytesIO(CONTENT)
    file.seek(5)
    sink = run(answering(FileWrapper(file)), sends_files=1 << 30)
    assert sink.body == CONTENT[5:]
    assert sink.head[4] == len(CONTENT) - 5
    assert {"send_file", "flush"}.isdisjoint(sink.names())
    assert file.closed


def test_a_pipe_is_read_in_blocks_that_are_flushed():
    reader, writer = os.pipe()
    os.write(writer, b"abcdef")
    os.close(writer)
    sink = run(answering(FileWrapper(open(reader, "rb"), 4)), sends_files=100)  # noqa: SIM115
    assert sink.names() == ["begin", "write", "flush", "write", "flush", "finish"]
    assert sink.body == b"abcdef"


def test_content_length_bounds_what_is_read_from_a_pipe():
    """The pipe's writer stays open, so a further read would wait for ever."""
    reader, writer = os.pipe()
    try:
        os.write(writer, b"abcdef")
        file = open(reader, "rb", buffering=0)  # noqa: SIM115
        sink = run(answering(FileWrapper(file, 4), sized(6)), sends_files=100)
    finally:
        os.close(writer)
    assert sink.body == b"abcdef"
    assert sink.names() == ["begin", "write", "flush", "write", "finish"]


def test_a_fileno_with_other_bytes_than_read_is_not_used(tmp_path):
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(b"unpacked"))
    raw = path.open("rb")
    sink = run(answering(FileWrapper(gzip.GzipFile(fileobj=raw))), sends_files=100)
    raw.close()
    assert sink.body == b"unpacked"
    assert "send_file" not in sink.names()


def test_files_in_proc_are_sent_although_their_size_is_0():
    sink = run(answering(FileWrapper(open("/proc/self/cmdline", "rb"))), sends_files=1)  # noqa: SIM115
    assert sink.body
    assert "send_file" not in sink.names()


def test_a_file_like_object_needs_only_read():
    class Minimal:
        parts = iter([b"one", b"two", b""])

        def read(self, size):
            return next(self.parts)

    assert run(answering(FileWrapper(Minimal()))).body == b"onetwo"


def test_a_file_like_object_that_returns_more_than_asked_for():
    class Generous:
        def read(self, size):
            return b"abc" * 5

    sink = run(answering(FileWrapper(Generous()), sized(7)))
    assert sink.body == b"abcabca"
    assert sink.names()[-1] == "finish"


@pytest.mark.parametrize("headers", [PLAIN, sized(3)])
def test_a_text_file_is_a_500(headers, path, logged):
    text: Any = io.StringIO("abc")
    assert run(answering(FileWrapper(text), headers)).calls[-3:] == ERROR
    assert "TypeError" in logged.take()[0]


def test_a_file_that_cannot_be_read_is_a_500_or_aborted(logged):
    class Failing:
        parts = iter([b"one"])

        def read(self, size):
            for part in self.parts:
                return part
            raise OSError(5, "Input/output error")

    assert run(answering(FileWrapper(Failing()))).names()[-1] == "abort"
    assert "Input/output error" in logged.take()[0]
    assert run(answering(FileWrapper(Failing()))).calls[-3:] == ERROR
    assert "Input/output error" in logged.take()[0]


def test_a_client_that_leaves_while_a_file_is_sent(path):
    file = path.open("rb")
    sink = run(answering(FileWrapper(file)), fails=("send_file", 0), sends_files=1 << 30)
    assert sink.names() == ["begin", "send_file", "abort"]
    assert file.closed


def test_a_file_after_write(path):
    def app(environ, start_response):
        start_response("200 OK", PLAIN)(b"first")
        return FileWrapper(path.open("rb"))

    assert run(app, sends_files=1 << 30).body == b"first" + CONTENT

    def full(environ, start_response):
        start_response("200 OK", sized(5))(b"first")
        return FileWrapper(path.open("rb"))

    assert run(full, sends_files=1 << 30).body == b"first"


def test_a_file_wrapper_without_start_response_is_a_500(logged):
    assert run(lambda environ, start_response: FileWrapper(io.BytesIO(b"x"))).calls == ERROR
    assert "start_response was not called" in logged.take()[0]


def test_bytes_left_is_none_for_other_objects(path):
    file = io.BytesIO(b"abc")
    file.seek(10)
    assert bytes_left(file) == 0
    with path.open("wb") as writable:
        assert bytes_left(writable) is None
    with path.open("r") as text:
        assert bytes_left(text) is None
    assert bytes_left(io.BufferedReader(io.BytesIO(b"abc"))) is None
    assert bytes_left(object()) is None
    with pytest.raises(ValueError, match="closed"):
        bytes_left(text.buffer)


# wsgi.errors --------------------------------------------------------------------------------------


def test_errors_go_to_stderr_and_cannot_be_closed(capsys):
    print("one", file=ERRORS)
    ERRORS.writelines(["two\n", "three\n"])
    ERRORS.flush()
    ERRORS.close()
    assert ERRORS.write("four") == 4
    assert capsys.readouterr().err == "one\ntwo\nthree\nfour"
    with pytest.raises(TypeError):
        ERRORS.write(b"bytes")  # type: ignore[arg-type]


# Other people's code ------------------------------------------------------------------------------


def lazily(environ, start_response):
    start_response("200 OK", PLAIN)
    yield b"one"
    yield b"two"


def with_write(environ, start_response):
    write = start_response("200 OK", PLAIN)
    write(b"one")
    return [b"two"]


def with_exc_info(environ, start_response):
    start_response("200 OK", PLAIN)
    try:
        raise LookupError
    except LookupError:
        start_response("500 Oh", PLAIN, sys.exc_info())
    return [b"onetwo"]


def with_file(environ, start_response):
    start_response("200 OK", sized(6))
    return environ["wsgi.file_wrapper"](io.BytesIO(b"onetwo"))


def with_input(environ, start_response):
    body = environ["wsgi.input"]
    environ["wsgi.errors"].flush()
    start_response("200 OK", PLAIN)
    return [body.read(2), body.readline(), *body, body.read(10)]


@pytest.mark.parametrize(
    "app", [answering([b"onetwo"]), lazily, with_write, with_exc_info, with_file, with_input]
)
def test_the_validator_finds_nothing_wrong(app):
    pieces = itertools.chain([b"one", b"two"], itertools.repeat(b""))
    environ = environ_for(**{"wsgi.input": LaneInput(lambda size: next(pieces))})
    assert run(validator(app), environ=environ).body == b"onetwo"


def test_flask(path):
    import flask

    app = flask.Flask(__name__)
    ended = []

    @app.get("/plain")
    def plain():
        response = flask.Response("plain")
        response.call_on_close(lambda: ended.append("plain"))
        return response

    @app.get("/stream")
    def stream():
        return flask.Response(flask.stream_with_context(part for part in ("one", "two")))

    @app.get("/file")
    def file():
        return flask.send_file(path, mimetype="text/plain", conditional=True)

    @app.get("/memory")
    def memory():
        return flask.send_file(io.BytesIO(CONTENT), mimetype="text/plain")

    @app.post("/echo")
    def echo():
        return flask.request.get_data()

    def get(target, method="GET", **more):
        environ = environ_for(method, PATH_INFO=target, **more)
        return run(app, method, environ=environ, sends_files=1 << 30)

    sink = get("/plain")
    assert sink.names() == ["begin", "write", "finish"]
    assert sink.body == b"plain"
    assert ended == ["plain"]
    assert get("/plain", "HEAD").names() == ["begin", "finish"]
    assert get("/stream").names() == ["begin", "write", "flush", "write", "flush", "finish"]
    sink = get("/file")
    assert sink.names() == ["begin", "send_file", "finish"]
    assert sink.body == CONTENT
    sink = get("/file", HTTP_RANGE="bytes=10-19")
    assert sink.head[1] == 206
    assert sink.body == CONTENT[10:20]
    sink = get("/memory")
    assert sink.body == CONTENT
    assert "flush" not in sink.names()
    assert get("/nowhere").head[1] == 404
    more = {
        "wsgi.input": LaneInput(io.BytesIO(CONTENT).read),
        "wsgi.input_terminated": True,
    }
    assert get("/echo", "POST", **more).body == CONTENT


@pytest.fixture(scope="module")
def django_app(tmp_path_factory):
    from django.conf import settings
    from django.core.wsgi import get_wsgi_application
    from django.http import FileResponse, HttpResponse, StreamingHttpResponse
    from django.urls import path as route

    file = tmp_path_factory.mktemp("django") / "file"
    file.write_bytes(CONTENT)

    class Routes:
        urlpatterns = [  # noqa: RUF012
            route("plain", lambda request: HttpResponse("plain")),
            route("stream", lambda request: StreamingHttpResponse(iter(["one", "two"]))),
            route("file", lambda request: FileResponse(file.open("rb"))),
            route("echo", lambda request: HttpResponse(request.read())),
        ]

    settings.configure(
        ALLOWED_HOSTS=["*"],
        LOGGING_CONFIG=None,
        MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
        ROOT_URLCONF=Routes,
        SECRET_KEY="x",
    )
    return get_wsgi_application()


def test_django(django_app):
    from django.core.signals import request_finished

    finished = []

    def on_finished(**_):
        finished.append(True)

    def get(target, method="GET", **more):
        environ = environ_for(method, PATH_INFO=target, **more)
        return run(django_app, method, environ=environ, sends_files=1 << 30)

    request_finished.connect(on_finished)
    try:
        sink = get("/plain")
        assert sink.names() == ["begin", "write", "finish"]
        assert sink.body == b"plain"
        assert get("/plain", "HEAD").names() == ["begin", "finish"]
        assert get("/stream").names() == ["begin", "write", "flush", "write", "flush", "finish"]
        sink = get("/file")
        assert sink.names() == ["begin", "send_file", "finish"]
        assert sink.body == CONTENT
        more = {
            "CONTENT_LENGTH": str(len(CONTENT)),
            "wsgi.input": LaneInput(io.BytesIO(CONTENT).read),
        }
        assert get("/echo", "POST", **more).body == CONTENT
    finally:
        request_finished.disconnect(on_finished)
    assert len(finished) == 5
