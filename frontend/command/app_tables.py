"""The tables `[app.NAME]` of a configuration file, as text: what may stand in them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from reactor_run.frontend.errors import OperatorError

__all__ = ["APP_KEYS", "check_app_table"]

APP_KEYS: Final = (
    "app",
    "factory",
    "app_dir",
    "interface",
    "lifespan",
    "root_path",
    "env",
    "bind",
    "reactors",
    "runtime",
    "preload",
    "max_requests",
    "max_requests_jitter",
    "max_rss",
    "max_lifetime",
    "threads",
    "concurrency",
    "replay",
    "lanes",
    "answers",
    "set_aside",
    "queue_size",
    "queue_timeout",
    "first_byte_timeout",
    "request_timeout",
    "timeout",
    "graceful_timeout",
    "start_timeout",
)
"""The settings that each app may have by itself."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def check_app_table(text: str) -> str:
    """Return the text of a table in JSON with a name and an app. Raises OperatorError."""
    import json

    try:
        table = json.loads(text)
    except ValueError:
        table = None
    if not isinstance(table, dict):
        raise OperatorError(f"expected a table in JSON, not {text!r}")
    name = table.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise OperatorError(f"expected a name of letters, digits and hyphens, not {name!r}")
    keys = ["name", *(key.replace("_", "-") for key in APP_KEYS)]
    for key in table:
        if key not in keys:
            raise OperatorError(f"[app.{name}]: {_no_key(key, keys)}")
    if not isinstance(table.get("app"), str):
        raise OperatorError(f'[app.{name}]: name its module, as in app = "shop.api:app"')
    return text


def _no_key(key: str, keys: Sequence[str]) -> str:
    # Only an error needs it.
    from difflib import get_close_matches

    (nearest,) = get_close_matches(key, keys, 1, cutoff=0)
    return (
        f"there is no key {key!r} here; the nearest is {nearest!r}. docs/routes.md has all keys; "
        "other settings are for the whole service, at the top of the file"
    )
