"""From sigma and the bound to the normalized kernel: ``W bound / sigma``."""

import jax.numpy as jnp
from jaxtyping import Array, Inexact, Real

from specjax._core.batch import check_vectors
from specjax._core.vectors import vector_dtype
from specjax._options import Bound, check_options
from specjax.linear_maps._matrix import LinearMap, Matrix


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
    scale = jnp.expand_dims(scale, others).astype(wide)
    return (kernel.astype(wide) * scale).astype(kernel.dtype)


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
