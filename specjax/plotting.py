"""Pictures of spectra and metrics: one panel for each kernel, now and over the steps.

With matplotlib's objects alone: no global state, no window.
"""

import io
import itertools
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from specjax import errors
from specjax.diagnostics._report import Report
from specjax.diagnostics._row import Row
from specjax.errors import needs_extra

__all__ = ["plot_history", "plot_spectra"]

with needs_extra("report"):
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

Metrics: TypeAlias = Mapping[str, Mapping[str, Any]]

_COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf")
_WIDTH, _HEIGHT, _MARGIN, _MAX_COLUMNS = 2.7, 2.0, 0.8, 6
_LINE = 36
# Above that many points a line shows them better than markers do.
_MAX_MARKERS = 40
_QUANTITIES = {
    "sigma": "sigma, with its error bar",
    "residual": "residual, relative to sigma",
    "frobenius": "Frobenius norm",
    "stable_rank": "stable rank",
}


class _Figure(Figure):
    """A figure that a notebook shows as a picture, though pyplot does not know it."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


def plot_spectra(
    *reports: Report, labels: Sequence[str] = (), log: bool = False
) -> Figure:
    """Draws the singular values of each kernel, from the largest to the smallest.

    Several reports (before and after training, say) are drawn over each other. A stack
    has a line for each slice, a kernel too large for a spectrum its two bounds.

    Args:
        *reports: from `specjax.report`.
        labels: a name for each report; without one there is no legend.
        log: a logarithmic axis for the singular values, which leaves zeros out.

    Returns:
        A figure: ``plot_spectra(report(params)).savefig("spectra.png")``. As the last
        line of a notebook's cell it is shown as a picture.

    Raises:
        ValueError: if there is no kernel to draw, or another number of labels.
    """
    if labels and len(labels) != len(reports):
        need = f"{len(reports)}, one for each report"
        raise ValueError(_message(f"{len(labels)} labels", need, "labels=(...)"))
    tables = [{row.path: row for row in one.rows} for one in reports]
    paths = list(dict.fromkeys(path for table in tables for path in table))
    figure, panels = _grid(paths, "index of the singular value", "singular value")
    for path, axes in panels.items():
        rows = [(table.get(path), color) for table, color in _colored(tables)]
        for row, color in rows:
            if row is not None:
                _draw_spectrum(axes, row, color)
        some = next(row for row, _ in rows if row is not None)
        what = some.linear_map.one.name
        axes.set_title(f"{_name(path)}\n{what}", fontsize=8)
        _finish(axes, log)
    _legend(figure, labels)
    return figure


def plot_history(
    records: Iterable[tuple[int, Metrics | Report]],
    *,
    quantity: str = "sigma",
    log: bool = False,
) -> Figure:
    """Draws what became of each kernel over the steps.

    Args:
        records: pairs of a step and what `specjax.metrics` returned then; or of a step
            and a `specjax.report`, of which all singular values are drawn, the largest
            in color. All of one kind.
        quantity: which of the metrics: "sigma" (with its error bar, sigma times
            ``residual / sqrt(2)``), "residual", "frobenius" or "stable_rank".
        log: a logarithmic axis for what is drawn.

    Returns:
        A figure, as `plot_spectra`.

    Raises:
        ValueError: if there is nothing to draw, or no such quantity.
    """
    if quantity not in _QUANTITIES:
        need = f"one of {', '.join(_QUANTITIES)}"
        raise ValueError(_message(f"quantity={quantity!r}", need, "sigma"))
    curves: dict[str, list[tuple[int, Any]]] = {}
    what = _QUANTITIES[quantity]
    for step, record in records:
        if isinstance(record, Report):
            record = {row.path: row for row in record.rows}
            what = "singular values (the largest in blue)"
        for path, known in record.items():
            curves.setdefault(path, []).append((step, known))
    figure, panels = _grid(list(curves), "step", what)
    for path, axes in panels.items():
        steps, known = zip(*curves[path], strict=True)
        if isinstance(known[0], Row):
            _draw_bundle(axes, steps, np.stack([_all_values(row) for row in known]))
        else:
            _draw_metric(axes, steps, known, quantity)
        axes.set_title(_name(path), fontsize=8)
        _finish(axes, log)
    return figure


def _draw_spectrum(axes: Axes, row: Row, color: str) -> None:
    """Draws a line for each slice, or the bounds of a kernel without a spectrum."""
    if not row.finite.any():
        _say(axes, "not finite")
        return
    if row.spectrum is None:
        for norm in filter(None, (row.upper, row.lower)):
            for value in np.ravel(norm.value):
                axes.axhline(value, color=color, linestyle="--", linewidth=1)
            axes.text(0, np.max(norm.value), norm.kind, fontsize=7, va="bottom")
        return
    n_values = row.spectrum.shape[-1]
    axes.set_xlim(0, n_values + 1)
    style = {"marker": "o", "markersize": 2.5} if n_values <= _MAX_MARKERS else {}
    spectra = row.spectrum.reshape(-1, n_values)
    for values in spectra:
        index = np.arange(1, n_values + 1)
        alpha = 1 if len(spectra) == 1 else 0.5
        axes.plot(index, values, color=color, linewidth=1, alpha=alpha, **style)


def _draw_bundle(axes: Axes, steps: Sequence[int], values: np.ndarray) -> None:
    """Draws (steps, values): every singular value in grey, the largest in color."""
    axes.plot(steps, values, color="0.7", linewidth=0.5)
    axes.plot(steps, values.max(axis=1), color=_COLORS[0], linewidth=1.2)


def _draw_metric(
    axes: Axes, steps: Sequence[int], known: Sequence[Mapping[str, Any]], quantity: str
) -> None:
    """Draws one of the metrics, a line for each slice; sigma with its error bar."""
    if quantity not in known[0]:
        _say(axes, "not known")
        return
    values = np.stack([np.ravel(one[quantity]) for one in known])
    axes.plot(steps, values, color=_COLORS[0], linewidth=1)
    if quantity == "sigma":
        residual = np.stack([np.ravel(one["residual"]) for one in known])
        error = np.where(np.isfinite(residual), values * residual, 0) / math.sqrt(2)
        for below, above in zip((values - error).T, (values + error).T, strict=True):
            axes.fill_between(steps, below, above, color=_COLORS[0], alpha=0.25, lw=0)


def _say(axes: Axes, words: str) -> None:
    axes.text(0.5, 0.5, words, ha="center", fontsize=8, transform=axes.transAxes)
    axes.set(xticks=[], yticks=[])


def _all_values(row: Row) -> np.ndarray:
    return np.ravel(_bounds(row) if row.spectrum is None else row.spectrum)


def _bounds(row: Row) -> np.ndarray:
    norms = [norm.value for norm in (row.upper, row.lower) if norm is not None]
    return np.ravel(np.asarray(norms))


def _grid(paths: Sequence[str], x: str, y: str) -> tuple[Figure, dict[str, Axes]]:
    """Returns a figure with a panel for each path, in rows and columns."""
    if not paths:
        raise ValueError(
            _message("no kernel", "one at least", "specjax.report(params)")
        )
    n_columns = min(_MAX_COLUMNS, math.ceil(math.sqrt(len(paths))))
    n_rows = math.ceil(len(paths) / n_columns)
    size = (_WIDTH * n_columns + _MARGIN, _HEIGHT * n_rows + _MARGIN)
    figure = _Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axes in panels[len(paths) :]:
        axes.set_axis_off()
    for axes in panels[: len(paths)]:
        axes.tick_params(which="both", labelsize=7)
        axes.grid(alpha=0.3)
    figure.supxlabel(x, fontsize=9)
    figure.supylabel(y, fontsize=9)
    return figure, dict(zip(paths, panels, strict=False))


def _finish(axes: Axes, log: bool) -> None:
    """Sets the axes' limits: from zero, or whole decades on a logarithmic one."""
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    drawn = [np.asarray(line.get_ydata(), np.float64) for line in axes.get_lines()]
    values = np.concatenate([np.ravel(one) for one in drawn] or [np.zeros(0)])
    values = values[np.isfinite(values) & (values > 0)]
    if not values.size:
        return
    low, high = math.log10(values.min()), math.log10(values.max())
    if log:
        low, high = math.floor(low), max(math.ceil(high), math.floor(low) + 1)
        axes.set_yscale("log", nonpositive="mask")
        axes.set_ylim(10.0**low, 10.0**high)
    else:
        axes.set_ylim(0, 1.1 * axes.dataLim.y1)


def _legend(figure: Figure, labels: Sequence[str]) -> None:
    if labels:
        lines = [Line2D([], [], color=color) for _, color in _colored(labels)]
        figure.legend(lines, labels, loc="outside upper center", fontsize=9, ncols=9)


def _colored(things: Iterable[Any]) -> Iterable[tuple[Any, str]]:
    return zip(things, itertools.cycle(_COLORS))


def _name(path: str) -> str:
    """Returns a path in lines that fit over a panel, two at most."""
    parts = path.removesuffix("/kernel").replace("/", "/ ")
    lines = [line.replace("/ ", "/") for line in textwrap.wrap(parts, _LINE)]
    return "\n".join(lines if len(lines) < 3 else [f"...{lines[-2]}", lines[-1]])


def _message(got: str, need: str, fix: str) -> str:
    return errors.message("specjax.plotting", got=got, need=need, fix=fix)
