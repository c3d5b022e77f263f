"""The power step: from a kernel, u and u2 to better ones and v.

    [v, v2] = [u, u2] W^H,  [z, z2] = [v, v2] W,  Rayleigh-Ritz in the plane of v and v2

One step reads the kernel twice, each time for two vectors. A single vector rotates
slowly when the second singular value overtakes the first; of two, the second is there
already (docs/design/0002).
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact, Real

from specjax._core.batch import (
    check_vectors,
    over_batch,
    placed_as_output,
    separate_cast,
)
from specjax._core.guards import inverse, usable
from specjax._core.rayleigh_ritz import ritz_pair
from specjax._core.vectors import length
from specjax._options import check_options
from specjax.linear_maps import LinearMap, Matrix, ResolvedMap, resolve

Pair: TypeAlias = tuple[Array, Array]


class SingularVectors(NamedTuple):
    """An estimate of the leading singular triplet (u, sigma, v), and the runner-up.

    Attributes:
        u: unit vector on the output side.
        u2: the runner-up on the output side, about a unit vector, about orthogonal to
            u. While u rests, it follows the second singular value, and takes over when
            that becomes the first. While u rotates, it follows the direction in which
            u rotates.
        v: unit vector on the input side; zero where the kernel is zero or not finite.
        sigma: ``|W^H v|``, in the kernel's units: at most the largest singular value,
            up to rounding; for one step more if the kernel maps u and u2 to rounding.
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
    *,
    products: Callable[..., tuple[Pair, Pair]] | None = None,
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
        products: the products of a step in another form, with the signature of
            ``gram_products(kernel, u, u2, linear_map)`` in this module.

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
    Martinsson and Tropp (2011), Algorithm 5.1; u2 as the residual of u, while u
    rotates, as in Knyazev's LOBPCG (2001).
    """
    check_options(n_steps=n_steps)
    resolved = resolve(linear_map, jnp.shape(kernel))
    check_vectors(kernel, resolved, u=u, u2=u2)
    kernel, u, u2 = lax.stop_gradient((kernel, u, u2))
    if n_steps == 0:
        return _evaluated(kernel, u, u2, linear_map=resolved)
    products = products or gram_products
    return _steps(
        kernel, u, u2, linear_map=resolved, n_steps=n_steps, products=products
    )


@over_batch
def _steps(
    kernel: Array,
    u: Array,
    u2: Array,
    *,
    linear_map: ResolvedMap,
    n_steps: int,
    products: Callable[..., tuple[Pair, Pair]],
) -> SingularVectors:
    def step(u: Array, u2: Array) -> SingularVectors:
        (v, v2), (z, z2) = products(kernel, u, u2, linear_map)
        pair = ritz_pair(u, u2, z, z2, linear_map.split.y)
        return SingularVectors(pair.u, pair.u2, pair.v(v, v2), pair.sigma)

    u, u2 = (placed_as_output(kernel, linear_map, vector) for vector in (u, u2))
    if n_steps > 1:
        u, u2 = lax.fori_loop(0, n_steps - 1, lambda _, pair: step(*pair)[:2], (u, u2))
    return step(u, u2)


@over_batch
def _evaluated(
    kernel: Array, u: Array, u2: Array, *, linear_map: ResolvedMap
) -> SingularVectors:
    """Returns ``v = u W^H / |u W^H|`` and ``sigma = |u W^H|``, for u as it is."""
    product = linear_map.adjoint(separate_cast(kernel, u), u)
    sigma = length(product, linear_map.split.over_x)
    v = inverse(sigma).astype(product.dtype) * product
    return SingularVectors(u, u2, jnp.where(usable(sigma), v, 0), sigma)


def gram_products(
    kernel: Array, u: Array, u2: Array, linear_map: ResolvedMap
) -> tuple[Pair, Pair]:
    """Returns ``v = u W^H`` and v2, and ``z = v W`` and z2, not normalized in between.

    The kernel is read once for each pair.
    """
    pair = jnp.stack([u, u2])
    # The pair is the last axis on the input side: there a dot of the CPU's leaves it.
    v = jax.vmap(linear_map.adjoint, (None, 0), -1)(separate_cast(kernel, pair), pair)
    z = jax.vmap(linear_map.apply, (None, -1))(separate_cast(kernel, v), v)
    return (v[..., 0], v[..., 1]), (z[0], z[1])
