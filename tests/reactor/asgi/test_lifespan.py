"""The lifespan on every runtime, and the reports of its failures."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import anyio
import anyio.lowlevel
import pytest
import trio

from reactor_run.reactor.asgi.lifespan import _NEXT, Lifespan, LifespanFailed, Phase
from reactor_run.reactor.log import configure, log, runtime_hint
from tests.needs import need_module

DEADLINE = 10  # seconds
RUNTIMES = ["trio", "asyncio", "uvloop"]

STARTED = {"type": "lifespan.startup.complete"}
STOPPED = {"type": "lifespan.shutdown.complete"}


def on(runtime: str, function: Callable):
    """Run `function()` on `runtime`, with a deadline."""

    async def within_deadline():
        with anyio.fail_after(DEADLINE):
            return await function()

    if runtime == "trio":
        return anyio.run(within_deadline, backend="trio")
    return anyio.run(within_deadline, backend_options={"use_uvloop": runtime == "uvloop"})


@pytest.fixture(params=RUNTIMES)
def run(request):
    return lambda function: on(request.param, function)


class Collector(logging.Handler):
    def __init__(self, records: list[logging.LogRecord]) -> None:
        super().__init__()
        self.records = records

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def short_grace(monkeypatch) -> None:
    monkeypatch.setattr("reactor_run.reactor.asgi.lifespan._RETURN_GRACE", 0.05)


@pytest.fixture
def logged() -> Iterator[list[logging.LogRecord]]:
    records: list[logging.LogRecord] = []
    handler = Collector(records)
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    yield records
    log.removeHandler(handler)
    log.setLevel(level)


def errors(records: list[logging.LogRecord]) -> list[str]:
    return [record.getMessage() for record in records if record.levelno >= logging.WARNING]


async def serve(app, mode="auto", stop_within=5.0, meanwhile=None) -> Lifespan:
    """Start up, run `meanwhile`, shut down, wait until the app's task has ended."""
    async with anyio.create_task_group() as task_group:
        lifespan = Lifespan(app, mode)
        await lifespan.startup(task_group)
        if meanwhile is not None:
            await meanwhile(lifespan)
        await lifespan.shutdown(stop_within)
    return lifespan


def failing(run, app, mode="auto") -> LifespanFailed:
    """Return the exception of a start-up that fails. The task group must end by itself."""
    caught = []

    async def main():
        async with anyio.create_task_group() as task_group:
            lifespan = Lifespan(app, mode)
            try:
                await lifespan.startup(task_group)
            except LifespanFailed as exc:
                caught.append(exc)
            assert not lifespan.supported
            await lifespan.shutdown(1)

    run(main)
    assert len(caught) == 1
    assert "\n" not in caught[0].message
    return caught[0]


async def polite(scope, receive, send):
    assert (await receive())["type"] == "lifespan.startup"
    await send(STARTED)
    assert (await receive())["type"] == "lifespan.shutdown"
    await send(STOPPED)


# The course of a lifespan


def test_from_startup_to_shutdown(run, logged):
    course = []

    async def app(scope, receive, send):
        course.append(scope)
        course.append(await receive())
        scope["state"]["pool"] = "open"
        await send(STARTED)
        course.append(await receive())
        await send(STOPPED)
        course.append("returned")

    async def meanwhile(lifespan):
        course.append("serving")
        assert lifespan.supported
        assert lifespan.state == {"pool": "open"}

    async def main():
        lifespan = await serve(app, meanwhile=meanwhile)
        assert lifespan.phase is Phase.STOPPED

    run(main)
    scope, *rest = course
    assert scope["type"] == "lifespan"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.0"}
    assert rest == [
        {"type": "lifespan.startup"},
        "serving",
        {"type": "lifespan.shutdown"},
        "returned",
    ]
    assert logged == []


def test_startup_waits_for_the_app(run):
    async def main():
        may_start = anyio.Event()
        course = []

        async def app(scope, receive, send):
            await receive()
            course.append("asked")
            await may_start.wait()
            await send(STARTED)

        async def start(lifespan, task_group):
            await lifespan.startup(task_group)
            course.append("up")

        async with anyio.create_task_group() as task_group:
            task_group.start_soon(start, Lifespan(app), task_group)
            await anyio.wait_all_tasks_blocked()
            assert course == ["asked"]
            may_start.set()
        assert course == ["asked", "up"]

    run(main)


