"""Sums, products and roots of bounds, rounded up: what comes out is a bound, too.

Everything is worked out in exact fractions and rounded once.
"""

import math
from collections.abc import Iterable
from fractions import Fraction


def product(factors: Iterable[float]) -> float:
    """Returns the smallest float that is at least the product; inf for any inf.

    Example:
        >>> product([0.1, 3.0]) > 0.1 * 3, product([0.5, 3.0])
        (False, 1.5)
        >>> product([0.0, math.inf])  # what is unknown may be anything
        inf
    """
    factors = list(factors)
    if math.inf in factors:
        return math.inf
    return round_up(math.prod(map(Fraction, factors), start=Fraction(1)))


def total(terms: Iterable[float]) -> float:
    """Returns the smallest float that is at least the sum; inf for any inf."""
    terms = list(terms)
    if math.inf in terms:
        return math.inf
    return round_up(sum(map(Fraction, terms), start=Fraction(0)))


def root(square: Fraction) -> float:
    """Returns the smallest float found whose square is at least this one.

    Example:
        >>> root(Fraction(1, 4)), Fraction(root(Fraction(2))) ** 2 >= 2
        (0.5, True)
    """
    found = math.sqrt(square)
    while Fraction(found) ** 2 < square:
        found = math.nextafter(found, math.inf)
    return found


def round_up(exact: Fraction) -> float:
    """Returns the smallest float that is at least this number, inf if there is none."""
    try:
        nearest = float(exact)
    except OverflowError:
        return math.inf
    return nearest if nearest >= exact else math.nextafter(nearest, math.inf)
