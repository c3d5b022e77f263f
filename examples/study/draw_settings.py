"""Miyato et al. 2018, Figures 1 and 2: the distance over Adam's settings A to F."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from examples.study.canvas import color, finish, grid_of_panels, label, sheet
from examples.study.methods import METHODS, ROBUSTNESS, SETTINGS
from examples.study.records import Record
from examples.study.series import chosen, distances, median_distance

_WIDTH, _TINT = 0.26, 0.55


def draw_settings(records: list[Record], path: Path) -> None:
    """Draws a bar for the median of each method and setting, a dot for each seed."""
    figure = sheet(9, 4.6)
    axes = grid_of_panels(figure, 1, 1)[0][0]
    bars = {
        (method, setting): chosen(records, method=method, loss=loss, setting=setting)
        for method, loss in ROBUSTNESS.items()
        for setting in SETTINGS
    }
    drawn = (d for runs in bars.values() for d in distances(runs) if d is not None)
    top = 2.5 * max(drawn, default=1.0)
    for (method, setting), runs in bars.items():
        place = list(ROBUSTNESS).index(method) - 1
        x = SETTINGS.index(setting) + place * _WIDTH
        _draw_bar(axes, x, runs, color(method), top)
    axes.set_xticks(range(len(SETTINGS)), SETTINGS)
    axes.set_xlim(-0.5, len(SETTINGS) - 0.5)
    axes.set_yscale("log")
    floors = [record["score"]["floor"] for record in records]
    axes.axhline(float(np.median(floors)), color="black", linestyle=":", linewidth=1)
    label(axes, "", "Adam's setting (Miyato et al. 2018, Table 1)", "Frechet distance")
    _name(axes)
    finish(
        figure,
        path,
        "Frechet distance over Adam's settings: lower is better",
        "Bar: median over the seeds; dots: seeds; x: diverged. Dotted: real images "
        "against real ones.\nA, B, C are common settings, D, E, F have a large rate "
        "and momentum.",
    )


def _draw_bar(axes: Axes, x: float, runs: list[Record], shade: str, top: float) -> None:
    """Draws a bar at the runs' median; what has diverged is at ``top``."""
    if not runs:
        return
    middle, found = median_distance(runs), distances(runs)
    hatch = "//" if middle is None else None
    height = top if middle is None else middle
    axes.bar(x, height, 0.9 * _WIDTH, color=shade, alpha=_TINT, hatch=hatch)
    places = x + np.linspace(-0.06, 0.06, len(runs))
    heights = [top if d is None else d for d in found]
    axes.plot(places, heights, "o", color=shade, markersize=4)
    for place, distance in zip(places, found, strict=True):
        if distance is None:
            axes.text(place, top, "x", ha="center", va="bottom", fontsize=9)


def _name(axes: Axes) -> None:
    """Names the methods above the panel."""
    axes.legend(
        [Patch(color=color(method), alpha=_TINT) for method in ROBUSTNESS],
        [f"{METHODS[m].label} ({loss})" for m, loss in ROBUSTNESS.items()],
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        ncols=3,
        fontsize=9,
        frameon=False,
    )