def test_a_task_group_of_the_app_lives_from_startup_to_shutdown(run):
    async def main():
        ticks: list[str] = []
        ticked = anyio.Event()

        async def background():
            try:
                while True:
                    await anyio.lowlevel.checkpoint()
                    ticks.append("tick")
                    if len(ticks) == 3:
                        ticked.set()
            finally:
                ticks.append("ended")

        async def app(scope, receive, send):
            await receive()
            async with anyio.create_task_group() as task_group:
                task_group.start_soon(background)
                await send(STARTED)
                await receive()
                task_group.cancel_scope.cancel()
            await send(STOPPED)

        await serve(app, meanwhile=lambda lifespan: ticked.wait())
        assert ticks[-1] == "ended"

    run(main)


def test_answers_from_within_a_cancelled_scope_of_the_app(run, logged):
    async def app(scope, receive, send):
        with anyio.CancelScope() as inner:
            inner.cancel()
            await send(STARTED)
        await receive()
        await receive()
        with anyio.CancelScope() as inner:
            inner.cancel()
            await send(STOPPED)

    async def meanwhile(lifespan):
        assert lifespan.supported

    run(lambda: serve(app, "on", meanwhile=meanwhile))
    assert logged == []


def test_off_never_calls_the_app(run):
    async def app(scope, receive, send):
        raise AssertionError("called")

    async def main():
        assert not (await serve(app, "off")).supported

    run(main)


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_an_app_that_returns_after_its_startup_is_served(run, logged, mode):
    async def app(scope, receive, send):
        await receive()
        await send(STARTED)

    async def meanwhile(lifespan):
        await anyio.wait_all_tasks_blocked()
        assert lifespan.supported

    run(lambda: serve(app, mode, meanwhile=meanwhile))
    assert logged == []


# No lifespan


async def returns_at_once(scope, receive, send):
    pass


async def asks_and_returns(scope, receive, send):
    await receive()


async def refuses_the_type(scope, receive, send):
    raise ValueError("can only handle ASGI/HTTP connections, not lifespan.")


async def refuses_the_type_late(scope, receive, send):
    await receive()
    raise NotImplementedError(f"Unknown scope type {scope['type']}")


async def expects_a_path(scope, receive, send):
    scope["path"]


async def expects_a_body(scope, receive, send):
    (await receive())["body"]


async def answers_as_http(scope, receive, send):
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})


NO_LIFESPAN = [
    returns_at_once,
    asks_and_returns,
    refuses_the_type,
    refuses_the_type_late,
    expects_a_path,
    expects_a_body,
    answers_as_http,
]


@pytest.mark.parametrize("app", NO_LIFESPAN)
def test_auto_serves_an_app_without_a_lifespan(run, logged, app):
    async def main():
        lifespan = await serve(app)
        assert not lifespan.supported
        assert lifespan.phase is Phase.ABSENT

    run(main)
    assert [record.levelname for record in logged] == ["DEBUG"]
    assert "the app has no lifespan: it r" in logged[0].getMessage()


@pytest.mark.parametrize("app", NO_LIFESPAN)
def test_on_does_not_serve_an_app_without_a_lifespan(run, app):
    error = failing(run, app, "on")
    if app in (returns_at_once, asks_and_returns):
        assert "returned without lifespan.startup.complete" in error.message
    else:
        assert "the app's start-up failed: " in error.message
        assert error.details is not None
        assert error.details.count('  File "') == 1
        assert app.__name__ in error.details


# A failing start-up


def test_startup_failed_with_a_message(run):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    error = failing(run, app)
    assert error.message == "the app's start-up failed: no database"
    assert error.details is None


def test_startup_failed_without_a_message(run):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed"})

    assert failing(run, app).message == "the app's start-up failed: it gave no reason"


def test_startup_failed_and_raised(run):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        raise OSError("refused")

    error = failing(run, app)
    assert error.message == "the app's start-up failed: no database"
    assert "OSError: refused" in str(error.details)


