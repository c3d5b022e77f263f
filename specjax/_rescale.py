"""From sigma and the bound to the normalized kernel: ``W bound / sigma``."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact, Real

from specjax._batch import check_vectors
from specjax._linear_map import LinearMap, Matrix
from specjax._options import Bound, check_options
from specjax._vectors import vector_dtype


def normalize(
    kernel: Inexact[Array, " ..."],
    sigma: Real[Array, " ..."],
    linear_map: LinearMap = Matrix(),
    bound: Bound = 1.0,
    cap: bool = False,
) -> Inexact[Array, " ..."]:
    """Returns ``kernel * bound / sigma`` in the kernel's dtype.

    A kernel whose sigma is zero or not finite comes back as it is.

    Args:
        kernel: one kernel, or a stack of them (`linear_map.batch_axis`).
        sigma: the kernel's spectral norm; one for each slice of a stack.
        linear_map: which axes are in, out and batch.
        bound: the spectral norm of the result, in sigma's units.
        cap: only shrink: a kernel below the bound comes back as it is.

    Example:
        >>> print(normalize(jnp.array([[3.0, 0.0], [0.0, 1.5]]), jnp.array(3.0)))
        [[1.  0. ]
         [0.  0.5]]
    """
    check_options(bound=bound)
    check_vectors(kernel, linear_map, sigma=sigma)
    return scaled(kernel, factor(sigma, bound, cap), linear_map)


def scaled(kernel: Array, scale: Array, linear_map: LinearMap) -> Array:
    """Returns ``kernel * scale`` in the kernel's dtype, one scale for each slice."""
    batch_axis = linear_map.resolve(kernel.shape).batch_axis
    others = tuple(axis for axis in range(kernel.ndim) if axis not in batch_axis)
    wide = vector_dtype(kernel.dtype)
    scale = scale.astype(jnp.finfo(wide).dtype)
    if batch_axis:
        scale = jnp.expand_dims(scale, others)
    times = _divided if len(others) > 2 else jnp.multiply
    return times(kernel.astype(wide), scale).astype(kernel.dtype)


def _divided(kernel: Array, scale: Array) -> Array:
    """Returns ``kernel * scale`` by a division, for a convolution's kernel.

    XLA's compiler for CPUs repeats a product in all that uses it, so that the gradient
    of the kernel is kept until the update, in memory that other convolutions wait for.
    A division by a number that is used twice it does once (docs/performance.md).
    """
    inverse = 1 / jnp.maximum(scale, jnp.finfo(scale.dtype).tiny)
    return _quotient(kernel, scale, lax.stop_gradient(inverse))


@jax.custom_jvp
def _quotient(kernel: Array, scale: Array, inverse: Array) -> Array:
    del scale
    return kernel / inverse


@_quotient.defjvp
def _quotient_jvp(primals, tangents):
    # Not as jax has it: the divisor's square may be out of range.
    (kernel, _, inverse), (d_kernel, d_scale, _) = primals, tangents
    return _quotient(*primals), d_kernel / inverse + kernel * d_scale


def factor(sigma: Real[Array, " ..."], bound: Bound, cap: bool) -> Real[Array, " ..."]:
    """Returns what the kernel is multiplied with: ``bound / sigma``.

    With `cap` at most one. One, with derivative zero, where sigma is zero or not
    finite.
    """
    usable = jnp.isfinite(sigma) & (sigma > 0)
    ratio = jnp.asarray(bound, sigma.dtype) / jnp.where(usable, sigma, 1)
    if cap:
        usable = usable & (ratio < 1)
    return jnp.where(usable, ratio, 1)
