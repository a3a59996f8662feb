"""The keyword arguments of a call, sorted by option: `run("shop.web:app", bind=":8000")`."""

from collections.abc import Mapping
from typing import TypeAlias

from reactor_run.frontend.command.config_file import texts_of
from reactor_run.frontend.command.settings import OPTIONS
from reactor_run.frontend.errors import OperatorError

__all__ = ["Value", "sort_keywords", "words_of"]

Value: TypeAlias = str | int | float | bool | list[str] | tuple[str, ...]
"""A value of a setting: text as on the command line, a number, a truth value, or several texts."""

_BY_NAME = {option.name: option for option in OPTIONS if not option.positional}


def sort_keywords(app: str, settings: Mapping[str, Value]) -> dict[str, list[str]]:
    """Return the texts for each option, by its name, as `argv.sort_words` does.

    Raises TypeError for a name that is no setting, and OperatorError for a value that has no text.
    """
    written = {"app": [app]}
    for name, value in settings.items():
        option = _BY_NAME.get(name)
        if option is None:
            from reactor_run.frontend.command.nearest import nearest_option

            nearest = nearest_option(name).name
            raise TypeError(f"there is no setting {name!r}; the nearest is {nearest!r}")
        try:
            written[name] = texts_of(option, [*value] if isinstance(value, tuple) else value)
        except OperatorError as error:
            raise OperatorError(f"{name}: {error}") from None
    return written


def words_of(written: Mapping[str, list[str]]) -> list[str]:
    """Return a command line that says what `written` does. A switch that is off is left out."""
    words = []
    for option in OPTIONS:
        for text in written.get(option.name, ()):
            if option.positional:
                words.append(text)
            elif not option.switch:
                words.append(f"{option.flag}={text}")
            elif option.parse([text]):
                words.append(option.flag)
    return words
