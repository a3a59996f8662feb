"""An ASGI app for every runtime whose paths do what the tests of a reactor need.

An exchange may wait for a gate, which another exchange opens. It may write notes, which another
exchange reads. The query's `key` names the gate and the notes.

Trio is imported where it is used: a reactor on asyncio starts in two thirds of the time without it.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import hashlib
import json
import linecache
import logging
import logging.config
import os
import sys
import threading
import time
import traceback
import weakref
from collections import defaultdict
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import anyio
import anyio.lowlevel
import anyio.to_thread
import sniffio

from reactor_run.reactor.links.exchange import signal_write_ready

Scope = dict[str, Any]
HANDLERS: dict[str, Callable] = {}
NOTES: dict[str, list[str]] = defaultdict(list)
GATES: dict[str, anyio.Event] = {}
LEFT: dict[str, Any] = {}
"""Objects that one exchange leaves and another one misuses."""
BACKGROUND: set[asyncio.Task[None]] = set()
SENT: dict[str, int] = defaultdict(int)
"""How many pieces a task has begun to send, by key."""
CANCELLED: dict[str, int] = defaultdict(int)
CALLED: list[str] = []
"""The keys of exchanges whose task has ended."""
THREAD_GATES: dict[str, threading.Event] = defaultdict(threading.Event)
VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


def on(path: str) -> Callable[[Callable], Callable]:
    def register(handler: Callable) -> Callable:
        HANDLERS[path] = handler
        return handler

    return register


class Exchange:
    """A scope with its two channels and a few helpers."""

    def __init__(self, scope: Scope, receive: Callable, send: Callable) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        query = parse_qs(scope["query_string"].decode())
        self.query = {name: values[0] for name, values in query.items()}
        self.key = self.query.get("key", "")

    async def start(self, *headers: tuple[bytes, bytes], status: int = 200) -> None:
        message = {"type": "http.response.start", "status": status, "headers": list(headers)}
        await self.send(message)

    async def body(self, body: bytes = b"", more: bool = False) -> None:
        await self.send({"type": "http.response.body", "body": body, "more_body": more})

    async def answer(self, text: str) -> None:
        await self.start((b"content-type", b"text/plain"))
        await self.body(text.encode())

    async def read(self) -> tuple[bytes, list[int]]:
        """Return the whole request body, and the sizes of its parts."""
        parts = []
        while True:
            message = await self.receive()
            assert message["type"] == "http.request", message
            parts.append(message["body"])
            if not message["more_body"]:
                return b"".join(parts), [len(part) for part in parts]

    async def gate(self) -> None:
        await GATES.setdefault(self.key, anyio.Event()).wait()

    def note(self, text: object) -> None:
        NOTES[self.key].append(str(text))


async def app(scope: Scope, receive: Callable, send: Callable) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("the lifespan has shut down")
        await send({"type": "lifespan.shutdown.complete"})
        return
    await HANDLERS[scope["path"]](Exchange(scope, receive, send))


@on("/open")
async def open_gate(it: Exchange) -> None:
    GATES.setdefault(it.key, anyio.Event()).set()
    await it.answer("open")


@on("/collected")
async def collected(it: Exchange) -> None:
    """Names the modules of the runtime that garbage collections look at."""
    looked_at = set(map(id, gc.get_objects()))
    runtime = [name for name in sys.modules if name.startswith("anyio._backends.")]
    await it.answer(json.dumps([name for name in runtime if id(sys.modules[name]) in looked_at]))


@on("/notes")
async def notes(it: Exchange) -> None:
    await it.answer(json.dumps(NOTES[it.key]))


@on("/note")
async def note(it: Exchange) -> None:
    it.note("noted")
    await it.answer("noted")


@on("/hello")
async def hello(it: Exchange) -> None:
    await it.answer("hello")


@on("/file")
async def file(it: Exchange) -> None:
    """Answer with a file, by http.response.pathsend.

    The query has its path, a status, a Content-Length, what the app does before, and `late`: the
    app suspends before it begins.
    """
    if "late" in it.query:
        await anyio.lowlevel.checkpoint()
    if "early" not in it.query:
        length = it.query.get("length")
        fields = [(b"content-length", length.encode())] if length else []
        await it.start(*fields, status=int(it.query.get("status", "200")))
    if "body" in it.query:
        await it.body(b"a", more=True)
    message = {"type": "http.response.pathsend", "path": it.query["path"]}
    try:
        await it.send(message)
    except Exception as error:
        it.note(type(error).__name__)
        if "fallback" in it.query:
            await it.body(b"fallback")
            return
        raise
    it.note((await it.receive())["type"])
    if "again" in it.query:
        try:
            await it.send(message)
        except RuntimeError as error:
            it.note(error)


@on("/trailers")
async def trailers(it: Exchange) -> None:
    """Send the messages that the query names, and note what is raised.

    The query's `do` has a letter for each: s(tart), t (start with trailers), b(ody), p(athsend),
    m (trailers, and more follow), e (trailers, the end), f (trailers that cannot be sent).
    """
    end = {"type": "http.response.trailers"}
    start = {"type": "http.response.start", "status": 200}
    messages: dict[str, Any] = {
        "s": start,
        "t": {**start, "trailers": True},
        "b": {"type": "http.response.body", "body": b"body"},
        "p": {"type": "http.response.pathsend", "path": __file__},
        "m": {**end, "headers": [(b"x-one", b"1")], "more_trailers": True},
        "e": {**end, "headers": [(b"x-two", b"2")]},
        "f": {**end, "headers": [(b"x-two", b"2\r\nx: y")]},
    }
    for letter in it.query["do"]:
        try:
            await it.send(messages[letter])
        except Exception as error:
            it.note(f"{letter}: {type(error).__name__}")


@on("/slow")
async def slow(it: Exchange) -> None:
    time.sleep(float(it.query.get("ms", "10")) / 1000)  # noqa: ASYNC251 - it is to stall the loop
    await it.answer("slow")


@on("/slow-later")
async def slow_later(it: Exchange) -> None:
    for _ in range(int(it.query.get("steps", "1"))):
        await anyio.sleep(0.001)
        time.sleep(float(it.query.get("ms", "10")) / 1000)  # noqa: ASYNC251 - as above
    await it.answer("slow")


@on("/stall")
async def stall(it: Exchange) -> None:
    """Stall the loop until the file `until` exists. With `sleep`, wait once after that."""
    while not os.path.exists(it.query["until"]):  # noqa: ASYNC240 - as above
        time.sleep(0.005)  # noqa: ASYNC251 - as above
    if "sleep" in it.query:
        await anyio.sleep(0.001)
    await it.answer("stalled")


@on("/scope")
async def scope(it: Exchange) -> None:
    client, server = it.scope["client"], it.scope["server"]
    await it.answer(json.dumps({"client": client, "server": server}))


@on("/wait")
async def wait(it: Exchange) -> None:
    await it.gate()
    await it.answer("waited")


@on("/noted-wait")
async def noted_wait(it: Exchange) -> None:
    it.note("waiting")
    await it.gate()
    await it.answer("waited")


@on("/sleep")
async def sleep(it: Exchange) -> None:
    """Sleep for ever in `tasks` tasks, with `begun` bytes of the answer sent."""

    async def rest() -> None:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            it.note("cancelled")
            raise

    if begun := int(it.query.get("begun", "0")):
        await it.start()
        await it.body(b"x" * begun, more=True)
    it.note("asleep")
    if tasks := int(it.query.get("tasks", "0")):
        async with anyio.create_task_group() as group:
            for _ in range(tasks):
                group.start_soon(rest)
    else:
        await rest()


@on("/stubborn")
async def stubborn(it: Exchange) -> None:
    """Wait in a shield until the gate is open."""
    it.note("asleep")
    with anyio.CancelScope(shield=True):
        await it.gate()
    it.note("woken")
    await anyio.lowlevel.checkpoint()
    it.note("not cancelled")
    await it.answer("awake")


@on("/echo")
async def echo(it: Exchange) -> None:
    body, _ = await it.read()
    await it.start()
    await it.body(body)


@on("/pieces")
async def pieces(it: Exchange) -> None:
    """Note each part of the body as it arrives."""
    while True:
        message = await it.receive()
        it.note(message.get("body", b"").decode() or message["type"])
        if not message.get("more_body"):
            break
    await it.answer("read")


@on("/part-sizes")
async def part_sizes(it: Exchange) -> None:
    body, sizes = await it.read()
    await it.answer(json.dumps([len(body), max(sizes)]))


@on("/tiny-parts")
async def tiny_parts(it: Exchange) -> None:
    """Answer in many parts of one byte; the last one says how many pieces were kept at most."""
    exchange = it.send.__self__  # type: ignore[attr-defined]
    await it.start()
    most = 0
    for _ in range(20_000):
        await it.body(b"x", more=True)
        most = max(most, len(exchange._out))
    await it.body(b" %d" % most)


@on("/turns")
async def turns(it: Exchange) -> None:
    """Send a part after each wait, then after each stall of the loop. Answer how many sends of
    each kind would let other tasks run."""
    await it.start()

    async def stall(seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251

    counts: list[int] = []
    for pause in (anyio.sleep, stall):
        counts.append(0)
        for _ in range(20):
            await pause(0.002)
            sending = it.body(b" ", more=True)
            try:
                sending.send(None)
            except StopIteration:
                continue
            counts[-1] += 1
            sending.close()
    await it.body(json.dumps(counts).encode())


@on("/unread")
async def unread(it: Exchange) -> None:
    await it.answer("unread")


@on("/background")
async def background(it: Exchange) -> None:
    await it.answer("s" * int(it.query.get("n", "0")) or "answered")
    await it.gate()
    it.note("done")


@on("/hints")
async def hints(it: Exchange) -> None:
    """Send an early hint, then an answer of `n` bytes."""
    await it.send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]})
    await it.answer("s" * int(it.query["n"]))


@on("/size")
async def size(it: Exchange) -> None:
    await it.start()
    await it.body(b"s" * int(it.query["n"]))


@on("/chunks")
async def chunks(it: Exchange) -> None:
    """Send one large chunk and many small ones, without suspending if the machine is fast."""
    await it.start()
    await it.body(b"l" * int(it.query["large"]), more=True)
    for _ in range(int(it.query["small"])):
        await it.body(b"s", more=True)
    await it.body()


@on("/unfinished")
async def unfinished(it: Exchange) -> None:
    await it.start()
    await it.body(b"begun ", more=True)
    await it.gate()
    await it.body(b"ended")


@on("/flood")
async def flood(it: Exchange) -> None:
    """Stream n pieces of 64 KiB, and note how many were sent."""
    await it.start()
    for count in range(int(it.query["n"])):
        NOTES[it.key] = [str(count)]
        await it.body(bytes([count % 251]) * 65536, more=True)
    await it.body()
    NOTES[it.key] = ["all"]


@on("/disconnect")
async def disconnect(it: Exchange) -> None:
    """Wait until the client has left. Then answer, unless `answer` is 0."""
    await it.receive()
    it.note("waiting")
    message = await it.receive()
    it.note(message["type"])
    if it.query.get("answer") == "0":
        return
    try:
        await it.answer("still here")
    except OSError as error:
        it.note(type(error).__name__)
        raise
    it.note("answered")


@on("/two-receives")
async def two_receives(it: Exchange) -> None:
    """Start two tasks that wait until the client has left."""

    async def watch() -> None:
        while (await it.receive())["type"] != "http.disconnect":
            pass
        it.note("disconnected")

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        group.start_soon(watch)
        await anyio.lowlevel.checkpoint()
        it.note("waiting")
    await it.answer("both")


@on("/two-senders")
async def two_senders(it: Exchange) -> None:
    """Start two tasks that send parts of one answer, 2 MiB each."""

    async def send() -> None:
        for _ in range(32):
            await it.body(b"t" * 65536, more=True)

    await it.start()
    async with anyio.create_task_group() as group:
        group.start_soon(send)
        group.start_soon(send)
    await it.body()


@on("/child-sends")
async def child_sends(it: Exchange) -> None:
    """Start another task that sends a part of the answer, and later the rest."""

    async def send() -> None:
        for _ in range(10):
            # Until the loop has nothing to do but to wait.
            await anyio.lowlevel.checkpoint()
        await it.body(b"begun ", more=True)
        await it.gate()
        await it.body(b"ended")

    await it.start()
    async with anyio.create_task_group() as group:
        group.start_soon(send)


@on("/send-for-ever")
async def send_for_ever(it: Exchange) -> None:
    await it.start()
    try:
        while True:
            it.note("sending")
            await it.body(b"x" * 1000, more=True)
            await it.gate()
    except Exception as error:
        it.note("OSError" if isinstance(error, OSError) else repr(error))
        raise


@on("/late-receive")
async def late_receive(it: Exchange) -> None:
    await it.gate()
    body, _ = await it.read()
    await it.answer(body.decode())


@on("/begin-then-receive")
async def begin_then_receive(it: Exchange) -> None:
    """Read the body after a part of the answer was sent."""
    await it.start()
    await it.body(b"begun ", more=True)
    await anyio.lowlevel.checkpoint()
    body, _ = await it.read()
    await it.body(body)


@on("/fail")
async def fail(it: Exchange) -> None:
    """Raise before anything, after the head, after a part of the body, or after all of it."""
    where = it.query["where"]
    if where != "before":
        await it.start()
    if where == "streaming":
        await it.body(b"a part", more=True)
        await it.gate()
    if where == "after":
        await it.body(b"all")
    raise LookupError(f"failed {where}")


@on("/cut")
async def cut(it: Exchange) -> None:
    """Break the answer's own Content-Length, or return too early."""
    how = it.query["how"]
    if how == "silent":
        return
    if how == "started":
        await it.start()
        return
    if how == "unfinished":
        await it.start()
        await it.body(b"a part", more=True)
        await it.gate()
        return
    await it.start((b"content-length", b"10"))
    if it.query.get("late"):
        await it.body(b"01234", more=True)
        await it.gate()
    try:
        await it.body(b"0123456789ABCDEF" if how == "long" else b"01")
    except Exception as error:
        it.note(repr(error))
        raise


