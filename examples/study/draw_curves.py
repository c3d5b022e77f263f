"""The write-up's Figures 1 to 3: gradient norm and losses over the iterations."""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from examples.study.canvas import (
    finish,
    grid_of_panels,
    label,
    legend_of,
    look,
    seeds_words,
    sheet,
)
from examples.study.methods import LOSSES
from examples.study.records import Record
from examples.study.series import (
    Curves,
    compared,
    first_updates,
    losses_of,
    methods_of,
    whole_runs,
)


class Curve(NamedTuple):
    """What one of the three figures shows, and how."""

    title: str
    unit: str
    scale: str


CURVES = {
    "gradient_norm": Curve(
        "Norm of the critic's gradient with respect to its input, at real images",
        "score per unit of grey",
        "log",
    ),
    "generator_loss": Curve("The generator's loss", "loss", "symlog"),
    "critic_loss": Curve("The critic's loss, without its penalty", "loss", "symlog"),
}

_PARTS = {"first updates": first_updates, "whole run": whole_runs}


def draw_curve(records: list[Record], path: Path, name: str) -> None:
    """Draws a row for each loss: the first updates, one by one, and the whole run."""
    curve = CURVES[name]
    losses = losses_of(records)
    figure = sheet(11, 1.2 + 3.3 * len(losses))
    counts = set()
    for row, loss in zip(grid_of_panels(figure, len(losses), 2), losses, strict=True):
        for axes, (part, curves_of) in zip(row, _PARTS.items(), strict=True):
            for method in methods_of(records):
                runs = compared(records, method, loss)
                counts |= {len(runs)} if runs else set()
                _draw_band(axes, curves_of(runs, name), look(method))
            _scale(axes, curve.scale)
            title = f"{loss}, setting {LOSSES[loss]}: {part}"
            label(axes, title, "updates of the generator", curve.unit)
    legend_of(figure, methods_of(records))
    caption = (
        f"Line: mean over {seeds_words(sorted(counts))}; band: smallest to largest. "
        "Left: every update. Right: means of bins."
    )
    finish(figure, path, curve.title, caption)


def _draw_band(axes: Axes, curves: Curves, style: dict[str, Any]) -> None:
    """Draws the mean over the runs, and from the smallest to the largest of them."""
    steps, rows = curves
    if not np.isfinite(rows).any():
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nobody has got that far
        mean, low = np.nanmean(rows, axis=0), np.nanmin(rows, axis=0)
        high = np.nanmax(rows, axis=0)
    axes.plot(steps, mean, linewidth=1.2, **style)
    axes.fill_between(steps, low, high, color=style["color"], alpha=0.2, linewidth=0)


def _scale(axes: Axes, scale: str) -> None:
    """Sets the axis; a loss within 10 is on a plain one, so that it has ticks."""
    values = [np.asarray(line.get_ydata(), np.float64) for line in axes.lines]
    if not values:
        return
    if scale == "symlog" and np.nanmax(np.abs(np.concatenate(values))) > 10:
        axes.set_yscale("symlog", linthresh=1.0)
    elif scale == "log":
        axes.set_yscale("log")
