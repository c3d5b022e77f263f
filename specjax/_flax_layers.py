"""The linear map of one layer's kernel, from the attributes that the layer has.

A wrapper knows its layer, so nothing needs to be decided by a name. What is shared by
the Linen and the NNX wrapper is here; neither library is imported.
"""

import re
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
from jax.typing import DTypeLike

from specjax import errors
from specjax._tree import Path, join, named_leaves, replace_leaves
from specjax.kernels._rules import Kernels, Rule, select
from specjax.linear_maps import Conv, ConvLocal, LinearMap, Matrix
from specjax.linear_maps._resolved import as_tuple
from specjax.transforms import Step

Shape: TypeAlias = tuple[int, ...]


def layer_kernel(matrix: Matrix, rank: int, name: str = "kernel") -> Rule:
    """Returns the rule of a layer with one kernel, of `rank` axes when not stacked.

    Axes in front of the layer's own are the stack of a vmap or a scan over the layer:
    batch axes. (A lifted module does not say which axis it stacked: one that is not in
    front has to be named in `kernels`.) `matrix` names its own axes from the end.
    """

    def rule(path: Path, leaf: Any) -> LinearMap | None:
        if path != (name,):
            return None
        n_stacks = len(leaf.shape) - rank
        batch_axis = (*range(n_stacks), *as_tuple(matrix.batch_axis))
        return Matrix(matrix.in_axis, matrix.out_axis, batch_axis)

    return rule


def general_kernel(n_batch: int, n_in: int, n_out: int) -> Rule:
    """Returns the rule of a kernel whose axes are batch, input, output, in order."""
    rank = n_batch + n_in + n_out
    batch_axis = tuple(range(-rank, -n_in - n_out))
    matrix = Matrix(out_axis=tuple(range(-n_out, 0)), batch_axis=batch_axis)
    return layer_kernel(matrix, rank)


