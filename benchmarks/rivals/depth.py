"""What a step costs by the number of kernels: apart, each a leaf, and in one stack.

A step here is `sn_apply` and its gradient. Apart, trace, compile and run grow with the
number of kernels; in a stack, as `nn.scan` makes one, only run does. Beside them are
as many plain layers: what the compiler itself takes for more of them.
"""

import functools
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

import specjax as sx
from benchmarks.rivals.compiled import counts
from benchmarks.rivals.phases import Ready, in_rounds, run

SIDE = 64
Row = dict[str, Any]
Kernels = dict[str, sx.Matrix]


class Params(NamedTuple):
    """Kernels, and the rule that says what they are."""

    tree: Any
    kernels: Kernels


def apart(depth: int) -> Params:
    """Returns kernels that are a leaf each."""
    tree = {f"Dense_{i}": {"kernel": kernel} for i, kernel in enumerate(_drawn(depth))}
    return Params(tree, {".*/kernel": sx.Matrix()})


def stack(depth: int) -> Params:
    """Returns the same kernels in one leaf."""
    tree = {"layers": {"Dense": {"kernel": _drawn(depth)}}}
    return Params(tree, {".*/kernel": sx.Matrix(batch_axis=0)})


def _drawn(depth: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.standard_normal((depth, SIDE, SIDE)).astype(np.float32)


class Program(NamedTuple):
    """What is traced, compiled and run."""

    step: Callable[..., Any]
    arguments: tuple[Any, ...]


class Form(NamedTuple):
    """How kernels lie, and how many of them are tried."""

    program: Callable[[int], Program]
    depths: tuple[int, ...]
    quick_depths: tuple[int, ...]


def step(kernels: Kernels) -> Callable[[Any, Any], Any]:
    """Returns a step: the gradient of something made of the normalized kernels."""

    def loss(tree: Any, state: Any) -> tuple[Any, Any]:
        normalized, state = sx.sn_apply(tree, state, kernels=kernels)
        sums = (jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(normalized))
        return sum(sums), state

    return jax.grad(loss, has_aux=True)


def _normalized(params: Params) -> Program:
    # Its numbers do not matter here, and its programs are not what is measured.
    shapes = jax.eval_shape(
        lambda t: sx.sn_init(t, kernels=params.kernels), params.tree
    )
    state = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.125), shapes)
    return Program(step(params.kernels), jax.device_put((params.tree, state)))


def _network(depth: int) -> Program:
    """Returns the gradient of a network of dense layers, without normalization."""

    def loss(kernels: list[Any]) -> Any:
        return jnp.sum(functools.reduce(lambda x, w: jax.nn.relu(x @ w), kernels, x))

    x = jnp.ones((8, SIDE))
    return Program(jax.grad(loss), (jax.device_put(list(_drawn(depth))),))


FORMS = {
    "apart": Form(
        lambda depth: _normalized(apart(depth)), (10, 30, 100, 300, 1000), (10, 100)
    ),
    "in a stack": Form(
        lambda depth: _normalized(stack(depth)), (10, 100, 1000), (10, 100)
    ),
    "layers, plain": Form(_network, (100, 300, 1000), (100,)),
}


def measure(
    *, quick: bool, say: Callable[[str], None] = lambda _: None
) -> Iterable[Row]:
    """Yields a row for each form and number of kernels.

    Trace and compile are the median of rounds, in each of which every row has its turn.

    Args:
        quick: whether to be done in half a minute: one round.
        say: is told what is done.
    """
    heads = {
        f"{depth:,} {name}": {"form": name, "kernels": depth}
        for name, form in FORMS.items()
        for depth in (form.quick_depths if quick else form.depths)
    }
    programs = {
        label: FORMS[head["form"]].program(head["kernels"])
        for label, head in heads.items()
    }
    compiled: dict[str, Any] = {}
    times: dict[str, list[list[float]]] = {label: [] for label in heads}
    # What a process does once only is no row's time.
    _build(next(iter(programs.values())))
    for label in in_rounds(heads, 1 if quick else 3):
        say(label)
        compiled[label], *seconds = _build(programs[label])
        times[label].append(seconds)
    for label, head in heads.items():
        trace, compile_ = np.median(times[label], axis=0).tolist()
        yield head | {
            "trace": trace,
            "compile": compile_,
            "rounds": len(times[label]),
            "run": _run(programs[label], compiled[label], 1 if quick else 5),
            "counts": counts(compiled[label])._asdict(),
        }


def _build(program: Program) -> tuple[Any, float, float]:
    """Returns a program compiled, and the seconds of tracing and of compiling it."""
    jax.clear_caches()
    start = time.perf_counter()
    traced = jax.jit(program.step).trace(*program.arguments)
    middle = time.perf_counter()
    compiled = traced.lower().compile()
    return compiled, middle - start, time.perf_counter() - middle


def _run(program: Program, compiled: Any, seconds: float) -> float:
    def take() -> None:
        jax.block_until_ready(compiled(*program.arguments))

    times = run({"step": Ready(take, compiled)}, seconds)["step"]
    return float(np.median(times))


def table(rows: Sequence[Row]) -> Table:
    """Returns the rows as a table: what each kernel takes of each phase."""
    found = Table(title=f"Kernels of {SIDE}x{SIDE}: a step's time for each of them")
    found.add_column("kernels", no_wrap=True)
    for name in ("trace", "compile", "run", "instructions", "MB"):
        found.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        n, program = row["kernels"], row["counts"]
        found.add_row(
            f"{n:,} {row['form']}",
            *(f"{1e3 * row[phase] / n:,.2f} ms" for phase in ("trace", "compile")),
            f"{1e6 * row['run'] / n:,.1f} us",
            f"{program['instructions'] / n:,.1f}",
            f"{program['bytes'] / n / 1e6:,.3f}",
        )
    return found