@on("/mended")
async def mended(it: Exchange) -> None:
    """Break the answer's own Content-Length in both ways, and then keep to it."""
    await it.start((b"content-length", b"10"))
    for wrong in b"01", b"0123456789ABCDEF":
        try:
            await it.body(wrong)
        except RuntimeError as error:
            it.note(repr(error))
    await it.body(b"0123456789")


@on("/order")
async def order(it: Exchange) -> None:
    """Send messages out of order, note what each raises, then answer properly."""
    start = {"type": "http.response.start", "status": 200}
    body = {"type": "http.response.body", "body": b"ordered"}

    async def wrong(message: dict[str, Any]) -> None:
        try:
            await it.send(message)
        except RuntimeError as error:
            it.note(str(error))
        else:
            it.note("nothing was raised")

    await wrong(body)
    await wrong({"type": "http.response.push"})
    await it.send(start)
    await wrong(start)
    await it.send(body)
    await wrong(body)
    await wrong(start)


@on("/raise")
async def raise_(it: Exchange) -> None:
    kind = {e.__name__: e for e in (SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration)}[
        it.query["what"]
    ]
    if it.query.get("late"):
        await anyio.lowlevel.checkpoint()
    raise kind


@on("/variable")
async def variable(it: Exchange) -> None:
    """Set a context variable, suspend, and report its value from before and from after."""
    before = VARIABLE.get()
    VARIABLE.set("set")
    await anyio.lowlevel.checkpoint()
    within = VARIABLE.get()
    await it.answer(f"{before} {within}")


