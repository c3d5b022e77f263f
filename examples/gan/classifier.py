"""A small classifier of the real images: the eye that the score looks with."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Float32, Int

from examples.gan.data import Dataset

_FEATURES = 64
_STEPS = 1_000
_BATCH = 64
_TEST_SHARE = 0.2
_MAX_TEST = 2_000


class _Network(nn.Module):
    """Two convolutions that halve the side, one layer of features, ten classes."""

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        for width in (32, 64):
            x = nn.relu(nn.Conv(width, (3, 3))(x))
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        features = nn.relu(nn.Dense(_FEATURES)(x.reshape(x.shape[0], -1)))
        return nn.Dense(10)(features), features


class Classifier(NamedTuple):
    """A trained classifier and the share of unseen real images that it gets right."""

    params: Any
    test_accuracy: float
    n_test: int

    def look(
        self, images: Float32[np.ndarray, "n side side channels"]
    ) -> tuple[Int[np.ndarray, " n"], Float32[np.ndarray, "n features"]]:
        """Returns the class that it sees in each image, and the image's features."""
        parts = [
            _forward(self.params, images[i : i + 1000])
            for i in range(0, len(images), 1000)
        ]
        classes, features = zip(*parts, strict=True)
        return np.concatenate(classes), np.concatenate(features)


@jax.jit
def _forward(params: Any, images: Array) -> tuple[Array, Array]:
    logits, features = _Network().apply({"params": params}, images)
    return jnp.argmax(logits, axis=-1), jnp.asarray(features)


def train_classifier(data: Dataset) -> Classifier:
    """Tests on a fifth of the images, 2,000 at most, and trains on all the others.

    Its seed is fixed: the same classifier judges every run on the same data.
    """
    order = np.random.default_rng(0).permutation(len(data))
    n_test = min(int(len(data) * _TEST_SHARE), _MAX_TEST)
    test, train = order[:n_test], order[n_test:]
    adam = optax.adam(optax.cosine_decay_schedule(2e-3, _STEPS))
    params = _Network().init(jax.random.key(0), data.images(order[:1]))["params"]
    state = adam.init(params)

    @jax.jit
    def step(params: Any, state: Any, images: Array, labels: Array):
        def loss(params: Any) -> Float[Array, ""]:
            logits, _ = _Network().apply({"params": params}, images)
            return optax.softmax_cross_entropy_with_integer_labels(
                logits, labels
            ).mean()

        updates, state = adam.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    picker = np.random.default_rng(1)
    for _ in range(_STEPS):
        rows = picker.choice(train, _BATCH)
        labels = data.labels[rows].astype(np.int32)
        params, state = step(params, state, data.images(rows), labels)
    classifier = Classifier(params, 0.0, n_test)
    seen, _ = classifier.look(data.images(test))
    return classifier._replace(test_accuracy=float(np.mean(seen == data.labels[test])))
