"""The phases of a step, timed apart: trace, compile, run.

In every round each rival has its turn, in a new order, so that what else the machine
does falls on all of them alike.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.rivals.training import Training

Times = dict[str, list[float]]  # seconds, an entry for each round


class Ready(NamedTuple):
    """A step that can run: compiled, or eager."""

    take: Callable[[], None]
    compiled: Any | None


class Built(NamedTuple):
    """Compiled steps by name, and the seconds that each round of tracing took."""

    ready: dict[str, Ready]
    trace: Times
    compile: Times


def build(trainings: dict[str, Training], inputs: Any, n_rounds: int) -> Built:
    """Traces and compiles every step, in every round from nothing.

    Args:
        trainings: by name.
        inputs: real and fake, as numpy arrays with channels last.
        n_rounds: how often; what is kept is the last.
    """
    compiled: dict[str, Any] = {}
    trace: Times = {name: [] for name, each in trainings.items() if not each.eager}
    compile_: Times = {name: [] for name in trace}
    for name in list(trace)[:1]:
        # What a process does once only is nobody's time.
        jax.jit(trainings[name].step).trace(*_arguments(trainings[name], inputs))
    for name in in_rounds(trace, n_rounds):
        jax.clear_caches()
        arguments = _arguments(trainings[name], inputs)
        jitted = jax.jit(trainings[name].step, donate_argnums=0)
        start = time.perf_counter()
        traced = jitted.trace(*arguments)
        middle = time.perf_counter()
        compiled[name] = traced.lower().compile()
        trace[name].append(middle - start)
        compile_[name].append(time.perf_counter() - middle)
    ready = {
        name: _ready(training, inputs, compiled.get(name))
        for name, training in trainings.items()
    }
    return Built(ready, trace, compile_)


def run(ready: dict[str, Ready], seconds: float) -> Times:
    """Returns the seconds that each step took, after two that do not count.

    Args:
        ready: the steps by name.
        seconds: for each step, in which as many rounds are made as fit, at least 5 and
            at most 200.
    """
    for each in ready.values():
        each.take()
    one_step = np.mean([_seconds(each) for each in ready.values()])
    n_rounds = int(np.clip(seconds / one_step, 5, 200))
    times: Times = {name: [] for name in ready}
    for name in in_rounds(ready, n_rounds):
        times[name].append(_seconds(ready[name]))
    return times


def _seconds(ready: Ready) -> float:
    start = time.perf_counter()
    ready.take()
    return time.perf_counter() - start


def in_rounds(names: Iterable[str], n_rounds: int) -> Iterable[str]:
    """Yields every name once in each round, in a new order."""
    rng = np.random.default_rng(0)
    for _ in range(n_rounds):
        yield from rng.permutation(list(names)).tolist()


def _arguments(training: Training, inputs: Any) -> tuple[Any, ...]:
    return (training.carried, *(training.inputs(x) for x in inputs))


def _ready(training: Training, inputs: Any, compiled: Any) -> Ready:
    step = training.step if compiled is None else compiled
    carried, *batches = _arguments(training, inputs)
    if compiled is not None:
        # The step is given its own copy, which it may overwrite.
        carried = jax.tree.map(jnp.array, carried)
    held = [carried]

    def take() -> None:
        held[0], loss = step(held[0], *batches)
        float(loss)

    return Ready(take, compiled)
