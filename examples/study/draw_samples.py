"""Samples of each method, row under row, all from the same latent vectors."""

from pathlib import Path

import numpy as np
from jaxtyping import Float32
from matplotlib.axes import Axes
from matplotlib.image import imread
from PIL import Image

from examples.gan.errors import UserError
from examples.study.canvas import finish, grid_of_panels, sheet
from examples.study.methods import LOSSES, METHODS
from examples.study.records import Record, samples_path
from examples.study.series import compared, distances, losses_of, methods_of
from examples.study.verdict import numbers, short

SAMPLES = 10


def write_samples(
    path: Path, images: Float32[np.ndarray, "n side side channels"]
) -> None:
    """Writes the images, side by side, as a picture of their own size."""
    strip = np.concatenate(list((np.clip(images, -1, 1) + 1) / 2), axis=1)
    shades = np.round(255 * strip).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial-png")
    Image.fromarray(shades.squeeze()).save(partial, format="png", optimize=True)
    partial.replace(path)


def draw_samples(records: list[Record], path: Path, folder: Path) -> None:
    """Draws a column for each loss and a row for each method, of its first seed.

    Raises:
        UserError: a picture beside the records is gone.
    """
    losses, methods = losses_of(records), methods_of(records)
    figure = sheet(1.6 + 5.2 * len(losses), 1.1 + 0.56 * len(methods))
    for row, method in zip(
        grid_of_panels(figure, len(methods), len(losses)), methods, strict=True
    ):
        for axes, loss in zip(row, losses, strict=True):
            _draw_strip(axes, compared(records, method, loss)[:1], folder)
            if axes is row[0]:
                axes.set_ylabel(
                    METHODS[method].label, rotation=0, ha="right", va="center",
                    fontsize=9,
                )  # fmt: skip
            if method == methods[0]:
                axes.set_title(f"{loss}, setting {LOSSES[loss]}", fontsize=10)
    finish(
        figure,
        path,
        "Samples at the end, from the same latent vectors",
        "Each generator's first images, of the first seed; nothing is picked. With the "
        "Frechet distance at the right.",
    )


def _draw_strip(axes: Axes, runs: list[Record], folder: Path) -> None:
    """Draws one run's samples, with its distance beside them."""
    axes.set_xticks([])
    axes.set_yticks([])
    for edge in axes.spines.values():
        edge.set_visible(False)
    if not runs:
        return
    if (step := runs[0]["diverged_at"]) is not None:
        words = f"diverged in update {step:,}"
        axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", va="center")
        return
    path = samples_path(folder, runs[0]["name"])
    if not path.is_file():
        raise UserError(f"{path} is missing: expected the samples beside the record.")
    axes.imshow(imread(path), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    words = short(numbers(distances(runs[:1]))[0])
    axes.text(1.01, 0.5, words, transform=axes.transAxes, va="center", fontsize=8)
