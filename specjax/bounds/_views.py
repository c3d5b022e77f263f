"""A kernel as a matrix, and which maps a method can read."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

from specjax import errors
from specjax.linear_maps._check_spec import check_spec
from specjax.linear_maps._conv import Conv
from specjax.linear_maps._matrix import LinearMap, Matrix, as_tuple
from specjax.linear_maps._sharding import explicit_axes, names_on_axis, shards_of


def check_map(linear_map: LinearMap, kernel: Array) -> Matrix | Conv:
    """Returns the resolved map.

    Raises:
        TypeError: if it is neither a `Matrix` nor a `Conv`.
        ValueError: if it does not fit the kernel, or reads a shard of one.
    """
    if not isinstance(linear_map, Matrix | Conv):
        message = errors.message(
            "specjax.bounds",
            got=f"{linear_map!r}",
            need="a Matrix or a Conv, whose singular values these methods know",
            fix="specjax.Matrix() or specjax.Conv(input_shape=...); bounds.lower takes "
            "any linear map",
        )
        raise TypeError(message)
    whole = linear_map.resolve(jnp.shape(kernel))
    check_spec("specjax.bounds", kernel, whole)
    shards, place = shards_of(whole.one()), jax.typeof(kernel).sharding.spec
    got = ""
    if shards.over_x or shards.over_y:
        got = f"a shard of a kernel ({whole.spec})"
    elif explicit_axes(kernel) and any(
        names_on_axis(place, axis)
        for axis in range(kernel.ndim)
        if axis not in as_tuple(whole.batch_axis)
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
    return whole


def one_shape(linear_map: LinearMap, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the shape of one kernel of the stack; the map must be resolved."""
    batch = as_tuple(linear_map.batch_axis)
    return tuple(size for axis, size in enumerate(shape) if axis not in batch)


def as_matrix(
    kernel: Inexact[Array, " ..."], matrix: Matrix
) -> Inexact[Array, "n_in n_out"]:
    """Returns one kernel as its matrix: ``y = x W``."""
    whole = matrix.resolve(kernel.shape)
    in_axis, out_axis = as_tuple(whole.in_axis), as_tuple(whole.out_axis)
    n_in = math.prod(kernel.shape[axis] for axis in in_axis)
    return jnp.transpose(kernel, (*in_axis, *out_axis)).reshape(n_in, -1)
