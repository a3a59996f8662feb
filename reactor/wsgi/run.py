"""Runs a WSGI app for one exchange (PEP 3333). Owns what the app may do when; the bytes on the wire
are an AnswerSink's.

An answer passes through these phases, and what the app may do depends on them:

              start_response    with exc_info            write(data), next block
    SILENT    to STARTED        to STARTED               AssertionError
    STARTED   AssertionError    to STARTED               to BEGUN; to ENDED if that is all
    BEGUN     AssertionError    re-raised if bytes are   sent; to ENDED if that is all
                                sent, else to STARTED
    ENDED     AssertionError    re-raised                surplus: write raises ValueError, a block
                                                         is dropped and logged
    GONE      AssertionError    re-raised                ClientGone

- The head waits for the first block that is not empty, so a generator may call start_response as
  late as that, and an error before it becomes a 500.
- A list or tuple has a known length: it goes out as a whole, and is finished without a flush.
- Any other iterable, and `write`, is flushed block by block before the app goes on. The block that
  completes the Content-Length finishes the answer instead: the client need not wait for what the
  app does afterwards, nor for `close()`.
- No more than Content-Length bytes are sent. What is missing at the end aborts the answer, so that
  the client can see it.
- The answers to HEAD, 204 and 304 have no body: the app is asked for blocks until the first that is
  not empty, because until then it may still change its status.
- Whatever the app raises, SystemExit and KeyboardInterrupt included, is logged and ends the
  exchange, not the reactor. Once the client is gone, nothing more is asked of the app than
  `close()`.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from reactor_run.logs import RepeatLimit
from reactor_run.reactor import fork
from reactor_run.reactor.log import place_of
from reactor_run.reactor.wsgi.file import FileWrapper, bytes_left
from reactor_run.reactor.wsgi.head import AppHead, read_app_head
from reactor_run.reactor.wsgi.input import ClientGone

if TYPE_CHECKING:
    from types import TracebackType
    from wsgiref.types import WSGIApplication, WSGIEnvironment

    ExcInfo = tuple[type[BaseException], BaseException, TracebackType]
    OptExcInfo = ExcInfo | tuple[None, None, None]

__all__ = ["ERRORS", "AnswerSink", "ErrorStream", "run_wsgi"]


class AnswerSink(Protocol):
    """Where one answer goes. All methods may block the calling thread.

    Any may raise OSError, which means that the client is gone, or that it does not take the answer
    in time. An answer ends with a `finish()` that returned or with `abort()`; after that, no method
    is called.
    """

    @property
    def name(self) -> str:
        """The request, for the log."""
        ...

    @property
    def head_sent(self) -> bool:
        """Bytes of the answer may be on the wire: from now on it cannot be replaced by a 500."""
        ...

    def begin(self, head: AppHead, length: int | None) -> int:
        """Take the head, and return the framing: the bytes that the body must have, or CHUNKED or
        UNTIL_CLOSE of reactor_run.protocol.body.

        `length` is its Content-Length, else the size of the body that the app made if that is
        known, else None. For HEAD, 204 and 304 the framing is 0 whatever the length. Called a
        second time, and only while `head_sent` is false, it replaces the answer: head and body
        bytes of the first are dropped. Raises ValueError for fields that cannot be sent.
        """
        ...

    def write(self, data: bytes) -> None:
        """Take bytes of the body, never none; framing them is the sink's business."""
        ...

    def flush(self) -> None:
        """Return when what was written is on its way whatever the app does next."""
        ...

    def send_file(self, file: io.BufferedIOBase | io.RawIOBase, count: int) -> bool:
        """Send `count` > 0 bytes of a regular file, from offset `file.tell()` of `file.fileno()`.

        False, and nothing is sent, if this sink would rather be written to. Raises EOFError if the
        file ends before; its bytes up to there are sent.
        """
        ...

    def finish(self) -> None:
        """The answer is complete."""
        ...

    def abort(self) -> None:
        """The answer will not be completed: let the client see that. Called also after OSError."""
        ...


class ErrorStream(io.TextIOBase):
    """`wsgi.errors`: the process's stderr, for all exchanges and threads; no app can close it."""

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()

    def close(self) -> None:
        """Nothing: also the interpreter calls this, as it ends, when `sys` may be gone."""


ERRORS: Final = ErrorStream()


