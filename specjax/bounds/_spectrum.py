"""The blocks of a circular convolution: one matrix for each class of frequencies.

A circular convolution is diagonal in the frequency domain, up to blocks: the matrix of
channels ``K(w) = sum_t K_t e^(-i w t)``; with a stride s, the s frequencies that alias
onto each other side by side; with a dilation of the input, one above the other. The
largest singular value over all blocks is the norm (Sedghi et al., "The Singular Values
of Convolutional Layers", 2019). Frequencies are taken a few at a time, so the memory is
that of a few blocks, not of the spectrum.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Inexact, Int, Real

from specjax import errors
from specjax.bounds._rounding import frobenius, gamma
from specjax.linear_maps._circular import Axis

# Bytes of the blocks that are looked at together.
_AT_ONCE = 2**24

_Axes: TypeAlias = tuple[Axis, ...]


def classes(axes: _Axes, half: bool) -> Int[np.ndarray, "n_classes n_axes"]:
    """Returns a frequency of each class; `half`: of w and -w only one.

    The block of -w is the conjugate of that of w if the kernel is real.
    """
    counts = [axis.n_classes for axis in axes]
    if half:
        counts[-1] = counts[-1] // 2 + 1
    return np.stack(np.meshgrid(*map(np.arange, counts), indexing="ij"), -1).reshape(
        -1, len(axes)
    )


def block(
    kernel: Inexact[Array, "taps n_in n_out"], axes: _Axes, frequency: Int[Array, " n"]
) -> Inexact[Array, "rows columns"]:
    """Returns the matrix of one class, inputs by outputs, with all aliases in it."""
    n_in, n_out = kernel.shape[1:]
    phases = _phases(kernel, axes, frequency)
    parts = jnp.matmul(
        phases,
        kernel.reshape(len(kernel), -1).astype(phases.dtype),
        precision=lax.Precision.HIGHEST,
    ) / (len(phases) ** 0.5)
    # One axis of aliases for each spatial axis, inputs if strided, outputs if dilated.
    parts = parts.reshape(
        *(a for axis in axes for a in (axis.stride, axis.dilation)), n_in, n_out
    )
    strides = tuple(range(0, 2 * len(axes), 2))
    dilations = tuple(range(1, 2 * len(axes), 2))
    n = 2 * len(axes)
    parts = parts.transpose(*strides, n, *dilations, n + 1)
    return parts.reshape(math.prod(axis.stride for axis in axes) * n_in, -1)


def _phases(kernel: Array, axes: _Axes, frequency: Array) -> Array:
    """Returns e^(-i w t) for each alias (rows) and each tap (columns)."""
    dtype = jnp.result_type(kernel.dtype, jnp.complex64)
    phases = jnp.ones((1, 1), dtype)
    for i, axis in enumerate(axes):
        n_taps = (axis.reach - 1) // axis.step + 1
        n_aliases = axis.stride * axis.dilation
        _check_turns(axis)
        alias = frequency[i] + axis.n_classes * jnp.arange(n_aliases)
        turns = (alias[:, None] * (axis.step * jnp.arange(n_taps))) % axis.size
        own = jnp.asarray(_circle(axis.size), dtype)[turns]
        phases = phases[:, None, :, None] * own[None, :, None, :]
        phases = phases.reshape(phases.shape[0] * phases.shape[1], -1)
    return phases


def _check_turns(axis: Axis) -> None:
    """Raises a TooLargeError for frequencies times taps beyond 32 bits."""
    if axis.size * axis.reach >= 2**31:
        message = errors.message(
            "specjax.bounds",
            got=f"a window of {axis.reach} points on {axis.size} points",
            need="a product below 2^31, for which the phases are exact",
            fix='bounds.upper(..., every_size=True) or method="aol"',
        )
        raise errors.TooLargeError(message)


@functools.cache
def _circle(size: int) -> np.ndarray:
    """Returns ``e^(-2 pi i j / size)`` for each j, in double precision."""
    return np.exp(-2j * np.pi * np.arange(size) / size)


def block_error(
    kernel: Inexact[Array, "groups taps n_in n_out"], axes: _Axes
) -> Real[Array, " groups"]:
    """Returns how far a computed block may be from the true one, as a norm."""
    n_roundings = kernel.shape[1] + 4 * len(axes) + 6
    sizes = jax.vmap(frobenius)(jnp.sum(jnp.abs(kernel), axis=1))
    # 2: real and imaginary part, and that the sum over the taps is rounded, too.
    return 2 * gamma(n_roundings, sizes.dtype) * sizes


def over_blocks(
    function: Callable[[Array], Any],
    kernel: Inexact[Array, "groups taps n_in n_out"],
    axes: _Axes,
    *,
    half: bool = True,
) -> Any:
    """Returns a function of every block: (classes, groups, ...).

    With `half`, of the frequencies w and -w only one, if the kernel is real.
    """
    frequencies = jnp.asarray(_classes_of(kernel, axes, half))

    def of_class(frequency: Array) -> Any:
        return jax.vmap(lambda one: function(block(one, axes, frequency)))(kernel)

    at_once = min(len(frequencies), blocks_at_once(kernel, axes))
    return lax.map(of_class, frequencies, batch_size=at_once)


def _classes_of(kernel: Any, axes: _Axes, half: bool) -> np.ndarray:
    return classes(axes, half and not jnp.issubdtype(kernel.dtype, jnp.complexfloating))


def blocks_at_once(kernel: Any, axes: _Axes) -> int:
    """Returns how many classes of frequencies are in memory together."""
    return max(1, _AT_ONCE // block_bytes(kernel, axes))


def block_bytes(kernel: Any, axes: _Axes) -> int:
    """Returns the size of the blocks of one class, those of all groups."""
    n_aliases = math.prod(axis.stride * axis.dilation for axis in axes)
    itemsize = jnp.result_type(kernel.dtype, jnp.complex64).itemsize
    groups, _, n_in, n_out = kernel.shape
    return groups * n_in * n_out * n_aliases * itemsize
