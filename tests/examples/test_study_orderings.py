"""The study's verdicts on published orderings, on records designed both ways."""

import numpy as np
import pytest

from examples.study.evidence import (
    best_setting,
    rank_share,
    spread_of_gradient,
    worst_over_best,
)
from examples.study.methods import SETTINGS
from examples.study.orderings import orderings
from examples.study.verdict import (
    NOT_MEASURED,
    NOT_REPRODUCED,
    OVERLAP,
    REPRODUCED,
    SINGLE,
    both,
    less,
    shown,
)
from tests.examples.study_records import designed


def test_less_knows_order_overlap_and_divergence():
    assert less([1.0, 2.0, 3.0], [4.0, 5.0, 6.0]) == REPRODUCED
    assert less([1.0, 2.0, 5.0], [4.0, 5.0, 6.0]) == OVERLAP
    assert less([4.0, 5.0, 6.0], [1.0, 2.0, 3.0]) == NOT_REPRODUCED
    assert less([1.0], [1.0]) == NOT_REPRODUCED
    assert less([1.0], [2.0, 3.0]) == less([1.0, 2.0], [3.0]) == SINGLE
    assert less([], [1.0]) == less([1.0], []) == NOT_MEASURED
    assert less([9.0, 9.0], [None, None]) == REPRODUCED
    assert less([None], [None]) == less([None], [9.0]) == NOT_REPRODUCED
    assert both(REPRODUCED, OVERLAP) == OVERLAP
    assert both(OVERLAP, SINGLE) == SINGLE
    assert both(REPRODUCED, NOT_MEASURED, NOT_REPRODUCED) == NOT_MEASURED
    assert shown([3.0, None, 1.0]) == "3 (1 to diverged)"
    assert (shown([3.0]), shown([None]), shown([])) == ("3", "diverged", "no runs")


def verdicts(records, measured_times=None):
    return {f.claim: f.verdict for f in orderings(records, measured_times)}


def the_one(found, words):
    (verdict,) = [v for claim, v in found.items() if words in claim]
    return verdict


def as_published():
    """Records of a world in which everything is as it was published."""
    sn = {"level": 1.0, "wiggle": 0.1, "drift": 0.01, "decay": 0.99}
    gp = {"level": 5.0, "wiggle": 0.5, "decay": 0.95}
    clip = {"level": 0.01, "wiggle": 0.9, "decay": 0.7}
    fails = {"A": 20, "B": 20, "C": 25, "D": 90, "E": 90, "F": None}
    records = []
    for seed in range(3):
        for i, s in enumerate(SETTINGS):
            gp_now = None if fails[s] is None else fails[s] + seed / 10
            records += [
                designed("sn", "non-saturating", s, seed, distance=10 + i, **sn),
                designed("gp", "wasserstein", s, seed, distance=gp_now, **gp),
                designed("clip", "non-saturating", s, seed, distance=50, **clip),
            ]
        records += [
            designed("sn", "wasserstein", "A", seed, distance=12, **sn),
            designed("clip", "wasserstein", "A", seed, distance=60, **clip),
            designed("sn+gp", "wasserstein", "A", seed, distance=15, **sn),
            designed("wn", "non-saturating", "C", seed, distance=30, **clip),
            designed("layer-norm", "non-saturating", "C", seed, distance=30, **sn),
        ]
    return records


def swapped(records):
    """The same with SN and the two others in each other's place."""
    names = {"sn": "gp", "gp": "sn", "sn+gp": "gp", "wn": "sn", "layer-norm": "sn"}
    return [
        record
        | {"curves": of["curves"], "spectra": of["spectra"], "score": of["score"]}
        for record in records
        for of in [
            next(
                r
                for r in [*records, record]
                if r["method"] == names.get(record["method"], "sn")
                and r["seed"] == record["seed"]
                and (r["setting"] == record["setting"])
            )
        ]
    ]