def test_startup_failed_and_never_returned(run, short_grace):
    """The app is cancelled after its grace period."""

    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        await anyio.sleep_forever()

    assert "no database" in failing(run, app).message


@pytest.mark.parametrize("mode", ["auto", "on"])
@pytest.mark.parametrize("text", ["no database", "broken pool in lifespan"])
def test_an_error_after_lifespan_startup_is_a_failed_start(run, mode, text):
    async def connect():
        raise OSError(text)

    async def app(scope, receive, send):
        await receive()
        await connect()

    error = failing(run, app, mode)
    assert f"the app's start-up failed: OSError: {text}" in error.message
    assert ("--lifespan off" in error.message) == (mode == "auto")
    assert error.details is not None
    functions = re.findall(r'  File ".*test_lifespan\.py", line \d+, in (\w+)', error.details)
    assert functions == ["app", "connect"]
    assert "reactor/asgi/lifespan.py" not in error.details


def test_a_key_error_of_the_apps_own_is_a_failed_start(run):
    async def app(scope, receive, send):
        await receive()
        os.environ["NO_SUCH_SETTING"]

    assert "KeyError: 'NO_SUCH_SETTING'" in failing(run, app).message


def test_sys_exit_in_the_startup(run):
    async def app(scope, receive, send):
        await receive()
        sys.exit("no setting")

    assert "SystemExit: no setting" in failing(run, app).message


def test_a_group_of_errors(run):
    async def app(scope, receive, send):
        await receive()
        async with anyio.create_task_group() as task_group:
            task_group.start_soon(refuses_the_type, {}, None, None)
            await anyio.sleep_forever()

    error = failing(run, app)
    assert "ExceptionGroup" in error.message
    assert "not lifespan." in str(error.details)


def test_cancelling_a_startup(run, logged):
    async def app(scope, receive, send):
        await receive()
        await anyio.sleep_forever()

    async def main():
        async with anyio.create_task_group() as task_group:
            with anyio.move_on_after(0.01):
                await Lifespan(app).startup(task_group)
            task_group.cancel_scope.cancel()

    run(main)
    assert logged == []


# What the app must not send


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.RUNNING, Phase.STOPPING, Phase.STOPPED])
def test_every_message_in_every_phase(run, phase):
    """A message that is not in the table raises in the app and changes nothing."""
    kinds = [*{kind for _, kind in _NEXT}, "lifespan.startup", "http.response.start"]
    wrong = [kind for kind in kinds if (phase, kind) not in _NEXT]
    refused = []

    async def app(scope, receive, send):
        async def try_wrong(here):
            if here is phase:
                for kind in wrong:
                    with pytest.raises(RuntimeError, match=f"{kind}.*{phase.value}"):
                        await send({"type": kind})
                    refused.append(kind)

        await receive()
        await try_wrong(Phase.STARTING)
        await send(STARTED)
        await try_wrong(Phase.RUNNING)
        await receive()
        await try_wrong(Phase.STOPPING)
        await send(STOPPED)
        await try_wrong(Phase.STOPPED)

    async def main():
        assert (await serve(app, "on")).phase is Phase.STOPPED

    run(main)
    assert refused == wrong


def test_a_message_after_startup_failed(run):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})
        await send(STARTED)

    assert "its start-up has failed" in str(failing(run, app).details)


# After the start-up


def test_a_failure_while_serving_is_logged_and_requests_are_served(run, logged):
    async def app(scope, receive, send):
        await receive()
        await send(STARTED)
        raise OSError("lost")

    async def meanwhile(lifespan):
        await anyio.wait_all_tasks_blocked()
        assert lifespan.supported
        [message] = errors(logged)
        assert "the app's lifespan failed, requests are served without it: OSError: lost" in message
        assert "in app" in message

    run(lambda: serve(app, meanwhile=meanwhile))
    assert len(logged) == 1


