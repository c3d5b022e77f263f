"""The report: every kernel of a tree with the bounds of its norm, as a table."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from specjax._tree import join
from specjax.diagnostics import _table
from specjax.diagnostics._row import Row, make_row
from specjax.kernels._rules import Kernels, flax_kernels, sort_out


@dataclasses.dataclass(frozen=True)
class Report:
    """A table of kernels: print it, or read its rows.

    Attributes:
        rows: one for each kernel.
        undecided: what looks like a kernel and is not in the table, with the reason.
    """

    rows: tuple[Row, ...]
    undecided: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Returns what a JSON file can hold; inf and NaN are the words "inf", "nan"."""
        rows = {row.path: _plain_row(row) for row in self.rows}
        return {"kernels": rows, "undecided": dict(self.undecided)}

    def __rich__(self) -> Any:
        """Returns the table, for rich's ``print``."""
        return _table.draw(self.rows, self.undecided)

    def _repr_mimebundle_(
        self, include: Any = None, exclude: Any = None
    ) -> dict[str, str]:
        """Returns the table for IPython, which shows it as a cell's last line."""
        page = _table.as_html(self.rows, self.undecided)
        return {"text/plain": str(self), "text/html": page}

    def show(self) -> None:
        """Prints the table; in a terminal it is as wide as that."""
        _table.show(self.rows, self.undecided)

    def __str__(self) -> str:
        """Returns the table as text, as wide as it needs to be."""
        return _table.as_text(self.rows, self.undecided)


def report(
    params: Any, *, kernels: Kernels = flax_kernels, max_bytes: int = 2**26
) -> Report:
    """Returns a table of every kernel's norm: at least, exactly, at most.

    Not for every step: it takes an SVD of each kernel. `metrics` is.

    Args:
        params: tree of arrays, not traced.
        kernels: which leaves are kernels and what linear map each one is. A kernel that
            a rule can not decide, or that does not fit its map, is listed as such.
        max_bytes: memory that the matrix of an SVD may take, by default that of
            4096x4096 in float32. A kernel beyond that has no exact value; beyond eight
            times that its upper bound is its Frobenius norm.

    Returns:
        A `Report`: ``print(report(params))``, or its `rows`.

    Raises:
        ValueError: if no leaf is a kernel.

    Example:
        >>> import numpy as np
        >>> params = {"Dense_0": {"kernel": np.diag(np.float32([2, 1]))}}
        >>> (row,) = report(params).rows
        >>> print(row.path, row.exact, row.condition_number)
        Dense_0/kernel 2.0 (exact, matrix, SVD) 2.0
    """
    found, refused = sort_out(params, kernels)
    rows = tuple(
        make_row(join(path), kernel, linear_map, max_bytes)
        for path, (kernel, linear_map) in found.items()
    )
    return Report(rows, {join(path): str(error) for path, error in refused.items()})


def _plain_row(row: Row) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "shape": list(row.shape),
        "dtype": row.dtype,
        "linear_map": repr(row.linear_map),
        "finite": row.finite.tolist(),
    }
    for norm in (row.lower, row.exact, row.upper):
        if norm is not None:
            words = {"of": norm.of, "method": norm.method}
            plain[norm.kind] = {"value": _plain(norm.value)} | words
    for name in ("stable_rank", "condition_number", "spectrum"):
        plain[name] = _plain(getattr(row, name))
    return plain


def _plain(value: Any) -> Any:
    if value is None:
        return None
    if np.ndim(value):
        return [_plain(one) for one in np.asarray(value)]
    number = float(value)
    return number if math.isfinite(number) else str(number)
