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
import numpy as np
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
    batched = jax.jit(jax.vmap(call))
    if explicit_axes(batch[0]):
        # Two branches would have to agree on shardings, too.
        return _unstacked(batched, *batch)
    numbers = batch[0].ndim == 1
    walled = (_one_by_one, call) if numbers else (_walled, batched)
    return lax.platform_dependent(
        *batch,
        cpu=functools.partial(*walled),
        default=functools.partial(_unstacked, batched),
    )


def _unstacked(batched: Callable[..., Any], *batch: Array) -> list[Any]:
    """Returns what becomes of each member of a batch."""
    return _members(batched(*batch), len(batch[0]))


def _one_by_one(call: Callable[..., Any], *batch: Array) -> list[Any]:
    """Returns the same of numbers: a batch of them is no less than each by itself.

    They come stacked because all platforms have one signature; the compiler undoes it.
    """
    return [call(*one) for one in _members(batch, len(batch[0]))]


def _walled(batched: Callable[..., Any], *batch: Array) -> list[Any]:
    """Returns the same, for a compiler that compiles equal operations once.

    That is the one for CPUs, and it moves what is cut out of a batch into all that uses
    it, each with a place of its own: no two operations are equal then. It does not move
    anything out of a branch. So the batch is made in one that is taken unless all is
    zero (and then so is the result), and what belongs to a member is cut out there,
    once for each kind of array. Nor does it look into a branch for the places, so that
    the cuts are equal operations, too.
    """
    likes, tree = jax.tree.flatten(jax.eval_shape(batched, *batch))
    likes = [_kind(like) for like in likes]
    kinds = list(dict.fromkeys(likes))

    # Jitted, so that they are traced once for all members.
    @jax.jit
    def packed(leaves: list[Array]) -> list[Array]:
        found = list(zip(leaves, likes, strict=True))
        return [
            jnp.stack([x for x, like in found if like == kind], 1) for kind in kinds
        ]

    @jax.jit
    def at(place: Array, packs: list[Array]) -> list[Array]:
        return [lax.dynamic_index_in_dim(x, place, keepdims=False) for x in packs]

    @jax.jit
    def unpacked(packs: list[Array]) -> Any:
        rows = dict(zip(kinds, map(iter, packs), strict=True))
        return tree.unflatten([next(rows[like]) for like in likes])

    def cut(places: list[Array], *batch: Array) -> list[list[Array]]:
        packs = packed(jax.tree.leaves(batched(*batch)))
        return [at(place, packs) for place in places]

    def nothing(places: list[Array], *batch: Array) -> list[list[Array]]:
        first, *_ = jax.eval_shape(cut, places[:1], *batch)
        zeros = [varying_like(jnp.zeros(x.shape, x.dtype), x) for x in first]
        return [zeros for _ in places]

    anything = functools.reduce(jnp.logical_or, [jnp.any(x != 0) for x in batch])
    each = list(np.arange(len(batch[0]), dtype=np.uint32))
    places = lax.cond(anything, lambda: each, lambda: each[:1] * len(each))
    return list(map(unpacked, lax.cond(anything, cut, nothing, places, *batch)))


def _members(batch: Any, n: int) -> list[Any]:
    """Returns a tree for each index along the first axis of the arrays of a tree.

    As ``x[i]`` does for each array, in a third of the time that takes to trace.
    """
    leaves, tree = jax.tree.flatten(batch)
    rows = zip(*[lax.split(x, [1] * n) for x in leaves], strict=True)
    squeezed = jax.jit(lambda leaves: [lax.squeeze(x, (0,)) for x in leaves])
    return [tree.unflatten(squeezed(row)) for row in rows]


def _kind(leaf: Any) -> Hashable:
    return leaf.shape, leaf.dtype


def _likeness(one: Vectors) -> Hashable:
    """Returns what has to be equal of arrays that are stacked: shape, dtype, place."""
    return one.kind, tuple(map(jax.typeof, one.arrays))
