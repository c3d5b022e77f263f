"""Upper bounds, proved: at least the norm, in floating point too."""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact

from specjax import errors
from specjax._core.batch import over_batch
from specjax._core.vectors import vector_dtype
from specjax._options import check_options
from specjax.bounds._circular import Axis, containing, every_size, repeats
from specjax.bounds._closed import almost_orthogonal, fantastic_four
from specjax.bounds._dense import ROUNDED, dense
from specjax.bounds._gram import gram_bound
from specjax.bounds._norm import Norm, of
from specjax.bounds._rounding import frobenius, up
from specjax.bounds._size import MAX_BYTES, check_bytes
from specjax.bounds._spectrum import (
    as_taps,
    block,
    block_bytes,
    block_error,
    blocks_at_once,
    classes,
    over_blocks,
)
from specjax.bounds._views import as_matrix, check_map, one_shape
from specjax.linear_maps._conv import Conv
from specjax.linear_maps._matrix import LinearMap, Matrix

_NAMES = {
    "gram": "Gram iteration",
    "dense": "Gram iteration, dense",
    "aol": "AOL",
    "frobenius": "Frobenius norm",
    "fantastic_four": "fantastic four",
}


def upper(
    kernel: Inexact[Array, " ..."],
    linear_map: LinearMap = Matrix(),
    *,
    method: str = "gram",
    n_steps: int = 13,
    every_size: bool = False,
    max_bytes: int = MAX_BYTES,
) -> Norm:
    """Returns a number that the norm does not exceed, rounding included.

    * "gram": Gram iteration. For a `Conv`, on every frequency of a circular convolution
      that contains it: the norm itself where the padding is circular, a bound for zero
      and reflected padding.
    * "dense": for a `Conv` with zero padding, Gram iteration on the operator written
      out. Its slack does not grow where the image is hardly larger than the window, as
      that of "gram" does; only small images allow it.
    * "aol": almost orthogonal, "frobenius", and for a `Conv` "fantastic_four": closed
      forms, cheaper and looser.

    Args:
        kernel: one kernel, or a stack of them (`linear_map.batch_axis`).
        linear_map: `Matrix` or `Conv`.
        method: one of the above.
        n_steps: squarings of the Gram iteration. Its bound exceeds the norm by at most
            ``rank^(1 / 2^(n_steps + 1))``, and by the rounding that it accounts for.
        every_size: a `Conv` on images of whatever size, not only `input_shape`.
            "aol", "frobenius" and "fantastic_four" always are, for zero and circular
            padding.
        max_bytes: memory that the method may take.

    Returns:
        The bound, in the kernel's units. Differentiable. Not finite only for a kernel
        that is not finite, or beyond the range of its dtype.

    Raises:
        ValueError: before anything is allocated, for a kernel too large for
            `max_bytes`; for an unknown method, a kernel that does not fit its map, or
            `every_size` with reflected padding.
        TypeError: for a linear map that is neither `Matrix` nor `Conv`.

    Example:
        >>> box, image = jnp.ones((3, 3, 1, 1)), Conv((8, 8))
        >>> print(upper(box, image).value.round(3))  # zero padding: 8.287
        9.0
        >>> upper(box, image).kind, upper(box, image).of
        ('upper', 'operator')

    Source: Delattre et al., "Efficient Bound of Lipschitz Constant for Convolutional
    Layers by Gram Iteration" (2023); docs/design/0007 has the proofs that are our own.
    """
    check_options(n_steps=n_steps)
    resolved = check_map(linear_map, kernel)
    _check_method(method, n_steps, resolved, every_size)
    _check_size(kernel, resolved, method, every_size, max_bytes)
    name = _NAMES[method]
    if isinstance(resolved, Conv) and method == "gram":
        name += ", every size" if every_size else " on the spectrum"
    value = _upper(
        kernel,
        linear_map=resolved,
        method=method,
        n_steps=n_steps,
        every_size=every_size,
    )
    return Norm(value, "upper", of(resolved), name)


def _check_method(
    method: str, n_steps: int, linear_map: Matrix | Conv, all_sizes: bool
) -> None:
    is_conv = isinstance(linear_map, Conv)
    written_out = is_conv and linear_map.padding not in ROUNDED and not all_sizes
    possible = {"fantastic_four": is_conv, "dense": written_out}
    known = [name for name in _NAMES if possible.get(name, True)]
    if method not in known:
        message = errors.message(
            "bounds.upper",
            got=f"method={method!r} for a {type(linear_map).__name__}",
            need=f"one of {', '.join(map(repr, known))}",
            fix='method="gram"',
        )
        raise ValueError(message)
    if n_steps < 1:
        message = errors.message(
            "bounds.upper", got=f"n_steps={n_steps}", need="1 or more", fix="n_steps=13"
        )
        raise ValueError(message)


