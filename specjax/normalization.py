"""Mean-only batch normalization: the batch's mean is taken away, its scale is left."""

from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Inexact

from specjax import errors
from specjax._core.vectors import vector_dtype
from specjax.linear_maps._matrix import Axes

__all__ = ["mean_only"]


def mean_only(
    x: Inexact[Array, " ..."],
    running: Float[Array, " ..."],
    *,
    use_running_average: bool = False,
    axis: Axes = -1,
    momentum: float = 0.99,
    axis_name: str | tuple[str, ...] | None = None,
) -> tuple[Inexact[Array, " ..."], Float[Array, " ..."]]:
    """Returns ``x - mean`` and the next running mean, ``m running + (1 - m) mean``.

    The mean is over all axes but the features', and the derivative passes through it:
    the gradient in x has mean zero, too. In float32 at least; the result has x's dtype.

    Args:
        x: the input, in any units.
        running: the running mean, in the shape of the features.
        use_running_average: take away `running` and leave it as it is (evaluation).
        axis: the axes of the features.
        momentum: m, from 0 to 1.
        axis_name: mesh axes, or the axis of a `vmap` or `pmap`, over which the mean is
            taken, too: all devices then hold one mean. Under `jit` of sharded arrays
            the mean is that of the whole batch without it.

    Returns:
        The two. A mean that is not finite is taken away (the loss shows it) and not
        kept: the running mean stays at the last good one.

    Raises:
        ValueError, TypeError: if an axis does not exist, if `running` is not in the
            shape of the features, or if the momentum is not between 0 and 1.

    Example:
        >>> x = jnp.array([[1.0, 5.0], [3.0, 7.0]])
        >>> y, running = mean_only(x, jnp.zeros(2), momentum=0.9)
        >>> print(y, running)
        [[-1. -1.]
         [ 1.  1.]] [0.2 0.6]

    Source: Salimans and Kingma, "Weight Normalization" (2016), section 4.
    """
    features = feature_axes(x, axis)
    _check(x, running, features, momentum)
    others = tuple(a for a in range(x.ndim) if a not in features)
    wide = x.astype(vector_dtype(x.dtype))
    if use_running_average:
        mean, after = running, running
    else:
        mean = jnp.mean(wide, axis=others)
        if axis_name is not None:
            mean = lax.pmean(mean, axis_name)
        kept = (momentum * running + (1 - momentum) * mean).astype(running.dtype)
        after = lax.stop_gradient(jnp.where(jnp.isfinite(mean), kept, running))
    return (wide - jnp.expand_dims(mean, others)).astype(x.dtype), after


def feature_axes(x: Any, axis: Any) -> tuple[int, ...]:
    """Returns the axes counted from the front, in the order of x.

    Raises:
        ValueError: if one does not exist, or is named twice.
    """
    axes = axis if isinstance(axis, tuple | list) else (axis,)
    found = {a % x.ndim for a in axes if -x.ndim <= a < x.ndim}
    if not found or len(found) < len(axes):
        message = errors.message(
            "axis",
            got=f"{axis} for x of {errors.describe(x)}",
            need=f"axes from {-x.ndim} to {x.ndim - 1}, each once",
            fix="axis=-1",
        )
        raise ValueError(message)
    return tuple(sorted(found))


def _check(x: Array, running: Array, features: tuple[int, ...], momentum: Any) -> None:
    shape = tuple(x.shape[axis] for axis in features)
    if jnp.shape(running) != shape:
        message = errors.message(
            "running",
            got=errors.describe(running),
            need=f"shape {shape}, the features of x, {errors.describe(x)}",
            fix=f"jnp.zeros({shape})",
        )
        raise ValueError(message)
    if not isinstance(momentum, float | int) or not 0 <= momentum <= 1:
        got, need = str(momentum), "a number from 0 to 1"
        message = errors.message("momentum", got=got, need=need, fix="momentum=0.99")
        raise ValueError(message)
