"""How often each entry of a kernel is in the matrix of its convolution.

A convolution's matrix holds each entry of the kernel many times. How often is a sum
over its geometry alone, one small table for each spatial axis, so the operator's
Frobenius norm costs one read of the kernel, like the matrix's.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax.lax import Precision
from jaxtyping import Array, Float, Inexact, Real

from specjax.linear_maps._conv_geometry import Geometry
from specjax.linear_maps._convolve import convolve


def squares_in_operator(
    kernel: Inexact[Array, " ..."], conv: Geometry
) -> Real[Array, " ..."]:
    """Returns numbers whose sum is the squared Frobenius norm of the operator."""
    tables = [
        tap_counts(conv, axis, kernel.shape[axis]).astype(jnp.finfo(kernel.dtype).dtype)
        for axis in range(conv.n_spatial)
    ]
    if conv.pads_zeros:
        # An entry of the operator is one entry of the kernel.
        squares = jnp.square(jnp.abs(kernel))
        for axis, table in enumerate(tables):
            others = tuple(other for other in range(kernel.ndim) if other != axis)
            squares *= jnp.expand_dims(jnp.diagonal(table), others)
        return squares
    mixed = kernel
    for axis, table in enumerate(tables):
        mixed = jnp.tensordot(table, mixed, (1, axis), precision=Precision.HIGHEST)
        mixed = jnp.moveaxis(mixed, 0, axis)
    return (jnp.conj(kernel) * mixed).real


def tap_counts(conv: Geometry, axis: int, window: int) -> Float[Array, "window window"]:
    """Returns how often two taps of the window join the same input and output pixel.

    On one spatial axis; on the diagonal, how often a tap joins any two pixels. The
    squared norm of the operator is the sum of ``table[k, l] <kernel[k], kernel[l]>``,
    with a product of tables for several axes: padding, strides and dilation are theirs.
    """
    one = _on_one_axis(conv, axis)
    taps = jnp.eye(window)[:, :, None, None]
    pixels = jnp.zeros((one.input_shape[0], 1))

    def apply(tap: Array, image: Array) -> Array:
        return convolve(tap, image, one)

    def adjoint(tap: Array, image: Array) -> Array:
        return jax.vjp(lambda x: convolve(tap, x, one), pixels)[1](image)[0]

    # Convolving the numbers of the pixels with a single tap tells which one it sees. A
    # pixel of the output sees one of the input, by any padding; for a transposed
    # convolution, whose periods may be folded, it is the other way around.
    outputs = jax.eval_shape(apply, taps[0], pixels)
    look, size = (adjoint, len(outputs)) if conv.transposed else (apply, len(pixels))
    numbers = 1.0 + jnp.arange(size, dtype=jnp.float32)[:, None]
    seen = jnp.round(jax.vmap(look, in_axes=(0, None))(taps, numbers)[..., 0])
    same = (seen[:, None] == seen[None]) & (seen[:, None] > 0)
    return jnp.sum(same, axis=-1, dtype=jnp.float32)


def _on_one_axis(conv: Geometry, axis: int) -> Geometry:
    named = isinstance(conv.padding, str)
    return dataclasses.replace(
        conv,
        input_shape=(conv.input_shape[axis],),
        window_strides=(conv.window_strides[axis],),
        lhs_dilation=(conv.lhs_dilation[axis],),
        rhs_dilation=(conv.rhs_dilation[axis],),
        padding=conv.padding if named else (conv.padding[axis],),
        feature_group_count=1,
    )
