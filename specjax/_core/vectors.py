"""Unit vectors: a vector divided by its norm, and one that no kernel is blind to.

A vector here is an array of any rank: it has the shape of one side of a kernel.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Inexact, Real

from specjax.linear_maps._sharding import Names, count, place, total


def vector_dtype(dtype: DTypeLike) -> Any:
    """Returns the dtype of vectors, sums and state for a kernel's: float32 at least.

    Example:
        >>> vector_dtype("bfloat16"), vector_dtype("float64"), vector_dtype("complex64")
        (dtype('float32'), dtype('float64'), dtype('complex64'))
    """
    narrow = jnp.finfo(dtype).bits < 32
    return jnp.dtype(jnp.float32) if narrow else jnp.dtype(dtype)


def unit(
    vector: Inexact[Array, " *side"], over: Names = ()
) -> tuple[Inexact[Array, " *side"], Real[Array, ""]]:
    """Returns ``vector / |vector|`` and ``|vector|``.

    No constant is added to the norm: the result has norm one as long as the squares of
    the entries are numbers (in float32 entries of 1e-18 to 1e18). Zero stays zero.
    `over`, here and below: mesh axes over which the vector is split by hand.
    """
    norm = length(vector, over)
    return vector / jnp.where(norm > 0, norm, 1).astype(vector.dtype), norm


def length(vector: Inexact[Array, " *side"], over: Names = ()) -> Real[Array, ""]:
    """Returns ``|vector|``, as above."""
    return jnp.sqrt(total(jnp.square(jnp.abs(vector)), over))


def hashed_unit_vector(
    shape: tuple[int, ...], dtype: DTypeLike, split: tuple[Names, ...] = ()
) -> Inexact[Array, " *side"]:
    """Returns a fixed vector of norm about one with no structure.

    Every entry is a hash of its index: a random sign times a magnitude in [.5, 1). So
    no coordinate direction is missed, and a sum or a difference of entries is not zero
    by construction. The same on every device and in every process, without a key.

    Args:
        shape: of the vector, or of this device's shard of it.
        dtype: of the vector.
        split: the mesh axes over which each of its axes is split by hand.
    """
    whole = whole_shape(shape, split)
    # By numpy, as far as it goes: a constant of the program.
    index: Any = np.zeros(shape, np.uint32)
    for axis, size in enumerate(whole):
        here: Any = np.indices(shape, np.uint32, sparse=True)[axis]
        if size != shape[axis]:
            start = place(split[axis]) * shape[axis]
            here = here + start.astype(jnp.uint32)
        index = index * np.uint32(size) + here
    bits = _mix(index)
    magnitude = 0.5 + (bits >> 9).astype(dtype) * 2.0**-24
    sign = 1 - 2 * (bits & 1).astype(dtype)
    # E[magnitude^2] = 7/12 makes the norm about one.
    scale = (12 / 7 / max(1, math.prod(whole))) ** 0.5
    return jnp.asarray(sign * magnitude * scale, dtype)


def random_direction(
    key: Array, shape: tuple[int, ...], dtype: DTypeLike, split: tuple[Names, ...] = ()
) -> Inexact[Array, " *side"]:
    """Returns a Gaussian vector, or this device's shard of it, as above."""
    vector = jax.random.normal(key, whole_shape(shape, split), dtype)
    for axis, names in enumerate(split):
        start = place(names) * shape[axis]
        vector = lax.dynamic_slice_in_dim(vector, start, shape[axis], axis)
    return vector


def whole_shape(shape: tuple[int, ...], split: tuple[Names, ...]) -> tuple[int, ...]:
    """Returns the shape of a vector of which each device holds a shard."""
    split = split or ((),) * len(shape)
    return tuple(n * count(names) for n, names in zip(shape, split, strict=True))


def _mix(index: Any) -> Any:
    """Returns 32 well-mixed bits of each index.

    Source: C. Wellons, "Prospecting for Hash Functions" (2018), lowbias32.
    """
    bits = index + np.uint32(0x9E3779B9)
    bits = (bits ^ (bits >> 16)) * np.uint32(0x7FEB352D)
    bits = (bits ^ (bits >> 15)) * np.uint32(0x846CA68B)
    return bits ^ (bits >> 16)
