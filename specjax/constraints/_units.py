"""The output units of a kernel: their axes, their norms, and a number for each."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Inexact, Real

from specjax import errors
from specjax._core.batch import separate_cast
from specjax._core.guards import root
from specjax._core.vectors import vector_dtype
from specjax._tree import Path, join
from specjax.linear_maps import StackedMap
from specjax.linear_maps._sharding import Names, summed

Selected: TypeAlias = Mapping[Path, tuple[Any, StackedMap]]
NumberShapes: TypeAlias = tuple[tuple[int, ...], ...]


def check_units(kernels: Selected) -> None:
    """Raises a TypeError that lists the maps that do not name their output axes."""
    messages = [
        errors.message(
            join(path) or "kernel",
            got=f"{linear_map}",
            need="a Matrix or a Conv, which name the axes of the output units",
            fix="specjax.Matrix(out_axis=...)",
        )
        for path, (_, linear_map) in kernels.items()
        if linear_map.one.unit_axes is None
    ]
    errors.raise_all(TypeError, messages)


def out_axes(linear_map: StackedMap) -> tuple[int, ...]:
    """Returns the axes of a kernel (or of a stack) along which its output units lie.

    Those of a convolution are its output channels.
    """
    return linear_map.in_array(linear_map.one.unit_axes or ())


def all_number_shapes(kernels: Selected) -> dict[Path, NumberShapes]:
    """Returns the `number_shapes` of every kernel.

    Raises:
        TypeError: as `check_units`.
    """
    check_units(kernels)
    return {path: number_shapes(*one) for path, one in kernels.items()}


def number_shapes(kernel: Any, linear_map: StackedMap) -> NumberShapes:
    """Returns the shapes of a number for each unit, and of one for each kernel."""
    each = linear_map.batch_shape
    return each + tuple(kernel.shape[axis] for axis in out_axes(linear_map)), each


def norms(
    kernel: Inexact[Array, " ..."], linear_map: StackedMap, per_unit: bool
) -> Real[Array, " ..."]:
    """Returns the norm of each unit, or of each kernel: batch axes first.

    In float32 at least, in the kernel's units; right for entries of 1e-18 to 1e18. Its
    derivative at a unit of zeros is zero.
    """
    dtype = vector_dtype(kernel.dtype)
    wide = separate_cast(kernel, jnp.zeros((), dtype)).astype(dtype)
    kept = linear_map.batch_axis
    if per_unit:
        kept += out_axes(linear_map)
    gone = tuple(axis for axis in range(kernel.ndim) if axis not in kept)
    squares = jnp.sum((wide * jnp.conj(wide)).real, axis=gone)
    squares = summed(squares, _split_over(linear_map, per_unit))
    order = sorted(range(len(kept)), key=lambda i: kept[i])
    return root(jnp.transpose(squares, [order.index(i) for i in range(len(kept))]))


def _split_over(linear_map: StackedMap, per_unit: bool) -> Names:
    split = linear_map.one.split
    return split.over_x if per_unit else split.over_x + split.over_y


def times(
    kernel: Inexact[Array, " ..."], numbers: Real[Array, " ..."], linear_map: StackedMap
) -> Inexact[Array, " ..."]:
    """Returns the kernel, in its dtype, times a number for each unit or kernel."""
    kept = linear_map.batch_axis
    if numbers.ndim > len(kept):
        kept += out_axes(linear_map)
    order = sorted(range(len(kept)), key=lambda i: kept[i])
    others = tuple(axis for axis in range(kernel.ndim) if axis not in kept)
    spread = jnp.expand_dims(jnp.transpose(numbers, order), others)
    wide = vector_dtype(kernel.dtype)
    return (kernel.astype(wide) * spread.astype(wide)).astype(kernel.dtype)
