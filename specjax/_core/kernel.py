"""The whole path for one kernel, from a start vector: init and fuse.

Jitted, so that calls outside of jit run as one program each, and so that kernels of one
shape are traced once.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array

from specjax._core.krylov import warm_up
from specjax._core.rescale import normalize
from specjax._core.state import Carried, expected, split_axes
from specjax._core.step import power_iteration
from specjax._core.vectors import generic_direction, random_direction
from specjax._options import Bound
from specjax.linear_maps._matrix import LinearMap


@functools.partial(jax.jit, static_argnames=("linear_map",))
def init_one(kernel: Array, key: Array | None, *, linear_map: LinearMap) -> Carried:
    """Returns the converged u and its sigma, from a fixed start or a random one."""
    u = expected(kernel, linear_map).u
    split = split_axes(linear_map, u.ndim)
    if key is None:
        return _converge(kernel, generic_direction(u.shape, u.dtype, split), linear_map)
    start = random_direction(key, u.shape, u.dtype, split)
    return _converge(kernel, start, linear_map)


@functools.partial(jax.jit, static_argnames=("linear_map", "cap"))
def fuse_one(
    kernel: Array, u: Array, bound: Bound, *, linear_map: LinearMap, cap: bool
) -> Array:
    """Returns the kernel on the bound, with u converged on this very kernel."""
    # Not u alone: it may be blind to what leads in these params.
    start = u + generic_direction(u.shape, u.dtype, split_axes(linear_map, u.ndim))
    sigma = _converge(kernel, start, linear_map).sigma
    return normalize(kernel, sigma, linear_map, bound, cap)


def _converge(kernel: Array, start: Array, linear_map: LinearMap) -> Carried:
    u, u2 = warm_up(kernel, start, linear_map)
    u, u2, _, sigma = power_iteration(kernel, u, u2, linear_map)
    return Carried(u, u2, _last_finite(sigma, jnp.zeros_like(sigma)))


def _last_finite(new: Array, old: Array) -> Array:
    return jnp.where(jnp.isfinite(new), new, old)
