"""One number of a stack of kernels: the sum over its slices, wherever they lie."""

from typing import Any

from jaxtyping import Array, Real

from specjax.linear_maps._sharding import names_on_axis, total


def over_stack(values: Real[Array, " ..."], linear_map: Any) -> Real[Array, ""]:
    """Returns the sum, of the slices on other devices too if a spec splits the stack.

    The map is resolved.
    """
    spec = getattr(linear_map, "spec", None)
    split = (names_on_axis(spec, axis) for axis in linear_map.batch_axis)
    return total(values, tuple(name for names in split for name in names))
