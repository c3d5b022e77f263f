"""The output units of a kernel: their axes, their norms, and a number for each."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Inexact, Real

from specjax import errors
from specjax._core.batch import read_anew
from specjax._core.vectors import vector_dtype
from specjax._tree import Path, join
from specjax.constraints._root import root
from specjax.linear_maps._conv import Conv
from specjax.linear_maps._matrix import LinearMap, Matrix, as_tuple
from specjax.linear_maps._sharding import Names, shards_of, summed

Selected: TypeAlias = Mapping[Path, tuple[Any, LinearMap]]
NumberShapes: TypeAlias = tuple[tuple[int, ...], ...]


def check_units(kernels: Selected) -> None:
    """Raises a TypeError that lists the maps that do not name their output axes."""
    messages = [
        errors.message(
            join(path) or "kernel",
            got=f"{linear_map!r}",
            need="a Matrix or a Conv, which name the axes of the output units",
            fix="specjax.Matrix(out_axis=...)",
        )
        for path, (_, linear_map) in kernels.items()
        if not isinstance(linear_map, Matrix | Conv)
    ]
    errors.raise_all(TypeError, messages)


def out_axes(linear_map: LinearMap, ndim: int) -> tuple[int, ...]:
    """Returns the axes of a kernel (or of a stack) along which its output units lie.

    Those of a convolution are its output channels. The map is resolved.
    """
    if isinstance(linear_map, Matrix):
        return as_tuple(linear_map.out_axis)
    batch = linear_map.batch_axis
    channels = [axis for axis in range(ndim) if axis not in batch][-2:]
    transposed = isinstance(linear_map, Conv) and linear_map.transpose_kernel
    return (channels[0 if transposed else 1],)


def all_number_shapes(kernels: Selected) -> dict[Path, NumberShapes]:
    """Returns the `number_shapes` of every kernel.

    Raises:
        TypeError: as `check_units`.
    """
    check_units(kernels)
    return {path: number_shapes(*one) for path, one in kernels.items()}


def number_shapes(kernel: Any, linear_map: LinearMap) -> NumberShapes:
    """Returns the shapes of a number for each unit, and of one for each kernel."""
    batch = linear_map.batch_axis
    out = out_axes(linear_map, kernel.ndim)
    each = tuple(kernel.shape[axis] for axis in batch)
    return each + tuple(kernel.shape[axis] for axis in out), each


def norms(
    kernel: Inexact[Array, " ..."], linear_map: LinearMap, per_unit: bool
) -> Real[Array, " ..."]:
    """Returns the norm of each unit, or of each kernel: batch axes first.

    In float32 at least, in the kernel's units; right for entries of 1e-18 to 1e18. Its
    derivative at a unit of zeros is zero.
    """
    dtype = vector_dtype(kernel.dtype)
    wide = read_anew(kernel, jnp.zeros((), dtype)).astype(dtype)
    kept = linear_map.batch_axis
    if per_unit:
        kept += out_axes(linear_map, kernel.ndim)
    gone = tuple(axis for axis in range(kernel.ndim) if axis not in kept)
    squares = jnp.sum((wide * jnp.conj(wide)).real, axis=gone)
    squares = summed(squares, _split_over(linear_map, per_unit))
    order = sorted(range(len(kept)), key=lambda i: kept[i])
    return root(jnp.transpose(squares, [order.index(i) for i in range(len(kept))]))


def _split_over(linear_map: LinearMap, per_unit: bool) -> Names:
    shards = shards_of(linear_map.one())
    return shards.over_x if per_unit else shards.over_x + shards.over_y


def times(
    kernel: Inexact[Array, " ..."], numbers: Real[Array, " ..."], linear_map: LinearMap
) -> Inexact[Array, " ..."]:
    """Returns the kernel, in its dtype, times a number for each unit or kernel."""
    kept = linear_map.batch_axis
    if numbers.ndim > len(kept):
        kept += out_axes(linear_map, kernel.ndim)
    order = sorted(range(len(kept)), key=lambda i: kept[i])
    others = tuple(axis for axis in range(kernel.ndim) if axis not in kept)
    spread = jnp.expand_dims(jnp.transpose(numbers, order), others)
    wide = vector_dtype(kernel.dtype)
    return (kernel.astype(wide) * spread.astype(wide)).astype(kernel.dtype)
