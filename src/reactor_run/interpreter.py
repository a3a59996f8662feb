"""The options with which Python was started, for other processes of the service.

`python -X dev -W error -m reactor_run` shall run the app with `-X dev -W error` too. Environment
variables such as PYTHONDEVMODE are inherited anyway.
"""

from __future__ import annotations

import sys

__all__ = ["interpreter_options"]


def interpreter_options() -> list[str]:
    """Return the options of Python's command line that this process was started with.

    The standard library has this as a private function of subprocess. The source of each value here
    is documented.
    """
    flags = sys.flags
    words = []
    for letter, count in (
        ("B", flags.dont_write_bytecode),
        ("E", flags.ignore_environment),
        ("O", flags.optimize),
        ("S", flags.no_site),
        ("b", flags.bytes_warning),
        ("s", flags.no_user_site),
        ("v", flags.verbose),
    ):
        if count:
            words.append("-" + letter * int(count))
    words += [f"-W{option}" for option in sys.warnoptions if option not in _implied()]
    for name, value in sys._xoptions.items():
        words.append(f"-X{name}" if value is True else f"-X{name}={value}")
    return words


def _implied() -> set[str]:
    """Return the warning options that Python adds for other options."""
    implied = set()
    if sys.flags.dev_mode:
        implied.add("default")
    if sys.flags.bytes_warning:
        implied.add(
            "error::BytesWarning" if sys.flags.bytes_warning > 1 else "default::BytesWarning"
        )
    return implied
