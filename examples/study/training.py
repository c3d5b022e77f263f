"""The updates of one run, and where it diverges."""

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from examples.gan.data import Dataset, batches, real_on
from examples.gan.mesh import make_mesh
from examples.gan.settings import Config
from examples.gan.state import TrainState
from examples.gan.train import make_train_step
from examples.study.curves import line

Tick = Callable[[int], object]

_CHECKED = 10  # updates whose images are in the checksum
_TOGETHER = 50  # updates between two looks at the metrics
_MAX_SKIPPED = 10  # updates in a row, as in the GAN example


class Trained(NamedTuple):
    """A run at its end.

    Attributes:
        state: after its last update.
        lines: the numbers of each update (`curves.line`).
        diverged_at: the update at which too many in a row had been denied, or None.
        batches: a checksum of the images of the first ten updates.
    """

    state: TrainState
    lines: list[dict[str, float]]
    diverged_at: int | None
    batches: int


def train(config: Config, state: TrainState, data: Dataset, tick: Tick) -> Trained:
    """Makes the run's updates; ``tick`` is told how many were made, now and then."""
    mesh, n_dis = make_mesh(None), config.game.n_dis
    step, seed = make_train_step(config, mesh), np.uint32(config.seed)
    rows = batches(len(data), config.batch_size, config.seed, 0, n_dis)
    lines: list[dict[str, float]] = []
    waiting: list[dict[str, Any]] = []
    crc = 0
    for i in range(1, config.steps + 1):
        shown = next(rows)
        if i <= _CHECKED:
            crc = zlib.crc32(data.pixels[shown].tobytes(), crc)
        state, metrics = step(state, real_on(mesh, data, shown), seed)
        waiting.append(metrics)
        if len(waiting) < _TOGETHER and i < config.steps:
            continue
        for found in jax.device_get(waiting):
            lines.append(line(found))
            if found["skipped"] > _MAX_SKIPPED:
                return Trained(state, lines, len(lines), crc)
        tick(len(waiting))
        waiting = []
    return Trained(state, lines, None, crc)
