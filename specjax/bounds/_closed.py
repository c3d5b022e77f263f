"""Upper bounds in closed form: cheap, for every image size at once, and loose."""

import itertools
import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact, Real

from specjax._core.guards import root
from specjax.bounds._gram import gram_bound
from specjax.bounds._rounding import gamma, power_of_two, up


def almost_orthogonal(
    kernel: Inexact[Array, " *window n_in n_out"],
) -> Real[Array, ""]:
    """Returns the root of the largest absolute row sum of W W^H.

    The bound behind almost orthogonal layers (AOL), which divide by it row by row. For
    a window it is the sum over all shifts of the window against itself, so it holds for
    images of every size. Rows are inputs or outputs, whichever is less.

    Source: Prach and Lampert, "Almost-Orthogonal Layers for Efficient General-Purpose
    Lipschitz Networks" (2022), Theorem 2.
    """
    scale = power_of_two(kernel)
    scaled = kernel / scale.astype(kernel.dtype)
    rows = _row_sums(scaled), _row_sums(jnp.swapaxes(scaled, -2, -1))
    return up(scale * root(jnp.minimum(*map(jnp.max, rows))))


def _row_sums(kernel: Array) -> Array:
    """Returns the sums of ``|W W^H|`` over inputs and shifts, rounded up."""
    *window, _, n_out = kernel.shape
    together = _correlation(kernel)
    sums = jnp.sum(jnp.abs(together), axis=(*range(len(window)), -1))
    # What rounding may have taken away, at most: as if no product had canceled.
    size = jnp.sum(jnp.abs(kernel), axis=tuple(range(len(window))))
    most = jnp.sum(size * jnp.sum(size, axis=0), axis=-1)
    n_roundings = 2 * math.prod(window) * n_out + 2 * together[..., 0, :].size + 8
    return sums + 2 * gamma(n_roundings, most.dtype) * most


def _correlation(kernel: Array) -> Array:
    """Returns ``sum_t W_t W_(t+s)^H`` for every shift s: (*shifts, n_in, n_in)."""
    if jnp.iscomplexobj(kernel):
        # Four real ones: a convolution of complex numbers has no known error.
        real, imag = kernel.real, kernel.imag
        return lax.complex(
            _real_correlation(real, real) + _real_correlation(imag, imag),
            _real_correlation(imag, real) - _real_correlation(real, imag),
        )
    return _real_correlation(kernel, kernel)


def _real_correlation(left: Array, right: Array) -> Array:
    n = left.ndim - 2
    shifts = [(size - 1, size - 1) for size in left.shape[:n]]
    # Images: one for each input of the left; the window of the right slides over them.
    image = lax.ConvDimensionNumbers(
        (n, n + 1, *range(n)), (n, n + 1, *range(n)), (n, n + 1, *range(n))
    )
    return lax.conv_general_dilated(
        left,
        right,
        window_strides=(1,) * n,
        padding=shifts,
        dimension_numbers=image,
        precision=lax.Precision.HIGHEST,
    )


def fantastic_four(
    kernel: Inexact[Array, " *window n_in n_out"], n_squarings: int
) -> Real[Array, ""]:
    """Returns sqrt(window size) times the least norm of the window's reshapes.

    Each axis of the window lies on the input or on the output side: two reshapes for
    one axis, four for two, eight for three. Each norm is a Gram bound.

    Source: Singla and Feizi, "Fantastic Four: Differentiable Bounds on Singular Values
    of Convolution Layers" (2021), Theorem 1.
    """
    *window, n_in, _ = kernel.shape
    n = len(window)
    bounds = []
    for n_left in range(n + 1):
        for left in itertools.combinations(range(n), n_left):
            right = tuple(axis for axis in range(n) if axis not in left)
            moved = kernel.transpose(*left, n, *right, n + 1)
            rows = math.prod(window[axis] for axis in left) * n_in
            bounds.append(gram_bound(moved.reshape(rows, -1), n_squarings))
    return up(jnp.min(jnp.stack(bounds)) * math.prod(window) ** 0.5)
