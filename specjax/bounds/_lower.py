"""Lower bounds: what the kernel is seen to do to a vector."""

import functools

import jax
from jax import lax
from jaxtyping import Array, Inexact

from specjax._core.batch import over_batch
from specjax._core.krylov import warm_up
from specjax._core.state import expected
from specjax._core.step import power_iteration
from specjax._core.vectors import generic_direction, unit
from specjax._options import check_options
from specjax.bounds._norm import Norm, of
from specjax.bounds._product import stretch
from specjax.bounds._rounding import power_of_two
from specjax.linear_maps._check_spec import check_spec
from specjax.linear_maps._matrix import LinearMap, Matrix
from specjax.linear_maps._sharding import shards_of


def lower(
    kernel: Inexact[Array, " ..."],
    linear_map: LinearMap = Matrix(),
    *,
    n_steps: int = 64,
) -> Norm:
    """Returns ``|v W|`` for a unit v from a Krylov space, rounded down.

    It is at most the norm, in floating point too. By products with the kernel only, so
    for every linear map and every size. Within 1e-3 of the norm for kernels as they
    occur (docs/design/0002), but never proved to be: that is what `upper` is for.

    Args:
        kernel: one kernel, or a stack of them (`linear_map.batch_axis`).
        linear_map: any.
        n_steps: dimension of the Krylov space, two products each.

    Returns:
        The bound, in the kernel's units: what rounding may have added is subtracted.
        Zero for a zero kernel, NaN or inf for one that is not finite. Not
        differentiable: `specjax.sigma` is. For a linear map of your own it is proved if
        its product adds or subtracts products of an entry of the input and one of the
        kernel.

    Raises:
        ValueError, TypeError: for n_steps below 0, or a kernel that does not fit.

    Example:
        >>> import jax, specjax
        >>> kernel = jax.random.normal(jax.random.key(0), (300, 200))
        >>> low, high = lower(kernel), specjax.bounds.exact(kernel)
        >>> bool(0.999 * high.value < low.value <= high.value)
        True

    Source: Golub and Kahan, "Calculating the Singular Values and Pseudo-Inverse of a
    Matrix" (1965).
    """
    check_options(n_steps=n_steps)
    resolved = linear_map.resolve(kernel.shape)
    check_spec("kernel", kernel, resolved)
    value = _lower(kernel, linear_map=resolved, n_steps=n_steps)
    return Norm(value, "lower", of(linear_map), "Golub-Kahan")


@functools.partial(jax.jit, static_argnames=("linear_map", "n_steps"))
def _lower(kernel: Array, *, linear_map: LinearMap, n_steps: int) -> Array:
    near_one = scaled_to_one(kernel, linear_map)
    u, u2 = _krylov(near_one, linear_map=linear_map, n_steps=n_steps)
    return proved(kernel, power_iteration(near_one, u, u2, linear_map).u, linear_map)


@functools.partial(jax.jit, static_argnames=("linear_map", "n_steps"))
def ritz_value(kernel: Array, *, linear_map: LinearMap, n_steps: int) -> Array:
    """Returns the same up to rounding, for less: what nothing is to be proved with."""
    u, u2 = _krylov(kernel, linear_map=linear_map, n_steps=n_steps)
    return power_iteration(kernel, u, u2, linear_map).sigma


@functools.partial(jax.jit, static_argnames=("linear_map",))
def proved(kernel: Array, u: Array, linear_map: LinearMap) -> Array:
    """Returns a number that the norm is at least, for a u of whatever origin."""
    return _proved(lax.stop_gradient(kernel), u, linear_map=linear_map)


@over_batch
def _proved(kernel: Array, u: Array, *, linear_map: LinearMap) -> Array:
    product = linear_map.adjoint(scaled_to_one(kernel, linear_map), u)
    v, _ = unit(product, shards_of(linear_map).over_x)
    return stretch(kernel, v, linear_map)


@functools.partial(jax.jit, static_argnames=("linear_map",))
def scaled_to_one(kernel: Array, linear_map: LinearMap) -> Array:
    """Returns each kernel over a power of two, so that squares of it are in range."""
    axes = (axis for axis in range(kernel.ndim) if axis not in linear_map.batch_axis)
    shards = shards_of(linear_map.one())
    scale = power_of_two(kernel, tuple(axes), shards.over_x + shards.over_y)
    return kernel / scale.astype(kernel.dtype)


@over_batch
def _krylov(
    kernel: Array, *, linear_map: LinearMap, n_steps: int
) -> tuple[Array, Array]:
    u = expected(kernel, linear_map).u
    start = generic_direction(u.shape, u.dtype, shards_of(linear_map).y)
    return warm_up(lax.stop_gradient(kernel), start, linear_map, n_steps)
