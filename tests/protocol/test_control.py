"""Control messages: lines of JSON, and the descriptors that belong to them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor_run.protocol.control import NUMBER_MAX, ControlDecoder, ControlError, encode_control

words = st.text(max_size=20)
numbers = st.integers(0, NUMBER_MAX) | st.floats(0, 1e18)
values = st.recursive(
    st.none() | st.booleans() | numbers | words, lambda inner: st.lists(inner, max_size=3)
)
messages = st.dictionaries(words.filter(lambda name: name != "fd"), values, max_size=4)


@given(messages)
def test_a_message_is_one_line_of_json(message):
    line = encode_control(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == message


@given(st.lists(messages, max_size=5), st.integers(1, 40))
def test_messages_come_back_however_they_are_cut(sent, size):
    stream = b"".join([encode_control(message) for message in sent])
    decoder = ControlDecoder()
    received = []
    for start in range(0, len(stream), size):
        received += decoder.feed(stream[start : start + size])
    assert received == sent


def test_descriptors_go_to_the_messages_that_announce_one_in_order():
    decoder = ControlDecoder()
    lines: list[dict[str, Any]] = [
        {"lane": 1, "fd": True},
        {"ping": 1},
        {"express": True, "fd": True},
        {"lane": 2},
    ]
    assert decoder.feed(b"".join([encode_control(line) for line in lines]), [11, 12]) == [
        {"lane": 1, "fd": 11},
        {"ping": 1},
        {"express": True, "fd": 12},
        {"lane": 2},
    ]


def test_a_descriptor_comes_with_the_first_byte_of_its_message():
    """The kernel hands it out with the first piece. The message may end in a later one."""
    decoder = ControlDecoder()
    line = encode_control({"lane": 1, "fd": True})
    assert decoder.feed(encode_control({"ping": 1}) + line[:5], [11]) == [{"ping": 1}]
    assert decoder.feed(line[5:]) == [{"lane": 1, "fd": 11}]


def test_a_descriptor_that_the_kernel_dropped_is_none():
    decoder = ControlDecoder()
    lost = encode_control({"lane": 1, "fd": True})
    kept = encode_control({"lane": 2, "fd": True})
    assert decoder.feed(lost, [None]) == [{"lane": 1, "fd": None}]
    assert decoder.feed(kept, [12]) == [{"lane": 2, "fd": 12}]


def test_a_descriptor_that_never_came_is_none():
    assert ControlDecoder().feed(b'{"lane":1,"fd":true}\n') == [{"lane": 1, "fd": None}]


def test_a_message_that_says_that_it_has_none_takes_none():
    decoder = ControlDecoder()
    assert decoder.feed(b'{"lane":1,"fd":false}\n', [11]) == [{"lane": 1, "fd": False}]
    assert decoder.feed(b'{"lane":2,"fd":true}\n') == [{"lane": 2, "fd": 11}]


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1", b"[]", b'"word"', b"1", b"", b"{", b"\xff"])
def test_bytes_that_are_no_message_are_rejected(line):
    with pytest.raises(ControlError):
        ControlDecoder().feed(line + b"\n")


def test_a_line_without_end_is_rejected():
    decoder = ControlDecoder()
    half = b"x" * (1 << 19)
    assert decoder.feed(half) == []
    assert decoder.feed(half) == []
    with pytest.raises(ControlError, match="no end"):
        decoder.feed(b"x")


@pytest.mark.parametrize(
    "number",
    ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "-1", "-0.5", str(1 << 63), "9" * 5000],
)
@pytest.mark.parametrize("form", ['{"slow":"GET /","seconds":%s}', '{"done":[1,%s]}'])
def test_a_number_that_is_no_finite_amount_is_rejected(form, number):
    with pytest.raises(ControlError):
        ControlDecoder().feed((form % number).encode() + b"\n")


def test_numbers_at_the_bounds_are_read():
    assert ControlDecoder().feed(b'{"a":0,"b":9223372036854775807,"c":0.0,"d":1e-9}\n') == [
        {"a": 0, "b": NUMBER_MAX, "c": 0.0, "d": 1e-9}
    ]
