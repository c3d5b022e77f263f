"""The layers that a chain names, found in the params: none forgotten, none guessed."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from specjax import errors
from specjax._tree import Path, join
from specjax.certificates._activations import reason_for
from specjax.kernels._rules import Kernels, is_named
from specjax.linear_maps import StackedMap

_BIASES = ("bias", "b")
_MOST_NAMED = 8


class Layer(NamedTuple):
    """What a name in the chain stands for: a kernel, or a reason why there is none."""

    kernel: Path | None
    reason: str
    leaves: frozenset[Path]


def find_layers(
    names: Sequence[str],
    leaves: Mapping[Path, Any],
    selected: Mapping[Path, tuple[Any, StackedMap]],
    *,
    kernels: Kernels,
    unused: Sequence[str],
) -> dict[str, Layer]:
    """Returns what each name stands for.

    Args:
        names: of layers, as ``"block/Dense_0"`` or ``"block/Dense_0/kernel"``.
        leaves: every array of the params.
        selected: those that are kernels, with their linear maps.
        kernels: the rule that selected them.
        unused: names of what the network does without.

    Raises:
        ValueError: for each name that is not one layer, each kernel of many axes that
            is a matrix by a guess, and leaves without a name; all in one message.
    """
    messages, layers = [], {}
    for name in dict.fromkeys(names):
        try:
            layers[name] = layer = _layer(name, leaves, selected)
            if layer.kernel is not None:
                _check_map(layer.kernel, *selected[layer.kernel], kernels)
        except ValueError as error:
            messages.append(str(error))
    messages += _left_over(leaves, layers, unused)
    errors.raise_all(ValueError, messages)
    return layers


def _layer(
    name: str, leaves: Mapping[Path, Any], selected: Mapping[Path, Any]
) -> Layer:
    """Returns what a name stands for: a kernel with its bias, or a reason."""
    below = _below(name, leaves)
    inside = [path for path in below if path in selected]
    projections = {path[-2] for path in inside if len(path) > 1}
    own = tuple(name.split("/"))
    reason = reason_for(own[-1])
    if {"query", "key"} <= projections:
        reason = reason_for("attention")
    elif not inside:
        reason = reason or "it has no kernel: what it does is not in its params"
    elif len(inside) == 1 and inside[0] in (own, (*own, inside[0][-1])):
        biases = {(*inside[0][:-1], bias) for bias in _BIASES} & leaves.keys()
        if set(below) <= biases | set(inside):
            return Layer(inside[0], "", frozenset(biases | set(inside)))
        reason = None
    if reason is not None:
        return Layer(None, reason, frozenset(below))
    message = errors.message(
        name,
        got=f"a module with {_listed(below)}",
        need="a layer with one kernel and at most a bias",
        fix="the name of each layer in it, in the order in which they are applied",
    )
    raise ValueError(message)


def _below(name: str, leaves: Mapping[Path, Any]) -> list[Path]:
    """Returns the leaves of the module or of the leaf with this name."""
    own = tuple(name.split("/"))
    below = [path for path in leaves if path[: len(own)] == own]
    if not below:
        message = errors.message(
            name,
            got="a name that is not in the params",
            need="a module or a kernel of the params",
            fix=f"one of {_listed(list(dict.fromkeys(p[:-1] or p for p in leaves)))}",
        )
        raise ValueError(message)
    return below


def _check_map(path: Path, leaf: Any, linear_map: StackedMap, kernels: Kernels) -> None:
    """Raises for a kernel of many axes that is a matrix by a rule's guess."""
    axes = linear_map.one.matrix_axes
    if axes is None or is_named(path, kernels):
        return
    if sum(map(len, axes)) > 2:
        message = errors.message(
            join(path),
            got=f"{errors.describe(leaf)}, read as a matrix by its name and shape",
            need="to know that it is one: the norm of a convolution is up to "
            "sqrt(window size) times that of its reshaped kernel",
            fix=f"kernels={{r'{join(path)}': specjax.Conv(input_shape=...), r'.*': "
            "specjax.flax_kernels}, or specjax.Matrix(...) there for a DenseGeneral",
        )
        raise ValueError(message)


def _left_over(
    leaves: Mapping[Path, Any], layers: Mapping[str, Layer], unused: Sequence[str]
) -> list[str]:
    """Returns the message for leaves without a part, and for names without a leaf."""
    messages, used = [], {p for layer in layers.values() for p in layer.leaves}
    for name in unused:
        try:
            used |= set(_below(name, leaves))
        except ValueError as error:
            messages.append(f"unused {error}")
    forgotten = [path for path in leaves if path not in used]
    if forgotten:
        message = errors.message(
            "parts",
            got=f"no part for {_listed(forgotten)} of the params",
            need="every layer of the network in the chain",
            fix="the missing names in parts, or in unused=[...] if the network does "
            "without them",
        )
        messages.append(message)
    return messages


def _listed(paths: Sequence[Path]) -> str:
    more = ", ..." * (len(paths) > _MOST_NAMED)
    return ", ".join(map(join, paths[:_MOST_NAMED])) + more