def input_shape(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Shape:
    """Returns the shape of a call's first argument, () if it has none."""
    return getattr(args[0] if args else kwargs.get("inputs"), "shape", ())


def operator_kernel(layer: Any, inputs: Shape, *, transposed: bool = False) -> Rule:
    """Returns the rule of a convolution layer whose norm is that of the operator.

    Args:
        layer: a Conv or ConvTranspose of Flax; both libraries have the same words.
        inputs: shape of its input, (..., spatial axes, channels).
        transposed: whether it is a ConvTranspose.
    """
    size = layer.kernel_size
    n_spatial = len(size) if isinstance(size, tuple | list) else 1
    if getattr(layer, "mask", None) is not None:
        why = "whose mask changes the kernel after it is normalized"
        return refuse_kernel(f"a {type(layer).__name__}", why)
    words = {
        "input_shape": tuple(inputs[-n_spatial - 1 : -1]),
        "window_strides": _plain(layer.strides),
        "padding": _plain(layer.padding),
        "rhs_dilation": _plain(layer.kernel_dilation),
        "transposed": transposed,
    }
    if transposed:
        words["transpose_kernel"] = layer.transpose_kernel
    else:
        words["lhs_dilation"] = _plain(layer.input_dilation)
        words["feature_group_count"] = layer.feature_group_count

    def rule(path: Path, leaf: Any) -> LinearMap | None:
        if path != ("kernel",):
            return None
        n_stacks = len(leaf.shape) - n_spatial - 2
        return Conv(**words, batch_axis=tuple(range(n_stacks)))

    return rule


def _local_kernel(layer: Any, inputs: Shape) -> Rule:
    window = layer.kernel_size
    window = tuple(window) if isinstance(window, tuple | list) else (window,)
    local = ConvLocal(
        input_shape=tuple(inputs[-len(window) - 1 : -1]),
        window_shape=window,
        window_strides=_plain(layer.strides),
        padding=_plain(layer.padding),
        lhs_dilation=_plain(layer.input_dilation),
        rhs_dilation=_plain(layer.kernel_dilation),
    )
    return lambda path, leaf: local if path == ("kernel",) else None


def _plain(word: Any) -> Any:
    """Returns strides, dilation or padding as `Conv` takes them: Flax's None is one."""
    if isinstance(word, tuple | list):
        return tuple(map(_plain, word))
    return 1 if word is None else word


def check_input_size(
    where: str, params: Any, state: Any, kernels: Kernels, inputs: Shape
) -> None:
    """Raises a ValueError if the operators of this input are not those of the state."""
    held = named_leaves(state)
    for path, (_, linear_map) in select(params, kernels).items():
        u = held.get((*path, "u"))
        need = linear_map.out_shape
        operator = linear_map.one.of == "operator"
        if operator and u is not None and u.shape != need:
            message = errors.message(
                f"{where}: {join(path)}",
                got=f"an input of shape {inputs}, whose u has shape {need}",
                need=f"the input size that the state was made for, with u of {u.shape}",
                fix="an input of that size, a new state from init with this one, or "
                "operator=False, whose matrix is the same for every size",
            )
            raise ValueError(message)


def matrices_only(rule: Rule) -> Rule:
    """Returns the rule with an error for a kernel of more than two axes."""

    def checked(path: Path, leaf: Any) -> LinearMap | None:
        linear_map = rule(path, leaf)
        if linear_map is not None and len(leaf.shape) > 2:
            message = errors.message(
                join(path),
                got=errors.describe(leaf),
                need="a kernel of two axes, as error_on_non_matrix=True asks for",
                fix="error_on_non_matrix=False",
            )
            raise errors.UndecidedKernelError(message)
        return linear_map

    return checked


def einsum_kernel(einsum_str: str) -> Rule:
    """Returns the rule of an Einsum layer: each letter of the kernel names its side.

    Input side: summed over. Output side: in the output only. Batch: in both operands
    and in the output.

    Raises:
        ValueError: if the kernel is the only one with a letter, or the string is not
            ``"inputs,kernel->output"``.

    Example:
        >>> import numpy as np
        >>> einsum_kernel("abc,acd->abd")(("kernel",), np.zeros((2, 3, 4)))
        Matrix(in_axis=(-2,), out_axis=(-1,), batch_axis=(-3,), spec=None)
    """
    parts = re.fullmatch(r"([^,]*),([a-zA-Z]+)->(.*)", einsum_str.replace(" ", ""))
    inputs, kernel, output = parts.groups() if parts else ("", "", "")
    sides: dict[tuple[bool, bool], list[int]] = {}
    for axis, letter in enumerate(kernel, start=-len(kernel)):
        sides.setdefault((letter in inputs, letter in output), []).append(axis)
    if not kernel or (False, False) in sides:
        message = errors.message(
            "Einsum",
            got=f"einsum_str={einsum_str!r}",
            need="'inputs,kernel->output' with each letter of the kernel in the inputs "
            "or in the output",
            fix="kernels={'kernel': specjax.Matrix(in_axis=..., out_axis=...)}",
        )
        raise ValueError(message)
    in_axis = tuple(sides.get((True, False), ()))
    out_axis = tuple(sides.get((False, True), ()))
    batch_axis = tuple(sides.get((True, True), ()))
    return layer_kernel(Matrix(in_axis, out_axis, batch_axis), len(kernel))


def cast(params: Any, kernels: Kernels, dtype: DTypeLike | None) -> Any:
    """Returns the params with the kernels in `dtype`; None leaves them as they are."""
    if dtype is None:
        return params
    selected = select(params, kernels).items()
    return replace_leaves(
        params, {p: kernel.astype(dtype) for p, (kernel, _) in selected}
    )


def refuse_operator(name: str) -> Rule:
    """Returns the rule of a layer whose kernels are operators that no one knows."""
    return _refusal(
        lambda kernel: f"operator=True and the kernel {kernel} of a {name}",
        need="a convolution of Flax itself, whose words say what the operator is",
        fix="wrapping each convolution inside it, or kernels={'.../kernel': "
        "specjax.Conv(input_shape=..., ...)}",
    )


def refuse_kernel(what: str, why: str) -> Rule:
    """Returns the rule of a layer whose kernel can not be read as one matrix."""
    return _refusal(
        lambda kernel: f"the kernel {kernel} of {what}, {why}",
        need="a kernel that is one matrix",
        fix="kernels={'kernel': specjax.Matrix(in_axis=..., out_axis=..., "
        "batch_axis=...)}, or kernels={'kernel': None} to leave it as it is",
    )


def _refusal(got: Callable[[str], str], *, need: str, fix: str) -> Rule:
    def rule(path: Path, leaf: Any) -> LinearMap | None:
        if path[-1:] != ("kernel",):
            return None
        message = errors.message(
            join(path), got=got(errors.describe(leaf)), need=need, fix=fix
        )
        raise errors.UndecidedKernelError(message)

    return rule


# How Flax' layers are read, by class; a subclass is read as its nearest ancestor here.
# Linen and NNX name their attributes alike, but for those of the general layers.
_MATRICES: dict[str, Callable[[Any], Rule]] = {
    "Dense": lambda layer: layer_kernel(Matrix(), 2),
    "Linear": lambda layer: layer_kernel(Matrix(), 2),
    "Conv": lambda layer: layer_kernel(Matrix(), _length(layer.kernel_size) + 2),
    "ConvLocal": lambda layer: refuse_kernel(
        "a ConvLocal", "another filter at each place"
    ),
    "ConvTranspose": lambda layer: layer_kernel(
        Matrix(out_axis=-2 if layer.transpose_kernel else -1),
        _length(layer.kernel_size) + 2,
    ),
    "DenseGeneral": lambda layer: general_kernel(
        len(layer.batch_dims), _length(layer.axis), _length(layer.features)
    ),
    "LinearGeneral": lambda layer: general_kernel(
        len(layer.batch_axis), _length(layer.in_features), _length(layer.out_features)
    ),
    "Einsum": lambda layer: (
        refuse_kernel("an Einsum", "whose einsum_str only the call knows")
        if layer.einsum_str is None
        else einsum_kernel(layer.einsum_str)
    ),
}


def matrix_rule(layer: Any, otherwise: Rule) -> Rule:
    """Returns the rule of a layer's kernel as a matrix.

    Args:
        layer: of Linen or NNX.
        otherwise: the rule of what is no layer of Flax.
    """
    kind = _kind(layer)
    return _MATRICES[kind](layer) if kind else otherwise


def operator_rule(layer: Any, inputs: Shape) -> Rule:
    """Returns the rule of a layer whose norm is that of the operator on its inputs."""
    kind = _kind(layer)
    if kind is None:
        return refuse_operator(type(layer).__name__)
    if kind == "ConvLocal":
        return _local_kernel(layer, inputs)
    if kind in ("Conv", "ConvTranspose"):
        return operator_kernel(layer, inputs, transposed=kind == "ConvTranspose")
    return _MATRICES[kind](layer)  # the operator is the matrix


def _kind(layer: Any) -> str | None:
    for ancestor in type(layer).__mro__:
        if ancestor.__module__.startswith("flax.") and ancestor.__name__ in _MATRICES:
            return ancestor.__name__
    return None


def _length(value: Any) -> int:
    return len(value) if isinstance(value, tuple | list) else 1


class Once:
    """Calls ``apply(params, state)``, or gives its last result if nothing changed.

    So a layer that is called several times in one forward pass is normalized once: the
    second call would find the u that the first one left and take another step. What
    tells the calls apart is the identity of the arrays: if params and state are the
    very objects that the last call took and left, its result holds. Identical tracers
    are of one trace, so nothing can leak into another.
    """

    def __init__(self) -> None:
        """Starts with nothing remembered."""
        self._left: list[Any] | None = None
        self._result: Step | None = None

    def __call__(
        self, apply: Callable[[Any, Any], Step], params: Any, state: Any
    ) -> Step:
        """Returns what `apply` does."""
        if self._result is None or not _same(self._left, (params, state)):
            self._result = apply(params, state)
            self._left = jax.tree.leaves((params, self._result.state))
        return self._result


def _same(left: list[Any] | None, now: tuple[Any, Any]) -> bool:
    leaves = jax.tree.leaves(now)
    return left is not None and [*map(id, left)] == [*map(id, leaves)]
