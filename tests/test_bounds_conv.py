"""Bounds of convolutions: the dense operator of Flax's layers, in float64 numpy."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import specjax as sx
from specjax import bounds
from specjax.bounds._spectrum import block_error, over_blocks
from specjax.errors import TooLargeError
from tests.cases import enable_x64, rows
from tests.exhaustive import sampled
from tests.test_conv import GEOMETRIES, conv, dense, make_kernel, transposed

MORE = {
    "patches": conv(
        (8, 6, 3), 4, (4, 2), {"window_strides": (4, 2), "padding": "VALID"},
        strides=(4, 2), padding="VALID",
    ),
    "one by one": conv((5, 4, 3), 4, (1, 1)),
    "circular, stride does not divide": conv(
        (7, 5, 2), 3, (3, 3), {"window_strides": 2, "padding": "CIRCULAR"},
        strides=(2, 2), padding="CIRCULAR",
    ),
    "circular groups": conv(
        (6, 5, 4), 6, (3, 3), {"feature_group_count": 2, "padding": "CIRCULAR"},
        feature_group_count=2, padding="CIRCULAR",
    ),
    "strided and dilated input": conv(
        (5, 4, 2), 3, (3, 3), {"lhs_dilation": 2, "window_strides": 3, "padding": 2},
        input_dilation=(2, 2), strides=(3, 3), padding=2,
    ),
    "more padding than window": conv((4, 5, 2), 3, (2, 3), {"padding": 4}, padding=4),
    "transposed patches": transposed(
        (3, 4, 3), 2, (2, 3), {"window_strides": (2, 3)}, strides=(2, 3)
    ),
}  # fmt: skip
# Where the method of frequencies gives the norm itself.
EXACT = {
    "circular",
    "circular strides",
    "circular and dilated",
    "circular groups",
    "transposed circular",
    "transposed circular flipped",
    "patches",
    "one by one",
    "transposed patches",
}
ALL = GEOMETRIES | MORE
# What adds no case to these: another number of axes, or a word that another one has.
TWICE = {"one axis", "depthwise", "transposed explicit", "transposed and dilated"}


@functools.cache
def case(name):
    """Returns the Conv, its kernel, and the operator's singular values."""
    geometry = ALL[name]
    kernel = make_kernel(geometry)
    values = np.linalg.svd(dense(geometry, kernel), compute_uv=False)
    return geometry.conv, jnp.asarray(kernel, jnp.float32), values


# One of each way to the norm. Of drawn geometries see test_bounds_geometry.
FAST = ["circular strides", "transposed circular flipped", "patches", "circular groups"]
FAST += [
    "circular, stride does not divide",
    "reflect",
    "strides",
    "groups",
    "causal",
    "more padding than window",
]


@pytest.mark.parametrize(
    "name", sampled([name for name in ALL if name not in TWICE], FAST)
)
def test_the_norm_is_between_its_bounds(name):
    linear_map, kernel, values = case(name)
    found = bounds.exact(kernel, linear_map)
    np.testing.assert_allclose(found.value, values[0], rtol=1e-5)
    assert (found.kind, found.of) == ("exact", "operator")
    assert (found.method == "SVD of each frequency") == (name in EXACT)
    upper = float(bounds.upper(kernel, linear_map).value)
    assert values[0] <= upper
    if name in EXACT:
        assert upper <= 1.002 * values[0]
    # The worst of these: reflected images, whose padding counts twice on each axis.
    assert upper <= (2.2 if name == "reflect" else 1.6) * values[0]


@pytest.mark.parametrize(
    "name", ["circular strides", "transposed circular flipped", "same", "patches"]
)
def test_every_singular_value(name):
    linear_map, kernel, values = case(name)
    got = bounds.singular_values(kernel, linear_map)
    np.testing.assert_allclose(got, values, atol=1e-5 * values[0])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("groups", {"method": "fantastic_four"}),
        ("strides", {"method": "aol"}),
        ("transposed", {"method": "frobenius"}),
        ("reflect", {"method": "aol"}),
        ("groups", {"every_size": True}),
        ("strides", {"every_size": True}),
        ("transposed", {"every_size": True}),
        ("causal", {"every_size": True}),
    ],
)
def test_the_closed_forms_and_every_size_are_bounds(name, words):
    linear_map, kernel, values = case(name)
    assert float(bounds.upper(kernel, linear_map, **words).value) >= values[0]


def spectrum(kernel, size):
    """Returns the norm at each frequency of a size, by numpy's FFT."""
    n = kernel.ndim - 2
    transform = np.fft.fftn(kernel, (size,) * n, axes=range(n))
    return np.linalg.norm(transform, 2, axis=(-2, -1))


