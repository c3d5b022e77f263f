"""The polar factor U V^H of a matrix U S V^H, by products of matrices alone.

An odd polynomial of a matrix is one of its singular values: a few in a row bring each
of them to one. What is small is told from zero only as far as rounding allows, so the
factor of a matrix without full rank has singular values one and about zero.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact, Real

from specjax.constraints._coefficients import Step, convergent


def polar(
    matrix: Inexact[Array, "n_in n_out"], steps: Sequence[Step] = ()
) -> Inexact[Array, "n_in n_out"]:
    """Returns the matrix with each singular value brought to one; zero stays zero.

    First it is divided by its Frobenius norm, so that no singular value is above one.

    Args:
        matrix: finite.
        steps: of the iteration; without any, as many as bring what is above roundoff
            to one. The cost of a step is that of three products.

    Source: Bernstein and Newhouse, "Old Optimizer, New Norm: An Anthology" (2024),
    appendix A.
    """
    real = jnp.finfo(matrix.dtype).dtype
    rows, columns = matrix.shape
    tall = matrix if rows >= columns else matrix.T
    table = jnp.asarray(steps or convergent(real), real)
    found, _ = lax.scan(_step, at_most_one(tall), table)
    return found if rows >= columns else found.T


def _step(matrix: Array, step: Array) -> tuple[Array, None]:
    a, b, c = step
    gram = product(matrix.conj().T, matrix)
    return a * matrix + product(matrix, b * gram + c * product(gram, gram)), None


def at_most_one(matrix: Inexact[Array, "n_in n_out"]) -> Inexact[Array, "n_in n_out"]:
    """Returns the matrix over its Frobenius norm; zero stays zero."""
    norm = frobenius(matrix)
    return matrix / jnp.where(norm > 0, norm, 1)


def frobenius(matrix: Inexact[Array, "n_in n_out"]) -> Real[Array, ""]:
    """Returns the Frobenius norm; no square is out of range, nor the derivative."""
    largest = lax.stop_gradient(jnp.max(jnp.abs(matrix)))
    scaled = matrix / jnp.where(largest > 0, largest, 1)
    square = jnp.sum((scaled * scaled.conj()).real)
    return largest * jnp.sqrt(jnp.where(largest > 0, square, 1))


def product(left: Array, right: Array) -> Array:
    """Returns the product at the highest precision: float32 also on a TPU."""
    return jnp.matmul(left, right, precision=lax.Precision.HIGHEST)
