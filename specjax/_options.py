"""The options of the three functions: their types and their ranges."""

import math
import numbers
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.core
from jaxtyping import Array, Real

from specjax import errors

Bound: TypeAlias = float | int | Real[Array, ""]
METHODS = ("estimate", "upper")


def check_options(*, bound: Any = 1.0, n_steps: Any = 1) -> None:
    """Raises for a bound that is not a number above 0, or n_steps below 0.

    A traced bound passes. n_steps must be static.
    """
    _check_number("bound", bound, "a number above 0", lambda x: 0 < x < math.inf)
    check_count(n_steps=n_steps)


def check_count(**counts: Any) -> None:
    """Raises for a count that is not a static int of 0 or more."""
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Integral):
            raise TypeError(_option(name, value, "a static int", f"{name}=1"))
        if value < 0:
            fix = "n_steps=0 to use u as it is" if name == "n_steps" else f"{name}=1"
            raise ValueError(_option(name, value, "0 or more", fix))


def check_target(target: Any) -> None:
    """Raises for a slope that is not a number of 0 or more; a traced one passes."""
    need = "a finite number of 0 or more"
    _check_number("target", target, need, lambda x: 0 <= x < math.inf)


def check_flags(**flags: Any) -> None:
    """Raises a TypeError for a flag that is not a static bool."""
    for name, value in flags.items():
        if not isinstance(value, bool):
            fix = f"{name}=True, or jax.lax.cond for a traced choice"
            raise TypeError(_option(name, value, "a static bool", fix))


def check_method(method: Any) -> None:
    """Raises a ValueError for a method that finds no norm."""
    if method not in METHODS:
        names = " or ".join(map(repr, METHODS))
        raise ValueError(_option("method", repr(method), names, 'method="estimate"'))


def _check_number(
    name: str, value: Any, need: str, fits: Callable[[float], bool]
) -> None:
    if not isinstance(value, numbers.Real | jax.Array) or getattr(value, "ndim", 0):
        raise TypeError(_option(name, value, "one number", f"{name}=1.0"))
    if not isinstance(value, jax.core.Tracer) and not fits(float(value)):
        raise ValueError(_option(name, value, need, f"{name}=1.0"))


def _option(name: str, value: Any, need: str, fix: str) -> str:
    return errors.message(name, got=str(value), need=need, fix=fix)
