"""The whole path for all kernels of a tree, one step: power step, sigma, rescale.

Kernel by kernel where kernels are read and written, and in one batch where vectors and
numbers are. Jitted, so that a call outside of jit runs as one program.
"""

import functools
from typing import NamedTuple

import jax
import jax.core
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from specjax._core.batch import over_batch
from specjax._core.rescale import factor, scaled
from specjax._core.sigma import between
from specjax._core.state import Carried
from specjax._core.step import Start, power_steps
from specjax._fast.batch import Vectors, together
from specjax._options import Bound
from specjax.linear_maps._matrix import LinearMap


class Normalized(NamedTuple):
    """What becomes of one kernel in a step.

    Attributes:
        kernel: the kernel normalized.
        scale: what it was multiplied with; has the derivative, too.
        carried: to the next step.
    """

    kernel: Array
    scale: Array
    carried: Carried


def apply_all(
    kernels: list[Array],
    carried: list[Carried],
    bound: Bound,
    *,
    linear_maps: tuple[LinearMap, ...],
    cap: bool,
    n_steps: int,
    grad_sigma: bool,
) -> list[Normalized]:
    """Returns each kernel normalized, by what, and what is carried to the next step."""
    # Of many kernels in a program only the rescaling is differentiated, once for each
    # shape. One is a function that is traced once for all of its shape.
    traced = any(isinstance(kernel, jax.core.Tracer) for kernel in kernels)
    return (_apply_all if traced and len(kernels) > 1 else _apply_all_at_once)(
        kernels,
        carried,
        bound,
        linear_maps=linear_maps,
        cap=cap,
        n_steps=n_steps,
        grad_sigma=grad_sigma,
    )


def _apply_all(
    kernels: list[Array],
    carried: list[Carried],
    bound: Bound,
    *,
    linear_maps: tuple[LinearMap, ...],
    cap: bool,
    n_steps: int,
    grad_sigma: bool,
) -> list[Normalized]:
    constants = _constants(
        lax.stop_gradient(kernels),
        carried,
        bound,
        linear_maps=linear_maps,
        cap=cap,
        n_steps=n_steps,
    )
    normalized = []
    for kernel, (vectors, scale, new), linear_map in zip(
        kernels, constants, linear_maps, strict=True
    ):
        kernel, scale = _rescaled(
            kernel,
            bound,
            scale,
            vectors,
            linear_map=linear_map,
            cap=cap,
            grad_sigma=grad_sigma,
        )
        normalized.append(Normalized(kernel, scale, new))
    return normalized


_apply_all_at_once = jax.jit(
    _apply_all, static_argnames=("linear_maps", "cap", "n_steps", "grad_sigma")
)


class _Constants(NamedTuple):
    """What is constant in the derivative of a step of one kernel.

    Attributes:
        vectors: the inputs and the outputs of the power step.
        scale: what the kernel is to be multiplied with.
        carried: to the next step.
    """

    vectors: tuple[Array, ...]
    scale: Array
    carried: Carried


@functools.partial(jax.jit, static_argnames=("linear_maps", "cap", "n_steps"))
def _constants(
    kernels: list[Array],
    carried: list[Carried],
    bound: Bound,
    *,
    linear_maps: tuple[LinearMap, ...],
    cap: bool,
    n_steps: int,
) -> list[_Constants]:
    starts = [
        Start(kernel, c.u, c.u2, linear_map)
        for kernel, c, linear_map in zip(kernels, carried, linear_maps, strict=True)
    ]
    steps = power_steps(starts, n_steps)
    scalars = [
        Vectors((step.sigma, old.sigma), len(start.linear_map.batch_axis))
        for start, step, old in zip(starts, steps, carried, strict=True)
    ]
    found = together(lambda new, old, _: _scalars(new, old, bound, cap), scalars)
    return [
        _Constants((*step.inputs, *step.outputs), scale, Carried(step.u, step.u2, kept))
        for step, (kept, scale) in zip(steps, found, strict=True)
    ]


def _scalars(new: Array, old: Array, bound: Bound, cap: bool) -> tuple[Array, Array]:
    """Returns the sigma to carry, the last finite one, and the scale."""
    kept = jnp.where(jnp.isfinite(new), new, old)
    return kept, lax.stop_gradient(factor(new, bound, cap))


# Jitted, so that kernels of one shape are traced, and differentiated, once.
@functools.partial(jax.jit, static_argnames=("linear_map", "cap", "grad_sigma"))
def _rescaled(
    kernel: Array,
    bound: Bound,
    scale: Array,
    vectors: tuple[Array, ...],
    *,
    linear_map: LinearMap,
    cap: bool,
    grad_sigma: bool,
) -> tuple[Array, Array]:
    """Returns the kernel times its scale, and the scale with its derivative."""
    constant = kernel if grad_sigma else lax.stop_gradient(kernel)
    bounds = jnp.broadcast_to(jnp.asarray(bound, scale.dtype), scale.shape)
    rest = (bounds, scale, *lax.stop_gradient(vectors))
    scale = _with_derivative(constant, *rest, linear_map=linear_map, cap=cap)
    return scaled(kernel, scale, linear_map), scale


@over_batch
def _with_derivative(
    kernel: Array, *rest: Array, linear_map: LinearMap, cap: bool
) -> Array:
    return _scale(linear_map, cap, kernel, *rest)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _scale(linear_map, cap, kernel, bound, scale, *vectors):
    """Returns `scale`, with the derivative of ``bound / sigma``.

    `sigma` has its derivative with u and v constant; the sum of the outer products of
    the vectors is ``v u^H``, and zero where there is no sigma to divide by.
    """
    del linear_map, cap, kernel, bound, vectors
    return scale


@_scale.defjvp
def _scale_jvp(linear_map, cap, primals, tangents):
    _, bound, _, *vectors = primals
    half = len(vectors) // 2
    d_sigma = sum(
        between(v, tangents[0], u, linear_map)
        for v, u in zip(vectors[:half], vectors[half:], strict=True)
    )
    # The primal goes through the rule again, so that a second derivative finds it.
    scale = _scale(linear_map, cap, *primals)
    tangent = scale / bound * (tangents[1] - scale * d_sigma)
    # A kernel that is below the bound stays, whatever moves.
    return scale, jnp.where(scale < 1, tangent, 0) if cap else tangent
