"""The whole path for one kernel, from a start vector, or by a bound: init and fuse.

Jitted, so that calls outside of jit run as one program each, and so that kernels of one
shape are traced once.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from specjax._linear_map import LinearMap
from specjax._options import Bound
from specjax._power import power_iteration
from specjax._rescale import normalize
from specjax._state import Carried, expected, split_axes
from specjax._vectors import generic_direction, random_direction
from specjax._warmup import warm_up
from specjax.bounds._certified import certified_divisor, underflow


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


@functools.partial(jax.jit, static_argnames=("linear_map", "cap", "grad_sigma"))
def certify_one(
    kernel: Array, bound: Bound, *, linear_map: LinearMap, cap: bool, grad_sigma: bool
) -> Array:
    """Returns the kernel divided by a proved bound: its norm is at most `bound`."""
    divisor = certified_divisor(kernel, linear_map)
    if not grad_sigma:
        divisor = lax.stop_gradient(divisor)
    reached = jnp.asarray(bound, divisor.dtype) - underflow(kernel, linear_map)
    return normalize(kernel, divisor, linear_map, jnp.maximum(reached, 0), cap)


def _converge(kernel: Array, start: Array, linear_map: LinearMap) -> Carried:
    u, u2 = warm_up(kernel, start, linear_map)
    u, u2, _, sigma = power_iteration(kernel, u, u2, linear_map)
    return Carried(u, u2, _last_finite(sigma, jnp.zeros_like(sigma)))


def _last_finite(new: Array, old: Array) -> Array:
    return jnp.where(jnp.isfinite(new), new, old)
