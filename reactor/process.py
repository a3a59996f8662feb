"""The main program of a reactor process.

It loads and starts the app, tells the front end that it is ready, and serves the exchanges on its
lanes. It ends when the front end sends Stop or closes the control channel. docs/lanes.md describes
the messages.
"""

from __future__ import annotations

import ctypes
import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from reactor_run import turns
from reactor_run.channel import ControlChannel
from reactor_run.clock import Zone
from reactor_run.heap import keep_dropped_memory
from reactor_run.protocol.control import ControlError
from reactor_run.protocol.control_messages import (
    Cancel,
    CapacityChanged,
    ClientsClosed,
    ClientShared,
    CloseWebSockets,
    ExpressOpened,
    Failed,
    LaneOpened,
    LanesDone,
    Ping,
    Pong,
    PulseShared,
    Ready,
    RouteIsSlow,
    Stop,
    TerminalUsed,
    ToReactor,
    TurnEnded,
    Withdraw,
    read_for_reactor,
)
from reactor_run.protocol.environ import EnvironBuilder
from reactor_run.protocol.own_fields import OwnFields, read_own_field
from reactor_run.protocol.scope import ScopeBuilder
from reactor_run.pulse import SLOTS, Pulse
from reactor_run.reactor import fork
from reactor_run.reactor.links.client_sockets import ClientSockets
from reactor_run.reactor.links.exchange import AppExchange
from reactor_run.reactor.links.gateway import Gateway, MakeExchange, OpenStream
from reactor_run.reactor.links.stream import StreamEnd
from reactor_run.reactor.loader import detect_interface, load_app
from reactor_run.reactor.log import AppFailure, configure, configure_by, log
from reactor_run.reactor.loop.call_loop import CallLoop
from reactor_run.reactor.loop.reactor_loop import ReactorLoop
from reactor_run.reactor.loop.slow_routes import RouteCounts
from reactor_run.reactor.monkey_patches import refuse_monkey_patches
from reactor_run.reactor.options import Options, parse_options
from reactor_run.reactor.runtime_choice import RuntimeChoice, choose_runtime
from reactor_run.reactor.shadowing import hide_app
from reactor_run.reactor.wsgi.exchange import ENVIRON_CONSTANTS, WsgiExchange
from reactor_run.reactor.wsgi.prefetch import InlinePrefetch, ThreadsPrefetch
from reactor_run.reactor.wsgi.stream import Waiter, WsgiStream
from reactor_run.reactor.wsgi.threads import ThreadPool
from reactor_run.title import set_title

if TYPE_CHECKING:
    from reactor_run.reactor.asgi.websockets import WebSocketLimits, WebSockets
    from reactor_run.reactor.hooks import ReactorHooks
    from reactor_run.reactor.request_hooks import RequestHooks
    from reactor_run.reactor.terminal import BorrowedTerminal

APP_FAILED = 3
"""The exit status of a process whose app could not be loaded or started."""
SHUTDOWN_TIMEOUT = 30.0
"""Seconds for the lifespan's shutdown, unless the front end's Stop message gives others."""


