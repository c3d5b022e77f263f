"""The judge: a classifier of real images whose features the Frechet distance takes."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Float32, Int

from examples.gan.data import Dataset, batches

FEATURES = 64
_BATCH = 128
_SHIFT = 2  # pixels, each way
_LOOKED_AT = 500  # images at a time


class Judge(NamedTuple):
    """A trained classifier and the share of held-out images that it gets right."""

    params: Any
    accuracy: float
    n_test: int

    def look(
        self, images: Float32[np.ndarray, "n side side channels"]
    ) -> tuple[Int[np.ndarray, " n"], Float32[np.ndarray, "n features"]]:
        """Returns the class that it sees in each image, and the image's features."""
        parts = [
            jax.device_get(_forward(self.params, images[i : i + _LOOKED_AT]))
            for i in range(0, len(images), _LOOKED_AT)
        ]
        classes, features = zip(*parts, strict=True)
        return np.concatenate(classes), np.concatenate(features)


class _Network(nn.Module):
    """Two 5x5 convolutions that halve the side, a layer of features, ten classes."""

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        for width in (24, 48):
            x = nn.relu(nn.Dense(width)(_patches(x)))
        x = nn.relu(nn.Dense(FEATURES)(x.reshape(x.shape[0], -1)))
        return nn.Dense(10)(x), x


def _patches(x: Float[Array, "n side side channels"]) -> Float[Array, "n h w patch"]:
    """Returns the 5x5 pixels around every second pixel, as channels.

    A convolution is then one product of matrices, which XLA does several times faster
    on a CPU than its convolution of small maps.
    """
    side = x.shape[1]
    x = jnp.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=0)
    parts = [
        x[:, i : i + side : 2, j : j + side : 2] for i in range(5) for j in range(5)
    ]
    return jnp.concatenate(parts, axis=-1)


@jax.jit
def _forward(params: Any, images: Array) -> tuple[Array, Array]:
    logits, features = _Network().apply({"params": params}, images)
    return jnp.argmax(logits, axis=-1), jnp.asarray(features)


def train_judge(
    train: Dataset,
    test: Dataset,
    epochs: int,
    tick: Callable[[], object] = lambda: None,
) -> Judge:
    """Trains on every image of ``train``, moved by up to 2 pixels, and tests.

    Its seed is fixed: the same judge looks at every run on the same data. ``tick`` is
    called after each epoch.
    """
    per_epoch = len(train) // _BATCH
    adam = optax.adam(optax.cosine_decay_schedule(2e-3, epochs * per_epoch))
    params = _Network().init(jax.random.key(0), train.images(slice(1)))["params"]
    state = adam.init(params)

    @jax.jit
    def step(params: Any, state: Any, images: Array, labels: Array) -> tuple[Any, Any]:
        def loss(params: Any) -> Float[Array, ""]:
            logits, _ = _Network().apply({"params": params}, images)
            return optax.softmax_cross_entropy_with_integer_labels(
                jnp.asarray(logits), labels
            ).mean()

        updates, state = adam.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    shown = _moved_batches(train)
    for _ in range(epochs):
        for _ in range(per_epoch):
            params, state = step(params, state, *next(shown))
        tick()
    judge = Judge(jax.device_get(params), 0.0, len(test))
    seen, _ = judge.look(test.images(slice(None)))
    return judge._replace(accuracy=float(np.mean(seen == test.labels)))


def _moved_batches(data: Dataset) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields batches of images, each moved by its own number of pixels, and labels."""
    draw = np.random.default_rng(0)
    side = data.pixels.shape[1]
    for (rows,) in batches(len(data), _BATCH, seed=0, first_step=0):
        images = np.pad(
            data.images(rows), ((0, 0), (_SHIFT,) * 2, (_SHIFT,) * 2, (0, 0)), "edge"
        )
        corners = draw.integers(0, 2 * _SHIFT + 1, (len(rows), 2))
        moved = [
            image[i : i + side, j : j + side]
            for image, (i, j) in zip(images, corners, strict=True)
        ]
        yield np.stack(moved), data.labels[rows].astype(np.int32)
