"""The GAN example meets a batch of NaN: nothing that is carried takes it in."""

import functools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from examples.gan import __main__ as program
from examples.gan import loop
from examples.gan.__main__ import main
from examples.gan.checkpoints import Checkpoints
from examples.gan.data import Real, batches, load, real_on
from examples.gan.mesh import first_state, make_mesh
from examples.gan.pictures import _means, draw_curves
from examples.gan.records import read_config
from examples.gan.report import exact_sigma
from examples.gan.settings import Config
from examples.gan.train import make_train_step
from tests.exhaustive import exhaustive

CONFIG = Config("digits", "sn", steps=30, batch_size=8, seed=5, data_dir=None)
SEED = np.uint32(CONFIG.seed)
OPTIONS = ["--batch-size", "8", "--seed", "5", "--steps"]


@functools.cache
def train_step() -> Any:
    return make_train_step(CONFIG, make_mesh(None))


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[int]]:
    """The steps (from 1) whose real batch is NaN, for a run in this process."""
    steps: set[int] = set()
    asked = [0]

    def read(*arguments: Any) -> Real:
        asked[0] += 1
        real = real_on(*arguments)
        bad = asked[0] in steps
        return real._replace(images=real.images * math.nan) if bad else real

    monkeypatch.setattr(loop, "real_on", read)
    monkeypatch.setattr(program, "_finish", lambda *arguments: None)
    return steps


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """The metrics by a strict reader of JSON, which has no word for NaN."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


@exhaustive
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_batch_changes_neither_network_nor_average(bad: float):
    """D and its Adam stay bit for bit; G's step has no real image in it."""
    data, mesh = load("digits", None), make_mesh(None)
    step, state = train_step(), first_state(CONFIG, mesh)
    rows = batches(len(data), 8, 5, first_step=0)
    for _ in range(3):
        state, _ = step(state, real_on(mesh, data, next(rows)), SEED)
    before = jax.device_get(state)
    real = real_on(mesh, data, next(rows))
    real = real._replace(images=real.images.at[0, 2, 3].set(bad))
    state, metrics = step(state, real, SEED)
    after = jax.device_get(state)
    assert not np.isfinite(metrics["d_loss"])
    assert int(metrics["skipped"]) == 1
    same = np.testing.assert_array_equal
    jax.tree.map(same, after.discriminator, before.discriminator)
    inner = [each.discriminator_adam.inner_state for each in (before, after)]
    jax.tree.map(same, *inner)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))
    for _ in range(6):
        state, metrics = step(state, real_on(mesh, data, next(rows)), SEED)
        values = jax.device_get(metrics)
        assert all(np.isfinite(value) for value in jax.tree.leaves(values))
        assert values["skipped"] == 0
    moved = jax.tree.map(np.array_equal, after.discriminator, state.discriminator)
    assert not any(layer["kernel"] for layer in moved.values())
    for name, layer in jax.device_get(state.discriminator).items():
        # At most the exact one, and below it by no more than in a run without it.
        ratio = state.sn[name]["kernel"]["sigma"] / exact_sigma(layer["kernel"])
        assert 0.97 < ratio < 1.01


@exhaustive
def test_a_generator_step_that_is_not_finite_keeps_the_batch_statistics():
    data, mesh = load("digits", None), make_mesh(None)
    state = first_state(CONFIG, mesh)
    params = state.generator["params"]
    kernel = params["ConvTranspose_0"]["kernel"].at[0, 0, 0, 0].set(math.inf)
    params = params | {"ConvTranspose_0": {"kernel": kernel}}
    state = state._replace(generator=state.generator | {"params": params})
    before = jax.device_get(state)
    rows = next(batches(len(data), 8, 5, first_step=0))
    state, metrics = train_step()(state, real_on(mesh, data, rows), SEED)
    after = jax.device_get(state)
    assert int(metrics["skipped"]) == 1
    same = np.testing.assert_array_equal
    jax.tree.map(same, after.generator, before.generator)


@exhaustive
def test_a_run_goes_on_after_a_bad_batch(poisoned: set[int], tmp_path: Path):
    poisoned |= {10}
    folder = tmp_path / "run"
    assert main([*OPTIONS, "20", "--out", str(folder)]) == 0
    first, bad, last = lines_of(folder)
    assert (bad["step"], bad["d_loss"], bad["skipped"]) == (10, None, 1)
    assert bad["g_loss"] is not None
    assert all(isinstance(value, float) for value in bad["sigma"].values())
    for line in (first, last):
        assert line["d_loss"] is not None
    assert last["skipped"] == 0
    state = Checkpoints(folder).restore(read_config(folder), make_mesh(None))
    assert state is not None
    assert int(state.discriminator_adam.total_notfinite) == 1
    draw_curves(tmp_path / "curves.png", lines_of(folder), CONFIG)  # with the gap
    assert (tmp_path / "curves.png").stat().st_size > 20_000


@exhaustive
def test_a_run_of_bad_batches_ends_in_one_sentence(
    poisoned: set[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    poisoned |= set(range(6, 100))
    folder = tmp_path / "run"
    options = ["--save-every", "5", "--out", str(folder)]
    assert main([*OPTIONS, "40", *options]) == 1
    assert capsys.readouterr().err == (
        "The gradients are no longer finite at step 20: 15 updates in a row were "
        "skipped.\n"
    )
    state = Checkpoints(folder).restore(read_config(folder), make_mesh(None))
    assert state is not None
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


def test_a_mean_leaves_gaps_out():
    values = np.array([1.0, math.nan, 3.0, 5.0, math.nan, math.nan])
    np.testing.assert_allclose(_means(values, 2), [1, 3, 4, 5, math.nan])
