"""A kernel as a matrix, and which maps a method can read."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Inexact

from specjax import _errors
from specjax._conv import Conv
from specjax._linear_map import LinearMap, Matrix, as_tuple


def check_map(linear_map: LinearMap, shape: tuple[int, ...]) -> Matrix | Conv:
    """Returns the resolved map.

    Raises:
        TypeError: if it is neither a `Matrix` nor a `Conv`.
        ValueError: if it does not fit the shape.
    """
    if not isinstance(linear_map, Matrix | Conv):
        message = _errors.complaint(
            "specjax.bounds",
            got=f"{linear_map!r}",
            need="a Matrix or a Conv, whose singular values these methods know",
            fix="specjax.Matrix() or specjax.Conv(input_shape=...); bounds.lower takes "
            "any linear map",
        )
        raise TypeError(message)
    return linear_map.resolve(shape)


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
