"""The part of a matrix above a bound, two ways, with a derivative at equal values.

An SVD's own derivative divides by the differences of the singular values, and that of
a polar factor by the smallest. That of the part above the bound does neither: only
divided differences of ``max(s - bound, 0)`` occur in it.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact, Real

from specjax.constraints._polar import frobenius, polar, product

# Up to this many singular values an SVD is quick everywhere.
SMALL = 32


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def excess(
    matrix: Inexact[Array, "n_in n_out"], bound: Real[Array, ""], method: str | None
) -> Inexact[Array, "n_in n_out"]:
    """Returns ``U max(S - bound, 0) V^H`` for the matrix ``U S V^H``.

    Args:
        matrix: finite.
        bound: in the matrix' units.
        method: "svd", "polar", or None: the SVD where it is quick, which is on a CPU,
            and for a matrix with few singular values.
    """
    if method == "svd" or (method is None and min(matrix.shape) <= SMALL):
        return _by_svd(matrix, bound)
    if method == "polar":
        return _by_polar(matrix, bound)
    return lax.platform_dependent(matrix, bound, cpu=_by_svd, default=_by_polar)


def _by_svd(matrix: Array, bound: Array) -> Array:
    left, values, right = jnp.linalg.svd(matrix, full_matrices=False)
    return product(left * jnp.maximum(values - bound, 0).astype(left.dtype), right)


def _by_polar(matrix: Array, bound: Array) -> Array:
    """Returns the same from two polar factors.

    With the first, Q, ``Q^H W`` is Hermitian and has the singular values as its
    eigenvalues; ``H = Q^H W - bound`` has those minus the bound, and |H|, which is H
    times its own polar factor, their distance from it: ``max(H, 0) = (H + |H|) / 2``.
    """
    rows, columns = matrix.shape
    if rows < columns:
        return _by_polar(matrix.T, bound).T
    # A bound far above the norm would bring its own rounding into the sums.
    bound = jnp.minimum(bound, frobenius(matrix))
    factor = polar(matrix)
    from_bound = product(factor.conj().T, matrix)
    from_bound -= (bound * jnp.eye(columns, dtype=bound.dtype)).astype(matrix.dtype)
    above = (from_bound + product(polar(from_bound), from_bound)) / 2
    return product(factor, above)


@excess.defjvp
def _derivative(method, primals, tangents):
    """The derivative of a function of the singular values, by an SVD.

    Source: Noferini, "A Formula for the Frechet Derivative of a Generalized Matrix
    Function" (2017), after Daleckii and Krein.
    """
    (matrix, bound), (change, of_bound) = primals, tangents
    left, values, right = lax.stop_gradient(jnp.linalg.svd(matrix, full_matrices=False))
    inside = product(product(left.conj().T, change), right.conj().T)
    even, odd = _hermitian_parts(inside)
    above = jnp.maximum(values - bound, 0)
    rates = _ratio(above, values).astype(left.dtype)
    of_sum = _ratio(above[:, None] + above, values[:, None] + values)
    inside = _slopes(values, bound) * even + of_sum * odd
    inside -= jnp.diag((values > bound) * of_bound).astype(left.dtype)
    # What the change has outside of the spaces of U and of V: one of the two is all.
    below = change - product(left, product(left.conj().T, change))
    beside = change - product(product(change, right.conj().T), right)
    result = product(product(left, inside), right)
    result += product(product(below, right.conj().T) * rates, right)
    result += product(left, rates[:, None] * product(left.conj().T, beside))
    return excess(matrix, bound, method), result


def _hermitian_parts(matrix: Array) -> tuple[Array, Array]:
    return (matrix + matrix.conj().T) / 2, (matrix - matrix.conj().T) / 2


def _slopes(values: Array, bound: Array) -> Array:
    """Returns ``(e_i - e_j) / (s_i - s_j)``, one or zero on one side of the bound."""
    high = jnp.maximum(values[:, None], values)
    low = jnp.minimum(values[:, None], values)
    across = jnp.clip(_ratio(high - bound, high - low), 0, 1)
    return jnp.where(low > bound, 1, jnp.where(high <= bound, 0, across))


def _ratio(above: Array, below: Array) -> Array:
    return jnp.where(below > 0, above / jnp.where(below > 0, below, 1), 0)