class ReactorProcess:
    """Serves one app, and handles the messages of the front end."""

    reactor: ReactorLoop
    """The loop. It is set before the front end's messages are read."""
    gateway: Gateway
    """The gateway. It is set before the front end's messages are read."""

    def __init__(
        self,
        options: Options,
        control: ControlChannel[ToReactor],
        chosen: RuntimeChoice,
        terminal: BorrowedTerminal | None,
        hooks: ReactorHooks | None,
    ) -> None:
        """`chosen`: the runtime for an ASGI app; empty for a WSGI app. `terminal`, `hooks`: None
        without one."""
        self.options = options
        self.control = control
        self.chosen = chosen
        self.terminal = terminal
        self.hooks = hooks
        self.shutdown_timeout = SHUTDOWN_TIMEOUT
        self.clients = ClientSockets(self._read_control)
        self.websockets: WebSockets | None = None
        """Those of the app; None: it is a WSGI app, or does not run yet."""
        self._control_is_full = False
        self._stop: Callable[[], None]
        """Ends the serving of the app. Set by `serve_asgi` and `serve_wsgi`."""

    def serve_asgi(self, app: Callable[..., Any]) -> None:
        """Serve an ASGI app until the front end stops the process.

        Raises AppFailure if the app does not start.
        """
        import anyio

        from reactor_run.reactor.loop.runtime import backend_options

        backend, options = backend_options(self.chosen.runtime)
        anyio.run(self._serve_asgi, app, backend=backend, backend_options=options)

    async def _serve_asgi(self, app: Callable[..., Any]) -> None:
        import anyio

        from reactor_run.reactor.asgi.http import AsgiExchange
        from reactor_run.reactor.asgi.lifespan import Lifespan
        from reactor_run.reactor.asgi.response import EXTENSIONS
        from reactor_run.reactor.asgi.websocket import WebSocketExchange
        from reactor_run.reactor.asgi.websockets import WebSockets
        from reactor_run.reactor.loop.runtime import claim_no_thread, loop_for

        claim_no_thread()
        stopped = anyio.Event()
        self._stop = stopped.set
        lifespan = Lifespan(app, self.options.lifespan)
        async with anyio.create_task_group() as group:
            await lifespan.startup(group)
            refuse_monkey_patches()
            loop = loop_for(self.chosen.runtime)()
            state = lifespan.state if lifespan.supported else None
            scopes = ScopeBuilder(
                root_path=self.options.root_path,
                mount_path=self.options.mount_path,
                state=state,
                extensions=EXTENSIONS,
            )
            make: MakeExchange = partial(AsgiExchange, scopes)
            hooks = self._request_hooks()
            if hooks is not None:
                from reactor_run.reactor.asgi.hooked import HookedAsgiExchange

                make = partial(HookedAsgiExchange, hooks, scopes)
            self.websockets = websockets = WebSockets(loop, self._websocket_limits())
            self._open(loop, app, make, loop.ready.append, StreamEnd)
            self.gateway.make_websocket = partial(WebSocketExchange, websockets, scopes)
            group.start_soon(loop.run)
            group.start_soon(websockets.run)
            self._tell_ready("asgi", self.options.concurrency, inline=False)
            await stopped.wait()
            websockets.end_all()
            loop.close()
            await lifespan.shutdown(self.shutdown_timeout)
            group.cancel_scope.cancel()

    def serve_wsgi(self, app: Callable[..., Any]) -> None:
        """Serve a WSGI app until the front end stops the process. No event loop runs."""
        threads = self.options.threads
        environs = EnvironBuilder(
            script_name=self.options.root_path,
            mount_path=self.options.mount_path,
            multithread=threads > 1,
            multiprocess=self.options.multiprocess,
            constants=ENVIRON_CONSTANTS,
        )
        loop = CallLoop()
        self._stop = loop.close
        pool = None
        admit: Callable[[Any], None] = loop.ready.append
        if threads == 1:
            loop.measure = InlinePrefetch(self._announce)
        else:
            pool = ThreadPool(threads, ThreadsPrefetch(self._announce, threads))
            admit = pool.submit
        make: MakeExchange = partial(WsgiExchange, environs, pool)
        hooks = self._request_hooks()
        if hooks is not None:
            from reactor_run.reactor.wsgi.hooked import HookedWsgiExchange

            make = partial(HookedWsgiExchange, hooks, environs, pool)
        waiter = Waiter(
            loop.call_soon,
            lambda: self.gateway.express.turn(),
            lambda: self.gateway.express.flush(),
        )
        self._open(loop, app, make, admit, partial(WsgiStream, waiter))
        self._tell_ready("wsgi", threads, inline=threads == 1)
        loop.run()

    def _websocket_limits(self) -> WebSocketLimits:
        from reactor_run.reactor.asgi.websockets import WebSocketLimits

        options = self.options
        return WebSocketLimits(
            message_max=options.ws_max_message_size,
            sockets_max=options.ws_max,
            ping_interval=options.ws_ping_interval,
            ping_timeout=options.ws_ping_timeout,
            close_timeout=options.ws_close_timeout,
            compression=options.ws_compression == "on",
        )

    def _request_hooks(self) -> RequestHooks | None:
        """Return the hooks of requests; None if none is defined: then requests cost nothing."""
        if self.hooks is None or not any(self.hooks.of_requests):
            return None
        from reactor_run.reactor.request_hooks import RequestHooks

        return RequestHooks(*self.hooks.of_requests)

    def _open(
        self,
        loop: ReactorLoop,
        app: Callable[..., Any],
        make_exchange: MakeExchange,
        admit: Callable[[Any], None],
        open_stream: OpenStream,
    ) -> None:
        """Create the gateway, and watch the control channel."""
        self.reactor = loop
        if self.terminal is not None:
            self.terminal.call_soon = loop.call_soon
            self.terminal.give_back()
        self.gateway = Gateway(
            loop,
            self.control,
            app,
            make_exchange,
            admit,
            runtime=self.chosen.runtime,
            lane_proxy=self.options.lane_proxy,
            direct=self.options.answers == "direct",
            open_stream=open_stream,
            own_fields=OwnFields(
                [read_own_field(os.fsencode(text)) for text in self.options.header],
                server=not self.options.no_server_header,
                dated=not self.options.no_date_header,
            ),
        )
        loop.watch(self.control.fileno(), select.EPOLLIN, self._on_control)
        loop.after_batch(self._flush_control)

    def _tell_ready(self, interface: str, capacity: int, *, inline: bool) -> None:
        """Send Ready: the interface of the app, the exchanges it takes at once, and its runtime."""
        if self.hooks is not None:
            self.hooks.ready(interface, self.chosen.runtime)
        # Objects from the start-up of the app and the loop stay as long as the process.
        gc.collect()
        gc.freeze()
        self.control.send(Ready(interface, capacity, inline, *self.chosen))

    def _announce(self, capacity: int) -> None:
        self.control.send(CapacityChanged(capacity))

    def _on_control(self, _: int) -> None:
        self._read_control()

    def _read_control(self) -> None:
        """Handle the control messages that have arrived."""
        # Read until nothing is left: one read returns at most one new lane, and other messages may
        # follow it.
        while messages := self.control.receive():
            for message in messages:
                self._obey(message)
        if messages is None:
            # The front end is gone, so no client can read an answer.
            self.reactor.unwatch(self.control.fileno())
            self._control_is_full = False
            self.shutdown_timeout = min(self.shutdown_timeout, 5.0)
            self._stop()

    def _obey(self, message: ToReactor) -> None:
        match message:
            case LaneOpened(number, slot, descriptor):
                if slot >= SLOTS:
                    raise ControlError(f"not a slot: {slot}")
                if descriptor is not None:
                    self.gateway.adopt_lane(socket.socket(fileno=descriptor), number, slot)
                else:
                    log.error("a lane was lost on its way: too many open files")
                    # The request on it cannot be read. The front end waits until it is reported.
                    self.control.send(LanesDone([], [number], []))
            case ClientShared(number, descriptor):
                if descriptor is not None:
                    self.clients.adopt(number, descriptor)
            case ClientsClosed(numbers):
                self.clients.close(numbers)
            case Cancel(number):
                self.gateway.cancel(number)
            case Withdraw(number):
                self.gateway.withdraw(number)
            case ExpressOpened(descriptor):
                if descriptor is None:
                    raise ControlError("the express lane was lost on its way: too many open files")
                express = socket.socket(fileno=descriptor)
                self.gateway.adopt_express(express, self.clients, self._stop)
            case PulseShared(descriptor):
                if descriptor is None:
                    raise ControlError("the pulse was lost on its way: too many open files")
                self._show_pulse(descriptor)
            case CloseWebSockets(code, seconds):
                if self.websockets is not None:
                    self.websockets.close_all(code, seconds)
            case Ping(token):
                self.control.send(Pong(token))
            case Stop(seconds):
                self.shutdown_timeout = seconds
                self._stop()

    def _show_pulse(self, descriptor: int) -> None:
        try:
            self.reactor.pulse = Pulse(descriptor)
        except (OSError, ValueError) as error:
            # Without the pulse, the front end could not see which exchanges have begun.
            raise ControlError(f"the pulse cannot be shown: {error}") from error
        finally:
            os.close(descriptor)
        self.reactor.on_turn = self._tell_turn
        self.reactor.slow_routes = RouteCounts(self._tell_slow)

    def _tell_turn(self, took: float) -> None:
        self.control.send(TurnEnded(round(took, 6)))

    def _tell_slow(self, route: bytes, seconds: float) -> None:
        self.control.send(RouteIsSlow(route, round(seconds, 6)))

    def _flush_control(self) -> None:
        full = not self.control.flush()
        if full != self._control_is_full:
            self._control_is_full = full
            events = select.EPOLLIN | select.EPOLLOUT if full else select.EPOLLIN
            self.reactor.modify(self.control.fileno(), events)


