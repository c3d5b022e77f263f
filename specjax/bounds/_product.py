"""``|v W| / |v|`` for one vector, rounded down: the norm is at least that.

Whatever v is, the quotient of the exact numbers is at most the norm. So one product
and two lengths have to be bounded, and no iteration. Each entry of ``v W`` is a sum of
products, off by at most ``gamma (|v| |W|)`` (Higham, section 3.1): the length of that
is subtracted. Sums are taken in pieces, so that gamma is small.
"""

import functools
import math
import operator
from collections.abc import Iterable, Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact, Real

from specjax._core.vectors import vector_dtype
from specjax.bounds._rounding import gamma, power_of_two, up
from specjax.linear_maps import ResolvedMap
from specjax.linear_maps._sharding import (
    Names,
    count,
    explicit_axes,
    summed,
    varying_axes,
)

# Into how many pieces a sum is split, and how many numbers they may have together.
_PIECES = 32
_NUMBERS = 2**22


def stretch(
    kernel: Inexact[Array, " ..."], v: Inexact[Array, " *in"], linear_map: ResolvedMap
) -> Real[Array, ""]:
    """Returns a number that is at most ``|v W| / |v|``, of one kernel.

    Zero for a kernel or a v of zeros, NaN or inf for a kernel that is not finite. On a
    mesh that places or splits the kernel the sums are in one piece: that number is
    proved, too, but smaller. For a linear map of your own it is proved if ``v W`` is
    made of products of an entry of v and an entry of W, added or subtracted.
    """
    over = linear_map.split
    at_once = bool(over.over_x or over.over_y)
    at_once = at_once or bool(explicit_axes(kernel) or varying_axes(kernel))
    kernel = kernel.astype(vector_dtype(kernel.dtype))
    scale = power_of_two(kernel, over=over.over_x + over.over_y)
    parts = _real_parts(kernel / scale.astype(kernel.dtype))
    vectors = _real_parts(v)
    image, n_terms = _image(parts, vectors, linear_map, at_once)

    # An entry that underflows, of the kernel or of a product, changes by less.
    small = 4 * float(jnp.finfo(scale.dtype).tiny)
    n_in = math.prod(v.shape) * count(over.over_x)
    n_out = math.prod(image[0].shape) * count(over.over_y)
    off = min(1.0, gamma(n_terms, scale.dtype)), small / jnp.minimum(scale, 1)
    sizes = _sum(map(jnp.abs, parts)), _sum(map(jnp.abs, vectors))
    most = linear_map.apply(off[0] * sizes[0] + off[1], sizes[1])
    lost, n = _length([most], over.over_y, at_once)
    lost = up(lost, n + n_terms + 8) + (small * n_out) ** 0.5
    lost = len(image) ** 0.5 * lost + small * (n_in + kernel.size) * n_out**0.5

    seen, n_seen = _length(image, over.over_y, at_once)
    longest, n_longest = _length(vectors, over.over_x, at_once)
    longest = longest + (small * n_in) ** 0.5
    rest = seen - up(lost + gamma(n_seen, seen.dtype) * seen, 8)
    # A number of units of roundoff below one is a floating point number.
    down = 1 - (n_longest + 5) * float(jnp.finfo(seen.dtype).eps) / 2
    low = scale * (rest / longest * down)
    return jnp.where(seen > 0, jnp.maximum(low, 0), seen)


def _sum(arrays: Iterable[Array]) -> Array:
    return functools.reduce(operator.add, arrays)


def _real_parts(array: Array) -> list[Array]:
    # As in the Gram iteration: the error of a complex product is not known.
    return [array.real, array.imag] if jnp.iscomplexobj(array) else [array]


def _image(
    parts: Sequence[Array],
    vectors: Sequence[Array],
    linear_map: ResolvedMap,
    at_once: bool,
) -> tuple[list[Array], int]:
    """Returns the real parts of ``v W``, and how many roundings an entry has."""
    products, n_terms = zip(
        *(_product(w, v, linear_map, at_once) for w in parts for v in vectors),
        strict=True,
    )
    if len(products) == 1:
        return list(products), n_terms[0]
    real, real_imag, imag_real, imag = products
    return [real - imag, real_imag + imag_real], n_terms[0] + 1


def _product(
    kernel: Array, v: Array, linear_map: ResolvedMap, at_once: bool
) -> tuple[Array, int]:
    """Returns ``v W`` of real numbers, and how many roundings an entry has."""
    n_out = math.prod(linear_map.out_shape)
    at_most = 1 if at_once else max(1, min(_PIECES, _NUMBERS // n_out))
    places, n_pieces, n_terms = linear_map.pieces(at_most)
    if n_pieces == 1:
        return linear_map.apply(kernel, v), n_terms * count(linear_map.split.over_x)

    def piece(i: Array) -> Array:
        # What is left out is an exact zero, which rounds nothing.
        return linear_map.apply(kernel, jnp.where(places == i, v, 0))

    pieces = lax.map(piece, jnp.arange(n_pieces))
    return _halved(pieces), n_terms + _depth(n_pieces)


def _halved(array: Array) -> Array:
    """Returns the sum over the first axis: halves are added until one is left."""
    missing = 2 ** _depth(len(array)) - len(array)
    array = jnp.pad(array, [(0, missing), *((0, 0) for _ in array.shape[1:])])
    while len(array) > 1:
        array = array[: len(array) // 2] + array[len(array) // 2 :]
    return array[0]


def _depth(n: int) -> int:
    """Returns how often n numbers are halved until one is left."""
    return max(0, n - 1).bit_length()


def _length(vectors: Sequence[Array], over: Names, at_once: bool) -> tuple[Array, int]:
    """Returns the length of a vector in real parts, and how many roundings it has."""
    squares = _sum(map(jnp.square, vectors))
    if at_once:
        squared, n = summed(jnp.sum(squares), over), squares.size * count(over)
    else:
        squared, n = _halved(squares.ravel()), _depth(squares.size)
    # The root has half of those of the sum.
    return jnp.sqrt(squared), (n + len(vectors) + 1) // 2 + 2
