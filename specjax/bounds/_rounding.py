"""How far off a sum can be in floating point, and sums for which that is little.

The model is the standard one: each operation is right up to a factor ``1 + d`` with
``|d| <= u``, the unit roundoff, in whatever order a sum is taken (Higham, "Accuracy and
Stability of Numerical Algorithms", 2nd edition, sections 2.2 and 3.1). Products run at
the highest precision, which is float32 also on a TPU. Underflow is not in the model:
arrays are scaled to where it is far below the roundoff.
"""

import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Inexact, Real

from specjax._core.guards import root
from specjax.linear_maps._sharding import Names


def gamma(n: int, dtype: DTypeLike) -> float:
    """Returns Higham's ``n u / (1 - n u)``: n roundings are off by at most this.

    Example:
        >>> gamma(10, "float32") < 1e-6
        True
    """
    total = n * float(jnp.finfo(dtype).eps) / 2
    return total / (1 - total) if total < 1 else float("inf")


def blocks(n: int) -> tuple[int, int, int]:
    """Returns how a sum of n products is split: groups, blocks a group, block length.

    Rounding grows with the sum of the three numbers, work does not grow: a block of 32
    products is long enough for a matrix unit.
    """
    length = min(n, 32)
    n_blocks = -(-n // length)
    per_group = max(1, round(n_blocks**0.5))
    return -(-n_blocks // per_group), per_group, length


def power_of_two(
    array: Inexact[Array, " ..."],
    axes: tuple[int, ...] | None = None,
    over: Names = (),
) -> Real[Array, " ..."]:
    """Returns a power of two f for which the largest entry of array / f is 1 to 2.

    One for all entries, or with `axes` one for all along these axes, which stay; `over`
    are mesh axes over which the array is split by hand.

    To divide by it is exact, and keeps squares and their sums in range. It is 1 where
    the largest entry has no such f: zero, below the smallest normal number, not finite.
    """
    largest = jnp.max(jnp.abs(array), axis=axes, keepdims=axes is not None)
    largest = lax.stop_gradient(largest)
    largest = lax.pmax(largest, over) if over else largest
    info = jnp.finfo(largest.dtype)
    # The exponent alone is left of a number whose mantissa is shifted out. Not frexp,
    # whose exponent jax 0.12 gives no place on an explicit mesh.
    bits = lax.bitcast_convert_type(largest, f"uint{info.bits}")
    bits = bits >> info.nmant << info.nmant
    power = lax.bitcast_convert_type(bits, largest.dtype)
    return jnp.where((power > 0) & (power < jnp.inf), power, 1)


def frobenius(matrix: Inexact[Array, "rows columns"]) -> Real[Array, ""]:
    """Returns the Frobenius norm, rounded up: the sums are taken axis by axis."""
    scale = power_of_two(matrix)
    scaled = matrix / scale.astype(matrix.dtype)
    rows = jnp.sum(jnp.square(scaled.real) + jnp.square(scaled.imag), axis=1)
    # Without the barrier a compiler makes one long sum of the two.
    total = up(jnp.sum(lax.optimization_barrier(rows)), sum(matrix.shape) + 4)
    return up(scale * root(total))


def up(value: Real[Array, " ..."], n: int = 4) -> Real[Array, " ..."]:
    """Returns a value of at least zero made larger by n roundings."""
    return value * (1 + 2 * gamma(n, value.dtype))
