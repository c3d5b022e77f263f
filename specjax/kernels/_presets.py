"""Rules for the trees of other libraries: haiku by its names, equinox by its types.

Neither library is imported.
"""

import re
from typing import Any

import jax

from specjax._tree import Path, join, names_of
from specjax.kernels._rules import Rule, undecided
from specjax.linear_maps import LinearMap, Matrix


def haiku_kernels(path: Path, leaf: Any) -> LinearMap | None:
    """The rule for trees with haiku's names: a leaf named ``w``.

    2-D is a Linear; 4-D and 5-D are a Conv (3-D below ``conv1_d``): the last axis is
    the output side, the one before it for a transposed convolution. Below
    ``hk.layer_stack`` the axis of the stack is in front.

    Args:
        path: the leaf's path, for example ``("net/~/linear", "w")``.
        leaf: the leaf, or anything with its shape.

    Raises:
        ValueError: for a kernel whose axes these names do not decide.

    Example:
        >>> import numpy as np
        >>> haiku_kernels(("net/~/conv2_d_transpose", "w"), np.zeros((4, 4, 8, 16)))
        Matrix(in_axis=None, out_axis=-2, batch_axis=(), spec=None)
    """
    if path[-1:] != ("w",):
        return None
    names = join(path[:-1]).split("/")
    n_stacks = sum(name.startswith("__layer_stack") for name in names)
    conv_1d = re.fullmatch(r".*conv1_d(_transpose)?(_\d+)?", names[-1])
    if len(leaf.shape) - n_stacks not in ((3,) if conv_1d else (2, 4, 5)):
        raise undecided(path, leaf)
    transposed = re.search(r"conv\d_d_transpose(_\d+)?$", names[-1])
    return Matrix(out_axis=-2 if transposed else -1, batch_axis=tuple(range(n_stacks)))


# What equinox.nn keeps kernels in, and what has weights that are none. The output side
# of every kernel is the first axis of the layer's own.
_EQUINOX_LINEAR = frozenset({"Linear", "GRUCell", "LSTMCell"})
_EQUINOX_CONV = frozenset({"Conv", "ConvTranspose"})
_EQUINOX_OTHER = frozenset({"Embedding", "LayerNorm", "RMSNorm", "GroupNorm"})


def equinox_kernels(model: Any) -> Rule:
    """Returns the rule for an equinox model, read off the types of its layers.

    Names would not do: an Embedding's ``weight`` looks like a Linear's. Every weight of
    ``Linear``, ``Conv*``, ``ConvTranspose*``, ``GRUCell`` and ``LSTMCell`` is a kernel.
    Axes in front of the layer's own (``eqx.filter_vmap``) are batch axes.

    Args:
        model: the model, or a tree of the same modules (``eqx.filter(model, ...)``).

    Returns:
        A rule for `kernels`. It raises a ValueError for a ``weight`` of two or more
        axes in a module that equinox does not define: name that one in a mapping.

    Example:
        >>> import equinox as eqx, jax, specjax
        >>> model = eqx.nn.MLP(2, 1, 8, 1, key=jax.random.key(0))
        >>> params = eqx.filter(model, eqx.is_inexact_array)
        >>> rule = equinox_kernels(model)
        >>> state = specjax.sn_init(params, kernels=rule)
        >>> params_sn, state = specjax.sn_apply(params, state, kernels=rule)
    """
    layers, _ = jax.tree_util.tree_flatten_with_path(
        model, is_leaf=lambda node: _equinox_kind(node) is not None
    )
    kinds = {names_of(path): (layer, _equinox_kind(layer)) for path, layer in layers}

    def rule(path: Path, leaf: Any) -> LinearMap | None:
        layer, kind = kinds.get(path[:-1], (None, None))
        if not path[-1:] or not path[-1].startswith("weight") or len(leaf.shape) < 2:
            return None
        if kind in _EQUINOX_OTHER:
            return None
        if kind is None:
            raise undecided(path, leaf)
        rank = layer.num_spatial_dims + 2 if kind in _EQUINOX_CONV else 2
        n_stacks = len(leaf.shape) - rank
        return Matrix(out_axis=n_stacks, batch_axis=tuple(range(n_stacks)))

    return rule


def _equinox_kind(node: Any) -> str | None:
    """Returns the name of the equinox layer that a node is (a subclass counts)."""
    known = _EQUINOX_LINEAR | _EQUINOX_CONV | _EQUINOX_OTHER
    for ancestor in type(node).__mro__:
        if ancestor.__module__.startswith("equinox.") and ancestor.__name__ in known:
            return ancestor.__name__
    return None
