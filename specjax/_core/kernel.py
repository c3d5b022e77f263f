"""The whole path of one kernel: power step, sigma, rescaling.

    u, u2, v = power_iteration(W, u, u2);  sigma = v W u;  W' = W bound / sigma

Jitted, so that calls outside of jit run as one program each, and so that kernels of one
shape are traced once. A kernel may be a stack of kernels.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
from jax import lax
from jaxtyping import Array, Inexact, Real

from specjax._core.guards import last_finite
from specjax._core.krylov import converge, fixed_start
from specjax._core.sigma import normalize, scale, sigma
from specjax._core.state import KernelState
from specjax._core.step import SingularVectors, power_iteration
from specjax._core.vectors import random_direction
from specjax._options import Bound
from specjax.linear_maps import StackedMap


class Normalized(NamedTuple):
    """What becomes of one kernel in a step.

    Attributes:
        kernel: the kernel normalized.
        scale: what it was multiplied with; has the derivative, too.
        state: the next one.
    """

    kernel: Inexact[Array, " ..."]
    scale: Real[Array, " ..."]
    state: KernelState


def apply_all(
    kernels: Sequence[Array],
    states: Sequence[KernelState],
    bound: Bound,
    *,
    linear_maps: Sequence[StackedMap],
    cap: bool,
    n_steps: int,
    grad_sigma: bool,
) -> list[Normalized]:
    """Returns each kernel normalized, one after the other."""
    return [
        apply(
            kernel,
            state,
            bound,
            linear_map=linear_map,
            cap=cap,
            n_steps=n_steps,
            grad_sigma=grad_sigma,
        )
        for kernel, state, linear_map in zip(kernels, states, linear_maps, strict=True)
    ]


@functools.partial(
    jax.jit, static_argnames=("linear_map", "cap", "n_steps", "grad_sigma", "iterate")
)
def apply(
    kernel: Array,
    state: KernelState,
    bound: Bound,
    *,
    linear_map: StackedMap,
    cap: bool,
    n_steps: int,
    grad_sigma: bool,
    iterate: Callable[..., SingularVectors] = power_iteration,
) -> Normalized:
    """Returns the kernel normalized, and what is carried to the next step."""
    vectors = iterate(kernel, state.u, state.u2, linear_map, n_steps)
    return rescaled(
        kernel,
        state,
        vectors,
        bound,
        linear_map=linear_map,
        cap=cap,
        grad_sigma=grad_sigma,
    )


def rescaled(
    kernel: Array,
    state: KernelState,
    vectors: SingularVectors,
    bound: Bound,
    *,
    linear_map: StackedMap,
    cap: bool,
    grad_sigma: bool,
) -> Normalized:
    """Returns the kernel on the bound, after a power step."""
    u, u2, v, new = vectors
    value = sigma(kernel, u, v, linear_map, new)
    value = value if grad_sigma else lax.stop_gradient(value)
    return Normalized(
        kernel=normalize(kernel, value, linear_map, bound, cap),
        scale=scale(value, bound, cap),
        state=KernelState(u, u2, last_finite(new, state.sigma)),
    )


@functools.partial(jax.jit, static_argnames=("linear_map",))
def init(kernel: Array, key: Array | None, *, linear_map: StackedMap) -> KernelState:
    """Returns the converged u and its sigma, from a fixed start or a random one."""
    start = fixed_start(kernel, linear_map)
    if key is not None:
        split = linear_map.out_split
        start = random_direction(key, start.shape, start.dtype, split)
    return converge(kernel, linear_map, start)


@functools.partial(jax.jit, static_argnames=("linear_map", "cap"))
def fuse(
    kernel: Array, u: Array, bound: Bound, *, linear_map: StackedMap, cap: bool
) -> Array:
    """Returns the kernel on the bound, with u converged on this very kernel."""
    # Not from u alone: it may be blind to what leads in these params.
    start = u + fixed_start(kernel, linear_map)
    value = converge(kernel, linear_map, start).sigma
    return normalize(kernel, value, linear_map, bound, cap)
