"""Miyato et al. 2018, Figure 3: the singular values of each layer of the critic."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from examples.study.canvas import (
    finish,
    grid_of_panels,
    label,
    legend_of,
    look,
    sheet,
)
from examples.study.records import Record
from examples.study.series import compared, losses_of, methods_of

_COLUMNS = 5


def draw_spectra(records: list[Record], path: Path) -> None:
    """Draws a row for each loss and a column for each layer with a spectrum."""
    losses, layers = losses_of(records), _layers(records)
    figure = sheet(1.9 + 2.6 * len(layers), 1.2 + 2.9 * len(losses))
    panels = grid_of_panels(figure, len(losses), len(layers))
    for row, loss in zip(panels, losses, strict=True):
        for axes, layer in zip(row, layers, strict=True):
            for method in methods_of(records):
                runs = compared(records, method, loss)
                _draw_layer(axes, runs, "end", layer, **look(method))
            dotted = {"color": "black", "linestyle": ":", "zorder": 4}
            _draw_layer(axes, records[:1], "start", layer, **dotted)
            axes.set_yscale("log")
            axes.set_ylim(1e-4, 1.5)
            y = f"{loss}\nsingular value / largest" if axes is row[0] else ""
            label(axes, layer, "rank, of all", y)
    legend_of(figure, methods_of(records))
    finish(
        figure,
        path,
        "Singular values of the critic's layers at the end",
        "Each over the largest of its layer, of the kernels that the critic "
        "multiplies by (float64 SVD);\none line for each seed; dotted: at the start. "
        "A flat line uses all directions, a steep one few. Cut off at 1e-4.",
    )


def _layers(records: list[Record]) -> list[str]:
    """Returns five layers at most, from the first to the last, that have a spectrum."""
    end = records[0]["spectra"]["end"]
    names = [name for name, layer in end.items() if layer["n"] > 1]
    picked = np.linspace(0, len(names) - 1, min(_COLUMNS, len(names))).round()
    return [names[int(i)] for i in picked]


def _draw_layer(
    axes: Axes, runs: list[Record], when: str, layer: str, **style: Any
) -> None:
    """Draws the spectrum of each run that has a finite one."""
    for run in runs:
        values = run["spectra"][when][layer].get("relative")
        if values:
            ranks = np.linspace(0, 1, len(values))
            shown = np.maximum(np.array(values, np.float64), 1e-9)
            axes.plot(ranks, shown, linewidth=1.3, **style)
