"""A square root whose derivatives at zero are zero, of every order."""

import jax.numpy as jnp
from jaxtyping import Array, Real


def root(square: Real[Array, " ..."]) -> Real[Array, " ..."]:
    """Returns ``sqrt(square)``; NaN stays NaN.

    The derivative of a square root at zero is infinite, and times a zero that reaches
    it, NaN. A norm has its smallest value there: zero is a subgradient.
    """
    zero = square == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, square)))
