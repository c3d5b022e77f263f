"""Two vectors turned in their plane so that one is longest: Rayleigh and Ritz for two.

The other is what is left across it and, while the first still turns, where it turns to.
A sharded side stays sharded.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact, Real

from specjax._core.inner_products import (
    SHORT,
    Gram,
    gram_of,
    grams,
    inner_products,
    longest,
    square,
)
from specjax._core.vectors import generic_direction
from specjax.linear_maps._sharding import Names

# A vector with no more than this share of it outside the other is taken for parallel:
# what is left would be rounding. The share is the root of a difference of squares, in
# float32 good to .1 % from here on.
PARALLEL = 1e-2
# A V that may be so much rounding is not believed to be any shorter, in units of eps.
ROUNDING = 256
# How far u2 is pushed in each step off a direction that it could be stuck in. u itself
# is not pushed: it takes from u2 only what makes it longer.
PUSH = 1e-3
# The angle, in radians, that u turns by in a step when u2 is half the next vector and
# half the direction in which u turns. A kernel that drifts by 1 % turns it by .01, one
# in the first updates of Adam by .06 to .16 (docs/design/0002).
TURN = 0.07


class Turned(NamedTuple):
    """A better pair, and how its input side is combined: ``v = c V + s V2``.

    Attributes:
        u: unit vector, the longest product of the plane of z and z2.
        u2: about a unit vector across it: the longest product there is across it, and
            the more of where u turns to the further it turns.
        sigma: the length of that product, for a v of norm one.
        weights: c of ``V = u W^H`` in v and s of ``V2 = u2 W^H``; zero where the kernel
            is zero or not finite.
        outputs: conj(c) u and conj(s) u.
    """

    u: Inexact[Array, " *out"]
    u2: Inexact[Array, " *out"]
    sigma: Real[Array, ""]
    weights: tuple[Inexact[Array, ""], Inexact[Array, ""]]
    outputs: tuple[Inexact[Array, " *out"], Inexact[Array, " *out"]]


def turn(
    u: Inexact[Array, " *out"],
    u2: Inexact[Array, " *out"],
    z: Inexact[Array, " *out"],
    z2: Inexact[Array, " *out"],
    split: tuple[Names, ...] = (),
    alone: bool = False,
) -> Turned:
    """Returns the next pair from a pair and ``z = u W^H W``, ``z2 = u2 W^H W``.

    Everything happens on the output side: the inner products of V and V2 are those of
    u and u2 with z and z2. So kernels with alike outputs are turned in one batch. With
    a kernel that is zero or not finite, u and u2 come back as they were.

    Args:
        u: as in the state.
        u2: as in the state.
        z: the product of W with ``V = u W^H``, not normalized in between.
        z2: the same for u2.
        split: the mesh axes over which each axis of these is split by hand.
        alone: these are in no batch, so that sums put into one are fewer loops.
    """
    return turned(plane(u, u2, z, z2, split, alone), u, u2, z, z2, split)


class Plane(NamedTuple):
    """All that is known of the plane of z and z2, as numbers.

    Attributes:
        z: how much of z is in the next u, and z2 of z2.
        z2: see z.
        u: how much of u is in what z and z2 of the next u are made from, and u2 of u2.
        u2: see u.
        across: how much of z is taken out of the next u2, and across2 of z2 put in.
        across2: see across.
        ahead: how much of where u turns to is in the next u2.
        push: how far that is pushed.
        sigma: as in `Turned`.
        weights: as in `Turned`, but for a kernel that is zero or not finite.
    """

    z: Inexact[Array, ""]
    z2: Inexact[Array, ""]
    u: Inexact[Array, ""]
    u2: Inexact[Array, ""]
    across: Inexact[Array, ""]
    across2: Inexact[Array, ""]
    ahead: Inexact[Array, ""]
    push: Real[Array, ""]
    sigma: Real[Array, ""]
    weights: tuple[Inexact[Array, ""], Inexact[Array, ""]]


def plane(
    u: Inexact[Array, " *out"],
    u2: Inexact[Array, " *out"],
    z: Inexact[Array, " *out"],
    z2: Inexact[Array, " *out"],
    split: tuple[Names, ...] = (),
    alone: bool = False,
) -> Plane:
    """Returns the numbers of `turn`: everything that is summed over the vectors."""
    over = tuple(name for names in split for name in names)
    pairs = (u, u), (u2, u2), (u, u2), (u, z), (u2, z2), (u, z2)
    sums = inner_products(pairs, over, alone)
    before, inputs = gram_of(*sums[:3]), gram_of(*sums[3:])
    c1, c2, d = _orthonormal(inputs)
    gram = grams(c1 * z, c2 * z2 - d * z, over, alone)
    k1, k2 = _cut(gram.top, c1), _cut(gram.bottom, c2)
    c1, c2, d = k1 * c1, k2 * c2, k2 * d
    c, s, sigma, beside = longest(gram.scaled(k1, k2))
    first, second = c * c1 - s * d, s * c2
    across, across2 = jnp.conj(c) * d + jnp.conj(s) * c1, jnp.conj(c) * c2
    one, one2 = (jnp.where(n > 0, 1 / n, 0).astype(z.dtype) for n in (sigma, beside))
    # In u's units; it is longer than u, since u turns away from it.
    f, g = (sigma.astype(z.dtype) * w for w in (first, second))
    # From a V2 that is next to nothing beside V, g would be rounding.
    clear = PARALLEL * sigma * jnp.abs(c2) < 1
    rest, ahead = _shares(jnp.where(clear, before.square_of(f, g), 1))
    one2 = rest * one2
    return Plane(
        z=first * one,
        z2=second * one,
        u=f,
        u2=g,
        across=across * one2,
        across2=across2 * one2,
        ahead=ahead.astype(z.dtype),
        # Where there is nothing beside u, u2 has to see whatever comes to be there.
        push=jnp.where(beside > 0, PUSH, rest),
        sigma=sigma,
        weights=(first, second),
    )


def turned(
    numbers: Plane,
    u: Inexact[Array, " *out"],
    u2: Inexact[Array, " *out"],
    z: Inexact[Array, " *out"],
    z2: Inexact[Array, " *out"],
    split: tuple[Names, ...] = (),
) -> Turned:
    """Returns the vectors of `turn`, entry by entry, from the numbers of the plane."""
    n = numbers
    new_u = n.z * z + n.z2 * z2
    made_from = n.u * u + n.u2 * u2
    new_u2 = n.across2 * z2 - n.across * z + n.ahead * (new_u - made_from)
    new_u2 = new_u2 + n.push * generic_direction(u2.shape, u2.dtype, split)
    usable = jnp.isfinite(n.sigma) & (n.sigma > 0)
    u, u2 = jnp.where(usable, new_u, u), jnp.where(usable, new_u2, u2)
    first, second = (jnp.where(usable, weight, 0) for weight in n.weights)
    outputs = jnp.conj(first) * u, jnp.conj(second) * u
    return Turned(u, u2, n.sigma, (first, second), outputs)


def _shares(squared: Array) -> tuple[Array, Array]:
    """Returns how much of u2 is the next vector, and how much where u turns to.

    The second is in units of ``new_u - made_from``, the tangent of the angle between
    them: of norm one each, the two have the ratio ``1 : (sin(angle) / TURN)^2``.

    Args:
        squared: length of what u is made from: ``1 / cos(angle)^2``.
    """
    cosine2 = 1 / jnp.maximum(squared, 1)
    ratio = (1 - cosine2) / TURN**2
    rest = lax.rsqrt(1 + jnp.square(ratio))
    return rest, rest * jnp.sqrt(cosine2 * (1 - cosine2)) / TURN**2


def _orthonormal(gram: Gram) -> tuple[Array, Array, Array]:
    """Returns c1, c2 and d, so that ``c1 V`` and ``c2 V2 - d V`` are orthonormal.

    One that would be rounding is zero, its coefficients are: a V far smaller than the
    other, and what V2 has beside V if that is far smaller than V2.

    Args:
        gram: the inner products of V and V2.
    """
    top, bottom, inner = gram
    short = SHORT**2 * jnp.maximum(top, bottom)
    c1 = _inverse_root(top, top > short)
    along = c1 * inner
    beside = bottom - jnp.square(jnp.abs(along))
    c2 = _inverse_root(beside, (bottom > short) & (beside > PARALLEL**2 * bottom))
    c1, c2 = c1.astype(inner.dtype), c2.astype(inner.dtype)
    return c1, c2, c2 * along * c1


def _inverse_root(squared: Array, wanted: Array) -> Array:
    return jnp.where(wanted, lax.rsqrt(squared), 0)


def _cut(squared: Array, c: Array) -> Array:
    """Returns by how much the product of a V that may be rounding is made shorter.

    A V of a few millionths of the norm is rounding, and its length, found by way of z,
    may be too small by any factor; then ``c z`` is too long. The angle of u and z tells
    it: its cosine is the inverse of ``|c z| |c|``, and small only if V is.
    """
    too_small = ROUNDING * jnp.finfo(c.dtype).eps * jnp.sqrt(squared * square(c))
    return lax.rsqrt(jnp.maximum(too_small, 1)).astype(c.dtype)
