"""Trees by name: every leaf of a params tree with its path as a tuple of strings.

A box around a leaf (`nn.Partitioned`, `nnx.Param`) is a node with one attribute, so the
leaf in a box has the path of the box, and the box comes back untouched.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, SequenceKey

from specjax import errors

Path: TypeAlias = tuple[str, ...]

# Where a key of `jax.tree_util` keeps its name.
_NAME = {
    GetAttrKey: "name",
    SequenceKey: "idx",
    DictKey: "key",
    FlattenedIndexKey: "key",
}
# The attribute in which flax keeps the array of a box or of a variable.
_BOXED = ("value", "raw_value")


def named_leaves(tree: Any) -> dict[Path, Any]:
    """Returns the leaves of a tree by path, in the order of `jax.tree.leaves`.

    Example:
        >>> named_leaves({"Dense_0": {"kernel": 1, "list": [2]}})
        {('Dense_0', 'kernel'): 1, ('Dense_0', 'list', '0'): 2}
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    named = {names_of(path): leaf for path, leaf in leaves}
    if len(named) < len(leaves):
        paths = [names_of(path) for path, _ in leaves]
        twice = sorted({join(path) for path in paths if paths.count(path) > 1})
        message = errors.message(
            twice[0],
            got="two leaves of that name",
            need="one",
            fix="keys that differ as strings",
        )
        raise ValueError(message)
    return named


def replace_leaves(tree: Any, new: Mapping[Path, Any]) -> Any:
    """Returns the tree with the leaves at the paths of `new` replaced."""
    leaves, treedef = jax.tree_util.tree_flatten_with_path(tree)
    return treedef.unflatten([new.get(names_of(path), leaf) for path, leaf in leaves])


def join(path: Path) -> str:
    """Returns the path as rules and messages spell it: ``"Dense_0/kernel"``."""
    return "/".join(path)


def names_of(path: tuple[Any, ...]) -> Path:
    """Returns the names on a path of `jax.tree_util`, without that of a box."""
    if path and isinstance(path[-1], GetAttrKey) and path[-1].name in _BOXED:
        path = path[:-1]
    return tuple(str(getattr(key, _NAME.get(type(key), ""), key)) for key in path)
