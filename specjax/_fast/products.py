"""A kernel's products with two vectors, there and back, in the form of each platform.

| platform | form | assumption about its compiler (XLA of jax 0.10.2) |
|---|---|---|
| CPU | both vectors in one dot, as in the core | a dot does not merge with another |
| TPU | two products side by side | sums over one array become one read of it |
| GPU | two sums as one of complex numbers, in groups of rows | see `_sums_on_gpu` |

What they buy, and the tests that notice, are in docs/design/0014.
"""

import functools
import math
from typing import TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from specjax._core import step
from specjax._core.batch import separate_cast
from specjax.linear_maps import ResolvedMap
from specjax.linear_maps._sharding import explicit_axes, summed

_Pair: TypeAlias = tuple[Array, Array]
_Axes: TypeAlias = tuple[int, ...]

# A window with up to so many pixels has a group of rows for each of them.
MAX_PIXELS = 32
# How many groups are enough for a GPU, and how many rows a group has at least: the sums
# of all groups are written.
ENOUGH_GROUPS, MIN_ROWS = 8, 8
# Among how many devices, at least, the groups of a kernel can be dealt out whole.
DEVICES = 8


def gram_products(
    kernel: Array, u: Array, u2: Array, linear_map: ResolvedMap
) -> tuple[_Pair, _Pair]:
    """Returns what `_core.step.gram_products` does."""
    core, side_by_side, sums = (
        functools.partial(form, linear_map=linear_map)
        for form in (step.gram_products, _side_by_side, _sums_on_gpu)
    )
    gpu = side_by_side if linear_map.matrix_axes is None else sums
    return lax.platform_dependent(
        kernel, u, u2, cpu=core, cuda=gpu, rocm=gpu, default=side_by_side
    )


def _side_by_side(
    kernel: Array, u: Array, u2: Array, linear_map: ResolvedMap
) -> tuple[_Pair, _Pair]:
    cast = separate_cast(kernel, u)
    v, v2 = (linear_map.adjoint(cast, vector) for vector in (u, u2))
    if u.size > 1:
        # One sum there would be merged with one back, and the kernel read thrice.
        v, v2 = lax.optimization_barrier((v, v2))
    cast = separate_cast(kernel, v)
    z, z2 = (linear_map.apply(cast, vector) for vector in (v, v2))
    return (v, v2), (z, z2)


def _sums_on_gpu(
    kernel: Array, u: Array, u2: Array, linear_map: ResolvedMap
) -> tuple[_Pair, _Pair]:
    """Returns the products of a matrix as sums that are quick on a GPU.

    The compiler sums along rows well, and puts two such sums over one array into one
    kernel. A sum along columns has few threads, and where there are two it rather
    writes what they are sums of: for each vector an array as large as the kernel, in
    float32 for one in bfloat16. It does not if both are one sum, of complex numbers,
    and it is many times as quick if that is done in two: first in groups of rows.
    """
    assert linear_map.matrix_axes is not None
    in_axis, out_axis = linear_map.matrix_axes
    cast = jnp.conj(separate_cast(kernel, u))
    sums = _pair_of_sums(cast, (u, u2), out_axis, in_axis)
    v, v2 = (summed(one, linear_map.split.over_y) for one in sums)
    # Else they are taken for the sums of a softmax, and what it would divide, all of
    # the products with W, is written.
    v, v2 = lax.optimization_barrier((v, v2))
    sums = _pair_of_sums(separate_cast(kernel, v), (v, v2), in_axis, out_axis)
    z, z2 = (summed(one, linear_map.split.over_x) for one in sums)
    return (v, v2), (z, z2)


def _pair_of_sums(kernel: Array, vectors: _Pair, over: _Axes, kept: _Axes) -> _Pair:
    """Returns the sums of ``kernel * vector`` over some of the kernel's axes.

    Args:
        kernel: in any dtype; it is read once, and nothing of its size is written.
        vectors: two, in the shape of those axes and the dtype of the sums.
        over: the axes, in their order.
        kept: the other axes.
    """
    wide = vectors[0].dtype
    first, second = (
        kernel.astype(wide) * lax.expand_dims(vector, kept) for vector in vectors
    )
    if over[-1] > kept[-1] or jnp.issubdtype(wide, jnp.complexfloating):
        return _sum(first, over), _sum(second, over)
    sums = _sum_in_groups(lax.complex(first, second), over)
    return sums.real, sums.imag


def _sum_in_groups(x: Array, over: _Axes) -> Array:
    """Returns the sum over axes, in two: first inside of groups.

    Nothing is reshaped: a kernel that is split over devices stays where it is.
    """
    window, n_groups = [1] * x.ndim, 1
    for axis in over:
        size = x.shape[axis]
        if n_groups * size > MAX_PIXELS:
            window[axis] = _rows(size, n_groups)
        n_groups *= size // window[axis]
    if math.prod(x.shape[axis] for axis in over) < MIN_ROWS * n_groups:
        return _sum(x, over)
    inside = tuple(axis for axis in over if window[axis] > 1)
    if all(window[axis] == x.shape[axis] for axis in inside) or explicit_axes(x):
        # jax has no rule for windows along a split axis of an explicit mesh.
        parts = _sum(x, inside)
        others = (axis for axis in over if axis not in inside)
        over = tuple(axis - sum(gone < axis for gone in inside) for axis in others)
    else:
        parts = lax.reduce_window(x, _zero(x), lax.add, window, window, "VALID")
    return _sum(lax.optimization_barrier(parts), over)


def _rows(size: int, n_groups: int) -> int:
    """Returns of how many rows a group is: a power of two, or all of them.

    About as many as there are groups then. A kernel that is split over devices has
    whole groups on each, but for many of them, or an odd number: these exchange rows.
    """
    rows = 2 ** (int(math.log2(n_groups * size)) // 2)
    while rows >= MIN_ROWS and size % (DEVICES * rows):
        rows //= 2
    return rows if n_groups < ENOUGH_GROUPS and MIN_ROWS <= rows < size else size


def _sum(x: Array, over: _Axes) -> Array:
    return lax.reduce(x, _zero(x), lax.add, over)


def _zero(x: Array) -> np.ndarray:
    return np.zeros((), x.dtype)
