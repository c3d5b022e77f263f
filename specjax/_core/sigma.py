"""sigma with its derivative, and the kernel divided by it: ``W bound / sigma``.

    sigma = v W u,  d sigma = <v, dW u>  with u and v constant (Miyato)

The rule stands on the number alone, not on how it was computed, so one rule gives
forward and reverse mode, and every order: it is linear in dW, and a second derivative
of sigma is zero, as it is with u and v held constant.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact, Real

from specjax._core.batch import check_vectors, over_batch
from specjax._core.guards import usable
from specjax._core.vectors import vector_dtype
from specjax._options import Bound, check_options
from specjax.linear_maps import LinearMap, Matrix, ResolvedMap, StackedMap, resolve
from specjax.linear_maps._sharding import total


def sigma(
    kernel: Inexact[Array, " ..."],
    u: Inexact[Array, " ..."],
    v: Inexact[Array, " ..."],
    linear_map: LinearMap = Matrix(),
    value: Real[Array, " ..."] | None = None,
) -> Real[Array, " ..."]:
    """Returns ``v W u``, the singular value that u and v point at.

    In the kernel's units; with unit vectors at most the largest singular value.
    Differentiable in the kernel, with u and v constant: exact where they are singular
    vectors.

    Args:
        kernel: one kernel, or a stack of them (`linear_map.batch_axis`).
        u: unit vector(s) on the output side, batch axes first.
        v: unit vector(s) on the input side, batch axes first.
        linear_map: which axes are in, out and batch.
        value: ``v W u`` where it is known, as `power_iteration` returns it; it is then
            not computed, and has the derivative.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> w = jnp.array([[3.0, 0.0], [0.0, 1.0]])
        >>> u = v = jnp.array([1.0, 0.0])
        >>> print(sigma(w, u, v))
        3.0
        >>> print(jax.grad(sigma)(w, u, v))
        [[1. 0.]
         [0. 0.]]

    Source: Miyato et al. (2018), equations (9) and (10).
    """
    resolved = resolve(linear_map, jnp.shape(kernel))
    check_vectors(kernel, resolved, u=u, v=v)
    if value is None:
        value = _value(kernel, u, v, linear_map=resolved)
    return _with_derivative(kernel, value, u, v, linear_map=resolved)


@over_batch
def _value(kernel: Array, u: Array, v: Array, *, linear_map: ResolvedMap) -> Array:
    product = linear_map.apply(lax.stop_gradient(kernel), v)
    return total((jnp.conj(u) * product).real, linear_map.split.over_y)


@over_batch
def _with_derivative(
    kernel: Array, value: Array, u: Array, v: Array, *, linear_map: ResolvedMap
) -> Array:
    return _sigma(linear_map, kernel, *lax.stop_gradient((value, u, v)))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _sigma(linear_map, kernel, value, u, v):
    del linear_map, kernel, u, v
    return value


@_sigma.defjvp
def _sigma_jvp(linear_map, primals, tangents):
    _, value, u, v = primals
    tangent = linear_map.bilinear_form(v, tangents[0], u)
    # The primal goes through the rule again, so that a second derivative finds it.
    return _sigma(linear_map, *primals), tangent.astype(value.dtype)


def normalize(
    kernel: Inexact[Array, " ..."],
    sigma: Real[Array, " ..."],
    linear_map: LinearMap = Matrix(),
    bound: Bound = 1.0,
    cap: bool = False,
) -> Inexact[Array, " ..."]:
    """Returns ``kernel * bound / sigma`` in the kernel's dtype.

    A kernel whose sigma is zero or not finite comes back as it is.

    Args:
        kernel: one kernel, or a stack of them (`linear_map.batch_axis`).
        sigma: the kernel's spectral norm; one for each slice of a stack.
        linear_map: which axes are in, out and batch.
        bound: the spectral norm of the result, in sigma's units.
        cap: only shrink: a kernel below the bound comes back as it is.

    Example:
        >>> import jax.numpy as jnp
        >>> print(normalize(jnp.array([[3.0, 0.0], [0.0, 1.5]]), jnp.array(3.0)))
        [[1.  0. ]
         [0.  0.5]]
    """
    check_options(bound=bound)
    resolved = resolve(linear_map, jnp.shape(kernel))
    check_vectors(kernel, resolved, sigma=sigma)
    return scaled(kernel, scale(sigma, bound, cap), resolved)


def scaled(kernel: Array, scale: Array, linear_map: StackedMap) -> Array:
    """Returns ``kernel * scale`` in the kernel's dtype, one scale for each slice."""
    wide = vector_dtype(kernel.dtype)
    scale = jnp.expand_dims(scale, linear_map.kernel_axes).astype(wide)
    return (kernel.astype(wide) * scale).astype(kernel.dtype)


def scale(sigma: Real[Array, " ..."], bound: Bound, cap: bool) -> Real[Array, " ..."]:
    """Returns what the kernel is multiplied with: ``bound / sigma``.

    With `cap` at most one. One, with derivative zero, where sigma is zero or not
    finite.
    """
    wanted = usable(sigma)
    ratio = jnp.asarray(bound, sigma.dtype) / jnp.where(wanted, sigma, 1)
    if cap:
        wanted &= ratio < 1
    return jnp.where(wanted, ratio, 1)
