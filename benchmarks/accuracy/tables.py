"""The measured numbers as Markdown tables."""

from typing import Any

import numpy as np

from benchmarks.accuracy.drift import STARTS

_STARTS = {"own": "its own start", "converged": "a converged start"}


def tables(results: dict[str, Any]) -> str:
    """Returns every table, with a line for each rival that is not installed."""
    parts = [_passes(results["passes"])]
    parts += [_cold(one, results) for one in results["cold"]]
    parts += [_drift(results, start) for start in STARTS]
    parts += [_gan(results["gan"], which) for which in ("largest", "median")]
    lines = [f"{name}: not measured, {why}" for name, why in results["missing"].items()]
    return "\n\n".join(parts + lines)


def _passes(counted: list[dict[str, Any]]) -> str:
    header = ["method", "power steps", "passes at its start", "passes an update"]
    header.append("copies of W an update")
    rows = [[row["method"], *map(str, list(row.values())[1:])] for row in counted]
    title = "Passes over W for sigma, and what is written beside the normalized kernel"
    return f"{title}\n\n{_table(header, rows)}"


def _cold(one: dict[str, Any], results: dict[str, Any]) -> str:
    """The error after so many updates on one kernel, and the passes it took."""
    shown = (1, 5, 20, 100)
    header = ["method", *(f"update {n}" for n in shown)]
    rows = []
    for name, curve in one["curves"].items():
        at = {n: i for i, n in enumerate(curve["updates"])}
        if name not in results["methods"]:
            continue
        rows.append([name, *(_error_at(curve, at[n]) for n in shown)])
    title = f"Cold, {one['kernel']}: relative error of sigma (passes over W so far)"
    return f"{title}\n\n{_table(header, rows)}\n\n{_rooms(one, results)}"


def _rooms(one: dict[str, Any], results: dict[str, Any]) -> str:
    rooms = {k: v for k, v in one["curves"].items() if k not in results["methods"]}
    updates = next(iter(rooms.values()))["updates"]
    header = ["function, steps", *map(str, updates)]
    rows = [
        [name, *(_error_at(curve, i) for i in range(len(updates)))]
        for name, curve in rooms.items()
    ]
    return _table(header, rows)


def _error_at(curve: dict[str, Any], i: int) -> str:
    return f"{_number(curve['errors'][i])} ({curve['passes'][i]})"


def _drift(results: dict[str, Any], start: str) -> str:
    """The largest and the median error while the kernels drift."""
    drifts = results["drift"]
    header = ["method", "power steps", "passes an update"]
    header += [one["kernel"] for one in drifts]
    rows = []
    for i, row in enumerate(drifts[0]["rows"]):
        if row["start"] == start:
            same = [one["rows"][i] for one in drifts]
            cells = [f"{_number(r['largest'])} / {_number(r['median'])}" for r in same]
            rows.append(
                [row["method"], f"{row['n_steps']}", f"{row['passes']}", *cells]
            )
    title = (
        f"{drifts[0]['updates']} updates with a drift of 1 %, from {_STARTS[start]}: "
        "relative error of sigma, largest / median"
    )
    return f"{title}\n\n{_table(header, rows)}"


def _gan(gan: dict[str, Any], which: str) -> str:
    """The mean norms over the first update, the next, and all; the largest of all."""
    n = gan["updates"]
    spans = [(0, 1), (0, 10), (10, 50), (50, 100), (0, n)]
    spans = [(start, end) for start, end in dict.fromkeys(spans) if end <= n]
    header = ["method", "1"]
    header += [f"{start + 1} to {end}" for start, end in spans[1:]] + ["at most"]
    rows = []
    for name, found in gan["norms"].items():
        curves = np.array(found[which])  # (runs, updates)
        cells = [_mean(curves[:, start:end].mean(1)) for start, end in spans]
        rows.append([name, *cells, f"{curves.max():.4f}"])
    n_runs = len(next(iter(gan["norms"].values()))[which])
    runs = f", {n_runs} runs and their standard error" if n_runs > 1 else ""
    title = (
        f"The GAN's first {n} updates: mean norm of D's normalized kernels over these "
        f"updates, {which} of {len(gan['kernels'])} kernels (the bound is 1){runs}"
    )
    return f"{title}\n\n{_table(header, rows)}"


def _mean(values: np.ndarray) -> str:
    """The mean over the runs and its standard error."""
    if len(values) == 1:
        return f"{values[0]:.4f}"
    return f"{values.mean():.4f} ±{values.std(ddof=1) / len(values) ** 0.5:.4f}"


def _number(value: float) -> str:
    return f"{value:.1e}" if value < 1e-3 else f"{value:.2%}".replace("%", " %")


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
