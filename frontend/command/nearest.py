"""The setting that was probably meant by a name that is none. It is imported only for an error."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Final

from reactor_run.frontend.command.foreign import counterpart
from reactor_run.frontend.command.options import Option
from reactor_run.frontend.command.settings import OPTIONS

__all__ = ["nearest_option"]

_KEYS: Final = {option.key: option for option in OPTIONS}


def nearest_option(name: str) -> Option:
    """Return the setting that another server calls so, else the one with the most similar name.

    `name`: a key, a keyword, or a variable without its prefix, in any case.
    """
    key = name.lower().replace("_", "-")
    option = counterpart(f"--{key}")
    if option is None:
        (similar,) = get_close_matches(key, _KEYS, 1, cutoff=0)
        option = _KEYS[similar]
    return option
