"""A kernel's products with two vectors, as sums that are quick on a GPU.

The compiler for GPUs (XLA, jax 0.10.2) sums along rows well, and puts two such sums
over one array into one kernel. A sum along columns has few threads, and where there are
two it rather writes what they are sums of: for each vector an array as large as the
kernel, in float32 for one in bfloat16. It does not if both are one sum, of complex
numbers, and it is many times as quick if that is done in two: first in groups of rows
(docs/design/0002).
"""

import math
from typing import TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from specjax.linear_maps._sharding import explicit_axes

_Pair: TypeAlias = tuple[Array, Array]
_Axes: TypeAlias = tuple[int, ...]

# Up to how many pixels of a window are groups of their own, from how many on there are
# enough, and how many rows a group has at least: the sums of all groups are written.
PIXELS, ENOUGH, LEAST = 32, 8, 8
# Among how many devices, at least, the groups of a kernel can be dealt out whole.
HOST = 8


def pair_of_products(kernel: Array, vectors: _Pair, over: _Axes, kept: _Axes) -> _Pair:
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
        if n_groups * size > PIXELS:
            window[axis] = _rows(size, n_groups)
        n_groups *= size // window[axis]
    if math.prod(x.shape[axis] for axis in over) < LEAST * n_groups:
        return _sum(x, over)
    inside = tuple(axis for axis in over if window[axis] > 1)
    if all(window[axis] == x.shape[axis] for axis in inside) or explicit_axes(x):
        # jax has no rule for windows along a split axis of an explicit mesh.
        parts = _sum(x, inside)
        rest = (axis for axis in over if axis not in inside)
        over = tuple(axis - sum(gone < axis for gone in inside) for axis in rest)
    else:
        parts = lax.reduce_window(x, _zero(x), lax.add, window, window, "VALID")
    return _sum(lax.optimization_barrier(parts), over)


def _rows(size: int, n_groups: int) -> int:
    """Returns of how many rows a group is: a power of two, or all of them.

    About as many as there are groups then. A kernel that is split over devices has
    whole groups on each, but for many of them, or an odd number: these exchange rows.
    """
    rows = 2 ** (int(math.log2(n_groups * size)) // 2)
    while rows >= LEAST and size % (HOST * rows):
        rows //= 2
    return rows if n_groups < ENOUGH and LEAST <= rows < size else size


def _sum(x: Array, over: _Axes) -> Array:
    return lax.reduce(x, _zero(x), lax.add, over)


def _zero(x: Array) -> np.ndarray:
    return np.zeros((), x.dtype)
