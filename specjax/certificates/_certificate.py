"""What a certificate says: a bound, the factors that it is made of, and its print."""

import math
from collections.abc import Iterator
from decimal import ROUND_CEILING, Context
from typing import Any, NamedTuple

_DIGITS = Context(prec=6, rounding=ROUND_CEILING)


class Factor(NamedTuple):
    """One part of a network and how far it can stretch a distance.

    Attributes:
        name: the part, as the chain names it.
        constant: ``|part(x) - part(y)|`` is at most this times ``|x - y|``, in the
            2-norm, in exact arithmetic; inf where there is no such number.
        kind: "exact" where no smaller number would do for all inputs, "upper" where one
            might, "none" where there is no finite one.
        method: where the number is from, or the reason why there is none.
        inner: the parts that this part is made of.
    """

    name: str
    constant: float
    kind: str
    method: str
    inner: tuple["Factor", ...] = ()


class Certificate(NamedTuple):
    """A Lipschitz constant with its proof: what it is the product of.

    Attributes:
        value: ``|f(x) - f(y)| <= value |x - y|`` for all x and y, in the 2-norm; inf if
            a part has no finite constant. Never below the product of the factors.
        factors: one for each part of the chain, in order.
    """

    value: float
    factors: tuple[Factor, ...]

    @property
    def unbounded(self) -> tuple[Factor, ...]:
        """The innermost parts without a finite constant, each with its reason."""
        return tuple(
            factor
            for _, factor in _flat(self.factors)
            if factor.constant == math.inf and not factor.inner
        )

    def __str__(self) -> str:
        """Returns a table in plain text, every number in it rounded up."""
        head = ("part", "constant", "kind", "method")
        rows = [head, *(_row(depth, factor) for depth, factor in _flat(self.factors))]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [
            "  ".join((
                row[0].ljust(widths[0]),
                row[1].rjust(widths[1]),
                row[2].ljust(widths[2]),
                row[3],
            )).rstrip()
            for row in rows
        ]  # fmt: skip
        return "\n".join([self._headline(), *lines])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Prints the same table for IPython, as the last line of a cell."""
        printer.text(str(self))

    def _headline(self) -> str:
        if self.value < math.inf:
            return f"|f(x) - f(y)| <= {digits(self.value)} |x - y|, the product of"
        names = ", ".join(factor.name for factor in self.unbounded)
        return f"No finite Lipschitz constant, because of {names or 'its size'}:"


def digits(number: float) -> str:
    """Returns six digits of a number, rounded up.

    Example:
        >>> digits(2 / 3), digits(1.0), digits(2.0**-30), digits(123456789.0)
        ('0.666667', '1', '9.31323e-10', '1.23457e+08')
    """
    if not math.isfinite(number):
        return str(number)
    return format(float(_DIGITS.create_decimal_from_float(number)), ".6g")


def _flat(factors: tuple[Factor, ...], depth: int = 0) -> Iterator[tuple[int, Factor]]:
    """Yields every factor with its depth, what it is made of right after it."""
    for factor in factors:
        yield depth, factor
        yield from _flat(factor.inner, depth + 1)


def _row(depth: int, factor: Factor) -> tuple[str, str, str, str]:
    name = "  " * depth + factor.name
    return name, digits(factor.constant), factor.kind, factor.method
