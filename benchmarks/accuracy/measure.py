"""All of it in one run: cold, drifting, and the GAN; JSON, tables, figures."""

import json
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
from threadpoolctl import threadpool_limits

from benchmarks.accuracy.cold import cold
from benchmarks.accuracy.drift import drift
from benchmarks.accuracy.field import Field, field
from benchmarks.accuracy.gan import gan
from benchmarks.accuracy.kernels import trajectories
from benchmarks.accuracy.plots import draw
from benchmarks.accuracy.tables import tables

_LIBRARIES = "jax", "flax", "dm-haiku", "equinox", "torch", "keras"


def run(quick: bool, out: Path | None) -> dict[str, Any]:
    """Measures, prints the tables and returns the numbers.

    Args:
        quick: smaller kernels without the convolution, one seed, one run of the GAN
            with fewer updates, every second of its kernels: about a minute.
        out: a folder for ``accuracy.json``, ``accuracy.md`` and the two figures.
    """
    begin = time.perf_counter()
    kernels, all_steps = trajectories(quick), (1,) if quick else (1, 2, 4)
    if quick:
        del kernels[1]  # of another shape, to be compiled for anew
    found = field(kernels[0].first(), all_steps)
    n_seeds, n_gan, n_runs, every = (1, 30, 1, 2) if quick else (3, 100, 10, 1)
    # Two libraries' threads that wait for each other's take ten times as long.
    with threadpool_limits(1):
        results = {
            "versions": _versions(),
            "quick": quick,
            "methods": list(found.with_steps(1)),
            "missing": found.missing,
            "passes": _spelled(found),
            "cold": [cold(found, one, n_seeds) for one in kernels[:-1]],
            "drift": [drift(found, one, 200, all_steps) for one in kernels],
            "gan": gan(found, n_gan, n_runs, every),
        }
    results["seconds"] = time.perf_counter() - begin
    text = tables(results)
    print(text)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "accuracy.json").write_text(json.dumps(results, indent=1) + "\n")
        (out / "accuracy.md").write_text(text + "\n")
        draw(results, out)
    return results


def _spelled(found: Field) -> list[dict[str, Any]]:
    return [
        {"method": name, "n_steps": n} | passes._asdict()
        for (name, n), passes in found.passes.items()
    ]


def _versions() -> dict[str, str]:
    versions = {"device": str(jax.devices()[0]), "machine": platform.machine()}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions
