"""The warm-up: from nothing to a converged u, by Golub-Kahan bidiagonalization.

Cold power iteration on a kernel without a gap is 2 % low after 20 steps and .3 % after
100. The Krylov space of the same start holds a far better u: a few dozen steps do.
"""

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact

from specjax._linear_map import (
    LinearMap,
    Matrix,
    check_vectors,
    over_batch,
    read_anew,
)
from specjax._options import check_options
from specjax._vectors import unit

# A new direction this much smaller than the largest seen is rounding, not a direction.
BREAKDOWN = 1e-5


def warm_up(
    kernel: Inexact[Array, " ..."],
    start: Inexact[Array, " ..."],
    linear_map: LinearMap = Matrix(),
    n_steps: int = 64,
) -> Inexact[Array, " ..."]:
    """Returns the unit vector u of the Krylov space of `start` with the largest |W u|.

    The cost is two products with the kernel a step; no SVD of the kernel. Where the
    kernel is zero or not finite, `start` comes back, normalized.

    Args:
        kernel: one kernel, or a stack of them (`linear_map.batch_axis`).
        start: vector(s) in the shape of the output side, batch axes first; any that
            is not orthogonal to the leading direction.
        linear_map: which axes are in, out and batch.
        n_steps: dimension of the Krylov space, at most.

    Example:
        >>> import jax
        >>> w = jax.random.normal(jax.random.key(0), (256, 512))
        >>> u = warm_up(w, jax.numpy.ones(512))
        >>> bool(jnp.linalg.norm(w @ u) > 0.999 * jnp.linalg.norm(w, 2))
        True

    Source: Golub and Kahan (1965); reorthogonalized as in Simon and Zha, "Low-Rank
    Matrix Approximation Using the Lanczos Bidiagonalization Process" (2000).
    """
    check_options(n_steps=n_steps)
    check_vectors(kernel, linear_map, u=start)
    return _warm_up(kernel, start, linear_map=linear_map, n_steps=n_steps)


@over_batch
def _warm_up(
    kernel: Array, start: Array, *, linear_map: LinearMap, n_steps: int
) -> Array:
    start, _ = unit(start)
    # One more than the rank: the start also has a part that the kernel maps to zero.
    in_shape, out_shape = linear_map.sides(kernel.shape)
    n_steps = max(1, min(n_steps, math.prod(in_shape) + 1, math.prod(out_shape)))
    outs, alphas, betas = _bidiagonalize(kernel, start, linear_map, n_steps)
    u, _ = unit(_combine(_leading(alphas, betas).astype(outs.dtype), outs))
    usable = jnp.isfinite(alphas).all() & jnp.isfinite(betas).all() & (alphas[0] > 0)
    return jnp.where(usable, u, start)


def _bidiagonalize(
    kernel: Array, start: Array, linear_map: LinearMap, n_steps: int
) -> tuple[Array, Array, Array]:
    """Returns a basis of the output side and the two diagonals of W between the bases.

    With the basis vectors u_j and v_j: ``u_j W^H = beta_j v_(j-1) + alpha_j v_j``.
    """
    in_shape, out_shape = linear_map.sides(kernel.shape)
    ins = jnp.zeros((n_steps, *in_shape), start.dtype)
    outs = jnp.zeros((n_steps, *out_shape), start.dtype)
    zero = jnp.zeros((), jnp.finfo(start.dtype).dtype)

    def step(carry, j):
        ins, outs, u, beta, scale = carry
        outs = outs.at[j].set(u)
        once = read_anew(kernel, u)
        v, alpha, scale = _next(linear_map.adjoint(once, u), ins, scale)
        ins = ins.at[j].set(v)
        u, new_beta, scale = _next(linear_map.apply(read_anew(once, v), v), outs, scale)
        return (ins, outs, u, new_beta, scale), (alpha, beta)

    carry = (ins, outs, start, zero, zero)
    (_, outs, *_), (alphas, betas) = lax.scan(step, carry, jnp.arange(n_steps))
    return outs, alphas, betas


def _next(vector: Array, basis: Array, scale: Array) -> tuple[Array, Array, Array]:
    """Returns the part of `vector` outside the basis as a unit vector, and its norm.

    Both are zero at breakdown; from there on every step adds zeros.
    """
    for _ in range(2):  # once is not enough (Parlett, "twice is enough")
        vector = vector - _combine(_coordinates(vector, basis), basis)
    vector, norm = unit(vector)
    scale = jnp.maximum(scale, norm)
    broken = norm <= BREAKDOWN * scale
    return jnp.where(broken, 0, vector), jnp.where(broken, 0, norm), scale


def _leading(alphas: Array, betas: Array) -> Array:
    """Returns the leading right singular vector of the upper bidiagonal matrix."""
    largest = jnp.maximum(jnp.max(alphas), jnp.max(betas))
    scale = jnp.where(largest > 0, largest, 1)
    upper = jnp.diag(alphas / scale) + jnp.diag(betas[1:] / scale, k=1)
    gram = jnp.matmul(upper.T, upper, precision=lax.Precision.HIGHEST)
    return jnp.linalg.eigh(gram)[1][:, -1]


def _coordinates(vector: Array, basis: Array) -> Array:
    axes = tuple(range(1, basis.ndim))
    return jnp.sum(jnp.conj(basis) * vector[None], axis=axes)


def _combine(coordinates: Array, basis: Array) -> Array:
    axes = tuple(range(1, basis.ndim))
    return jnp.sum(jnp.expand_dims(coordinates, axes) * basis, axis=0)
