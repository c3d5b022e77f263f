"""The GAN example's residual networks: Miyato et al. 2018, Table 4, in NumPy."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
from scipy.signal import correlate

from examples.gan.networks import networks
from examples.gan.presets import PRESETS
from examples.gan.settings import Config
from examples.gan.state import init_state
from tests.examples.gan_by_hand import config_of, kernels_of, one_step, values
from tests.exhaustive import exhaustive


def conv(x: np.ndarray, layer: Any) -> np.ndarray:
    """The convolution with zeros around, one channel onto another at a time."""
    kernel, bias = (np.asarray(layer[name], np.float64) for name in ("kernel", "bias"))
    n_in, n_out = kernel.shape[2:]
    return np.stack(
        [
            bias[o]
            + sum(
                correlate(x[..., i], kernel[None, :, :, i, o], mode="same")
                for i in range(n_in)
            )
            for o in range(n_out)
        ],
        axis=-1,
    )


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def halved(x: np.ndarray) -> np.ndarray:
    rows = x[:, ::2] + x[:, 1::2]
    return (rows[:, :, ::2] + rows[:, :, 1::2]) / 4


def doubled(x: np.ndarray) -> np.ndarray:
    return np.kron(x, np.ones((1, 2, 2, 1)))


def noisy(params: Any) -> Any:
    """The same params with biases, scales and means that are not those of the start."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda x: x + 0.1 * rng.standard_normal(x.shape) if x.ndim == 1 else x, params
    )


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> Config:
    """A run of both networks with 4 channels."""
    preset = dataclasses.replace(
        PRESETS["digits"],
        residual_generator_widths=(4, 4, 4),
        residual_discriminator_width=4,
    )
    monkeypatch.setitem(PRESETS, "digits", preset)
    return config_of("sn", network="resnet", loss="hinge", activation="relu")


@exhaustive
def test_a_score_by_hand(narrow: Config):
    state = init_state(narrow)
    params = jax.tree.map(np.asarray, noisy(state.discriminator))
    c = [params[f"Conv_{i}"] for i in range(10)]
    images = np.random.default_rng(1).standard_normal((3, 8, 8, 1))
    # Down: no activation in front of the image, and its shortcut is pooled first.
    x = halved(conv(relu(conv(images, c[0])), c[1])) + conv(halved(images), c[2])
    x = halved(conv(relu(conv(relu(x), c[3])), c[4])) + halved(conv(x, c[5]))
    x = conv(relu(conv(relu(x), c[6])), c[7]) + x
    x = conv(relu(conv(relu(x), c[8])), c[9]) + x
    features = relu(x).sum(axis=(1, 2))
    want = features @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
    found = networks(narrow)[1].apply({"params": params}, images.astype(np.float32))
    assert np.ptp(want) > 0.1
    np.testing.assert_allclose(found, want[:, 0], rtol=1e-4, atol=1e-5)


@exhaustive
def test_an_image_by_hand(narrow: Config):
    variables = jax.tree.map(np.asarray, noisy(init_state(narrow).generator))
    params, means = variables["params"], variables["batch_stats"]
    z = np.random.default_rng(1).standard_normal((3, 64))

    def bend(x: np.ndarray, i: int) -> np.ndarray:
        scale, now = params[f"BatchNorm_{i}"], means[f"BatchNorm_{i}"]
        x = (x - now["mean"]) / np.sqrt(now["var"] + 1e-5)
        return relu(x * scale["scale"] + scale["bias"])

    x = z @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
    x = x.reshape(3, 2, 2, 4)
    for i in (0, 1):
        c = [params[f"Conv_{3 * i + j}"] for j in range(3)]
        y = conv(bend(conv(doubled(bend(x, 2 * i)), c[0]), 2 * i + 1), c[1])
        x = y + conv(doubled(x), c[2])
    want = np.tanh(conv(bend(x, 4), params["Conv_6"]))
    found = networks(narrow)[0].apply(variables, z.astype(np.float32), train=False)
    assert want.std() > 0.01
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("which", "n_weights"),
    [
        # dense 128 to 4096; three blocks of two 3x3 and a 1x1; to 3 channels
        (0, 129 * 4096 + 3 * (2 * 2305 + 257) * 256 + 7 * 512 + 2305 * 3),
        # 3x3 of 3 channels, six of 128 and one after the first; 1x1 of 3 and of 128
        (1, (28 + 7 * 1153 + 4 + 129) * 128 + 129),
    ],
)
def test_the_papers_sizes(which: int, n_weights: int):
    """By hand from Table 4, with its 256 and 128 channels."""
    config = Config("cifar10", "sn", 5, 16, seed=0, data_dir=None, network="resnet")
    state = jax.eval_shape(lambda: init_state(config))
    params = (state.generator["params"], state.discriminator)[which]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == n_weights


@exhaustive
def test_its_step_normalizes_and_moves_every_kernel(narrow: Config):
    before, after, metrics = one_step(
        "sn", network="resnet", loss="hinge", activation="relu"
    )
    kernels = kernels_of(before.discriminator)
    assert len(kernels) == len(metrics["sigma"]) == 11
    for name, kernel in kernels.items():
        sigma = metrics["sigma"][name.removesuffix("/kernel")]
        assert sigma == pytest.approx(values(kernel)[0], rel=1e-2)
        assert not np.array_equal(kernel, kernels_of(after.discriminator)[name])
    for name, kernel in kernels_of(before.generator["params"]).items():
        moved = kernels_of(after.generator["params"])[name]
        assert not np.array_equal(kernel, moved), name
