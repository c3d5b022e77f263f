"""What is done to the vectors of one kernel, done to those of many in one batch.

A network has many kernels and few lengths of vectors. Sums and roots of short vectors
cost a program operations, not bytes: for kernels with alike outputs they are the
same ones, on a stack. The kernels themselves are never stacked.
"""

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from specjax._mesh import explicit_axes, varying_like


class Vectors(NamedTuple):
    """The vectors of one kernel, or of a stack of kernels.

    Attributes:
        arrays: the batch axes first.
        n_batch: how many batch axes there are.
        kind: what the function is told; kernels of another kind are in another batch.
        alone: whether these are in a batch of their own.
    """

    arrays: tuple[Array, ...]
    n_batch: int = 0
    kind: Hashable = None
    alone: bool = False


def together(
    function: Callable[..., Any],
    vectors: Sequence[Vectors],
    of_one: Callable[..., Any] | None = None,
) -> list[Any]:
    """Returns ``function(*arrays, kind)`` for each, as few calls of it as can be.

    Stacks are a batch already and stay where they lie: each is a call of its own.

    Args:
        function: of arrays; it makes zeros of zeros, unless it is one of numbers.
        vectors: of each kernel.
        of_one: the same function, for the arrays of one kernel that is in no batch.
    """
    groups: dict[Hashable, list[int]] = {}
    for i, one in enumerate(vectors):
        alone = one.alone or one.n_batch > 0
        groups.setdefault(i if alone else _likeness(one), []).append(i)
    results: dict[int, Any] = {}
    for members in groups.values():
        first = vectors[members[0]]
        single = len(members) == 1 and first.n_batch == 0
        call = _of_arrays(of_one or function if single else function, first)
        found = _of_group(call, [vectors[i].arrays for i in members])
        results.update(zip(members, found, strict=True))
    return [results[i] for i in range(len(vectors))]


def _of_arrays(function: Callable[..., Any], first: Vectors) -> Callable[..., Any]:
    def call(*arrays: Array) -> Any:
        return function(*arrays, first.kind)

    for _ in range(first.n_batch):
        call = jax.vmap(call)
    # Jitted, so that it is traced once for all members of a group.
    return jax.jit(call)


def _of_group(call: Callable[..., Any], members: list[tuple[Array, ...]]) -> list[Any]:
    if len(members) == 1:
        return [call(*members[0])]
    batch = tuple(map(jnp.stack, zip(*members, strict=True)))
    if explicit_axes(batch[0]):
        # Two branches would have to agree on shardings, too.
        return _unstacked(call, *batch)
    walled = _one_by_one if batch[0].ndim == 1 else _walled
    on_cpu, else_ = (functools.partial(form, call) for form in (walled, _unstacked))
    return lax.platform_dependent(*batch, cpu=on_cpu, default=else_)


def _unstacked(call: Callable[..., Any], *batch: Array) -> list[Any]:
    """Returns what becomes of each member of a batch."""
    leaves, tree = jax.tree.flatten(jax.vmap(call)(*batch))
    return [tree.unflatten([x[i] for x in leaves]) for i in range(len(batch[0]))]


def _one_by_one(call: Callable[..., Any], *batch: Array) -> list[Any]:
    """Returns the same of numbers: a batch of them is no less than each by itself.

    They come stacked because all platforms have one signature; the compiler undoes it.
    """
    return [call(*[x[i] for x in batch]) for i in range(len(batch[0]))]


def _walled(call: Callable[..., Any], *batch: Array) -> list[Any]:
    """Returns the same, for a compiler that compiles equal operations once.

    That is the one for CPUs, and it moves what is cut out of a batch into all that uses
    it, each with a place of its own: no two operations are equal then. It does not move
    anything out of a branch. So the batch is made in one that is taken unless all is
    zero (and then so is the result), and what belongs to a member is cut out there,
    once for each kind of array. Nor does it look into a branch for the places, so that
    the cuts are equal operations, too.
    """
    one, tree = jax.tree.flatten(jax.eval_shape(call, *[x[0] for x in batch]))
    kinds = list(dict.fromkeys(map(_kind, one)))

    def cut(places: list[Array], *batch: Array) -> list[list[Array]]:
        results = list(zip(jax.tree.leaves(jax.vmap(call)(*batch)), one, strict=True))
        packs = [
            jnp.stack([x for x, like in results if _kind(like) == kind], 1)
            for kind in kinds
        ]
        return [
            [lax.dynamic_index_in_dim(pack, i, keepdims=False) for pack in packs]
            for i in places
        ]

    def nothing(*arguments: Any) -> list[list[Array]]:
        def zeros(like: jax.ShapeDtypeStruct) -> Array:
            return varying_like(jnp.zeros(like.shape, like.dtype), like)

        return jax.tree.map(zeros, jax.eval_shape(cut, *arguments))

    anything = functools.reduce(jnp.logical_or, [jnp.any(x != 0) for x in batch])
    first = [jnp.uint32(0) for _ in batch[0]]
    each = [jnp.uint32(i) for i in range(len(first))]
    places = lax.cond(anything, lambda: each, lambda: first)
    results = []
    for packs in lax.cond(anything, cut, nothing, places, *batch):
        rows = {kind: iter(pack) for kind, pack in zip(kinds, packs, strict=True)}
        results.append(tree.unflatten([next(rows[_kind(like)]) for like in one]))
    return results


def _kind(leaf: Any) -> Hashable:
    return leaf.shape, leaf.dtype


def _likeness(one: Vectors) -> Hashable:
    """Returns what has to be equal of arrays that are stacked: shape, dtype, place."""
    return one.kind, tuple(map(jax.typeof, one.arrays))
