"""Time of an update of every method, side by side, in ratios to none's."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from examples.gan.data import batches, real_on
from examples.gan.mesh import first_state, make_mesh
from examples.gan.train import make_train_step
from examples.study.about import about
from examples.study.curves import number, numbers
from examples.study.held_out import load_both
from examples.study.methods import LOSSES
from examples.study.plan import Job
from examples.study.study import Study, config_of

LOSS = "wasserstein"


def measure(
    study: Study, network: str, methods: Sequence[str], rounds: int, updates: int = 5
) -> dict[str, Any]:
    """Returns the times; in a round every method makes ``updates`` updates in turn.

    A ratio is taken within a round, so that what slows the machine for a while slows
    both of its numbers.
    """
    train, _ = load_both(study.dataset, study.data_dir)
    jobs = [Job(network, LOSS, LOSSES[LOSS], method, 0) for method in methods]
    configs = [config_of(study, job, train.crc32()) for job in jobs]
    runners = [_runner(config, train, updates) for config in configs]
    seconds = np.empty((rounds, len(jobs)))
    for i in tqdm(range(rounds), unit="round", dynamic_ncols=True, disable=None):
        # Each round begins with another method: none is always the first.
        for j in np.roll(np.arange(len(jobs)), -i):
            began = time.perf_counter()
            runners[j]()
            seconds[i, j] = (time.perf_counter() - began) / updates
    config = configs[0]
    return {
        "network": network,
        "loss": LOSS,
        "setting": config.setting,
        "n_dis": config.game.n_dis,
        "batch_size": config.batch_size,
        "rounds": rounds,
        "updates": updates,
        **about(),
        "ratios": ratios(methods, seconds),
    }


def ratios(
    methods: Sequence[str], seconds: Float[np.ndarray, "rounds methods"]
) -> dict[str, dict[str, Any]]:
    """Returns for each method the quartiles of its ratio to none, round by round."""
    none = seconds[:, methods.index("none")]
    return {
        method: {
            "quartiles": numbers(np.quantile(of_it / none, (0.25, 0.5, 0.75))),
            "milliseconds": number(1000 * np.median(of_it)),
        }
        for method, of_it in zip(methods, seconds.T, strict=True)
    }


def _runner(config: Any, train: Any, updates: int) -> Callable[[], None]:
    """Returns a function that makes updates of a compiled step, and waits for them."""
    mesh = make_mesh(None)
    step, seed = make_train_step(config, mesh), np.uint32(config.seed)
    rows = batches(len(train), config.batch_size, config.seed, 0, config.game.n_dis)
    real = [real_on(mesh, train, next(rows)) for _ in range(updates)]
    held = [step(first_state(config, mesh), real[0], seed)[0]]

    def run() -> None:
        for batch in real:
            held[0], _ = step(held[0], batch, seed)
        jax.block_until_ready(held[0])

    run()
    return run
