"""Exact norms: every singular value of the matrix or of the operator.

"Exact" is up to the rounding of the library's SVD, a few units of roundoff times the
norm; `upper` is the one that is a bound in floating point.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, Real

from specjax._core.batch import over_batch
from specjax._core.vectors import vector_dtype
from specjax.bounds._norm import Norm
from specjax.bounds._size import MAX_BYTES, check_bytes
from specjax.bounds._spectrum import (
    block_bytes,
    blocks_at_once,
    classes,
    over_blocks,
)
from specjax.bounds._views import whole
from specjax.linear_maps import LinearMap, Matrix, ResolvedMap, StackedMap
from specjax.linear_maps._circular import Axis


def exact(
    kernel: Inexact[Array, " ..."],
    linear_map: LinearMap = Matrix(),
    *,
    max_bytes: int = MAX_BYTES,
) -> Norm:
    """Returns the largest singular value, by an SVD.

    * `Matrix`: the SVD of the kernel as a matrix.
    * `Conv` with circular padding: an SVD for each frequency; with a stride, of the
      polyphase parts side by side. Also where no two windows overlap.
    * Any other `Conv`, and a map of your own: the SVD of the dense operator, which only
      small inputs allow.

    Args:
        kernel: one kernel, or a stack of them (`linear_map.batch_axis`).
        linear_map: any.
        max_bytes: memory that the matrices may take; an SVD takes a few times that.

    Returns:
        The norm, in the kernel's units, up to rounding; differentiable where the
        largest singular value is simple.

    Raises:
        ValueError: before anything is allocated, if a matrix would be larger than
            `max_bytes`, or if the kernel does not fit its map.

    Example:
        >>> import jax.numpy as jnp
        >>> box = jnp.ones((3, 3, 1, 1))
        >>> import specjax as sx
        >>> found = exact(box, sx.Conv((8, 8), padding="CIRCULAR"))
        >>> print(exact(box).value.round(4), found.value.round(4))
        3.0 9.0
        >>> found.kind, found.of, found.method
        ('exact', 'operator', 'SVD of each frequency')

    Source: Sedghi, Gupta and Long, "The Singular Values of Convolutional Layers"
    (2019).
    """
    resolved = whole(linear_map, kernel)
    method = _method(kernel, resolved, max_bytes, every_value=False)
    value = _largest(kernel, linear_map=resolved)
    return Norm(value, "exact", resolved.one.of, method)


def singular_values(
    kernel: Inexact[Array, " ..."],
    linear_map: LinearMap = Matrix(),
    *,
    max_bytes: int = MAX_BYTES,
) -> Real[Array, " ..."]:
    """Returns all singular values, descending, by the methods of `exact`.

    Args:
        kernel: one kernel, or a stack of them (`linear_map.batch_axis`).
        linear_map: any.
        max_bytes: memory that the matrices may take.

    Returns:
        Shape (*batch, r): as many as the smaller side has entries.

    Raises:
        ValueError, TypeError: as `exact`.

    Example:
        >>> import jax.numpy as jnp
        >>> print(singular_values(jnp.array([[0.0, 2.0], [3.0, 0.0]])))
        [3. 2.]
    """
    resolved = whole(linear_map, kernel)
    _method(kernel, resolved, max_bytes, every_value=True)
    return _all(kernel, linear_map=resolved)


def _method(
    kernel: Array, linear_map: StackedMap, max_bytes: int, *, every_value: bool
) -> str:
    """Returns the method's name, if its matrices fit into the memory."""
    one = linear_map.one
    axes = _frequencies(one, every_value=every_value)
    if axes is None:
        n_in, n_out = math.prod(one.in_shape), math.prod(one.out_shape)
        needed = n_in * n_out * vector_dtype(kernel.dtype).itemsize
        method = "SVD" if one.matrix_axes is not None else "dense SVD"
    else:
        shape = jax.ShapeDtypeStruct(one.shape, kernel.dtype)
        taps = jax.eval_shape(one.taps, shape)
        all_classes = len(classes(axes, half=False))
        at_once = all_classes if every_value else blocks_at_once(taps, axes)
        needed, method = at_once * block_bytes(taps, axes), "SVD of each frequency"
    check_bytes(
        f"bounds.exact ({method})",
        needed * math.prod(linear_map.batch_shape),
        max_bytes,
        linear_map=linear_map,
        fix="specjax.bounds.lower and specjax.bounds.upper, which need no such matrix, "
        "or a larger max_bytes",
    )
    return method


def _frequencies(
    linear_map: ResolvedMap, *, every_value: bool
) -> tuple[Axis, ...] | None:
    """Returns the frequencies whose blocks have the norm, or all singular values."""
    axes = linear_map.circular
    if axes is None or not all(axis.exact for axis in axes):
        return None
    # Where no windows overlap one frequency has the norm, but not every value.
    return (
        axes
        if not every_value or all(axis.padding == "circular" for axis in axes)
        else None
    )


@functools.partial(jax.jit, static_argnames=("linear_map",))
@over_batch
def _largest(kernel: Array, *, linear_map: ResolvedMap) -> Array:
    return jnp.max(_values(kernel, linear_map, every_value=False))


@functools.partial(jax.jit, static_argnames=("linear_map",))
@over_batch
def _all(kernel: Array, *, linear_map: ResolvedMap) -> Array:
    values = _values(kernel, linear_map, every_value=True)
    return jnp.sort(values.ravel(), descending=True)


def _values(kernel: Array, linear_map: ResolvedMap, *, every_value: bool) -> Array:
    """Returns singular values, the largest one among them."""
    kernel = kernel.astype(vector_dtype(kernel.dtype))
    axes = _frequencies(linear_map, every_value=every_value)
    if axes is None:
        return _svd(linear_map.dense(kernel))
    return over_blocks(_svd, linear_map.taps(kernel), axes, half=not every_value)


def _svd(matrix: Array) -> Array:
    return jnp.linalg.svd(matrix, compute_uv=False)
