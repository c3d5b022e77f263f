"""The overheads as bars: a panel for each network, a bar for each rival."""

import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.rivals.ratios import uncertainty

Row = dict[str, Any]
Overhead = Callable[[Row], Sequence[float] | None]

_OURS, _THEIRS = "#c8553d", "#7d8597"


def of_phase(phase: str) -> Overhead:
    """Returns the ratio of "run", "compile" or "trace", and how far it may be off."""

    def ratio(row: Row) -> Sequence[float] | None:
        found = row.get(phase, {})
        if "ratio" not in found:
            return None
        low, median, high = found["ratio"]
        off = uncertainty(low, high, found["rounds"])
        return median - off, median, median + off

    return ratio


def of_count(rows: Sequence[Row], compiler: str, name: str) -> Overhead:
    """Returns the ratio of a compiler's count to the plain step's."""
    held = {(row["net"], row["rival"]): row for row in rows}

    def ratio(row: Row) -> Sequence[float] | None:
        plain = held.get((row["net"], row["plain"]))
        if plain is None or not (number := plain[compiler][name]):
            return None
        return 3 * [row[compiler][name] / number]

    return ratio


def plot(
    rows: Sequence[Row], overhead: Overhead, what: str, title: str, path: Path
) -> None:
    """Writes a picture of what each rival adds to the plain step.

    Args:
        rows: of the measurement.
        overhead: the ratio of a row, with its least and largest; None leaves it out.
        what: is drawn, for the axis.
        title: on what it was measured.
        path: of the picture, whose ending says its format.
    """
    bars = [row for row in rows if overhead(row)]
    nets = list(dict.fromkeys(row["net"] for row in bars))
    if not nets:
        return
    rivals = list(dict.fromkeys(row["rival"] for row in bars))
    size = (2.4 + 1.9 * len(nets), 1.4 + 0.3 * len(rivals))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(nets), sharey=True, squeeze=False)[0]
    for axes, net in zip(panels, nets, strict=True):
        _panel(axes, [row for row in bars if row["net"] == net], rivals, overhead)
        axes.set_title(net, fontsize=10)
    panels[0].invert_yaxis()  # shared by all
    label = f"{what}: % over the plain step of the same framework"
    n_letters = int(13 * size[0])  # of this font, in a line
    figure.suptitle(textwrap.fill(title, n_letters), fontsize=9)
    figure.supxlabel(textwrap.fill(label, n_letters), fontsize=9)
    figure.savefig(path, dpi=150)


def _panel(axes: Axes, rows: list[Row], rivals: list[str], overhead: Overhead) -> None:
    for row in rows:
        low, median, high = (100 * (ratio - 1) for ratio in overhead(row) or ())
        place = rivals.index(row["rival"])
        axes.barh(place, median, color=_OURS if row["ours"] else _THEIRS)
        axes.plot([low, high], [place, place], color="black", linewidth=1)
    axes.set_yticks(range(len(rivals)), rivals)
    axes.axvline(0, color="black", linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.3)
