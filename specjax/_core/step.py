"""The power step: from a kernel, u and u2 to better ones and v, guarded.

One step reads the kernel twice, each time for two vectors: ``[v, v2] = [u, u2] W^H``
and ``[z, z2] = [v, v2] W``, which are turned so that u is longest. A single vector
turns slowly when the second singular value overtakes the first; of two, the second is
there already (docs/design/0002).
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact, Real

from specjax._core.batch import check_vectors, over_batch, placed_as_output, read_anew
from specjax._core.products import both_ways
from specjax._core.rayleigh_ritz import Turned, plane, turn, turned
from specjax._core.vectors import length
from specjax._fast.batch import Parts, Vectors, together
from specjax._options import check_options
from specjax.linear_maps._matrix import LinearMap, Matrix
from specjax.linear_maps._sharding import shards_of

_Pair: TypeAlias = tuple[Array, Array]

# Jitted, so that kernels of one shape are traced once.
_both_ways = jax.jit(both_ways, static_argnames="linear_map")
_turn_one = functools.partial(turn, alone=True)


class SingularVectors(NamedTuple):
    """Unit vectors u and v, what the kernel does between them, and who is next.

    Attributes:
        u: unit vector on the output side.
        u2: vector on the output side, about a unit one, about orthogonal to u: while
            u rests it follows the second singular value, and takes over when that
            becomes the first; while u turns it is where u turns to.
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
    Martinsson and Tropp (2011), Algorithm 5.1; u2 as the residual of u, while u turns,
    as in Knyazev's LOBPCG (2001).
    """
    check_options(n_steps=n_steps)
    start = Start(kernel, u, u2, linear_map.resolve(jnp.shape(kernel)))
    step = power_steps([start], n_steps)[0]
    parts = zip(step.weights, step.inputs, strict=True)
    v: Any = sum(_like(c, x) * x for c, x in parts)
    usable = _like(jnp.isfinite(step.sigma) & (step.sigma > 0), v)
    return SingularVectors(step.u, step.u2, jnp.where(usable, v, 0), step.sigma)


class Start(NamedTuple):
    """Where the power steps of one kernel, or of a stack of kernels, begin."""

    kernel: Array
    u: Array
    u2: Array
    linear_map: LinearMap


class Step(NamedTuple):
    """Where they end; v is the sum of `weights` times `inputs`, and is not formed.

    Attributes:
        u: as in `SingularVectors`, and so are u2 and sigma.
        inputs: one or two vectors on the input side.
        weights: of each in v: zero where the kernel is zero or not finite.
        outputs: u times the conjugate of each weight: the sum of the outer products of
            inputs and outputs is ``v u^H``.
    """

    u: Array
    u2: Array
    sigma: Array
    inputs: tuple[Array, ...]
    weights: tuple[Array, ...]
    outputs: tuple[Array, ...]


def power_steps(starts: Sequence[Start], n_steps: int) -> list[Step]:
    """Returns what `power_iteration` does, for many kernels at once.

    Each kernel is multiplied where it lies; what is done to the vectors is done to
    those of all kernels with alike outputs in one batch. The maps are resolved.
    """
    for start in starts:
        check_vectors(start.kernel, start.linear_map, u=start.u, u2=start.u2)
    starts = [
        Start(*lax.stop_gradient((s.kernel, s.u, s.u2)), linear_map=s.linear_map)
        for s in starts
    ]
    if n_steps == 0:
        return [_as_it_is(*s[:3], linear_map=s.linear_map) for s in starts]

    def step(pairs: list[_Pair]) -> tuple[list[_Pair], list[Turned]]:
        found = [
            _both_ways(s.kernel, *pair, linear_map=s.linear_map)
            for s, pair in zip(starts, pairs, strict=True)
        ]
        vectors = [
            _output_side(s.linear_map, *pair, *outputs)
            for s, pair, (_, outputs) in zip(starts, pairs, found, strict=True)
        ]
        made = together(Parts(plane, turned), vectors, _turn_one)
        return [inputs for inputs, _ in found], made

    def next_pairs(_: Any, pairs: list[_Pair]) -> list[_Pair]:
        return [(one.u, one.u2) for one in step(pairs)[1]]

    pairs = [_placed(*s[:3], linear_map=s.linear_map) for s in starts]
    if n_steps > 1:
        pairs = lax.fori_loop(0, n_steps - 1, next_pairs, pairs)
    return [
        Step(t.u, t.u2, t.sigma, inputs, t.weights, t.outputs)
        for inputs, t in zip(*step(pairs), strict=True)
    ]


@over_batch
def _as_it_is(kernel: Array, u: Array, u2: Array, *, linear_map: LinearMap) -> Step:
    product = linear_map.adjoint(read_anew(kernel, u), u)
    sigma = length(product, shards_of(linear_map).over_x)
    usable = jnp.isfinite(sigma) & (sigma > 0)
    weight = jnp.where(usable, 1 / jnp.where(usable, sigma, 1), 0)
    weight = weight.astype(product.dtype)
    return Step(u, u2, sigma, (product,), (weight,), (weight * u,))


@over_batch
def _placed(kernel: Array, u: Array, u2: Array, *, linear_map: LinearMap) -> _Pair:
    u, u2 = (placed_as_output(kernel, linear_map, vector) for vector in (u, u2))
    return u, u2


def _output_side(linear_map: LinearMap, *arrays: Array) -> Vectors:
    # What is split by hand is summed over devices, which jax 0.8 does not batch.
    split = shards_of(linear_map.one()).y
    return Vectors(arrays, len(linear_map.batch_axis), split, any(split))


def _like(scalar: Array, vector: Array) -> Array:
    """Returns a number of each slice with as many axes as the vectors have."""
    return jnp.expand_dims(scalar, tuple(range(scalar.ndim, vector.ndim)))
