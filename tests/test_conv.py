"""`Conv`: the norm of the operator, against Flax's layers as dense float64 matrices."""

import functools
import inspect
import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import specjax as sx
from specjax import linen
from specjax import nnx as nnx_wrapper
from specjax.optax import renormalize
from tests.cases import enable_x64
from tests.exhaustive import exhaustive, sampled


class Geometry(NamedTuple):
    """A Flax layer without a bias, the shape of its input, and the same as a `Conv`."""

    layer: nn.Module
    image: tuple[int, ...]
    conv: sx.Conv


def conv(image, features, window, words=None, **layer):
    layer = nn.Conv(features, window, use_bias=False, **layer)
    return Geometry(layer, image, sx.Conv(image[:-1], **(words or {})))


def transposed(image, features, window, words=None, **layer):
    words = {"transposed": True} | (words or {})
    layer = nn.ConvTranspose(features, window, use_bias=False, **layer)
    return Geometry(layer, image, sx.Conv(image[:-1], **words))


GEOMETRIES = {
    "same": conv((6, 5, 2), 3, (3, 3)),
    "valid": conv((6, 5, 2), 3, (3, 2), {"padding": "VALID"}, padding="VALID"),
    "circular": conv((6, 5, 2), 3, (3, 2), {"padding": "CIRCULAR"}, padding="CIRCULAR"),
    "reflect": conv((6, 5, 2), 3, (4, 3), {"padding": "REFLECT"}, padding="REFLECT"),
    "explicit": conv(
        (6, 5, 2), 3, (3, 3), {"padding": ((1, 0), 2)}, padding=((1, 0), (2, 2))
    ),
    "strides": conv(
        (7, 6, 2), 3, (4, 4), {"window_strides": (2, 3)}, strides=(2, 3)
    ),
    "circular strides": conv(
        (6, 4, 2), 3, (3, 3), {"window_strides": 2, "padding": "circular"},
        strides=(2, 2), padding="CIRCULAR",
    ),
    "dilated kernel": conv(
        (7, 6, 2), 3, (3, 2), {"rhs_dilation": (2, 3)}, kernel_dilation=(2, 3)
    ),
    "circular and dilated": conv(
        (7, 6, 2), 3, (3, 3), {"rhs_dilation": 2, "padding": "CIRCULAR"},
        kernel_dilation=(2, 2), padding="CIRCULAR",
    ),
    "dilated input": conv(
        (4, 3, 2), 3, (3, 3), {"lhs_dilation": (2, 1), "padding": 1},
        input_dilation=(2, 1), padding=1,
    ),
    "groups": conv(
        (5, 5, 4), 6, (3, 3), {"feature_group_count": 2}, feature_group_count=2
    ),
    "depthwise": conv(
        (5, 5, 4), 4, (3, 3), {"feature_group_count": 4}, feature_group_count=4
    ),
    "one axis": conv((9, 3), 4, (5,)),
    "causal": conv(
        (9, 3), 4, (3,), {"padding": "CAUSAL", "rhs_dilation": 2}, padding="CAUSAL",
        kernel_dilation=2,
    ),
    "three axes": conv((4, 3, 4, 2), 3, (3, 3, 2)),
    "transposed": transposed(
        (4, 3, 2), 3, (4, 4), {"window_strides": 2}, strides=(2, 2)
    ),
    "transposed valid": transposed(
        (4, 3, 2), 3, (3, 3), {"window_strides": 2, "padding": "VALID"},
        strides=(2, 2), padding="VALID",
    ),
    "transposed explicit": transposed(
        (4, 3, 2), 3, (3, 3), {"padding": ((1, 1), (2, 0))}, padding=((1, 1), (2, 0))
    ),
    "transposed and flipped": transposed(
        (4, 3, 2), 3, (3, 4), {"window_strides": (2, 1), "transpose_kernel": True},
        strides=(2, 1), transpose_kernel=True,
    ),
    "transposed and dilated": transposed(
        (4, 3, 2), 3, (3, 3), {"rhs_dilation": 2}, kernel_dilation=(2, 2)
    ),
    "transposed circular": transposed(
        (4, 3, 2), 3, (4, 3), {"window_strides": 2, "padding": "CIRCULAR"},
        strides=(2, 2), padding="CIRCULAR",
    ),
    "transposed circular flipped": transposed(
        (4, 3, 2), 3, (4, 3),
        {"window_strides": 2, "padding": "CIRCULAR", "transpose_kernel": True},
        strides=(2, 2), padding="CIRCULAR", transpose_kernel=True,
    ),
}  # fmt: skip
# What is the norm of the operator once `apply` and `adjoint` are the layer's.
SIGMA = (
    "strides",
    "groups",
    "circular strides",
    "causal",
    "transposed circular flipped",
)
every_geometry = pytest.mark.parametrize(
    "geometry", GEOMETRIES.values(), ids=GEOMETRIES
)


