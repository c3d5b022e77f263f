"""One kernel divided by the mean of its norms under two linear maps: a step, and fuse.

Jitted, so that calls outside of jit run as one program each.
"""

import functools

import jax
from jax import lax
from jaxtyping import Array

from specjax._core.guards import last_finite
from specjax._core.krylov import converge, fixed_start
from specjax._core.sigma import normalize, sigma
from specjax._core.state import KernelState
from specjax._core.step import power_iteration
from specjax._options import Bound
from specjax.linear_maps import StackedMap


@functools.partial(
    jax.jit, static_argnames=("linear_maps", "cap", "n_steps", "grad_sigma")
)
def apply_one(
    kernel: Array,
    carried: tuple[KernelState, ...],
    bound: Bound,
    *,
    linear_maps: tuple[StackedMap, ...],
    cap: bool,
    n_steps: int,
    grad_sigma: bool,
) -> tuple[Array, tuple[KernelState, ...]]:
    """Returns the kernel normalized, and what is carried of each way."""
    found, after = [], []
    for old, linear_map in zip(carried, linear_maps, strict=True):
        u, u2, v, new = power_iteration(kernel, old.u, old.u2, linear_map, n_steps)
        found.append(sigma(kernel, u, v, linear_map, new))
        after.append(KernelState(u, u2, last_finite(new, old.sigma)))
    mean = (found[0] + found[1]) / 2
    mean = mean if grad_sigma else lax.stop_gradient(mean)
    return normalize(kernel, mean, linear_maps[0], bound, cap), tuple(after)


@functools.partial(jax.jit, static_argnames=("linear_maps", "cap"))
def fuse_one(
    kernel: Array,
    carried: tuple[KernelState, ...],
    bound: Bound,
    *,
    linear_maps: tuple[StackedMap, ...],
    cap: bool,
) -> Array:
    """Returns the kernel on the bound, both norms converged on this very kernel."""
    found = []
    for old, linear_map in zip(carried, linear_maps, strict=True):
        # Not from u alone: it may be blind to what leads in these params.
        start = old.u + fixed_start(kernel, linear_map)
        found.append(converge(kernel, linear_map, start).sigma)
    return normalize(kernel, (found[0] + found[1]) / 2, linear_maps[0], bound, cap)