@on("/leave-scope")
async def leave_scope(it: Exchange) -> None:
    """Enter a cancel scope and never leave it; with `late`, after a suspension."""
    if it.query.get("late"):
        await anyio.lowlevel.checkpoint()
    import trio

    LEFT["cancel"] = scope = trio.CancelScope()
    scope.__enter__()
    await it.answer("left a scope")


@on("/leave-nursery")
async def leave_nursery(it: Exchange) -> None:
    """Enter a nursery, start a task in it, and never leave it."""
    import trio

    manager = trio.open_nursery()
    nursery = await manager.__aenter__()
    LEFT["cancel"] = nursery.cancel_scope
    LEFT["manager"] = manager
    nursery.start_soon(trio.sleep_forever)
    await it.answer("left a nursery")


@on("/leave-handle")
async def leave_handle(it: Exchange) -> None:
    """Store this task; with `late`, after a suspension."""
    if it.query.get("late"):
        await anyio.lowlevel.checkpoint()
    LEFT["cancel"] = asyncio.current_task()
    await it.answer("left a handle")


@on("/cancel-left")
async def cancel_left(it: Exchange) -> None:
    LEFT.pop("cancel").cancel()
    await it.answer("cancelled")


@on("/cancel-everything")
async def cancel_everything(it: Exchange) -> None:
    """Cancel the nursery that the reactor's own tasks run in."""
    import trio

    nursery = trio.lowlevel.current_task().parent_nursery
    assert nursery is not None
    nursery.cancel_scope.cancel()
    await anyio.lowlevel.checkpoint()


