"""What is done to the vectors of one kernel, done to those of many in one batch.

A network has many kernels and few lengths of vectors. Sums and roots of short vectors
cost a program operations, not bytes: for kernels with alike outputs they are the
same ones, on a stack. The kernels themselves are never stacked.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array


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


def together(function: Callable[..., Any], vectors: Sequence[Vectors]) -> list[Any]:
    """Returns ``function(*arrays, kind)`` for each, as few calls of it as can be.

    Stacks are a batch already and stay where they lie: each is a call of its own. On a
    CPU so is every kernel: its compiler compiles equal operations once, but not those
    that differ by the place of a slice.
    """
    groups: dict[Hashable, list[int]] = {}
    for i, one in enumerate(vectors):
        alone = one.alone or one.n_batch > 0
        groups.setdefault(i if alone else _likeness(one), []).append(i)
    results: dict[int, Any] = {}
    for members in groups.values():
        call = _of_arrays(function, vectors[members[0]])
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
    def one_by_one(*members: tuple[Array, ...]) -> list[Any]:
        return [call(*arrays) for arrays in members]

    def in_one_batch(*members: tuple[Array, ...]) -> list[Any]:
        stacked = jax.vmap(call)(*map(jnp.stack, zip(*members, strict=True)))
        leaves, tree = jax.tree.flatten(stacked)
        return [
            tree.unflatten([leaf[i] for leaf in leaves]) for i, _ in enumerate(members)
        ]

    if len(members) == 1:
        return one_by_one(*members)
    return lax.platform_dependent(*members, cpu=one_by_one, default=in_one_batch)


def _likeness(one: Vectors) -> Hashable:
    """Returns what has to be equal of arrays that are stacked: shape, dtype, place."""
    return one.kind, tuple(map(jax.typeof, one.arrays))
