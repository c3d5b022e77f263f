"""A kernel's products with two vectors, there and back, each time in one read of it.

What comes out is not normalized in between: lengths are known at the end, all at once.
"""

import functools
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from specjax._core.batch import over_batch, read_anew
from specjax._fast.columns import pair_of_products
from specjax.linear_maps._matrix import LinearMap, Matrix, as_tuple
from specjax.linear_maps._sharding import shards_of, summed

_Pair: TypeAlias = tuple[Array, Array]


@over_batch
def both_ways(
    kernel: Array, u: Array, u2: Array, *, linear_map: LinearMap
) -> tuple[_Pair, _Pair]:
    """Returns ``v = u W^H`` and v2, and ``v W`` and ``v2 W``.

    The kernel is read once for each pair, and not copied. The compilers for TPU and GPU
    merge two sums over one array, casts included; that for the CPU does not, but takes
    a pair of vectors in one product.
    """

    def side_by_side(kernel: Array, u: Array, u2: Array) -> tuple[_Pair, _Pair]:
        once = read_anew(kernel, u)
        v, v2 = (linear_map.adjoint(once, vector) for vector in (u, u2))
        if u.size > 1:
            # One sum there would be merged with one back, and the kernel read thrice.
            v, v2 = lax.optimization_barrier((v, v2))
        once = read_anew(kernel, v)
        z, z2 = (linear_map.apply(once, vector) for vector in (v, v2))
        return (v, v2), (z, z2)

    def as_one(kernel: Array, u: Array, u2: Array) -> tuple[_Pair, _Pair]:
        pair = jnp.stack([u, u2])
        # The pair is the last axis on the input side: there a dot leaves it.
        v = jax.vmap(linear_map.adjoint, (None, 0), -1)(read_anew(kernel, pair), pair)
        z = jax.vmap(linear_map.apply, (None, -1))(read_anew(kernel, v), v)
        return (v[..., 0], v[..., 1]), (z[0], z[1])

    gpu = side_by_side
    if type(linear_map) is Matrix:  # a subclass may multiply otherwise
        gpu = functools.partial(_of_matrix, linear_map)
    return lax.platform_dependent(
        kernel, u, u2, cpu=as_one, cuda=gpu, rocm=gpu, default=side_by_side
    )


def _of_matrix(
    matrix: Matrix, kernel: Array, u: Array, u2: Array
) -> tuple[_Pair, _Pair]:
    """Returns what `both_ways` does, for a GPU."""
    shards, once = shards_of(matrix), read_anew(kernel, u)
    sides = as_tuple(matrix.in_axis), as_tuple(matrix.out_axis)
    found = pair_of_products(jnp.conj(once), (u, u2), *sides[::-1])
    v, v2 = (summed(one, shards.over_y) for one in found)
    # Else they are taken for the sums of a softmax, and what it would divide, all of
    # the products with W, is written.
    v, v2 = lax.optimization_barrier((v, v2))
    found = pair_of_products(read_anew(kernel, v), (v, v2), *sides)
    z, z2 = (summed(one, shards.over_x) for one in found)
    return (v, v2), (z, z2)
