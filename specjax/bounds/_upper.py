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
from specjax._moved import renamed
from specjax._options import check_count
from specjax.bounds._closed import almost_orthogonal, fantastic_four
from specjax.bounds._gram import gram_bound
from specjax.bounds._norm import Norm
from specjax.bounds._rounding import frobenius, gamma, up
from specjax.bounds._size import MAX_BYTES, check_bytes
from specjax.bounds._spectrum import (
    block,
    block_bytes,
    block_error,
    blocks_at_once,
    classes,
    over_blocks,
)
from specjax.bounds._views import whole
from specjax.linear_maps import LinearMap, Matrix, ResolvedMap, StackedMap
from specjax.linear_maps._circular import Axis, every_size, repeats

_NAMES = {
    "gram": "Gram iteration",
    "dense": "Gram iteration, dense",
    "aol": "AOL",
    "frobenius": "Frobenius norm",
    "fantastic_four": "fantastic four",
}


@renamed(n_steps="n_squarings")
def upper(
    kernel: Inexact[Array, " ..."],
    linear_map: LinearMap = Matrix(),
    *,
    method: str = "gram",
    n_squarings: int = 13,
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
        linear_map: any. Of a map of your own it is proved if ``v W`` adds or subtracts
            products of an entry of v and one of W, each at most once, in W's dtype.
        method: one of the above.
        n_squarings: of the Gram iteration. Its bound exceeds the norm by at most
            ``rank^(1 / 2^(n_squarings + 1))``, and by the rounding that it accounts
            for.
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

    Example:
        >>> import jax.numpy as jnp
        >>> import specjax as sx
        >>> box, image = jnp.ones((3, 3, 1, 1)), sx.Conv((8, 8))
        >>> print(upper(box, image).value.round(3))  # zero padding: 8.287
        9.0
        >>> upper(box, image).kind, upper(box, image).of
        ('upper', 'operator')

    Source: Delattre et al., "Efficient Bound of Lipschitz Constant for Convolutional
    Layers by Gram Iteration" (2023); docs/design/0007 has the proofs that are our own.
    """
    check_count(n_squarings=n_squarings)
    resolved = whole(linear_map, kernel)
    _check_method(method, n_squarings, resolved, every_size)
    _check_size(kernel, resolved, method, every_size, max_bytes)
    name = _NAMES[method]
    if resolved.one.circular is not None and method == "gram":
        name += ", every size" if every_size else " on the spectrum"
    value = _upper(
        kernel,
        linear_map=resolved,
        method=method,
        n_squarings=n_squarings,
        every_size=every_size,
    )
    return Norm(value, "upper", resolved.one.of, name)


def _check_method(
    method: str, n_squarings: int, linear_map: StackedMap, all_sizes: bool
) -> None:
    one = linear_map.one
    has_window = one.circular is not None
    possible = {
        "fantastic_four": has_window,
        "dense": one.matrix_axes is None and not all_sizes and one.is_copied,
    }
    known = [name for name in _NAMES if possible.get(name, True)]
    if method not in known:
        message = errors.message(
            "bounds.upper",
            got=f"method={method!r} for a {one.name}",
            need=f"one of {', '.join(map(repr, known))}",
            fix='method="gram"',
        )
        raise ValueError(message)
    if n_squarings < 1:
        message = errors.message(
            "bounds.upper",
            got=f"n_squarings={n_squarings}",
            need="1 or more",
            fix="n_squarings=13",
        )
        raise ValueError(message)


def _check_size(
    kernel: Array,
    linear_map: StackedMap,
    method: str,
    all_sizes: bool,
    max_bytes: int,
) -> None:
    """Raises a TooLargeError for what the method would allocate at its peak."""
    one = linear_map.one
    dtype = vector_dtype(kernel.dtype)
    needed = math.prod(linear_map.shape) * dtype.itemsize
    grid = _grid(one, all_sizes)
    if method == "gram" and grid is not None:
        axes, _ = grid
        taps = jax.eval_shape(one.taps, jax.ShapeDtypeStruct(one.shape, dtype))
        at_once = min(blocks_at_once(taps, axes), len(classes(axes, half=False)))
        # The blocks, their parts and products: about six of them.
        needed += 6 * at_once * block_bytes(taps, axes)
    elif method in ("gram", "dense"):
        n_in, n_out = math.prod(one.in_shape), math.prod(one.out_shape)
        needed += 4 * min(n_in, n_out) ** 2 * dtype.itemsize
        needed += 4 * n_in * n_out * dtype.itemsize * (one.matrix_axes is None)
    check_bytes(
        f"bounds.upper ({_NAMES[method]})",
        needed,
        max_bytes,
        linear_map=linear_map,
        fix='method="frobenius", which takes no more than the kernel',
    )


@functools.partial(
    jax.jit, static_argnames=("linear_map", "method", "n_squarings", "every_size")
)
@over_batch
def _upper(
    kernel: Array,
    *,
    linear_map: ResolvedMap,
    method: str,
    n_squarings: int,
    every_size: bool,
) -> Array:
    kernel = kernel.astype(vector_dtype(kernel.dtype))
    grid = _grid(linear_map, every_size)
    if grid is not None and method != "dense":
        return _of_operator(kernel, linear_map, method, n_squarings, *grid)
    matrix = linear_map.dense(kernel)
    match method:
        case "aol":
            bound = almost_orthogonal(matrix)
        case "frobenius":
            bound = frobenius(matrix)
        case _:
            bound = gram_bound(matrix, n_squarings)
    if linear_map.is_copied:
        return bound
    # An entry is a sum of entries of the kernel, each at most once.
    absolute = up(linear_map.dense(jnp.abs(kernel)), kernel.size + 4)
    return up(bound + gamma(kernel.size + 4, bound.dtype) * frobenius(absolute))


def _of_operator(
    kernel: Array,
    linear_map: ResolvedMap,
    method: str,
    n_squarings: int,
    axes: tuple[Axis, ...],
    factor: float,
) -> Array:
    taps = linear_map.taps(kernel)
    if method == "gram":
        return up(factor * _largest_block(taps, axes, n_squarings))
    factor = repeats(axes)
    window = tuple((axis.reach - 1) // axis.step + 1 for axis in axes)
    shaped = taps.reshape(len(taps), *window, *taps.shape[2:])
    match method:
        case "aol":
            bounds = jax.vmap(almost_orthogonal)(shaped)
        case "fantastic_four":
            bounds = jax.vmap(lambda one: fantastic_four(one, n_squarings))(shaped)
        case _:
            sizes = jax.vmap(frobenius)(taps.reshape(len(taps), -1, taps.shape[-1]))
            bounds = up(sizes * math.prod(window) ** 0.5)
    return up(factor * jnp.max(bounds))


def _largest_block(taps: Array, axes: tuple[Axis, ...], n_squarings: int) -> Array:
    """Returns the largest Gram bound of a block, with the derivative of that block's.

    All blocks are looked at without a derivative: only the largest one has a part in
    it, and is looked at once more.
    """
    bounds = over_blocks(
        lambda one: gram_bound(one, n_squarings), lax.stop_gradient(taps), axes
    )
    largest = jnp.argmax(bounds)
    frequency, group = jnp.divmod(largest, len(taps))
    frequencies = jnp.asarray(classes(axes, not jnp.iscomplexobj(taps)))
    again = gram_bound(block(taps[group], axes, frequencies[frequency]), n_squarings)
    best = jnp.max(bounds) + (again - lax.stop_gradient(again))
    return up(best + jnp.max(block_error(taps, axes)))


def _grid(
    linear_map: ResolvedMap, all_sizes: bool
) -> tuple[tuple[Axis, ...], float] | None:
    """Returns the frequencies to look at, and the factor from them to the operator."""
    axes = linear_map.circular
    if axes is None:
        return None
    return every_size(axes) if all_sizes else (axes, repeats(axes))
