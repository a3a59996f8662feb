"""Development: reload on change."""

from reactor_run.frontend.command.options import SWITCH, Kind, parse_directory
from reactor_run.frontend.command.table import Group, option, options


class DevelopmentGroup(Group, key="development", title="Development"):
    """Development: reload on change."""

    reload: bool = option(
        SWITCH,
        False,
        "Start the app anew when its files change. Needs the extra reload.",
    )
    reload_dir: tuple[str, ...] = options(
        Kind("DIR", parse_directory),
        "With --reload: directory to watch, besides --app-dir. May be repeated.",
        shown_default="none",
    )
    reload_include: tuple[str, ...] = options(
        Kind("PATTERN", str),
        "With --reload: files that count besides *.py, as in *.html. May be repeated.",
        shown_default="none",
    )
    reload_exclude: tuple[str, ...] = options(
        Kind("PATTERN", str),
        "With --reload: files or directories that do not count, as in tests. May be repeated.",
        shown_default="none",
    )
