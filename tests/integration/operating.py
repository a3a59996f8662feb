"""What an operator does to a running service: commands, and an upgrade."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.server import Server, clean_environment, command, is_alive
from tests.integration.waiting import eventually

__all__ = ["tell", "upgraded"]


def tell(admin: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command such as `reload` on the service whose admin socket is `admin`."""
    return subprocess.run(
        command(*words, "--admin", f"unix:{admin}"),
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@contextmanager
def upgraded(server: Server) -> Iterator[int]:
    """Upgrade a service. In the block the new front end serves, whose process is returned."""

    def successors() -> list[str]:
        return re.findall(r"the new front end is process (\d+)", server.log())

    server.signal(signal.SIGUSR2)
    new = int(eventually(successors)[-1])
    try:
        assert server.wait() == 0
        yield new
    finally:
        os.kill(new, signal.SIGTERM)
        assert eventually(lambda: not is_alive(new), deadline=20)
