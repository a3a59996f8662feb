"""The words of a command line, sorted by option."""

from collections.abc import Sequence

from reactor_run.frontend.command.settings import OPTIONS
from reactor_run.frontend.errors import OperatorError

__all__ = ["answer_switches", "sort_words"]

_FLAGS = {
    flag: option
    for option in OPTIONS
    if not option.positional
    for flag in (option.flag, option.short)
    if flag
}
_SWITCH_VALUES = ("on", "off", "true", "false", "1", "0")


def sort_words(words: Sequence[str]) -> dict[str, list[str]]:
    """Return the texts written for each option, by its name. The texts are not checked.

    Raises OperatorError for words that cannot be sorted, and SystemExit(0) after help and version.
    A flag of another server is answered with ours.
    """
    written = _sort_plain(words)
    if written is None:
        from reactor_run.frontend.command.help import build_parser

        try:
            written = vars(build_parser().parse_args(words))
        except OperatorError:
            from reactor_run.frontend.command.foreign import answer_flags

            answer = answer_flags(words) or answer_switches(words)
            if answer is None:
                raise
            raise OperatorError(answer) from None
    return written


def answer_switches(words: Sequence[str]) -> str | None:
    """Return what is wrong with a switch that has a value, as in `--reload on shop.web:app`."""
    for word, following in zip(words, [*words[1:], ""], strict=False):
        flag, equals, value = word.partition("=")
        option = _FLAGS.get(flag)
        text = value if equals else following
        if option is not None and option.switch and (equals or text in _SWITCH_VALUES):
            return f"{flag} takes no value; remove {text!r}, or {flag} if it shall be off"
    return None


def _sort_plain(words: Sequence[str]) -> dict[str, list[str]] | None:
    """Sort the words without argparse; return None if argparse has to judge them.

    Importing argparse takes longer than a server needs to open its sockets.
    """
    written: dict[str, list[str]] = {}
    rest = iter(words)
    for word in rest:
        flag, equals, text = word.partition("=")
        option = _FLAGS.get(flag)
        if option is None:
            if not word or word.startswith("-") or "app" in written:
                return None
            written["app"] = [word]
            continue
        if option.switch:
            text = "on"
            if equals:
                return None
        elif not equals:
            text = next(rest, "")
            if not text or text.startswith("-"):
                return None
        written.setdefault(option.name, []).append(text)
    return written
