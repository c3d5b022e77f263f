"""Functions of singular values, by float64 SVD, and the spectra that they are tried on.

Nothing here is of specjax but the rules that say what a case's matrices are.
"""

import numpy as np

from tests.cases import designed

EPS = float(np.finfo(np.float32).eps)


def spectra(n: int) -> dict[str, np.ndarray]:
    """Returns spectra of n values: small gaps, ties, no full rank, on the bound."""
    small = 1e-4 * np.random.default_rng(1).standard_normal(n)
    return {
        "linear": np.linspace(3, 0.01, n),
        "around one": np.sort(1 + small)[::-1],
        "ties": np.repeat([2, 1.5, 0.5, 0.1], -(-n // 4))[:n],
        "rank two": np.r_[5, 2, np.zeros(n - 2)],
        "rank one": np.r_[3, np.zeros(n - 1)],
        "decades": 1e3 * np.logspace(0, -5, n),
        "all inside": 1e-3 * np.linspace(1, 0.1, n),
    }


def of_values(matrix: np.ndarray, function) -> np.ndarray:
    """Returns ``U function(S) V^H`` of a matrix or a stack of them."""
    left, values, right = np.linalg.svd(np.asarray(matrix), full_matrices=False)
    return (left * function(values)[..., None, :]) @ right


def values_of(matrix) -> np.ndarray:
    """Returns the singular values in float64."""
    kind = np.complex128 if np.iscomplexobj(matrix) else np.float64
    return np.linalg.svd(np.asarray(matrix).astype(kind), compute_uv=False)


def complex_designed(n_in: int, n_out: int, spectrum: np.ndarray) -> np.ndarray:
    """Returns a complex matrix of that spectrum."""
    rng = np.random.default_rng(5)
    draw = lambda n: rng.standard_normal((n, n)) + 1j * rng.standard_normal((n, n))  # noqa: E731
    left, right = np.linalg.qr(draw(n_in))[0], np.linalg.qr(draw(n_out))[0]
    middle = np.zeros((n_in, n_out))
    np.fill_diagonal(middle, spectrum)
    return left @ middle @ right


def derivative(function, matrix: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Returns the change of ``U function(S) V^H``, by central differences."""
    step = 1e-6
    above, below = (of_values(matrix + s * change, function) for s in (step, -step))
    return (above - below) / (2 * step)


__all__ = [
    "EPS",
    "complex_designed",
    "derivative",
    "designed",
    "of_values",
    "spectra",
    "values_of",
]
