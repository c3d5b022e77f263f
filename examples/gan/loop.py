"""The training loop: steps, the progress bar, metrics, checkpoints, Ctrl-C."""

import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from examples.gan.data import batches, real_on
from examples.gan.errors import Diverged
from examples.gan.processes import is_first, several
from examples.gan.records import append_metrics
from examples.gan.start import Run
from examples.gan.state import TrainState
from examples.gan.train import make_train_step

_LOG_EVERY = 10
_MAX_SKIPPED = 10  # updates in a row


def train(run: Run) -> TrainState:
    """Trains up to ``config.steps`` and returns the last state.

    Raises:
        Diverged: too many updates in a row were denied; what was saved before stays.
        KeyboardInterrupt: after Ctrl-C, once the step at hand is done and saved.
    """
    folder, config, mesh, data, state, checkpoints = run
    train_step = make_train_step(config, mesh)
    done = int(state.step)
    n_dis, seed = config.game.n_dis, np.uint32(config.seed)
    rows = batches(len(data), config.batch_size, config.seed, done, n_dis)
    real = (real_on(mesh, data, each) for each in rows)
    with _interrupts() as interrupted, _bar(done, config.steps) as bar:
        for step in range(done + 1, config.steps + 1):
            state, metrics = train_step(state, next(real), seed)
            bar.update()
            stop = interrupted()
            save = step % checkpoints.every == 0 or step == config.steps or stop
            log = step % _LOG_EVERY == 0 or step == 1
            if log or save:
                line = _line(step, metrics)
                if log:
                    if is_first():
                        append_metrics(folder, line)
                    bar.set_postfix(_summary(line))
                if save:
                    checkpoints.save(config, state)
            if stop:
                raise KeyboardInterrupt(
                    f"Interrupted after step {step:,}; --resume goes on from there."
                )
    return state


def _bar(done: int, steps: int) -> tqdm:
    """A progress bar, which is silent where the output is not a terminal."""
    silent = None if is_first() else True
    return tqdm(
        initial=done, total=steps, unit="step", disable=silent, dynamic_ncols=True
    )


def _line(step: int, metrics: dict[str, Any]) -> dict[str, Any]:
    """Returns one line of ``metrics.jsonl``, with null for what is not finite."""
    metrics = jax.device_get(metrics)
    if metrics["skipped"] > _MAX_SKIPPED:
        raise Diverged(
            f"The gradients are no longer finite at step {step:,}: "
            f"{metrics['skipped']} updates in a row were skipped."
        )
    return {"step": step} | jax.tree.map(_finite, metrics)


def _finite(number: Any) -> float | None:
    return number.item() if math.isfinite(number) else None


def _summary(line: dict[str, Any]) -> dict[str, str]:
    """Returns what the progress bar says: the losses and the largest sigma."""
    values = {
        "D": line["d_loss"],
        "G": line["g_loss"],
        "largest sigma": max(line["sigma"].values(), key=lambda x: x or 0.0),
    }
    return {
        name: "not finite" if value is None else f"{value:.2f}"
        for name, value in values.items()
    }


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether Ctrl-C was pressed; twice is at once.

    In one of several processes it is at once, too: the others would go on to the next
    step and wait there.
    """
    if several():
        yield lambda: False
        return
    pressed: list[int] = []

    def note(number: int, frame: Any) -> None:
        pressed.append(number)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)
