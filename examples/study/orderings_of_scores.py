"""The published orderings of distances, and of how they hold over Adam's settings."""

from collections.abc import Callable

import numpy as np

from examples.study.evidence import best_setting, of_setting, worst_over_best
from examples.study.records import Record
from examples.study.series import compared, distances
from examples.study.verdict import (
    LATER,
    NOT_MEASURED,
    NOT_REPRODUCED,
    REPRODUCED,
    Finding,
    both,
    less,
    shown,
)

MIYATO = "Miyato et al. 2018"

# Fixed before any run was made: a setting in which a method fails is one whose distance
# is more than twice that of the method's best setting.
_FAILS = 2.0


def of_distances(records: list[Record]) -> list[Finding]:
    """The scores of Table 2 and 7."""
    best = {name: best_setting(records, name) for name in ("sn", "gp", "clip")}
    words = {
        name: f"{name} {shown(values)} in setting {setting}"
        for name, (setting, values) in best.items()
    }
    sn, gp, clip = (best[name][1] for name in ("sn", "gp", "clip"))
    compared_here = [
        Finding(
            "spectral norm has a smaller distance than WGAN-GP, each in its best "
            "setting",
            f"{MIYATO}, Table 2",
            "sn 29.3, gp 40.2",
            f"{words['sn']}; {words['gp']}",
            less(sn, gp),
        ),
        *(
            Finding(
                f"weight clipping has a larger distance than {label}, each in its best "
                "setting",
                f"{MIYATO}, Table 2",
                f"clip 42.6, {name} {number}",
                f"{words['clip']}; {words[name]}",
                less(best[name][1], clip),
            )
            for name, label, number in (
                ("gp", "WGAN-GP", "40.2"),
                ("sn", "spectral norm", "29.3"),
            )
        ),
    ]
    for other, label, number in (
        ("wn", "weight norm", "34.7"),
        ("layer-norm", "layer norm", "33.9"),
    ):
        runs = [_distances(records, name, "non-saturating") for name in ("sn", other)]
        compared_here.append(
            Finding(
                f"spectral norm has a smaller distance than {label} (non-saturating)",
                f"{MIYATO}, Table 2",
                f"sn 29.3, {other} {number}",
                f"sn {shown(runs[0])}; {other} {shown(runs[1])}",
                less(*runs),
            )
        )
    runs = [_distances(records, name, "wasserstein") for name in ("sn+gp", "gp")]
    compared_here.append(
        Finding(
            "with the gradient penalty, adding spectral norm makes the distance "
            "smaller (wasserstein)",
            f"{MIYATO}, Table 7",
            "sn+gp 32.0, gp 40.1",
            f"sn+gp {shown(runs[0])}; gp {shown(runs[1])}",
            less(*runs),
        )
    )
    return compared_here


def _distances(records: list[Record], method: str, loss: str) -> list[float | None]:
    return distances(compared(records, method, loss))


def of_settings(records: list[Record]) -> list[Finding]:
    """Figures 1 and 2: no heights are printed, so that "fails" is a rule of ours."""
    sn, gp = worst_over_best(records, "sn"), worst_over_best(records, "gp", "DEF")
    return [
        Finding(
            "spectral norm stays good in all settings A to F: none more than "
            f"{_FAILS:.0f} times its best",
            f"{MIYATO}, Figure 1",
            "-",
            _ratios("sn", sn),
            _all(sn, 6, lambda ratio: ratio <= _FAILS),
        ),
        Finding(
            "WGAN-GP fails in the settings D, E and F: more than "
            f"{_FAILS:.0f} times its best in each",
            f"{MIYATO}, Figure 1 and section 4.1.1",
            "-",
            _ratios("gp", gp),
            _all(gp, 3, lambda ratio: ratio > _FAILS),
        ),
        _within(records, "gp", "WGAN-GP", "Figure 1"),
        _within(records, "clip", "weight clipping", "Figure 1"),
    ]


def _within(records: list[Record], other: str, label: str, figure: str) -> Finding:
    """Compares in each setting, where both have had as many updates at one rate."""
    pairs = {
        setting: [of_setting(records, name, setting) for name in ("sn", other)]
        for setting in "DEF"
    }
    words = (
        f"{setting}: sn {shown(sn)}, {other} {shown(theirs)}"
        for setting, (sn, theirs) in pairs.items()
    )
    return Finding(
        f"spectral norm has a smaller distance than {label} in each of D, E, F" + LATER,
        f"{MIYATO}, {figure}",
        "-",
        "; ".join(words),
        both(*(less(*pair) for pair in pairs.values())),
    )


def _ratios(method: str, ratios: dict[str, float]) -> str:
    words = ", ".join(
        f"{setting} {ratio:.2f}" if np.isfinite(ratio) else f"{setting} diverged"
        for setting, ratio in ratios.items()
    )
    return f"{method}, of its best setting: {words}" if words else "no runs"


def _all(ratios: dict[str, float], n: int, holds: Callable[[float], bool]) -> str:
    if len(ratios) < n:
        return NOT_MEASURED
    return REPRODUCED if all(map(holds, ratios.values())) else NOT_REPRODUCED
