"""The command line in argparse: help, version, and the errors for words that are wrong.

It is imported only for these, and for the operator's commands. `argv` sorts most command lines
without it.
"""

import argparse
import re
from difflib import get_close_matches
from typing import NoReturn

from reactor_run import __version__
from reactor_run.frontend.command.options import Option
from reactor_run.frontend.command.settings import GROUPS, OPTIONS
from reactor_run.frontend.errors import SEE_HELP, OperatorError

__all__ = ["Parser", "build_parser"]

_COMPONENTS = ("trio", "anyio", "uvloop", "gunicorn_h1c")


class Parser(argparse.ArgumentParser):
    """A parser that raises OperatorError instead of exiting."""

    def error(self, message: str) -> NoReturn:
        unknown = re.match(r"unrecognized arguments: .*?--([^\s=]+)", message)
        if unknown is not None:
            names = [flag[2:] for flag in self._option_string_actions if flag.startswith("--")]
            for nearest in get_close_matches(unknown[1].lower().replace("_", "-"), names, 1):
                message += f"; the nearest is --{nearest}"
        raise OperatorError(f"{message} ({SEE_HELP})")


class _Version(argparse.Action):
    """Print the versions. They are looked up only here, because that takes longer than all else."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(version_line())
        parser.exit()


def version_line() -> str:
    """Return our version, Python's, and those of the components that are installed."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    parts = [f"Python {platform.python_version()}"]
    for name in _COMPONENTS:
        try:
            parts.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return f"reactor-run {__version__} ({', '.join(parts)})"


def build_parser() -> Parser:
    """Build the parser from the table of options.

    It only sorts words: values stay text, in lists.
    """
    parser = Parser(
        prog="reactor-run",
        usage="reactor-run [options] module[:attribute]\n"
        "       reactor-run status|top|reload|reopen-logs|maintenance|scale|stop "
        "[--admin ADDRESS]\n"
        "       reactor-run check [options] module[:attribute]\n"
        "       reactor-run config [options] [module[:attribute]]",
        description="Run a WSGI or ASGI app, control a running service, or show the settings in "
        "force and where each was written.",
        epilog="Every option is also an environment variable: --bind is REACTOR_RUN_BIND (several "
        "addresses are separated by commas). In a file it is the key bind. The command line wins "
        "over the environment, and the environment over the file. PORT, WEB_CONCURRENCY and "
        "FORWARDED_ALLOW_IPS replace defaults.",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=32),
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
        add_help=False,
    )
    for group, title in GROUPS.items():
        section = parser.add_argument_group(title)
        for option in OPTIONS:
            if option.group == group:
                _add(section, option)
    about = parser.add_argument_group("About")
    about.add_argument("-h", "--help", action="help", help="Show this help.")
    about.add_argument(
        "-V",
        "--version",
        action=_Version,
        nargs=0,
        help="Show the versions of reactor-run and of its components.",
    )
    return parser


def _add(section: argparse._ArgumentGroup, option: Option) -> None:
    meaning = option.meaning.replace("%", "%%")
    if option.positional:
        section.add_argument(
            option.name, nargs="?", action="append", metavar=option.kind.metavar, help=meaning
        )
        return
    meaning += f" (default: {option.shown_default})"
    flags = [option.short, option.flag] if option.short else [option.flag]
    if option.switch:
        section.add_argument(
            *flags, dest=option.name, action="append_const", const="on", help=meaning
        )
    else:
        section.add_argument(
            *flags,
            dest=option.name,
            action="append",
            metavar=option.kind.metavar,
            help=meaning,
        )
