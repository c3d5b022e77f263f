"""One number of a stack of kernels: the sum over its slices, wherever they lie."""

from jaxtyping import Array, Real

from specjax.linear_maps import StackedMap
from specjax.linear_maps._sharding import total


def over_stack(values: Real[Array, " ..."], linear_map: StackedMap) -> Real[Array, ""]:
    """Returns the sum, of slices on other devices too if a spec splits the stack."""
    over = tuple(name for names in linear_map.batch_split for name in names)
    return total(values, over)
