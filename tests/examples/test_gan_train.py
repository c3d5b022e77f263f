"""The GAN example's one step: against losses and norms that are worked out here."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import specjax as sx
from examples.gan.data import load, real_on
from examples.gan.mesh import make_mesh
from examples.gan.networks import networks
from examples.gan.report import exact_sigma, kernel_rows
from examples.gan.settings import Config
from examples.gan.state import TrainState, init_state
from examples.gan.train import make_train_step
from tests.exhaustive import exhaustive, sampled

N = 24


def config_of(constraint: str) -> Config:
    return Config("digits", constraint, steps=5, batch_size=N, seed=3, data_dir=None)


@functools.cache
def one_step(constraint: str) -> tuple[TrainState, TrainState, dict[str, Any]]:
    """Returns the state before and after the first step, and its metrics."""
    config = config_of(constraint)
    before = init_state(config)
    kept = jax.tree.map(jnp.copy, before)  # the step takes its state away
    mesh, rows = make_mesh(None), np.arange(N)[None]
    real = real_on(mesh, load("digits", None), rows)
    after, metrics = make_train_step(config, mesh)(before, real, np.uint32(3))
    return kept, after, metrics


def real_batch() -> jax.Array:
    return jnp.asarray(load("digits", None).images(slice(N)))


def by_svd(params: Any) -> Any:
    """Divides every kernel by its exact largest singular value."""
    return {
        name: layer | {"kernel": layer["kernel"] / exact_sigma(np.asarray(kernel))}
        for name, layer in params.items()
        for kernel in [layer["kernel"]]
    }


@pytest.mark.parametrize("constraint", sampled(["sn", "none"], ["sn"]))
def test_one_step_against_the_definition(constraint: str):
    before, after, metrics = one_step(constraint)
    config, real = config_of(constraint), real_batch()
    generator, discriminator = networks(config)
    used = before.discriminator
    if constraint == "sn":
        used = by_svd(used)

    def scores(params: Any, images: jax.Array) -> jax.Array:
        return jnp.asarray(discriminator.apply({"params": params}, images))

    key = jax.random.fold_in(jax.random.key(config.seed), 0)
    z = jax.random.normal(key, (2, N, config.preset.latent))
    fake, _ = generator.apply(
        before.generator, z[0], train=True, mutable=["batch_stats"]
    )
    expected = jnp.mean(jnp.maximum(0, 1 - scores(used, real)))
    expected += jnp.mean(jnp.maximum(0, 1 + scores(used, fake)))
    assert metrics["d_loss"] == pytest.approx(float(expected), rel=1e-3)

    used = after.discriminator
    if constraint == "sn":
        used = by_svd(used)
    fake, _ = generator.apply(
        before.generator, z[1], train=True, mutable=["batch_stats"]
    )
    expected = -jnp.mean(scores(used, fake))
    assert metrics["g_loss"] == pytest.approx(float(expected), rel=2e-2, abs=1e-4)


def test_the_gradient_norm_against_forward_differentiation():
    before, _, metrics = one_step("sn")
    _, discriminator = networks(config_of("sn"))
    used = by_svd(before.discriminator)

    def score(image: jax.Array) -> jax.Array:
        return jnp.asarray(discriminator.apply({"params": used}, image[None]))[0]

    norms = [jnp.linalg.norm(jax.jacfwd(score)(image)) for image in real_batch()[:16]]
    assert metrics["gradient_norm"] == pytest.approx(float(np.mean(norms)), rel=1e-3)


def test_every_kernel_of_the_discriminator_is_normalized():
    _, after, _ = one_step("sn")
    raw = [row["exact"] for row in kernel_rows(config_of("sn"), after)]
    used, _ = sx.sn_apply(after.discriminator, after.sn)
    norms = [exact_sigma(np.asarray(layer["kernel"])) for layer in used.values()]
    assert len(norms) == 6
    assert max(raw) > 1.5  # it is not the kernels as they are that are small
    assert max(norms) <= 1.01
    assert min(norms) >= 0.99


@exhaustive
def test_both_constraints_start_from_the_same_networks_and_report_sigma():
    before_sn, _, metrics = one_step("sn")
    before_none, after, metrics_none = one_step("none")
    jax.tree.map(np.testing.assert_array_equal, before_sn, before_none)
    exact = {
        name: exact_sigma(np.asarray(layer["kernel"]))
        for name, layer in before_none.discriminator.items()
    }
    assert metrics_none["sigma"] == pytest.approx(exact, rel=1e-2)
    assert metrics["sigma"] == pytest.approx(exact, rel=1e-2)
    for row in kernel_rows(config_of("sn"), after):
        assert row["relative_error"] == pytest.approx(
            abs(row["carried"] / row["exact"] - 1), rel=1e-6
        )


def test_everything_moves_once_per_step():
    before, after, _ = one_step("sn")
    assert (int(before.step), int(after.step)) == (0, 1)
    for name in ("discriminator", "generator", "average"):
        same = jax.tree.map(np.array_equal, getattr(before, name), getattr(after, name))
        kernels = [
            value
            for path, value in jax.tree_util.tree_leaves_with_path(same)
            if "bias" not in str(path[-1])
        ]
        assert not any(kernels), name
