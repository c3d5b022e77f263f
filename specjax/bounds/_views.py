"""Which kernels a method that multiplies a kernel with itself can read: whole ones."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from specjax import errors
from specjax.linear_maps import LinearMap, StackedMap, resolve
from specjax.linear_maps._check_spec import check_spec
from specjax.linear_maps._sharding import explicit_axes, names_on_axis


def whole(linear_map: LinearMap, kernel: Array) -> StackedMap:
    """Returns the map, resolved for a kernel that each device has all of.

    Raises:
        ValueError: if it does not fit the kernel, or reads a shard of one.
    """
    resolved = resolve(linear_map, jnp.shape(kernel))
    check_spec("specjax.bounds", kernel, resolved)
    split, place = resolved.one.split, jax.typeof(kernel).sharding.spec
    got = ""
    if split.over_x or split.over_y:
        got = f"a shard of a kernel ({resolved.spec})"
    elif explicit_axes(kernel) and any(
        names_on_axis(place, axis) for axis in resolved.kernel_axes
    ):
        got = f"a kernel that an explicit mesh splits ({place})"
    if got:
        message = errors.message(
            "specjax.bounds",
            got=got,
            need="the whole kernel: these methods multiply it with itself",
            fix="bounds.lower, or the kernel outside of the shard_map, or "
            "jax.sharding.reshard(kernel, PartitionSpec()), which gathers it",
        )
        raise ValueError(message)
    return resolved
