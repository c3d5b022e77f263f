"""Checksums of what must be the same for every method of a seed and a setting."""

import zlib
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from examples.gan.settings import Config
from examples.gan.state import TrainState, key_of_step, raw_kernels


def checksums(config: Config, state: TrainState) -> dict[str, int]:
    """Returns a number for the weights and the latent vectors that a run starts with.

    ``generator`` and ``critic`` are of the weights before the first update (of the
    critic, the kernels, before anything is done to them), ``latents`` of the latent
    vectors of the first update.
    """
    shape = (config.game.n_dis + 1, config.batch_size, config.preset.latent)
    latents = jax.random.normal(key_of_step(config.seed, 0), shape)
    return {
        "generator": _checksum(state.generator),
        "critic": _checksum(kernels_by_layer(raw_kernels(config, state))),
        "latents": _checksum({"z": latents}),
    }


def kernels_by_layer(params: Any) -> dict[str, np.ndarray]:
    """Returns the kernels by the name of their layer."""
    flat = flatten_dict(jax.device_get(params), sep="/")
    return {
        name.removesuffix("/kernel"): np.asarray(leaf)
        for name, leaf in sorted(flat.items())
        if name.endswith("/kernel")
    }


def _checksum(tree: Any) -> int:
    """Returns a number that any changed element changes."""
    crc = 0
    for leaf in jax.tree.leaves(jax.device_get(tree)):
        crc = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), crc)
    return crc
