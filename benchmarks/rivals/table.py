"""The rows as tables in a terminal: what each rival costs over its plain step."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from benchmarks.rivals.ratios import uncertainty

Row = dict[str, Any]
# What is counted, its unit in the table, and how many make up one.
_COUNTS = {
    "flops": ("GFLOP", 1e9),
    "bytes": ("MB", 1e6),
    "main_memory_bytes": ("main MB", 1e6),
    "cycles": ("Mcycles", 1e6),
    "launches": ("launches", 1),
    "fusions": ("fusions", 1),
    "distinct": ("distinct", 1),
    "instructions": ("instructions", 1),
    "temporary_bytes": ("temporary MB", 1e6),
}


def times_table(rows: Sequence[Row]) -> Table:
    """Returns the medians of the ratios, less 1.

    The run's has how far it may be off, and the quartiles of the rounds.
    """
    columns = ("run", "+-", "quartiles", "ms", "compile", "trace")
    table = _table("Time over the plain step of the same framework", columns)
    for row in rows:
        _add(table, row, _times(row))
    return table


def counts_table(rows: Sequence[Row], compiler: str) -> Table:
    """Returns a compiler's counts: a plain step's own, and what the others add.

    Args:
        rows: of the measurement.
        compiler: "cpu", "gpu" or "tpu".
    """
    title = f"Counts of the {compiler.upper()} compiler, over the plain step's"
    counted = [row for row in rows if compiler in row]
    names = [name for name in _COUNTS if any(name in row[compiler] for row in counted)]
    table = _table(title, tuple(_COUNTS[name][0] for name in names))
    for row in counted:
        _add(table, row, _counts(row, _plain_of(row, rows), compiler, names))
    return table


def _table(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(title=title)
    for name in ("net", "rival"):
        table.add_column(name, no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _add(table: Table, row: Row, cells: list[str]) -> None:
    style = "bold" if row["ours"] else None
    table.add_row(f"{row['net']}, {row['batch']}", row["rival"], *cells, style=style)


def _plain_of(row: Row, rows: Sequence[Row]) -> Row | None:
    same = (other for other in rows if other["net"] == row["net"])
    return next((other for other in same if other["rival"] == row["plain"]), None)


def _times(row: Row) -> list[str]:
    if "missing" in row:
        return [row["missing"]]
    run = row["run"]
    off = quartiles = ""
    if "ratio" in run:
        low, _, high = run["ratio"]
        off = f"{uncertainty(low, high, run['rounds']):.1%}"
        quartiles = f"{low - 1:+.1%} to {high - 1:+.1%}"
    compiled = [_over(row[phase]) for phase in ("compile", "trace") if phase in row]
    return [_over(run), off, quartiles, f"{1e3 * run['seconds']:.1f}", *compiled]


def _over(phase: Row) -> str:
    return f"{phase['ratio'][1] - 1:+.1%}" if "ratio" in phase else ""


def _counts(
    row: Row, plain: Row | None, compiler: str, names: Sequence[str]
) -> list[str]:
    found = {name: row[compiler][name] for name in names}
    units = {name: _COUNTS[name][1] for name in names}
    if plain is None:
        return [f"{number / units[name]:,.4g}" for name, number in found.items()]
    base = plain[compiler]
    return [
        _more(number - base[name], base[name], units[name])
        for name, number in found.items()
    ]


def _more(more: int, plain: int, one: float) -> str:
    """Returns whole numbers as they are, others as a share of the plain step's."""
    if one == 1 or plain == 0:
        return f"{more / one:+,.4g}"
    return f"{more / plain:+.2%}"
