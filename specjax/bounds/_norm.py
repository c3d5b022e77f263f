"""What is said of a norm: a number, its kind, what it is of, and the method."""

import dataclasses
import decimal
import functools
from typing import Any, Literal, TypeAlias

import jax
import jax.core
import numpy as np

ROUNDINGS = {
    "lower": decimal.ROUND_FLOOR,
    "exact": decimal.ROUND_HALF_EVEN,
    "upper": decimal.ROUND_CEILING,
}
Kind: TypeAlias = Literal["lower", "exact", "upper"]
Of: TypeAlias = Literal["matrix", "operator"]


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["value"],
    meta_fields=["kind", "of", "method"],
)
@dataclasses.dataclass(frozen=True)
class Norm:
    """A statement about the largest singular value of a kernel under a linear map.

    A pytree with one leaf, so it goes through jit, vmap and grad.

    Attributes:
        value: in the kernel's units; one for each slice of a stack.
        kind: "lower" (at most the norm), "exact", or "upper" (at least the norm).
        of: "matrix", the kernel reshaped, or "operator", what it does to images.
        method: how it was found.
    """

    value: Any
    kind: Kind
    of: Of
    method: str

    def __str__(self) -> str:
        """Returns the number with its label, ``"1.234 (upper, matrix, ...)"``.

        As printed, too, a lower number is not above its value, and an upper one not
        below.
        """
        return f"{self._number()} ({self.kind}, {self.of}, {self.method})"

    def _number(self) -> str:
        if isinstance(self.value, jax.core.Tracer):
            return str(self.value)
        return np.array2string(
            np.asarray(self.value),
            formatter={"float_kind": lambda one: in_digits(one, ROUNDINGS[self.kind])},
        )


def in_digits(value: Any, rounding: str) -> str:
    """Returns a number in the digits that tell it apart, rounded as a bound must be.

    Args:
        value: of numpy's.
        rounding: of `decimal`.

    Example:
        >>> third = np.float32(1 / 3)  # 0.333333343
        >>> print(in_digits(third, "ROUND_FLOOR"), in_digits(third, "ROUND_CEILING"))
        0.33333334 0.333333344
    """
    nearest = str(value)
    if not np.isfinite(value):
        return nearest
    exact, shown = decimal.Decimal(float(value)), decimal.Decimal(nearest)
    wrong = {
        decimal.ROUND_FLOOR: shown > exact,
        decimal.ROUND_CEILING: shown < exact,
    }
    if not wrong.get(rounding, False):
        return nearest
    # Enough digits for every number of its dtype: 9 in float32.
    context = decimal.Context(prec=np.finfo(value).precision + 3, rounding=rounding)
    shown = context.plus(exact)
    return f"{shown:e}" if "e" in nearest else f"{shown:f}"
