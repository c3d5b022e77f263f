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
from specjax.bounds._circular import Axis, containing
from specjax.bounds._norm import Norm, of
from specjax.bounds._size import MAX_BYTES, check_bytes
from specjax.bounds._spectrum import (
    as_taps,
    block_bytes,
    blocks_at_once,
    classes,
    over_blocks,
)
from specjax.bounds._views import as_matrix, check_map, one_shape
from specjax.linear_maps._conv import Conv
from specjax.linear_maps._matrix import LinearMap, Matrix


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
    * Any other `Conv`: the SVD of the dense operator, which only small images allow.

    Args:
        kernel: one kernel, or a stack of them (`linear_map.batch_axis`).
        linear_map: `Matrix` or `Conv`.
        max_bytes: memory that the matrices may take; an SVD takes a few times that.

    Returns:
        The norm, in the kernel's units, up to rounding; differentiable where the
        largest singular value is simple.

    Raises:
        ValueError: before anything is allocated, if a matrix would be larger than
            `max_bytes`, or if the kernel does not fit its map.
        TypeError: for a linear map that is neither `Matrix` nor `Conv`.

    Example:
        >>> box = jnp.ones((3, 3, 1, 1))
        >>> found = exact(box, Conv((8, 8), padding="CIRCULAR"))
        >>> print(exact(box).value.round(4), found.value.round(4))
        3.0 9.0
        >>> found.kind, found.of, found.method
        ('exact', 'operator', 'SVD of each frequency')

    Source: Sedghi, Gupta and Long, "The Singular Values of Convolutional Layers"
    (2019).
    """
    method = _method(kernel, linear_map, max_bytes, whole=False)
    value = _largest(kernel, linear_map=linear_map)
    return Norm(value, "exact", of(linear_map), method)


def singular_values(
    kernel: Inexact[Array, " ..."],
    linear_map: LinearMap = Matrix(),
    *,
    max_bytes: int = MAX_BYTES,
) -> Real[Array, " ..."]:
    """Returns all singular values, descending, by the methods of `exact`.

    Args:
        kernel: one kernel, or a stack of them (`linear_map.batch_axis`).
        linear_map: `Matrix` or `Conv`.
        max_bytes: memory that the matrices may take.

    Returns:
        Shape (*batch, r): as many as the smaller side has entries.

    Raises:
        ValueError, TypeError: as `exact`.

    Example:
        >>> print(singular_values(jnp.array([[0.0, 2.0], [3.0, 0.0]])))
        [3. 2.]
    """
    _method(kernel, linear_map, max_bytes, whole=True)
    return _all(kernel, linear_map=linear_map)


def _method(
    kernel: Array, linear_map: LinearMap, max_bytes: int, *, whole: bool
) -> str:
    """Returns the method's name, if its matrices fit into the memory."""
    resolved, shape = check_map(linear_map, kernel), jnp.shape(kernel)
    one = one_shape(resolved, shape)
    axes = _frequencies(resolved.one(), one, whole=whole)
    if axes is None:
        n_in, n_out = map(math.prod, resolved.one().sides(one))
        needed = n_in * n_out * vector_dtype(kernel.dtype).itemsize
        method = "SVD" if isinstance(resolved, Matrix) else "dense SVD"
    else:
        assert isinstance(resolved, Conv)
        taps = jax.eval_shape(
            lambda k: as_taps(k, resolved), jax.ShapeDtypeStruct(one, kernel.dtype)
        )
        at_once = (
            len(classes(axes, half=False)) if whole else blocks_at_once(taps, axes)
        )
        needed, method = at_once * block_bytes(taps, axes), "SVD of each frequency"
    check_bytes(
        f"bounds.exact ({method})",
        needed * (math.prod(shape) // math.prod(one)),
        max_bytes,
        shape=shape,
        linear_map=linear_map,
        fix="specjax.bounds.lower and specjax.bounds.upper, which need no such matrix, "
        "or a larger max_bytes",
    )
    return method


def _frequencies(
    linear_map: LinearMap, shape: tuple[int, ...], *, whole: bool
) -> tuple[Axis, ...] | None:
    """Returns the frequencies whose blocks have the norm, or all singular values."""
    if not isinstance(linear_map, Conv):
        return None
    axes = containing(linear_map, shape)
    if not all(axis.exact for axis in axes):
        return None
    # Where no windows overlap one frequency has the norm, but not every value.
    return None if whole and linear_map.padding != "CIRCULAR" else axes


@functools.partial(jax.jit, static_argnames=("linear_map",))
@over_batch
def _largest(kernel: Array, *, linear_map: LinearMap) -> Array:
    return jnp.max(_values(kernel, linear_map, half=True))


@functools.partial(jax.jit, static_argnames=("linear_map",))
@over_batch
def _all(kernel: Array, *, linear_map: LinearMap) -> Array:
    return jnp.sort(_values(kernel, linear_map, half=False).ravel(), descending=True)


def _values(kernel: Array, linear_map: LinearMap, *, half: bool) -> Array:
    """Returns singular values, with `half` perhaps not each, but the largest one."""
    kernel = kernel.astype(vector_dtype(kernel.dtype))
    axes = _frequencies(linear_map, kernel.shape, whole=not half)
    if axes is None:
        return _svd(_dense(kernel, linear_map))
    assert isinstance(linear_map, Conv)
    return over_blocks(_svd, as_taps(kernel, linear_map), axes, half=half)


def _svd(matrix: Array) -> Array:
    return jnp.linalg.svd(matrix, compute_uv=False)


def _dense(kernel: Array, linear_map: LinearMap) -> Array:
    """Returns the matrix of one kernel, inputs by outputs."""
    if isinstance(linear_map, Matrix):
        return as_matrix(kernel, linear_map)
    in_shape, out_shape = linear_map.sides(kernel.shape)
    size = math.prod(in_shape)
    images = jnp.eye(size, dtype=kernel.dtype).reshape(size, *in_shape)
    rows = jax.vmap(lambda image: linear_map.apply(kernel, image))(images)
    return rows.reshape(size, math.prod(out_shape))
