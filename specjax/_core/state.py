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
from specjax.linear_maps._matrix import LinearMap
from specjax.linear_maps._sharding import Names, names_on_axis, shards_of

State: TypeAlias = dict[str, Any]


class Carried(NamedTuple):
    """What the state holds for one kernel (batch axes first, if it is a stack).

    Attributes:
        u: unit vector in the shape of the kernel's output side.
        u2: about a unit vector across u: for the second singular value or, while u
            turns, where it turns to; zero: unknown.
        sigma: the last finite estimate of the spectral norm, in the kernel's units.
    """

    u: Any
    u2: Any
    sigma: Any


def expected(kernel: Any, linear_map: LinearMap) -> Carried:
    """Returns shapes and dtypes of what is carried for a kernel."""
    dtype = vector_dtype(kernel.dtype)
    batch_shape = tuple(kernel.shape[axis] for axis in linear_map.batch_axis)
    one_shape = tuple(
        size
        for axis, size in enumerate(kernel.shape)
        if axis not in linear_map.batch_axis
    )
    _, out_shape = linear_map.one().sides(one_shape)
    vector = jax.ShapeDtypeStruct(batch_shape + out_shape, dtype)
    return Carried(
        u=vector,
        u2=vector,
        sigma=jax.ShapeDtypeStruct(batch_shape, jnp.finfo(dtype).dtype),
    )


def split_axes(linear_map: LinearMap, ndim: int) -> tuple[Names, ...]:
    """Returns the mesh axes over which each of u's axes is split by hand, if any is."""
    spec = getattr(linear_map, "spec", None)
    batch = tuple(names_on_axis(spec, axis) for axis in linear_map.batch_axis)
    y = shards_of(linear_map.one()).y
    return batch + (y or ((),) * (ndim - len(batch)))


def build(carried: Mapping[Path, Carried]) -> State:
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
    kernels: Mapping[Path, tuple[Any, LinearMap]],
    made_by: str = "sn_init",
) -> dict[Path, Carried]:
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
        path: Carried(*(jnp.asarray(held[*path, name]) for name in Carried._fields))
        for path in kernels
    }


def write(state: Any, carried: Mapping[Path, Carried]) -> Any:
    """Returns the state with new values in the same tree."""
    new = {
        (*path, name): value
        for path, one in carried.items()
        for name, value in one._asdict().items()
    }
    return replace_leaves(state, new)


def _fits(held: Any, need: jax.ShapeDtypeStruct) -> bool:
    return getattr(held, "shape", None) == need.shape and held.dtype == need.dtype
