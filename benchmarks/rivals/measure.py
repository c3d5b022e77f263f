"""One network, every rival: times in interleaved rounds, and the compiler's counts.

A framework at a time, so that memory holds a few copies of a network and not all.
"""

import gc
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.rivals import phases
from benchmarks.rivals.compiled import counts
from benchmarks.rivals.field import FIELD, Rival
from benchmarks.rivals.nets import Case
from benchmarks.rivals.ratios import ratio, spread
from benchmarks.rivals.weights import problem

Row = dict[str, Any]


class Effort(NamedTuple):
    """How often, and how long.

    Attributes:
        builds: of each step from nothing.
        run_seconds: of each step.
        cold: whether what is carried begins at any numbers.
    """

    builds: int
    run_seconds: float
    cold: bool


def measure(
    net: str,
    case: Case,
    batch: int,
    effort: Effort,
    *,
    passes: int = 1,
    rivals: Sequence[Rival] = FIELD,
    say: Callable[[str], None] = lambda _: None,
) -> Iterable[Row]:
    """Yields a row for each rival, as JSON takes it.

    A row has "missing" if the rival's package is not there. Else "trace", "compile" and
    "run" have "seconds" (the median) and, but for a plain step, "ratio": quartiles of
    the ratio to the plain step of the same framework in the same round.

    Args:
        net: the network's name, for the rows.
        case: the network.
        batch: real inputs, and as many fake.
        effort: how often, and for how long.
        passes: in which real and fake inputs go through the network: 1 or 2.
        rivals: with the plain step of each framework among them.
        say: is told what is done.
    """
    about = problem(case.net, case.image_shape, passes, cold=effort.cold)
    inputs = _inputs((batch, *case.image_shape))
    for plain in (rival for rival in rivals if rival.plain is None):
        group = [rival for rival in rivals if plain.name in (rival.name, rival.plain)]
        if plain.missing():
            yield from ({**_head(net, batch, r), "missing": r.missing()} for r in group)
            continue
        say(f"{net}: {', '.join(rival.name for rival in group)}")
        trainings = {rival.name: rival.prepare(about) for rival in group}
        built = phases.build(trainings, inputs, effort.builds)
        times = {
            "trace": built.trace,
            "compile": built.compile,
            "run": phases.run(built.ready, effort.run_seconds),
        }
        for rival in group:
            row = _head(net, batch, rival) | {"passes": passes}
            row |= _phases(times, rival)
            compiled = built.ready[rival.name].compiled
            if compiled is not None:
                row[jax.default_backend()] = counts(compiled)._asdict()
            yield row
        del trainings, built
        jax.clear_caches()
        gc.collect()


def _inputs(shape: tuple[int, ...]) -> Any:
    return np.random.default_rng(1).uniform(-1, 1, (2, *shape)).astype(np.float32)


def _head(net: str, batch: int, rival: Rival) -> Row:
    return {
        "net": net,
        "batch": batch,
        "rival": rival.name,
        "plain": rival.plain,
        "ours": rival.ours,
    }


def _phases(by_phase: dict[str, phases.Times], rival: Rival) -> Row:
    row: Row = {}
    for phase, by_name in by_phase.items():
        if rival.name not in by_name:
            continue
        times = by_name[rival.name]
        row[phase] = {"seconds": spread(times).median, "rounds": len(times)}
        if rival.plain is not None:
            row[phase]["ratio"] = list(ratio(by_name, rival.name, rival.plain))
    return row
