"""Whether two groups of runs are in the order that was published."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

REPRODUCED = "reproduced"
OVERLAP = "reproduced, but the seeds' ranges overlap"
NOT_REPRODUCED = "not reproduced"
NOT_MEASURED = "not measured"
SINGLE = "reproduced, of one seed each"

# What a claim says that was not fixed before the first run was made.
LATER = " (rule added when runs had been seen)"


class Finding(NamedTuple):
    """One published ordering beside what was measured here.

    Attributes:
        claim: what was published, as a statement about an order.
        source: where.
        published: its numbers; a dash where none were printed.
        measured: the numbers of this study.
        verdict: one of the five above.
    """

    claim: str
    source: str
    published: str
    measured: str
    verdict: str


def less(low: Sequence[float | None], high: Sequence[float | None]) -> str:
    """Returns the verdict on "``low`` is less than ``high``", by their medians.

    None is a run that has diverged: it is worse than any number. Two groups whose
    medians are both of diverged runs are in no order.
    """
    if not low or not high:
        return NOT_MEASURED
    a, b = numbers(low), numbers(high)
    if not np.median(a) < np.median(b):
        return NOT_REPRODUCED
    if min(len(a), len(b)) == 1:
        return SINGLE
    return REPRODUCED if max(a) < min(b) else OVERLAP


def numbers(values: Sequence[float | None]) -> list[float]:
    """Returns the values, with infinity for a run that has diverged."""
    return [np.inf if value is None else value for value in values]


def both(*verdicts: str) -> str:
    """Returns the weakest of the verdicts on the parts of a claim."""
    order = (NOT_MEASURED, NOT_REPRODUCED, SINGLE, OVERLAP, REPRODUCED)
    return min(verdicts, key=order.index)


def shown(values: Sequence[float | None]) -> str:
    """Returns ``median (smallest to largest)`` in words; one value alone as it is."""
    if not values:
        return "no runs"
    known = numbers(values)
    if len(known) == 1:
        return short(known[0])
    return f"{short(np.median(known))} ({short(min(known))} to {short(max(known))})"


def short(value: float) -> str:
    """Returns a number at three digits; what is not finite has diverged."""
    return f"{value:.3g}" if np.isfinite(value) else "diverged"
