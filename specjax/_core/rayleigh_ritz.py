"""Rayleigh-Ritz for two vectors: of all in their plane, the one with the longest image.

    V = u W^H, V2 = u2 W^H, z = V W, z2 = V2 W
    v = c V + s V2 with |v| = 1 and the longest v W;  u' = v W / |v W|

Everything happens on the output side: the inner products of V and V2 are those of u and
u2 with z and z2. First all sums, which give the coefficients, then all entries. In
closed form, without a library call, so it fuses on every backend. Sharded vectors stay
where they are.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact, Real

from specjax._core.guards import inverse, usable
from specjax._core.vectors import hashed_unit_vector
from specjax.linear_maps._sharding import Names

# A vector this much shorter than the other is taken for zero.
NEGLIGIBLE_LENGTH = 1e-3
# A vector with no more than this share of it outside the other is taken for parallel:
# what is left would be rounding. The share is the root of a difference of squares, in
# float32 good to 0.1 % from here on.
COLLINEAR_SHARE = 1e-2
# A V that may be so much rounding is not believed to be any shorter, in units of eps.
ROUNDING_ULPS = 256
# How far u2 is pushed in each step off a direction that it could be stuck in. u itself
# is not pushed: it takes from u2 only what makes it longer.
PERTURBATION = 1e-3
# The angle, in radians, that u rotates by in a step when u2 is half the next vector and
# half the direction in which u rotates. A kernel that drifts by 1 % rotates it by 0.01,
# one in the first updates of Adam by 0.06 to 0.16 (docs/design/0002).
RESIDUAL_ANGLE = 0.07


class RitzPair(NamedTuple):
    """A better pair, and how its input side is combined: ``v = c V + s V2``.

    Attributes:
        u: unit vector, the longest image of the plane of V and V2.
        u2: about a unit vector orthogonal to u. While u rests, the second singular
            vector; the faster u rotates, the more weight its direction of rotation has.
        sigma: the length of that image, for a v of norm one.
        weights: c and s, unless the kernel is zero or not finite.
    """

    u: Inexact[Array, " *out"]
    u2: Inexact[Array, " *out"]
    sigma: Real[Array, ""]
    weights: tuple[Inexact[Array, ""], Inexact[Array, ""]]

    def v(
        self, v: Inexact[Array, " *in"], v2: Inexact[Array, " *in"]
    ) -> Inexact[Array, " *in"]:
        """Returns the unit vector ``c V + s V2``; zero where u and u2 stayed."""
        c, s = self.weights
        return jnp.where(usable(self.sigma), c * v + s * v2, 0)


def ritz_pair(
    u: Inexact[Array, " *out"],
    u2: Inexact[Array, " *out"],
    z: Inexact[Array, " *out"],
    z2: Inexact[Array, " *out"],
    split: tuple[Names, ...] = (),
) -> RitzPair:
    """Returns the next pair from a pair and ``z = u W^H W``, ``z2 = u2 W^H W``.

    With a kernel that is zero or not finite, u and u2 come back as they were.

    Args:
        u: as in the state.
        u2: as in the state.
        z: the product of W with ``V = u W^H``, not normalized in between.
        z2: the same for u2.
        split: the mesh axes over which each axis of these is split by hand.
    """
    return combined(ritz_coefficients(u, u2, z, z2, split), u, u2, z, z2, split)


class RitzCoefficients(NamedTuple):
    """The next pair in terms of this one, as numbers.

    Attributes:
        new_u: of z and of z2 in the next u.
        made_from: of u and of u2 in what z and z2 of the next u are made from.
        new_u2: of z and of z2 in the next u2.
        residual: of ``u' - made_from``, the direction of rotation, in the next u2.
        push: how far u2 is pushed.
        sigma: as in `RitzPair`.
        weights: as in `RitzPair`.
    """

    new_u: tuple[Inexact[Array, ""], Inexact[Array, ""]]
    made_from: tuple[Inexact[Array, ""], Inexact[Array, ""]]
    new_u2: tuple[Inexact[Array, ""], Inexact[Array, ""]]
    residual: Inexact[Array, ""]
    push: Real[Array, ""]
    sigma: Real[Array, ""]
    weights: tuple[Inexact[Array, ""], Inexact[Array, ""]]


def ritz_coefficients(
    u: Inexact[Array, " *out"],
    u2: Inexact[Array, " *out"],
    z: Inexact[Array, " *out"],
    z2: Inexact[Array, " *out"],
    split: tuple[Names, ...] = (),
) -> RitzCoefficients:
    """Returns all that is summed over the vectors."""
    over = tuple(name for names in split for name in names)
    pairs = (u, u), (u2, u2), (u, u2), (u, z), (u2, z2), (u, z2)
    sums = inner_products(pairs, over)
    before, images = gram_of(*sums[:3]), gram_of(*sums[3:])
    c1, c2, d = _orthonormal(images)
    rotated = gram(c1 * z, c2 * z2 - d * z, over)
    k1, k2 = _shortened(rotated.first, c1), _shortened(rotated.second, c2)
    c1, c2, d = k1 * c1, k2 * c2, k2 * d
    c, s, sigma, beside = leading_eigenvector(rotated.scaled(k1, k2))
    weights = c * c1 - s * d, s * c2
    across = -(jnp.conj(c) * d + jnp.conj(s) * c1), jnp.conj(c) * c2
    # In u's units; it is longer than u, since u rotates away from it.
    made_from = sigma.astype(z.dtype) * weights[0], sigma.astype(z.dtype) * weights[1]
    # From a V2 that is next to nothing beside V, its share would be rounding.
    clear = COLLINEAR_SHARE * sigma * jnp.abs(c2) < 1
    share, residual = _mix(jnp.where(clear, before.square_of(*made_from), 1))
    one, one2 = _inverse(sigma, z), share * _inverse(beside, z)
    return RitzCoefficients(
        new_u=(one * weights[0], one * weights[1]),
        made_from=made_from,
        new_u2=(one2 * across[0], one2 * across[1]),
        residual=residual.astype(z.dtype),
        # Where there is nothing beside u, u2 has to see whatever comes to be there.
        push=jnp.where(beside > 0, PERTURBATION, share),
        sigma=sigma,
        weights=weights,
    )


def combined(
    numbers: RitzCoefficients,
    u: Inexact[Array, " *out"],
    u2: Inexact[Array, " *out"],
    z: Inexact[Array, " *out"],
    z2: Inexact[Array, " *out"],
    split: tuple[Names, ...] = (),
) -> RitzPair:
    """Returns the pair, entry by entry, from the coefficients."""
    n = numbers
    new_u = n.new_u[0] * z + n.new_u[1] * z2
    made_from = n.made_from[0] * u + n.made_from[1] * u2
    new_u2 = n.new_u2[0] * z + n.new_u2[1] * z2 + n.residual * (new_u - made_from)
    new_u2 = new_u2 + n.push * hashed_unit_vector(u2.shape, u2.dtype, split)
    found = usable(n.sigma)
    return RitzPair(
        u=jnp.where(found, new_u, u),
        u2=jnp.where(found, new_u2, u2),
        sigma=n.sigma,
        weights=n.weights,
    )


def _inverse(length: Array, like: Array) -> Array:
    return inverse(length, length > 0).astype(like.dtype)


def _mix(squared: Array) -> tuple[Array, Array]:
    """Returns how much of u2 is the next vector, and how much the residual of u.

    The second is in units of ``u' - made_from``, the tangent of the angle between them:
    of norm one each, the two have the ratio ``1 : (sin(angle) / RESIDUAL_ANGLE)^2``.

    Args:
        squared: length of what u is made from: ``1 / cos(angle)^2``.
    """
    cosine2 = 1 / jnp.maximum(squared, 1)
    ratio = (1 - cosine2) / RESIDUAL_ANGLE**2
    share = lax.rsqrt(1 + jnp.square(ratio))
    return share, share * jnp.sqrt(cosine2 * (1 - cosine2)) / RESIDUAL_ANGLE**2


def _orthonormal(images: "Gram") -> tuple[Array, Array, Array]:
    """Returns c1, c2 and d, so that ``c1 V`` and ``c2 V2 - d V`` are orthonormal.

    One that would be rounding is zero, its coefficients are: a V far smaller than the
    other, and what V2 has beside V if that is far smaller than V2.

    Args:
        images: the inner products of V and V2.
    """
    first, second, inner = images
    short = NEGLIGIBLE_LENGTH**2 * jnp.maximum(first, second)
    c1 = jnp.where(first > short, lax.rsqrt(first), 0)
    along = c1 * inner
    beside = second - square(along)
    clear = (second > short) & (beside > COLLINEAR_SHARE**2 * second)
    c2 = jnp.where(clear, lax.rsqrt(beside), 0)
    c1, c2 = c1.astype(inner.dtype), c2.astype(inner.dtype)
    return c1, c2, c2 * along * c1


def _shortened(squared: Array, c: Array) -> Array:
    """Returns by how much the product of a V that may be rounding is made shorter.

    A V of a few millionths of the norm is rounding, and its length, found by way of z,
    may be too small by any factor; then ``c z`` is too long. The angle of u and z tells
    it: its cosine is the inverse of ``|c z| |c|``, and small only if V is.
    """
    too_small = ROUNDING_ULPS * jnp.finfo(c.dtype).eps * jnp.sqrt(squared * square(c))
    return lax.rsqrt(jnp.maximum(too_small, 1)).astype(c.dtype)


class Gram(NamedTuple):
    """The inner products of two vectors: squared lengths, and that between them."""

    first: Real[Array, ""]
    second: Real[Array, ""]
    inner: Inexact[Array, ""]

    def scaled(self, k1: Array, k2: Array) -> "Gram":
        """Returns those of k1 times the first and k2 times the second."""
        first, second = square(k1) * self.first, square(k2) * self.second
        return Gram(first, second, k1 * k2 * self.inner)

    def square_of(self, c: Array, s: Array) -> Array:
        """Returns the squared length of c times the first and s times the second."""
        both = 2 * (jnp.conj(c) * s * self.inner).real
        return square(c) * self.first + square(s) * self.second + both


def gram(
    first: Inexact[Array, " *side"], second: Inexact[Array, " *side"], over: Names = ()
) -> Gram:
    """Returns the inner products of two vectors."""
    pairs = (first, first), (second, second), (first, second)
    return gram_of(*inner_products(pairs, over))


def gram_of(first: Array, second: Array, inner: Array) -> Gram:
    """Returns three inner products as a `Gram`: squared lengths are real."""
    return Gram(first.real, second.real, inner)


def inner_products(
    pairs: Sequence[tuple[Array, Array]], over: Names = ()
) -> list[Array]:
    """Returns ``<first, second>``, the sum of ``conj(first) second``, of each pair."""
    sums = [jnp.sum(jnp.conj(first) * second) for first, second in pairs]
    return lax.psum(sums, over) if over else sums


class Eigenvector(NamedTuple):
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


def leading_eigenvector(gram: Gram) -> Eigenvector:
    """Returns how two vectors are combined so that the result is as long as can be.

    The leading eigenvector of ``[[first, inner], [conj(inner), second]]``. The lengths
    are those of the squares' rounding; a second one that would be nothing else is zero.
    """
    first, second, inner = gram
    trace = first + second
    part = inverse(trace, trace > 0)
    half, off = (first - second) * part / 2, inner * part.astype(inner.dtype)
    # A tie is the first vector's. Else equal singular values would be rotated by the
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
    length = own * first + square(s) * second + both
    rest = own * second + square(s) * first
    beside = rest - both
    beside = jnp.where(beside > NEGLIGIBLE_LENGTH**2 * rest, beside, 0)
    return Eigenvector(c, s, jnp.sqrt(length), jnp.sqrt(beside))


def square(number: Array) -> Array:
    """Returns ``|number|^2``."""
    return (number * jnp.conj(number)).real
