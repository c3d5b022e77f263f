"""The training loop: steps, the progress bar, metrics, checkpoints, Ctrl-C."""

import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from tqdm import tqdm

from examples.gan.checkpoints import Checkpoints
from examples.gan.data import Dataset, batches, images_on
from examples.gan.errors import Diverged
from examples.gan.records import append_metrics
from examples.gan.settings import Config
from examples.gan.state import TrainState
from examples.gan.train import make_train_step

_LOG_EVERY = 10
_SAVE_EVERY = 1_000


def train(
    config: Config,
    mesh: Mesh,
    data: Dataset,
    folder: Path,
    state: TrainState,
    checkpoints: Checkpoints,
) -> TrainState:
    """Trains from ``state`` up to ``config.steps`` and returns the last state.

    Raises:
        Diverged: a loss is not finite; what was saved before stays.
        KeyboardInterrupt: after Ctrl-C, once the step at hand is done and saved.
    """
    train_step = make_train_step(config, mesh)
    done = int(state.step)
    rows = batches(len(data), config.batch_size, config.seed, first_step=done)
    real = (images_on(mesh, data, batch) for batch in rows)
    with _interrupts() as interrupted, _bar(done, config.steps) as bar:
        for step in range(done + 1, config.steps + 1):
            state, metrics = train_step(state, next(real))
            bar.update()
            stop = interrupted()
            save = step % _SAVE_EVERY == 0 or step == config.steps or stop
            log = step % _LOG_EVERY == 0 or step == 1
            if log or save:
                line = _line(step, metrics)
                if log:
                    append_metrics(folder, line)
                    bar.set_postfix(_summary(line))
                if save:
                    checkpoints.save(state)
            if stop:
                raise KeyboardInterrupt(
                    f"Interrupted after step {step:,}; --resume goes on from there."
                )
    return state


def _bar(done: int, steps: int) -> tqdm:
    """A progress bar, which is silent where the output is not a terminal."""
    return tqdm(
        initial=done, total=steps, unit="step", disable=None, dynamic_ncols=True
    )


def _line(step: int, metrics: dict[str, Any]) -> dict[str, Any]:
    """Returns one line of ``metrics.jsonl``."""
    line = {"step": step} | jax.tree.map(float, jax.device_get(metrics))
    if not all(math.isfinite(value) for value in jax.tree.leaves(line)):
        raise Diverged(f"The losses are no longer finite at step {step:,}.")
    return line


def _summary(line: dict[str, Any]) -> dict[str, str]:
    """Returns what the progress bar says: the losses and the largest sigma."""
    return {
        "D": f"{line['d_loss']:.2f}",
        "G": f"{line['g_loss']:.2f}",
        "largest sigma": f"{max(line['sigma'].values()):.2f}",
    }


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether Ctrl-C was pressed; twice is at once."""
    pressed: list[int] = []

    def note(number: int, frame: Any) -> None:
        pressed.append(number)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)
