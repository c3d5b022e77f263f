"""Every rival is the same network, trained alike, and normalized as far as it says.

The oracles: the plain network in Linen, published numbers of parameters, and the
float64 SVD of the kernel that a convolution is seen to multiply by.
"""

import functools

import jax
import numpy as np
import pytest

from benchmarks.rivals import nets
from benchmarks.rivals.field import FIELD
from benchmarks.rivals.weights import layers_of, problem, weights

PLAIN = [rival for rival in FIELD if rival.plain is None]
NORMALIZED = [rival for rival in FIELD if rival.plain]
SMALL = {
    "cnn": (functools.partial(nets.cnn, width=1), (8, 8, 3)),
    "biggan": (functools.partial(nets.biggan, channels=2), (128, 128, 1)),
    "vit": (functools.partial(nets.vit, width=128, depth=1, patch=4), (8, 8, 3)),
}


def named(rivals):
    return pytest.mark.parametrize("rival", rivals, ids=lambda rival: rival.name)


def prepared(rival, about):
    """Returns the training, and its two functions jitted where they can be."""
    if rival.missing():
        pytest.skip(rival.missing())
    training = rival.prepare(about)
    jit = (lambda function: function) if training.eager else jax.jit
    return training, jit(training.step), jit(training.forward)


@functools.cache
def scores_in_linen(net):
    return scores(PLAIN[0], net)


def scores(rival, net):
    about = problem(*SMALL[net])
    training, _, forward = prepared(rival, about)
    x = random_inputs(2, about.image_shape)
    return np.asarray(forward(training.carried, training.inputs(x)))


def random_inputs(n, shape, seed=1):
    drawn = np.random.default_rng(seed).uniform(-1, 1, (n, *shape))
    return drawn.astype(np.float32)


@pytest.mark.parametrize("net", SMALL)
@named(PLAIN[1:])
def test_plain_networks_give_the_same_scores(rival, net):
    found = scores(rival, net)
    assert found.shape == (2, 1)
    np.testing.assert_allclose(found, scores_in_linen(net), rtol=1e-4, atol=1e-4)


@functools.cache
def losses(rival, passes):
    about = problem(functools.partial(nets.mlp, width=8), (6,), passes)
    training, step, _ = prepared(rival, about)
    carried, found = training.carried, []
    for i in range(12):  # other inputs each time, so that Adam's memory matters
        real, fake = (random_inputs(4, (6,), 2 * i + j) for j in (0, 1))
        carried, loss = step(carried, training.inputs(real), training.inputs(fake))
        found.append(float(loss))
    return found


@named(PLAIN)
def test_plain_networks_train_alike(rival):
    expected = losses(PLAIN[0], 1)
    assert len(set(expected)) == 12
    np.testing.assert_allclose(losses(rival, 1), expected, rtol=2e-6)
    np.testing.assert_allclose(losses(rival, 2), expected, rtol=2e-6)


def one_convolution(layers, x):
    return layers.flatten(layers.conv("conv", x, 5, 3))


@named(NORMALIZED)
def test_the_kernel_has_the_norm_that_the_rival_gives_it(rival):
    training, step, forward = prepared(rival, problem(one_convolution, (3, 3, 2)))
    # No input, no gradient: the kernel stays, and each step is a power step.
    nothing = training.inputs(np.zeros((18, 3, 3, 2), np.float32))
    carried = training.carried
    for _ in range(40):
        carried, _ = step(carried, nothing, nothing)
    each_pixel = training.inputs(np.eye(18, dtype=np.float32).reshape(18, 3, 3, 2))
    seen = np.float64(forward(carried, each_pixel))
    seen -= np.float64(forward(carried, nothing))
    kernel = seen[:, 4 * 5 : 5 * 5]  # what every input adds to the pixel in the middle
    assert np.linalg.norm(kernel, 2) == pytest.approx(1, abs=2e-3)
    start = problem(one_convolution, (3, 3, 2)).weights["conv/kernel"].reshape(18, 5)
    assert abs(np.linalg.norm(start, 2) - 1) > 0.1


# torchvision's vit_b_16 has 86,567,656 parameters: with a head for 1,000 classes, and a
# class token that has a position. BigGAN-PyTorch's D for 128x128 has 87,982,370: with
# an embedding of 1,000 classes, and without biases in its attention.
PUBLISHED = {
    "vit": (nets.vit, (224, 224, 3), 86_567_656 - 769_000 - 2 * 768 + 769),
    "biggan": (
        nets.biggan,
        (128, 128, 3),
        87_982_370 - 1_000 * 1_536 + 12 + 12 + 48 + 96,
    ),
}


@pytest.mark.parametrize("net", PUBLISHED)
def test_networks_have_the_published_number_of_parameters(net):
    function, shape, n_parameters = PUBLISHED[net]
    held = weights(layers_of(function, shape))
    assert sum(array.size for array in held.values()) == n_parameters


def test_the_resnet_has_a_shortcut_kernel_where_the_shape_changes():
    held = weights(layers_of(nets.resnet_d, (32, 32, 3)))
    kernels = {name: array.shape for name, array in held.items() if array.ndim > 1}
    wide = (3, 3, 128, 128)
    assert sorted(kernels.values()) == sorted(
        [(3, 3, 3, 128), *7 * [wide], (1, 1, 3, 128), (1, 1, 128, 128), (128, 1)]
    )
