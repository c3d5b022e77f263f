"""Every rival is the same network, and normalizes it as far as it does.

The oracle is the plain network in Linen, and the float64 SVD: a network of one dense
layer, given the identity, returns the kernel that it multiplies by.
"""

import functools

import jax
import numpy as np
import pytest

from benchmarks.rivals import nets
from benchmarks.rivals.field import FIELD
from benchmarks.rivals.weights import problem

PLAIN = [rival for rival in FIELD if rival.plain is None]
NORMALIZED = [rival for rival in FIELD if rival.plain and "renormalize" not in rival.name]
SMALL = {
    "mlp": (functools.partial(nets.mlp, width=8), (6,)),
    "cnn": (functools.partial(nets.cnn, width=2), (8, 8, 3)),
    "resnet_d": (functools.partial(nets.resnet_d, channels=4), (8, 8, 3)),
    "biggan": (functools.partial(nets.biggan, channels=2), (128, 128, 1)),
    "vit": (functools.partial(nets.vit, width=128, depth=1, patch=4), (8, 8, 3)),
}


def named(rivals):
    return pytest.mark.parametrize("rival", rivals, ids=lambda rival: rival.name)


def skip_if_missing(rival):
    if rival.missing():
        pytest.skip(rival.missing())


@functools.cache
def small(net):
    return problem(*SMALL[net])


@functools.cache
def scores_in_linen(net):
    return scores(PLAIN[0], net)


def scores(rival, net):
    about = small(net)
    shape = (2, *about.image_shape)
    x = np.random.default_rng(1).uniform(-1, 1, shape).astype(np.float32)
    training = rival.prepare(about)
    return np.asarray(training.forward(training.carried, training.inputs(x)))


@pytest.mark.parametrize("net", SMALL)
@named(PLAIN[1:])
def test_plain_networks_give_the_same_scores(rival, net):
    skip_if_missing(rival)
    found = scores(rival, net)
    assert found.shape == (2, 1)
    np.testing.assert_allclose(found, scores_in_linen(net), rtol=1e-4, atol=1e-4)
