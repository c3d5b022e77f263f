"""The rows of a report as a table that explains its own numbers: by rich, as HTML."""

import decimal
import html
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from specjax.diagnostics._row import Row
from specjax.errors import needs_extra

# A stack of more slices than that is one line, from the smallest number to the largest.
_MAX_SLICES = 8
_DIGITS = 5
_WORDS = ("kernel", "shape", "norm of")
_HEADINGS = ("lower", "exact", "upper", "stable rank", "condition")
_Index = tuple[int, ...]


def draw(rows: Sequence[Row], undecided: Mapping[str, str]) -> Any:
    """Returns rich's table of the rows, and below it what they mean.

    Raises:
        MissingLibraryError: if rich is not installed.
    """
    with needs_extra("report"):
        from rich.console import Group
        from rich.text import Text

    text = Text("\n".join(_notes(rows, undecided)))
    return Group(_grid(rows), text) if rows else text


def as_text(rows: Sequence[Row], undecided: Mapping[str, str]) -> str:
    """Returns the same without color, as wide as the table needs to be.

    Raises:
        MissingLibraryError: if rich is not installed.
    """
    with needs_extra("report"):
        from rich.console import Console

    file = io.StringIO()
    # In a notebook rich would show the table in the cell and leave the file empty.
    console = Console(
        file=file, color_system=None, force_terminal=False, force_jupyter=False
    )
    _print(console, rows, undecided)
    return "\n".join(map(str.rstrip, file.getvalue().splitlines()))


def as_html(rows: Sequence[Row], undecided: Mapping[str, str]) -> str:
    """Returns the same in HTML, for a notebook; this needs no library."""
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in _notes(rows, undecided))
    if not rows:
        return notes
    lines = [_html_line("th", [*_WORDS, *_HEADINGS])]
    lines += [_html_line("td", line) for row in rows for line in _lines(row)]
    return f"<table>{''.join(lines)}</table>{notes}"


def _html_line(tag: str, cells: Sequence[str]) -> str:
    sides = ["left"] * len(_WORDS) + ["right"] * len(_HEADINGS)
    written = (
        f'<{tag} style="text-align: {side}">{html.escape(cell)}</{tag}>'
        for side, cell in zip(sides, cells, strict=True)
    )
    return f"<tr>{''.join(written)}</tr>"


def show(rows: Sequence[Row], undecided: Mapping[str, str]) -> None:
    """Prints the same: as wide as a terminal is, or else as the table needs to be.

    Raises:
        MissingLibraryError: if rich is not installed.
    """
    with needs_extra("report"):
        from rich.console import Console

    _print(Console(), rows, undecided)


def _print(console: Any, rows: Sequence[Row], undecided: Mapping[str, str]) -> None:
    if not console.is_terminal:
        console.width = 1000
        console.width = max(80, console.measure(_grid(rows)).maximum)
    console.print(draw(rows, undecided))


def _grid(rows: Sequence[Row]) -> Any:
    from rich.table import Table
    from rich.text import Text

    grid = Table()
    for heading in _WORDS:
        grid.add_column(heading, overflow="fold")
    for heading in _HEADINGS:
        grid.add_column(
            heading, justify="right", min_width=max(map(len, heading.split()))
        )
    for row in rows:
        for line in _lines(row):
            # Text: in brackets is a slice, not a style.
            grid.add_row(*map(Text, line))
    return grid


def _lines(row: Row) -> Iterator[list[str]]:
    """Yields the cells of a kernel: one line per slice of a stack, if they are few."""
    shape = _times(row.shape) + (f" {row.dtype}" if row.dtype != "float32" else "")
    what = [shape, row.linear_map.one.name]
    slices = list(np.ndindex(row.finite.shape))
    finite = [index for index in slices if row.finite[index]]
    if len(slices) > _MAX_SLICES:
        where = f"{row.path}, {len(slices)} slices"
        if len(finite) < len(slices):
            where += f", {len(slices) - len(finite)} not finite"
        yield [where, *what, *_cells(row, finite)]
        return
    for index in slices:
        where = f"{row.path}[{','.join(map(str, index))}]" if index else row.path
        yield [where, *what, *_cells(row, [index] if index in finite else [])]


def _cells(row: Row, slices: list[_Index]) -> list[str]:
    """Returns the five numbers of these slices, all of them finite."""
    if not slices:
        return ["not finite"] * len(_HEADINGS)
    norms = [norm and norm.value for norm in (row.lower, row.exact, row.upper)]
    values = (*norms, row.stable_rank, row.condition_number)
    nearest = decimal.ROUND_HALF_EVEN
    roundings = (decimal.ROUND_FLOOR, nearest, decimal.ROUND_CEILING, nearest, nearest)
    cells = [
        "-" if value is None else _cell(np.asarray(value, np.float64), slices, rounding)
        for value, rounding in zip(values, roundings, strict=True)
    ]
    if row.exact is None and row.stable_rank is not None:
        cells[3] = f"<= {cells[3]}"
    return cells


def _cell(values: np.ndarray, slices: list[_Index], rounding: str) -> str:
    numbers = sorted(float(values[index]) for index in slices)
    ends = dict.fromkeys(_number(n, rounding) for n in (numbers[0], numbers[-1]))
    return " to ".join(ends)


def _number(value: float, rounding: str) -> str:
    """Returns five digits of a number, the last one rounded as a bound must be."""
    if not math.isfinite(value):
        return "-" if math.isnan(value) else str(value)
    context = decimal.Context(prec=_DIGITS, rounding=rounding)
    short = context.create_decimal_from_float(value)
    plain = value == 0 or 1e-4 <= abs(value) < 1e6
    return f"{short:f}" if plain else f"{short:.{_DIGITS - 1}e}"


def _notes(rows: Sequence[Row], undecided: Mapping[str, str]) -> Iterator[str]:
    """Yields what the numbers mean, as far as they occur, a line each."""
    maps = [row.linear_map.one for row in rows]
    if rows:
        yield (
            "lower, exact, upper: the spectral norm (the largest singular value) is at "
            f"least, is, is at most this number; found by {_methods(rows)}."
        )
    if any(one.of == "matrix" for one in maps):
        yield (
            "matrix: the kernel as a matrix, inputs x outputs. For a convolution that "
            "is not its own norm, which is larger by up to the root of the window size."
        )
    if any(one.circular is not None for one in maps):
        yield "convolution: the operator on images of that size."
    if rows:
        yield (
            "stable rank: the sum of the squared singular values over the largest of "
            "these squares. condition: the largest singular value over the smallest."
        )
    if any(row.spectrum is None for row in rows):
        yield "-: not computed, because its matrix would be too large."
    for reason in undecided.values():
        yield f"Not in the table: {reason}"


def _methods(rows: Sequence[Row]) -> str:
    norms = [norm for row in rows for norm in (row.lower, row.exact, row.upper) if norm]
    found: dict[str, dict[str, None]] = {}
    for norm in norms:
        found.setdefault(norm.kind, {})[norm.method] = None
    return ", ".join(" or ".join(methods) for methods in found.values())


def _times(sizes: Any) -> str:
    return "x".join(map(str, sizes))
