"""Measures what normalizing a discriminator costs in a GAN training step at batch 64.

    python -m benchmarks.operator_step [--dataset digits] [--out operator_step.json]

Device: a CPU with 2 cores (any will do). Time: about 8 minutes, most of it compiling.
Three forms of the example's training step: without normalization, with that of the
reshaped kernels (sn), and with that of the convolutions as operators. They run one
after another, in a new order in each round; "time" is the median over the rounds of the
ratio to the step without normalization in the same round, with the quartiles.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np

import specjax as sx
from examples.gan.data import Real
from examples.gan.mesh import make_mesh
from examples.gan.settings import Config
from examples.gan.state import init_state
from examples.gan.train import new_train_step

_FORMS = ("none", "sn", "operator")
_DATASETS = {"digits": 200, "cifar10": 20}  # the rounds for each
_BATCH = 64
_HEADER = ("discriminator", "form", "ms a step", "time", "quartiles", "GFLOP", "MB")


def prepare(dataset: str, form: str) -> tuple[Any, Callable[[], None]]:
    """Returns a compiled training step, and a function that takes one."""
    config = Config(dataset, "sn", 1, _BATCH, 0, None, operator=form == "operator")
    state, side = init_state(config), config.preset.side
    shape = (1, _BATCH, side, side, config.preset.channels)
    images = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    real: Any = Real(images, np.zeros(shape[:2], np.int32))
    seed = np.uint32(0)
    with mock.patch.object(sx, "sn_apply", sx.sn_apply if form != "none" else _as_is):
        jitted: Any = new_train_step(config, make_mesh(None))
        compiled = jitted.lower(state, real, seed).compile()
    held = [state]

    def step() -> None:
        held[0], _ = jax.block_until_ready(compiled(held[0], real, seed))

    return compiled, step


def _as_is(params: Any, state: Any, **options: Any) -> tuple[Any, Any]:
    del options
    return params, state


def measure(dataset: str, n_rounds: int) -> list[dict[str, Any]]:
    """Returns a row for each form of the step."""
    prepared = {form: prepare(dataset, form) for form in _FORMS}
    seconds = _time({form: step for form, (_, step) in prepared.items()}, n_rounds)
    rows = []
    for form, (compiled, _) in prepared.items():
        low, middle, high = np.quantile(
            seconds[form] / seconds["none"], (0.25, 0.5, 0.75)
        )
        counts = compiled.cost_analysis()
        rows.append({
            "dataset": dataset,
            "form": form,
            "rounds": n_rounds,
            "milliseconds": 1e3 * float(np.median(seconds[form])),
            "ratio": float(middle),
            "quartiles": [float(low), float(high)],
            "flops": counts["flops"],
            "bytes": counts["bytes accessed"],
        })  # fmt: skip
    return rows


def _time(steps: dict[str, Callable[[], None]], n_rounds: int) -> dict[str, Any]:
    """Returns the seconds of every form, an entry for each round."""
    rng = np.random.default_rng(0)
    seconds = {form: np.zeros(n_rounds) for form in steps}
    for step in steps.values():
        step()
    for i in range(n_rounds):
        for form in rng.permutation(list(steps)):
            start = time.perf_counter()
            steps[form]()
            seconds[form][i] = time.perf_counter() - start
    return seconds


def main() -> None:
    """Prints the table, and writes it as JSON if that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.operator_step")
    add = parser.add_argument
    add(
        "--dataset",
        choices=_DATASETS,
        action="append",
        help="repeatable (default: all)",
    )
    add("--rounds", type=int, help="(default: 200 for digits, 20 for cifar10)")
    add("--out", type=Path, help="a JSON file to write")
    options = parser.parse_args()
    device = jax.devices()[0]
    about = {"device": f"{device.device_kind} ({platform.machine()})"}
    about |= {"jax": jax.__version__, "batch": _BATCH}
    print(", ".join(f"{key} {value}" for key, value in about.items()), "\n")
    rows = []
    for dataset in options.dataset or _DATASETS:
        rows += measure(dataset, options.rounds or _DATASETS[dataset])
    _print(rows)
    if options.out:
        options.out.write_text(json.dumps(about | {"rows": rows}, indent=2) + "\n")


def _print(rows: list[dict[str, Any]]) -> None:
    print("| " + " | ".join(_HEADER) + " |")
    print("|---|---|" + "---:|" * (len(_HEADER) - 2))
    for row in rows:
        low, high = row["quartiles"]
        cells = (
            row["dataset"],
            row["form"],
            f"{row['milliseconds']:.1f}",
            f"{row['ratio']:.3f}",
            f"{low:.3f} to {high:.3f}",
            f"{row['flops'] / 1e9:.3f}",
            f"{row['bytes'] / 1e6:.0f}",
        )
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
