"""The power step: from a kernel and u to better u and v, guarded.

One step reads the kernel twice: ``v = u W^H / |.|`` and ``u = v W / |.|``.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact, Real

from specjax._linear_map import (
    LinearMap,
    Matrix,
    check_vectors,
    over_batch,
    read_anew,
)
from specjax._options import check_options
from specjax._vectors import generic_direction, unit

# How far u is pushed, once per call, off a direction that it could be stuck in. Each
# step damps the push by (sigma_2 / sigma_1)^2, so the share that stays in u is about
# PUSH / (1 - (sigma_2 / sigma_1)^2); sigma is off by the square of that.
PUSH = 1e-6


class SingularTriplet(NamedTuple):
    """Unit vectors u and v, and what the kernel does between them.

    Attributes:
        u: unit vector on the output side.
        v: unit vector on the input side; zero where the kernel is zero or not finite.
        sigma: ``|W^H v|``, in the kernel's units: at most the largest singular value.
            Zero for a zero kernel, NaN or inf for one that is not finite.
    """

    u: Inexact[Array, " *out"]
    v: Inexact[Array, " *in"]
    sigma: Real[Array, ""]


def power_iteration(
    kernel: Inexact[Array, " ..."],
    u: Inexact[Array, " ..."],
    linear_map: LinearMap = Matrix(),
    n_steps: int = 1,
) -> SingularTriplet:
    """Returns u and v after `n_steps` power steps from u, with ``sigma = v W u``.

    No derivative passes through: u, v and sigma are constants (`sigma` the function has
    the derivative). With a kernel that is zero or not finite, u comes back as it was.

    Args:
        kernel: one kernel, or a stack of them (`linear_map.batch_axis`).
        u: unit vector(s) in the shape of the output side, batch axes first.
        linear_map: which axes are in, out and batch.
        n_steps: 0 uses u as it is: one product, ``v = u W^H / |.|``.

    Returns:
        `SingularTriplet`, with ``sigma`` at most the largest singular value.

    Raises:
        ValueError, TypeError: for a u without the shape of the output side, and for
            n_steps that is negative or traced.

    Example:
        >>> import jax
        >>> w = jax.random.normal(jax.random.key(0), (64, 32))
        >>> u = jax.numpy.ones(32) / 32**0.5
        >>> u, v, sigma = power_iteration(w, u, n_steps=200)
        >>> bool(abs(sigma - jax.numpy.linalg.norm(w, 2)) < 1e-4)
        True

    Source: Miyato et al., "Spectral Normalization for GANs" (2018), Algorithm 1.
    """
    check_options(n_steps=n_steps)
    check_vectors(kernel, linear_map, u=u)
    return _power_iteration(kernel, u, linear_map=linear_map, n_steps=n_steps)


@over_batch
def _power_iteration(
    kernel: Array, u: Array, *, linear_map: LinearMap, n_steps: int
) -> SingularTriplet:
    kernel, u = lax.stop_gradient(kernel), lax.stop_gradient(u)

    def step(u: Array) -> SingularTriplet:
        once = read_anew(kernel, u)
        v, _ = unit(linear_map.adjoint(once, u))
        u, sigma = unit(linear_map.apply(read_anew(once, v), v))
        return SingularTriplet(u, v, sigma)

    if n_steps == 0:
        new = SingularTriplet(u, *unit(linear_map.adjoint(read_anew(kernel, u), u)))
    else:
        start = u + PUSH * generic_direction(u.shape, u.dtype)
        if n_steps > 1:
            start = lax.fori_loop(0, n_steps - 1, lambda _, u: step(u).u, start)
        new = step(start)
    usable = jnp.isfinite(new.sigma) & (new.sigma > 0)
    return SingularTriplet(
        jnp.where(usable, new.u, u), jnp.where(usable, new.v, 0), new.sigma
    )
