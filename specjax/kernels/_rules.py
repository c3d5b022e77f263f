"""Which leaves are kernels, and which linear map each one is.

A rule is a function of a leaf's path and the leaf, or a mapping from a regular
expression to a linear map. `flax_kernels` is the rule for Flax's own names; `select` is
the one place where a rule meets a tree.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from specjax import errors
from specjax._tree import Path, join, named_leaves
from specjax.linear_maps import LinearMap, Matrix, StackedMap, resolve
from specjax.linear_maps._check_spec import check_spec

Rule: TypeAlias = Callable[[Path, Any], LinearMap | None]
# None is `flax_kernels`.
Kernels: TypeAlias = Rule | Mapping[str, LinearMap | Rule | None] | None

# How Flax names what it lifts: one prefix for each transformation, before the class.
_STACKING = re.compile(r"(Scan|Vmap)(?=[A-Z_])")
_LIFTED = re.compile(r"(?:(?:Scan|Vmap|Checkpoint|Remat|Jit|Map_variables)(?=[A-Z_]))*")
# nn.remat_scan stacks some number of axes that its name does not tell.
_UNKNOWN_STACK = re.compile(r"(?:Checkpoint|Jit)*Remat_scan.*")
# The ranks that a kernel can have below a module of this name, without any stack axes.
_RANKS = (
    (re.compile(r"Dense_\d+|DenseGeneral_\d+"), (2,)),
    (re.compile(r"query|key|value|out"), (2, 3)),
    (re.compile(r"Conv_\d+|ConvTranspose_\d+"), (3, 4, 5)),
    (re.compile(r"Einsum_\d+|ConvLocal_\d+"), ()),
    (re.compile(r".*"), (2, 4, 5)),
)


def flax_kernels(path: Path, leaf: Any) -> Matrix | None:
    """The rule for trees with Flax's names (Linen and NNX): a leaf named ``kernel``.

    * 2-D is a Dense; 4-D and 5-D are a Conv, read as Miyato's matrix: the last axis is
      the output side, the rest the input side. (For a ConvTranspose with
      ``transpose_kernel=True`` that is Miyato's matrix of the convolution whose
      transpose it is, which has the same norm as an operator.)
    * 3-D is a Conv below ``Conv_*``, and an attention projection below ``query``,
      ``key``, ``value`` or ``out``.
    * Below a lifted module (``Scan*``, ``Vmap*``) the axis of the stack is in front and
      a batch axis. A 2-D kernel there is shared, not stacked; a 5-D one is a stack of
      2-D convolutions.
    * What these names do not decide is an error that says what to pass. Name yourself
      what they can not see: stacks below a name of your own (``layers/conv/kernel``),
      and stacks whose axis is not in front.

    Args:
        path: names from the root to the leaf, for example ``("Dense_0", "kernel")``.
        leaf: the leaf, or anything with its shape.

    Returns:
        The linear map, or None for what is not a kernel.

    Raises:
        ValueError: for a kernel whose axes these names do not decide.

    Example:
        >>> import numpy as np
        >>> flax_kernels(("Conv_0", "kernel"), np.zeros((3, 3, 8, 16)))
        Matrix(in_axis=None, out_axis=-1, batch_axis=(), spec=None)
        >>> flax_kernels(("ScanBlock_0", "query", "kernel"), np.zeros((6, 8, 2, 4)))
        Matrix(in_axis=None, out_axis=(-2, -1), batch_axis=(0,), spec=None)
        >>> flax_kernels(("Conv_0", "bias"), np.zeros(16)) is None
        True
    """
    if path[-1:] != ("kernel",):
        return None
    module = _LIFTED.sub("", path[-2], count=1) if len(path) > 1 else ""
    ranks = next(ranks for name, ranks in _RANKS if name.fullmatch(module))
    n_stacks = sum(map(_count_stacks, path)) if len(leaf.shape) > 2 else 0
    rank = len(leaf.shape) - n_stacks
    shared = n_stacks and len(leaf.shape) in ranks and len(leaf.shape) < 5
    unknown = len(leaf.shape) > 2 and any(map(_UNKNOWN_STACK.match, path))
    if rank not in ranks or shared or unknown:
        raise undecided(path, leaf)
    out_axis = (-2, -1) if rank == 3 and module in ("query", "key", "value") else -1
    return Matrix(out_axis=out_axis, batch_axis=tuple(range(n_stacks)))


def _count_stacks(name: str) -> int:
    lifted = _LIFTED.match(name)
    return len(_STACKING.findall(name[: lifted.end() + 1])) if lifted else 0


def undecided(path: Path, leaf: Any) -> errors.UndecidedKernelError:
    """Returns the error for a kernel whose axes its path does not decide."""
    pattern = re.escape(join(path))
    message = errors.message(
        join(path),
        got=f"a kernel {errors.describe(leaf)} that its name does not decide",
        need="to know which axes are input, output and batch",
        fix=f"kernels={{r'{pattern}': specjax.Matrix(in_axis=..., out_axis=..., "
        "batch_axis=...), r'.*': specjax.flax_kernels}",
    )
    return errors.UndecidedKernelError(message)


def select(params: Any, kernels: Kernels) -> dict[Path, tuple[Any, StackedMap]]:
    """Returns each kernel of the tree with its linear map, resolved for its shape.

    Raises:
        TypeError: if a kernel is not an array of floats, or a rule gives no linear map.
        ValueError: if a kernel does not fit its map, or is undecided, or there is none.
            Every bad leaf is in the one message. What else a rule raises is its own.
    """
    found, refused = sort_out(params, kernels)
    values = [str(e) for e in refused.values() if isinstance(e, ValueError)]
    kinds = [str(e) for e in refused.values() if isinstance(e, TypeError)]
    errors.raise_all(ValueError if values else TypeError, values + kinds)
    return found


def sort_out(
    params: Any, kernels: Kernels
) -> tuple[dict[Path, tuple[Any, StackedMap]], dict[Path, ValueError | TypeError]]:
    """Returns the kernels as `select` does, and what is to be said of the others.

    Raises:
        ValueError: if there are neither. What else a rule raises is its own.
    """
    rule = as_rule(kernels)
    leaves = named_leaves(params)
    found, refused = {}, {}
    for path, leaf in leaves.items():
        try:
            linear_map = rule(path, leaf) if hasattr(leaf, "shape") else None
        except errors.UndecidedKernelError as error:
            refused[path] = error
            continue
        if linear_map is None:
            continue
        try:
            found[path] = leaf, _resolve(path, leaf, linear_map)
        except (TypeError, ValueError) as error:
            refused[path] = error
    if not found and not refused:
        raise errors.NoKernelError(_nothing_selected(leaves))
    return found, refused


def as_rule(kernels: Kernels) -> Rule:
    """Returns the function of (path, leaf) that `kernels` is, or stands for.

    None is `flax_kernels`.
    """
    if kernels is None:
        return flax_kernels
    if callable(kernels):
        return kernels
    if not isinstance(kernels, Mapping):
        message = errors.message(
            "kernels",
            got=f"a {type(kernels).__name__}",
            need="a function of (path, leaf) or a mapping from regular expressions",
            fix="kernels=specjax.flax_kernels or kernels={r'.*/kernel': "
            "specjax.Matrix()}",
        )
        raise TypeError(message)
    patterns = [(_compile(pattern), value) for pattern, value in kernels.items()]

    def rule(path: Path, leaf: Any) -> LinearMap | None:
        matches = (value for p, value in patterns if p.fullmatch(join(path)))
        value = next(matches, None)
        if callable(value) and not isinstance(value, type):
            return value(path, leaf)
        return value  # type: ignore[return-value]  # _resolve refuses what is no map

    return rule


def is_named(path: Path, kernels: Kernels) -> bool:
    """Says whether a mapping gives this path a linear map itself, not by a rule."""
    if not isinstance(kernels, Mapping):
        return False
    matches = (v for p, v in kernels.items() if _compile(p).fullmatch(join(path)))
    return isinstance(next(matches, None), LinearMap)


def _compile(pattern: Any) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except (re.error, TypeError) as error:
        message = errors.message(
            "kernels",
            got=f"the pattern {pattern!r} ({error})",
            need="a regular expression",
            fix="r'.*/kernel'",
        )
        raise ValueError(message) from None


def _resolve(path: Path, leaf: Any, linear_map: Any) -> StackedMap:
    if isinstance(linear_map, type) or not isinstance(linear_map, LinearMap):
        got, need = repr(linear_map), "a linear map or None from the rule"
        fix = "specjax.Matrix()"
    elif not jnp.issubdtype(leaf.dtype, jnp.inexact):
        got, need = errors.describe(leaf), "a kernel of floating or complex numbers"
        fix = f"kernels={{r'{re.escape(join(path))}': None, ...}}"
    else:
        resolved = resolve(linear_map, leaf.shape, join(path))
        if isinstance(leaf, jax.Array):
            check_spec(join(path), leaf, resolved)
        return resolved
    raise TypeError(errors.message(join(path), got=got, need=need, fix=fix))


def _nothing_selected(leaves: Mapping[Path, Any]) -> str:
    some = ", ".join(map(join, list(leaves)[:3])) or "none"
    some += ", ..." * (len(leaves) > 3)
    return errors.message(
        "params",
        got=f"no kernel among {len(leaves)} leaves ({some})",
        need="at least one",
        fix="kernels={r'.*/kernel': specjax.Matrix()}, or haiku_kernels or "
        "equinox_kernels for those trees",
    )
