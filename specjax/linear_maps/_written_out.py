"""A convolution written out as a matrix, exactly: no entry is rounded.

The matrix is the sum over the window of "which pixel meets which" times the channels'
matrix at that place. With zero padding two pixels meet in one place at most, so each
entry is one of the kernel's, or zero.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact

from specjax.linear_maps._conv_geometry import Geometry
from specjax.linear_maps._convolve import convolve


def written_out(
    kernel: Inexact[Array, " ..."], conv: Geometry
) -> Inexact[Array, "n_in n_out"]:
    """Returns the matrix of one kernel, of a convolution with zero padding."""
    window = kernel.shape[: len(conv.input_shape)]
    total = jnp.zeros((), kernel.dtype)
    for place in np.ndindex(*window):
        meeting = _meeting(conv, window, place).astype(kernel.dtype)
        channels = _channels(kernel[place], conv)
        # Not a dot, which a backend may round: products with 0 and 1, and sums with 0.
        total += meeting[:, None, :, None] * channels[None, :, None, :]
    n_in, of_in, n_out, of_out = total.shape
    return total.reshape(n_in * of_in, n_out * of_out)


def _meeting(conv: Geometry, window: tuple[int, ...], place: tuple[int, ...]) -> Array:
    """Returns the 0/1 matrix of the pixels that meet at a place in the window."""
    alone = dataclasses.replace(conv, feature_group_count=1)
    one = jnp.zeros((*window, 1, 1)).at[place].set(1)
    n_in = math.prod(conv.input_shape)
    pixels = jnp.eye(n_in).reshape(n_in, *conv.input_shape, 1)
    seen = jax.vmap(lambda pixel: convolve(one, pixel, alone))(pixels)
    return jnp.round(seen).reshape(n_in, -1)


def _channels(at_place: Array, conv: Geometry) -> Array:
    """Returns the matrix of all channels, a block for each group."""
    if conv.transpose_kernel:
        return at_place.T
    blocks = jnp.split(at_place, conv.feature_group_count, axis=1)
    return jax.scipy.linalg.block_diag(*blocks)
