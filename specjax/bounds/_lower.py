"""Lower bounds: what the kernel is seen to do to a vector."""

import functools

import jax
from jax import lax
from jaxtyping import Array, Inexact

from specjax._core.batch import over_batch
from specjax._core.krylov import converge, fixed_start
from specjax._core.vectors import unit
from specjax._moved import renamed
from specjax._options import check_count
from specjax.bounds._norm import Norm
from specjax.bounds._product import stretch
from specjax.bounds._rounding import power_of_two
from specjax.linear_maps import LinearMap, Matrix, ResolvedMap, StackedMap, resolve
from specjax.linear_maps._check_spec import check_spec


@renamed(n_steps="krylov_dim")
def lower(
    kernel: Inexact[Array, " ..."],
    linear_map: LinearMap = Matrix(),
    *,
    krylov_dim: int = 64,
) -> Norm:
    """Returns ``|v W|`` for a unit v from a Krylov space, rounded down.

    It is at most the norm, in floating point too. By products with the kernel only, so
    for every linear map and every size. Within 1e-3 of the norm for kernels as they
    occur (docs/design/0002), but never proved to be: that is what `upper` is for.

    Args:
        kernel: one kernel, or a stack of them (`linear_map.batch_axis`).
        linear_map: any.
        krylov_dim: dimension of the Krylov space, two products each.

    Returns:
        The bound, in the kernel's units: what rounding may have added is subtracted.
        Zero for a zero kernel, NaN or inf for one that is not finite. Not
        differentiable: `specjax.sigma` is. For a linear map of your own it is proved if
        its product adds or subtracts products of an entry of the input and one of the
        kernel.

    Raises:
        ValueError, TypeError: for krylov_dim below 0, or a kernel that does not fit.

    Example:
        >>> import jax, specjax
        >>> kernel = jax.random.normal(jax.random.key(0), (300, 200))
        >>> low, high = lower(kernel), specjax.bounds.exact(kernel)
        >>> bool(0.999 * high.value < low.value <= high.value)
        True

    Source: Golub and Kahan, "Calculating the Singular Values and Pseudo-Inverse of a
    Matrix" (1965).
    """
    check_count(krylov_dim=krylov_dim)
    resolved = resolve(linear_map, kernel.shape)
    check_spec("kernel", kernel, resolved)
    value = _lower(kernel, linear_map=resolved, krylov_dim=krylov_dim)
    return Norm(value, "lower", resolved.one.of, "Golub-Kahan")


@functools.partial(jax.jit, static_argnames=("linear_map", "krylov_dim"))
def _lower(kernel: Array, *, linear_map: StackedMap, krylov_dim: int) -> Array:
    near_one = lax.stop_gradient(scaled_to_one(kernel, linear_map))
    start = fixed_start(near_one, linear_map)
    return proved(
        kernel, converge(near_one, linear_map, start, krylov_dim).u, linear_map
    )


@functools.partial(jax.jit, static_argnames=("linear_map",))
def proved(kernel: Array, u: Array, linear_map: StackedMap) -> Array:
    """Returns a number that the norm is at least, for a u of whatever origin."""
    return _proved(lax.stop_gradient(kernel), u, linear_map=linear_map)


@over_batch
def _proved(kernel: Array, u: Array, *, linear_map: ResolvedMap) -> Array:
    split = linear_map.split
    scale = power_of_two(kernel, over=split.over_x + split.over_y)
    product = linear_map.adjoint(kernel / scale.astype(kernel.dtype), u)
    return stretch(kernel, unit(product, split.over_x)[0], linear_map)


@functools.partial(jax.jit, static_argnames=("linear_map",))
def scaled_to_one(kernel: Array, linear_map: StackedMap) -> Array:
    """Returns each kernel over a power of two, so that squares of it are in range."""
    split = linear_map.one.split
    scale = power_of_two(kernel, linear_map.kernel_axes, split.over_x + split.over_y)
    return kernel / scale.astype(kernel.dtype)
