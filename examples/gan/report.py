"""The tables at the end of a run: D's kernels against their SVD, and the score."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from rich.console import Console
from rich.table import Table

from examples.gan.exact import operator_norm
from examples.gan.parametrizations import PARAMETRIZATIONS
from examples.gan.projections import PROJECTIONS
from examples.gan.settings import Config
from examples.gan.state import TrainState, by_name, d_kernels, kernels, raw_kernels

_CAPTION = """carried: specjax's running estimate for the raw kernel, one power step \
per update, last taken just before the final update
exact: float64 {exact}
in D: exact norm of the kernel that D multiplies by, {used}{after}"""

_EXACT = {
    False: "SVD of the raw kernel as a matrix (out = last axis)",
    True: "norm of the raw kernel as a convolution of images of its size",
}


def kernel_rows(config: Config, state: TrainState) -> list[dict[str, Any]]:
    """Returns per kernel of D the carried and the exact sigma, and that in use."""
    rows, maps = [], kernels(config)
    raw, used = raw_kernels(config, state), d_kernels(config, state)
    for name, entry in by_name(state.sn).items():
        conv = maps.get(f"{name}/kernel")

        def norm_in(params: Any, name: str = name, conv: Any = conv) -> float:
            kernel = np.asarray(kernel_of(params, name))
            return operator_norm(kernel, conv) if conv else exact_sigma(kernel)

        carried, exact = float(entry["sigma"]), norm_in(raw)
        rows.append(
            {
                "kernel": name,
                "shape": kernel_of(raw, name).shape,
                "of": "operator" if conv else "matrix",
                "carried": carried,
                "exact": exact,
                "relative_error": abs(carried - exact) / exact,
                "in_d": norm_in(used),
            }
        )
    return rows


def kernel_of(params: Any, name: str) -> Any:
    """Returns the kernel of the layer that `by_name` calls so."""
    for part in name.split("/"):
        params = params[part]
    return params["kernel"]


def exact_sigma(kernel: Float[np.ndarray, "... out"]) -> float:
    """Returns the largest singular value of the kernel as a matrix, by float64 SVD."""
    matrix = kernel.astype(np.float64).reshape(-1, kernel.shape[-1])
    return float(np.linalg.svd(matrix, compute_uv=False)[0])


def show(config: Config, rows: list[dict[str, Any]], score: dict[str, Any]) -> None:
    """Prints both tables."""
    console = Console()
    console.print(_kernel_table(config, rows, score["step"]), _score_table(score))


def _kernel_table(config: Config, rows: list[dict[str, Any]], step: int) -> Table:
    """Carried sigma, exact sigma and their relative error, kernel by kernel."""
    table = Table(
        title=f"Kernels of the discriminator after {step:,} steps ({config.flags})",
        caption=_CAPTION.format(exact=_EXACT[config.operator], **_in_d(config)),
        caption_justify="left",
    )
    table.add_column("kernel")
    for heading in ("shape", "carried sigma", "exact sigma", "relative error", "in D"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row["kernel"],
            "x".join(map(str, row["shape"])),
            f"{row['carried']:.4f}",
            f"{row['exact']:.4f}",
            f"{row['relative_error']:.1e}",
            f"{row['in_d']:.4f}",
        )
    return table


def _in_d(config: Config) -> dict[str, str]:
    """Returns what D multiplies by, and what a projection has made of it."""
    parts = config.parts
    after = ""
    if parts.projection:
        after = f",\nput back after each update: {PROJECTIONS[parts.projection].words}"
    elif config.constraint == "none":
        after = ": nothing constrains it"
    return {"used": PARAMETRIZATIONS[parts.parametrization].words, "after": after}


def _score_table(score: dict[str, Any]) -> Table:
    """The Frechet distances with all that is needed to judge them."""
    rows = {
        "classifier on unseen real images": (
            f"{score['classifier_test_accuracy']:.1%} right of {score['n_test']:,}"
        ),
        "n_real, n_fake": f"{score['n_real']:,}, {score['n_fake']:,}",
        "distance, trained generator": f"{score['distance']:.2f}",
        "distance, untrained generator": f"{score['distance_untrained']:.2f}",
        "untrained / trained": f"{score['untrained_over_trained']:.1f}",
        "distance, real half to real half": f"{score['distance_real_to_real']:.2f}",
        f"classes among {score['n_classified']:,} samples": _shares(score),
        "smallest share of a class": f"{score['smallest_class_share']:.1%}",
    }
    table = Table(title="Frechet distance on the classifier's features")
    table.add_column("what")
    table.add_column("value")
    for what, value in rows.items():
        table.add_row(what, value)
    return table


def _shares(score: dict[str, Any]) -> str:
    """Returns the share of each class, four in a line."""
    shares = [count / score["n_classified"] for count in score["class_counts"]]
    words = [f"{i}: {share:.1%}".ljust(9) for i, share in enumerate(shares)]
    return "\n".join(" ".join(words[i : i + 4]).rstrip() for i in (0, 4, 8))


def files(folder: Path) -> str:
    """Returns where the run's files are, as the last words of a run."""
    pictures = ("samples.png", "curves.png", "spectra.png")
    records = ("report.txt", "report.json", "metrics.jsonl", "score.json")
    names = (*pictures, *records, "checkpoints")
    return "\n".join(str(folder / name) for name in names)
