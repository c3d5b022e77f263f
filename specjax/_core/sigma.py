"""sigma with Miyato's derivative: ``d sigma = <v, dW u>``, u and v constant.

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
from specjax.linear_maps._matrix import LinearMap, Matrix
from specjax.linear_maps._sharding import Names, shards_of, total


def sigma(
    kernel: Inexact[Array, " ..."],
    u: Inexact[Array, " ..."],
    v: Inexact[Array, " ..."],
    linear_map: LinearMap = Matrix(),
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

    Example:
        >>> w = jnp.array([[3.0, 0.0], [0.0, 1.0]])
        >>> u = v = jnp.array([1.0, 0.0])
        >>> print(sigma(w, u, v))
        3.0
        >>> print(jax.grad(sigma)(w, u, v))
        [[1. 0.]
         [0. 0.]]

    Source: Miyato et al. (2018), equations (9) and (10).
    """
    check_vectors(kernel, linear_map, u=u, v=v)
    value = _value(kernel, u, v, linear_map=linear_map)
    return _with_derivative(kernel, value, u, v, linear_map=linear_map)


@over_batch
def _with_derivative(
    kernel: Array, value: Array, u: Array, v: Array, *, linear_map: LinearMap
) -> Array:
    return _sigma(linear_map, kernel, *map(lax.stop_gradient, (value, u, v)))


@over_batch
def _value(kernel: Array, u: Array, v: Array, *, linear_map: LinearMap) -> Array:
    product = linear_map.apply(lax.stop_gradient(kernel), v)
    return _inner(u, product, shards_of(linear_map).over_y)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _sigma(linear_map, kernel, value, u, v):
    del linear_map, kernel, u, v
    return value


@_sigma.defjvp
def _sigma_jvp(linear_map, primals, tangents):
    _, value, u, v = primals
    tangent = between(v, tangents[0], u, linear_map)
    # The primal goes through the rule again, so that a second derivative finds it.
    return _sigma(linear_map, *primals), tangent.astype(value.dtype)


def between(v: Array, kernel: Array, u: Array, linear_map: LinearMap) -> Array:
    """Returns the real part of ``v W u^H``, of one kernel."""
    shards = shards_of(linear_map)
    if isinstance(linear_map, Matrix):
        # One sum, over both sides: its transpose is one product of three factors, which
        # fuses into what is done with the gradient.
        products = linear_map.outer(v, u) * kernel.astype(u.dtype)
        return total(products.real, shards.over_x + shards.over_y)
    return _inner(v, linear_map.adjoint(kernel, u), shards.over_x)


def _inner(x: Array, y: Array, over: Names) -> Array:
    return total((jnp.conj(x) * y).real, over)
