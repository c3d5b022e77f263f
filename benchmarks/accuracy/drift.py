"""Warm: the kernels drift 1 % at each update, the same ones for every method."""

from typing import Any

import numpy as np

from benchmarks.accuracy.field import Field
from benchmarks.accuracy.kernels import Trajectory, true_sigma
from benchmarks.accuracy.method import Kernel, Method, sigma_used

STARTS = ("own", "converged")
_SETTLE = 300  # updates on the first kernel, before it drifts


class _Runner:
    """One method on its way along a trajectory, with its state."""

    def __init__(self, method: Method, first: Kernel, n_before: int):
        self._method = method
        kernel = method.layout(first)
        self._state = method.start(kernel, 0)
        for _ in range(n_before):
            _, self._state = method.step(self._state, kernel)
        self.errors: list[float] = []

    def follow(self, kernel: Kernel, true: float) -> None:
        """Takes one update and notes the error of sigma, which is low if negative."""
        kernel = self._method.layout(kernel)
        used, self._state = self._method.step(self._state, kernel)
        self.errors.append(sigma_used(kernel, used) / true - 1)


def drift(
    field: Field, trajectory: Trajectory, n_updates: int, all_steps: tuple[int, ...]
) -> dict[str, Any]:
    """Returns for each method and number of power steps how far off sigma was.

    From the library's own start, and from one that has settled on the first kernel
    (with one power step for each update, as the default is, for the first).
    """
    first = trajectory.first()
    runners = {
        (name, n, start): _Runner(method, first, _SETTLE * (start == "converged"))
        for start in STARTS
        for n in (all_steps if start == "converged" else (1,))
        for name, method in field.with_steps(n).items()
    }
    for kernel in trajectory.drifting(n_updates):
        true = true_sigma(kernel)
        for runner in runners.values():
            runner.follow(kernel, true)
    rows = [
        {"method": name, "n_steps": n, "start": start}
        | {"passes": field.passes[name, n].update}
        | _summary(runner.errors)
        for (name, n, start), runner in runners.items()
    ]
    return {"kernel": trajectory.name, "updates": n_updates, "rows": rows}


def _summary(errors: list[float]) -> dict[str, Any]:
    size = np.abs(errors)
    return {
        "largest": float(size.max()),
        "median": float(np.median(size)),
        "errors": [float(error) for error in errors],
    }
