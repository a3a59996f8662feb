"""The table of options: which values each kind accepts, and that the documentation matches it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor_run.frontend.command.options import Option
from reactor_run.frontend.command.settings import GROUPS, OPTIONS, Settings, reference
from reactor_run.frontend.errors import OperatorError

PAGE = Path(__file__).parents[3] / "docs" / "settings.md"

BY_NAME = {option.name: option for option in OPTIONS}


def test_the_page_ends_with_the_tables_as_generated() -> None:
    assert PAGE.read_text().endswith(reference())


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_the_page_names_flag_default_and_variable(option: Option) -> None:
    lines = PAGE.read_text().splitlines()
    rows = [line for line in lines if line.startswith("| ") and f"`{option.variable}`" in line]
    assert len(rows) == 1
    flags = f"{option.short}, {option.flag}" if option.short else option.flag
    assert f"| `{flags}" in rows[0]
    assert option.shown_default in rows[0]


def test_every_option_is_in_a_group_that_is_shown() -> None:
    assert {option.group for option in OPTIONS} == set(GROUPS)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_a_default_reads_back_as_itself(option: Option) -> None:
    if option.positional or option.kind.show(option.default) != option.shown_default:
        return
    value = option.parse([option.shown_default])
    assert value == option.default
    assert type(value) is type(option.default)


def test_settings_need_an_app_alone_and_do_not_change() -> None:
    settings = Settings(app="shop:app")
    assert settings.limit_head_size == 65536
    assert settings.unix_mode == 0o666
    with pytest.raises(AttributeError):
        settings.threads = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("max_body_size", "0", 0),
        ("max_body_size", "10M", 10 << 20),
        ("max_body_size", "2g", 2 << 30),
        ("limit_head_size", "64K", 65536),
        ("limit_request_line", "100", 100),
        ("head_timeout", "0", 0.0),
        ("head_timeout", "1.5", 1.5),
        ("keep_alive", "0.1", 0.1),
        ("unix_mode", "660", 0o660),
        ("unix_mode", "0600", 0o600),
        ("unix_mode", "0o777", 0o777),
        ("umask", "022", 0o022),
        ("umask", "0o27", 0o027),
        ("umask", "0", 0),
        ("factory", "ON", True),
        ("factory", "0", False),
        ("root_path", "", ""),
        ("root_path", "/shop/eu", "/shop/eu"),
        ("app", "shop", "shop"),
        ("app", "shop.web:site.app", "shop.web:site.app"),
        ("queue_size", "0", 0),
        ("runtime", "uvloop", "uvloop"),
    ],
)
def test_values(name: str, text: str, value: object) -> None:
    assert BY_NAME[name].parse([text]) == value


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("threads", "0", "at least 1"),
        ("threads", "-1", "at least 1"),
        ("threads", "1_0", "whole number"),
        ("threads", "٣", "whole number"),
        ("threads", "9" * 5000, "whole number"),
        ("reactors", "all", "at least 1"),
        ("max_body_size", "10MB", "as in 10M"),
        ("max_body_size", "-1", "as in 10M"),
        ("limit_head_size", "0", "at least 1"),
        ("limit_field_count", "257", "from 1 to 256"),
        ("limit_field_count", "0", "from 1 to 256"),
        ("head_timeout", "nan", "seconds"),
        ("head_timeout", "-1", "0 or more"),
        ("keep_alive", "0", "more than 0"),
        ("graceful_timeout", "0.0", "more than 0"),
        ("unix_mode", "0o888", "octal"),
        ("unix_mode", "1777", "octal"),
        ("umask", "1777", "up to three octal digits"),
        ("umask", "0x1f", "up to three octal digits"),
        ("factory", "maybe", "on or off"),
        ("runtime", "curio", "auto, trio, asyncio or uvloop, not"),
        ("root_path", "shop", "/shop"),
        ("root_path", "/shop/", "without a slash"),
        ("app", "shop/web.py:app", "--app-dir"),
        ("app", "web.py", "--app-dir"),
        ("app", "shop:make()", "--factory"),
        ("app", "shop:", "module:attribute"),
        ("app", ":app", "module:attribute"),
        ("app", "shop..web:app", "module:attribute"),
        ("app_dir", "/nowhere/at/all", "not a directory"),
    ],
)
def test_values_that_are_invalid(name: str, text: str, says: str) -> None:
    with pytest.raises(OperatorError) as caught:
        BY_NAME[name].parse([text])
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.integers(0, 1 << 45))
def test_sizes_are_shown_as_they_are_read(size: int) -> None:
    if size < 10**12:
        kind = BY_NAME["max_body_size"].kind
        assert kind.parse(kind.show(size)) == size


@given(st.text(max_size=20))
def test_any_text_is_read_or_raises_the_documented_error(text: str) -> None:
    for option in OPTIONS:
        try:
            option.parse([text.replace("\0", "")])
        except OperatorError:
            pass


def test_auto_reactors_stand_for_a_number_found_out_later() -> None:
    assert BY_NAME["reactors"].parse(["auto"]) == 0
    assert BY_NAME["reactors"].kind.show(0) == "auto"
