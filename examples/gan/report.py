"""The tables at the end of a run: D's kernels against their SVD, and the score."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from rich.console import Console
from rich.table import Table

from examples.gan.exact import operator_norm
from examples.gan.settings import Config
from examples.gan.state import TrainState, kernels

_CAPTION = """carried: specjax's running estimate for the raw kernel, one power step \
per update, last taken just before the final update
exact: float64 {exact}
in D: exact norm of the kernel that D multiplies by, {used}"""

_EXACT = {
    False: "SVD of the raw kernel as a matrix (out = last axis)",
    True: "norm of the raw kernel as a convolution of images of its size",
}
_USED = {"sn": "raw / carried", "none": "the raw one: nothing constrains it"}


def kernel_rows(config: Config, state: TrainState) -> list[dict[str, Any]]:
    """Returns per kernel of D the carried and the exact sigma, and their difference."""
    rows, maps = [], kernels(config)
    for name, layer in state.sn.items():
        kernel = np.asarray(state.discriminator[name]["kernel"])
        conv = maps.get(f"{name}/kernel")
        exact = operator_norm(kernel, conv) if conv else exact_sigma(kernel)
        carried = float(layer["kernel"]["sigma"])
        rows.append(
            {
                "kernel": name,
                "shape": kernel.shape,
                "of": "operator" if conv else "matrix",
                "carried": carried,
                "exact": exact,
                "relative_error": abs(carried - exact) / exact,
            }
        )
    return rows


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
        title=f"Kernels of the discriminator after {step:,} steps "
        f"(--constraint {config.constraint}{' --operator' * config.operator})",
        caption=_CAPTION.format(
            exact=_EXACT[config.operator], used=_USED[config.constraint]
        ),
        caption_justify="left",
    )
    table.add_column("kernel")
    for heading in ("shape", "carried sigma", "exact sigma", "relative error", "in D"):
        table.add_column(heading, justify="right")
    for row in rows:
        scale = row["carried"] if config.constraint == "sn" else 1.0
        table.add_row(
            row["kernel"],
            "x".join(map(str, row["shape"])),
            f"{row['carried']:.4f}",
            f"{row['exact']:.4f}",
            f"{row['relative_error']:.1e}",
            f"{row['exact'] / scale:.4f}",
        )
    return table


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
