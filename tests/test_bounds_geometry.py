"""Bounds of convolutions over drawn geometries: none below the norm of the operator.

The oracle is numpy alone: which input each place of the window meets, as a table of
zeros and ones for each spatial axis, and a float64 SVD of their Kronecker products.
"""

import functools
import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, example, given, reject, settings
from hypothesis import strategies as st
from jax import lax

import specjax as sx
from specjax import bounds
from specjax.bounds._spectrum import block_error, over_blocks
from specjax.linear_maps._circular import repeats
from tests.exhaustive import sampled


class Geometry(NamedTuple):
    """A convolution, each word for each spatial axis.

    Attributes:
        sizes: of the image.
        window: sizes of the window.
        strides: of the window.
        inputs: dilation of the image.
        taps: dilation of the window.
        padding: a name, or (low, high) for each axis.
        groups: of channels.
        n_in: channels in a group.
        n_out: channels out of a group.
        transposed: whether it is `lax.conv_transpose`, whose strides dilate the image.
    """

    sizes: tuple[int, ...]
    window: tuple[int, ...]
    strides: tuple[int, ...]
    inputs: tuple[int, ...] = (1, 1)
    taps: tuple[int, ...] = (1, 1)
    padding: Any = "SAME"
    groups: int = 1
    n_in: int = 1
    n_out: int = 1
    transposed: bool = False

    @property
    def n(self) -> int:
        return len(self.sizes)

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.window, self.n_in, self.n_out * self.groups)

    def conv(self, **words: Any) -> sx.Conv:
        return sx.Conv(
            self.sizes,
            window_strides=self.strides,
            padding=self.padding,
            lhs_dilation=self.inputs[: self.n],
            rhs_dilation=self.taps[: self.n],
            feature_group_count=self.groups,
            transposed=self.transposed,
            **words,
        )


def meetings(geometry, axis):
    """Returns 0/1 (window, input, output): which input a tap meets for an output."""
    n, k = geometry.sizes[axis], geometry.window[axis]
    stride, step = geometry.strides[axis], geometry.taps[axis]
    spread, reach = geometry.inputs[axis], (k - 1) * step + 1
    if geometry.transposed:
        stride, spread = 1, stride
    row, padding = np.arange(n), geometry.padding
    ends = (reach - 1) // 2, reach // 2
    if padding in ("CIRCULAR", "REFLECT"):
        row = np.pad(row, ends, mode={"C": "wrap", "R": "reflect"}[padding[0]])
    elif padding == "CAUSAL":
        row = np.pad(row, (reach - 1, 0), constant_values=-1)
    dilated = np.full((len(row) - 1) * spread + 1, -1)
    dilated[::spread] = row
    low, high = _zeros(padding, axis, len(dilated), reach, stride, spread, geometry)
    dilated = np.pad(dilated, (max(low, 0), max(high, 0)), constant_values=-1)
    dilated = dilated[max(-low, 0) : len(dilated) - max(-high, 0)]
    n_out = (len(dilated) - reach) // stride + 1
    table = np.zeros((k, n, max(n_out, 0)))
    for tap, out in np.ndindex(k, max(n_out, 0)):
        met = dilated[out * stride + tap * step]
        if met >= 0:
            table[tap, met, out] = 1
    return table


def _zeros(padding, axis, size, reach, stride, spread, geometry):
    """Returns how many zeros are put before and after an axis."""
    if not isinstance(padding, str):
        return padding[axis]
    if geometry.transposed:
        # Of `lax.conv_transpose`: the sizes of the usual convolution are the outputs'.
        least = reach + spread - 2
        if padding == "SAME":
            low = reach - 1 if spread > reach - 1 else math.ceil(least / 2)
            return low, least - low
        return reach - 1, least + max(reach - spread, 0) - (reach - 1)
    if padding == "SAME":
        missing = max((math.ceil(size / stride) - 1) * stride + reach - size, 0)
        return missing // 2, missing - missing // 2
    return 0, 0