@on("/cancel-oneself")
async def cancel_oneself(it: Exchange) -> None:
    """Answer, and return while a cancellation of this task is pending."""
    if it.query.get("late"):
        await anyio.lowlevel.checkpoint()
    await it.answer("cancelled")
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


@on("/keep-channel")
async def keep_channel(it: Exchange) -> None:
    LEFT["exchange"] = it.send.__self__  # type: ignore[attr-defined]
    await it.answer("kept")


@on("/signal-kept")
async def signal_kept(it: Exchange) -> None:
    """From another thread, signal output for an exchange that has ended."""
    thread = threading.Thread(target=signal_write_ready, args=(LEFT.pop("exchange"),))
    thread.start()
    thread.join()
    await anyio.lowlevel.checkpoint()
    await it.answer("signalled")


@on("/asyncio-only")
async def asyncio_only(it: Exchange) -> None:
    await asyncio.sleep(0.001)
    await it.answer("slept")


# What outlives an exchange


def in_background(task: Callable) -> None:
    """Run an async function in a task that belongs to no exchange."""
    if sniffio.current_async_library() == "trio":
        import trio

        trio.lowlevel.spawn_system_task(task)
        return
    running = asyncio.get_running_loop().create_task(task())
    BACKGROUND.add(running)
    running.add_done_callback(BACKGROUND.discard)


