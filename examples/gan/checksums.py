"""A checksum for each array of a state, the same however the array is split."""

from typing import Any

import jax
import numpy as np

from examples.gan.processes import gather


def checksums(tree: Any) -> dict[str, int]:
    """Returns a number for each array, by its path; the same on each process.

    It is the sum over the elements' bits, as unsigned integers, each times an odd
    number of its own, modulo 2^64. Sums of integers do not depend on their order, so
    each process adds what its devices hold; and an odd factor can be inverted, so that
    a change of any one element changes the sum.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    with np.errstate(over="ignore"):
        mine = np.array([_of_my_shards(leaf) for _, leaf in leaves], np.uint64)
        # As halves: without float64, jax would cut off the upper one.
        total = gather(mine.view(np.uint32)).view(np.uint64).sum(axis=0)
    names = [jax.tree_util.keystr(path) for path, _ in leaves]
    return dict(zip(names, total.tolist(), strict=True))


def _of_my_shards(array: jax.Array) -> np.uint64:
    """Returns the sum over the elements that this process holds, each one once."""
    shards = [shard for shard in array.addressable_shards if shard.replica_id == 0]
    parts = [_of_part(shard.data, shard.index, array.shape) for shard in shards]
    return np.sum(parts, dtype=np.uint64)


def _of_part(part: Any, index: tuple[slice, ...], shape: tuple[int, ...]) -> np.uint64:
    """Returns the sum over the elements at ``index`` in an array of this shape."""
    part = np.asarray(part)
    place = np.zeros((), np.uint64)
    for along, size in zip(index, shape, strict=True):
        place = place[..., None] * np.uint64(size) + np.arange(
            *along.indices(size), dtype=np.uint64
        )
    bits = part.view(f"u{part.itemsize}").astype(np.uint64)
    return np.sum(bits * (2 * place + 1), dtype=np.uint64)
