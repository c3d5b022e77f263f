"""Whether a `spec`, what `shard_map` knows, and the vectors of a kernel agree.

A kernel that differs between devices may be a shard of one kernel, or a kernel of its
own. Without a word that is not known, and a guess would be a wrong norm.
"""

from collections.abc import Iterable
from typing import Any

import jax
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array

from specjax import errors
from specjax.linear_maps._resolved import StackedMap
from specjax.linear_maps._sharding import names_on_axis, varying_axes


def check_spec_kind(where: str, spec: Any) -> None:
    """Raises a TypeError for a spec that is no `PartitionSpec` of names.

    Raises:
        ValueError: if a mesh axis is named twice.
    """
    if spec is None:
        return
    entries = list(spec) if isinstance(spec, PartitionSpec) else [spec]
    if not all(map(_is_entry, entries)) or not isinstance(spec, PartitionSpec):
        need = "a jax.sharding.PartitionSpec of names, or None"
        raise TypeError(_wrong_spec(where, spec, need))
    names = [name for axis in range(len(spec)) for name in names_on_axis(spec, axis)]
    if len(set(names)) < len(names):
        raise ValueError(_wrong_spec(where, spec, "each mesh axis once"))


def _is_entry(entry: Any) -> bool:
    if isinstance(entry, tuple | list):
        return all(isinstance(name, str) for name in entry)
    return entry is None or isinstance(entry, str)


def _wrong_spec(where: str, spec: Any, need: str) -> str:
    fix = "spec=jax.sharding.PartitionSpec(None, 'model')"
    return errors.message(f"{where}(spec=...)", got=repr(spec), need=need, fix=fix)


def check_spec(where: str, kernel: Array, linear_map: StackedMap) -> None:
    """Raises a ValueError where `shard_map` and the map's `spec` do not agree.

    Each mesh axis along which the kernel differs has to be in the spec, and no other.
    Where jax does not tell how it differs (``check_vma=False``, `pmap`), only names
    that do not exist are an error.
    """
    varies, spec = varying_axes(kernel), linear_map.spec
    if not varies and spec is None:
        return
    named = {name for axis in range(kernel.ndim) for name in names_on_axis(spec, axis)}
    for name in sorted(named):
        if _can_tell(where, spec, name) and name not in varies:
            raise ValueError(_not_split(where, kernel, spec, name))
    if varies - named:
        raise ValueError(_unknown(where, kernel, linear_map, varies - named))
    if varies and jax.__version_info__ < (0, 9):
        raise ValueError(_too_old(where, spec))


def check_places(
    kernel: Array, linear_map: StackedMap, vectors: Iterable[tuple[str, Array]]
) -> None:
    """Raises a ValueError for a vector that is split otherwise than its side is.

    Args:
        kernel: what `check_spec` has passed.
        linear_map: of the kernel.
        vectors: by name: u, u2, v or sigma.
    """
    for name, vector in vectors:
        varies = varying_axes(vector)
        allowed = _allowed(name, linear_map) if varies else set()
        wrong = varies - allowed
        if wrong:
            message = errors.message(
                name,
                got=f"{errors.describe(vector)} that differs along the mesh axes "
                f"{', '.join(sorted(wrong))} of a shard_map",
                need=f"one that is split as its side of {errors.describe(kernel)} is, "
                f"over {', '.join(sorted(allowed)) or 'nothing'}",
                fix="in_specs of the state from specjax.state_specs",
            )
            raise ValueError(message)


def _allowed(name: str, linear_map: StackedMap) -> set[str]:
    """Returns the mesh axes over which a vector of this name may be split."""
    split = linear_map.one.split
    own = {"u": split.over_y, "u2": split.over_y, "v": split.over_x}
    batch = (name for names in linear_map.batch_split for name in names)
    return {*batch, *own.get(name, ())}


def _can_tell(where: str, spec: Any, name: str) -> bool:
    """Says whether types know about a mesh axis; a ValueError if there is none."""
    try:
        return name in varying_axes(lax.axis_index(name))
    except NameError:
        message = errors.message(
            where,
            got=f"spec={spec} where no mesh axis {name!r} is held by hand",
            need="the body of a jax.shard_map over it",
            fix="a linear map without a spec, which is for arrays in jit, sharded or "
            "not; a wrapper that makes its state as it is built has to be built in the "
            "body",
        )
        raise ValueError(message) from None


def _unknown(
    where: str, kernel: Array, linear_map: StackedMap, axes: frozenset[str]
) -> str:
    spec = linear_map.spec
    given = "" if spec is None else f" with spec={spec}"
    fix = (
        "kernels=specjax.shard_map_kernels(in_specs of the params); a kernel of its "
        "own keeps its axis of the stack: Matrix(batch_axis=0), spec=P('data')"
    )
    if not hasattr(linear_map.said, "spec"):
        fix = "specjax.Matrix or specjax.Conv, which take a spec"
    return errors.message(
        where,
        got=f"{errors.describe(kernel)}{given} that differs along the mesh axes "
        f"{', '.join(sorted(axes))} of a shard_map",
        need="to know whether it is a shard of one kernel or a kernel of its own",
        fix=fix,
    )


def _not_split(where: str, kernel: Array, spec: Any, name: str) -> str:
    return errors.message(
        where,
        got=f"spec={spec} for {errors.describe(kernel)}, which is the same along the "
        f"mesh axis {name!r}",
        need="a shard of it on each device",
        fix=f"in_specs of the shard_map with {name!r}, or a spec without",
    )


def _too_old(where: str, spec: Any) -> str:
    # Before 0.9 jax itself fails at a psum under vmap inside such a shard_map.
    return errors.message(
        where,
        got=f"spec={spec} under jax {jax.__version__}",
        need="jax 0.9 for kernels that are split by hand",
        fix="a newer jax, or shard_map(..., check_vma=False)",
    )
