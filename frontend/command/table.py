"""How a group of settings is written down: a class whose fields are rows.

    class TlsGroup(Group, key="tls", title="TLS"):
        tls_min: TlsVersion = option(choice(TlsVersion), "1.2", "Lowest version of TLS.")

The type of a field is the type of the setting. Its value is a row, of which the class keeps the
default. This file knows no single setting.
"""

from collections.abc import Iterable
from typing import Any, ClassVar, Final, Self, TypeVar, cast, dataclass_transform

from reactor_run.frontend.command.options import MISSING, Kind, Option

__all__ = ["Group", "option", "options", "required"]

T = TypeVar("T")


class _Row:
    """What one field says of its setting: the fields of `Option` without name and group."""

    def __init__(self, **parts: Any) -> None:
        self.parts: Final = parts


def option(
    kind: Kind[T], default: T, meaning: str, *, shown_default: str | None = None, short: str = ""
) -> T:
    """Return the row of a setting. `shown_default`: if the default explains itself badly."""
    row = _Row(
        kind=kind,
        meaning=meaning,
        default=default,
        shown_default=kind.show(default) if shown_default is None else shown_default,
        short=short,
    )
    return cast(T, row)


def options(
    kind: Kind[T], meaning: str, *, shown_default: str, separator: str = ",", short: str = ""
) -> tuple[T, ...]:
    """Return the row of a setting that may be repeated; its default is empty."""
    row = _Row(
        kind=kind,
        meaning=meaning,
        default=(),
        shown_default=shown_default,
        repeatable=True,
        separator=separator,
        short=short,
    )
    return cast(tuple[T, ...], row)


def required(kind: Kind[T], meaning: str) -> T:
    """Return the row of a setting that has no default."""
    return cast(T, _Row(kind=kind, meaning=meaning, default=MISSING, shown_default=""))


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Group:
    """Values of settings: of one group, or of all groups that a class inherits from."""

    key: ClassVar[str] = ""
    """The name of the group in `Option`."""
    title: ClassVar[str] = ""
    """Its heading in the help and the documentation."""
    rows: ClassVar[tuple[Option, ...]] = ()
    """Its settings, in the order in which help and documentation show them."""

    def __init_subclass__(cls, *, key: str = "", title: str = "") -> None:
        cls.key = key
        cls.title = title
        inherited = [row for base in cls.__bases__ for row in base.rows]  # type: ignore[attr-defined]
        cls.rows = (*inherited, *_take_rows(cls, key))

    def __init__(self, **values: Any) -> None:
        """`values`: those that differ from their defaults. Raises TypeError for another name."""
        for row in self.rows:
            value = values.pop(row.name, row.default)
            if value is MISSING:
                raise TypeError(f"{row.name} is missing")
            self.__dict__[row.name] = value
        if values:
            raise TypeError(f"there is no setting {', '.join(values)}")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name} cannot be set: `replace` returns other settings")

    def replace(self, **values: Any) -> Self:
        """Return the same settings with other `values`."""
        return type(self)(**{**self.__dict__, **values})

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.__dict__ == self.__dict__


def _take_rows(cls: type[Group], key: str) -> Iterable[Option]:
    """Return the options of a class, and leave the defaults in their place."""
    for name in list(cls.__dict__):
        row = cls.__dict__[name]
        if isinstance(row, _Row):
            default = row.parts["default"]
            if default is MISSING:
                delattr(cls, name)
            else:
                setattr(cls, name, default)
            yield Option(name, key, **row.parts)
