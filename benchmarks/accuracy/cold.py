"""Cold: each method from its own start on a kernel that stays, update after update."""

from typing import Any

import numpy as np

from benchmarks.accuracy.field import Field
from benchmarks.accuracy.kernels import Trajectory, true_sigma
from benchmarks.accuracy.method import Kernel, Method, Passes, sigma_used
from benchmarks.accuracy.ours import krylov, two_vectors

_SHOWN = (1, 2, 3, 5, 7, 10, 14, 20, 30, 50, 70, 100)
_ROOMS = {"specjax.warm_up": krylov, "specjax.power_iteration": two_vectors}
_DIMENSIONS = (1, 2, 4, 8, 16, 32, 48, 64)


def cold(field: Field, trajectory: Trajectory, n_seeds: int) -> dict[str, Any]:
    """Returns each method's curve: updates, passes so far, and the error of sigma.

    The error is ``|sigma / true - 1|``, the median over starts from `n_seeds` seeds.
    The two functions inside specjax are measured from a random u in the same way, after
    fewer numbers of steps if there is one seed.
    """
    kernel = trajectory.first()
    true = true_sigma(kernel)
    curves = {
        name: _curve(method, field.passes[name, 1], kernel, true, n_seeds)
        for name, method in field.with_steps(1).items()
    }
    for name, room in _ROOMS.items():
        curves[name] = _room_curve(room, kernel, true, n_seeds)
    return {"kernel": trajectory.name, "sigma": true, "curves": curves}


def _curve(
    method: Method, passes: Passes, kernel: Kernel, true: float, n_seeds: int
) -> dict[str, Any]:
    runs = [
        _errors(method, method.layout(kernel), true, seed) for seed in range(n_seeds)
    ]
    errors = np.median(runs, axis=0)
    return {
        "updates": list(_SHOWN),
        "passes": [passes.start + n * passes.update for n in _SHOWN],
        "errors": [float(errors[n - 1]) for n in _SHOWN],
    }


def _errors(method: Method, kernel: Kernel, true: float, seed: int) -> list[float]:
    state, errors = method.start(kernel, seed), []
    for _ in range(_SHOWN[-1]):
        used, state = method.step(state, kernel)
        errors.append(abs(sigma_used(kernel, used) / true - 1))
    return errors


def _room_curve(room: Any, kernel: Kernel, true: float, n_seeds: int) -> dict[str, Any]:
    dimensions = _DIMENSIONS if n_seeds > 1 else _DIMENSIONS[2::3]
    found = [room(kernel, n, n_seeds) for n in dimensions]
    return {
        "updates": list(dimensions),
        "passes": [one.passes for one in found],
        "errors": [
            float(np.median(np.abs(np.divide(one.sigmas, true) - 1))) for one in found
        ],
    }