def taking(**ratios):
    """Times with these ratios to none."""
    found = {name: {"quartiles": [x - 0.01, x, x + 0.01]} for name, x in ratios.items()}
    return {"ratios": found}


def test_a_world_as_published_reproduces_all():
    found = verdicts(as_published(), taking(none=1.0, wn=1.1, sn=1.2, gp=2.0))
    assert set(found.values()) == {REPRODUCED}
    assert len(found) == 19


def test_a_world_the_other_way_round_reproduces_none_of_what_was_swapped():
    found = verdicts(swapped(as_published()), taking(none=1.0, wn=1.1, sn=1.0, gp=0.9))
    for words in (
        "smaller distance than WGAN-GP, each",
        "smaller distance than WGAN-GP in each",
        "larger distance than WGAN-GP",
        "larger distance than spectral norm",
        "than weight norm",
        "than layer norm",
        "stays good",
        "more controlled",
        "over-corrects",
        "very little loss",
        "more gradually",
        "how far the loss goes",
        "longer with SN than with WN",
        "longer with GP than with SN",
    ):
        assert the_one(found, words) == NOT_REPRODUCED, words


@pytest.mark.parametrize(
    ("last", "sn", "gp"),
    [
        (19.0, REPRODUCED, NOT_REPRODUCED),
        (21.0, NOT_REPRODUCED, REPRODUCED),
        (None, NOT_REPRODUCED, REPRODUCED),
    ],
)
def test_a_setting_fails_above_twice_the_best(last, sn, gp):
    values = {"A": 10.0, "B": 12.0, "C": 12.0, "D": 30.0, "E": 30.0, "F": last}
    for_sn = values | {"D": 12.0, "E": 12.0}
    records = [
        *(designed("sn", "non-saturating", s, distance=d) for s, d in for_sn.items()),
        *(designed("gp", "wasserstein", s, distance=d) for s, d in values.items()),
    ]
    found = verdicts(records)
    assert the_one(found, "stays good") == sn
    assert the_one(found, "fails in the settings") == gp
    found = verdicts([record for record in records if record["setting"] != "B"])
    assert the_one(found, "stays good") == NOT_MEASURED


@pytest.mark.parametrize(
    ("level", "verdict"), [(0.09, REPRODUCED), (0.11, NOT_REPRODUCED)]
)
def test_very_little_is_less_than_a_tenth(level, verdict):
    records = [
        designed(method, level=level if method == "clip" else 1.0, seed=seed)
        for method in ("sn", "gp", "clip")
        for seed in (0, 1)
    ]
    assert the_one(verdicts(records), "very little loss") == verdict


def test_what_has_no_records_is_not_measured():
    found = verdicts([designed("none")])
    assert set(found.values()) == {NOT_MEASURED}


def test_the_best_setting_and_the_ratios_to_it():
    values = dict(zip(SETTINGS, (8.0, 4.0, 6.0, None, 10.0, 40.0), strict=True))
    records = [designed("gp", setting=s, distance=d) for s, d in values.items()]
    assert best_setting(records, "gp") == ("B", [4.0])
    ratios = worst_over_best(records, "gp")
    assert ratios == {"A": 2.0, "B": 1.0, "C": 1.5, "D": np.inf, "E": 2.5, "F": 10.0}
    assert best_setting(records, "sn") == ("-", [])


def test_the_spread_of_an_oscillating_gradient():
    """It goes between level exp(-w) and level exp(w)."""
    record = designed(level=3.0, wiggle=0.5)
    assert spread_of_gradient(record) == pytest.approx(np.exp(1.0), rel=1e-3)


def test_the_rank_share_of_a_flat_and_of_a_one_dimensional_spectrum():
    assert rank_share(designed(decay=1.0)) == pytest.approx(1.0)
    assert rank_share(designed(decay=1e-9)) == pytest.approx(1 / 24, rel=1e-3)