def test_shutdown_failed_while_serving(run, logged):
    """Starlette sends this when a task of the app's lifespan fails."""

    async def app(scope, receive, send):
        await receive()
        await send(STARTED)
        await send({"type": "lifespan.shutdown.failed", "message": "first\nOSError: lost"})
        raise OSError("lost")

    async def meanwhile(lifespan):
        await anyio.wait_all_tasks_blocked()

    run(lambda: serve(app, meanwhile=meanwhile))
    [message] = errors(logged)
    assert "requests are served without it: OSError: lost\nfirst\n" in message


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_no_exception_of_the_app_ends_the_reactor(run, logged, error):
    async def app(scope, receive, send):
        await receive()
        await send(STARTED)
        raise error

    async def meanwhile(lifespan):
        await anyio.wait_all_tasks_blocked()
        await anyio.lowlevel.checkpoint()  # raises if the task group is cancelled

    run(lambda: serve(app, meanwhile=meanwhile))
    [message] = errors(logged)
    assert error.__name__ in message


def test_cancelling_the_reactor_is_not_logged_as_a_failure(run, logged):
    async def like_starlette(scope, receive, send):
        await receive()
        await send(STARTED)
        try:
            await receive()
        except BaseException:
            await send({"type": "lifespan.shutdown.failed", "message": "cancelled"})
            raise

    async def main():
        async with anyio.create_task_group() as task_group:
            for app in polite, like_starlette:
                await Lifespan(app).startup(task_group)
            task_group.cancel_scope.cancel()

    run(main)
    assert logged == []


def test_an_error_beside_the_reactors_cancellation_is_logged(run, logged):
    async def app(scope, receive, send):
        await receive()
        await send(STARTED)
        try:
            await receive()
        finally:
            raise OSError("lost")

    async def main():
        async with anyio.create_task_group() as task_group:
            await Lifespan(app).startup(task_group)
            task_group.cancel_scope.cancel()

    run(main)
    assert len(errors(logged)) == 1


# Shutdown


def test_shutdown_waits_for_the_app(run):
    async def main():
        may_stop = anyio.Event()
        course = []

        async def app(scope, receive, send):
            await receive()
            await send(STARTED)
            await receive()
            course.append("asked")
            await may_stop.wait()
            await send(STOPPED)

        async def stop(lifespan):
            await lifespan.shutdown(5)
            course.append("down")

        async with anyio.create_task_group() as task_group:
            lifespan = Lifespan(app)
            await lifespan.startup(task_group)
            task_group.start_soon(stop, lifespan)
            await anyio.wait_all_tasks_blocked()
            assert course == ["asked"]
            may_stop.set()
        assert course == ["asked", "down"]

    run(main)


def test_shutdown_is_bounded(run, logged):
    ended = []

    async def app(scope, receive, send):
        await receive()
        await send(STARTED)
        try:
            await anyio.sleep_forever()
        except BaseException:
            await send({"type": "lifespan.shutdown.failed", "message": "cancelled"})
            ended.append(True)
            raise

    run(lambda: serve(app, stop_within=0.05))
    assert errors(logged) == [
        "the app did not shut down within 0.05 s, cancelling its lifespan",
    ]
    assert ended == [True]


def test_an_app_that_sends_complete_and_does_not_return_is_cancelled(run, short_grace, logged):
    async def app(scope, receive, send):
        await polite(scope, receive, send)
        await anyio.sleep_forever()

    run(lambda: serve(app))
    assert logged == []


def test_an_app_that_calls_receive_again_after_its_answer_is_cancelled(run, logged):
    async def app(scope, receive, send):
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})

    async def main():
        with anyio.fail_after(0.9):  # below the grace for an app that does not return
            await serve(app)

    run(main)
    assert logged == []


@pytest.mark.parametrize("raises", [False, True])
def test_shutdown_failed(run, logged, raises):
    async def app(scope, receive, send):
        await receive()
        await send(STARTED)
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "disk full"})
        if raises:
            raise OSError("disk full")

    run(lambda: serve(app))
    [message] = errors(logged)
    assert message.startswith("the app's shutdown failed: disk full")
    assert ("in app" in message) == raises


def test_an_app_that_sends_shutdown_failed_and_does_not_return_is_cancelled(
    run, short_grace, logged
):
    async def app(scope, receive, send):
        await receive()
        await send(STARTED)
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "disk full"})
        await anyio.sleep_forever()

    run(lambda: serve(app))
    assert errors(logged) == ["the app's shutdown failed: disk full"]


