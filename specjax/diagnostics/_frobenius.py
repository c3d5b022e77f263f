"""The Frobenius norm of a linear map, in one read of the kernel."""

import jax.numpy as jnp
from jaxtyping import Array, Inexact, Real

from specjax._core.batch import over_batch, separate_cast
from specjax._core.vectors import vector_dtype
from specjax.linear_maps import ResolvedMap
from specjax.linear_maps._sharding import total


@over_batch
def frobenius(
    kernel: Inexact[Array, " ..."], *, linear_map: ResolvedMap
) -> Real[Array, ""] | None:
    """Returns the root of the sum of all squared singular values, in float32 at least.

    None for a linear map that does not say its `squares`. Numbers for entries of 1e-18
    to 1e18 in float32, as `_core.vectors.unit`.
    """
    wide = vector_dtype(kernel.dtype)
    kernel = separate_cast(kernel, jnp.zeros((), wide)).astype(wide)
    squares = linear_map.squares(kernel)
    if squares is None:
        return None
    split = linear_map.split
    return jnp.sqrt(total(squares, split.over_x + split.over_y))
