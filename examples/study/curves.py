"""The curves of a run as a record keeps them: its first updates, and means of bins."""

from typing import Any

import numpy as np
from jaxtyping import Float

FIRST = 200  # updates: as long as the write-up's Figures 1 to 3
BINS = 200
_DIGITS = 5
KEYS = ("gradient_norm", "generator_loss", "critic_loss", "penalty")


def kept(metrics: list[dict[str, Any]], *, first: bool = True) -> dict[str, Any]:
    """Returns the curves of a whole run.

    Args:
        metrics: what each update showed (`line`), from the first on.
        first: whether the first updates are to be kept one by one.

    Returns:
        ``first``, every one of the first updates, and ``binned``, the mean of each bin
        with the last update in it as ``step``.
    """
    series = {
        key: np.array([line[key] for line in metrics], np.float64)
        for key in KEYS
        if metrics and key in metrics[0]
    }
    edges, alone = bin_edges(len(metrics)), FIRST if first else 0
    return {
        "first": {key: numbers(values[:alone]) for key, values in series.items()},
        "binned": {"step": edges[1:].tolist()}
        | {key: numbers(bin_means(values, edges)) for key, values in series.items()},
    }


def line(metrics: dict[str, Any]) -> dict[str, float]:
    """Returns an update's numbers under their names here.

    The critic's loss is without its penalty, which is beside it: with one, the losses
    of two methods would not be the same quantity.
    """
    penalty = metrics.get("penalty")
    shown = {
        "gradient_norm": float(metrics["gradient_norm"]),
        "generator_loss": float(metrics["g_loss"]),
        "critic_loss": float(metrics["d_loss"]) - float(penalty or 0.0),
    }
    return shown if penalty is None else shown | {"penalty": float(penalty)}


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
