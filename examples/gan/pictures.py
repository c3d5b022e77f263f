"""The two pictures of a run: a grid of samples, and the curves of its metrics."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Float32
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from examples.gan.parametrizations import PARAMETRIZATIONS
from examples.gan.settings import Config

Images = Float32[np.ndarray, "n side side channels"]

_ROWS = 8
_CLASSES = ", one class in each column"


def draw_samples(
    path: Path, real: Images, fake: Images, step: int, classes: bool = False
) -> None:
    """Draws real and generated images side by side, in 8 rows.

    Args:
        path: of the picture.
        real: images, a multiple of 8.
        fake: as many.
        step: after which G drew them.
        classes: whether G drew ten classes in turn.
    """
    figure = Figure(figsize=(11, 6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    side = real.shape[1]
    _draw_grid(left, real, f"Real images of {side}x{side} pixels")
    _draw_grid(right, fake, f"Generated after {step:,} steps{_CLASSES * classes}")
    figure.savefig(path, dpi=120)


def _draw_grid(axes: Axes, images: Images, title: str) -> None:
    """Draws the images on grey, so that they do not run into each other."""
    axes.imshow(grid(enlarge(images)), cmap="gray", vmin=0, vmax=1)
    axes.set_title(title)
    axes.set_axis_off()


def enlarge(images: Images) -> Images:
    """Returns the images at a side of 64 pixels at least, without visible steps."""
    n, side, _, channels = images.shape
    factor = max(1, 64 // side)
    shape = (n, side * factor, side * factor, channels)
    return np.asarray(jax.image.resize(images, shape, "bicubic"))


def grid(images: Images) -> Float32[np.ndarray, "height width channels"]:
    """Returns one picture in [0, 1] with the images in 8 rows, a gap around each."""
    n, side, _, channels = images.shape
    gap = max(1, side // 8)
    images = np.clip((images + 1) / 2, 0, 1)
    margin = ((0, 0), (gap, 0), (gap, 0), (0, 0))
    tiles = np.pad(images, margin, constant_values=0.4)
    rows = tiles.reshape(_ROWS, n // _ROWS, side + gap, side + gap, channels)
    picture = rows.transpose(0, 2, 1, 3, 4).reshape(
        _ROWS * (side + gap), n // _ROWS * (side + gap), channels
    )
    return np.pad(picture, ((0, gap), (0, gap), (0, 0)), constant_values=0.4)


def draw_curves(path: Path, metrics: list[dict[str, Any]], config: Config) -> None:
    """Draws the losses, the norm of D's input gradient and sigma per kernel."""
    figure = Figure(figsize=(9, 10), layout="constrained")
    FigureCanvasAgg(figure)
    losses, gradient, sigma = figure.subplots(3, 1, sharex=True)
    steps = [line["step"] for line in metrics]
    curves = {"d_loss": "discriminator", "g_loss": "generator"}
    if config.parts.penalties:
        curves |= {"d_loss": "discriminator,\nwith penalty", "penalty": "penalty"}
    for key, name in curves.items():
        _draw_smoothed(losses, steps, [line[key] for line in metrics], name)
    _label(losses, f"{config.loss.capitalize()} losses", "loss (no unit)")
    norms = [line["gradient_norm"] for line in metrics]
    _draw_smoothed(gradient, steps, norms, "mean over\nreal images")
    _label(
        gradient,
        "Norm of the discriminator's gradient with respect to its input",
        "score per unit of grey (black -1, white 1)",
    )
    for kernel in metrics[-1]["sigma"]:
        values = [line["sigma"][kernel] for line in metrics]
        sigma.plot(steps, np.asarray(values, np.float64), label=kernel)
    as_used = PARAMETRIZATIONS[config.parts.parametrization].as_used
    before = "as they are used" if as_used else "before they are normalized"
    _label(sigma, f"Sigma of the discriminator's kernels, {before}", "sigma (no unit)")
    sigma.set_xlabel("steps (updates of both networks)")
    figure.savefig(path, dpi=120)


def _draw_smoothed(
    axes: Axes, steps: list[int], values: list[float | None], name: str
) -> None:
    """Draws the values faintly, and over them their mean over a fiftieth of the run."""
    window = max(1, len(values) // 50)
    smooth = _means(np.asarray(values, np.float64), window)
    (line,) = axes.plot(steps[window - 1 :], smooth, label=name, zorder=3)
    axes.plot(
        steps,
        np.asarray(values, np.float64),
        color=line.get_color(),
        alpha=0.25,
        linewidth=0.8,
    )


def _means(values: Float[np.ndarray, " n"], window: int) -> Float[np.ndarray, " m"]:
    """Returns the mean of each window, without the gaps (NaN) in it."""
    known, ones = np.isfinite(values), np.ones(window)
    sums = np.convolve(np.where(known, values, 0), ones, mode="valid")
    counts = np.convolve(known, ones, mode="valid")
    return np.where(counts > 0.5, sums / np.maximum(counts, 1), np.nan)


def _label(axes: Axes, title: str, unit: str) -> None:
    """Gives the axes their title, their unit, and a legend beside them."""
    axes.set_title(title)
    axes.set_ylabel(unit)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)
