"""All settings of reactor-run, as one table.

Each file of `groups` holds the rows of one group: the default of each setting, the kind of its
value, its unit and its meaning. Flags, environment variables, keys of configuration files and
docs/settings.md are derived from them. `sources` reads them. `cli` knows which settings exclude
each other.
"""

import re

from reactor_run.frontend.command.groups.app import AppGroup
from reactor_run.frontend.command.groups.development import DevelopmentGroup
from reactor_run.frontend.command.groups.files import FilesGroup
from reactor_run.frontend.command.groups.heuristics import HeuristicsGroup
from reactor_run.frontend.command.groups.lanes import LanesGroup
from reactor_run.frontend.command.groups.limits import LimitsGroup
from reactor_run.frontend.command.groups.logs import LogsGroup
from reactor_run.frontend.command.groups.operation import OperationGroup
from reactor_run.frontend.command.groups.proxies import ProxiesGroup
from reactor_run.frontend.command.groups.routes import RoutesGroup
from reactor_run.frontend.command.groups.server import ServerGroup
from reactor_run.frontend.command.groups.timeouts import TimeoutsGroup
from reactor_run.frontend.command.groups.tls import TlsGroup
from reactor_run.frontend.command.groups.websocket import WebSocketGroup
from reactor_run.frontend.command.options import Option
from reactor_run.frontend.command.table import Group

__all__ = ["GROUPS", "OPTIONS", "Settings", "reference"]


class Settings(
    AppGroup,
    FilesGroup,
    ServerGroup,
    TlsGroup,
    RoutesGroup,
    ProxiesGroup,
    LogsGroup,
    OperationGroup,
    DevelopmentGroup,
    LanesGroup,
    HeuristicsGroup,
    WebSocketGroup,
    LimitsGroup,
    TimeoutsGroup,
):
    """All that an operator decides. Sizes are in bytes, times in seconds. The rows have the
    details."""


OPTIONS: tuple[Option, ...] = Settings.rows
"""The table: every setting, in the order in which help and documentation show it."""
GROUPS = {each.key: each.title for each in Settings.__bases__ if issubclass(each, Group)}
"""The titles of groups, in the order in which help and documentation show them."""


def reference() -> str:
    """Return the tables of docs/settings.md, in Markdown."""
    lines = []
    for group, title in GROUPS.items():
        lines += [f"## {title}", "", "| Option | Default | Environment | Meaning |"]
        lines += ["|---|---|---|---|"]
        for option in OPTIONS:
            if option.group == group:
                written = f"{option.short}, {option.flag}" if option.short else option.flag
                if not option.positional and not option.switch:
                    written += " " + option.kind.metavar
                cells = (written, option.shown_default, option.variable, option.meaning)
                written, default, variable, meaning = (text.replace("|", r"\|") for text in cells)
                default = f"`{default}`" if re.fullmatch(r"\S+", default) else default
                lines.append(f"| `{written}` | {default} | `{variable}` | {meaning} |")
        lines.append("")
    return "\n".join(lines)
