"""The GAN example's dense networks and losses, written out again for its tests."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from examples.gan.data import load, real_on
from examples.gan.mesh import first_state, make_mesh
from examples.gan.networks import networks
from examples.gan.settings import Config
from examples.gan.state import TrainState
from examples.gan.train import make_train_step

N, SEED = 16, np.uint32(3)


def config_of(constraint: str, **options: Any) -> Config:
    options = {"network": "mlp", "loss": "wasserstein"} | options
    return Config("digits", constraint, 5, N, seed=3, data_dir=None, **options)


@functools.cache
def one_step(
    constraint: str, mesh: str | None = None, **options: Any
) -> tuple[TrainState, TrainState, dict[str, Any]]:
    """The state before and after a step, and its metrics; two layers of D are scaled.

    So that some slopes are above one and some below, and one norm of a kernel is.
    """
    config, place = config_of(constraint, **options), make_mesh(mesh)
    state = first_state(config, place)
    factors = {"Dense_1": 0.25, "Dense_3": 24}
    steep = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf * factors.get(path[-2].key, 1),
        state.discriminator,
    )
    state = state._replace(discriminator=steep)
    before = jax.tree.map(np.array, state)  # the step takes its state away
    rows = np.arange(N * config.game.n_dis).reshape(-1, N)
    real = real_on(place, load("digits", None), rows)
    after, metrics = make_train_step(config, place)(state, real, SEED)
    return before, jax.device_get(after), jax.device_get(metrics)


def images_of(config: Config, before: TrainState, i: int = 0) -> tuple[Any, Any]:
    """The i-th real batch, and what the generator at the start draws against it."""
    real = load("digits", None).images(np.arange(N) + N * i)
    key = jax.random.fold_in(jax.random.key(3), 0)
    shape = (config.game.n_dis + 1, N, config.preset.latent)
    z = jax.random.normal(key, shape)[i]
    fake, _ = networks(config)[0].apply(
        before.generator, z, train=True, mutable=["batch_stats"]
    )
    return real, fake


def score(params: Any, x: Any, normalization: str | None = None) -> Any:
    """The dense discriminator, layer by layer."""
    x = jnp.asarray(x).reshape(len(x), -1)
    for i in range(3):
        layer = params[f"Dense_{i}"]
        x = x @ layer["kernel"] + layer["bias"]
        if normalization == "layer-norm":
            x = (x - x.mean(1, keepdims=True)) / jnp.sqrt(
                x.var(1, keepdims=True) + 1e-6
            )
        if normalization == "mean-only":
            x = x - x.mean(0)
        x = jnp.where(x > 0, x, 0.1 * x)
    return (x @ params["Dense_3"]["kernel"] + params["Dense_3"]["bias"])[:, 0]


def slopes(params: Any, x: Any) -> Any:
    """The norm of the score's gradient at each image, one by one, in forward mode."""

    def one(image: Any) -> Any:
        return score(params, image[None])[0]

    return jax.vmap(lambda image: jnp.linalg.norm(jax.jacfwd(one)(image)))(x)


def between(real: Any, fake: Any) -> Any:
    """The points of the gradient penalty of a run's first update."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(3), 0), 0)
    weight = jax.random.uniform(key, (N, 1, 1, 1))
    return weight * real + (1 - weight) * fake


def values(kernel: Any) -> np.ndarray:
    """The singular values of a kernel as a matrix."""
    matrix = np.asarray(kernel, np.float64)
    return np.linalg.svd(matrix.reshape(-1, matrix.shape[-1]), compute_uv=False)


def kernels_of(params: Any) -> dict[str, np.ndarray]:
    """Every kernel, by its path."""
    found = jax.tree_util.tree_leaves_with_path(params)
    return {
        "/".join(key.key for key in path): np.asarray(leaf)
        for path, leaf in found
        if path[-1].key == "kernel"
    }


def divided(params: Any, by: Any) -> Any:
    """The params with every kernel divided by a number of it."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf / by(leaf) if path[-1].key == "kernel" else leaf, params
    )
