"""Kinds of values that several groups of settings have."""

from typing import Literal

from reactor_run.frontend.sockets.addresses import Bind, written

__all__ = ["OnOff", "show_address"]

OnOff = Literal["on", "off"]


def show_address(bind: Bind | None) -> str:
    """Return an address as an operator writes it; None: there is no such listener."""
    return "off" if bind is None else written(bind)