def norms(geometry, kernels, tables=None):
    """Returns the norm of the operator of each kernel, in float64.

    Args:
        geometry: whose channels and groups the kernels have.
        kernels: a stack of them.
        tables: of which input meets which output on each axis; the geometry's own.
    """
    tables = tables or [meetings(geometry, axis) for axis in range(geometry.n)]
    total: Any = 0.0
    for place in np.ndindex(*geometry.window):
        pixels = np.ones((1, 1))
        for table, tap in zip(tables, place, strict=True):
            pixels = np.kron(pixels, table[tap])
        at_place = kernels[(slice(None), *place)]
        split = at_place.reshape(len(kernels), geometry.n_in, geometry.groups, -1)
        channels = np.einsum("kigo,gh->kgiho", split, np.eye(geometry.groups))
        channels = channels.reshape(
            len(kernels), geometry.groups * geometry.n_in, at_place.shape[-1]
        )
        total = total + np.einsum("pq,kio->kpiqo", pixels, channels)
    rows = total.shape[1] * total.shape[2]
    return np.linalg.norm(total.reshape(len(kernels), rows, -1), 2, axis=(1, 2))


def kernels_of(geometry, seed=0):
    """Returns ten random kernels, six of signs, a sparse one, and one of ones."""
    rng = np.random.default_rng(seed)
    drawn = rng.standard_normal((18, *geometry.shape))
    drawn[10:16] = np.sign(drawn[10:16])
    drawn[16] *= rng.uniform(size=geometry.shape) < 0.4
    drawn[17] = 1
    return drawn.astype(np.float32).astype(np.float64)


@st.composite
def geometries(draw):
    """Draws geometries, most of them of one or two axes with hardly any room."""
    n = draw(st.sampled_from([1, 1, 2]))
    each = lambda numbers: tuple(draw(numbers) for _ in range(n))  # noqa: E731
    largest = {1: (9, 6), 2: (4, 3)}[n]
    sizes, window = (each(st.integers(1, top)) for top in largest)
    strides, taps = each(st.integers(1, 4)), each(st.sampled_from([1, 1, 2, 3]))
    transposed = draw(st.sampled_from([False, False, False, True]))
    dilated = not transposed and draw(st.booleans())
    inputs = each(st.integers(1, 3)) if dilated else (1,) * n
    names = ["SAME", "VALID", "VALID"] + ["CIRCULAR"] * (not transposed)
    if not transposed:
        names += ["REFLECT"] + ["CAUSAL"] * (n == 1)
    if max(inputs) > 1:
        names = [name for name in names if name not in ("SAME", "VALID")]
    ends = st.integers(-2, 5)
    padding = draw(st.sampled_from([*names, None, None]) if names else st.none())
    if padding is None:
        padding = each(st.tuples(ends, ends))
    groups = 1 if transposed else draw(st.sampled_from([1, 1, 2, 3]))
    n_in, n_out = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    return Geometry(
        sizes, window, strides, inputs, taps, padding, groups, n_in, n_out, transposed
    )


def resolved(geometry):
    """Returns its map; without one there is nothing left of the image, or to reflect.

    Not in the strategy: the checks of shapes look at a random entry of a tuple.
    """
    try:
        return geometry.conv().resolve(geometry.shape).one
    except ValueError:
        reject()