def _import_asgi(runtime: str) -> None:
    """Import the modules that serve an ASGI app on `runtime`.

    These imports take most of the start, and a WSGI app needs none of them.
    """
    import reactor_run.reactor.asgi.http
    import reactor_run.reactor.asgi.lifespan
    import reactor_run.reactor.asgi.websocket  # noqa: F401
    from reactor_run.reactor.loop.runtime import loop_for

    loop_for(runtime)


def _import_asgi_after_the_app(runtime: str, app_dir: str) -> None:
    """Import the same modules, and not those in the app's directory that have their names."""
    gc.disable()
    with hide_app(os.path.realpath(app_dir)):
        _import_asgi(runtime)
        # anyio imports its backend late.
        import_module(f"anyio._backends._{'trio' if runtime == 'trio' else 'asyncio'}")
        if runtime == "uvloop":
            import_module("uvloop")
    gc.enable()


def die_with_parent(control_fd: int) -> None:
    """Ask the kernel to kill this process when the front end dies (prctl(2), PR_SET_PDEATHSIG).

    This works even while the app blocks the loop. If the front end has died before the call, its
    end of the control channel is closed. Then this raises SystemExit, because the import of an app
    may never end.
    """
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    poll = select.poll()
    # The kernel reports POLLHUP without being asked.
    poll.register(control_fd, 0)
    if poll.poll(0):
        sys.exit(0)


