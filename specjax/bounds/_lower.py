"""Lower bounds: what the kernel is seen to do to a vector."""

import functools

import jax
from jaxtyping import Array, Inexact

from specjax._batch import over_batch
from specjax._linear_map import LinearMap, Matrix
from specjax._mesh import check_spec, shards_of
from specjax._options import check_options
from specjax._power import power_iteration
from specjax._state import expected
from specjax._vectors import generic_direction
from specjax._warmup import warm_up
from specjax.bounds._norm import Norm, of


def lower(
    kernel: Inexact[Array, " ..."],
    linear_map: LinearMap = Matrix(),
    *,
    n_steps: int = 64,
) -> Norm:
    """Returns ``|W^H v|`` for a unit v from a Krylov space: at most the norm.

    By products with the kernel only, so for every linear map and every size. Within
    1e-3 of the norm for kernels as they occur (docs/design/0002), but never proved to
    be: that is what `upper` is for.

    Args:
        kernel: one kernel, or a stack of them (`linear_map.batch_axis`).
        linear_map: any.
        n_steps: dimension of the Krylov space, two products each.

    Returns:
        The bound, in the kernel's units, up to the rounding of the product. Zero for a
        zero kernel, NaN or inf for one that is not finite. Not differentiable:
        `specjax.sigma` is.

    Raises:
        ValueError, TypeError: for n_steps below 0, or a kernel that does not fit.

    Example:
        >>> import jax, specjax
        >>> kernel = jax.random.normal(jax.random.key(0), (300, 200))
        >>> low, high = lower(kernel), specjax.bounds.exact(kernel)
        >>> bool(0.999 * high.value < low.value < 1.00001 * high.value)
        True

    Source: Golub and Kahan, "Calculating the Singular Values and Pseudo-Inverse of a
    Matrix" (1965).
    """
    check_options(n_steps=n_steps)
    resolved = linear_map.resolve(kernel.shape)
    check_spec("kernel", kernel, resolved)
    value = _ritz_value(kernel, linear_map=resolved, n_steps=n_steps)
    return Norm(value, "lower", of(linear_map), "Golub-Kahan")


@functools.partial(jax.jit, static_argnames=("linear_map", "n_steps"))
@over_batch
def _ritz_value(kernel: Array, *, linear_map: LinearMap, n_steps: int) -> Array:
    u = expected(kernel, linear_map).u
    start = generic_direction(u.shape, u.dtype, shards_of(linear_map).y)
    u, u2 = warm_up(jax.lax.stop_gradient(kernel), start, linear_map, n_steps)
    return power_iteration(kernel, u, u2, linear_map).sigma
