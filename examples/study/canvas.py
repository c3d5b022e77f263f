"""What the figures share: a sheet, a color for each method, a legend, a caption."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from examples.study.methods import METHODS


def sheet(width: float, height: float) -> Figure:
    """Returns an empty figure, in inches, that needs no display."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def finish(figure: Figure, path: Path, title: str, caption: str) -> None:
    """Adds title and caption above and below all panels, and writes the picture."""
    figure.suptitle(title, fontsize=13)
    figure.supxlabel(caption, fontsize=9, color="#444444")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def legend_of(figure: Figure, methods: Iterable[str]) -> None:
    """Names the methods beside all panels."""
    lines = [Line2D([], [], linewidth=2.5, **look(m)) for m in methods]
    labels = [METHODS[m].label for m in methods]
    figure.legend(lines, labels, loc="outside right center", fontsize=9)


def label(axes: Axes, title: str, x: str, y: str) -> None:
    """Gives a panel its words and a light grid."""
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)


def color(method: str) -> str:
    """Returns the method's color."""
    return METHODS[method].color


def look(method: str) -> dict[str, Any]:
    """Returns how the method's lines are drawn; none's is dashed, above all others.

    What does nothing lies on it.
    """
    alone = method == "none"
    return {
        "color": color(method),
        "linestyle": (0, (4, 3)) if alone else "-",
        "zorder": 3 if alone else 2,
    }


def grid_of_panels(figure: Figure, rows: int, columns: int) -> list[list[Axes]]:
    """Returns the panels, row by row."""
    axes = figure.subplots(rows, columns, squeeze=False)
    return [list(row) for row in axes]


def seeds_words(seeds: Sequence[int]) -> str:
    """Returns how many seeds a caption speaks of: the fewest and the most."""
    low, high = min(seeds), max(seeds)
    words = f"{high}" if low == high else f"{low} to {high}"
    return f"{words} seed{'s' * (high > 1)}"
