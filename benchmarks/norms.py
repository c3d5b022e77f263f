"""Measures the norms of docs/which-norm.md: of the matrix, of the operator, and bounds.

    python -m benchmarks.norms [--only kernels|published|costs]

Prints three tables in Markdown: kernels and their norms, published numbers beside ours,
and what each method costs. Device: a CPU with 2 cores. Time: about 4 minutes.
"""

import argparse
import math
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import specjax as sx
from specjax import bounds

_SIDE = 12  # of the images, so that the dense operator has an SVD: 2304 x 2304

# Window, channels in and out, and the words of the convolution; None: a Dense.
KERNELS: dict[str, tuple[tuple[int, ...], dict[str, Any] | None]] = {
    "Dense, 256 to 128": ((256, 128), None),
    "3x3, 16 to 16": ((3, 3, 16, 16), {}),
    "3x3, 16 to 16, circular": ((3, 3, 16, 16), {"padding": "CIRCULAR"}),
    "4x4, stride 2, 16 to 32": ((4, 4, 16, 32), {"window_strides": 2}),
    "5x5, 16 to 16": ((5, 5, 16, 16), {}),
    "3x3 depthwise, 16": ((3, 3, 1, 16), {"feature_group_count": 16}),
    "4x4, stride 4, VALID (patches)": (
        (4, 4, 16, 32),
        {"window_strides": 4, "padding": "VALID"},
    ),
    "4x4 transposed, stride 2, 16 to 8": (
        (4, 4, 16, 8),
        {"window_strides": 2, "transposed": True},
    ),
}


def main() -> None:
    """Prints the tables."""
    tables = {
        "kernels": _print_kernels,
        "published": _print_published,
        "costs": _print_costs,
    }
    parser = argparse.ArgumentParser(prog="python -m benchmarks.norms")
    parser.add_argument("--only", choices=tables, help="one table (default: all)")
    only = parser.parse_args().only
    print(f"{platform.machine()} CPU, jax {jax.__version__}, float32, seed 0\n")
    for name, print_table in tables.items():
        if only in (None, name):
            print_table()


def _kernel(shape: tuple[int, ...], seed: int = 0) -> jax.Array:
    """Returns a kernel of normal entries, variance one over the fan-in."""
    fan_in = math.prod(shape[:-1])
    normal = np.random.default_rng(seed).standard_normal(shape)
    return jnp.asarray(normal / fan_in**0.5, jnp.float32)


def _print_kernels() -> None:
    rows = []
    for name, (shape, words) in KERNELS.items():
        kernel = _kernel(shape)
        matrix = float(bounds.exact(kernel).value)
        if words is None:
            proved = float(bounds.upper(kernel).value)
            rows.append([name, f"{matrix:.3f}", "the same", "1.00", f"{proved:.3f}"])
            rows[-1] += ["the same", "", f"{_upper(kernel, method='aol'):.3f}"]
            continue
        conv = sx.Conv((_SIDE, _SIDE), **words)
        operator = float(bounds.exact(kernel, conv).value)
        rows.append([
            name,
            f"{matrix:.3f}",
            f"{operator:.3f}",
            f"{operator / matrix:.2f}",
            f"{_upper(kernel, conv):.3f}",
            f"{_upper(kernel, conv, every_size=True):.3f}",
            f"{_upper(kernel, conv, method='fantastic_four'):.3f}",
            f"{_upper(kernel, conv, method='aol'):.3f}",
        ])  # fmt: skip
    header = "kernel|matrix, exact|operator, exact|ratio|operator, upper|every size, "
    header += "upper|fantastic four, upper|AOL, upper"
    _table(header.split("|"), rows)


def _upper(kernel: jax.Array, *args: Any, **words: Any) -> float:
    return float(bounds.upper(kernel, *args, **words).value)


