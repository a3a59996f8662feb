"""Many small cases in one test.

pytest spends about 3 ms on each test, and as much again in the process that hands tests out. Most
cases of a parser take a tenth of that. So cases that need no fixture of their own are checked one
after another in one test.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeVar

import pytest

__all__ = ["loop_over"]

_Test = TypeVar("_Test", bound=Callable[..., None])
_SHOWN = 400
"""Characters of a case that a failure shows."""


def loop_over(
    names: str, values: Iterable[Any], *, ids: Callable[[Any], str] = repr
) -> Callable[[_Test], _Test]:
    """Like `pytest.mark.parametrize`, but all cases are one test.

    All cases run, also after one has failed. Each failure of the group that is then raised names
    its case. Fixtures are shared by all cases. Where it stands twice, every pair is a case.
    """
    wanted = [name.strip() for name in names.split(",")]
    cases = list(values)
    assert cases, "a test without a case cannot fail"

    def decorate(test: _Test) -> _Test:
        @wraps(test)
        def run(**others: Any) -> None:
            failures: list[BaseException] = []
            for case in cases:
                given = [case] if len(wanted) == 1 else case
                try:
                    test(**others, **dict(zip(wanted, given, strict=True)))
                except (Exception, pytest.fail.Exception) as error:
                    error.add_note(f"case: {', '.join(wanted)} = {ids(case)[:_SHOWN]}")
                    failures.append(error)
            if failures:
                text = f"{len(failures)} of {len(cases)} cases of {names} failed"
                raise BaseExceptionGroup(text, failures)

        # What pytest takes for fixtures: the arguments that no case gives.
        signature = inspect.signature(test)
        left = [each for name, each in signature.parameters.items() if name not in wanted]
        assert len(left) == len(signature.parameters) - len(wanted), f"{wanted} are not arguments"
        run.__signature__ = signature.replace(parameters=left)  # type: ignore[attr-defined]
        return run  # type: ignore[return-value]

    return decorate