def make_kernel(geometry, seed=0):
    image = jax.ShapeDtypeStruct((1, *geometry.image), jnp.float32)
    variables = jax.eval_shape(geometry.layer.init, jax.random.key(0), image)
    shape = variables["params"]["kernel"].shape
    return np.random.default_rng(seed).standard_normal(shape)


def dense(geometry, kernel):
    """Returns the operator of the Flax layer as a matrix (in, out), in float64."""
    n_in = math.prod(geometry.image)
    with enable_x64():
        params = {"params": {"kernel": jnp.asarray(np.asarray(kernel), jnp.float64)}}
        images = jnp.eye(n_in, dtype=jnp.float64).reshape(n_in, *geometry.image)
        layer = geometry.layer.clone(param_dtype=jnp.float64)
        return np.asarray(layer.apply(params, images)).reshape(n_in, -1)


def operator_norm(geometry, kernel):
    return np.linalg.norm(dense(geometry, kernel), 2)


@every_geometry
def test_apply_and_adjoint_are_the_layer_and_its_adjoint(geometry):
    kernel = make_kernel(geometry)
    operator = dense(geometry, kernel)
    linear_map = geometry.conv.resolve(kernel.shape).one
    in_shape, out_shape = linear_map.in_shape, linear_map.out_shape
    assert in_shape == geometry.image
    assert math.prod(out_shape) == operator.shape[1]
    x, y = (np.random.default_rng(1).standard_normal(s) for s in (in_shape, out_shape))
    both = jax.jit(lambda k, x, y: (linear_map.apply(k, x), linear_map.adjoint(k, y)))
    forth, back = both(*(np.asarray(a, np.float32) for a in (kernel, x, y)))
    np.testing.assert_allclose(np.ravel(forth), x.ravel() @ operator, atol=2e-4)
    np.testing.assert_allclose(np.ravel(back), operator @ y.ravel(), atol=2e-4)


@pytest.mark.parametrize(
    "geometry",
    [
        pytest.param(geometry, marks=() if name in SIGMA else exhaustive, id=name)
        for name, geometry in GEOMETRIES.items()
    ],
)
def test_sigma_is_the_norm_of_the_operator(geometry):
    kernel = make_kernel(geometry)
    want = operator_norm(geometry, kernel)
    kernels = {"kernel": geometry.conv}
    sn = sx.spectral_norm(kernels=kernels, bound=0.7)
    params = {"kernel": jnp.asarray(kernel, jnp.float32)}
    state = sn.init(params)
    np.testing.assert_allclose(state["kernel"]["sigma"], want, rtol=1e-5)
    normalized, _ = sn.apply(params, state)
    got = operator_norm(geometry, normalized["kernel"])
    np.testing.assert_allclose(got, 0.7, rtol=1e-5)


@pytest.mark.parametrize("name", ["strides", "groups", "transposed circular flipped"])
def test_fuse_converges_on_these_very_kernels(name):
    geometry = GEOMETRIES[name]
    kernels = {"kernel": geometry.conv}
    before, after = (
        {"kernel": jnp.asarray(make_kernel(geometry, seed), jnp.float32)}
        for seed in (0, 1)
    )
    state = sx.sn_init(before, kernels=kernels)
    fused = sx.sn_fuse(after, state, kernels=kernels, bound=0.7)
    got = operator_norm(geometry, fused["kernel"])
    np.testing.assert_allclose(got, 0.7, rtol=1e-5)


def test_complex_kernel_is_its_own_adjoint_pair():
    linear_map = sx.Conv((6, 5), padding="CIRCULAR", window_strides=(2, 1))
    rng = np.random.default_rng(2)

    def draw(shape):
        z = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
        return jnp.asarray(z, jnp.complex64)

    kernel, x = draw((3, 3, 2, 3)), draw((6, 5, 2))
    y = draw(linear_map.sides(kernel.shape)[1])
    left = jnp.vdot(y, linear_map.apply(kernel, x))
    right = jnp.vdot(linear_map.adjoint(kernel, y), x)
    np.testing.assert_allclose(left, right, rtol=1e-5)