def run_wsgi(
    app: WSGIApplication, environ: WSGIEnvironment, sink: AnswerSink, log: RepeatLimit
) -> None:
    """Run `app` for one exchange, from the call to `close()`, and send its answer to `sink`.

    Returns when the app is done with the exchange. Raises nothing that the app or an OSError of the
    sink is the cause of: those are logged, the latter at debug level.
    """
    # An app may overwrite REQUEST_METHOD: middleware does, to let it answer HEAD as GET.
    answer = _Answer(sink, environ["REQUEST_METHOD"] == "HEAD")
    result: Iterable[bytes] | None = None
    try:
        result = app(environ, answer.start_response)
        fault = answer.send(result)
        if fault is not None:
            log.error("%s: %s", sink.name, fault)
    except ClientGone as gone:
        log.debug("%s: the client is gone: %s", sink.name, gone)
        answer.give_up()
    except BaseException as error:
        if fork.is_child:
            fork.leave(error)
        log.error("%s: the app failed", sink.name, exc_info=True, kind=place_of(error))
        answer.fail()
    finally:
        if type(result) is not list:
            try:
                close = getattr(result, "close", None)
                if close is not None:
                    close()
            except BaseException as error:
                what = "%s: the app failed in close()"
                log.error(what, sink.name, exc_info=True, kind=place_of(error))


class _Phase(Enum):
    SILENT = "start_response has not been called"
    STARTED = "the app's head is known"
    BEGUN = "the sink has the head"
    ENDED = "finished, or aborted by us"
    GONE = "aborted because the sink failed"


_SILENT: Final = _Phase.SILENT
_STARTED: Final = _Phase.STARTED
_BEGUN: Final = _Phase.BEGUN
_ENDED: Final = _Phase.ENDED
_GONE: Final = _Phase.GONE

_SURPLUS: Final = "the body is longer than its Content-Length: the rest was dropped"
_MISSING: Final = "the body is shorter than its Content-Length: the answer was aborted"

_FILE_BLOCK: Final = 65536
"""Bytes of a file read at once if the sink does not send it by itself."""

_ERROR_BODY: Final = b"Internal Server Error"
_ERROR_HEAD: Final = AppHead(
    500,
    _ERROR_BODY,
    (
        (b"Content-Type", b"text/plain; charset=utf-8"),
        (b"Content-Length", str(len(_ERROR_BODY)).encode()),
    ),
    len(_ERROR_BODY),
)


