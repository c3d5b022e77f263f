"""What to divide a kernel by, so that the norm of the rounded result is proved."""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact, Real

from specjax._core.batch import over_batch
from specjax._core.rescale import normalize
from specjax._core.vectors import vector_dtype
from specjax._options import Bound
from specjax.bounds._circular import containing, repeats
from specjax.bounds._rounding import frobenius, up
from specjax.bounds._upper import upper
from specjax.linear_maps._conv import Conv
from specjax.linear_maps._matrix import LinearMap


@functools.partial(jax.jit, static_argnames=("linear_map", "cap", "grad_sigma"))
def certified(
    kernel: Array, bound: Bound, *, linear_map: LinearMap, cap: bool, grad_sigma: bool
) -> Array:
    """Returns the kernel divided by a proved bound: its norm is at most `bound`."""
    divisor = certified_divisor(kernel, linear_map)
    if not grad_sigma:
        divisor = lax.stop_gradient(divisor)
    reached = jnp.asarray(bound, divisor.dtype) - underflow(kernel, linear_map)
    return normalize(kernel, divisor, linear_map, jnp.maximum(reached, 0), cap)


def certified_divisor(
    kernel: Inexact[Array, " ..."], linear_map: LinearMap
) -> Real[Array, " ..."]:
    """Returns a number d such that ``kernel bound / d``, rounded, is on the bound.

    It is the upper bound on the norm, and what rounding each entry to the kernel's
    dtype can add: a unit of roundoff of the norm of the absolute values, which in
    bfloat16 is up to .4 % of the Frobenius norm.
    """
    proved = upper(kernel, linear_map).value
    return up(proved + _rounding(kernel, linear_map=linear_map), 8)


@over_batch
def _rounding(kernel: Array, *, linear_map: LinearMap) -> Array:
    wide = kernel.astype(vector_dtype(kernel.dtype))
    # Roundings: of the factor, the product, and to the kernel's dtype.
    n_units = 3 * jnp.finfo(wide.dtype).eps + jnp.finfo(kernel.dtype).eps / 2
    size = frobenius(wide.reshape(-1, wide.shape[-1]))
    return up(n_units * absolute_over_frobenius(kernel.shape, linear_map) * size)


def absolute_over_frobenius(shape: tuple[int, ...], linear_map: LinearMap) -> float:
    """Returns how much larger than |W|_F the norm of the absolute values may be."""
    if not isinstance(linear_map, Conv):
        return 1.0
    window = shape[: len(linear_map.input_shape)]
    return math.prod(window) ** 0.5 * repeats(containing(linear_map, shape))


def underflow(kernel: Inexact[Array, " ..."], linear_map: LinearMap) -> float:
    """Returns what entries too small for the dtype can add to the norm of the result.

    Float16 keeps subnormal numbers on every backend; the others may be flushed.
    """
    limits = jnp.finfo(kernel.dtype)
    half = kernel.dtype == jnp.float16
    least = float(limits.smallest_subnormal if half else limits.tiny)
    whole = linear_map.resolve(kernel.shape)
    others = [n for axis, n in enumerate(kernel.shape) if axis not in whole.batch_axis]
    ratio = absolute_over_frobenius(tuple(others), whole.one())
    return least * math.prod(others) ** 0.5 * ratio
