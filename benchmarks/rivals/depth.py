"""What a step costs by the number of kernels: apart, each a leaf, and in one stack.

A step here is `sn_apply` and its gradient. Apart, trace, compile and run grow with the
number of kernels; in a stack, as `nn.scan` makes one, only run does.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

import specjax as sx
from benchmarks.rivals.compiled import counts
from benchmarks.rivals.phases import Ready, run

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


class Form(NamedTuple):
    """How kernels lie, and how many of them are tried."""

    make: Callable[[int], Params]
    depths: tuple[int, ...]
    quick_depths: tuple[int, ...]


FORMS = {
    "apart": Form(apart, (10, 30, 100, 300, 1000), (10, 100)),
    "in a stack": Form(stack, (10, 100, 1000), (10, 100)),
}


def step(kernels: Kernels) -> Callable[[Any, Any], Any]:
    """Returns a step: the gradient of something made of the normalized kernels."""

    def loss(tree: Any, state: Any) -> tuple[Any, Any]:
        normalized, state = sx.sn_apply(tree, state, kernels=kernels)
        sums = (jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(normalized))
        return sum(sums), state

    return jax.grad(loss, has_aux=True)


def measure(
    *, quick: bool, say: Callable[[str], None] = lambda _: None
) -> Iterable[Row]:
    """Yields a row for each form and number of kernels.

    Args:
        quick: whether to be done in half a minute.
        say: is told what is done.
    """
    for name, form in FORMS.items():
        for depth in form.quick_depths if quick else form.depths:
            say(f"{depth} kernels {name}")
            row = _row(form.make(depth), 1 if quick else 5)
            yield {"form": name, "kernels": depth} | row
            jax.clear_caches()


def _row(params: Params, seconds: float) -> Row:
    # Its numbers do not matter here, and its programs are not what is measured.
    shapes = jax.eval_shape(
        lambda t: sx.sn_init(t, kernels=params.kernels), params.tree
    )
    state = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.125), shapes)
    jax.clear_caches()
    start = time.perf_counter()
    traced = jax.jit(step(params.kernels)).trace(params.tree, state)
    middle = time.perf_counter()
    compiled = traced.lower().compile()
    end = time.perf_counter()
    tree = jax.device_put(params.tree)
    ready = Ready(lambda: jax.block_until_ready(compiled(tree, state)), compiled)
    times = run({"step": ready}, seconds)["step"]
    return {
        "trace": middle - start,
        "compile": end - middle,
        "run": float(np.median(times)),
        "counts": counts(compiled)._asdict(),
    }


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
