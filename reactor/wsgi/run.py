"""The call of a WSGI app for one exchange (PEP 3333).

It owns the rules of what the app may do, and when. An AnswerSink sends the bytes.

An answer passes through phases. The table says what each action of the app does in each phase:

              start_response    with exc_info            write(data), next block
    SILENT    to STARTED        to STARTED               AssertionError
    STARTED   AssertionError    to STARTED               to BEGUN; to ENDED if that is all
    BEGUN     AssertionError    re-raised if bytes are   sent; to ENDED if that is all
                                sent, else to STARTED
    ENDED     AssertionError    re-raised                surplus: write raises ValueError, a block
                                                         is dropped and logged
    GONE      AssertionError    re-raised                ClientGone

- The head waits for the first block that is not empty. A generator may call start_response before
  that block, and an error before it becomes a 500.
- A list or tuple has a known length. It is sent as a whole and finished without a flush.
- Blocks of any other iterable, and of `write`, are flushed one by one before the app goes on. The
  block that completes the Content-Length finishes the answer instead of a flush. So the client
  waits neither for the app's later work nor for `close()`.
- Bytes beyond the Content-Length are never sent. If bytes are missing at the end, the answer is
  aborted, so that the client can see it.
- The answers to HEAD, 204 and 304 have no body. The app is asked for blocks until the first one
  that is not empty, because until then it may still change its status.
- An exception of the app, even SystemExit or KeyboardInterrupt, is logged and ends the exchange,
  not the reactor. Once the client is gone, the app's result is only closed by `close()`.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from reactor_run.logs import RepeatLimit
from reactor_run.reactor import fork
from reactor_run.reactor.log import place_of, prompt_hint
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
    """The receiver of one answer. All methods may block the calling thread.

    Each method may raise OSError: the client is gone, or it does not read the answer in time. An
    answer ends when `finish()` returns, or with `abort()`. After that, no method is called.
    """

    @property
    def name(self) -> str:
        """The method and target of the request, for the log."""
        ...

    @property
    def head_sent(self) -> bool:
        """Whether bytes of the answer may have been sent. Then a 500 cannot replace it."""
        ...

    def begin(self, head: AppHead, length: int | None) -> int:
        """Take the head, and return the framing of the body.

        The framing is the length of the body in bytes, or CHUNKED or UNTIL_CLOSE of
        reactor_run.protocol.body. For HEAD, 204 and 304 it is 0, whatever the length.

        `length` is the Content-Length in bytes. Without a Content-Length it is the size of the body
        if that is known, else None.

        A second call is allowed while `head_sent` is false. It replaces the answer: the first head
        and its body bytes are dropped. Raises ValueError if the fields cannot be sent.
        """
        ...

    def write(self, data: bytes) -> None:
        """Take bytes of the body, at least one. The sink frames them."""
        ...

    def flush(self) -> None:
        """Return when the kernel has taken all written bytes."""
        ...

    def send_file(self, file: io.BufferedIOBase | io.RawIOBase, count: int) -> bool:
        """Send `count` > 0 bytes of a regular file, from offset `file.tell()` of `file.fileno()`.

        Returns False, and sends nothing, if the bytes should be passed to `write` instead. Raises
        EOFError if the file ends early. The bytes before its end are sent then.
        """
        ...

    def finish(self) -> None:
        """Complete the answer."""
        ...

    def answer_whole(self, head: AppHead, length: int, blocks: Sequence[bytes]) -> int:
        """Take the head as `begin` does, and return the framing. If that is `length`, which is the
        size of all blocks, take them as the body, and complete the answer.

        Returns also before the kernel has taken the bytes.
        """
        ...

    def abort(self) -> None:
        """Abort the answer, so that the client sees that it is incomplete. Also called after an
        OSError."""
        ...


class ErrorStream(io.TextIOBase):
    """`wsgi.errors`: standard error of the process. All exchanges share it, and no app can close
    it."""

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()

    def close(self) -> None:
        """Do nothing. The interpreter calls this too, at its end, when `sys` may be gone."""


ERRORS: Final = ErrorStream()


def run_wsgi(
    app: WSGIApplication, environ: WSGIEnvironment, sink: AnswerSink, log: RepeatLimit
) -> None:
    """Run `app` for one exchange, from the call to `close()`, and send its answer to `sink`.

    Returns when the app has ended. Exceptions of the app are logged, not raised. An OSError of the
    sink is logged at debug level.
    """
    # Read this before the call: middleware may change REQUEST_METHOD, to answer HEAD as GET.
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
        hint = prompt_hint(error)
        advice = f" ({hint})" if hint else ""
        log.error("%s: the app failed%s", sink.name, advice, exc_info=True, kind=place_of(error))
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
    ENDED = "finished or aborted"
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
_ERROR_HEAD: Final[AppHead] = (
    500,
    _ERROR_BODY.decode(),
    (
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(_ERROR_BODY))),
    ),
    len(_ERROR_BODY),
)


class _Answer:
    """The rules for one answer of a WSGI app."""

    __slots__ = (
        "_bodyless",
        "_declared",
        "_head",
        "_head_only",
        "_left",
        "_phase",
        "_sink",
    )

    _head: AppHead
    _declared: int | None
    """The app's Content-Length in bytes; None without one."""
    _bodyless: bool
    """The answer has no body, because of the request's method or the status."""
    _left: int
    """Bytes of the body that are still missing; negative if the framing gives no length."""

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
        """Set the head of the answer, and return `write` (PEP 3333, "The start_response()
        Callable").

        Raises TypeError or ValueError if the head cannot be sent. A second call without `exc_info`
        raises AssertionError. With `exc_info`, a call raises that exception if the head was sent.
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
        code, _, _, self._declared = head
        self._bodyless = self._head_only or code == 204 or code == 304
        self._phase = _STARTED
        return self.write

    def write(self, data: bytes, /) -> None:
        """Send `data`, and return when the kernel has taken it (PEP 3333, "The write() Callable").

        Raises TypeError if `data` is not bytes, ValueError for bytes beyond the Content-Length, and
        ClientGone if the client is gone.
        """
        if not isinstance(data, bytes):
            raise TypeError(f"write takes bytes, not {data!r:.200}")
        data = _exact(data)
        if data and not self._pass_on(data, flush=True):
            raise ValueError("write goes beyond the end of the body")

    # What run_wsgi calls.

    def send(self, result: Iterable[bytes]) -> str | None:
        """Send the app's result. Returns a text for the log if its length is wrong, else None."""
        if self._phase is _GONE:
            raise ClientGone("an earlier write failed")
        kind = type(result)
        if kind is list or kind is tuple:
            return self._send_whole(result)  # type: ignore[arg-type]
        if kind is FileWrapper:
            return self._send_file(result)  # type: ignore[arg-type]
        return self._send_blocks(result)

    def fail(self) -> None:
        """End the answer of an app that failed. If nothing is sent yet, the answer becomes a
        500."""
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
            pass  # The client is gone too.

    # One method for each kind of result. Each returns a text for the log, or None.

    def _send_whole(self, blocks: Sequence[bytes]) -> str | None:
        total = 0
        for block in blocks:
            if type(block) is not bytes:
                return self._send_whole([_exact(each) for each in blocks])
            total += len(block)
        if self._phase is _STARTED and self._declared in (None, total):
            # The usual case: the body has exactly its Content-Length.
            try:
                self._left = left = self._sink.answer_whole(self._head, total, blocks)
            except OSError as exc:
                raise self._gone(exc) from exc
            if left == total:
                self._phase = _ENDED
                return None
            self._phase = _BEGUN
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
        """Send the file, up to the Content-Length if there is one (PEP 3333, "Optional
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

    # The steps of these methods. They call only the sink, so an OSError is always the sink's.

    def _begin(self, length: int | None) -> None:
        """Give the head to the sink. `length`: bytes of the body that the app made, if known."""
        if self._phase is _SILENT:
            raise AssertionError("start_response was not called")
        if self._declared is not None:
            length = self._declared
        try:
            self._left = self._sink.begin(self._head, length)
        except OSError as exc:
            raise self._gone(exc) from exc
        self._phase = _BEGUN

    def _pass_on(self, block: bytes, flush: bool) -> bool:
        """Send a block. If it completes the Content-Length, finish the answer.

        Returns False if bytes beyond the Content-Length were dropped.
        """
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

    def _hand_over(self, file: object, count: int) -> bool:
        """Let the sink send the file itself. Returns False if it does not."""
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
        """Finish the answer after the app's last block. Returns a text for the log, or None."""
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
        """Abort the answer after the sink failed. Returns the exception to raise, whose class tells
        it from an OSError of the app."""
        self.give_up()
        self._phase = _GONE
        return ClientGone(*exc.args)

    def _too_late(self) -> bool:
        """Whether it is too late to replace this answer."""
        phase = self._phase
        return phase is _ENDED or phase is _GONE or (phase is _BEGUN and self._sink.head_sent)


class _Write(Protocol):
    def __call__(self, data: bytes, /) -> None: ...


def _exact(block: object) -> bytes:
    """Return `block` as bytes. Raises TypeError if it is not bytes.

    An object of a subclass is copied: lanes are framed by len(), and a subclass may change it.
    """
    if not isinstance(block, bytes):
        raise TypeError(f"the app's result yields bytes, not {block!r:.200}")
    return bytes(memoryview(block))
