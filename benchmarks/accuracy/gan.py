"""The first updates of the GAN example: the norm of the kernels that D multiplies by.

The example trains on the digits with specjax, once for each seed. Its raw discriminator
kernels, before each update, are the sequence that every method follows, each from its
own start.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from jax.sharding import Mesh

from benchmarks.accuracy.field import Field
from benchmarks.accuracy.kernels import true_sigma
from benchmarks.accuracy.method import Kernel, Method
from examples.gan.data import Real, batches, load, real_on
from examples.gan.mesh import first_state, make_mesh
from examples.gan.settings import CHOICES, Config, new_config
from examples.gan.state import TrainState
from examples.gan.train import make_train_step

Kernels = dict[str, Kernel]

_ASKED = ("constraint", *CHOICES, "batch_size", "seed", "data_dir", "operator")


def gan(
    field: Field, n_updates: int, n_seeds: int = 1, every: int = 1
) -> dict[str, Any]:
    """Returns, for each method, the largest and the median norm at each update.

    The norm is the float64 one of the normalized kernel's matrix; the bound is 1. Of
    D's six kernels, every one or every second, ... is followed. A curve for each seed.
    """
    methods = field.with_steps(1)
    largest: dict[str, list[list[float]]] = {name: [] for name in methods}
    median: dict[str, list[list[float]]] = {name: [] for name in methods}
    shapes: dict[str, list[int]] = {}
    for seed, run in enumerate(discriminators(n_updates, n_seeds)):
        sequence = [dict(list(one.items())[::every]) for one in run]
        shapes = {name: list(kernel.shape) for name, kernel in sequence[0].items()}
        for name, method in methods.items():
            norms = _norms(method, sequence, seed)
            largest[name].append(norms.max(1).tolist())
            median[name].append(np.median(norms, 1).tolist())
    return {
        "updates": n_updates,
        "kernels": shapes,
        "norms": {
            name: {"largest": largest[name], "median": median[name]} for name in methods
        },
    }


def discriminators(n_updates: int, n_seeds: int = 1) -> Iterator[list[Kernels]]:
    """Yields D's raw kernels before each update from the first, a run a seed."""
    mesh = make_mesh(None)
    config = _config(n_updates)
    data, step = load(config.dataset, None), None
    for seed in range(n_seeds):
        config = dataclasses.replace(config, seed=seed)
        state = first_state(config, mesh)
        rows = batches(len(data), config.batch_size, seed, first_step=0)
        kernels = []
        for batch in itertools.islice(rows, n_updates):
            real = real_on(mesh, data, batch)
            # The seed is an argument: one program for all runs.
            step = step or _compiled(config, mesh, state, real)
            # A copy: the step takes the state's memory.
            held = state.discriminator.items()
            kernels.append({k: np.array(v["kernel"]) for k, v in held})
            state, _ = step(state, real, np.uint32(seed))
        yield kernels


def _compiled(config: Config, mesh: Mesh, state: TrainState, real: Real) -> Any:
    """Returns the training step, compiled in haste: there are few to run."""
    jitted: Any = make_train_step(config, mesh)
    lowered = jitted.lower(state, real, np.uint32(0))
    return lowered.compile({"xla_backend_optimization_level": 0})


def _config(n_updates: int) -> Config:
    options: dict[str, Any] = dict.fromkeys(_ASKED)
    return new_config(options | {"dataset": "digits", "steps": n_updates})


def _norms(method: Method, sequence: list[Kernels], seed: int = 0) -> np.ndarray:
    """Returns the norm of each normalized kernel: (updates, kernels)."""
    laid_out = [{k: method.layout(v) for k, v in one.items()} for one in sequence]
    states = {name: method.start(kernel, seed) for name, kernel in laid_out[0].items()}
    norms = []
    for kernels in laid_out:
        row = []
        for name, kernel in kernels.items():
            used, states[name] = method.step(states[name], kernel)
            row.append(true_sigma(np.asarray(used)))
        norms.append(row)
    return np.array(norms)
