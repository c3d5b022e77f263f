"""One run of the study: from a job to its record."""

import dataclasses
import functools
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float32

from examples.gan.data import batches, real_on
from examples.gan.mesh import first_state, make_mesh
from examples.gan.settings import Config
from examples.gan.state import TrainState, d_kernels, key_of_step, networks, raw_kernels
from examples.gan.train import make_train_step
from examples.study.about import about
from examples.study.curves import kept, line
from examples.study.draw_samples import SAMPLES, write_samples
from examples.study.plan import Job
from examples.study.records import Record, samples_path, write_record
from examples.study.score import N_FAKE, Scorer
from examples.study.spectra import spectrum
from examples.study.study import Material, Study, config_of

_TOGETHER = 50  # updates between two looks at the metrics
_MAX_SKIPPED = 10  # updates in a row, as in the GAN example

Tick = Callable[[int], object]


def make_run(
    study: Study, job: Job, material: Material, scorer: Scorer, tick: Tick
) -> Record:
    """Makes a run, writes its record and returns it.

    A run that diverges is a result: its record says after which update, and has no
    distance. ``tick`` is told how many updates were made, now and then.
    """
    began = time.perf_counter()
    config = config_of(study, job, material.train.crc32())
    mesh = make_mesh(None)
    state = first_state(config, mesh)
    start, sums = _spectra(config, state), checksums(config, state, material)
    metrics, diverged_at = [], None
    for state, lines in _updates(config, state, material):
        bad = [i for i, of in enumerate(lines) if of["skipped"] > _MAX_SKIPPED]
        metrics += [line(of) for of in lines[: bad[0] if bad else None]]
        tick(len(lines))
        if bad:
            diverged_at = len(metrics) + 1
            break
    images = None if diverged_at else draw(config, state.average, N_FAKE)
    if images is not None and job.seed == 0 and job.is_compared:
        write_samples(samples_path(study.folder, job.name), images[:SAMPLES])
    shown = {k: v for k, v in dataclasses.asdict(config).items() if k != "data_dir"}
    record = {
        "name": job.name,
        **job._asdict(),
        "config": shown,
        **about(),
        "seconds": round(time.perf_counter() - began, 1),
        "diverged_at": diverged_at,
        "score": scorer.score(images),
        "checksums": sums,
        "spectra": {"start": start, "end": _spectra(config, state)},
        "curves": kept(metrics, first=job.is_compared),
    }
    write_record(study.folder, record)
    return record


def _updates(
    config: Config, state: TrainState, material: Material
) -> Iterator[tuple[TrainState, list[dict[str, Any]]]]:
    """Yields the state and the metrics after some updates each."""
    mesh, data, n_dis = make_mesh(None), material.train, config.game.n_dis
    step, seed = make_train_step(config, mesh), np.uint32(config.seed)
    rows = batches(len(data), config.batch_size, config.seed, 0, n_dis)
    waiting = []
    for i in range(1, config.steps + 1):
        state, metrics = step(state, real_on(mesh, data, next(rows)), seed)
        waiting.append(metrics)
        if len(waiting) == _TOGETHER or i == config.steps:
            yield state, jax.device_get(waiting)
            waiting = []


def checksums(config: Config, state: TrainState, material: Material) -> dict[str, int]:
    """Returns what must be the same for every method of a seed and a setting.

    ``generator`` and ``critic`` are of the weights before the first update (of the
    critic, the kernels, before anything is done to them), ``batches`` of the images of
    the first ten updates, ``latents`` of the latent vectors of the first.
    """
    data, n_dis = material.train, config.game.n_dis
    rows = batches(len(data), config.batch_size, config.seed, 0, n_dis)
    first = np.concatenate([next(rows) for _ in range(10)])
    shape = (n_dis + 1, config.batch_size, config.preset.latent)
    latents = jax.random.normal(key_of_step(np.uint32(config.seed), 0), shape)
    return {
        "generator": _checksum(state.generator),
        "critic": _checksum(_kernels(raw_kernels(config, state))),
        "batches": zlib.crc32(data.pixels[first].tobytes()),
        "latents": _checksum({"z": latents}),
    }


def draw(
    config: Config, variables: Any, n: int
) -> Float32[np.ndarray, "n side side channels"]:
    """Draws images from the same latent vectors for every run."""
    latent, generator = config.preset.latent, networks(config)[0]
    z = np.random.default_rng(3).standard_normal((n, latent), dtype=np.float32)
    parts = [_drawn(generator, variables, z[i : i + 500]) for i in range(0, n, 500)]
    return np.concatenate(jax.device_get(parts))


@functools.partial(jax.jit, static_argnums=0)
def _drawn(generator: nn.Module, variables: Any, z: Array) -> Any:
    return generator.apply(variables, z, train=False)


def _spectra(config: Config, state: TrainState) -> dict[str, Any]:
    """Returns the spectrum of each kernel that the critic multiplies by."""
    used = _kernels(d_kernels(config, state))
    return {name: spectrum(kernel) for name, kernel in used.items()}


def _kernels(params: Any) -> dict[str, np.ndarray]:
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
