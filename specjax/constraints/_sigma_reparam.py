"""Sigma-reparametrization: ``g W / sigma(W)``, a kernel's norm as a trained number."""

from collections.abc import Mapping
from typing import Any

import jax
from jaxtyping import Array

from specjax._core.state import State
from specjax._tree import Path, replace_leaves
from specjax.constraints import _split
from specjax.constraints._split import Split
from specjax.constraints._units import NumberShapes, Selected, times
from specjax.kernels._rules import Kernels, flax_kernels, select
from specjax.linear_maps import StackedMap
from specjax.transforms import sn_apply, sn_fuse, sn_init


def sr_init(
    params: Any, *, kernels: Kernels = flax_kernels, key: Array | None = None
) -> tuple[Split, State]:
    """Returns ``{"g": sigma(W), "v": params}``, to be trained, and the state.

    The function is unchanged, up to the error of sigma. For a start with every norm at
    one, replace g by ones.

    Args:
        params: tree of arrays; boxes (`nn.Partitioned`) and `nnx.State` included.
        kernels: which leaves are kernels and what linear map each one is.
        key: as for `sn_init`.

    Returns:
        The split tree, g with one number for each kernel (or slice of a stack), in the
        kernel's units, float32 at least; and the state of `sn_init`.

    Raises:
        ValueError, TypeError: as `sn_init`.

    Example:
        >>> import jax.numpy as jnp
        >>> params = {"Dense_0": {"kernel": jnp.diag(jnp.array([3.0, 2.0]))}}
        >>> split, state = sr_init(params)
        >>> print(split["g"]["Dense_0"]["kernel"].round(4))
        3.0

    Source: Zhai et al., "Stabilizing Transformer Training by Preventing Attention
    Entropy Collapse" (2023).
    """
    state = sn_init(params, kernels=kernels, key=key)
    gains = {}
    for path in select(params, kernels):
        entry: Any = state
        for name in path:
            entry = entry[name]
        gains[path] = entry["sigma"]
    return _split.build(params, gains), state


def sr_apply(
    split: Any,
    state: Any,
    *,
    kernels: Kernels = flax_kernels,
    n_steps: int = 1,
    update_stats: bool = True,
    grad_sigma: bool = True,
) -> tuple[Any, Any]:
    """Returns the params with every kernel at norm ``|g|``, and the next state.

    ``dL/dg`` is ``<dL/dW', W> / sigma``, and dL/dW as in spectral normalization: it is
    orthogonal to W. A kernel of zeros, and one that is not finite, is g times itself.

    Args:
        split: from `sr_init`, or after training steps.
        state: from `sr_init` or the previous call.
        kernels: as given to `sr_init`.
        n_steps: power steps.
        update_stats: False, in evaluation, uses u as it is.
        grad_sigma: False holds sigma constant in the derivative.

    Raises:
        ValueError, TypeError: as `sn_apply`, and for a split tree that `sr_init` does
            not make of these kernels.

    Example:
        >>> import jax.numpy as jnp
        >>> params = {"Dense_0": {"kernel": jnp.diag(jnp.array([3.0, 2.0]))}}
        >>> split, state = sr_init(params)
        >>> split["g"]["Dense_0"]["kernel"] = jnp.float32(6.0)
        >>> params, state = sr_apply(split, state)
        >>> print(params["Dense_0"]["kernel"].round(4))
        [[6. 0.]
         [0. 4.]]

    Source: Zhai et al. (2023).
    """
    found = _read(split, kernels)
    params, state = sn_apply(
        split["v"],
        state,
        kernels=kernels,
        n_steps=n_steps,
        update_stats=update_stats,
        grad_sigma=grad_sigma,
    )
    return _times_gains(params, found, kernels), state


def sr_fuse(split: Any, state: Any, *, kernels: Kernels = flax_kernels) -> Any:
    """Returns plain params at norm ``|g|``: u is converged on these very directions.

    Args:
        split: from `sr_init`, or after training steps; read, not changed.
        state: from `sr_init` or `sr_apply`.
        kernels: as given to `sr_init`.

    Raises:
        ValueError, TypeError: as `sr_apply`.
    """
    found = _read(split, kernels)
    return _times_gains(sn_fuse(split["v"], state, kernels=kernels), found, kernels)


def _read(split: Any, kernels: Kernels) -> dict[Path, tuple[Array, Array, StackedMap]]:
    return _split.read(split, kernels, _one_each, "sr_init")


def _one_each(kernels: Selected) -> dict[Path, NumberShapes]:
    return {
        path: (linear_map.batch_shape,) for path, (_, linear_map) in kernels.items()
    }


def _times_gains(
    params: Any, found: Mapping[Path, tuple[Array, Array, StackedMap]], kernels: Kernels
) -> Any:
    selected = select(params, kernels)
    scaled = {
        path: _times(selected[path][0], gain, linear_map)
        for path, (_, gain, linear_map) in found.items()
    }
    return replace_leaves(params, scaled)


_times = jax.jit(times, static_argnums=2)
