"""The curves of a run as a record keeps them: its first updates, and means of bins."""

from typing import Any

import numpy as np
from jaxtyping import Float

FIRST = 200  # updates: as long as the write-up's Figures 1 to 3
BINS = 200
_DIGITS = 5
_KEYS = ("gradient_norm", "g_loss", "d_loss", "penalty")


def kept(metrics: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the curves of a whole run.

    Args:
        metrics: what each update returned, from the first on.

    Returns:
        ``first``, every one of the first updates, and ``binned``, the mean of each bin
        with the last update in it as ``step``.
    """
    series = {
        key: np.array([line[key] for line in metrics], np.float64)
        for key in _KEYS
        if metrics and key in metrics[0]
    }
    edges = bin_edges(len(metrics))
    return {
        "first": {key: numbers(values[:FIRST]) for key, values in series.items()},
        "binned": {"step": edges[1:].tolist()}
        | {key: numbers(bin_means(values, edges)) for key, values in series.items()},
    }


def bin_edges(n: int) -> np.ndarray:
    """Returns the ends of at most `BINS` bins of about the same length, from 0 to n."""
    return np.linspace(0, n, min(BINS, n) + 1).round().astype(int)


def bin_means(
    values: Float[np.ndarray, " n"], edges: np.ndarray
) -> Float[np.ndarray, " bins"]:
    """Returns the mean of what is finite between each two edges; NaN for nothing."""
    finite = np.isfinite(values)
    sums = np.concatenate([[0], np.cumsum(np.where(finite, values, 0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    filled = np.diff(counts[edges])
    return np.where(filled > 0, np.diff(sums[edges]) / np.maximum(filled, 1), np.nan)


def numbers(values: Any) -> list[float | None]:
    """Returns the values at 5 significant digits, None for what is not finite."""
    return [number(value) for value in values]


def number(value: Any) -> float | None:
    """Returns the value at 5 significant digits, None if it is not finite."""
    return float(f"{value:.{_DIGITS}g}") if np.isfinite(value) else None