class LoadedApp(NamedTuple):
    """An app that was imported."""

    app: Callable[..., Any]
    interface: str
    """`asgi` or `wsgi`."""
    chosen: RuntimeChoice
    """The runtime for an ASGI app; empty for a WSGI app."""


def main(argv: list[str] | None = None) -> int:
    """Run the reactor until the front end stops it or is gone. Returns the exit status."""
    options = parse_options(argv)
    set_up(options)
    os.set_inheritable(options.control_fd, False)
    control = open_control(options.control_fd)
    fork.watch_forks()
    terminal = None
    if options.terminal:
        from reactor_run.reactor.terminal import BorrowedTerminal

        terminal = BorrowedTerminal(lambda begins: control.send(TerminalUsed(begins)))
        terminal.install()
    import_early(options)
    return run(options, control, terminal, _begin, load)


def set_up(options: Options) -> None:
    """Give the process its name, its log and its bond with the front end."""
    if options.no_sched_yield:
        turns.switch_off()
    set_title(f"{options.name} {options.app}")
    keep_dropped_memory()
    die_with_parent(options.control_fd)
    configure(options.log_level, options.name, options.log_format, Zone(options.utc_offset))
    AppExchange.identified = options.request_id


def open_control(descriptor: int) -> ControlChannel[ToReactor]:
    """Return the control channel of a reactor. A child that the app forks does not have it."""
    control = ControlChannel[ToReactor](socket.socket(fileno=descriptor), read_for_reactor)
    fork.in_child(lambda: fork.disconnect(control.in_child()))
    return control


def import_early(options: Options) -> None:
    """Import what can be imported before the app, and switch the garbage collector on."""
    if options.interface != "wsgi" and options.runtime != "auto":
        _import_asgi(options.runtime)
    # All objects so far live as long as the process, so no collection needs to examine them. A
    # collection before the freeze is not worth its time: there is little garbage. The objects of
    # the app are frozen later.
    gc.freeze()
    gc.enable()


def _begin(options: Options) -> ReactorHooks | None:
    """Configure logging, and call the first hook. Raises AppFailure."""
    if options.log_config:
        configure_by(options.log_config)
    if not options.hooks:
        return None
    from reactor_run.reactor.hooks import open_hooks

    return open_hooks(options.hooks, options.app_dir, options.name, options.app)


def load(options: Options) -> LoadedApp:
    """Import the app, and then the modules that serve it. Raises AppFailure."""
    app = load_app(options.app, factory=options.factory, app_dir=options.app_dir)
    if fork.is_child:
        fork.leave()
    refuse_monkey_patches()
    interface = options.interface
    if interface == "auto":
        interface = detect_interface(app)
    if interface != "asgi":
        return LoadedApp(app, interface, RuntimeChoice("", ""))
    chosen = choose_runtime(options.runtime, sys.modules, options.app, options.app_dir)
    if options.runtime == "auto":
        _import_asgi_after_the_app(chosen.runtime, options.app_dir)
    return LoadedApp(app, interface, chosen)


def run(
    options: Options,
    control: ControlChannel[ToReactor],
    terminal: BorrowedTerminal | None,
    begin: Callable[[Options], ReactorHooks | None],
    load: Callable[[Options], LoadedApp],
) -> int:
    """Load and serve the app. Returns the exit status of the process.

    `begin`: what comes before the app; returns the hooks. `load`: returns the app. Both may raise
    AppFailure.
    """
    status = 0
    hooks = None
    try:
        hooks = begin(options)
        loaded = load(options)
        process = ReactorProcess(options, control, loaded.chosen, terminal, hooks)
        if loaded.interface == "asgi":
            process.serve_asgi(loaded.app)
        else:
            process.serve_wsgi(loaded.app)
    except* AppFailure as failures:
        failure = failures.exceptions[0]
        assert isinstance(failure, AppFailure)
        if fork.is_child:
            fork.leave(failure.__cause__ or failure)
        control.send(Failed(failure.message, failure.details))
        control.drain(5)
        status = APP_FAILED
    if hooks is not None:
        hooks.exit()
    return status