async def note_call(it: Exchange, call: Callable, *arguments: object) -> None:
    """Note what a channel returns or raises."""
    try:
        message = await call(*arguments)
    except Exception as error:
        it.note("OSError" if isinstance(error, OSError) else type(error).__name__)
    else:
        it.note(message and (message["type"], len(message.get("body", b""))))


@on("/keep-channels")
async def keep_channels(it: Exchange) -> None:
    """Answer without reading, and keep the exchange."""
    LEFT["channels"] = it
    await it.answer("kept")


@on("/use-channels")
async def use_channels(it: Exchange) -> None:
    """Call both channels of the exchange that was kept, and note what they do."""
    kept = LEFT.pop("channels")
    for _ in range(4):
        with anyio.move_on_after(0.05):
            await note_call(it, kept.receive)
    await note_call(it, kept.send, {"type": "http.response.body", "body": b"late"})
    await it.answer("used")


@on("/leave-receiver")
async def leave_receiver(it: Exchange) -> None:
    """Leave a task that waits in receive, and answer once the gate is open."""

    async def receive() -> None:
        it.note("waiting")
        await note_call(it, it.receive)

    in_background(receive)
    await it.gate()
    if it.query.get("fail"):
        raise LookupError
    await it.answer("answered")


@on("/leave-sender")
async def leave_sender(it: Exchange) -> None:
    """Leave a task that waits in send because the client does not read. Fail once the gate is
    open."""

    async def send() -> None:
        try:
            while True:
                SENT[it.key] += 1
                await it.body(b"x" * 65536, more=True)
        except OSError:
            it.note("OSError")

    await it.start()
    in_background(send)
    await it.gate()
    raise LookupError


