"""What the figures, tables and orderings read out of the records, seed by seed."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float

from examples.study.methods import LOSSES, METHODS, SETTINGS
from examples.study.records import Record


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


def settings_of(records: Iterable[Record]) -> list[str]:
    """Returns the settings that have a record, in order."""
    there = {record["setting"] for record in records}
    return [name for name in SETTINGS if name in there]


def stacked(records: list[Record], part: str, key: str) -> Float[np.ndarray, "runs n"]:
    """Returns a curve of each run, with NaN where a run is shorter or has a gap."""
    curves = [record["curves"][part].get(key, []) for record in records]
    length = max(map(len, curves), default=0)
    rows = np.full((len(curves), length), np.nan)
    for row, curve in zip(rows, curves, strict=True):
        row[: len(curve)] = np.array(curve, np.float64)
    return rows


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
