"""What the figures, tables and orderings read out of the records, seed by seed."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from examples.gan.errors import UserError
from examples.study.methods import LOSSES, METHODS, SETTINGS
from examples.study.records import Record


class Curves(NamedTuple):
    """A curve of each of some runs, all over the same updates."""

    steps: Float[np.ndarray, " n"]
    rows: Float[np.ndarray, "runs n"]


def chosen(records: Iterable[Record], **wanted: Any) -> list[Record]:
    """Returns the records with these values, by seed."""
    found = [r for r in records if all(r[key] == wanted[key] for key in wanted)]
    return sorted(found, key=lambda record: record["seed"])


def compared(records: Iterable[Record], method: str, loss: str) -> list[Record]:
    """Returns a method's runs in the setting in which this loss compares all."""
    return chosen(records, method=method, loss=loss, setting=LOSSES[loss])


def methods_of(records: Iterable[Record]) -> list[str]:
    """Returns the methods that have a record, in the order of all figures."""
    there = {record["method"] for record in records}
    return [name for name in METHODS if name in there]


def losses_of(records: Iterable[Record]) -> list[str]:
    """Returns the losses under which methods are compared.

    Raises:
        UserError: there is no such run among the records.
    """
    pairs = {(record["loss"], record["setting"]) for record in records}
    there = [loss for loss in LOSSES if (loss, LOSSES[loss]) in pairs]
    if not there:
        expected = " or ".join(f"{loss} with {LOSSES[loss]}" for loss in LOSSES)
        raise UserError(
            "The records hold no run in a setting in which all methods are compared: "
            f"expected {expected}."
        )
    return there


def settings_of(records: Iterable[Record]) -> list[str]:
    """Returns the settings that have a record, in order."""
    there = {record["setting"] for record in records}
    return [name for name in SETTINGS if name in there]


def first_updates(records: list[Record], key: str) -> Curves:
    """Returns a curve of each run over its first updates, NaN where it is shorter."""
    curves = [record["curves"]["first"].get(key, []) for record in records]
    length = max(map(len, curves), default=0)
    rows = np.full((len(curves), length), np.nan)
    for row, curve in zip(rows, curves, strict=True):
        row[: len(curve)] = np.array(curve, np.float64)
    return Curves(np.arange(1, length + 1), rows)


def whole_runs(records: list[Record], key: str) -> Curves:
    """Returns a curve of each run at the ends of the longest run's bins.

    A run that has diverged early has bins of its own, and NaN from its end on.
    """
    binned = [record["curves"]["binned"] for record in records]
    steps = np.array(max((one["step"] for one in binned), key=_end, default=[]))
    rows = np.full((len(binned), len(steps)), np.nan)
    for row, one in zip(rows, binned, strict=True):
        curve = np.array(one.get(key, []), np.float64)
        known = np.isfinite(curve)
        if known.any():
            at = np.array(one["step"])[known]
            row[:] = np.interp(steps, at, curve[known], left=np.nan, right=np.nan)
    return Curves(steps, rows)


def _end(steps: list[int]) -> int:
    return steps[-1] if steps else 0


def distances(records: Iterable[Record]) -> list[float | None]:
    """Returns each run's distance; None for one that has diverged."""
    return [record["score"]["distance"] for record in records]


def median_distance(records: Iterable[Record]) -> float | None:
    """Returns the median over the runs, a diverged one being the worst; None: it is.

    None without runs, too.
    """
    known = [np.inf if d is None else d for d in distances(records)]
    middle = float(np.median(known)) if known else np.inf
    return middle if np.isfinite(middle) else None
