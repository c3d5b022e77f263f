"""Bidirectional spectral normalization: sigma averaged over both ways of a kernel.

A convolution's kernel is two matrices: (window, in) by out, and (window, out) by in.
The first tells what the forward pass does to images, the second what the backward pass
does to gradients.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array

from specjax import errors
from specjax._core import state as _state
from specjax._core.state import KernelState, State
from specjax._options import Bound, check_flags, check_options
from specjax._tree import Path, join, replace_leaves
from specjax.constraints._backward import backward_kernels
from specjax.constraints._two_norms import apply_one, fuse_one
from specjax.kernels._rules import Kernels, flax_kernels, select
from specjax.linear_maps import StackedMap
from specjax.transforms import sn_init

_WAYS = ("forward", "backward")


def bsn_init(
    params: Any,
    *,
    kernels: Kernels = flax_kernels,
    backward: Kernels = backward_kernels,
    key: Array | None = None,
) -> State:
    """Returns ``{"forward": ..., "backward": ...}``, a state of `sn_init` for each way.

    Args:
        params: tree of arrays; boxes (`nn.Partitioned`) and `nnx.State` included.
        kernels: which leaves are kernels and what linear map each one is.
        backward: the same kernels, as the linear maps of the backward pass.
        key: as for `sn_init`.

    Raises:
        ValueError, TypeError: as `sn_init`, and if the rules differ in what a kernel is
            or in its stack.
    """
    _both(params, kernels, backward)
    return {
        "forward": sn_init(params, kernels=kernels, key=key),
        "backward": sn_init(params, kernels=backward, key=key),
    }


def bsn_apply(
    params: Any,
    state: Any,
    *,
    kernels: Kernels = flax_kernels,
    backward: Kernels = backward_kernels,
    bound: Bound = 1.0,
    cap: bool = False,
    n_steps: int = 1,
    update_stats: bool = True,
    grad_sigma: bool = True,
) -> tuple[Any, Any]:
    """Returns ``W bound / ((sigma_forward + sigma_backward) / 2)`` and the next state.

    `bound` is the scale of scaled spectral normalization, one number for all layers:
    with `sn_apply` that is SSN, here BSSN, and bound=1 is BSN. Of a matrix both ways
    have one norm, and this is `sn_apply`.

    Args:
        params: tree of arrays; boxes (`nn.Partitioned`) and `nnx.State` included.
        state: from `bsn_init` or the previous call.
        kernels: as given to `bsn_init`.
        backward: as given to `bsn_init`.
        bound: the mean of the result's two norms; may be traced.
        cap: only shrink: a kernel whose mean is below the bound comes back as it is.
        n_steps: power steps for each way.
        update_stats: False, in evaluation, uses u as it is.
        grad_sigma: False holds both norms constant in the derivative.

    Returns:
        ``(params, state)``. A kernel of zeros, and one that is not finite, comes back
        as it is, and its u and sigma stay.

    Raises:
        ValueError, TypeError: as `sn_apply` and `bsn_init`.

    Example:
        >>> import jax.numpy as jnp
        >>> params = {"Conv_0": {"kernel": jnp.ones((3, 3, 4, 16))}}
        >>> params_bsn, state = bsn_apply(params, bsn_init(params))
        >>> kernel = params_bsn["Conv_0"]["kernel"]
        >>> print(jnp.linalg.norm(kernel).round(4))  # ones: both norms are |W|_F
        1.0

    Source: Lin, Sekar and Fanti, "Why Spectral Normalization Stabilizes GANs: Analysis
    and Improvements" (2021), on BSN, SSN and BSSN.
    """
    check_options(bound=bound, n_steps=n_steps)
    check_flags(cap=cap, update_stats=update_stats, grad_sigma=grad_sigma)
    both = _both(params, kernels, backward)
    held = _read(state, both)
    applied = {
        path: apply_one(
            kernel,
            held[path],
            bound,
            linear_maps=maps,
            cap=cap,
            n_steps=n_steps if update_stats else 0,
            grad_sigma=grad_sigma,
        )
        for path, (kernel, maps) in both.items()
    }
    params = replace_leaves(params, {path: one for path, (one, _) in applied.items()})
    if update_stats:
        new = {
            (way, *path): new[i]
            for path, (_, new) in applied.items()
            for i, way in enumerate(_WAYS)
        }
        state = _state.write(state, new)
    return params, state


def bsn_fuse(
    params: Any,
    state: Any,
    *,
    kernels: Kernels = flax_kernels,
    backward: Kernels = backward_kernels,
    bound: Bound = 1.0,
    cap: bool = False,
) -> Any:
    """Returns plain params: both norms are converged on these very params.

    Args:
        params: tree of arrays with the shapes that the state was made for.
        state: from `bsn_init` or `bsn_apply`; read, not changed.
        kernels: as given to `bsn_init`.
        backward: as given to `bsn_init`.
        bound: the mean of the result's two norms.
        cap: only shrink: a kernel whose mean is below the bound comes back as it is.

    Raises:
        ValueError, TypeError: as `bsn_apply`.
    """
    check_options(bound=bound)
    check_flags(cap=cap)
    both = _both(params, kernels, backward)
    held = _read(state, both)
    fused = {
        path: fuse_one(kernel, held[path], bound, linear_maps=maps, cap=cap)
        for path, (kernel, maps) in both.items()
    }
    return replace_leaves(params, fused)


_Both: TypeAlias = dict[Path, tuple[Array, tuple[StackedMap, ...]]]


def _both(params: Any, kernels: Kernels, backward: Kernels) -> _Both:
    """Returns each kernel with its map forward and its map backward."""
    there, back = select(params, kernels), select(params, backward)
    messages = [
        errors.message(
            join(path) or "kernel",
            got=f"{_map_of(there, path)} forward and {_map_of(back, path)} backward",
            need="a linear map for both ways, with the same batch_axis",
            fix="backward= a rule for the kernels that kernels= selects",
        )
        for path in there | back
        if path not in there
        or path not in back
        or there[path][1].batch_axis != back[path][1].batch_axis
    ]
    errors.raise_all(ValueError, messages)
    return {
        path: (jnp.asarray(kernel), (linear_map, back[path][1]))
        for path, (kernel, linear_map) in there.items()
    }


def _map_of(selected: dict[Path, tuple[Array, StackedMap]], path: Path) -> str:
    return str(selected[path][1]) if path in selected else "no linear map"


def _read(state: Any, both: _Both) -> dict[Path, tuple[KernelState, ...]]:
    if not isinstance(state, Mapping) or set(state) != set(_WAYS):
        message = errors.message(
            "state",
            got=f"a {type(state).__name__} without these two states alone",
            need="a mapping of " + " and ".join(_WAYS),
            fix="state = bsn_init(params)",
        )
        raise TypeError(message)
    one_way = {
        (way, *path): (kernel, maps[i])
        for path, (kernel, maps) in both.items()
        for i, way in enumerate(_WAYS)
    }
    held = _state.read(state, one_way, "bsn_init")
    return {path: tuple(held[way, *path] for way in _WAYS) for path in both}
