"""Rayleigh-Ritz for the vectors of many kernels in one batch.

A network has many kernels and few lengths of vectors. Sums and roots of short vectors
cost a program operations, not bytes: for kernels with alike outputs they are the same
ones, on a stack. The kernels themselves are never stacked.

| platform | form | assumption about its compiler (XLA of jax 0.10.2) |
|---|---|---|
| CPU | a batch, cut up inside a branch | equal operations are compiled once |
| GPU | coefficients in a batch, entries of each member | loops fuse, slices do not |
| TPU | a batch, split at its end | |
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from specjax._core.rayleigh_ritz import (
    RitzCoefficients,
    RitzPair,
    combined,
    ritz_coefficients,
)
from specjax.linear_maps._sharding import explicit_axes, varying_like

# Jitted, so that they are traced once for all platforms and all batches of one shape.
_coefficients = jax.jit(jax.vmap(ritz_coefficients))
_combined = jax.jit(jax.vmap(combined))


def ritz_pairs(members: Sequence[tuple[Array, ...]]) -> list[RitzPair]:
    """Returns `ritz_pair` of each member, ``(u, u2, z, z2)`` of one type all."""
    batch = tuple(map(jnp.stack, zip(*members, strict=True)))
    if explicit_axes(batch[0]):
        # The branches would have to agree on shardings, too.
        return _default_form(*batch)
    return lax.platform_dependent(
        *batch, cpu=_cpu_form, cuda=_gpu_form, rocm=_gpu_form, default=_default_form
    )


@jax.jit
def _pairs(*batch: Array) -> RitzPair:
    return _combined(_coefficients(*batch), *batch)


def _default_form(*batch: Array) -> list[RitzPair]:
    return _unstacked(_pairs(*batch), len(batch[0]))


def _gpu_form(*batch: Array) -> list[RitzPair]:
    """Returns the pairs, the coefficients of a batch and then each member's vectors.

    The compiler for GPUs fuses alike loops that do not depend on each other into one
    kernel with many results. It does not so fuse slices: cut out of a batch, each
    vector would be a kernel that does nothing else.
    """
    numbers = _coefficients(*batch)
    packed, unpacked = _packing(numbers)

    # Jitted, so that it is traced once for all members.
    @jax.jit
    def member(index: Array, packs: list[Array], batch: list[Array]) -> RitzPair:
        return combined(unpacked(_at(index, packs)), *_at(index, batch))

    packs = packed(numbers)
    return [member(index, packs, list(batch)) for index in _indices(len(batch[0]))]


def _cpu_form(*batch: Array) -> list[RitzPair]:
    """Returns the pairs, cut out of the batch inside a branch.

    XLA:CPU compiles equal operations once. Slices of a batch are inlined into what uses
    them, each with its own index, so that no two operations are equal any more. A
    `lax.cond` is an inlining barrier: the batch is made and sliced inside of one that
    is taken unless everything is zero (and then so is the result). The indices come out
    of another one, so that the slices are equal operations, too.
    """
    packed, unpacked = _packing(jax.eval_shape(_pairs, *batch))

    def cut(indices: list[Array], *batch: Array) -> list[list[Array]]:
        packs = packed(_pairs(*batch))
        return [_at(index, packs) for index in indices]

    def nothing(indices: list[Array], *batch: Array) -> list[list[Array]]:
        first, *_ = jax.eval_shape(cut, indices[:1], *batch)
        zeros = [varying_like(jnp.zeros(x.shape, x.dtype), x) for x in first]
        return [zeros for _ in indices]

    anything = functools.reduce(jnp.logical_or, [jnp.any(x != 0) for x in batch])
    each = _indices(len(batch[0]))
    indices = lax.cond(anything, lambda: each, lambda: each[:1] * len(each))
    return list(map(unpacked, lax.cond(anything, cut, nothing, indices, *batch)))


def _packing(
    batch: RitzCoefficients | RitzPair,
) -> tuple[Callable[..., Any], Callable[..., Any]]:
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
def _at(index: Array, packs: list[Array]) -> list[Array]:
    return [lax.dynamic_index_in_dim(x, index, keepdims=False) for x in packs]


def _indices(n: int) -> list[Any]:
    return list(np.arange(n, dtype=np.uint32))


def _unstacked(batch: RitzPair, n: int) -> list[RitzPair]:
    """Returns ``x[i]`` of each array, in a third of the time that it takes to trace."""
    leaves, tree = jax.tree.flatten(batch)
    rows = zip(*[lax.split(x, [1] * n) for x in leaves], strict=True)

    @jax.jit
    def one(row: tuple[Array, ...]) -> RitzPair:
        return tree.unflatten([lax.squeeze(x, (0,)) for x in row])

    return list(map(one, rows))
