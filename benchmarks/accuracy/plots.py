"""The two figures: error against passes, and the norms while the GAN starts.

With matplotlib's objects alone: no global state, no window.
"""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.accuracy.field import OURS

_LOOK = {
    OURS: ("#d62728", "o"),
    "specjax.warm_up": ("#ff7f0e", "^"),
    "specjax.power_iteration": ("#e8a0a0", "v"),
    "flax.linen": ("#1f77b4", "s"),
    "flax.nnx": ("#17becf", "D"),
    "haiku": ("#2ca02c", "P"),
    "equinox": ("#9467bd", "X"),
    "torch": ("#7f7f7f", "*"),
    "keras on jax": ("#8c564b", "h"),
}
_FLOOR = 1e-7  # the rounding of float32: below it there is nothing to see
_SMALL = 8.5
_BESIDE = 0.08


def draw(results: dict[str, Any], out: Path) -> None:
    """Writes ``accuracy_passes.png`` and ``accuracy_gan.png``."""
    error_against_passes(results).savefig(out / "accuracy_passes.png", dpi=130)
    gan_norms(results["gan"]).savefig(out / "accuracy_gan.png", dpi=130)


def error_against_passes(results: dict[str, Any]) -> Figure:
    """Draws the cold curves above, and the worst error under drift below."""
    figure = _figure(13, 7)
    cells = figure.subplots(2, 4, sharey="row")
    for panel, one in zip(cells[0], results["cold"], strict=False):
        _draw_cold(panel, one)
    for panel, one in zip(cells[1], results["drift"], strict=False):
        _draw_drift(panel, one)
    cells[0, 0].set_ylabel("cold: relative error of sigma")
    cells[1, 0].set_ylabel("drifting 1 %: largest error\nin 200 updates")
    names = list(results["cold"][0]["curves"])
    for panel in cells.flat:
        if not panel.lines:
            panel.set_axis_off()
    cells[0, 3].legend(handles=[_key(name) for name in names], loc="center", fontsize=9)
    return figure


def _draw_cold(panel: Axes, one: dict[str, Any]) -> None:
    for name, curve in one["curves"].items():
        errors = [max(error, _FLOOR) for error in curve["errors"]]
        _line(panel, name, curve["passes"], errors)
    panel.set(xscale="log", yscale="log", xlabel="passes over W")
    panel.set_title(one["kernel"], fontsize=10)
    panel.axhline(_FLOOR, color="black", lw=0.8, ls=":")
    panel.text(2, 1.3 * _FLOOR, "rounding of float32", fontsize=_SMALL)
    _clean(panel)


def _draw_drift(panel: Axes, one: dict[str, Any]) -> None:
    rows = [row for row in one["rows"] if row["start"] == "converged"]
    names = list(dict.fromkeys(row["method"] for row in rows))
    for i, name in enumerate(names):
        own = [row for row in rows if row["method"] == name]
        errors = [max(row["largest"], _FLOOR) for row in own]
        # Side by side: most of the rivals take the same step.
        beside = _BESIDE * (i - (len(names) - 1) / 2)
        _line(panel, name, [row["passes"] + beside for row in own], errors)
    passes = sorted({row["passes"] for row in rows})
    panel.set(yscale="log", xlabel="passes over W at each update", xticks=passes)
    panel.set_title(one["kernel"], fontsize=10)
    _clean(panel)


def gan_norms(gan: dict[str, Any]) -> Figure:
    """Draws the largest and the median norm of D's kernels, the mean of the runs."""
    figure = _figure(11, 4.6)
    n_runs = len(next(iter(gan["norms"].values()))["largest"])
    runs = f"mean of {n_runs} runs" if n_runs > 1 else "one run"
    for panel, which in zip(figure.subplots(1, 2), ("largest", "median"), strict=True):
        for name, found in gan["norms"].items():
            steps = range(1, gan["updates"] + 1)
            color, _ = _LOOK[name]
            width = 2.4 if name == OURS else 1.2
            order = 3 if name == OURS else 2
            panel.plot(
                steps, np.mean(found[which], 0), color=color, lw=width, zorder=order
            )
        panel.axhline(1, color="black", lw=0.8, ls=":")
        panel.set(xlabel="update of the GAN", yscale="log")
        panel.set_title(
            f"{which} norm of D's {len(gan['kernels'])} kernels, {runs}",
            fontsize=10,
        )
        low, high = panel.get_ylim()
        ticks = [t for t in (1, 1.02, 1.05, 1.1, 1.2, 1.3, 1.4, 1.5) if low < t < high]
        panel.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        panel.minorticks_off()
        _clean(panel)
    keys = [
        Line2D([], [], color=_LOOK[name][0], lw=2, label=name) for name in gan["norms"]
    ]
    figure.legend(handles=keys, loc="outside right center", fontsize=9)
    return figure


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _line(panel: Axes, name: str, x: list[float], y: list[float]) -> None:
    color, marker = _LOOK[name]
    ours = name == OURS
    size, width = (6, 2.0) if ours else (4.5, 1.0)
    panel.plot(x, y, color=color, marker=marker, ms=size, lw=width, zorder=2 + ours)


def _key(name: str) -> Line2D:
    color, marker = _LOOK[name]
    return Line2D([], [], color=color, marker=marker, label=name)


def _clean(panel: Axes) -> None:
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(color="#e6e6e6", lw=0.6)
    panel.tick_params(labelsize=_SMALL)