class _Answer:
    """One answer of a WSGI app on its way to a sink."""

    __slots__ = (
        "_bodyless",
        "_head",
        "_head_only",
        "_left",
        "_phase",
        "_sink",
    )

    _head: AppHead
    _bodyless: bool
    """The answer has no body, by its method or status."""
    _left: int
    """Bytes of the body still to come; negative if the framing does not say."""

    def __init__(self, sink: AnswerSink, head_only: bool) -> None:
        self._sink = sink
        self._head_only = head_only
        self._phase = _SILENT

    # What the app calls.

    def start_response(
        self,
        status: str,
        headers: list[tuple[str, str]],
        exc_info: OptExcInfo | None = None,
    ) -> _Write:
        """PEP 3333, "The start_response() Callable".

        Raises TypeError or ValueError for a head that cannot be sent; AssertionError if it was
        called before and `exc_info` is not given; the exception of `exc_info` if it is too late.
        """
        if exc_info:
            try:
                if self._too_late():
                    assert exc_info[1] is not None
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # its traceback holds this frame
        elif self._phase is not _SILENT:
            raise AssertionError("start_response was called a second time, without exc_info")

        self._head = head = read_app_head(status, headers)
        self._bodyless = self._head_only or head.bodyless
        self._phase = _STARTED
        return self.write

    def write(self, data: bytes, /) -> None:
        """PEP 3333, "The write() Callable": returns when `data` is on its way.

        Raises ValueError for what goes beyond Content-Length, ClientGone if nobody takes it.
        """
        if not isinstance(data, bytes):
            raise TypeError(f"write takes bytes, not {data!r:.200}")
        data = _exact(data)
        if data and not self._pass_on(data, flush=True):
            raise ValueError("write goes beyond the end of the body")

    # What run_wsgi calls.

    def send(self, result: Iterable[bytes]) -> str | None:
        """Send what the app returned; return what was wrong with it, if nothing needs raising."""
        if self._phase is _GONE:
            raise ClientGone("an earlier write failed")
        kind = type(result)
        if kind is list or kind is tuple:
            return self._send_whole(result)  # type: ignore[arg-type]
        if kind is FileWrapper:
            return self._send_file(result)  # type: ignore[arg-type]
        return self._send_blocks(result)

    def fail(self) -> None:
        """End an answer that the app failed to make: with a 500, if nothing is sent yet."""
        if self._phase is _ENDED or self._phase is _GONE:
            return
        if self._too_late():
            self.give_up()
            return
        sink = self._sink
        try:
            if sink.begin(_ERROR_HEAD, len(_ERROR_BODY)):
                sink.write(_ERROR_BODY)
            sink.finish()
        except OSError:
            self.give_up()
        self._phase = _ENDED

    def give_up(self) -> None:
        """Abort the answer, unless it has ended."""
        if self._phase is _ENDED or self._phase is _GONE:
            return
        self._phase = _ENDED
        try:
            self._sink.abort()
        except OSError:
            pass  # the client is gone as well

    # The ways in which a body comes. Each returns what was wrong with it.

    def _send_whole(self, blocks: Sequence[bytes]) -> str | None:
        total = 0
        for block in blocks:
            if type(block) is not bytes:
                return self._send_whole([_exact(each) for each in blocks])
            total += len(block)
        if self._phase is _STARTED or self._phase is _SILENT:
            self._begin(total)
            if self._left == total:
                # As it should be, and as it mostly is: nothing is to be cut, nothing lacks.
                self._complete(blocks)
                return None
        for block in blocks:
            if block and not self._pass_on(block, flush=False):
                return _SURPLUS
        return self._end()

    def _send_blocks(self, blocks: Iterable[bytes]) -> str | None:
        for block in blocks:
            if type(block) is not bytes:
                block = _exact(block)
            if block:
                if not self._pass_on(block, flush=True):
                    return _SURPLUS
                if self._bodyless:
                    return None
        return self._end()

    def _send_file(self, wrapper: FileWrapper) -> str | None:
        """As much of the file as Content-Length says, if it says (PEP 3333, "Optional
        Platform-Specific File Handling")."""
        file = wrapper.filelike
        at_hand = bytes_left(file)
        if self._phase is _STARTED or self._phase is _SILENT:
            self._begin(at_hand)
        if at_hand is None:
            if self._left < 0:
                return self._send_blocks(wrapper)
            count = self._left
            size = wrapper.blksize
        else:
            count = at_hand if self._left < 0 else min(at_hand, self._left)
            size = _FILE_BLOCK
            if count and type(file) is not io.BytesIO and self._hand_over(file, count):
                return self._end()
        while count > 0 and (block := file.read(min(count, size))):
            if type(block) is not bytes:
                block = _exact(block)
            self._pass_on(block, flush=at_hand is None)
            count -= len(block)
        return self._end()

    # What they are made of. All that these call is the sink's, so an OSError is too.

    def _begin(self, length: int | None) -> None:
        """Give the head to the sink. length: bytes of the body that the app made, if known."""
        if self._phase is _SILENT:
            raise AssertionError("start_response was not called")
        head = self._head
        if head.declared is not None:
            length = head.declared
        try:
            self._left = self._sink.begin(head, length)
        except OSError as exc:
            raise self._gone(exc) from exc
        self._phase = _BEGUN

    def _pass_on(self, block: bytes, flush: bool) -> bool:
        """Send a block, and finish if it is the last by Content-Length; False if not all fitted."""
        if self._phase is not _BEGUN:
            if self._phase is _ENDED:
                return self._bodyless
            if self._phase is _GONE:
                raise ClientGone("an earlier write failed")
            self._begin(None)
        if self._bodyless:
            self._finish()
            return True
        left = self._left
        fits = True
        if left >= 0:
            if len(block) > left:
                fits = False
                block = block[:left]
            self._left = left = left - len(block)
        try:
            if block:
                self._sink.write(block)
            if left != 0:
                if flush:
                    self._sink.flush()
                return True
        except OSError as exc:
            raise self._gone(exc) from exc
        self._finish()
        return fits

    def _complete(self, blocks: Sequence[bytes]) -> None:
        """Send the blocks, which are all of the body."""
        sink = self._sink
        try:
            for block in blocks:
                if block:
                    sink.write(block)
            sink.finish()
        except OSError as exc:
            raise self._gone(exc) from exc
        self._phase = _ENDED

    def _hand_over(self, file: object, count: int) -> bool:
        """Let the sink send the file itself, if it can."""
        try:
            if not self._sink.send_file(file, count):  # type: ignore[arg-type]
                return False
        except OSError as exc:
            raise self._gone(exc) from exc
        except EOFError:
            return True
        if self._left >= 0:
            self._left -= count
        return True

    def _end(self) -> str | None:
        """The app has no more blocks."""
        if self._phase is _STARTED or self._phase is _SILENT:
            self._begin(0)
        if self._phase is _BEGUN:
            if self._left > 0:
                self.give_up()
                return _MISSING
            self._finish()
        return None

    def _finish(self) -> None:
        try:
            self._sink.finish()
        except OSError as exc:
            raise self._gone(exc) from exc
        self._phase = _ENDED

    def _gone(self, exc: OSError) -> ClientGone:
        """The sink failed: abort, and tell it apart from what the app itself runs into."""
        self.give_up()
        self._phase = _GONE
        return ClientGone(*exc.args)

    def _too_late(self) -> bool:
        """Whether the answer can no longer become another one."""
        phase = self._phase
        return phase is _ENDED or phase is _GONE or (phase is _BEGUN and self._sink.head_sent)


class _Write(Protocol):
    def __call__(self, data: bytes, /) -> None: ...


def _exact(block: object) -> bytes:
    """The bytes of `block`. Of a subclass too: its len() may be anything, and lanes are framed by
    it. Raises TypeError for what is no bytes."""
    if not isinstance(block, bytes):
        raise TypeError(f"the app's result yields bytes, not {block!r:.200}")
    return bytes(memoryview(block))
