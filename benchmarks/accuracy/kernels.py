"""The kernels that are measured, how they drift, and their true sigma.

A trajectory is made anew from its seed each time it is asked for, so every method sees
the same kernels, and 200 of them need not be held.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from benchmarks.accuracy.method import Kernel

DRIFT = 0.01  # of the kernel's Frobenius norm, at each step


class Trajectory(NamedTuple):
    """A kernel that moves, in float64: ``base(t)``, t from 0 to 1, and a random walk.

    Attributes:
        name: as the tables print it.
        shape: last axis out.
        base: the kernel without the walk.
    """

    name: str
    shape: tuple[int, ...]
    base: Callable[[float], np.ndarray]

    def first(self) -> Kernel:
        """Returns the kernel before it drifts."""
        return self.base(0.0).astype(np.float32)

    def drifting(self, n_steps: int) -> Iterator[Kernel]:
        """Yields the kernel after each step, each 1 % away from the one before."""
        rng = np.random.default_rng(7)
        walk = np.zeros(self.shape)
        for step in range(1, n_steps + 1):
            now = self.base(step / n_steps)
            noise = rng.standard_normal(self.shape)
            walk += DRIFT * np.linalg.norm(now) / np.linalg.norm(noise) * noise
            yield (now + walk).astype(np.float32)


def trajectories(quick: bool) -> list[Trajectory]:
    """Returns the four trajectories; the quick ones are smaller."""
    dense, conv, gap = (
        ((256, 512), (3, 3, 32, 64), (256, 512))  # one shape: compiled once
        if quick
        else ((1024, 4608), (3, 3, 512, 512), (512, 1024))
    )
    rng = np.random.default_rng(0)
    gaussian = rng.standard_normal(dense)
    lecun = rng.standard_normal(conv) / math.sqrt(math.prod(conv[:-1]))
    return [
        Trajectory(f"Gaussian {_spell(dense)}", dense, lambda t: gaussian),
        Trajectory(f"LeCun {_spell(conv)}", conv, lambda t: lecun),
        _designed("gap .999", gap, lambda t: 0.999 ** np.arange(gap[0])),
        _designed("overtaking", gap, lambda t: _overtaking(gap[0], t)),
    ]


def _overtaking(n: int, t: float) -> np.ndarray:
    """The first singular value sinks to .9, the second rises to 1: they cross."""
    return np.concatenate(
        [[1 - 0.1 * t, 0.9 + 0.1 * t], 0.8 * 0.99 ** np.arange(n - 2)]
    )


def _designed(
    name: str, shape: tuple[int, int], spectrum: Callable[[float], np.ndarray]
) -> Trajectory:
    """Returns ``U diag(s(t)) V^T`` with random orthogonal factors."""
    rng = np.random.default_rng(1)
    left, _ = np.linalg.qr(rng.standard_normal((shape[0], shape[0])))
    right, _ = np.linalg.qr(rng.standard_normal((shape[1], shape[0])))
    name = f"{name}, {_spell(shape)}"
    return Trajectory(name, shape, lambda t: (left * spectrum(t)) @ right.T)


def _spell(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def true_sigma(kernel: Kernel) -> float:
    """Returns the largest singular value of the matrix view (last axis out).

    In float64, as the root of the Gram matrix' largest eigenvalue: the largest one is
    as right as an SVD's (1e-15), at a tenth of the time.
    """
    matrix = np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1])
    if matrix.shape[0] < matrix.shape[1]:
        matrix = matrix.T
    if not np.isfinite(matrix).all():
        return math.nan
    return float(np.sqrt(np.linalg.eigvalsh(matrix.T @ matrix)[-1]))