def test_every_size_is_at_least_the_supremum_and_near_it():
    kernel = np.random.default_rng(0).standard_normal((3, 5, 4, 3))
    supremum = spectrum(kernel, 240).max()
    bound = bounds.upper(
        jnp.asarray(kernel, jnp.float32), sx.Conv((6, 6)), every_size=True
    )
    assert supremum <= bound.value <= supremum * 1.0097**2 * 1.001
    assert bound.method == "Gram iteration, every size"


def test_every_size_with_strides_is_at_least_each_size():
    # The dense operator at several sizes, the largest of them near the supremum.
    kernel = np.random.default_rng(1).standard_normal((5, 2, 2))
    words = {"window_strides": 2, "padding": "CIRCULAR"}
    bound = bounds.upper(
        jnp.asarray(kernel, jnp.float32), sx.Conv((8,), **words), every_size=True
    )
    for size in (6, 8, 30, 64):
        layer = conv((size, 2), 2, (5,), words, strides=(2,), padding="CIRCULAR")
        norm = np.linalg.norm(dense(layer, kernel), 2)
        assert norm <= bound.value
    assert bound.value <= 1.02 * norm


def test_circular_at_the_same_size_is_no_bound_for_zero_padding():
    # On a circle of 4 points the first and the last tap meet and cancel.
    kernel = np.array([2.0, 0.0, 0.0, 1.0, -2.0])[:, None, None]
    array = jnp.asarray(kernel, jnp.float32)
    circular = bounds.exact(array, sx.Conv((4,), padding="CIRCULAR")).value
    true = np.linalg.norm(dense(conv((4, 1), 1, (5,)), kernel), 2)
    assert true > 2.8 * circular
    assert true <= bounds.upper(array, sx.Conv((4,))).value


def test_between_the_frequencies_of_the_grid():
    # |1 + e^(i (a - w))| is 2 at w = a, in the middle between two of 16 frequencies.
    kernel = jnp.array([1.0, np.exp(1j * np.pi / 16)])[:, None, None]
    bound = bounds.upper(kernel, sx.Conv((6,)), every_size=True).value
    assert 2 <= bound <= 2 * 1.0097


def test_reflected_images_count_twice():
    # [1, 1, 1, 1, 1] on three points: a norm of 5.1, and of 5 on every circle.
    kernel = np.ones((5, 1, 1))
    words = {"padding": "REFLECT"}
    layer = conv((3, 1), 1, (5,), words, padding="REFLECT")
    true = np.linalg.norm(dense(layer, kernel), 2)
    assert true > 5.05
    array = jnp.asarray(kernel, jnp.float32)
    assert true <= bounds.upper(array, layer.conv).value
    assert true <= bounds.upper(array, layer.conv, method="frobenius").value


def test_the_rounding_of_a_block_is_within_its_bound():
    # The numbers of a block in float32 against numpy's FFT of the same kernel.
    rng = np.random.default_rng(8)
    kernel = jnp.asarray(rng.standard_normal((1, 35, 6, 4)), jnp.float32)
    linear_map = sx.Conv((8, 9), padding="CIRCULAR").resolve((5, 7, 6, 4))
    axes = linear_map.one.circular
    blocks = np.asarray(over_blocks(lambda one: one, kernel, axes, half=False))[:, 0]
    wide = np.asarray(kernel, np.float64).reshape(5, 7, 6, 4)
    want = np.fft.fftn(wide, (8, 9), axes=(0, 1)).reshape(72, 6, 4)
    error = np.linalg.norm(blocks - want, axis=(1, 2)).max()
    allowed = float(block_error(kernel, axes)[0])
    assert 0 < error <= allowed <= 1e-4 * np.linalg.norm(want[0])


def test_closed_form_norms():
    difference = jnp.array([1.0, -2.0, 1.0])[:, None, None]
    for n in (5, 20):
        want = 2 + 2 * math.cos(math.pi / (n + 1))
        np.testing.assert_allclose(
            bounds.exact(difference, sx.Conv((n,))).value, want, rtol=1e-6
        )
    assert 4 <= bounds.upper(difference, sx.Conv((5,)), every_size=True).value <= 4.04
    box = jnp.ones((3, 3, 1, 1))
    want = (1 + 2 * math.cos(math.pi / 8)) ** 2
    np.testing.assert_allclose(bounds.exact(box, sx.Conv((7, 7))).value, want, 1e-6)
    circular = bounds.exact(box, sx.Conv((7, 7), padding="CIRCULAR"))
    np.testing.assert_allclose(circular.value, 9, rtol=1e-6)
    np.testing.assert_allclose(bounds.exact(box).value, 3, rtol=1e-6)


