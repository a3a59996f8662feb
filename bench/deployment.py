"""How a workload wants servers to be run; each server's command line follows from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Interface = Literal["asgi", "wsgi"]


@dataclass(frozen=True)
class Deployment:
    """The same for every server of a comparison, as far as each has the setting."""

    apps: tuple[tuple[Interface, str], ...]
    """The app for each interface, as module:attribute."""
    workers: int = 1
    """Processes that run the app."""
    threads: int = 1
    """WSGI: of each worker."""
    cores: Literal[1, 2] = 1
    """On which all processes of the server run together."""
    connections: int = 1000
    """Clients that the server must hold at once."""
    flags: tuple[tuple[str, str], ...] = ()
    """Words added to the command lines of a family of servers, or of one by its name."""
    path: str = field(default="/", kw_only=True)
    """What is asked to see whether it runs; the answer has to be 200."""
    backend: bool = field(default=False, kw_only=True)
    """Whether the app calls `bench.backend`, whose port it finds in BENCH_BACKEND."""

    tls: bool = field(default=False, kw_only=True)
    """Whether clients speak TLS."""

    def app(self, interface: Interface) -> str | None:
        """The app for an interface, if there is one."""
        return dict(self.apps).get(interface)

    def added(self, *names: str) -> str:
        """What is added to the command lines of a server with this family and name."""
        return " ".join(words for name, words in self.flags if name in names)


def both(module: str) -> tuple[tuple[Interface, str], ...]:
    """The apps of a module of `bench.apps` that has both."""
    return (("asgi", f"bench.apps.{module}:asgi"), ("wsgi", f"bench.apps.{module}:wsgi"))
