"""The warm-up: from nothing to converged u and u2, by Golub-Kahan bidiagonalization.

Cold power iteration on a kernel without a gap is 2 % low after 20 steps and 0.3 % after
100. The Krylov space of the same start holds a far better u: a few dozen steps do.
"""

import math
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact

from specjax._core.batch import (
    check_vectors,
    over_batch,
    placed_as_output,
    separate_cast,
)
from specjax._core.guards import last_finite
from specjax._core.state import KernelState
from specjax._core.step import power_iteration
from specjax._core.vectors import hashed_unit_vector, unit, vector_dtype
from specjax._moved import renamed
from specjax._options import check_count
from specjax.linear_maps import LinearMap, Matrix, ResolvedMap, StackedMap, resolve
from specjax.linear_maps._sharding import Names, count, summed, total

# A new direction this much smaller than the largest seen is rounding, not a direction.
BREAKDOWN = 1e-5


@renamed(n_steps="krylov_dim")
def warm_up(
    kernel: Inexact[Array, " ..."],
    start: Inexact[Array, " ..."],
    linear_map: LinearMap = Matrix(),
    krylov_dim: int = 64,
) -> tuple[Inexact[Array, " ..."], Inexact[Array, " ..."]]:
    """Returns the unit vectors of the Krylov space of `start` with the largest |W u|.

    Two of them: u, and u2 orthogonal to it (zero where there is none). The cost is two
    products with the kernel a step; no SVD of the kernel. Where the kernel is zero or
    not finite, both are `start`, normalized.

    Args:
        kernel: one kernel, or a stack of them (`linear_map.batch_axis`).
        start: vector(s) in the shape of the output side, batch axes first; any that
            is not orthogonal to the leading direction.
        linear_map: which axes are in, out and batch.
        krylov_dim: dimension of the Krylov space, at most.

    Example:
        >>> import jax.numpy as jnp
        >>> import jax
        >>> w = jax.random.normal(jax.random.key(0), (256, 512))
        >>> u, _ = warm_up(w, jax.numpy.ones(512))
        >>> bool(jnp.linalg.norm(w @ u) > 0.999 * jnp.linalg.norm(w, 2))
        True

    Source: Golub and Kahan (1965); reorthogonalized as in Simon and Zha, "Low-Rank
    Matrix Approximation Using the Lanczos Bidiagonalization Process" (2000).
    """
    check_count(krylov_dim=krylov_dim)
    resolved = resolve(linear_map, jnp.shape(kernel))
    check_vectors(kernel, resolved, u=start)
    return _warm_up(kernel, start, linear_map=resolved, n_steps=krylov_dim)


def converge(
    kernel: Inexact[Array, " ..."],
    linear_map: StackedMap,
    start: Inexact[Array, " ..."],
    krylov_dim: int = 64,
) -> KernelState:
    """Returns u, u2 and sigma of this very kernel; a sigma not finite is zero."""
    u, u2 = warm_up(kernel, start, linear_map, krylov_dim)
    u, u2, _, sigma = power_iteration(kernel, u, u2, linear_map)
    return KernelState(u, u2, last_finite(sigma, jnp.zeros_like(sigma)))


def fixed_start(
    kernel: Inexact[Array, " ..."], linear_map: StackedMap
) -> Inexact[Array, " ..."]:
    """Returns a start that no kernel is blind to, the same one in every process."""
    dtype = vector_dtype(kernel.dtype)
    return hashed_unit_vector(linear_map.out_shape, dtype, linear_map.out_split)


@over_batch
def _warm_up(
    kernel: Array, start: Array, *, linear_map: ResolvedMap, n_steps: int
) -> tuple[Array, Array]:
    shards = linear_map.split
    start, _ = unit(placed_as_output(kernel, linear_map, start), shards.over_y)
    n_in = math.prod(linear_map.in_shape) * count(shards.over_x)
    n_out = math.prod(linear_map.out_shape) * count(shards.over_y)
    # One more than the rank: the start also has a part that the kernel maps to zero.
    n_steps = max(1, min(n_steps, n_in + 1, n_out))
    outs, alphas, betas = _bidiagonalize(kernel, start, linear_map, n_steps)
    usable = jnp.isfinite(alphas).all() & jnp.isfinite(betas).all() & (alphas[0] > 0)
    u, u2 = (
        jnp.where(usable, unit(_combine(c, outs), shards.over_y)[0], start)
        for c in _leading(alphas, betas, outs.dtype)
    )
    return u, u2


