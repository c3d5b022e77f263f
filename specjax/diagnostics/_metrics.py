"""Metrics of one step: how large each kernel is, and how well the state knows it.

Cheap enough for every step: three reads of each kernel, and no derivative.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from specjax._core import state as _state
from specjax._core.batch import over_batch, separate_cast
from specjax._core.step import power_iteration
from specjax._tree import join
from specjax.diagnostics._frobenius import frobenius
from specjax.kernels._rules import Kernels, flax_kernels, select
from specjax.linear_maps import ResolvedMap, StackedMap
from specjax.linear_maps._sharding import total


def metrics(
    params: Any, state: Any, *, kernels: Kernels = flax_kernels
) -> dict[str, dict[str, Array]]:
    """Returns a few numbers for each kernel; works under jit, scan and on any mesh.

    For a stack of kernels each number is an array of the batch axes' shape.

    * ``sigma``: the state's estimate of the spectral norm on these very params, in the
      kernel's units: at most the norm. `sn_apply` divides by it in evaluation.
    * ``residual``: ``|v W - sigma u| / sigma``, an error bar without a unit. Some
      singular value (the first one, if the state is warm) lies within
      ``residual / sqrt(2)`` of sigma, relatively. 0: u and v are singular vectors.
    * ``frobenius``: root of the sum of all squared singular values. For a `Conv` it is
      that of the operator on images, as sigma is, and not that of the kernel's entries.
    * ``stable_rank``: ``(frobenius / sigma)^2``, from 1 to the rank: how many singular
      values there are, in units of the first. As sigma is at most the norm, this is at
      least the stable rank.

    A linear map of your own without `squares` has only the first two. A zero
    kernel has zeros, one that is not finite has NaN; a kernel that is not zero with a
    sigma of zero (the state is blind to it) has an infinite residual and stable rank.

    Args:
        params: tree of arrays, as given to `sn_init`.
        state: from `sn_init` or `sn_apply`; read, not changed.
        kernels: as given to `sn_init`.

    Returns:
        ``{"Dense_0/kernel": {"sigma": ..., ...}}``, in float32 (float64 for float64).

    Raises:
        ValueError, TypeError: as `sn_apply`.

    Example:
        >>> import jax.numpy as jnp
        >>> import specjax as sx
        >>> params = {"Dense_0": {"kernel": jnp.diag(jnp.array([2.0, 1.0]))}}
        >>> found = metrics(params, sx.sn_init(params))["Dense_0/kernel"]
        >>> for name in ("sigma", "residual", "frobenius", "stable_rank"):
        ...     print(name, found[name].round(3))
        sigma 2.0
        residual 0.0
        frobenius 2.236
        stable_rank 1.25

    Source: the error bar is that of a Hermitian eigenvalue, here of [[0, W], [W^H, 0]]
    and its vector (v, u): Bai et al., "Templates for the Solution of Algebraic
    Eigenvalue Problems" (2000), chapter 4, on residuals and backward errors.
    """
    selected = select(params, kernels)
    carried = _state.read(state, selected)
    return {
        join(path): _metrics_of_one(
            jnp.asarray(kernel),
            carried[path].u,
            carried[path].u2,
            linear_map=linear_map,
        )
        for path, (kernel, linear_map) in selected.items()
    }


@functools.partial(jax.jit, static_argnames=("linear_map",))
def _metrics_of_one(
    kernel: Array, u: Array, u2: Array, *, linear_map: StackedMap
) -> dict[str, Array]:
    kernel = lax.stop_gradient(kernel)
    u, _, v, sigma = power_iteration(kernel, u, u2, linear_map, n_steps=0)
    error = _error(kernel, u, v, sigma, linear_map=linear_map)
    size = frobenius(kernel, linear_map=linear_map)
    largest = error if size is None else size
    usable = jnp.isfinite(sigma) & jnp.isfinite(largest)

    def relative(value: Array) -> Array:
        # Nothing over nothing is nothing; something over nothing is not.
        ratio = jnp.where(sigma > 0, value, jnp.inf) / jnp.where(sigma > 0, sigma, 1)
        return jnp.where((sigma > 0) | (largest > 0), ratio, 0)

    found = {"sigma": sigma, "residual": relative(error)}
    if size is not None:
        found |= {"frobenius": size, "stable_rank": jnp.square(relative(size))}
    return {name: jnp.where(usable, x, jnp.nan) for name, x in found.items()}


@over_batch
def _error(
    kernel: Array, u: Array, v: Array, sigma: Array, *, linear_map: ResolvedMap
) -> Array:
    """Returns ``|v W - sigma u|``."""
    product = linear_map.apply(separate_cast(kernel, v), v)
    error = jnp.square(jnp.abs(product - sigma.astype(u.dtype) * u))
    return jnp.sqrt(total(error, linear_map.split.over_y))
