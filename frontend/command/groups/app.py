"""The app: where it is, how it is called, and what it finds around it."""

from typing import Literal

from reactor_run.frontend.command.options import (
    SWITCH,
    VARIABLE,
    Kind,
    choice,
    parse_app,
    parse_directory,
    parse_root_path,
)
from reactor_run.frontend.command.table import Group, option, options, required

Interface = Literal["auto", "asgi", "wsgi"]

Lifespan = Literal["auto", "on", "off"]


class AppGroup(Group, key="app", title="The app"):
    """The app: where it is, how it is called, and what it finds around it."""

    app: str = required(
        Kind("module[:attribute]", parse_app),
        "The WSGI or ASGI app: its module, and its name in the module.",
    )
    factory: bool = option(
        SWITCH, False, "The attribute is a function without parameters that returns the app."
    )
    app_dir: str = option(
        Kind("DIR", parse_directory),
        ".",
        "Directory from which the app is imported. Each start of a reactor looks it up again.",
    )
    interface: Interface = option(
        choice(Interface), "auto", "What the app speaks. auto: detect it from the app."
    )
    lifespan: Lifespan = option(
        choice(Lifespan),
        "auto",
        "ASGI lifespan events. on: the app must support them; off: send none; auto: send them, "
        "and go on if the app does not support them.",
    )
    root_path: str = option(
        Kind("PATH", parse_root_path),
        "",
        "Path under which the app is mounted: ASGI root_path, WSGI SCRIPT_NAME.",
        shown_default="not mounted",
    )
    env: tuple[tuple[str, str], ...] = options(
        VARIABLE,
        "Environment variable of the app. It wins over the real environment. May be repeated; a "
        "table in a file.",
        shown_default="none",
        separator="\n",
    )
