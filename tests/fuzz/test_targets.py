"""Every fuzz target over its seeds and over former findings, without a fuzzer."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from random import Random

import pytest

from tests.fuzz.inputs import BYTEWISE, CONTROL_SIZE, TARGETS, WHOLE, ends, kept

every_target = pytest.mark.parametrize("name", TARGETS)


@every_target
def test_seeds_and_regressions(name: str) -> None:
    target = import_module(f"tests.fuzz.{name}")
    inputs = [*target.seeds(), *kept(name)]
    assert len(inputs) > 20
    for data in inputs:
        target.check(data)


@every_target
def test_seeds_with_a_byte_changed(name: str) -> None:
    random = Random(name)
    target = import_module(f"tests.fuzz.{name}")
    inputs = [*target.seeds(), *kept(name)]
    for _ in range(500):
        data = bytearray(random.choice(inputs))
        data[random.randrange(len(data))] = random.randrange(256)
        target.check(bytes(data))


def test_make_fuzzes_every_target() -> None:
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    assert f"FUZZ_TARGETS ?= {' '.join(TARGETS)}\n" in makefile


@pytest.mark.parametrize("control", [WHOLE, BYTEWISE, b"\0\1\x80\xff", b"\0\xff\xff\xff"])
@pytest.mark.parametrize("size", [0, 1, 2, 300])
def test_pieces_go_to_the_end(control: bytes, size: int) -> None:
    assert len(control) == CONTROL_SIZE
    found = list(ends(control, size))
    assert found == sorted(found)
    assert found[-1] == size
    assert all(0 <= end <= size for end in found)