@pytest.mark.parametrize("n", [5, 16, 33])
def test_closed_form_of_the_second_difference(n):
    kernel = jnp.asarray([1.0, -2.0, 1.0]).reshape(3, 1, 1)
    sn = sx.spectral_norm(kernels={"w": sx.Conv((n,))})
    want = 2 + 2 * np.cos(np.pi / (n + 1))
    np.testing.assert_allclose(sn.init({"w": kernel})["w"]["sigma"], want, rtol=1e-5)


@pytest.mark.parametrize("padding", ["SAME", "CIRCULAR"])
def test_closed_form_of_the_box(padding):
    for n in (4, 7):
        want = (1 + 2 * np.cos(np.pi / (n + 1))) ** 2 if padding == "SAME" else 9
        sn = sx.spectral_norm(kernels={"w": sx.Conv((n, n), padding=padding)})
        sigma = sn.init({"w": jnp.ones((3, 3, 1, 1))})["w"]["sigma"]
        np.testing.assert_allclose(sigma, want, rtol=1e-5)
    matrix = sx.sn_init({"w": jnp.ones((3, 3, 1, 1))}, kernels={"w": sx.Matrix()})
    np.testing.assert_allclose(matrix["w"]["sigma"], 3, rtol=1e-6)


@exhaustive
def test_published_norm_of_edward2s_own_test():
    # edward2's noise-free spectral normalization of a 3x3 convolution, 3 to 64, VALID,
    # 32x32: the operator's norm is min(|W|, .95) within 1e-2.
    shape = (3, 3, 3, 64)
    kernel = jax.nn.initializers.lecun_normal()(jax.random.key(0), shape)
    sn = sx.spectral_norm(
        kernels={"w": sx.Conv((32, 32), padding="VALID")}, bound=0.95, cap=True
    )
    normalized, _ = sn.apply({"w": kernel}, sn.init({"w": kernel}))
    # The norm of the operator, from the frequencies of a circle that holds it: at most
    # the sup over all frequencies, and at least the norm at a smaller size.
    response = np.fft.rfft2(np.asarray(kernel, np.float64), (128, 128), axes=(0, 1))
    sup = np.linalg.norm(response, 2, axis=(-2, -1)).max()
    got = np.asarray(normalized["w"], np.float64) / np.asarray(kernel, np.float64)
    np.testing.assert_allclose(sup * got, min(sup, 0.95), atol=1e-2)


def test_gradient_is_that_of_the_operators_norm():
    geometry = GEOMETRIES["strides"]
    kernel = make_kernel(geometry)
    params = {"w": jnp.asarray(kernel, jnp.float32)}
    sn = sx.spectral_norm(kernels={"w": geometry.conv}, n_steps=200)
    direction = np.random.default_rng(3).standard_normal(kernel.shape)

    def loss(params):
        normalized, _ = sn.apply(params, sn.init(params))
        return jnp.sum(normalized["w"] * direction)

    got = jax.jit(jax.grad(loss))(params)["w"]
    left, values, right = np.linalg.svd(dense(geometry, kernel))
    with enable_x64():  # d sigma / d kernel, by the layer's own derivative

        def value(kernel):
            variables, images = {"params": {"kernel": kernel}}, left[:, 0]
            layer = geometry.layer.clone(param_dtype=jnp.float64)
            images = jnp.asarray(images).reshape(1, *geometry.image)
            return layer.apply(variables, images).ravel() @ right[0]

        slope = np.asarray(jax.grad(value)(jnp.asarray(kernel, jnp.float64)))
    inner = np.sum(direction * kernel) / values[0]
    want = (direction - inner * slope) / values[0]
    np.testing.assert_allclose(got, want, atol=1e-4)


def test_a_stack_has_a_state_for_each_slice():
    kernels = {"w": sx.Conv((6, 5), batch_axis=0)}
    geometry = GEOMETRIES["same"]
    stack = np.stack([scale * make_kernel(geometry, scale) for scale in (1, 2, 5)])
    params = {"w": jnp.asarray(stack, jnp.float32)}
    state = sx.sn_init(params, kernels=kernels)
    assert state["w"]["u"].shape == (3, 6, 5, 3)
    out, state = jax.jit(functools.partial(sx.sn_apply, kernels=kernels))(params, state)
    for slice_ in out["w"]:
        np.testing.assert_allclose(operator_norm(geometry, slice_), 1, rtol=1e-5)