def test_the_fantastic_four_and_aol_are_what_they_say():
    kernel = np.random.default_rng(2).standard_normal((3, 5, 4, 6))
    linear_map, array = sx.Conv((8, 8)), jnp.asarray(kernel, jnp.float32)
    reshapes = [
        kernel.reshape(60, 6),
        kernel.transpose(0, 2, 1, 3).reshape(12, 30),
        kernel.transpose(1, 2, 0, 3).reshape(20, 18),
        kernel.transpose(2, 0, 1, 3).reshape(4, 90),
    ]
    want = 15**0.5 * min(np.linalg.norm(matrix, 2) for matrix in reshapes)
    got = bounds.upper(array, linear_map, method="fantastic_four").value
    np.testing.assert_allclose(got, want, rtol=1e-3)
    # AOL: the window against itself, by numpy's FFT at a size where nothing wraps.
    transform = np.fft.fftn(kernel, (9, 9), axes=(0, 1))
    sums = []
    for side in (transform, np.swapaxes(transform, 2, 3)):
        products = side @ np.conj(np.swapaxes(side, 2, 3))
        shifts = np.fft.ifftn(products, axes=(0, 1))
        sums.append(np.abs(shifts).sum(axis=(0, 1, 3)).max())
    got = bounds.upper(array, linear_map, method="aol").value
    np.testing.assert_allclose(got, min(sums) ** 0.5, rtol=1e-3)


def test_the_frobenius_norm_of_an_operator_is_reached_by_a_box():
    # All taps add up, in the constant image.
    for padding, n in (("CIRCULAR", 3), ("CIRCULAR", 5), ("SAME", 3)):
        linear_map, box = sx.Conv((8, 8), padding=padding), jnp.ones((n, n, 1, 1))
        bound = bounds.upper(box, linear_map, method="frobenius").value
        assert n**2 <= bound <= n**2 * 1.00001


@pytest.mark.parametrize("channels", [(1, 8), (8, 1)])
def test_the_least_reshape_may_have_the_whole_window_on_one_side(channels):
    kernel = np.random.default_rng(7).standard_normal((9, *channels))
    sides = kernel.reshape(-1, channels[1]), np.swapaxes(kernel, 0, 1).reshape(
        channels[0], -1
    )  # fmt: skip
    norms = [np.linalg.norm(matrix, 2) for matrix in sides]
    assert min(norms) < 0.9 * max(norms)
    array = jnp.asarray(kernel, jnp.float32)
    got = bounds.upper(array, sx.Conv((20,)), method="fantastic_four").value
    np.testing.assert_allclose(got, 3 * min(norms), rtol=1e-3)


def test_complex_kernels_need_both_halves_of_the_spectrum():
    # All of its energy is at one frequency, whose mirror image is empty.
    wave = np.exp(2j * np.pi * np.arange(3) / 6)[:, None, None]
    rng = np.random.default_rng(3)
    kernel = wave * (rng.standard_normal((2, 3)) + 1j * rng.standard_normal((2, 3)))
    true = spectrum(kernel, 6).max()
    array = jnp.asarray(kernel, jnp.complex64)
    linear_map = sx.Conv((6,), padding="CIRCULAR")
    np.testing.assert_allclose(bounds.exact(array, linear_map).value, true, rtol=1e-5)
    assert true <= bounds.upper(array, linear_map).value <= 1.001 * true
    assert true <= bounds.upper(array, linear_map, method="aol").value


@pytest.mark.parametrize("sign", [1, -1])
def test_a_complex_kernel_at_either_end_of_the_spectrum(sign):
    wave = np.exp(sign * 2j * np.pi * np.arange(3) / 6)[:, None, None]
    kernel = wave * np.random.default_rng(3).standard_normal((2, 3))
    true, array = spectrum(kernel, 6).max(), jnp.asarray(kernel, jnp.complex64)
    linear_map = sx.Conv((6,), padding="CIRCULAR")
    np.testing.assert_allclose(bounds.exact(array, linear_map).value, true, rtol=1e-5)
    assert true <= bounds.upper(array, linear_map).value <= 1.001 * true


@pytest.mark.parametrize(("n", "whole"), [(2, False), (3, False), (5, True)])
def test_windows_that_do_not_overlap_have_the_norm_of_one_that_is_whole(n, whole):
    # Windows of 3 points, 3 apart, from one point in front: of 2 or 3 points the first
    # window misses a tap, and the second, if there is one, does, too.
    kernel = np.random.default_rng(5).standard_normal((3, 2, 4)).astype(np.float32)
    linear_map = sx.Conv((n,), window_strides=3, padding=((1, 1),))
    image = jnp.eye(2 * n).reshape(2 * n, n, 2)
    rows = jax.vmap(lambda x: linear_map.apply(jnp.asarray(kernel), x))(image)
    true = np.linalg.norm(np.asarray(rows, np.float64).reshape(2 * n, -1), 2)
    found = bounds.exact(jnp.asarray(kernel), linear_map)
    np.testing.assert_allclose(found.value, true, rtol=1e-5)
    assert found.method == ("SVD of each frequency" if whole else "dense SVD")


