"""One run of the study: from a job to its record."""

import dataclasses
import functools
import time
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Array, Float32

from examples.gan.mesh import first_state, make_mesh
from examples.gan.settings import Config
from examples.gan.state import TrainState, d_kernels, networks
from examples.study.about import about
from examples.study.checksums import checksums, kernels_by_layer
from examples.study.curves import kept
from examples.study.draw_samples import SAMPLES, write_samples
from examples.study.plan import Job
from examples.study.records import Record, samples_path, write_record
from examples.study.score import N_FAKE, Scorer
from examples.study.spectra import spectrum
from examples.study.study import Material, Study, config_of
from examples.study.training import Tick, train


def make_run(
    study: Study, job: Job, material: Material, scorer: Scorer, tick: Tick
) -> Record:
    """Makes a run, writes its record and returns it.

    A run that diverges is a result: its record says at which update, and has no
    distance. ``tick`` is told how many updates were made, now and then.
    """
    began = time.perf_counter()
    config = config_of(study, job, material.train.crc32())
    state = first_state(config, make_mesh(None))
    start, sums = _spectra(config, state), checksums(config, state)
    end = train(config, state, material.train, tick)
    images = None if end.diverged_at else draw(config, end.state.average, N_FAKE)
    if images is not None and job.seed == 0 and job.is_compared:
        write_samples(samples_path(study.folder, job.name), images[:SAMPLES])
    shown = {k: v for k, v in dataclasses.asdict(config).items() if k != "data_dir"}
    record = {
        "name": job.name,
        **job._asdict(),
        "config": shown,
        **about(),
        "seconds": round(time.perf_counter() - began, 1),
        "diverged_at": end.diverged_at,
        "score": scorer.score(images),
        "checksums": sums | {"batches": end.batches},
        "spectra": {"start": start, "end": _spectra(config, end.state)},
        "curves": kept(end.lines, first=job.is_compared),
    }
    write_record(study.folder, record)
    return record


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
    used = kernels_by_layer(d_kernels(config, state))
    return {name: spectrum(kernel) for name, kernel in used.items()}