@pytest.mark.parametrize("answers", [False, True])
def test_an_exception_in_the_shutdown(run, logged, answers):
    async def app(scope, receive, send):
        await receive()
        await send(STARTED)
        await receive()
        if answers:
            await send(STOPPED)
        raise OSError("disk full")

    run(lambda: serve(app))
    [message] = errors(logged)
    assert message.startswith("the app's shutdown failed: OSError: disk full\nTraceback")


def test_an_app_may_return_instead_of_sending_shutdown_complete(run, logged):
    async def app(scope, receive, send):
        await receive()
        await send(STARTED)
        await receive()

    run(lambda: serve(app))
    assert logged == []


# Starlette


def starlette_app(lifespan):
    applications = need_module("starlette.applications")
    return applications.Starlette(lifespan=contextlib.asynccontextmanager(lifespan))


def test_starlette(run, logged):
    async def lifespan(app):
        yield {"pool": "open"}

    async def meanwhile(lifespan):
        assert lifespan.state == {"pool": "open"}

    run(lambda: serve(starlette_app(lifespan), "on", meanwhile=meanwhile))
    assert logged == []


def test_starlette_that_fails_to_start(run):
    async def connect():
        raise OSError("no database")

    async def lifespan(app):
        await connect()
        yield

    error = failing(run, starlette_app(lifespan))
    assert error.message == "the app's start-up failed: OSError: no database"
    assert str(error.details).endswith("OSError: no database")
    assert "in lifespan" in str(error.details)


def test_starlette_that_fails_to_stop(run, logged):
    async def lifespan(app):
        yield
        raise OSError("disk full")

    run(lambda: serve(starlette_app(lifespan)))
    [message] = errors(logged)
    assert message.startswith("the app's shutdown failed: OSError: disk full\nTraceback")


def test_starlette_whose_task_fails_while_serving(run, logged):
    async def background():
        raise OSError("lost")

    async def lifespan(app):
        async with anyio.create_task_group() as task_group:
            task_group.start_soon(background)
            yield

    async def meanwhile(lifespan):
        await anyio.wait_all_tasks_blocked()

    run(lambda: serve(starlette_app(lifespan), meanwhile=meanwhile))
    [message] = errors(logged)
    assert "requests are served without it" in message
    assert "OSError: lost" in message


# The wrong runtime

NEEDS_ASYNCIO = "this app needs asyncio: run it with --runtime asyncio (or uvloop)"
NEEDS_TRIO = "this app needs Trio: run it with --runtime trio"


async def asyncio_sleep():
    await asyncio.sleep(1)


async def asyncio_yield():
    await asyncio.sleep(0)


async def asyncio_timeout():
    async with asyncio.timeout(1):
        await asyncio.sleep(0)


async def asyncio_event():
    await asyncio.Event().wait()


async def asyncio_group():
    async with asyncio.TaskGroup():
        pass


async def asyncio_thread():
    await asyncio.to_thread(int)


async def trio_sleep():
    await trio.sleep(1)


async def trio_yield():
    await trio.lowlevel.checkpoint()


async def trio_nursery():
    async with trio.open_nursery():
        pass


async def trio_event():
    await trio.Event().wait()


async def trio_channel():
    await trio.open_memory_channel[int](0)[0].send(1)


async def trio_thread():
    await trio.to_thread.run_sync(int)


FOR_ASYNCIO = [
    asyncio_sleep,
    asyncio_yield,
    asyncio_timeout,
    asyncio_event,
    asyncio_group,
    asyncio_thread,
]
FOR_TRIO = [trio_sleep, trio_yield, trio_nursery, trio_event, trio_channel, trio_thread]


async def raised_by(function) -> BaseException:
    try:
        await function()
    except BaseException as exc:
        return exc
    raise AssertionError("raised nothing")


@pytest.mark.parametrize(
    ("runtime", "function"),
    [
        (runtime, function)
        for runtime in RUNTIMES
        for function in (FOR_ASYNCIO if runtime == "trio" else FOR_TRIO)
    ],
)
def test_hint_for_the_wrong_runtime(runtime, function):
    error = on(runtime, lambda: raised_by(function))
    assert runtime_hint(error, runtime) == (NEEDS_ASYNCIO if runtime == "trio" else NEEDS_TRIO)


