"""Spectral norm regularization: sigma squared as a loss, with a carried u."""

import functools
import operator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from specjax._core import state as _state
from specjax._core.guards import last_finite
from specjax._core.sigma import sigma
from specjax._core.state import KernelState
from specjax._core.step import power_iteration
from specjax._options import check_flags, check_options
from specjax.constraints._over_stack import over_stack
from specjax.kernels._rules import Kernels, flax_kernels, select
from specjax.linear_maps import StackedMap


def spectral_penalty(
    params: Any,
    state: Any,
    *,
    kernels: Kernels = flax_kernels,
    n_steps: int = 1,
    update_stats: bool = True,
) -> tuple[Float[Array, ""], Any]:
    """Returns ``sum(sigma^2) / 2`` over the kernels, and the next state.

    Its derivative in a kernel is ``sigma v u^T``, the best part of it of rank one: only
    the largest singular value is pulled down. Multiply by its weight (0.01 in the
    paper).

    Args:
        params: tree of arrays; boxes (`nn.Partitioned`) and `nnx.State` included.
        state: from `sn_init` of the same kernels; its u is carried.
        kernels: as given to `sn_init`.
        n_steps: power steps, each with two reads of the kernel.
        update_stats: False uses u as it is and returns the state unchanged.

    Returns:
        The penalty, in the square of the kernels' units, at most that of the largest
        singular values; zero for kernels of zeros and NaN with one that is not finite
        (of which the state keeps the last good u and sigma).

    Raises:
        ValueError, TypeError: as `sn_apply`.

    Example:
        >>> import jax.numpy as jnp
        >>> from specjax import sn_init
        >>> params = {"Dense_0": {"kernel": jnp.diag(jnp.array([3.0, 2.0]))}}
        >>> penalty, state = spectral_penalty(params, sn_init(params))
        >>> print(penalty.round(4))
        4.5

    Source: Yoshida and Miyato, "Spectral Norm Regularization for Improving the
    Generalizability of Deep Learning" (2017), section 3.2 and Algorithm 1.
    """
    check_options(n_steps=n_steps)
    check_flags(update_stats=update_stats)
    selected = select(params, kernels)
    carried = _state.read(state, selected)
    steps = n_steps if update_stats else 0
    found = {
        path: _penalty(jnp.asarray(kernel), carried[path], linear_map, steps)
        for path, (kernel, linear_map) in selected.items()
    }
    total = functools.reduce(operator.add, (penalty for penalty, _ in found.values()))
    if update_stats:
        state = _state.write(state, {path: new for path, (_, new) in found.items()})
    return total, state


@functools.partial(jax.jit, static_argnums=(2, 3))
def _penalty(
    kernel: Array, carried: KernelState, linear_map: StackedMap, n_steps: int
) -> tuple[Array, KernelState]:
    u, u2, v, new = power_iteration(kernel, carried.u, carried.u2, linear_map, n_steps)
    squares = jnp.square(sigma(kernel, u, v, linear_map, new))
    kept = last_finite(new, carried.sigma)
    return over_stack(squares, linear_map) / 2, KernelState(u, u2, kept)
