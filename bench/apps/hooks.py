"""A hooks module without hooks of requests: it must cost a request nothing."""

from __future__ import annotations

from reactor_run.hooks import AppReactor, ReactorExited, Service


def on_ready(service: Service) -> None: ...


def on_reactor_exit(reactor: ReactorExited) -> None: ...


def reactor_ready(reactor: AppReactor) -> None: ...
