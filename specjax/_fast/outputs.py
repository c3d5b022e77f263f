"""A layer's product with a normalized kernel: ``(x W) scale`` for ``x (W scale)``.

The two are equal, and the smaller array is the one to scale. A normalized kernel is
written; its derivative is written and read again, because sigma's part of it needs all
of it first. A scaled product is kept and read again in place of the three.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array

from specjax._core.kernel import Normalized
from specjax._core.vectors import vector_dtype

Product: TypeAlias = Callable[..., Array]

# Scale the layer's output instead of its kernel when the output has at most this many
# times the kernel's elements: scaling the output costs two memory passes, scaling the
# kernel three, and the optimizer has to wait for them.
MAX_OUTPUT_RATIO = 2


class Factor(NamedTuple):
    """A kernel, what it is multiplied with, and what comes of it.

    Attributes:
        kernel: as it was given.
        scale: a number, or one for each slice of a stack.
        normalized: the very array in the params that are returned.
    """

    kernel: Array
    scale: Array
    normalized: Array


class ScaledProducts:
    """The products of one step's kernels with inputs, for the layers that have them."""

    def __init__(self, kernels: Sequence[Array], normalized: Sequence[Normalized]):
        """Takes the kernels of a step, and what became of each."""
        self.factors = [
            Factor(kernel, new.scale, new.kernel)
            for kernel, new in zip(kernels, normalized, strict=True)
        ]

    def of_layer(
        self, layer: Any, word: str | None, held: Any, promote: Any
    ) -> Product | None:
        """Returns the product that a Flax layer may scale, None if it may not.

        Args:
            layer: of Linen or NNX.
            word: the attribute that holds its product, None if none does.
            held: what the layer has for its kernel, None if nothing. What anything
                between us and the layer made of a normalized kernel is not one, and has
                no factor.
            promote: the library's `promote_dtype`; a layer with another may change its
                kernel before it multiplies.
        """
        factor = _factor_of(held, self.factors)
        if factor is None or not is_plain(layer, word):
            return None
        if getattr(layer, "promote_dtype", promote) is not promote:
            return None
        return functools.partial(_on_the_smaller, getattr(lax, str(word)), factor)

    def where_given(self, layer: Any, word: str) -> Product | None:
        """Returns a product that scales its result where it is given such a kernel.

        For a layer that something may transform, or write to the kernel of, so that
        only the product sees what it is called with. None for a layer with a product of
        its own.
        """
        return WhereGiven(word, self.factors) if is_plain(layer, word) else None


def is_plain(layer: Any, word: str | None) -> bool:
    """Returns whether a layer multiplies by lax' own product and does nothing else.

    A product of the user's own gets its normalized kernel: it may round it, count its
    calls, or be of other operands.
    """
    if word is None or getattr(layer, word) not in (None, getattr(lax, word)):
        return False
    return all(getattr(layer, w, None) is None for w in ("mask", f"{word}_cls"))


class WhereGiven:
    """A product that scales its result where it is called with a normalized kernel.

    One for all layers of a network, and equal to that of another call of it with the
    same kernels: layers that were alike as trees are alike with it, and no function of
    a layer is traced again.
    """

    def __init__(self, word: str, factors: list[Factor]) -> None:
        """Makes the product of one attribute."""
        self._product = getattr(lax, word)
        self._factors = factors

    def __call__(self, inputs: Array, kernel: Array, *args: Any, **kwargs: Any) -> Any:
        """Returns the product, scaled after it or before."""
        factor = _factor_of(kernel, self._factors)
        if factor is None:
            return self._product(inputs, kernel, *args, **kwargs)
        return _on_the_smaller(self._product, factor, inputs, kernel, *args, **kwargs)

    def __eq__(self, other: object) -> bool:
        """Returns whether both are the same product with the same kernels."""
        return isinstance(other, WhereGiven) and self._key() == other._key()

    def __hash__(self) -> int:
        """Returns a number that is equal for equal ones."""
        return hash(self._key())

    def _key(self) -> tuple[Product, int]:
        return self._product, id(self._factors)


def _factor_of(kernel: Any, factors: Iterable[Factor]) -> Factor | None:
    """Returns what one number made of a kernel, if one did."""
    found = (f for f in factors if f.normalized is kernel and not f.scale.ndim)
    return next(found, None)


def _on_the_smaller(
    product: Product,
    factor: Factor,
    inputs: Array,
    normalized: Array,
    *args: Any,
    **kwargs: Any,
) -> Array:
    """Returns the product of an input with a kernel times its scale.

    Where the result is the smaller array, the kernel itself is multiplied, and the
    result scaled; what the layer gave as its kernel is then not used, and does not come
    to be in a jitted program.

    Args:
        product: `lax.dot_general` or `lax.conv_general_dilated`.
        factor: of the kernel.
        inputs: the layer's.
        normalized: the kernel as the layer has it, cast to what it multiplies.
        *args: the product's.
        **kwargs: the product's.
    """
    arrays = jax.typeof(inputs), jax.typeof(normalized)
    result = jax.eval_shape(lambda x, w: product(x, w, *args, **kwargs), *arrays)
    # In float16 a kernel or a product that is not scaled yet may not be finite.
    least = min(jnp.finfo(x.dtype).maxexp for x in (normalized, result))
    if result.size > MAX_OUTPUT_RATIO * factor.kernel.size or least < 100:
        return product(inputs, normalized, *args, **kwargs)
    y = product(inputs, _cast(factor.kernel, normalized.dtype), *args, **kwargs)
    return _cast(_cast(y, vector_dtype(y.dtype)) * factor.scale, y.dtype)


def _cast(x: Array, dtype: DTypeLike) -> Array:
    # To trace a cast that is none takes as long as one that is.
    return x if x.dtype == dtype else x.astype(dtype)