@on("/sent")
async def sent(it: Exchange) -> None:
    await it.answer(str(SENT[it.key]))


# Calls that are cancelled


@on("/impatient-receive")
async def impatient_receive(it: Exchange) -> None:
    """Read the body with a timeout for each call."""
    digest = hashlib.sha256()
    size = 0
    more = True
    while more:
        with anyio.move_on_after(float(it.query["timeout"])):
            message = await it.receive()
            assert message["type"] == "http.request"
            more = message["more_body"]
            digest.update(message["body"])
            size += len(message["body"])
    await it.answer(f"{size} {digest.hexdigest()}")


@on("/impatient-send")
async def impatient_send(it: Exchange) -> None:
    """Send numbered pieces, each again and again until the call was not cancelled."""
    await it.start()
    for number in range(int(it.query["n"])):
        piece = number.to_bytes(4, "big") * 16384
        while True:
            with anyio.move_on_after(float(it.query["timeout"])) as scope:
                await it.body(piece, more=True)
            if not scope.cancelled_caught:
                break
            it.note("cancelled")
    await it.body()


class Odd(bytes):
    """Bytes with a wrong len()."""

    def __len__(self) -> int:
        return 3


@on("/odd")
async def odd(it: Exchange) -> None:
    """Send a body that is not plain bytes."""
    await it.start()
    kind = {"odd": Odd, "bytearray": bytearray, "memoryview": memoryview}[it.query["how"]]
    if it.query.get("late"):
        await anyio.lowlevel.checkpoint()
    await it.body(kind(b"odd "), more=True)
    await it.body(kind(b"bytes"))


# Failing in a way that is hard to report


def fail_to_show(*_: object) -> None:
    raise RuntimeError("this cannot be shown")


unprintable: Any = fail_to_show


class Unprintable(Exception):
    __str__ = __repr__ = unprintable


class Broken(Exception):
    """An exception whose attributes raise."""

    @property
    def __cause__(self) -> BaseException:  # type: ignore[override]
        raise RuntimeError("no cause can be had")

    __context__ = __traceback__ = __notes__ = __class__ = __cause__  # type: ignore[assignment]


class Underivable(BaseExceptionGroup):
    def derive(self, _: Any) -> Any:
        raise RuntimeError("no group can be derived")


class Huge(Exception):
    def __str__(self) -> str:
        return "huge" * 1_000_000


ERRORS: dict[str, Callable[[], BaseException]] = {
    "unprintable": Unprintable,
    "broken": Broken,
    "underivable": lambda: Underivable("group", [asyncio.CancelledError(), ValueError("in it")]),
    "huge": Huge,
}