def circle(axis, window):
    """Returns 0/1 (window, input, output) on a circle, as `meetings` off it."""
    table = np.zeros((window, axis.size // axis.dilation, axis.size // axis.stride))
    for tap, x, out in np.ndindex(*table.shape):
        met = out * axis.stride + tap * axis.step - x * axis.dilation
        table[tap, x, out] = met % axis.size == 0
    return table


def assert_a_circle_contains_it(geometry):
    """Asserts that the circle that is chosen has a norm of at least the operator's."""
    conv, kernels = resolved(geometry), kernels_of(geometry)
    axes = conv.circular
    tables = [circle(axis, k) for axis, k in zip(axes, geometry.window, strict=True)]
    bound = repeats(axes) * norms(geometry, kernels, tables)
    true = norms(geometry, kernels)
    assert np.all(bound >= true * (1 - 1e-12))
    if all(axis.exact for axis in axes):
        np.testing.assert_allclose(bound, true, rtol=1e-12)


# Where one point less on the circle is too few, and where the next multiple is needed.
TIGHT = Geometry((5,), (3,), (1,), padding=((2, 0),))
MULTIPLE = Geometry((7,), (3,), (2,), padding="VALID")
drawn_again = functools.partial(
    settings,
    derandomize=True,
    database=None,
    deadline=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@example(TIGHT)
@example(MULTIPLE)
@example(Geometry((2, 3), (3, 2), (2, 1), taps=(2, 1), padding="SAME", groups=2))
@example(Geometry((4,), (2,), (3,), taps=(3,), padding="VALID", groups=3, n_in=2))
@example(Geometry((3, 3), (1, 3), (4, 2), inputs=(2, 2), padding=((-2, 3), (0, 3))))
@example(Geometry((3,), (3,), (1,), padding="REFLECT", n_out=2))
@example(Geometry((1,), (4,), (4,), padding="CIRCULAR"))
@example(Geometry((4,), (3,), (2,), padding="CAUSAL"))
@example(Geometry((2,), (1,), (1,), padding=((1, -2),), transposed=True))
@example(Geometry((3,), (2,), (2,), padding=((-1, -2),), transposed=True))
@given(geometries())
@drawn_again(max_examples=200)
def test_a_circle_contains_every_geometry(geometry):
    assert_a_circle_contains_it(geometry)


@pytest.mark.exhaustive
@given(geometries())
@drawn_again(max_examples=6000)
def test_a_circle_contains_many_geometries(geometry):
    assert_a_circle_contains_it(geometry)


METHODS = ("gram", "dense", "aol", "frobenius", "fantastic_four")


def assert_no_bound_is_below(geometry):
    """Asserts it for every method that applies, and for every size where there is."""
    resolved(geometry)
    kernels = kernels_of(geometry)
    array, conv = jnp.asarray(kernels, jnp.float32), geometry.conv(batch_axis=0)
    true = norms(geometry, kernels)
    options = [{"method": method} for method in METHODS]
    if geometry.padding in ("CIRCULAR", "REFLECT"):
        options.remove({"method": "dense"})
    if geometry.padding != "REFLECT":
        options.append({"every_size": True})
    for words in options:
        bound = np.asarray(bounds.upper(array, conv, **words).value, np.float64)
        assert np.all(bound >= true), words
        if words == {"method": "dense"}:
            assert np.all(bound <= 1.002 * true)


# One of a kind: each names what is special in it.
ONE_OF_A_KIND = {
    "tight": TIGHT,
    "a multiple of the stride": MULTIPLE,
    "wide padding": Geometry((2,), (3,), (1,), padding=((5, 4),), n_out=2),
    "cropped, groups": Geometry(
        (4, 3), (3, 2), (2, 1), padding=((-1, 3), (2, -1)), groups=2
    ),
    "dilated, both": Geometry((4,), (3,), (2,), (3,), (2,), padding=((1, 4),), n_in=2),
    "circular": Geometry((5,), (3,), (2,), taps=(2,), padding="CIRCULAR", n_in=2),
    "reflected": Geometry((3,), (3,), (1,), padding="REFLECT", n_out=2),
    "causal": Geometry((6,), (3,), (2,), taps=(2,), padding="CAUSAL"),
    "transposed": Geometry((3,), (4,), (2,), padding="SAME", n_in=2, transposed=True),
}


@pytest.mark.parametrize(
    "name",
    sampled(
        ONE_OF_A_KIND,
        ["tight", "wide padding", "a multiple of the stride", "cropped, groups"],
    ),
)
def test_no_bound_is_below_the_norm(name):
    assert_no_bound_is_below(ONE_OF_A_KIND[name])


@pytest.mark.exhaustive
@given(geometries())
@drawn_again(max_examples=150)
def test_no_bound_is_below_the_norm_of_drawn_geometries(geometry):
    assert_no_bound_is_below(geometry)


@pytest.mark.parametrize(
    "geometry",
    [
        *ONE_OF_A_KIND.values(),
        Geometry((4,), (2,), (3,), padding="VALID", n_in=2, transposed=True),
    ],
    ids=[*ONE_OF_A_KIND, "transposed, VALID"],
)
def test_the_oracle_is_the_convolution_of_jax(geometry):
    # Of one kernel each: with the paddings that jax has no word for made by numpy.
    kernel = kernels_of(geometry)[0]
    n_in, n = geometry.groups * geometry.n_in, geometry.n
    pixels = np.eye(math.prod(geometry.sizes) * n_in)
    images = pixels.reshape(-1, *geometry.sizes, n_in)
    words = {
        "rhs_dilation": geometry.taps[:n],
        "dimension_numbers": ("NHC", "HIO", "NHC")
        if n == 1
        else ("NHWC", "HWIO", "NHWC"),
        "precision": lax.Precision.HIGHEST,
    }
    padding = geometry.padding
    if geometry.transposed:
        rows = lax.conv_transpose(images, kernel, geometry.strides, padding, **words)
    else:
        reach = [
            (k - 1) * d for k, d in zip(geometry.window, geometry.taps, strict=False)
        ]
        if padding in ("CIRCULAR", "REFLECT", "CAUSAL"):
            mode = {"CIRCULAR": "wrap", "REFLECT": "reflect", "CAUSAL": "constant"}
            ends = [
                (r, 0) if padding == "CAUSAL" else (r // 2, r - r // 2) for r in reach
            ]
            images = np.pad(images, [(0, 0), *ends, (0, 0)], mode=mode[padding])
            padding = "VALID"
        rows = lax.conv_general_dilated(
            images, kernel, geometry.strides, padding, geometry.inputs[:n],
            feature_group_count=geometry.groups, **words,
        )  # fmt: skip
    want = np.linalg.norm(np.asarray(rows, np.float64).reshape(len(pixels), -1), 2)
    np.testing.assert_allclose(norms(geometry, kernel[None])[0], want, rtol=1e-5)


def test_what_the_sum_over_a_long_window_loses_is_in_the_bound():
    # A one, and thousands of taps that are each lost beside it in float32. At frequency
    # zero every phase is one, so the norm is the sum of the taps.
    lost = 0.9 * 2.0**-24
    kernels = np.full((4, 4096), lost, np.float32)
    kernels[np.arange(4), [0, 1, 2048, 4095]] = 1
    true = [math.fsum(map(float, kernel)) for kernel in kernels]
    linear_map = sx.Conv((8,), padding="CIRCULAR", batch_axis=0)
    bound = bounds.upper(jnp.asarray(kernels)[..., None, None], linear_map).value
    assert np.all(np.asarray(bound, np.float64) >= true)


def test_the_rounding_of_the_blocks_is_a_part_of_the_bound():
    # Whatever the order of the sums is here: the bound is that of what is computed, and
    # the rounding that it may have, which is far more than the slack of the rest.
    kernel = np.random.default_rng(0).standard_normal((700, 3, 2)).astype(np.float32)
    array = jnp.asarray(kernel)
    linear_map = sx.Conv((8,), padding="CIRCULAR").resolve(kernel.shape)
    one = linear_map.one
    axes = one.circular
    blocks = over_blocks(lambda one: one, one.taps(array), axes)
    computed = np.linalg.norm(np.asarray(blocks, np.complex128), 2, axis=(-2, -1))
    rounding = float(block_error(one.taps(array), axes)[0])
    bound = float(bounds.upper(array, linear_map, n_squarings=20).value)
    assert bound >= computed.max() + rounding
    assert bound <= (computed.max() + rounding) * (1 + 2e-5)
