from collections.abc import Callable
from typing import Any, Generic, TypeVar, final

_Shown = TypeVar("_Shown")

@final
class Head:
    """A request's head that `read_head` has accepted (`RequestHead` in request.py)."""

    @property
    def method(self) -> bytes: ...
    @property
    def target(self) -> bytes: ...
    @property
    def minor_version(self) -> int: ...
    @property
    def fields(self) -> tuple[tuple[bytes, bytes], ...]: ...
    @property
    def line(self) -> bytes: ...
    @property
    def size(self) -> int: ...
    @property
    def body(self) -> int: ...
    @property
    def keep_alive(self) -> bool: ...
    expect_continue: bool
    @property
    def upgrade(self) -> bool: ...
    def values(self, names: tuple[bytes, ...], /) -> list[bytes]:
        """Return the value of the last field of each name, in lower case; b"" if there is none."""

    def scope(
        self,
        template: dict[str, Any],
        names: Names[bytes],
        origin: tuple[object, object, object, object, object],
        /,
    ) -> dict[str, Any]:
        """Return a new ASGI scope: a copy of `template` with what the head and `origin` say.

        The dicts of `template` under "asgi", "state" and "extensions" are copied too. Fields whose
        name `names` shows as empty are left out. `origin` has client, server and scheme.
        """

    def environ(
        self,
        template: dict[str, Any],
        names: Names[str],
        origin: tuple[object, object, object, object, object],
        /,
    ) -> dict[str, Any] | None:
        """Return a new WSGI environ: a copy of `template` with what the head and `origin` say.

        Fields whose name `names` shows as empty are left out. The template must have the variables
        of `origin`. They are set only if both ends are known addresses, and without TLS and
        HTTP/2. Otherwise Python must set them.

        Returns None if two fields have one key, or a field has a key of the template: then Python
        must build the environ.
        """

@final
class Names(Generic[_Shown]):
    """What an app sees for a field name as sent: `FieldNameCache` in names.py."""

    def __init__(self, translate: Callable[[bytes], _Shown]) -> None: ...
    def __getitem__(self, name: bytes, /) -> _Shown: ...

def read_head(data: bytes, bounds: tuple[int, int, int, int, int], /) -> Head | None:
    """Return the head at the start of `data`, or None: then the policy must decide.

    `bounds`: `Limits.bounds`. Bytes after the head are ignored.
    """
