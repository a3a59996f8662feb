"""Addresses of several machines: network namespaces where we may make them, else loopback."""

from __future__ import annotations

import secrets
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

__all__ = ["Machine", "machines"]


@dataclass(frozen=True)
class Machine:
    """`address` is its own; `gateway`, the address from which ours reaches it."""

    address: str
    gateway: str
    wrapper: Sequence[str]
    """The words of a command that runs another one there, by exec."""


@contextmanager
def machines(count: int) -> Iterator[list[Machine]]:
    """Machines, each with a network of its own behind a pair of virtual Ethernet devices.

    Without the right to make these, they are addresses in 127.0.0.0/8: the same, but for the
    network in between.
    """
    with ExitStack() as undo:
        try:
            made = [_namespace(undo) for _ in range(count)]
        except _NotPermitted as error:
            print(error)
            made = [_loopback() for _ in range(count)]
        yield made


class _NotPermitted(Exception):
    """No network namespace can be made here."""


def _ip(*words: str) -> None:
    if shutil.which("ip") is None:
        raise _NotPermitted("there is no program ip")
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise _NotPermitted(f"ip {' '.join(words)}: {done.stderr.strip()}")


def _loopback() -> Machine:
    numbers = [127, *(1 + byte % 254 for byte in secrets.token_bytes(3))]
    return Machine(".".join(map(str, numbers)), "127.0.0.1", ())


def _namespace(undo: ExitStack) -> Machine:
    name = f"rr{secrets.token_hex(4)}"
    inner, outer = f"{name}i", f"{name}o"
    # Out of 198.18.0.0/15, which is for measurements (RFC 2544): a network of four addresses.
    number = secrets.randbelow(1 << 15) * 4
    near, far = (
        ".".join(map(str, (198, 18 + (number >> 16), number >> 8 & 255, (number & 255) + place)))
        for place in (1, 2)
    )
    inside = ["netns", "exec", name, "ip"]
    _ip("netns", "add", name)
    undo.callback(_ip, "netns", "delete", name)
    _ip("link", "add", outer, "type", "veth", "peer", "name", inner, "netns", name)
    _ip("address", "add", f"{near}/30", "dev", outer)
    _ip("link", "set", outer, "up")
    _ip(*inside, "link", "set", "lo", "up")
    _ip(*inside, "address", "add", f"{far}/30", "dev", inner)
    _ip(*inside, "link", "set", inner, "up")
    return Machine(far, near, ("ip", "netns", "exec", name))