def _check_size(
    kernel: Array,
    linear_map: Matrix | Conv,
    method: str,
    all_sizes: bool,
    max_bytes: int,
) -> None:
    """Raises a TooLargeError for what the method would allocate at its peak."""
    shape = jnp.shape(kernel)
    one = one_shape(linear_map, shape)
    dtype = vector_dtype(kernel.dtype)
    needed = math.prod(shape) * dtype.itemsize
    if method == "gram" and isinstance(linear_map, Conv):
        conv = linear_map.one()
        taps = jax.eval_shape(
            lambda k: as_taps(k, conv), jax.ShapeDtypeStruct(one, dtype)
        )
        axes, _ = _grid(conv, one, all_sizes)
        at_once = min(blocks_at_once(taps, axes), len(classes(axes, half=False)))
        # The blocks, their parts and products: about six of them.
        needed += 6 * at_once * block_bytes(taps, axes)
    elif method in ("gram", "dense"):
        n_in, n_out = map(math.prod, linear_map.one().sides(one))
        needed += 4 * min(n_in, n_out) ** 2 * dtype.itemsize
        needed += 4 * n_in * n_out * dtype.itemsize * (method == "dense")
    check_bytes(
        f"bounds.upper ({_NAMES[method]})",
        needed,
        max_bytes,
        shape=shape,
        linear_map=linear_map,
        fix='method="frobenius", which takes no more than the kernel',
    )


@functools.partial(
    jax.jit, static_argnames=("linear_map", "method", "n_steps", "every_size")
)
@over_batch
def _upper(
    kernel: Array,
    *,
    linear_map: LinearMap,
    method: str,
    n_steps: int,
    every_size: bool,
) -> Array:
    kernel = kernel.astype(vector_dtype(kernel.dtype))
    if isinstance(linear_map, Conv) and method == "dense":
        return gram_bound(dense(kernel, linear_map), n_steps)
    if isinstance(linear_map, Conv):
        return _of_operator(kernel, linear_map, method, n_steps, every_size)
    assert isinstance(linear_map, Matrix)
    matrix = as_matrix(kernel, linear_map)
    match method:
        case "gram":
            return gram_bound(matrix, n_steps)
        case "aol":
            return almost_orthogonal(matrix)
        case _:
            return frobenius(matrix)


def _of_operator(
    kernel: Array, conv: Conv, method: str, n_steps: int, all_sizes: bool
) -> Array:
    axes, factor = _grid(conv, kernel.shape, all_sizes)
    taps = as_taps(kernel, conv)
    if method == "gram":
        return up(factor * _largest_block(taps, axes, n_steps))
    factor = repeats(axes)
    window = tuple((axis.reach - 1) // axis.step + 1 for axis in axes)
    shaped = taps.reshape(len(taps), *window, *taps.shape[2:])
    match method:
        case "aol":
            bounds = jax.vmap(almost_orthogonal)(shaped)
        case "fantastic_four":
            bounds = jax.vmap(lambda one: fantastic_four(one, n_steps))(shaped)
        case _:
            whole = jax.vmap(frobenius)(taps.reshape(len(taps), -1, taps.shape[-1]))
            bounds = up(whole * math.prod(window) ** 0.5)
    return up(factor * jnp.max(bounds))


def _largest_block(taps: Array, axes: tuple[Axis, ...], n_steps: int) -> Array:
    """Returns the largest Gram bound of a block, with the derivative of that block's.

    All blocks are looked at without a derivative: only the largest one has a part in
    it, and is looked at once more.
    """
    bounds = over_blocks(
        lambda one: gram_bound(one, n_steps), lax.stop_gradient(taps), axes
    )
    largest = jnp.argmax(bounds)
    frequency, group = jnp.divmod(largest, len(taps))
    frequencies = jnp.asarray(classes(axes, not jnp.iscomplexobj(taps)))
    again = gram_bound(block(taps[group], axes, frequencies[frequency]), n_steps)
    best = jnp.max(bounds) + (again - lax.stop_gradient(again))
    return up(best + jnp.max(block_error(taps, axes)))


def _grid(
    conv: Conv, shape: tuple[int, ...], all_sizes: bool
) -> tuple[tuple[Axis, ...], float]:
    """Returns the frequencies to look at, and the factor from them to the operator."""
    axes = containing(conv, shape)
    if all_sizes:
        return every_size(conv, axes)
    return axes, repeats(axes)