@on("/spoil")
async def spoil(it: Exchange) -> None:
    """Break an object that a report of the failure would use, and fail."""
    how = it.query["how"]
    if it.query.get("late"):
        await anyio.lowlevel.checkpoint()
    if how == "scope":
        it.scope.clear()
    elif how == "scope-values":
        it.scope.update(dict.fromkeys(it.scope, Unprintable()))
    elif how == "library":
        sniffio.current_async_library_cvar.set("unknown")
    elif how == "end":
        it.send.__self__.head = None  # type: ignore[attr-defined]
    elif how == "factory":
        logging.setLogRecordFactory(unprintable)
    elif how == "filter":
        logging.getLogger("reactor_run.error").addFilter(unprintable)
        logging.getLogger("reactor_run.error").handlers[:] = [UnprintableHandler()]
    elif how == "config":
        logging.config.dictConfig({"version": 1})
        logging.Logger.handle = unprintable  # type: ignore[method-assign]
    elif how == "stderr":
        sys.stderr.close()
    elif how == "source":
        linecache.getlines = unprintable
        linecache.getline = unprintable
        linecache.checkcache = unprintable
    elif how == "traceback":
        traceback.TracebackException.format = unprintable  # type: ignore[method-assign]
    # Failures of one kind are not all logged.
    raise ERRORS.get(how, type(how, (LookupError,), {}))()


class UnprintableHandler(logging.Handler):
    emit = unprintable


# Cancellation


@on("/roll-back")
async def roll_back(it: Exchange) -> None:
    """Wait for ever. After a cancellation, wait a while longer."""
    it.note("asleep")
    try:
        if it.query.get("group"):
            async with anyio.create_task_group():
                await anyio.sleep_forever()
        await anyio.sleep_forever()
    finally:
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        await anyio.sleep(0.01)
        it.note("rolled back")


@on("/swallow")
async def swallow(it: Exchange) -> None:
    """Go on after each cancellation until the gate is open."""
    it.note("asleep")
    while it.key not in GATES:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            CANCELLED[it.key] += 1


@on("/cancellations")
async def cancellations(it: Exchange) -> None:
    await it.answer(str(CANCELLED[it.key]))


@on("/shielded-step")
async def shielded_step(it: Exchange) -> None:
    """Wait at the gate inside a shield, and then outside of it."""
    it.note("asleep")
    if it.query["shield"] == "thread":
        await anyio.to_thread.run_sync(THREAD_GATES[it.key].wait)
    else:
        with anyio.CancelScope(shield=True):
            await it.gate()
    it.note("woken")
    try:
        await anyio.sleep_forever()
    except anyio.get_cancelled_exc_class():
        it.note("cancelled")
        raise


@on("/open-thread-gate")
async def open_thread_gate(it: Exchange) -> None:
    THREAD_GATES[it.key].set()
    await it.answer("open")


# What an app does to its task


TASK_STATE: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
TASK_KEYS: dict[Any, str] = {}


def current_task() -> Any:
    if sniffio.current_async_library() == "trio":
        import trio

        return trio.lowlevel.current_task()
    return asyncio.current_task()


@on("/task-state")
async def task_state(it: Exchange) -> None:
    """Report what an earlier exchange left in this task, and leave something as `how` says."""
    if it.query.get("late"):
        await anyio.lowlevel.checkpoint()
    task = current_task()
    name = task.name if hasattr(task, "name") else task.get_name()
    found = [TASK_STATE.get(task), TASK_KEYS.get(task), name if name == "left" else None]
    how = it.query["how"]
    if how == "weak":
        TASK_STATE[task] = "left"
    elif how == "key":
        TASK_KEYS[task] = "left"
    elif how == "name" and hasattr(task, "name"):
        task.name = "left"
    elif how == "name":
        task.set_name("left")
    elif how == "callback":
        task.add_done_callback(lambda _: CALLED.append(it.key))
    await it.answer(json.dumps(found))


@on("/called")
async def called(it: Exchange) -> None:
    await it.answer(str(CALLED.count(it.key)))


# Memory


class Precious:
    """Writes to the log when it is freed."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __del__(self) -> None:
        os.write(2, f"{self._key} is gone\n".encode())


@on("/precious")
async def precious(it: Exchange) -> None:
    """Put something into the scope and a local name, and end in one of several ways."""
    gc.disable()
    it.scope["precious"] = held = Precious(it.key)
    it.scope["channels"] = it.receive, it.send
    if it.query.get("late"):
        await anyio.lowlevel.checkpoint()
    if it.query.get("fail"):
        raise LookupError(held)
    del held
    await it.answer("kept")