def _print_published() -> None:
    rows = [_gram_in_double_precision(), *_five_by_five()]
    n = 20
    second = jnp.array([1.0, -2.0, 1.0])[:, None, None]
    box, image = jnp.ones((3, 3, 1, 1)), (n, n)
    closed = 2 + 2 * math.cos(math.pi / (n + 1))
    box_closed = (1 + 2 * math.cos(math.pi / (n + 1))) ** 2
    circular = sx.Conv(image, padding="CIRCULAR")
    for what, published, ours in (
        ("[1, -2, 1], SAME, n = 20", closed, bounds.exact(second, sx.Conv((n,)))),
        ("ones(3, 3), SAME, n = 20", box_closed, bounds.exact(box, sx.Conv(image))),
        ("ones(3, 3), circular", 9, bounds.exact(box, circular)),
        ("ones(3, 3), reshaped", 3, bounds.exact(box)),
    ):
        rows.append([what, f"{published:.6f}", f"{float(ours.value):.6f}", "exact"])
    _table(["what", "published or closed form", "ours", "kind"], rows)


def _gram_in_double_precision() -> list[str]:
    matrix = np.random.default_rng(0).standard_normal((500, 400))
    with jax.enable_x64(True):
        bound = float(bounds.upper(jnp.asarray(matrix), n_squarings=15).value)
    error = bound / np.linalg.norm(matrix, 2) - 1
    what = "Gram, 500x400 normal, float64, 15 steps: excess over the norm"
    return [what, "3.6e-12", f"{error:.1e}", "upper"]


def _five_by_five(n_seeds: int = 20) -> list[list[str]]:
    conv = sx.Conv((12, 12), padding="CIRCULAR")
    found = []
    for seed in range(n_seeds):
        normal = np.random.default_rng(seed).standard_normal((5, 5, 64, 64))
        kernel = jnp.asarray(normal, jnp.float32)
        exact = float(bounds.exact(kernel, conv).value)
        four = _upper(kernel, conv, method="fantastic_four") / exact
        found.append((exact, four, _upper(kernel, conv, n_steps=5) / exact))
    what = "5x5, 64 to 64, normal, circular, n = 12"
    names = (
        (f"{what}: norm", "83.09", "exact"),
        (f"{what}: fantastic four over it", "2.131", "upper"),
        (f"{what}: Gram, 5 steps, over it", "1.0003", "upper"),
    )
    rows = []
    for (name, published, kind), values in zip(
        names, zip(*found, strict=True), strict=True
    ):
        middle, low, high = np.median(values), min(values), max(values)
        ours = f"{middle:.5g} ({low:.5g} to {high:.5g}, {n_seeds} seeds)"
        rows.append([name, published, ours, kind])
    return rows


def _print_costs() -> None:
    image = (32, 32)
    big = ((3, 3, 256, 256), "3x3, 256 to 256, 32x32")
    cases: list[tuple[str, str, tuple[int, ...], Callable[[jax.Array], Any]]] = [
        ("1024x4608", "SVD", (1024, 4608), bounds.exact),
        ("1024x4608", "Golub-Kahan", (1024, 4608), bounds.lower),
        ("1024x4608", "Gram", (1024, 4608), bounds.upper),
        (
            f"{big[1]}, circular",
            "SVD of each frequency",
            big[0],
            lambda k: bounds.exact(k, sx.Conv(image, padding="CIRCULAR")),
        ),
        (
            f"{big[1]}, SAME",
            "Gram on the spectrum",
            big[0],
            lambda k: bounds.upper(k, sx.Conv(image)),
        ),
        (
            f"{big[1]}, SAME",
            "fantastic four",
            big[0],
            lambda k: bounds.upper(k, sx.Conv(image), method="fantastic_four"),
        ),
    ]
    rows = []
    for name, method, shape, function in cases:
        kernel = _kernel(shape)
        compiled = jax.jit(lambda k, f=function: f(k).value).lower(kernel).compile()
        memory: Any = compiled.memory_analysis()
        function(kernel).value.block_until_ready()
        start = time.perf_counter()
        found = function(kernel)
        found.value.block_until_ready()
        seconds = time.perf_counter() - start
        value = f"{float(found.value):.4f} ({found.kind})"
        megabytes = f"{memory.temp_size_in_bytes / 2**20:.0f} MiB"
        rows.append([name, method, value, f"{seconds:.1f} s", megabytes])
    _table(["kernel", "method", "value", "time", "temporary memory"], rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


if __name__ == "__main__":
    main()
