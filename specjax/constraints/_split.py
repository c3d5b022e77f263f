"""A params tree in two: directions v, in the tree of the params, and gains g.

``{"g": {"Dense_0": {"kernel": ...}}, "v": params}``: plain arrays under plain keys, to
be trained and saved as one tree. Only kernels have a gain; all else is in v alone.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array

from specjax import errors
from specjax._tree import Path, join, named_leaves
from specjax.constraints._units import NumberShapes, Selected
from specjax.kernels._rules import Kernels, select
from specjax.linear_maps import StackedMap

Split: TypeAlias = dict[str, Any]
Shapes: TypeAlias = Callable[[Selected], dict[Path, NumberShapes]]


def build(params: Any, gains: Mapping[Path, Array]) -> Split:
    """Returns the split tree of params and the gains of its kernels."""
    nested: Any = {}
    for path, gain in gains.items():
        if not path:  # the params are one array
            return {"g": gain, "v": params}
        node = nested
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = gain
    return {"g": nested, "v": params}


def read(
    split: Any, kernels: Kernels, shapes: Shapes, made_by: str
) -> dict[Path, tuple[Array, Array, StackedMap]]:
    """Returns each kernel's direction, its gain and its linear map.

    Args:
        split: as `build` returns it.
        kernels: as it was made with.
        shapes: returns the shapes that each kernel's gain may have.
        made_by: the function that makes such a tree, for messages.

    Raises:
        TypeError: if it is no such tree, or a gain is not an array of real floats.
        ValueError: if a gain is missing, left over or of another shape; all of them in
            the one message. And as `sn_init` about kernels.
    """
    if not isinstance(split, Mapping) or set(split) != {"g", "v"}:
        raise TypeError(_not_split(split, made_by))
    selected, held = select(split["v"], kernels), named_leaves(split["g"])
    need = shapes(selected)
    messages = [
        errors.message(
            f"g {join(path)}",
            got=errors.describe(held[path]) if path in held else "nothing",
            need=_needed(need.get(path)),
            fix=f"split = {made_by}(params) with the same kernels=...",
        )
        for path in need | held
        if path not in held or not _fits(held[path], need.get(path, ()))
    ]
    errors.raise_all(ValueError, messages)
    return {
        path: (jnp.asarray(kernel), jnp.asarray(held[path]), linear_map)
        for path, (kernel, linear_map) in selected.items()
    }


def _fits(gain: Any, shapes: NumberShapes) -> bool:
    dtype = getattr(gain, "dtype", None)
    floats = dtype is not None and jnp.issubdtype(dtype, jnp.floating)
    return floats and gain.shape in shapes


def _needed(shapes: NumberShapes | None) -> str:
    if shapes is None:
        return "no such entry"
    unique = dict.fromkeys("[" + ",".join(map(str, shape)) + "]" for shape in shapes)
    return "floats of shape " + " or ".join(unique)


def _not_split(split: Any, made_by: str) -> str:
    kind = f"a {type(split).__name__}"
    keys = f" of {', '.join(map(str, split))}" if isinstance(split, Mapping) else ""
    return errors.message(
        "split",
        got=kind + keys,
        need="the mapping of g and v that the function makes",
        fix=f"split = {made_by}(params)",
    )
