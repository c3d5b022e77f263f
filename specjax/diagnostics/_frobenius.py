"""The Frobenius norm of a linear map: of the matrix, or of the convolution operator.

A convolution's matrix holds each entry of the kernel many times. How often is a sum
over its geometry alone, one small table for each spatial axis, so the operator's norm
costs one read of the kernel, like the matrix's.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.lax import Precision
from jaxtyping import Array, Float, Inexact, Real

from specjax._core.batch import over_batch, read_anew
from specjax._core.vectors import vector_dtype
from specjax.linear_maps._conv import Conv
from specjax.linear_maps._matrix import LinearMap, Matrix
from specjax.linear_maps._sharding import shards_of, total


@over_batch
def frobenius(
    kernel: Inexact[Array, " ..."], *, linear_map: LinearMap
) -> Real[Array, ""] | None:
    """Returns the root of the sum of all squared singular values, in float32 at least.

    None for a linear map that is neither a `Matrix` nor a `Conv`: only its own author
    can tell. Numbers for entries of 1e-18 to 1e18 in float32, as `_vectors.unit`.
    """
    wide = vector_dtype(kernel.dtype)
    kernel = read_anew(kernel, jnp.zeros((), wide)).astype(wide)
    match linear_map:
        case Matrix():
            squares = jnp.square(jnp.abs(kernel))
        case Conv():
            squares = _squares_in_operator(kernel, linear_map)
        case _:
            return None
    shards = shards_of(linear_map)
    return jnp.sqrt(total(squares, shards.over_x + shards.over_y))


def _squares_in_operator(kernel: Array, conv: Conv) -> Array:
    tables = [
        together(conv, axis, kernel.shape[axis]).astype(jnp.finfo(kernel.dtype).dtype)
        for axis in range(len(conv.input_shape))
    ]
    if conv.padding not in ("CIRCULAR", "REFLECT"):
        # An entry of the operator is one entry of the kernel.
        squares = jnp.square(jnp.abs(kernel))
        for axis, table in enumerate(tables):
            times = jnp.diagonal(table)
            squares *= jnp.expand_dims(times, _others(axis, kernel.ndim))
        return squares
    mixed = kernel
    for axis, table in enumerate(tables):
        mixed = jnp.tensordot(table, mixed, (1, axis), precision=Precision.HIGHEST)
        mixed = jnp.moveaxis(mixed, 0, axis)
    return (jnp.conj(kernel) * mixed).real


def together(conv: Conv, axis: int, window: int) -> Float[Array, "window window"]:
    """Returns how often two taps of the window join the same input and output pixel.

    On one spatial axis; on the diagonal, how often a tap joins any two pixels. The
    squared norm of the operator is the sum of ``table[k, l] <kernel[k], kernel[l]>``,
    with a product of tables for several axes: padding, strides and dilation are theirs.
    """
    one = _on_one_axis(conv, axis)
    taps = jnp.eye(window)[:, :, None, None]
    # Convolving the numbers of the pixels with a single tap tells which one it sees. A
    # pixel of the output sees one of the input, by any padding; for a transposed
    # convolution, whose periods may be folded, it is the other way around.
    look = one.adjoint if conv.transposed else one.apply
    size = one.sides(taps[0].shape)[conv.transposed][0]
    numbers = 1.0 + jnp.arange(size, dtype=jnp.float32)[:, None]
    seen = jnp.round(jax.vmap(look, in_axes=(0, None))(taps, numbers)[..., 0])
    same = (seen[:, None] == seen[None]) & (seen[:, None] > 0)
    return jnp.sum(same, axis=-1, dtype=jnp.float32)


def _on_one_axis(conv: Conv, axis: int) -> Conv:
    """Returns the convolution's geometry on one axis; `conv` is resolved."""
    spatial = ("input_shape", "window_strides", "lhs_dilation", "rhs_dilation")
    words: dict[str, Any] = {name: (getattr(conv, name)[axis],) for name in spatial}
    if not isinstance(conv.padding, str):
        words["padding"] = (conv.padding[axis],)  # type: ignore[index]
    words |= {"feature_group_count": 1, "batch_axis": (), "spec": None}
    return dataclasses.replace(conv, **words)


def _others(axis: int, ndim: int) -> tuple[int, ...]:
    return tuple(other for other in range(ndim) if other != axis)
