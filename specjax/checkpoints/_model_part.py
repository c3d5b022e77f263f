"""Which part of a checkpoint is a model: one that is named, or all but optimizers.

An optimizer's state mirrors the params, so its moments are called kernel, too. It is
known by its name or by the fields that optax' states have; nothing is left out without
being listed.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from specjax.errors import checkpoint_error

_OPTIMIZER = re.compile(r"opt|opt_?states?|optimizers?|optimizer_?states?|tx_?state")
# Fields of optax' states beside their moments: adam, adafactor, adadelta, lamb, ...
_FIELDS = (
    {"mu", "nu"}, {"count", "mu"}, {"count", "nu"}, {"v_row", "v_col"}, {"e_g", "e_x"},
    {"acc_grads"}, {"sum_of_squares"}, {"inner_opt_state"}, {"estim_lr"},
)  # fmt: skip
# Fields that are a state's only one: a momentum, rmsprop's squares.
_ONLY_FIELDS = ({"trace"}, {"nu"})


def named_part(tree: Any, name: str, path: Path) -> Any:
    """Returns the subtree ``"a/b"`` as it lies in the tree, without anything beside it.

    Raises:
        CheckpointError: if there is none, with the names that there are.
    """
    parts = [part for part in name.split("/") if part]
    found = tree
    for depth, part in enumerate(parts):
        children = _children(found)
        if part not in children:
            above = "/".join(parts[:depth])
            names = ", ".join(list(children)[:8]) or "nothing"
            got = f"no {name} in it"
            need = f"one of what {above or 'it'} holds ({names})"
            some = "/".join([*parts[:depth], *list(children)[:1]])
            raise checkpoint_error(path, got, need, f"--params {some}")
        found = children[part]
    for part in reversed(parts):
        found = {part: found}
    return found


def without_optimizers(tree: Any) -> tuple[Any, list[str]]:
    """Returns the tree without optimizers' states, and where those are.

    Example:
        >>> tree = {"params": {"kernel": 1}, "adam": [{"count": 3, "mu": 1, "nu": 2}]}
        >>> without_optimizers(tree)
        ({'params': {'kernel': 1}, 'adam': {}}, ['adam/0'])
    """
    found = list(_optimizers(tree, ()))
    return _without(tree, found, ()), ["/".join(names) for names in found]


def _optimizers(node: Any, names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    children = _children(node)
    fields = set(children) if isinstance(node, Mapping) else set()
    named = bool(names) and _OPTIMIZER.fullmatch(names[-1]) and children
    only = fields in _ONLY_FIELDS and not _is_layer(children)
    if named or only or any(known <= fields for known in _FIELDS):
        yield names
        return
    for name, child in children.items():
        yield from _optimizers(child, (*names, name))


def _is_layer(children: Mapping[str, Any]) -> bool:
    """Says whether the one child is a layer of that name, and not a tree of layers."""
    return any("kernel" in _children(child) for child in children.values())


def _without(node: Any, found: list[tuple[str, ...]], names: tuple[str, ...]) -> Any:
    if not _children(node):
        return node
    return {
        name: _without(child, found, (*names, name))
        for name, child in _children(node).items()
        if (*names, name) not in found
    }


def _children(node: Any) -> Mapping[str, Any]:
    if isinstance(node, Mapping):
        return node
    if isinstance(node, list):
        return {str(index): child for index, child in enumerate(node)}
    return {}
