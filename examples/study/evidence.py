"""One number for each run, for what the published orderings are about."""

from collections.abc import Callable, Sequence

import numpy as np

from examples.study.methods import LOSSES, ROBUSTNESS, SETTINGS
from examples.study.records import Record
from examples.study.series import chosen, compared, distances

Values = list[float | None]


def spread_of_gradient(record: Record) -> float | None:
    """Returns the largest over the smallest gradient norm of the first updates.

    Without the 5 % that are farthest out on each side.
    """
    norms = _first(record, "gradient_norm")
    if len(norms) == 0:
        return None
    low, high = np.quantile(norms, (0.05, 0.95))
    return float(high / low) if low > 0 else None


def change_of(key: str) -> Callable[[Record], float | None]:
    """Returns a function: the mean change of a loss in one of the first updates."""

    def change(record: Record) -> float | None:
        values = _first(record, key)
        return float(np.mean(np.abs(np.diff(values)))) if len(values) > 1 else None

    return change


def relative_change_of(key: str) -> Callable[[Record], float | None]:
    """Returns a function: the same, over largest less smallest of these updates."""
    change, travel = change_of(key), travel_of(key)

    def relative(record: Record) -> float | None:
        far = travel(record)
        return (change(record) or 0.0) / far if far else None

    return relative


def travel_of(key: str) -> Callable[[Record], float | None]:
    """Returns a function: largest less smallest loss of the first updates."""

    def travel(record: Record) -> float | None:
        values = _first(record, key)
        return float(np.ptp(values)) if len(values) else None

    return travel


def size_of(key: str) -> Callable[[Record], float | None]:
    """Returns a function: the mean absolute value of a loss in the first updates."""

    def size(record: Record) -> float | None:
        values = _first(record, key)
        return float(np.mean(np.abs(values))) if len(values) else None

    return size


def rank_share(record: Record, when: str = "end") -> float | None:
    """Returns the effective rank, of what is possible; mean over layers."""
    layers = [x for x in record["spectra"][when].values() if x["n"] > 1]
    shares = [
        layer["effective_rank"] / layer["n"] if layer["largest"] else None
        for layer in layers
    ]
    known = [share for share in shares if share is not None]
    return float(np.mean(known)) if known and len(known) == len(shares) else None


def of_method(
    records: list[Record],
    method: str,
    loss: str,
    measure: Callable[[Record], float | None],
) -> Values:
    """Returns the measure of each of a method's runs where all are compared."""
    return [measure(record) for record in compared(records, method, loss)]


def best_setting(records: list[Record], method: str) -> tuple[str, Values]:
    """Returns the setting of A to F with the least median distance, and its seeds'."""
    by_setting = _of_settings(records, method)
    if not by_setting:
        return "-", []
    best = min(by_setting, key=lambda s: _median(by_setting[s]))
    return best, by_setting[best]


def of_setting(records: list[Record], method: str, setting: str) -> Values:
    """Returns the distances of a method's runs in one of A to F."""
    return _of_settings(records, method).get(setting, [])


def worst_over_best(
    records: list[Record], method: str, settings: Sequence[str] = SETTINGS
) -> dict[str, float]:
    """Returns each setting's median distance over the best setting's; inf: diverged."""
    by_setting = _of_settings(records, method)
    best = min((_median(values) for values in by_setting.values()), default=np.nan)
    return {
        setting: _median(values) / best if np.isfinite(best) else np.inf
        for setting, values in by_setting.items()
        if setting in settings
    }


def _of_settings(records: list[Record], method: str) -> dict[str, Values]:
    loss = ROBUSTNESS.get(method, "non-saturating")
    settings = SETTINGS if method in ROBUSTNESS else (LOSSES[loss],)
    found = {
        setting: chosen(records, method=method, loss=loss, setting=setting)
        for setting in settings
    }
    return {setting: distances(runs) for setting, runs in found.items() if runs}


def _median(values: Values) -> float:
    return float(np.median([np.inf if v is None else v for v in values]))


def _first(record: Record, key: str) -> np.ndarray:
    values = np.array(record["curves"]["first"].get(key, []), np.float64)
    return values[np.isfinite(values)]
