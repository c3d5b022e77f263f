"""The trees: params and state in, normalized params and state out.

Three functions walk the path of `_one_kernel` for each kernel of a tree: `sn_init`
makes the state, `sn_apply` takes one step, `sn_fuse` converges and bakes the result.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from specjax._core import state as _state
from specjax._core.kernel import fuse_one, init_one
from specjax._core.state import State
from specjax._fast.all_kernels import apply_all
from specjax._options import (
    Bound,
    check_flags,
    check_norm,
    check_options,
)
from specjax._tree import Path, replace_leaves
from specjax.bounds._certified import certified
from specjax.kernels._rules import Kernels, flax_kernels, select
from specjax.linear_maps._matrix import LinearMap


def sn_init(
    params: Any, *, kernels: Kernels = flax_kernels, key: Array | None = None
) -> State:
    """Returns a state whose u has converged: sigma is right before the first step.

    Args:
        params: tree of arrays; boxes (`nn.Partitioned`) and `nnx.State` included.
        kernels: which leaves are kernels and what linear map each one is.
        key: PRNG key for the start vectors; without one they are fixed.

    Returns:
        A nested dict that mirrors the params: ``u``, ``u2``, ``sigma`` for each kernel.

    Raises:
        ValueError, TypeError: if no leaf is a kernel, or one does not fit its map.

    Example:
        >>> params = {"Dense_0": {"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)}}
        >>> state = sn_init(params)
        >>> print(state["Dense_0"]["kernel"]["sigma"].round(4))
        3.4641
    """
    selected = _select(params, kernels)
    keys = (
        [None] * len(selected) if key is None else jax.random.split(key, len(selected))
    )
    carried = {}
    for one_key, (path, (kernel, linear_map)) in zip(
        keys, selected.items(), strict=True
    ):
        carried[path] = init_one(kernel, one_key, linear_map=linear_map)
    return _state.build(carried)


def sn_apply(
    params: Any,
    state: Any,
    *,
    kernels: Kernels = flax_kernels,
    bound: Bound = 1.0,
    cap: bool = False,
    n_steps: int = 1,
    update_stats: bool = True,
    grad_sigma: bool = True,
    norm: str = "estimate",
) -> tuple[Any, Any]:
    """Returns the params with every kernel at ``W bound / sigma``, and the next state.

    Differentiable in the params, with u and v constant (Miyato's gradient). A kernel
    that is zero or not finite comes back as it is; its u stays, and its sigma stays the
    last finite one.

    Args:
        params: tree of arrays, as given to `sn_init`.
        state: from `sn_init` or the step before.
        kernels: as given to `sn_init`.
        bound: the spectral norm of each normalized kernel; may be traced.
        cap: only shrink: a kernel below the bound comes back as it is.
        n_steps: power steps; one is enough in training. 0 uses u as it is.
        update_stats: False for evaluation: u as it is, the state comes back unchanged.
        grad_sigma: False holds sigma constant in the derivative (SNGP).
        norm: "estimate" divides by sigma, a running estimate from below. "upper"
            divides by a proved bound (`specjax.bounds.upper`), which costs products of
            the kernel with itself: the norm of the result is then at most `bound`, of
            the matrix under a `Matrix`, of the operator under a `Conv`. The state is
            neither read nor changed: {} will do.

    Returns:
        ``(params, state)``, in trees, shapes and dtypes equal to those of the jax
        arrays given. The norm is the bound up to the precision of the kernel's dtype,
        for kernels of norm 1e-16 to 1e18 in float32.

    Raises:
        ValueError, TypeError: at trace time, for options out of range, for kernels as
            `sn_init`, and for a state that does not fit the params.

    Example:
        >>> params = {"Dense_0": {"kernel": 5 * jnp.ones((3, 4)), "bias": jnp.ones(4)}}
        >>> params_sn, state = sn_apply(params, sn_init(params))
        >>> print(jnp.linalg.norm(params_sn["Dense_0"]["kernel"], 2).round(4))
        1.0

    Source: Miyato et al., "Spectral Normalization for GANs" (2018), Algorithm 1.
    """
    applied = scaled_apply(
        params,
        state,
        kernels=kernels,
        bound=bound,
        cap=cap,
        n_steps=n_steps,
        update_stats=update_stats,
        grad_sigma=grad_sigma,
        norm=norm,
    )
    return applied.params, applied.state


class Factor(NamedTuple):
    """A kernel, what it is multiplied with, and what comes of it.

    Attributes:
        kernel: as it was given.
        scale: a number, or one for each slice of a stack.
        normalized: the very array in the params that are returned.
    """

    kernel: Array
    scale: Array
    normalized: Array


class Applied(NamedTuple):
    """What `sn_apply` returns, and what it multiplied.

    Attributes:
        params: normalized.
        state: the next one.
        factors: of each kernel that is not divided by a proved bound.
    """

    params: Any
    state: Any
    factors: list[Factor]


def scaled_apply(
    params: Any,
    state: Any,
    *,
    kernels: Kernels,
    bound: Any,
    cap: Any,
    n_steps: Any,
    update_stats: Any,
    grad_sigma: Any,
    norm: Any,
) -> Applied:
    """Returns what `sn_apply` does, with the factors, for who scales another array.

    The options are those of `sn_apply`, as they were given: they are checked here.
    """
    check_options(bound=bound, n_steps=n_steps)
    check_flags(cap=cap, update_stats=update_stats, grad_sigma=grad_sigma)
    check_norm(norm)
    selected = _select(params, kernels)
    if norm == "upper":
        divided = _certified(params, selected, bound, cap, grad_sigma)
        return Applied(divided, state, [])
    carried = _state.read(state, selected)
    normalized = apply_all(
        [kernel for kernel, _ in selected.values()],
        list(carried.values()),
        bound,
        linear_maps=tuple(linear_map for _, linear_map in selected.values()),
        cap=cap,
        n_steps=n_steps if update_stats else 0,
        grad_sigma=grad_sigma,
    )
    new = dict(zip(selected, normalized, strict=True))
    params = replace_leaves(params, {path: one.kernel for path, one in new.items()})
    if update_stats:
        state = _state.write(state, {path: one.carried for path, one in new.items()})
    factors = [
        Factor(selected[path][0], one.scale, one.kernel) for path, one in new.items()
    ]
    return Applied(params, state, factors)


def sn_fuse(
    params: Any,
    state: Any,
    *,
    kernels: Kernels = flax_kernels,
    bound: Bound = 1.0,
    cap: bool = False,
    norm: str = "estimate",
) -> Any:
    """Returns plain params on the bound: u is converged on these very params.

    For deployment, export and averaged (EMA) params; the state may be of other params
    of the same shapes.

    Args:
        params: tree of arrays with the shapes that the state was made for.
        state: from `sn_init` or `sn_apply`; read, not changed.
        kernels: as given to `sn_init`.
        bound: the spectral norm of each normalized kernel.
        cap: only shrink: a kernel below the bound comes back as it is.
        norm: as for `sn_apply`; with "upper" the state is not read.

    Returns:
        The params, with the norm of each kernel within 1e-3 of the bound (and within
        the precision of its dtype); with norm="upper" at most the bound.

    Raises:
        ValueError, TypeError: as `sn_apply`.
    """
    check_options(bound=bound)
    check_flags(cap=cap)
    check_norm(norm)
    selected = _select(params, kernels)
    if norm == "upper":
        return _certified(params, selected, bound, cap, grad_sigma=True)
    carried = _state.read(state, selected)
    fused = {
        path: fuse_one(kernel, carried[path].u, bound, linear_map=linear_map, cap=cap)
        for path, (kernel, linear_map) in selected.items()
    }
    return replace_leaves(params, fused)


def _certified(
    params: Any,
    selected: dict[Path, tuple[Array, LinearMap]],
    bound: Bound,
    cap: bool,
    grad_sigma: bool,
) -> Any:
    divided = {
        path: certified(
            kernel, bound, linear_map=linear_map, cap=cap, grad_sigma=grad_sigma
        )
        for path, (kernel, linear_map) in selected.items()
    }
    return replace_leaves(params, divided)


def _select(params: Any, kernels: Kernels) -> dict[Path, tuple[Array, LinearMap]]:
    selected = select(params, kernels).items()
    return {
        path: (jnp.asarray(leaf), linear_map) for path, (leaf, linear_map) in selected
    }
