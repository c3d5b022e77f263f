"""A third linear map, as the proof that one file and two lines are enough for one."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import specjax as sx
from specjax import bounds
from specjax.linear_maps import ConvLocal
from specjax.linen import SpectralNorm
from specjax.testing import spectral_norms

LAYERS = {
    "plain": ((7, 2), (3,), {}),
    "strides": ((6, 5, 2), (3, 2), {"strides": (2, 1)}),
    "dilated": ((8, 1), (2,), {"kernel_dilation": 3, "padding": "VALID"}),
    "explicit": ((6, 2), (3,), {"padding": [(2, 1)], "input_dilation": 2}),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


def layer_of(name):
    image, window, words = LAYERS[name]
    return nn.ConvLocal(3, window, use_bias=False, **words), jnp.ones((1, *image))


def map_of(name):
    image, window, words = LAYERS[name]
    padding = words.get("padding", "SAME")
    return ConvLocal(
        image[:-1],
        window,
        window_strides=words.get("strides", 1),
        padding=tuple(padding) if isinstance(padding, list) else padding,
        lhs_dilation=words.get("input_dilation", 1),
        rhs_dilation=words.get("kernel_dilation", 1),
    )


def dense(layer, kernel, image):
    """Returns the matrix of Flax' layer, from products with unit vectors."""
    size = int(np.prod(image))
    images = jnp.eye(size).reshape(size, 1, *image)
    rows = jax.vmap(lambda x: layer.apply({"params": {"kernel": kernel}}, x))(images)
    return np.asarray(rows, np.float64).reshape(size, -1)


@every_layer
def test_norms_are_those_of_flax_layer(name):
    layer, x = layer_of(name)
    kernel = layer.init(jax.random.key(0), x)["params"]["kernel"]
    kernel = jax.random.normal(jax.random.key(1), kernel.shape)
    matrix = dense(layer, kernel, x.shape[1:])
    norm = np.linalg.norm(matrix, 2)
    params, kernels = {"w": kernel}, {"w": map_of(name)}
    state = sx.sn_init(params, kernels=kernels)
    np.testing.assert_allclose(state["w"]["sigma"], norm, rtol=1e-4)
    used, _ = sx.sn_apply(params, state, kernels=kernels, bound=0.5)
    got = np.linalg.norm(dense(layer, used["w"], x.shape[1:]), 2)
    np.testing.assert_allclose(got, 0.5, rtol=1e-4)
    proved, _ = sx.sn_apply(params, {}, kernels=kernels, method="upper")
    assert np.linalg.norm(dense(layer, proved["w"], x.shape[1:]), 2) <= 1
    low, high = bounds.lower(kernel, kernels["w"]), bounds.upper(kernel, kernels["w"])
    assert low.value <= norm <= high.value <= 1.002 * norm
    found = sx.metrics(params, state, kernels=kernels)["w"]["frobenius"]
    np.testing.assert_allclose(found, np.linalg.norm(matrix), rtol=1e-5)
    (row,) = sx.report(params, kernels=kernels).rows
    np.testing.assert_allclose(row.exact.value, norm, rtol=1e-5)
    np.testing.assert_allclose(
        spectral_norms(params, kernels=kernels)["w"], norm, rtol=1e-5
    )


@every_layer
def test_the_wrapper_reads_it_off_the_layer(name):
    layer, x = layer_of(name)
    model = SpectralNorm(layer, operator=True)
    held = model.init(jax.random.key(0), x)
    kernel = held["params"]["layer_instance"]["kernel"]
    norm = np.linalg.norm(dense(layer, kernel, x.shape[1:]), 2)
    x = jax.random.normal(jax.random.key(1), x.shape)
    want = layer.apply({"params": {"kernel": kernel}}, x) / norm
    np.testing.assert_allclose(model.apply(held, x), want, rtol=1e-3, atol=1e-4)


def test_stacks_and_constraints():
    kernels = {"w": ConvLocal((7,), (3,), batch_axis=0)}
    kernel = jax.random.normal(jax.random.key(0), (2, 7, 6, 4))
    state = sx.sn_init({"w": kernel}, kernels=kernels)
    one = [bounds.exact(each, ConvLocal((7,), (3,))).value for each in kernel]
    np.testing.assert_allclose(state["w"]["sigma"], one, rtol=1e-4)
    split = sx.constraints.wn_init({"w": kernel}, kernels=kernels)
    np.testing.assert_allclose(
        split["g"]["w"], np.linalg.norm(kernel, axis=(1, 2)), rtol=1e-5
    )


@pytest.mark.parametrize("shape", [(7, 7, 4), (6, 6, 4), (7, 6, 1, 4)])
def test_a_kernel_that_does_not_fit(shape):
    with pytest.raises(ValueError, match="the output's spatial axes, in channels"):
        ConvLocal((7,), (3,)).resolve(shape)
