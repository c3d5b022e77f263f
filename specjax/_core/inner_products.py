"""Inner products of two vectors, and how the two are turned so that one is longest.

Rayleigh and Ritz for two, in closed form: no library call, so it fuses, and it works on
every backend.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact, Real

from specjax.linear_maps._sharding import Names, summed

# A vector this much shorter than the other is taken for zero.
SHORT = 1e-3


class Gram(NamedTuple):
    """The inner products of two vectors: squared lengths, and that between them."""

    top: Real[Array, ""]
    bottom: Real[Array, ""]
    inner: Inexact[Array, ""]

    def scaled(self, k1: Array, k2: Array) -> "Gram":
        """Returns those of k1 times the first and k2 times the second."""
        top, bottom = square(k1) * self.top, square(k2) * self.bottom
        return Gram(top, bottom, k1 * k2 * self.inner)

    def square_of(self, c: Array, s: Array) -> Array:
        """Returns the squared length of c times the first and s times the second."""
        both = 2 * (jnp.conj(c) * s * self.inner).real
        return square(c) * self.top + square(s) * self.bottom + both


def grams(
    first: Inexact[Array, " *side"],
    second: Inexact[Array, " *side"],
    over: Names = (),
    alone: bool = False,
) -> Gram:
    """Returns the inner products of two vectors."""
    pairs = (first, first), (second, second), (first, second)
    return gram_of(*inner_products(pairs, over, alone))


def gram_of(top: Array, bottom: Array, inner: Array) -> Gram:
    """Returns three inner products as a `Gram`: squared lengths are real."""
    return Gram(top.real, bottom.real, inner)


class Longest(NamedTuple):
    """Numbers c and s, of norm one, and the lengths of what they make of two vectors.

    Attributes:
        c: a number.
        s: the other.
        length: of ``c first + s second``: there is no longer one.
        across: of ``conj(c) second - conj(s) first``, which is orthogonal to it.
    """

    c: Inexact[Array, ""]
    s: Inexact[Array, ""]
    length: Real[Array, ""]
    across: Real[Array, ""]


def longest(gram: Gram) -> Longest:
    """Returns how two vectors are turned so that one is as long as can be.

    The lengths are those of the squares' rounding; a second one that would be nothing
    else is zero.
    """
    top, bottom, inner = gram
    # The leading eigenvector of [[top, inner], [conj(inner), bottom]], by its trace.
    trace = top + bottom
    part = jnp.where(trace > 0, 1 / trace, 0)
    half, off = (top - bottom) * part / 2, inner * part.astype(inner.dtype)
    # A tie is the first vector's. Else equal singular values would be turned by the
    # rounding of a sum, which is another on another number of devices.
    tie = 8 * jnp.finfo(trace.dtype).eps
    half, off = half + tie, jnp.where(jnp.abs(off) > tie, off, 0)
    # Of its two formulas the one without a cancellation.
    large = jnp.abs(half) + jnp.sqrt(half**2 + square(off))
    scale = lax.rsqrt(large**2 + square(off)).astype(off.dtype)
    large, off = large.astype(off.dtype) * scale, off * scale
    c = jnp.where(half >= 0, large, off)
    s = jnp.where(half >= 0, jnp.conj(off), large)
    own, both = square(c), 2 * (jnp.conj(c) * s * inner).real
    length = own * top + square(s) * bottom + both
    left = own * bottom + square(s) * top
    left = jnp.where(left - both > SHORT**2 * left, left - both, 0)
    return Longest(c, s, jnp.sqrt(length), jnp.sqrt(left))


def square(number: Array) -> Array:
    """Returns ``|number|^2``."""
    return (number * jnp.conj(number)).real


def inner_products(
    pairs: Sequence[tuple[Array, Array]], over: Names, alone: bool
) -> list[Array]:
    """Returns the inner product of each pair, in the form that fuses.

    The compiler for CPUs makes three loops of a sum. Those for TPU and GPU merge sums
    of one length, and would write what they are stacked in.
    """

    def apart(*products: Array) -> list[Array]:
        return [jnp.sum(product) for product in products]

    def as_one(*products: Array) -> list[Array]:
        sums = jnp.sum(jnp.stack(products), axis=tuple(range(1, products[0].ndim + 1)))
        return [sums[i] for i in range(len(products))]

    products = [jnp.conj(first) * second for first, second in pairs]
    if alone and products[0].size > 1:
        sums = lax.platform_dependent(*products, cpu=as_one, default=apart)
    else:
        sums = apart(*products)
    return [summed(one, over) for one in sums]