def test_renormalize_keeps_the_operator_on_the_bound():
    geometry = GEOMETRIES["circular"]
    kernels = {"w": geometry.conv}
    params = {"w": jnp.asarray(make_kernel(geometry), jnp.float32)}
    params = sx.sn_fuse(params, sx.sn_init(params, kernels=kernels), kernels=kernels)
    tx = renormalize(optax.adam(1e-3), kernels=kernels)
    opt_state, target = tx.init(params), make_kernel(geometry, seed=9)

    @jax.jit
    def step(params, opt_state):
        grads = jax.grad(lambda p: jnp.sum((p["w"] - target) ** 2))(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    for _ in range(50):
        params, opt_state = step(params, opt_state)
    np.testing.assert_allclose(operator_norm(geometry, params["w"]), 1, rtol=1e-3)


# The wrappers.


WRAPPED = [
    "circular strides", "explicit", "circular and dilated", "dilated input", "groups",
    "causal", "three axes", "transposed circular flipped", "transposed and dilated",
]  # fmt: skip


@pytest.mark.parametrize("name", sampled(WRAPPED, [*WRAPPED[::2], "dilated input"]))
def test_linen_wrapper_reads_the_geometry_off_the_layer(name):
    geometry = GEOMETRIES[name]
    x = jax.random.normal(jax.random.key(1), (2, *geometry.image))
    model = linen.SpectralNorm(geometry.layer.copy(), operator=True)
    variables = model.init(jax.random.key(0), x)
    (kernel,) = jax.tree.leaves(variables["params"])
    want = operator_norm(geometry, kernel)
    sigma = variables["batch_stats"]["kernel"]["sigma"]
    np.testing.assert_allclose(sigma, want, rtol=1e-5)
    plain = geometry.layer.apply({"params": {"kernel": kernel / want}}, x)
    train, _ = model.apply(variables, x, mutable=["batch_stats"])
    for y in (train, model.apply(variables, x)):
        np.testing.assert_allclose(y, plain, atol=1e-4)


NNX = {
    "conv": (nnx.Conv, {"strides": 2, "padding": "CIRCULAR", "kernel_dilation": 2}),
    "groups": (nnx.Conv, {"feature_group_count": 2}),
    "transposed": (nnx.ConvTranspose, {"strides": 2, "transpose_kernel": True}),
}


@pytest.mark.parametrize(("layer", "words"), NNX.values(), ids=NNX)
@pytest.mark.parametrize("jit", sampled([False, True], [True]), ids=["eager", "jit"])
def test_nnx_wrapper_reads_the_geometry_off_the_layer(layer, words, jit):
    inner = layer(2, 4, (3, 3), **words, use_bias=False, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(1), (2, 6, 6, 2))
    model = nnx_wrapper.SpectralNorm(inner, operator=True)
    call = nnx.jit(lambda model, x: model(x)) if jit else lambda model, x: model(x)
    y = call(model, x)
    images = jnp.eye(72).reshape(72, 6, 6, 2)
    operator = np.asarray(inner(images), np.float64).reshape(72, -1)
    want = np.linalg.norm(operator, 2)
    np.testing.assert_allclose(model.stats["kernel"]["sigma"][...], want, rtol=1e-5)
    np.testing.assert_allclose(y, inner(x) / want, atol=1e-5)
    assert isinstance(model.stats["kernel"]["u"], nnx.BatchStat)
    model.eval()
    np.testing.assert_allclose(call(model, x), y, atol=1e-5)


def test_the_operator_of_a_dense_layer_is_its_matrix():
    x = jnp.ones((2, 5))
    wrapped = linen.SpectralNorm(nn.Dense(3), operator=True)
    plain = linen.SpectralNorm(nn.Dense(3))
    jax.tree.map(
        np.testing.assert_array_equal,
        wrapped.init(jax.random.key(0), x),
        plain.init(jax.random.key(0), x),
    )


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Conv(3, (3, 3))(x)


@pytest.mark.parametrize(("layer", "text"), [
    (Block(), "operator=True and the kernel float32[3,3,2,3] of a Block"),
    (nn.Conv(3, (3, 3), mask=jnp.ones((3, 3, 2, 3))), "of a Conv, whose mask changes"),
])  # fmt: skip
def test_layers_without_an_operator_of_their_own(layer, text):
    model = linen.SpectralNorm(layer, operator=True)
    with pytest.raises(ValueError, match="Try: ") as caught:
        model.init(jax.random.key(0), jnp.ones((1, 6, 5, 2)))
    assert text in str(caught.value)


def test_another_input_size_is_an_error():
    model = linen.SpectralNorm(nn.Conv(3, (3, 3)), operator=True)
    x = jnp.ones((1, 6, 5, 2))
    variables = model.init(jax.random.key(0), x)
    with pytest.raises(ValueError, match="Try: an input of that size") as caught:
        model.apply(variables, jnp.ones((1, 8, 5, 2)))
    assert "got an input of shape (1, 8, 5, 2), whose u has shape (8, 5, 3)" in str(
        caught.value
    )
    model = nnx_wrapper.SpectralNorm(
        nnx.Conv(2, 3, (3, 3), rngs=nnx.Rngs(0)), operator=True
    )
    model(x)
    with pytest.raises(ValueError, match=r"Conv: kernel: got an input of shape \(1, 8"):
        model(jnp.ones((1, 8, 5, 2)))


# Bad input.


@pytest.mark.parametrize(("words", "shape", "need"), [
    ({"input_shape": (8,)}, (3, 3, 2, 4), "a kernel of 1 window axes, in and out"),
    ({"input_shape": ()}, (2, 4), "a kernel of 0 window axes"),
    ({"input_shape": (8, 8), "window_strides": (2,)}, (3, 3, 2, 4), "for each of 2"),
    ({"input_shape": (8, 8), "padding": (1,)}, (3, 3, 2, 4), "padding for each of 2"),
    ({"input_shape": (2, 8), "padding": "VALID"}, (3, 3, 2, 4), "fills the window"),
    ({"input_shape": (8, 8), "window_strides": 0}, (3, 3, 2, 4), "of 1 or more"),
    ({"input_shape": (8, 8), "feature_group_count": 3}, (3, 3, 2, 4), "group"),
    ({"input_shape": (8, 8), "padding": "CAUSAL"}, (3, 3, 2, 4), "one spatial axis"),
    ({"input_shape": (8, 8), "transpose_kernel": True}, (3, 3, 2, 4), "transposed="),
    ({"input_shape": (8,), "transposed": True, "padding": "CAUSAL"}, (3, 2, 4), "SAME"),
    ({"input_shape": (8,), "lhs_dilation": 2}, (3, 2, 4), "String padding"),
    ({"input_shape": (8,), "batch_axis": 7}, (5, 3, 2, 4), "a batch_axis from -4 to 3"),
])  # fmt: skip
def test_words_that_do_not_fit(words, shape, need):
    with pytest.raises(ValueError, match="w: got Conv") as caught:
        sx.sn_init({"w": jnp.ones(shape)}, kernels={"w": sx.Conv(**words)})
    assert need in str(caught.value)
    assert "Try: the words of the layer's own convolution" in str(caught.value)


@pytest.mark.parametrize(("words", "error", "text"), [
    ({"padding": "SOME"}, ValueError, "padding=...): got 'SOME'; need one of SAME"),
    ({"window_strides": 1.5}, TypeError, "window_strides=...): got 1.5; need an int"),
    ({"batch_axis": 0.5}, TypeError, "Conv(batch_axis=...): got 0.5; need an int"),
    ({"input_shape": "8"}, TypeError, "input_shape=...): got '8'; need an int or a"),
])  # fmt: skip
def test_words_that_are_none(words, error, text):
    init = inspect.unwrap(sx.Conv.__init__)  # without the tests' own check of types
    with pytest.raises(error) as caught:
        init(object.__new__(sx.Conv), **({"input_shape": (8, 8)} | words))
    assert text in str(caught.value)


def test_a_state_of_another_input_size():
    params = {"w": jnp.ones((3, 3, 2, 4))}
    state = sx.sn_init(params, kernels={"w": sx.Conv((8, 8))})
    with pytest.raises(
        ValueError, match=r"got float32\[8,8,4\]; need float32\[9,8,4\]"
    ):
        sx.sn_apply(params, state, kernels={"w": sx.Conv((9, 8))})
