"""A scraper of metrics, as Prometheus is one, beside a load."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

_TIMEOUT = 10.0


@contextmanager
def scraped(url: str, every: float) -> Iterator[None]:
    """Get `url` at once and then each `every` seconds, in a thread, while the block runs.

    Raises OSError at the end if a scrape failed.
    """
    over = threading.Event()
    failures: list[OSError] = []

    def run() -> None:
        while True:
            try:
                with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
                    response.read()
            except OSError as error:
                failures.append(error)
            if over.wait(every):
                return

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if failures:
        raise failures[0]
