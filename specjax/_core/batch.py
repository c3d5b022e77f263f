"""From one kernel to a stack of them: `jax.vmap` over the batch axes, in one place.

And what every function of a kernel and its vectors does first: it checks their shapes,
brings the vectors to where the kernel's products lie, and reads the kernel.
"""

import functools
from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array

from specjax import errors
from specjax.linear_maps import ResolvedMap, StackedMap
from specjax.linear_maps._check_spec import check_places, check_spec
from specjax.linear_maps._sharding import explicit_axes, varying_axes, varying_like

_R = TypeVar("_R")


def over_batch(function: Callable[..., _R]) -> Callable[..., _R]:
    """Lifts a function of one kernel to a stack of kernels.

    The function is called as ``function(kernel, *vectors, linear_map=...)`` with the
    map of one kernel, the result with the map of the stack. The vectors and the results
    then have the batch axes in front. Without batch axes this is the function itself.
    """

    @functools.wraps(function)
    def lifted(kernel, *vectors, linear_map, **options):
        one = functools.partial(function, linear_map=linear_map.one, **options)
        for gone, axis in reversed(list(enumerate(linear_map.batch_axis))):
            one = jax.vmap(one, in_axes=(axis - gone, *(0 for _ in vectors)))
        if linear_map.batch_axis:
            vectors = (_placed_as_stack(kernel, linear_map, v) for v in vectors)
        return one(kernel, *vectors)

    return lifted


def _placed_as_stack(kernel: Array, stack: StackedMap, vector: Array) -> Array:
    """Returns the vectors of a stack, its batch axes sharded as the kernel's are."""
    if not explicit_axes(kernel):
        return vector
    spec = jax.typeof(kernel).sharding.spec
    own = jax.typeof(vector).sharding.spec[len(stack.batch_axis) :]
    spec = PartitionSpec(*(spec[axis] for axis in stack.batch_axis), *own)
    return jax.sharding.reshard(vector, spec)


def placed_as_output(kernel: Array, linear_map: ResolvedMap, vector: Array) -> Array:
    """Returns the vector with the type that the kernel's products have.

    On an explicit mesh a sharding is a part of it, and inside a `shard_map` the mesh
    axes along which it varies: what a loop carries, and the two sides of a `where`,
    must have the same. Elsewhere this is the vector itself.
    """
    if not explicit_axes(kernel) and not varying_axes(kernel):
        return vector
    product = jax.eval_shape(
        lambda: linear_map.apply(kernel, linear_map.adjoint(kernel, vector))
    )
    if explicit_axes(kernel):
        vector = jax.sharding.reshard(vector, product.sharding)
    return varying_like(vector, product)


def separate_cast(kernel: Array, vector: Array) -> Array:
    """Returns the kernel, so that a cast of it is not shared with another use.

    Each product with a half-precision kernel casts it. A compiler that sees one cast
    with several uses keeps its result: a float32 copy of the kernel. Behind a barrier
    each use has a cast of its own, which fuses into it.
    """
    if kernel.dtype == vector.dtype:
        return kernel
    return lax.optimization_barrier((kernel, vector))[0]


def check_vectors(kernel: Array, linear_map: StackedMap, **vectors: Array) -> None:
    """Raises a ValueError for a u, v or sigma that is not like its side."""
    check_spec("kernel", kernel, linear_map)
    shapes = {
        "u": linear_map.out_shape,
        "u2": linear_map.out_shape,
        "v": linear_map.in_shape,
        "sigma": linear_map.batch_shape,
    }
    for name, vector in vectors.items():
        if jnp.shape(vector) != shapes[name]:
            message = errors.message(
                name,
                got=f"shape {jnp.shape(vector)}",
                need=f"shape {shapes[name]} for a kernel of shape {kernel.shape} under "
                f"{linear_map}",
                fix="the batch axes first, then the axes of the side as in the kernel",
            )
            raise ValueError(message)
    check_places(kernel, linear_map, vectors.items())
