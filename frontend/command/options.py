"""The parts of a setting: its name, flag, variable and kind of value, and how its text is read.

This file knows no single setting: those are rows of the table in `settings`.
"""

import os
import re
from collections.abc import Callable
from typing import Any, Final, Generic, NamedTuple, TypeVar, get_args

from reactor_run.frontend.errors import OperatorError
from reactor_run.native import PURE_VARIABLE

__all__ = [
    "MISSING",
    "MODE",
    "REACTORS",
    "SWITCH",
    "UMASK",
    "VARIABLE",
    "Kind",
    "Option",
    "byte_size",
    "choice",
    "count",
    "parse_app",
    "parse_directory",
    "parse_module",
    "parse_root_path",
    "parse_text",
    "seconds",
]


T = TypeVar("T")


MISSING: Final = object()
"""The default of a setting that has none."""


class Kind(NamedTuple, Generic[T]):
    """A kind of value.

    metavar: its name in the help.
    parse: reads its text; raises OperatorError, which does not name the option.
    show: writes the value as an operator would.
    show_number: writes a number of a TOML file as that text. There 0o22 is the number 18.
    split: splits the text of a variable with several values; None: a separator does.
    takes_table: the value in a TOML file is a table. Its text is the same in JSON.
    takes_pairs: a table of strings in a TOML file stands for the texts NAME=VALUE.
    """

    metavar: str
    parse: Callable[[str], T]
    show: Callable[[T], str] = str
    show_number: Callable[[int | float], str] = str
    split: Callable[[str], list[str]] | None = None
    takes_table: bool = False
    takes_pairs: bool = False


