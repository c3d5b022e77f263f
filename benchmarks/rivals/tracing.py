"""How many functions of jax it takes to trace a step: what tracing is made of.

A number that is the same on each machine, where a time is not.
"""

import cProfile
import pstats
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp

from benchmarks.rivals.field import FIELD
from benchmarks.rivals.nets import NETS
from benchmarks.rivals.training import Training
from benchmarks.rivals.weights import problem

_PLAIN = "linen, plain"


def ratios(net: str, rivals: Sequence[str]) -> dict[str, float]:
    """Returns how many times as many calls as the plain Linen step each rival takes."""
    case = NETS[net]
    about = problem(case.net, case.image_shape, 1, cold=True)
    images = jnp.zeros((2, *case.image_shape))
    trainings = {
        rival.name: rival.prepare(about)
        for rival in FIELD
        if rival.name in (_PLAIN, *rivals)
    }
    _calls(trainings[_PLAIN], images)  # What a process does once only.
    plain = _calls(trainings[_PLAIN], images)
    return {name: _calls(trainings[name], images) / plain for name in rivals}


def _calls(training: Training, images: jax.Array) -> int:
    jax.clear_caches()
    profile = cProfile.Profile()
    profile.runcall(jax.jit(training.step).trace, training.carried, images, images)
    inside = Path(jax.__file__).parent
    found = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    return sum(
        n for (file, *_), (_, n, *_) in found.items() if inside in Path(file).parents
    )
