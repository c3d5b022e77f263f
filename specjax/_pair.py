"""Two vectors of one side: multiplied, made orthonormal, turned so that one is longest.

The parts of a power step with two vectors. The Rayleigh-Ritz step is in closed form: no
library call, so it fuses, it works on every backend, and a sharded side stays sharded.
"""

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact, Real

from specjax._mesh import Names, total
from specjax._vectors import unit

_Pair: TypeAlias = tuple[Array, Array]

# A second vector with less than this share of it outside the first is taken for
# parallel: what is left of it would be rounding.
PARALLEL = 1e-3


def products(
    product: Callable[[Array, Array], Array], kernel: Array, first: Array, second: Array
) -> _Pair:
    """Returns both products of a kernel, which is read once and not copied.

    The compilers for TPU and GPU merge two sums over one array, casts included; the one
    for CPU does not, but takes one sum over a pair. Behind the barrier the kernel's
    cast is not shared with another read of it (see `read_anew`).
    """

    def side_by_side(kernel: Array, first: Array, second: Array) -> _Pair:
        kernel, first, second = lax.optimization_barrier((kernel, first, second))
        return product(kernel, first), product(kernel, second)

    def as_one(kernel: Array, first: Array, second: Array) -> _Pair:
        pair = jnp.stack([first, second])
        kernel, pair = lax.optimization_barrier((kernel, pair))
        first, second = jax.vmap(product, in_axes=(None, 0))(kernel, pair)
        return first, second

    return lax.platform_dependent(
        kernel, first, second, cpu=as_one, default=side_by_side
    )


def orthonormal(
    first: Inexact[Array, " *side"],
    second: Inexact[Array, " *side"],
    over: Names = (),
) -> tuple[Inexact[Array, " *side"], Inexact[Array, " *side"]]:
    """Returns unit vectors: along the first, and along what the second has beside it.

    A vector that is zero stays zero; so does a second one parallel to the first.
    """
    first, _ = unit(first, over)
    beside = second - first * total(jnp.conj(first) * second, over)
    beside, length = unit(beside, over)
    parallel = length <= PARALLEL * jnp.sqrt(_squares(second, over))
    return first, jnp.where(parallel, 0, beside)


def longest(
    first: Inexact[Array, " *side"],
    second: Inexact[Array, " *side"],
    over: Names = (),
) -> tuple[Real[Array, ""] | Inexact[Array, ""], Inexact[Array, ""]]:
    """Returns (c, s), of norm one, for which ``c first + s second`` is longest.

    ``conj(c) second - conj(s) first`` is then orthogonal to it.
    """
    top, bottom = _squares(first, over), _squares(second, over)
    inner = total(jnp.conj(first) * second, over)
    # The leading eigenvector of [[top, inner], [conj(inner), bottom]], by its trace.
    trace = jnp.where(top + bottom > 0, top + bottom, 1)
    half, off = (top - bottom) / (2 * trace), inner / trace.astype(inner.dtype)
    # A tie is the first vector's. Else equal singular values would be turned by the
    # rounding of a sum, which is another on another number of devices.
    tie = 8 * jnp.finfo(trace.dtype).eps
    half, off = half + tie, jnp.where(jnp.abs(off) > tie, off, 0)
    radius = jnp.sqrt(half**2 + jnp.square(jnp.abs(off)))
    # Of its two formulas the one without a cancellation.
    large = jnp.abs(half) + radius
    large = jnp.where(large > 0, large, 1).astype(off.dtype)
    c = jnp.where(half >= 0, large, off)
    s = jnp.where(half >= 0, jnp.conj(off), large)
    norm = jnp.sqrt(jnp.square(jnp.abs(c)) + jnp.square(jnp.abs(s))).astype(off.dtype)
    return c / norm, s / norm


def _squares(vector: Array, over: Names) -> Array:
    return total(jnp.square(jnp.abs(vector)), over)