class Option(NamedTuple):
    """One setting, as an operator sees it.

    name: the field of `Settings`.
    default: MISSING for the app, which has none.
    shown_default: the default as text, for help and documentation.
    repeatable: the option may be given several times; the value is a tuple.
    separator: what separates the values of a repeatable option in its environment variable.
    short: its short flag, as in `-b`; "" if it has none.
    """

    name: str
    group: str
    kind: Kind[Any]
    meaning: str
    default: Any
    shown_default: str
    repeatable: bool = False
    separator: str = ","
    short: str = ""

    @property
    def positional(self) -> bool:
        """Whether it stands alone on the command line, without a flag."""
        return self.default is MISSING

    @property
    def switch(self) -> bool:
        """Whether its flag takes no value."""
        return self.kind is SWITCH

    @property
    def flag(self) -> str:
        """Its flag, or its name in the usage line if it is positional."""
        return self.kind.metavar if self.positional else "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """Its environment variable."""
        return "REACTOR_RUN_" + self.name.upper()

    @property
    def key(self) -> str:
        """Its key in a configuration file."""
        return self.name.replace("_", "-")

    def split(self, text: str) -> list[str]:
        """Return the texts of its values in the text of its variable."""
        if not self.repeatable:
            return [text]
        if self.kind.split is not None:
            return self.kind.split(text)
        return [part.strip() for part in text.split(self.separator) if part.strip()]

    def show(self, value: Any) -> str:
        """Return a value as text. The default is described, as in help and documentation."""
        if value == self.default:
            return self.shown_default
        values = value if self.repeatable else (value,)
        return ", ".join(map(self.kind.show, values))

    def parse(self, texts: list[str]) -> Any:
        """Return the value for the texts that were written for it. Raises OperatorError."""
        values = tuple(self.kind.parse(text) for text in texts)
        return values if self.repeatable else values[-1]


def count(least: int, most: int | None = None) -> Kind[int]:
    bounds = f"of at least {least}" if most is None else f"from {least} to {most}"

    def parse(text: str) -> int:
        number = int(text) if re.fullmatch("[0-9]{1,18}", text) else -1
        if number < least or (most is not None and number > most):
            raise OperatorError(f"expected a whole number {bounds}, not {text!r}")
        return number

    return Kind("N", parse)


_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def byte_size(least: int) -> Kind[int]:
    def parse(text: str) -> int:
        match = re.fullmatch("([0-9]{1,12})([KMG]?)", text.upper())
        size = int(match[1]) * _UNITS[match[2]] if match else -1
        if size < least:
            raise OperatorError(
                f"expected a size in bytes of at least {least}, also with K, M or G, as in 10M, "
                f"not {text!r}"
            )
        return size

    return Kind("SIZE", parse, _show_size)


def _show_size(size: int) -> str:
    for unit in "GMK":
        if size and size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]}{unit}"
    return str(size)


def seconds(*, zero: bool) -> Kind[float]:
    def parse(text: str) -> float:
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) or (float(text) == 0 and not zero):
            least = "0 or more" if zero else "more than 0"
            raise OperatorError(f"expected a number of seconds, {least}, as in 1.5, not {text!r}")
        return float(text)

    return Kind("SECONDS", parse, lambda value: f"{value:g}")


def choice(literal: Any) -> Kind[Any]:
    alternatives: tuple[str, ...] = get_args(literal)

    def parse(text: str) -> str:
        if text not in alternatives:
            *rest, last = alternatives
            raise OperatorError(f"expected {', '.join(rest)} or {last}, not {text!r}")
        return text

    return Kind("|".join(alternatives), parse)


def _parse_switch(text: str) -> bool:
    try:
        return {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False}[
            text.lower()
        ]
    except KeyError:
        raise OperatorError(f"expected on or off, not {text!r}") from None


SWITCH = Kind("on|off", _parse_switch, lambda on: "on" if on else "off")


def parse_app(text: str) -> str:
    module, colon, attribute = text.partition(":")
    if "/" in module or module.endswith(".py"):
        raise OperatorError(
            f"{text!r} is a file; give its module, as in shop.web:app, and its directory by "
            "--app-dir"
        )
    if attribute.endswith(")"):
        raise OperatorError(f"{text!r} is a call; give the name of the function and add --factory")
    dotted = [module, attribute] if colon else [module]
    if not all(part.isidentifier() for name in dotted for part in name.split(".")):
        raise OperatorError(f"expected module:attribute, as in shop.web:app, not {text!r}")
    return text


def parse_module(text: str) -> str:
    if "/" in text or text.endswith(".py"):
        raise OperatorError(
            f"{text!r} is a file; give its module, as in shop.hooks, and its directory by --app-dir"
        )
    if text and not all(name.isidentifier() for name in text.split(".")):
        raise OperatorError(f"expected a module, as in shop.hooks, not {text!r}")
    return text


def _parse_mode(text: str) -> int:
    if not re.fullmatch("(0o)?0?[0-7]{3}", text):
        raise OperatorError(f"expected a mode of three octal digits, as in 0o660, not {text!r}")
    return int(text, 8)


def _parse_umask(text: str) -> int:
    if not re.fullmatch("(0o)?[0-7]{1,4}", text) or int(text, 8) > 0o777:
        raise OperatorError(f"expected a mask of up to three octal digits, as in 022, not {text!r}")
    return int(text, 8)


def _show_umask(mask: int | None) -> str:
    return "" if mask is None else f"{mask:03o}"


def _reject_number(_: int | float) -> str:
    # `umask = 22` would mean 0o26.
    raise OperatorError('expected a string, as in "022"')


def _parse_reactors(text: str) -> int:
    if text == "auto":
        return 0
    if not re.fullmatch("0*[1-9][0-9]{0,17}", text):
        raise OperatorError(f"expected a whole number of at least 1, or auto, not {text!r}")
    return int(text)


def _show_reactors(number: int) -> str:
    return str(number) if number else "auto"


def _parse_variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
        raise OperatorError(f"expected NAME=VALUE, as in TZ=UTC, not {text!r}")
    if "\0" in value:
        raise OperatorError(f"{name} has a NUL in it")
    if name.startswith("REACTOR_RUN_") and name != PURE_VARIABLE:
        raise OperatorError(f"{name} has no effect here: it is for the front end, not for the app")
    return name, value


def parse_text(text: str) -> str:
    return text


def parse_directory(text: str) -> str:
    if not os.path.isdir(text):
        raise OperatorError(f"{text!r} is not a directory; give an existing one")
    return text


def parse_root_path(text: str) -> str:
    if text and (not text.startswith("/") or text.endswith("/") or not text.isprintable()):
        raise OperatorError(
            f"expected a path as in /shop, without a slash at its end, not {text!r}"
        )
    return text


MODE: Final = Kind(
    "MODE",
    _parse_mode,
    lambda mode: f"0o{mode:03o}",
    lambda number: f"0o{number:03o}" if isinstance(number, int) else str(number),
)
"""Permissions, in octal."""

VARIABLE: Final[Kind[tuple[str, str]]] = Kind(
    "NAME=VALUE", _parse_variable, "=".join, takes_pairs=True
)
"""An environment variable."""

UMASK: Final[Kind[int | None]] = Kind("MASK", _parse_umask, _show_umask, _reject_number)
"""A mask of permissions, in octal. None: it is inherited."""

REACTORS: Final = Kind("N|auto", _parse_reactors, _show_reactors)
"""A number of processes. 0 stands for auto."""
