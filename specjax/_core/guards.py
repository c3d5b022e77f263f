"""What happens where a number is zero or not finite: every guard of the package.

    usable(x) = x is finite and x > 0

The derivatives are guarded, too: a `where` around a division keeps NaN out of the
value alone, so what is divided by is replaced before.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Real


def usable(sigma: Real[Array, " ..."]) -> Bool[Array, " ..."]:
    """Returns where a norm can be divided by."""
    return jnp.isfinite(sigma) & (sigma > 0)


def inverse(
    x: Real[Array, " ..."], where: Bool[Array, " ..."] | None = None
) -> Real[Array, " ..."]:
    """Returns ``1 / x`` where that is wanted, by default where x is usable, else 0."""
    where = usable(x) if where is None else where
    return jnp.where(where, 1 / jnp.where(where, x, 1), 0)


def last_finite(
    new: Real[Array, " ..."], old: Real[Array, " ..."]
) -> Real[Array, " ..."]:
    """Returns the new number where it is finite, else the old one."""
    return jnp.where(jnp.isfinite(new), new, old)


def root(square: Real[Array, " ..."]) -> Real[Array, " ..."]:
    """Returns ``sqrt(square)``, its derivatives at zero zero; NaN stays NaN.

    The derivative of a square root at zero is infinite, and times a zero that reaches
    it, NaN. A norm has its smallest value there: zero is a subgradient.
    """
    zero = square == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, square)))
