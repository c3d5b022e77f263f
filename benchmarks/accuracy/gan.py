"""The first updates of the GAN example: the norm of the kernels that D multiplies by.

The example trains on the digits with specjax. Its raw discriminator kernels, before
each update, are the sequence that every method follows, each from its own start.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.accuracy.field import Field
from benchmarks.accuracy.kernels import true_sigma
from benchmarks.accuracy.method import Kernel, Method
from examples.gan.data import batches, load, real_on
from examples.gan.mesh import first_state, make_mesh
from examples.gan.settings import CHOICES, Config, new_config
from examples.gan.train import make_train_step

Kernels = dict[str, Kernel]

_ASKED = ("constraint", *CHOICES, "batch_size", "seed", "data_dir", "operator")


def gan(field: Field, n_updates: int, every: int = 1) -> dict[str, Any]:
    """Returns, for each method, the largest and the median norm at each update.

    The norm is the float64 one of the normalized kernel's matrix; the bound is 1. Of
    D's six kernels, every one or every second, ... is followed.
    """
    sequence = [dict(list(one.items())[::every]) for one in discriminators(n_updates)]
    norms = {
        name: _norms(method, sequence) for name, method in field.with_steps(1).items()
    }
    return {
        "updates": n_updates,
        "kernels": {name: list(kernel.shape) for name, kernel in sequence[0].items()},
        "norms": {
            name: {"largest": _list(x.max(1)), "median": _list(np.median(x, 1))}
            for name, x in norms.items()
        },
    }


def discriminators(n_updates: int) -> Iterator[Kernels]:
    """Yields D's raw kernels before each update of a training run, from the first."""
    config = _config(n_updates)
    mesh, data = make_mesh(None), load(config.dataset, None)
    state = first_state(config, mesh)
    rows = batches(len(data), config.batch_size, config.seed, first_step=0)
    real = (real_on(mesh, data, batch) for batch in rows)
    first = next(real)
    # Compiled in haste: there are few steps to run.
    jitted: Any = make_train_step(config, mesh)
    seed = np.uint32(config.seed)
    lowered = jitted.lower(state, first, seed)
    step = lowered.compile({"xla_backend_optimization_level": 0})
    for images in itertools.islice(itertools.chain([first], real), n_updates):
        # A copy: the step takes the state's memory.
        yield {k: np.array(v["kernel"]) for k, v in state.discriminator.items()}
        state, _ = step(state, images, seed)


def _config(n_updates: int) -> Config:
    options: dict[str, Any] = dict.fromkeys(_ASKED)
    return new_config(options | {"dataset": "digits", "steps": n_updates})


def _norms(method: Method, sequence: list[Kernels]) -> np.ndarray:
    """Returns the norm of each normalized kernel: (updates, kernels)."""
    laid_out = [{k: method.layout(v) for k, v in one.items()} for one in sequence]
    states = {name: method.start(kernel, 0) for name, kernel in laid_out[0].items()}
    norms = []
    for kernels in laid_out:
        row = []
        for name, kernel in kernels.items():
            used, states[name] = method.step(states[name], kernel)
            row.append(true_sigma(np.asarray(used)))
        norms.append(row)
    return np.array(norms)


def _list(values: np.ndarray) -> list[float]:
    return [float(value) for value in values]
