"""The collection: what is carried from step to step, for each kernel.

A nested dict that mirrors the params, ``{"Dense_0": {"kernel": {"u": ..., "u2": ...,
"sigma": ...}}}``: plain arrays under plain keys, as a Flax collection and as a
checkpoint.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from specjax import errors
from specjax._core.vectors import vector_dtype
from specjax._tree import Path, join, named_leaves, replace_leaves
from specjax.linear_maps import StackedMap

State: TypeAlias = dict[str, Any]


class KernelState(NamedTuple):
    """What the state holds for one kernel (batch axes first, if it is a stack).

    Attributes:
        u: unit vector in the shape of the kernel's output side.
        u2: about a unit vector orthogonal to u: for the second singular value or, while
            u rotates, for the direction in which it does; zero: unknown.
        sigma: the last finite estimate of the spectral norm, in the kernel's units.
    """

    u: Any
    u2: Any
    sigma: Any


def expected(kernel: Any, linear_map: StackedMap) -> KernelState:
    """Returns shapes and dtypes of what is carried for a kernel."""
    dtype = vector_dtype(kernel.dtype)
    u = jax.ShapeDtypeStruct(linear_map.out_shape, dtype)
    sigma = jax.ShapeDtypeStruct(linear_map.batch_shape, jnp.finfo(dtype).dtype)
    return KernelState(u, u, sigma)


def build(carried: Mapping[Path, KernelState]) -> State:
    """Returns the nested dict for what is carried for each kernel."""
    state: State = {}
    for path, one in carried.items():
        node = state
        for name in path:
            node = node.setdefault(name, {})
        node.update(one._asdict())
    return state


def read(
    state: Any,
    kernels: Mapping[Path, tuple[Any, StackedMap]],
    made_by: str = "sn_init",
) -> dict[Path, KernelState]:
    """Returns what the state holds for each kernel.

    Args:
        state: as `build` returns it.
        kernels: each kernel and its linear map, by its path in the state.
        made_by: the function that makes such a state, for messages.

    Raises:
        ValueError: if an entry is missing, left over, or of another shape or dtype;
            every such entry is in the one message.
    """
    held = named_leaves(state)
    need: dict[Path, Any] = {
        (*path, name): entry
        for path, (kernel, linear_map) in kernels.items()
        for name, entry in expected(kernel, linear_map)._asdict().items()
    }
    messages = [
        errors.message(
            f"state {join(path)}",
            got=errors.describe(held[path]) if path in held else "nothing",
            need=errors.describe(need[path]) if path in need else "no such entry",
            fix=f"state = {made_by}(params) with the same kernels=...",
        )
        for path in need | held
        if path not in held or path not in need or not _fits(held[path], need[path])
    ]
    errors.raise_all(ValueError, messages)
    return {
        path: KernelState(
            *(jnp.asarray(held[*path, name]) for name in KernelState._fields)
        )
        for path in kernels
    }


def write(state: Any, carried: Mapping[Path, KernelState]) -> Any:
    """Returns the state with new values in the same tree."""
    new = {
        (*path, name): value
        for path, one in carried.items()
        for name, value in one._asdict().items()
    }
    return replace_leaves(state, new)


def _fits(held: Any, need: jax.ShapeDtypeStruct) -> bool:
    return getattr(held, "shape", None) == need.shape and held.dtype == need.dtype
