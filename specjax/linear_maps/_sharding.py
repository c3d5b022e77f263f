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


def without_axes(
    spec: PartitionSpec | None, gone: tuple[int, ...]
) -> PartitionSpec | None:
    """Returns the spec of an array without some of its axes."""
    if spec is None:
        return None
    kept = (entry for axis, entry in enumerate(spec) if axis not in gone)
    return PartitionSpec(*kept)


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


def explicit_axes(array: Array) -> Names:
    """Returns the names of the explicit axes of the mesh that an array is on."""
    mesh = jax.typeof(array).sharding.mesh
    kinds = zip(mesh.axis_names, mesh.axis_types, strict=True)
    return tuple(name for name, kind in kinds if kind is AxisType.Explicit)
