"""Designed records of a study: what its figures, tables and orderings read."""

from pathlib import Path
from typing import Any

import numpy as np

from examples.study.curves import kept
from examples.study.draw_samples import write_samples
from examples.study.methods import LOSSES, METHODS, ROBUSTNESS, SETTINGS
from examples.study.records import Record, samples_path, write_record
from examples.study.spectra import spectrum

LAYERS = {"Dense_0": (32, 24), "Dense_1": (24, 24), "Dense_2": (24, 1)}


def designed(
    method: str = "sn",
    loss: str = "wasserstein",
    setting: str | None = None,
    seed: int = 0,
    **changes: Any,
) -> Record:
    """A record; ``distance``, ``level``, ``wiggle`` and ``decay`` say how it went.

    ``level`` is the size of losses and gradients, ``wiggle`` their relative change
    from update to update, ``drift`` what the critic's loss falls by in each beside
    that, ``decay`` the share that a singular value has of the former.
    """
    distance = changes.pop("distance", 10.0 + seed)
    level, wiggle = changes.pop("level", 1.0), changes.pop("wiggle", 0.1)
    decay, drift = changes.pop("decay", 0.95), changes.pop("drift", 0.0)
    steps = changes.pop("steps", 400)
    signs = wiggle * (-1.0) ** np.arange(steps)
    metrics = [
        {
            "gradient_norm": level * np.exp(sign),
            "generator_loss": level * (1 + sign),
            "critic_loss": -level * (1 + sign + drift * i),
            "penalty": 0.1,
        }
        for i, sign in enumerate(signs)
    ]
    setting = setting or LOSSES[loss]
    spectra = {name: spectrum(kernel(shape, decay)) for name, shape in LAYERS.items()}
    return {
        "name": f"mlp-{loss}-{setting}-{method}-{seed}",
        "network": "mlp",
        "loss": loss,
        "setting": setting,
        "method": method,
        "seed": seed,
        "config": {"dataset": "mnist", "batch_size": 64, "steps": steps},
        "device": "a CPU",
        "versions": {"jax": "0"},
        "seconds": 1.0,
        "diverged_at": None if distance is not None else 7,
        "curves": kept(metrics),
        "spectra": {"start": spectra, "end": spectra},
        "score": {
            "distance": distance,
            "n_real": 10_000,
            "n_fake": 5_000,
            "floor": 0.5,
            "class_shares": [0.1] * 10,
            "judge_accuracy": 0.992,
            "n_test": 10_000,
        },
        "checksums": {"batches": 1, "generator": 2, "critic": 3, "latents": 4},
    } | changes


def kernel(shape: tuple[int, int], decay: float) -> np.ndarray:
    """A matrix whose singular values are 1, decay, decay^2, ..."""
    draw = np.random.default_rng(0)
    left, right = (np.linalg.qr(draw.standard_normal((n, n)))[0] for n in shape)
    values = np.zeros(shape)
    np.fill_diagonal(values, decay ** np.arange(min(shape)))
    return left @ values @ right


def whole_study(seeds: int = 2) -> list[Record]:
    """Designed records of every run of a study."""
    jobs = {(m, loss, LOSSES[loss]) for m in METHODS for loss in LOSSES}
    jobs |= {(m, loss, s) for m, loss in ROBUSTNESS.items() for s in SETTINGS}
    order = list(METHODS)
    return [
        designed(
            *job,
            seed,
            distance=5.0 + 3 * order.index(job[0]) + seed,
            level=1.0 + order.index(job[0]),
            decay=0.95 - 0.05 * order.index(job[0]),
        )
        for job in sorted(jobs)
        for seed in range(seeds)
    ]


def times() -> dict[str, Any]:
    """Designed times: each method 10 % slower than the one before."""
    ratios = {
        name: {"quartiles": [0.95 * 1.1**i, 1.1**i, 1.05 * 1.1**i], "milliseconds": 5.0}
        for i, name in enumerate(METHODS)
    }
    return {
        "network": "mlp",
        "loss": "wasserstein",
        "setting": "A",
        "n_dis": 5,
        "batch_size": 64,
        "rounds": 15,
        "updates": 20,
        "device": "a CPU",
        "cores": 2,
        "ratios": ratios,
    }


def write_study(folder: Path, records: list[Record]) -> None:
    """Writes the records, and a picture of samples for each that did not diverge."""
    images = np.random.default_rng(0).uniform(-1, 1, (10, 8, 8, 1)).astype(np.float32)
    for record in records:
        write_record(folder, record)
        if record["diverged_at"] is None:
            write_samples(samples_path(folder, record["name"]), images)
