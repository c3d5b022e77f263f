"""The singular values of each layer of D, as a record keeps them."""

from typing import Any

import numpy as np
from jaxtyping import Float

from examples.study.curves import number, numbers

_POINTS = 65  # of each spectrum in a record


def spectrum(kernel: Float[np.ndarray, "... out"]) -> dict[str, Any]:
    """Returns what a record keeps of a kernel, by float64 SVD of its matrix.

    Returns:
        ``n``, how many singular values there are; ``largest``; ``above_half``, the
        share of them above half the largest; ``effective_rank`` (`effective_rank`);
        and ``relative``, at most 65 of them over the largest, from the first to the
        last at even distances.
    """
    matrix = kernel.astype(np.float64).reshape(-1, kernel.shape[-1])
    if not np.isfinite(matrix).all():
        return {"n": min(matrix.shape), "largest": None}
    values = np.linalg.svd(matrix, compute_uv=False)
    largest = max(float(values[0]), np.finfo(np.float64).tiny)
    picked = np.linspace(0, len(values) - 1, min(_POINTS, len(values))).round()
    return {
        "n": len(values),
        "largest": number(values[0]),
        "above_half": number(np.mean(values > largest / 2)),
        "effective_rank": number(effective_rank(values)),
        "relative": numbers(values[picked.astype(int)] / largest),
    }


def effective_rank(values: Float[np.ndarray, " n"]) -> float:
    """Returns ``exp(-sum(p log p))`` of ``p = values / sum(values)``: from 1 to n.

    Source: Roy and Vetterli, "The effective rank" (2007), definition 1.
    """
    p = values[values > 0] / values.sum()
    return float(np.exp(-np.sum(p * np.log(p))))
