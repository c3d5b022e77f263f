"""Odd polynomials that bring singular values to one: which, and how many.

A polynomial ``x (a + b x^2 + c x^4)`` of the singular values is a product of the matrix
with its own squares, so it needs no SVD. Each row here is one step of an iteration.
"""

import functools
import math
from typing import TypeAlias

import numpy as np
from jax.typing import DTypeLike

from specjax import errors
from specjax._options import check_options

Step: TypeAlias = tuple[float, float, float]

# Muon's: the steepest start that still ends near one, in 0.68 to 1.203.
MUON: Step = (3.4445, -4.7750, 2.0315)
# That of Newton and Schulz, where all singular values are close to one: they end as
# close as the cube of where they were.
_LAST: Step = (15 / 8, -10 / 8, 3 / 8)
# The first steps rise by 13 at one: what rounding puts above one would be lost.
_ROOM = 1.01
# Made for smaller values a step would bring others, near one, down to those,
# and their rounding would count as much: twice the error at .02, without a step less.
_CUSHION = 0.1


def muon_steps(n_steps: int = 5) -> tuple[Step, ...]:
    """Returns the steps of Muon: quick, and not to one but to 0.68 to 1.203.

    Source: Jordan et al., "Muon: An Optimizer for Hidden Layers in Neural Networks"
    (2024).

    Example:
        >>> muon_steps(2)
        ((3.4445, -4.775, 2.0315), (3.4445, -4.775, 2.0315))
    """
    check_options(n_steps=n_steps)
    return (MUON,) * n_steps


def newton_schulz_steps(least: float, tolerance: float = 1e-6) -> tuple[Step, ...]:
    """Returns the steps that bring ``[least, 1]`` to within `tolerance` of one.

    Args:
        least: the smallest singular value that must come to one, as a part of the
            kernel's Frobenius norm.
        tolerance: how far from one it may end; both between 0 and 1.

    Raises:
        ValueError: for numbers that are not between 0 and 1.

    Example:
        >>> len(newton_schulz_steps(1e-3)), len(newton_schulz_steps(1e-6))
        (8, 13)

    Source: as `minimax`.
    """
    for name, value in (("least", least), ("tolerance", tolerance)):
        if not 0 < value < 1:
            message = errors.message(
                name,
                got=str(value),
                need="a number between 0 and 1",
                fix=f"{name}=1e-3",
            )
            raise ValueError(message)
    return minimax(float(least), float(tolerance))


def convergent(dtype: DTypeLike) -> tuple[Step, ...]:
    """Returns the steps after which values above roundoff are one, up to roundoff.

    Example:
        >>> len(convergent("float32")), len(convergent("float64"))
        (14, 30)
    """
    eps = float(np.finfo(np.dtype(dtype)).eps)
    return minimax(eps, eps)


@functools.cache
def minimax(least: float, tolerance: float) -> tuple[Step, ...]:
    """Returns the steps that bring ``[least, 1]`` to within `tolerance` of one.

    Each is the polynomial of degree five that is closest to one on what the steps
    before have left of the interval, divided by its maximum: values in [0, 1] stay in
    it. But for what is left to rounding, no iteration of that degree needs less steps.

    Args:
        least: the smallest singular value that must come to one; above 0.
        tolerance: how far from one it may end.

    Source: Amsel et al., "The Polar Express: Optimal Matrix Sign Methods and Their
    Application to the Muon Algorithm" (2025), Theorem 3.1; there the interval is not
    brought back to one after each step, but in the next one.
    """
    steps: list[Step] = []
    while (1 - least) ** 3 > tolerance:
        step, error = closest_to_one(max(least, _CUSHION))
        top = (1 + error) * (_ROOM if least < 0.5 else 1)
        a, b, c = (coefficient / top for coefficient in step)
        steps.append((a, b, c))
        least *= a + b * least**2 + c * least**4
    return (*steps, _LAST)


def closest_to_one(least: float) -> tuple[Step, float]:
    """Returns the polynomial closest to one on ``[least, 1]``, and how close that is.

    By Remez' exchange: it is as far from one, below and above in turn, at both ends and
    at its two extrema between.

    Example:
        >>> step, error = closest_to_one(1e-3)
        >>> [round(c, 4) for c in step], round(error, 4)
        ([8.4703, -25.1081, 18.6293], 0.9915)
    """
    left, right, last = (3 * least + 1) / 4, (least + 3) / 4, -1.0
    signs = np.array([1.0, -1.0, 1.0, -1.0])
    while True:
        points = np.array([least, left, right, 1.0])
        rows = np.stack([points, points**3, points**5, signs], axis=1)
        a, b, c, error = map(float, np.linalg.solve(rows, np.ones(4)))
        error = abs(error)
        # It rises from exchange to exchange until rounding is all that is left.
        if error <= last + 1e-15:
            return (a, b, c), error
        root = math.sqrt(9 * b * b - 20 * a * c)
        left, right = (math.sqrt((-3 * b + s * root) / (10 * c)) for s in (-1, 1))
        last = error
