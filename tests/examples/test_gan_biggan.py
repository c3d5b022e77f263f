"""The GAN example's BigGAN: both networks normalized, and classes that matter."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from examples.gan.data import load, real_on
from examples.gan.maker import Maker
from examples.gan.mesh import first_state, make_mesh
from examples.gan.networks import networks
from examples.gan.presets import PRESETS
from examples.gan.score import sample
from examples.gan.state import TrainState, by_name, d_kernels
from examples.gan.train import make_train_step
from tests.examples.gan_by_hand import (
    SEED,
    N,
    config_of,
    divided,
    kernels_of,
    values,
)
from tests.exhaustive import exhaustive

# All need its step, which compiles for long: that of SN-GAN's networks runs by default.
pytestmark = exhaustive
CONFIG = config_of("sn", network="biggan", loss="hinge", activation="relu")
Step = tuple[TrainState, TrainState, dict[str, Any]]


@pytest.fixture(scope="module")
def step() -> Iterator[Step]:
    """The state before and after a step of narrow networks, and its metrics.

    They start orthogonal: for a norm that is not one, their kernels are made larger.
    """
    narrow = dataclasses.replace(
        PRESETS["digits"],
        residual_generator_widths=(8, 8, 8),
        biggan_discriminator_width=8,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "digits", narrow)
        mesh, data = make_mesh("data=2"), load("digits", None)
        state = first_state(CONFIG, mesh)
        larger = divided(state.generator["params"], lambda kernel: 1 / 1.7)
        state = state._replace(
            generator=state.generator | {"params": larger},
            discriminator=divided(state.discriminator, lambda kernel: 1 / 1.7),
        )
        before = jax.tree.map(np.array, state)
        real = real_on(mesh, data, np.arange(N)[None])
        after, metrics = make_train_step(CONFIG, mesh)(state, real, SEED)
        yield before, jax.device_get(after), jax.device_get(metrics)


def by_svd(params: Any) -> Any:
    return divided(params, lambda kernel: values(kernel)[0])


def test_every_kernel_of_both_has_norm_one(step: Step):
    _, state, _ = step
    params = state.generator["params"]
    raw = kernels_of(params)
    g_used, _ = Maker.of(CONFIG).constrain(params, state.carried, update_stats=False)
    # Two dense layers in each of four normalizations, one in front; 7 convolutions.
    assert sum("ConditionalBatchNorm" in name for name in raw) == 8
    assert len(raw) == 16
    d_used = d_kernels(CONFIG, state)
    assert set(d_used["Dense_1"]) == {"kernel"}  # the projection of the ten classes
    assert d_used["Dense_1"]["kernel"].shape == (10, 8)
    for name, kernel in (kernels_of(g_used) | kernels_of(d_used)).items():
        assert values(kernel)[0] == pytest.approx(1, abs=0.02), name
    assert min(values(kernel)[0] for kernel in raw.values()) > 1.6
    fused = kernels_of(Maker.of(CONFIG).fused(state.average)["params"])
    for name, kernel in fused.items():
        assert values(kernel)[0] == pytest.approx(1, abs=1e-4), name


def test_the_losses_by_hand(step: Step):
    before, after, metrics = step
    generator, discriminator = networks(CONFIG)
    key = jax.random.fold_in(jax.random.key(3), 0)
    z = jax.random.normal(key, (2, N, 64))
    drawn = jax.random.randint(jax.random.fold_in(key, 1), (2, N), 0, 10)
    g_used = by_svd(before.generator["params"])
    data = load("digits", None)
    fakes = [
        generator.apply(
            before.generator | {"params": g_used},
            *(z[i], drawn[i]),
            train=True,
            mutable=["batch_stats"],
        )[0]
        for i in (0, 1)
    ]

    def scores(params: Any, images: Any, labels: Any) -> Any:
        return discriminator.apply({"params": by_svd(params)}, images, labels)

    real = scores(before.discriminator, data.images(slice(N)), data.labels[:N])
    fake = scores(before.discriminator, fakes[0], drawn[0])
    want = jnp.mean(jnp.maximum(0, 1 - real)) + jnp.mean(jnp.maximum(0, 1 + fake))
    assert metrics["d_loss"] == pytest.approx(float(want), rel=2e-3)
    want = -jnp.mean(scores(after.discriminator, fakes[1], drawn[1]))
    want += sum(1e-4 * np.sum(off(w) ** 2) for w in raw_matrices(before))
    assert metrics["g_loss"] == pytest.approx(float(want), rel=2e-2, abs=2e-4)


def off(matrix: np.ndarray) -> np.ndarray:
    gram = matrix.T @ matrix
    return gram - np.diag(np.diag(gram))


def raw_matrices(state: TrainState) -> list[np.ndarray]:
    kernels = kernels_of(state.generator["params"]).values()
    return [kernel.reshape(-1, kernel.shape[-1]) for kernel in kernels]


def test_the_generators_gradient_passes_through_its_norm(step: Step):
    """A kernel's scale does not matter: but for the penalty they are orthogonal."""
    before, after, _ = step
    moments = after.generator_adam.inner_state[0].mu  # half of the first gradient
    kernels = kernels_of(before.generator["params"])
    assert any(np.abs(off(matrix)).max() > 0.1 for matrix in raw_matrices(before))
    for name, moment in kernels_of(moments).items():
        matrix = kernels[name].reshape(-1, kernels[name].shape[-1])
        gradient = 2 * moment.reshape(matrix.shape) - 4e-4 * matrix @ off(matrix)
        length = np.linalg.norm(gradient) * np.linalg.norm(matrix)
        assert length > 0
        assert abs(np.sum(gradient * matrix)) < 2e-2 * length + 1e-6, name


def test_the_class_decides_what_is_drawn_and_judged(step: Step):
    _, state, _ = step
    generator, discriminator = networks(CONFIG)
    z = np.zeros((10, 64), np.float32)
    images = generator.apply(state.average, z, np.arange(10), train=False)
    assert len(np.unique(np.asarray(images), axis=0)) == 10
    used = d_kernels(CONFIG, state)
    scores = discriminator.apply(
        {"params": used}, images[:1].repeat(10, 0), np.arange(10)
    )
    assert len(np.unique(np.asarray(scores))) == 10
    drawn = sample(CONFIG, state.average, 20)
    assert drawn.shape == (20, 8, 8, 1)


def test_its_state_moves_once_in_a_step(step: Step):
    before, after, _ = step
    for name, sn in by_name(after.carried["generator_sn"]).items():
        was = by_name(before.carried["generator_sn"])[name]
        assert was["sigma"] == pytest.approx(1, abs=1e-2)
        kernel = kernels_of(before.generator["params"])[f"{name}/kernel"]
        assert sn["sigma"] == pytest.approx(values(kernel)[0], rel=1e-2), name
