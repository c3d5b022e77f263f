"""Gram iteration: squares that let the largest singular value rise above the rest.

``|W|^2 = |W^H W|``, so t squarings give the bound ``|G_t|_F^(1 / 2^t)`` with
``G_(k+1) = G_k^H G_k``, at most ``rank^(1 / 2^(t+1))`` times the norm. Each square is
rounded: what that can have taken away is added when the squares are undone, so the
result is a bound on the kernel's norm in floating point too.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact, Real

from specjax._core.guards import root
from specjax.bounds._rounding import (
    blocks,
    frobenius,
    gamma,
    power_of_two,
    up,
)


def gram_bound(
    matrix: Inexact[Array, "rows columns"], n_squarings: int
) -> Real[Array, ""]:
    """Returns a number that is at least the matrix' largest singular value.

    Exceeds it by at most a factor of ``rank^(1 / 2^(n_squarings + 1))``, and by what
    rounding may have hidden: some 50 units of roundoff times the stable rank.
    Differentiable: the derivative is that of the iteration, a smooth norm.

    Source: Delattre et al., "Efficient Bound of Lipschitz Constant for Convolutional
    Layers by Gram Iteration" (2023), Algorithm 1; the rounding term is our own.
    """
    rows, columns = matrix.shape
    tall = matrix if rows >= columns else matrix.T
    gram, first = _square(tall)

    def step(gram: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
        return _square(gram)

    gram, later = lax.scan(step, gram, length=n_squarings - 1)
    bound = frobenius(gram)
    # Undo the squares, the last one first.
    undo = jax.tree.map(lambda a, b: jnp.append(a, b), first, later)
    bound, _ = lax.scan(_undo, bound, undo, reverse=True)
    return bound


def _undo(bound: Array, square: tuple[Array, Array]) -> tuple[Array, None]:
    """Returns ``f sqrt(b + lost)``: |G| from a bound b on |(G / f)^H (G / f)|."""
    scale, lost = square
    return up(scale * root(up(bound + lost))), None


def _square(matrix: Array) -> tuple[Array, tuple[Array, Array]]:
    """Returns ``(A / f)^H (A / f)``, the f, and a bound on the norm of its error."""
    scale = power_of_two(matrix)
    scaled = matrix / scale.astype(matrix.dtype)  # exact
    gram, lost = adjoint_times_self(scaled)
    return gram, (scale, lost)


def adjoint_times_self(
    matrix: Inexact[Array, "rows columns"],
) -> tuple[Inexact[Array, "columns columns"], Real[Array, ""]]:
    """Returns ``A^H A`` and a bound on the norm of its rounding error.

    Complex numbers are multiplied as pairs of real ones: then the error is known on
    every backend.
    """
    size = jnp.square(frobenius(matrix))
    if jnp.iscomplexobj(matrix):
        parts = jnp.concatenate([matrix.real, matrix.imag])
        turned = jnp.concatenate([matrix.imag, -matrix.real])
        gram = lax.complex(_product(parts, parts), _product(parts, turned))
        size = 1.5 * size  # sqrt(2): real and imaginary part have an error each
    else:
        parts = matrix
        gram = _product(parts, parts)
    # |E|_ij <= gamma (|A|^T |A|)_ij, whose norm is at most |A|_F^2.
    lost = gamma(sum(blocks(len(parts))) + 4, matrix.dtype)
    return gram, lost * size


def _product(left: Array, right: Array) -> Array:
    """Returns ``left^T right``, summed in blocks, so that few roundings add up."""
    n_groups, per_group, length = blocks(len(left))
    if length == len(left):
        return _matmul(left, right)
    missing = n_groups * per_group * length - len(left)

    def split(side: Array) -> Array:
        padded = jnp.pad(side, [(0, missing), (0, 0)])
        return padded.reshape(n_groups, per_group, length, -1)

    zero = jnp.zeros((left.shape[1], right.shape[1]), left.dtype)

    def add_block(total: Array, sides: tuple[Array, Array]) -> tuple[Array, None]:
        return total + _matmul(*sides), None

    def add_group(total: Array, sides: tuple[Array, Array]) -> tuple[Array, None]:
        return total + lax.scan(add_block, zero, sides)[0], None

    return lax.scan(add_group, zero, (split(left), split(right)))[0]


def _matmul(left: Array, right: Array) -> Array:
    return jnp.matmul(left.T, right, precision=lax.Precision.HIGHEST)
