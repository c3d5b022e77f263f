"""One kernel divided by the mean of its norms under two linear maps: a step, and fuse.

Jitted, so that calls outside of jit run as one program each.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from specjax._core.krylov import warm_up
from specjax._core.rescale import normalize
from specjax._core.sigma import sigma
from specjax._core.state import Carried, split_axes
from specjax._core.step import power_iteration
from specjax._core.vectors import generic_direction
from specjax._options import Bound
from specjax.linear_maps._matrix import LinearMap


@functools.partial(
    jax.jit, static_argnames=("linear_maps", "cap", "n_steps", "grad_sigma")
)
def apply_one(
    kernel: Array,
    carried: tuple[Carried, ...],
    bound: Bound,
    *,
    linear_maps: tuple[LinearMap, ...],
    cap: bool,
    n_steps: int,
    grad_sigma: bool,
) -> tuple[Array, tuple[Carried, ...]]:
    """Returns the kernel normalized, and what is carried of each way."""
    found, after = [], []
    for old, linear_map in zip(carried, linear_maps, strict=True):
        u, u2, v, new = power_iteration(kernel, old.u, old.u2, linear_map, n_steps)
        found.append(sigma(kernel, u, v, linear_map))
        after.append(Carried(u, u2, jnp.where(jnp.isfinite(new), new, old.sigma)))
    mean = (found[0] + found[1]) / 2
    mean = mean if grad_sigma else lax.stop_gradient(mean)
    return normalize(kernel, mean, linear_maps[0], bound, cap), tuple(after)


@functools.partial(jax.jit, static_argnames=("linear_maps", "cap"))
def fuse_one(
    kernel: Array,
    carried: tuple[Carried, ...],
    bound: Bound,
    *,
    linear_maps: tuple[LinearMap, ...],
    cap: bool,
) -> Array:
    """Returns the kernel on the bound, both norms converged on this very kernel."""
    found = []
    for old, linear_map in zip(carried, linear_maps, strict=True):
        split = split_axes(linear_map, old.u.ndim)
        # Not u alone: it may be blind to what leads in these params.
        start = old.u + generic_direction(old.u.shape, old.u.dtype, split)
        u, u2 = warm_up(kernel, start, linear_map)
        found.append(power_iteration(kernel, u, u2, linear_map).sigma)
    return normalize(kernel, (found[0] + found[1]) / 2, linear_maps[0], bound, cap)
