"""What to divide a kernel by, so that the norm of the rounded result is proved."""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact, Real

from specjax._core.batch import over_batch
from specjax._core.sigma import normalize
from specjax._core.vectors import vector_dtype
from specjax._options import Bound
from specjax.bounds._rounding import frobenius, up
from specjax.bounds._upper import upper
from specjax.linear_maps import ResolvedMap, StackedMap
from specjax.linear_maps._circular import repeats


@functools.partial(jax.jit, static_argnames=("linear_map", "cap", "grad_sigma"))
def certified(
    kernel: Array, bound: Bound, *, linear_map: StackedMap, cap: bool, grad_sigma: bool
) -> Array:
    """Returns the kernel divided by a proved bound: its norm is at most `bound`."""
    divisor = certified_divisor(kernel, linear_map)
    if not grad_sigma:
        divisor = lax.stop_gradient(divisor)
    reached = jnp.asarray(bound, divisor.dtype)
    reached -= underflow(kernel, linear_map).astype(reached.dtype)
    return normalize(kernel, divisor, linear_map, jnp.maximum(reached, 0), cap)


def certified_divisor(
    kernel: Inexact[Array, " ..."], linear_map: StackedMap
) -> Real[Array, " ..."]:
    """Returns a number d such that ``kernel bound / d``, rounded, is on the bound.

    It is the upper bound on the norm, and what rounding each entry to the kernel's
    dtype can add: a unit of roundoff of the norm of the absolute values, which in
    bfloat16 is up to 0.4 % of the Frobenius norm.
    """
    proved = upper(kernel, linear_map).value
    return up(proved + _rounding(kernel, linear_map=linear_map), 8)


@over_batch
def _rounding(kernel: Array, *, linear_map: ResolvedMap) -> Array:
    wide = kernel.astype(vector_dtype(kernel.dtype))
    # Roundings: of the factor, the product, and to the kernel's dtype.
    n_units = 3 * jnp.finfo(wide.dtype).eps + jnp.finfo(kernel.dtype).eps / 2
    return up(n_units * norm_of_absolute(wide, linear_map))


def norm_of_absolute(
    kernel: Inexact[Array, " ..."], linear_map: ResolvedMap
) -> Real[Array, ""]:
    """Returns what the norm is at most if entries of the kernel change their signs."""
    axes = linear_map.circular
    if linear_map.matrix_axes is None and axes is None:
        return frobenius(up(linear_map.dense(jnp.abs(kernel)), kernel.size + 4))
    ratio = 1.0
    if axes is not None:
        ratio = math.prod(kernel.shape[: len(axes)]) ** 0.5 * repeats(axes)
    return up(ratio * frobenius(kernel.reshape(-1, kernel.shape[-1])))


def underflow(kernel: Inexact[Array, " ..."], linear_map: StackedMap) -> Array:
    """Returns what entries too small for the dtype can add to the norm of the result.

    Float16 keeps subnormal numbers on every backend; the others may be flushed.
    """
    limits = jnp.finfo(kernel.dtype)
    half = kernel.dtype == jnp.float16
    least = float(limits.smallest_subnormal if half else limits.tiny)
    ones = jnp.ones(linear_map.one.shape, vector_dtype(kernel.dtype))
    return least * norm_of_absolute(ones, linear_map.one)
