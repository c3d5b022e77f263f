"""Where an array lies on a mesh: in its type, or split by hand inside `jax.shard_map`.

On an automatic mesh there is nothing to do: the compiler places everything. On an
explicit one a sharding is part of the type. By hand, each device sees its own shard,
and a sum over an axis that is split is a sum over the devices too.
"""

from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, PartitionSpec
from jaxtyping import Array

from specjax import _errors

Names: TypeAlias = tuple[str, ...]


class Shards(NamedTuple):
    """Over which mesh axes the sides of a kernel are split by hand, axis by axis."""

    x: tuple[Names, ...] = ()
    y: tuple[Names, ...] = ()

    @property
    def over_x(self) -> Names:
        """The mesh axes of the whole input side."""
        return tuple(name for names in self.x for name in names)

    @property
    def over_y(self) -> Names:
        """The mesh axes of the whole output side."""
        return tuple(name for names in self.y for name in names)


def shards_of(linear_map: Any) -> Shards:
    """Returns the map's own `shards`; a map that has none is of whole kernels."""
    return linear_map.shards() if hasattr(linear_map, "shards") else Shards()


def names_on_axis(spec: PartitionSpec | None, axis: int) -> Names:
    """Returns the mesh axes that a spec names for an axis of the array.

    Example:
        >>> names_on_axis(PartitionSpec(None, ("data", "model")), 1)
        ('data', 'model')
    """
    entry = spec[axis] if spec is not None and axis < len(spec) else None
    if entry is None:
        return ()
    return (entry,) if isinstance(entry, str) else tuple(entry)


def total(array: Array, over: Names = ()) -> Array:
    """Returns the sum of all entries, those on the other devices of `over` too."""
    return summed(jnp.sum(array), over)


def summed(array: Array, over: Names) -> Array:
    """Returns the sum of what the devices along some mesh axes hold."""
    return lax.psum(array, over) if over else array


def count(names: Names) -> int:
    """Returns the number of devices along some mesh axes."""
    return lax.psum(1, names) if names else 1


def place(names: Names) -> Array:
    """Returns which of them this device is, from 0, the first axis counting most."""
    return lax.axis_index(names) if names else jnp.zeros((), jnp.int32)


def is_explicit(array: Array) -> bool:
    """Says whether the array's type has a sharding on an explicit mesh."""
    return AxisType.Explicit in jax.typeof(array).sharding.mesh.axis_types


def varying_axes(array: Array | jax.ShapeDtypeStruct) -> frozenset[str]:
    """Returns the mesh axes along which devices may hold different values.

    Only `shard_map` as it is by default can tell; in `pmap` and with
    ``check_vma=False`` the answer is always none.
    """
    kind = array if isinstance(array, jax.ShapeDtypeStruct) else jax.typeof(array)
    if hasattr(kind, "manual_axis_type"):
        found = kind.manual_axis_type
        return found.varying if found else frozenset()
    older: Any = kind  # jax < 0.10
    return older.vma or frozenset()


def varying_like(vector: Array, product: Array | jax.ShapeDtypeStruct) -> Array:
    """Returns the vector as one that may differ where a product of it does."""
    missing = varying_axes(product) - varying_axes(vector)
    for name in sorted(missing):
        vector = vector + (0 * lax.axis_index(name)).astype(vector.dtype)
    return vector


def check_spec(where: str, kernel: Array, linear_map: Any) -> None:
    """Raises a ValueError where `shard_map` and the map's `spec` do not agree.

    A kernel that differs between devices may be a shard of one kernel, or a kernel of
    its own: without a `spec` that is not known, and a guess would be a wrong norm.
    """
    varies, spec = varying_axes(kernel), getattr(linear_map, "spec", None)
    if spec is None:
        if varies:
            raise ValueError(_unknown(where, kernel, varies))
        return
    for axis in range(kernel.ndim):
        for name in names_on_axis(spec, axis):
            if _can_tell(where, spec, name) and name not in varies:
                raise ValueError(_not_split(where, kernel, spec, name))
            if name in varies and jax.__version_info__ < (0, 9):
                raise ValueError(_too_old(where, spec))


def _can_tell(where: str, spec: PartitionSpec, name: str) -> bool:
    """Says whether types know about a mesh axis; a ValueError if there is none."""
    try:
        return name in varying_axes(lax.axis_index(name))
    except NameError:
        message = _errors.complaint(
            where,
            got=f"spec={spec} where no mesh axis {name!r} is held by hand",
            need="the body of a jax.shard_map over it",
            fix="a linear map without a spec, which is for arrays in jit, sharded or "
            "not",
        )
        raise ValueError(message) from None


def _unknown(where: str, kernel: Array, varies: frozenset[str]) -> str:
    return _errors.complaint(
        where,
        got=f"{_errors.describe(kernel)} that differs along the mesh axes "
        f"{', '.join(sorted(varies))} of a shard_map",
        need="to know whether it is a shard of one kernel or a kernel of its own",
        fix="kernels=specjax.shard_map_kernels(in_specs of the params), or spec=... in "
        "its linear map",
    )


def _not_split(where: str, kernel: Array, spec: PartitionSpec, name: str) -> str:
    return _errors.complaint(
        where,
        got=f"spec={spec} for {_errors.describe(kernel)}, which is the same along the "
        f"mesh axis {name!r}",
        need="a shard of it on each device",
        fix=f"in_specs of the shard_map with {name!r}, or a spec without",
    )


def _too_old(where: str, spec: PartitionSpec) -> str:
    # Before 0.9 jax itself fails at a psum under vmap inside such a shard_map.
    return _errors.complaint(
        where,
        got=f"spec={spec} under jax {jax.__version__}",
        need="jax 0.9 for kernels that are split by hand",
        fix="a newer jax, or shard_map(..., check_vma=False)",
    )