def _bidiagonalize(
    kernel: Array, start: Array, linear_map: ResolvedMap, n_steps: int
) -> tuple[Array, Array, Array]:
    """Returns a basis of the output side and the two diagonals of W between the bases.

    With the basis vectors u_j and v_j: ``u_j W^H = beta_j v_(j-1) + alpha_j v_j``.
    """
    shards = linear_map.split
    # A zero of this very kernel. On an explicit mesh, under vmap, a constant does not
    # tell the scan how its carry is sharded.
    zero = 0 * total(jnp.abs(start), shards.over_y)
    like_in = jnp.zeros_like(linear_map.adjoint(kernel, start)) + zero
    ins = jnp.broadcast_to(like_in, (n_steps, *like_in.shape))
    outs = jnp.broadcast_to(0 * start, (n_steps, *start.shape))

    def step(carry, j):
        ins, outs, u, beta, scale = carry
        outs = _with_row(outs, j, u)
        once = separate_cast(kernel, u)
        v = linear_map.adjoint(once, u)
        v, alpha, scale = _next(v, ins, scale, shards.over_x)
        ins = _with_row(ins, j, v)
        u = linear_map.apply(separate_cast(once, v), v)
        u, new_beta, scale = _next(u, outs, scale, shards.over_y)
        return (ins, outs, u, new_beta, scale), (alpha, beta)

    carry = (ins, outs, start, zero, zero)
    (_, outs, *_), (alphas, betas) = lax.scan(step, carry, jnp.arange(n_steps))
    return outs, alphas, betas


def _with_row(basis: Array, j: Array, vector: Array) -> Array:
    # By a choice, not by an index: it is legal under any sharding of the vectors.
    row = lax.broadcasted_iota(jnp.int32, (len(basis), *(1 for _ in vector.shape)), 0)
    return jnp.where(row == j, vector, basis)


def _next(
    vector: Array, basis: Array, scale: Array, over: Names
) -> tuple[Array, Array, Array]:
    """Returns the part of `vector` outside the basis as a unit vector, and its norm.

    Both are zero at breakdown; from there on every step adds zeros.
    """
    for _ in range(2):  # once is not enough (Parlett, "twice is enough")
        vector = vector - _combine(_coordinates(vector, basis, over), basis)
    vector, norm = unit(vector, over)
    scale = jnp.maximum(scale, norm)
    broken = norm <= BREAKDOWN * scale
    return jnp.where(broken, 0, vector), jnp.where(broken, 0, norm), scale


def _leading(alphas: Array, betas: Array, dtype: Any) -> tuple[Array, Array]:
    """Returns the two leading right singular vectors of the upper bidiagonal matrix.

    The second is zero if there is but one.
    """
    largest = jnp.maximum(jnp.max(alphas), jnp.max(betas))
    scale = jnp.where(largest > 0, largest, 1)
    upper = jnp.diag(alphas / scale) + jnp.diag(betas[1:] / scale, k=1)
    gram = jnp.matmul(upper.T, upper, precision=lax.Precision.HIGHEST)
    vectors = jnp.linalg.eigh(gram)[1].astype(dtype)
    return vectors[:, -1], vectors[:, -2] if len(alphas) > 1 else 0 * vectors[:, -1]


def _coordinates(vector: Array, basis: Array, over: Names) -> Array:
    axes = tuple(range(1, basis.ndim))
    return summed(jnp.sum(jnp.conj(basis) * vector[None], axis=axes), over)


def _combine(coordinates: Array, basis: Array) -> Array:
    axes = tuple(range(1, basis.ndim))
    return jnp.sum(jnp.expand_dims(coordinates, axes) * basis, axis=0)