def test_hint_from_causes_contexts_and_groups():
    root = RuntimeError("no running event loop")
    caused = ValueError("x")
    caused.__cause__ = root
    in_context = ValueError("x")
    in_context.__context__ = root
    for error in caused, in_context, ExceptionGroup("x", [OSError(), ExceptionGroup("y", [root])]):
        assert runtime_hint(error, "trio") == NEEDS_ASYNCIO
        assert runtime_hint(error, "asyncio") is None


def test_no_hint_for_other_errors():
    loop = ValueError("x")
    loop.__context__ = OSError("y")
    loop.__context__.__context__ = loop
    for error in (
        loop,
        ValueError("no running event loop"),
        RuntimeError("Task got bad yield: 42"),
        AttributeError("'NoneType' object has no attribute 'name'"),
    ):
        for runtime in RUNTIMES:
            assert runtime_hint(error, runtime) is None


def test_hint_for_trios_internal_error():
    assert runtime_hint(trio.TrioInternalError("x"), "asyncio") == NEEDS_TRIO
    assert runtime_hint(trio.TrioInternalError("x"), "trio") is None


@pytest.mark.parametrize("asks", [False, True])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_startup_on_the_wrong_runtime(runtime, asks):
    """The start-up fails even if the app has not asked for lifespan.startup."""
    function = asyncio_sleep if runtime == "trio" else trio_sleep

    async def app(scope, receive, send):
        if asks:
            await receive()
        await function()

    error = failing(lambda main: on(runtime, main), app)
    assert (NEEDS_ASYNCIO if runtime == "trio" else NEEDS_TRIO) in error.message


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_starlette_startup_on_the_wrong_runtime(runtime):
    function = asyncio_sleep if runtime == "trio" else trio_sleep

    async def lifespan(app):
        await function()
        yield

    error = failing(lambda main: on(runtime, main), starlette_app(lifespan))
    assert error.message.endswith(NEEDS_ASYNCIO if runtime == "trio" else NEEDS_TRIO)


# The log


@pytest.fixture
def stderr(capfd) -> Iterator[Callable[[], str]]:
    """The lines that the process has written since `configure`. The logger is restored
    afterwards."""
    before = log.__class__, log.handlers[:], log.level, log.propagate
    yield lambda: capfd.readouterr().err
    log.__class__, log.handlers[:], _, log.propagate = before
    log.setLevel(before[2])


def test_log_lines(stderr):
    configure("info", "")
    log.debug("hidden")
    log.warning("lane %d closed", 3)
    line = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4} \[\d+\] warning lane 3 closed\n"
    assert re.fullmatch(line, stderr())


def test_log_lines_name_the_reactor(stderr):
    configure("INFO", "reactor 100%")
    log.info("up")
    assert stderr().endswith("] info reactor 100%: up\n")


def test_further_lines_are_indented(stderr):
    configure("info", "")
    log.error("first\n2026-01-01 00:00:00 [1] info forged")
    assert stderr().splitlines()[1] == "  2026-01-01 00:00:00 [1] info forged"


def test_configured_twice_logs_once(stderr):
    configure("info", "a")
    configure("error", "b")
    log.warning("hidden")
    log.error("told")
    [line] = stderr().splitlines()
    assert line.endswith("b: told")


def test_the_apps_logging_does_not_change(stderr):
    root = logging.getLogger()
    seen: list[logging.LogRecord] = []
    handler = Collector(seen)
    root.addHandler(handler)
    before = root.handlers[:], root.level
    try:
        configure("debug", "")
        log.error("ours")
        assert (root.handlers, root.level) == before
        assert seen == []
    finally:
        root.removeHandler(handler)


def test_an_apps_logging_configuration_does_not_silence_the_reactor():
    """Django's LOGGING does this: by default it disables all existing loggers."""
    code = """if True:
        import logging, logging.config
        from reactor_run.reactor.log import configure, log
        configure("info", "")
        other = logging.getLogger("other")
        logging.config.dictConfig({"version": 1})
        assert other.disabled
        log.error("still here")
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert done.stderr.endswith("] error still here\n")


def test_unknown_level(stderr):
    with pytest.raises(ValueError, match="unknown log level 'loud'"):
        configure("loud", "")
