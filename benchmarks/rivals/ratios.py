"""Ratios round by round: machines are noisy, so no absolute time is a result."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Spread(NamedTuple):
    """The median over the rounds, and the quartiles."""

    low: float
    median: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Returns the quartiles of some numbers."""
    low, median, high = np.quantile(np.asarray(values), (0.25, 0.5, 0.75))
    return Spread(float(low), float(median), float(high))


def uncertainty(low: float, high: float, n: int) -> float:
    """Returns how far a median of n numbers may be off, from their quartiles.

    Two medians that are further apart than both their numbers together differ, in 19 of
    20 cases.

    Source: McGill, Tukey and Larsen, "Variations of Box Plots" (1978): the notch.
    """
    return 1.57 * (high - low) / n**0.5


def ratio(times: Mapping[str, Sequence[float]], name: str, plain: str) -> Spread:
    """Returns how many times as long one takes as another, in the same rounds.

    Args:
        times: in each round, by name.
        name: of the one.
        plain: of the other.

    Raises:
        ValueError: if they have not as many rounds.
    """
    if len(times[name]) != len(times[plain]):
        raise ValueError(
            f"{name!r} has {len(times[name])} rounds and {plain!r} has "
            f"{len(times[plain])}; a ratio needs the same ones."
        )
    return spread(np.divide(times[name], times[plain]).tolist())
