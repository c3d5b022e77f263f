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

from specjax.linear_maps._sharding import explicit_axes, varying_like


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


class Parts(NamedTuple):
    """A function of vectors as two: what is summed, and what is made entry by entry.

    Attributes:
        numbers: ``numbers(*arrays, kind)``.
        vectors: ``vectors(numbers, *arrays, kind)``: the result.
    """

    numbers: Callable[..., Any]
    vectors: Callable[..., Any]

    def __call__(self, *arrays: Any) -> Any:
        """Returns what both make of arrays and kind."""
        return self.vectors(self.numbers(*arrays), *arrays)

    def each(self, change: Callable[..., Any]) -> "Parts":
        """Returns both changed."""
        return Parts(change(self.numbers), change(self.vectors))


def together(
    function: Callable[..., Any],
    vectors: Sequence[Vectors],
    of_one: Callable[..., Any] | None = None,
) -> list[Any]:
    """Returns ``function(*arrays, kind)`` for each, as few calls of it as can be.

    Stacks are a batch already and stay where they lie: each is a call of its own.

    Args:
        function: of arrays; `Parts` that make zeros of zeros, or a function of numbers.
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
        arrays = [vectors[i].arrays for i in members]
        if len(members) > 1:
            found = _of_group(_lifted(function, first), arrays)
        else:
            single = of_one if of_one and first.n_batch == 0 else function
            found = [_lifted(single, first)(*arrays[0])]
        results.update(zip(members, found, strict=True))
    return [results[i] for i in range(len(vectors))]


def _lifted(function: Callable[..., Any], first: Vectors) -> Callable[..., Any]:
    if isinstance(function, Parts):
        return function.each(lambda part: _lifted(part, first))

    def call(*arrays: Any) -> Any:
        return function(*arrays, first.kind)

    for _ in range(first.n_batch):
        call = jax.vmap(call)
    # Jitted, so that it is traced once for all members of a group.
    return jax.jit(call)


def _of_group(call: Callable[..., Any], members: list[tuple[Array, ...]]) -> list[Any]:
    batch = tuple(map(jnp.stack, zip(*members, strict=True)))
    if isinstance(call, Parts):
        # Jitted, so that the numbers are traced once for all platforms.
        halves = call.each(lambda part: jax.jit(jax.vmap(part)))
        batched = jax.jit(lambda *batch: halves(*batch))
        cpu = functools.partial(_walled, batched)
        gpu = functools.partial(_halfway, halves.numbers, call.vectors)
    else:
        batched = jax.jit(jax.vmap(call))
        cpu = gpu = functools.partial(_one_by_one, call)
    unstacked = functools.partial(_unstacked, batched)
    if explicit_axes(batch[0]):
        # The branches would have to agree on shardings, too.
        return unstacked(*batch)
    return lax.platform_dependent(
        *batch, cpu=cpu, cuda=gpu, rocm=gpu, default=unstacked
    )


def _unstacked(batched: Callable[..., Any], *batch: Array) -> list[Any]:
    """Returns what becomes of each member of a batch."""
    return _members(batched(*batch), len(batch[0]))


def _one_by_one(call: Callable[..., Any], *batch: Array) -> list[Any]:
    """Returns the same of numbers: a batch of them is no less than each by itself.

    They come stacked because all platforms have one signature; the compiler undoes it.
    """
    return _members(list(batch), len(batch[0]), lambda one: call(*one))


def _halfway(
    batched: Callable[..., Any], vectors: Callable[..., Any], *batch: Array
) -> list[Any]:
    """Returns the same, the numbers of a batch and then each member's vectors.

    The compiler for GPUs fuses alike loops that do not depend on each other into one
    kernel with many results. It does not so fuse slices: cut out of a batch, each
    vector would be a kernel that does nothing else.
    """
    numbers = batched(*batch)
    packed, unpacked = _packing(numbers)

    # Jitted, so that it is traced once for all members.
    @jax.jit
    def member(place: Array, packs: list[Array], batch: list[Array]) -> Any:
        return vectors(unpacked(_at(place, packs)), *_at(place, batch))

    packs = packed(numbers)
    return [member(place, packs, list(batch)) for place in _places(len(batch[0]))]


def _walled(batched: Callable[..., Any], *batch: Array) -> list[Any]:
    """Returns the same, for a compiler that compiles equal operations once.

    That is the one for CPUs, and it moves what is cut out of a batch into all that uses
    it, each with a place of its own: no two operations are equal then. It does not move
    anything out of a branch. So the batch is made in one that is taken unless all is
    zero (and then so is the result), and what belongs to a member is cut out there,
    once for each kind of array. Nor does it look into a branch for the places, so that
    the cuts are equal operations, too.
    """
    packed, unpacked = _packing(jax.eval_shape(batched, *batch))

    def cut(places: list[Array], *batch: Array) -> list[list[Array]]:
        packs = packed(batched(*batch))
        return [_at(place, packs) for place in places]

    def nothing(places: list[Array], *batch: Array) -> list[list[Array]]:
        first, *_ = jax.eval_shape(cut, places[:1], *batch)
        zeros = [varying_like(jnp.zeros(x.shape, x.dtype), x) for x in first]
        return [zeros for _ in places]

    anything = functools.reduce(jnp.logical_or, [jnp.any(x != 0) for x in batch])
    each = _places(len(batch[0]))
    places = lax.cond(anything, lambda: each, lambda: each[:1] * len(each))
    return list(map(unpacked, lax.cond(anything, cut, nothing, places, *batch)))


def _packing(batch: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Returns what stacks the alike arrays of a tree, and what takes a member apart.

    The stacks are few, and have the members along the first axis, too.
    """
    leaves, tree = jax.tree.flatten(batch)
    kinds = [(leaf.shape, leaf.dtype) for leaf in leaves]
    different = list(dict.fromkeys(kinds))

    # Jitted, so that they are traced once for all members.
    @jax.jit
    def packed(batch: Any) -> list[Array]:
        found = list(zip(jax.tree.leaves(batch), kinds, strict=True))
        return [
            jnp.stack([x for x, kind in found if kind == one], 1) for one in different
        ]

    @jax.jit
    def unpacked(packs: list[Array]) -> Any:
        rows = dict(zip(different, map(iter, packs), strict=True))
        return tree.unflatten([next(rows[kind]) for kind in kinds])

    return packed, unpacked


@jax.jit
def _at(place: Array, packs: list[Array]) -> list[Array]:
    return [lax.dynamic_index_in_dim(x, place, keepdims=False) for x in packs]


def _places(n: int) -> list[Any]:
    return list(np.arange(n, dtype=np.uint32))


def _members(
    batch: Any, n: int, then: Callable[[Any], Any] = lambda member: member
) -> list[Any]:
    """Returns what is made of each member of a batch: of ``x[i]`` for each array.

    In a third of the time that ``x[i]`` takes to trace.
    """
    leaves, tree = jax.tree.flatten(batch)
    rows = zip(*[lax.split(x, [1] * n) for x in leaves], strict=True)

    @jax.jit
    def one(row: tuple[Array, ...]) -> Any:
        return then(tree.unflatten([lax.squeeze(x, (0,)) for x in row]))

    return list(map(one, rows))


def _likeness(one: Vectors) -> Hashable:
    """Returns what has to be equal of arrays that are stacked: shape, dtype, place."""
    return one.kind, tuple(map(jax.typeof, one.arrays))