@pytest.mark.parametrize("padding", [(1, -2), (-2, 1), (0, -1), (0, 0), (2, 0)])
def test_a_transposed_convolution_of_which_the_ends_are_cut_off(padding):
    kernel = np.random.default_rng(6).standard_normal((1, 2, 4)).astype(np.float32)
    linear_map = sx.Conv((2,), padding=(padding,), transposed=True)
    image = jnp.eye(4).reshape(4, 2, 2)
    rows = jax.vmap(lambda x: linear_map.apply(jnp.asarray(kernel), x))(image)
    true = np.linalg.norm(np.asarray(rows, np.float64).reshape(4, -1), 2)
    found = bounds.exact(jnp.asarray(kernel), linear_map)
    np.testing.assert_allclose(found.value, true, rtol=1e-5, atol=1e-6)
    assert (true == 0) == (padding in ((1, -2), (-2, 1)))


def test_stacks_of_convolutions():
    stack = np.random.default_rng(4).standard_normal((2, 3, 3, 2, 4))
    linear_map = sx.Conv((6, 6), padding="CIRCULAR", batch_axis=0)
    true = [spectrum(kernel, 6).max() for kernel in stack]
    array = jnp.asarray(stack, jnp.float32)
    np.testing.assert_allclose(bounds.exact(array, linear_map).value, true, rtol=1e-5)
    upper = np.asarray(bounds.upper(array, linear_map).value)
    assert np.all(upper >= true)
    assert np.all(upper <= 1.001 * np.asarray(true))


def test_the_gradient_of_the_largest_frequency():
    # Between the frequencies of a random kernel there is a gap: differences exist.
    kernel = np.random.default_rng(5).standard_normal((3, 3, 2, 3))
    linear_map = sx.Conv((5, 5))
    grad = jax.grad(lambda k: bounds.upper(k, linear_map).value)
    got = np.asarray(grad(jnp.asarray(kernel, jnp.float32)), np.float64)
    # Zero padding of 5x5 by 3x3: a circle of 7x7. Its norm is the oracle.
    direction = np.random.default_rng(6).standard_normal(kernel.shape)
    step = 1e-5
    ends = [spectrum(kernel + s * step * direction, 7).max() for s in (1, -1)]
    want = (ends[0] - ends[1]) / (2 * step)
    np.testing.assert_allclose(np.sum(got * direction), want, rtol=1e-3)


def test_a_signal_too_long_for_exact_phases_is_refused():
    kernel, long = jnp.ones((300, 1, 1)), sx.Conv((10**7,), padding="CIRCULAR")
    for function in (bounds.exact, bounds.upper):
        with pytest.raises(TooLargeError, match=r"300 points on 10000000 points; need"):
            jax.eval_shape(lambda k, f=function: f(k, long), kernel)
    assert bounds.upper(kernel, long, method="aol").value >= 300


@pytest.mark.parametrize("method", ["aol", "frobenius", "fantastic_four"])
def test_the_closed_forms_have_their_derivatives(method):
    rng = np.random.default_rng(9)
    kernel, direction = rng.standard_normal((2, 3, 3, 2, 3))
    with enable_x64():

        def bound(scale):
            moved = jnp.asarray(kernel) + scale * jnp.asarray(direction)
            return bounds.upper(moved, sx.Conv((5, 5)), method=method).value

        slope = float(jax.jit(jax.grad(bound))(0.0))
        # The rounding term of a float64 sum is far below the step.
        ends = [float(bound(step)) for step in (1e-6, -1e-6)]
    np.testing.assert_allclose(slope, (ends[0] - ends[1]) / 2e-6, rtol=1e-4)


def test_reflected_images_have_no_bound_for_every_size():
    with pytest.raises(
        ValueError, match=r"every_size=True: got reflected padding; need zero"
    ):
        bounds.upper(
            jnp.ones((3, 3, 1, 1)), sx.Conv((6, 6), padding="REFLECT"), every_size=True
        )


def test_a_matrix_is_less_than_its_operator():
    kernel = np.random.default_rng(7).standard_normal((3, 3, 8, 8))
    array = jnp.asarray(kernel, jnp.float32)
    matrix, operator = bounds.exact(array), bounds.exact(array, sx.Conv((8, 8)))
    np.testing.assert_allclose(matrix.value, np.linalg.norm(rows(kernel), 2), rtol=1e-5)
    assert matrix.value < operator.value < 3 * matrix.value
