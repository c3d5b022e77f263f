"""The marker `exhaustive`: the same claims at more points, in `.ci/run slow`."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

exhaustive = pytest.mark.exhaustive


def sampled(
    values: Iterable[Any],
    fast: Iterable[Any],
    name: Callable[[Any], Any] = lambda value: value,
) -> list[Any]:
    """Returns parameters for pytest of which all but some are marked exhaustive.

    Args:
        values: of `pytest.mark.parametrize`; a tuple is one set of values.
        fast: the names of those that run by default; each must be there.
        name: the name of a value, which is also its id where it is a string.
    """
    values, fast = list(values), list(fast)
    names = [name(value) for value in values]
    missing = [wanted for wanted in fast if wanted not in names]
    assert not missing, f"{missing} are not among {names}"
    return [
        pytest.param(
            *(value if type(value) is tuple else (value,)),
            marks=() if called in fast else exhaustive,
            id=called if isinstance(called, str) else None,
        )
        for value, called in zip(values, names, strict=True)
    ]
