"""Whether HTTP/2 is spoken, by the setting and by what is installed."""

from __future__ import annotations

import importlib.util

import pytest

from reactor_run.frontend.clients.http2_service import open_http2
from reactor_run.frontend.errors import OperatorError
from reactor_run.frontend.loop.epoll import Loop


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    loop = Loop()
    assert open_http2("auto", loop, streams_max=1) is None
    assert open_http2("off", loop, streams_max=1) is None
    with pytest.raises(OperatorError, match=r"pip install 'reactor-run\[http2\]'"):
        open_http2("on", loop, streams_max=1)
