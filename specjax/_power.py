"""The power step: from a kernel, u and u2 to better ones and v, guarded.

One step reads the kernel twice, each time for two vectors: ``[v, v2] = [u, u2] W^H``,
orthonormalized, and ``[u, u2] = [v, v2] W``, turned so that u is longest. A single
vector turns slowly when the second singular value overtakes the first; of two, the
second is there already (docs/design/0002).
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact, Real

from specjax._batch import check_vectors, over_batch, placed_as_output, read_anew
from specjax._linear_map import LinearMap, Matrix
from specjax._mesh import shards_of
from specjax._options import check_options
from specjax._pair import longest, orthonormal, products
from specjax._vectors import generic_direction, unit

# How far u2 is pushed in each step off a direction that it could be stuck in. u itself
# is not pushed: it takes from u2 only what makes it longer.
PUSH = 1e-3


class SingularVectors(NamedTuple):
    """Unit vectors u and v, what the kernel does between them, and who is next.

    Attributes:
        u: unit vector on the output side.
        u2: vector on the output side, about a unit one, about orthogonal to u: it
            follows the second singular value, and takes over when that becomes the
            first.
        v: unit vector on the input side; zero where the kernel is zero or not finite.
        sigma: ``|W^H v|``, in the kernel's units: at most the largest singular value.
            Zero for a zero kernel, NaN or inf for one that is not finite.
    """

    u: Inexact[Array, " *out"]
    u2: Inexact[Array, " *out"]
    v: Inexact[Array, " *in"]
    sigma: Real[Array, ""]


def power_iteration(
    kernel: Inexact[Array, " ..."],
    u: Inexact[Array, " ..."],
    u2: Inexact[Array, " ..."],
    linear_map: LinearMap = Matrix(),
    n_steps: int = 1,
) -> SingularVectors:
    """Returns u, u2 and v after `n_steps` power steps, with ``sigma = v W u``.

    No derivative passes through: all of them are constants (`sigma` the function has
    the derivative). With a kernel that is zero or not finite, u and u2 come back as
    they were.

    Args:
        kernel: one kernel, or a stack of them (`linear_map.batch_axis`).
        u: unit vector(s) in the shape of the output side, batch axes first.
        u2: vector(s) of that shape beside u; with zeros the step is Miyato's own, of
            u alone.
        linear_map: which axes are in, out and batch.
        n_steps: 0 uses u as it is: one product, ``v = u W^H / |.|``.

    Returns:
        `SingularVectors`, with ``sigma`` at most the largest singular value.

    Raises:
        ValueError, TypeError: for a u or u2 without the shape of the output side, and
            for n_steps that is negative or traced.

    Example:
        >>> import jax
        >>> w = jax.random.normal(jax.random.key(0), (64, 32))
        >>> u, u2 = jax.numpy.eye(32)[:2]
        >>> u, u2, v, sigma = power_iteration(w, u, u2, n_steps=100)
        >>> bool(abs(sigma - jax.numpy.linalg.norm(w, 2)) < 1e-4)
        True

    Source: Miyato et al., "Spectral Normalization for GANs" (2018), Algorithm 1, with
    two vectors as in Bauer's simultaneous iteration; Rayleigh-Ritz as in Halko,
    Martinsson and Tropp (2011), Algorithm 5.1.
    """
    check_options(n_steps=n_steps)
    check_vectors(kernel, linear_map, u=u, u2=u2)
    return _power_iteration(kernel, u, u2, linear_map=linear_map, n_steps=n_steps)


@over_batch
def _power_iteration(
    kernel: Array, u: Array, u2: Array, *, linear_map: LinearMap, n_steps: int
) -> SingularVectors:
    kernel, u, u2 = map(lax.stop_gradient, (kernel, u, u2))
    if n_steps == 0:
        product = linear_map.adjoint(read_anew(kernel, u), u)
        v, value = unit(product, shards_of(linear_map).over_x)
        new = SingularVectors(u, u2, v, value)
    else:
        u, u2 = (placed_as_output(kernel, linear_map, vector) for vector in (u, u2))

        def step(_: Any, pair: tuple[Array, Array]) -> tuple[Array, Array]:
            new = _step(kernel, *pair, linear_map)
            return new.u, new.u2

        first, second = u, u2
        if n_steps > 1:
            first, second = lax.fori_loop(0, n_steps - 1, step, (u, u2))
        new = _step(kernel, first, second, linear_map)
    usable = jnp.isfinite(new.sigma) & (new.sigma > 0)
    return SingularVectors(
        jnp.where(usable, new.u, u),
        jnp.where(usable, new.u2, u2),
        jnp.where(usable, new.v, 0),
        new.sigma,
    )


def _step(kernel: Array, u: Array, u2: Array, linear_map: LinearMap) -> SingularVectors:
    shards = shards_of(linear_map)
    v_pair = products(linear_map.adjoint, kernel, u, u2)
    v, v2 = orthonormal(*v_pair, shards.over_x)
    z, z2 = products(linear_map.apply, kernel, v, v2)
    c, s = longest(z, z2, shards.over_y)
    u, sigma = unit(c * z + s * z2, shards.over_y)
    u2, beside = unit(jnp.conj(c) * z2 - jnp.conj(s) * z, shards.over_y)
    # Where there is nothing beside u, u2 has to see whatever comes to be there.
    push = generic_direction(u2.shape, u2.dtype, shards.y)
    u2 = u2 + jnp.where(beside > 0, PUSH, 1) * push
    return SingularVectors(u, u2, c * v + s * v2, sigma)
