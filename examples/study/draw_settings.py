"""Miyato et al. 2018, Figures 1 and 2: the distance over Adam's settings A to F."""

from pathlib import Path

import numpy as np

from examples.study.canvas import color, finish, grid_of_panels, label, sheet
from examples.study.methods import METHODS, ROBUSTNESS, SETTINGS
from examples.study.records import Record
from examples.study.series import chosen, distances, median_distance

_WIDTH = 0.26


def draw_settings(records: list[Record], path: Path) -> None:
    """Draws a bar for the median of each method and setting, a dot for each seed."""
    figure = sheet(9, 4.6)
    axes = grid_of_panels(figure, 1, 1)[0][0]
    known = [d for d in distances(records) if d is not None]
    top = 2.5 * max(known, default=1.0)
    for i, (method, loss) in enumerate(ROBUSTNESS.items()):
        for j, setting in enumerate(SETTINGS):
            runs = chosen(records, method=method, loss=loss, setting=setting)
            if not runs:
                continue
            x = j + (i - 1) * _WIDTH
            height = median_distance(runs)
            heights = [top if d is None else d for d in distances(runs)]
            axes.bar(
                x, top if height is None else height, _WIDTH * 0.9,
                color=color(method), alpha=0.55, hatch="//" if height is None else None,
            )  # fmt: skip
            places = x + np.linspace(-0.06, 0.06, len(runs))
            axes.plot(places, heights, "o", color=color(method), markersize=4)
            for place, distance in zip(places, distances(runs), strict=True):
                if distance is None:
                    axes.text(place, top, "x", ha="center", va="bottom", fontsize=9)
    axes.set_xticks(range(len(SETTINGS)), SETTINGS)
    axes.set_xlim(-0.5, len(SETTINGS) - 0.5)
    axes.set_yscale("log")
    floors = [record["score"]["floor"] for record in records]
    axes.axhline(float(np.median(floors)), color="black", linestyle=":", linewidth=1)
    label(axes, "", "Adam's setting (Miyato et al. 2018, Table 1)", "Frechet distance")
    handles = [axes.bar(0, 0, color=color(method), alpha=0.55) for method in ROBUSTNESS]
    words = [f"{METHODS[m].label} ({loss})" for m, loss in ROBUSTNESS.items()]
    axes.legend(
        handles, words, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3,
        fontsize=9, frameon=False,
    )  # fmt: skip
    finish(
        figure,
        path,
        "Frechet distance over Adam's settings: lower is better",
        "Bar: median over the seeds; dots: seeds; x: diverged. Dotted: real images "
        "against real ones.\nA, B, C are common settings, D, E, F have a large rate "
        "and momentum.",
    )
