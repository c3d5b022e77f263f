"""A layer's product with a normalized kernel: ``(x W) scale`` for ``x (W scale)``.

The two are equal, and the smaller array is the one to scale. A normalized kernel is
written; its derivative is written and read again, because sigma's part of it needs all
of it first. A scaled product is kept and read again in place of the three.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from specjax._spectral_norm import Factor
from specjax._vectors import vector_dtype

Product: TypeAlias = Callable[..., Array]

# Up to how many times the kernel's size a product is the one to scale: its two passes
# for three over the kernel, and none that the optimizer's would have to wait for.
EVEN = 2


def product_words(
    layer: Any, word: str | None, held: Array | None, factors: Iterable[Factor]
) -> dict[str, Any]:
    """Returns the attribute of a Flax layer that may scale its product, if it has one.

    Args:
        layer: of Linen or NNX.
        word: the attribute that holds its product, None if none does.
        held: what the layer has for its kernel, None if nothing. What anything between
            us and the layer made of a normalized kernel is not one, and has no factor.
        factors: of all kernels that were normalized.
    """
    factor = next((f for f in factors if f.normalized is held), None)
    plain = all(getattr(layer, w, None) is None for w in ("mask", f"{word}_cls"))
    if word is None or factor is None or factor.scale.ndim or not plain:
        return {}
    product = getattr(layer, word) or getattr(lax, word)
    return {word: on_the_smaller(product, factor.kernel, factor.scale)}


def on_the_smaller(product: Product, kernel: Array, scale: Array) -> Product:
    """Returns `product` for a layer to call with its input and ``kernel * scale``.

    Where the result is the smaller array, the kernel itself is multiplied, and the
    result scaled; what the layer gave as its kernel is then not used, and does not come
    to be in a jitted program.

    Args:
        product: `lax.dot_general`, `lax.conv_general_dilated` or one like them.
        kernel: before it is normalized, one and not a stack.
        scale: what it is multiplied with, a real number.
    """

    def scaled(inputs: Array, normalized: Array, *args: Any, **kwargs: Any) -> Array:
        result = jax.eval_shape(lambda: product(inputs, normalized, *args, **kwargs))
        # In float16 a product that is not scaled yet may not be finite.
        if result.size > EVEN * kernel.size or jnp.finfo(result.dtype).maxexp < 100:
            return product(inputs, normalized, *args, **kwargs)
        y = product(inputs, kernel.astype(normalized.dtype), *args, **kwargs)
        wide = vector_dtype(y.dtype)
        return (y.astype(wide) * scale).astype(y.dtype)

    return scaled
