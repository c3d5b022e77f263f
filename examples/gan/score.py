"""The score: a Frechet distance between real and generated images, and the classes."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Float32

from examples.gan.classifier import train_classifier
from examples.gan.data import Dataset
from examples.gan.maker import Maker
from examples.gan.settings import Config
from examples.gan.state import TrainState, Tree, init_state

_MAX_REAL = 5_000
_N_FAKE = 2_000
_N_CLASSIFIED = 1_000


def score(config: Config, state: TrainState, data: Dataset) -> dict[str, Any]:
    """Returns what ``score.json`` holds.

    Every distance is between features of a classifier that was trained on the real
    images: it compares with other runs on the same data, not with published numbers.
    """
    classifier = train_classifier(data)
    order = np.random.default_rng(2).permutation(len(data))[:_MAX_REAL]
    _, real = classifier.look(data.images(order))
    half = len(real) // 2
    _, untrained = classifier.look(sample(config, init_state(config).average, _N_FAKE))
    classes, trained = classifier.look(sample(config, state.average, _N_FAKE))
    counts = np.bincount(classes[:_N_CLASSIFIED], minlength=10)
    distance = frechet_distance(real, trained)
    return {
        "step": int(state.step),
        "classifier_test_accuracy": classifier.test_accuracy,
        "n_test": classifier.n_test,
        "n_real": len(real),
        "n_fake": len(trained),
        "distance": distance,
        "distance_untrained": (before := frechet_distance(real, untrained)),
        "distance_real_to_real": frechet_distance(real[:half], real[half:]),
        "untrained_over_trained": before / distance,
        "n_classified": _N_CLASSIFIED,
        "class_counts": counts.tolist(),
        "smallest_class_share": float(counts.min() / _N_CLASSIFIED),
    }


def sample(
    config: Config, variables: Tree, n: int
) -> Float32[np.ndarray, "n side side channels"]:
    """Draws ``n`` images from the same latent vectors for every run and generator.

    A generator that knows the classes draws one of each in turn.
    """
    maker, latent = Maker.of(config), config.preset.latent
    variables = maker.fused(variables)

    @jax.jit
    def draw(z: Any, labels: Any) -> Any:
        return maker.network.apply(variables, z, labels, train=False)

    z = np.random.default_rng(3).standard_normal((n, latent), dtype=np.float32)
    labels = np.arange(n, dtype=np.int32) % 10
    parts = [slice(i, i + 250) for i in range(0, n, 250)]
    return np.concatenate([draw(z[part], labels[part]) for part in parts])


def frechet_distance(
    a: Float[np.ndarray, "n features"], b: Float[np.ndarray, "m features"]
) -> float:
    """Returns ``|mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))``, in float64.

    The trace of the last root is the sum of the roots of the eigenvalues of the
    symmetric ``C_a^(1/2) C_b C_a^(1/2)``, which has the same ones as ``C_a C_b``.

    Source: Heusel et al. 2017, arXiv 1706.08500, equation 6.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    common = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    shift = np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2)
    return float(shift + np.trace(cov_a) + np.trace(cov_b) - 2 * common)
