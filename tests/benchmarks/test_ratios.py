"""Medians of ratios, round by round, against arithmetic by hand."""

import numpy as np
import pytest

from benchmarks.rivals.phases import in_rounds
from benchmarks.rivals.ratios import Spread, ratio, spread, uncertainty


def test_the_ratio_is_of_the_same_round():
    # The machine is ten times as slow in every other round: that falls on both.
    times = {"plain": [1.0, 10.0, 1.0, 10.0], "sn": [1.1, 11.0, 1.1, 11.0]}
    assert ratio(times, "sn", "plain") == pytest.approx((1.1, 1.1, 1.1))


def test_the_spread_is_the_quartiles():
    assert spread([5.0, 1.0, 2.0, 4.0, 3.0]) == Spread(2.0, 3.0, 4.0)


@pytest.mark.parametrize("noise", ["normal", "lognormal"])
def test_medians_of_the_same_seldom_look_different(noise):
    draws = getattr(np.random.default_rng(0), noise)(0, 0.3, (4000, 2, 50))
    low, medians, high = np.quantile(draws, (0.25, 0.5, 0.75), axis=-1)
    both = uncertainty(low, high, 50).sum(-1)
    different = np.abs(np.diff(medians)[:, 0]) > both
    assert 0.005 < different.mean() < 0.05


def test_as_many_rounds_of_both():
    times = {"plain": [1.0, 1.0], "sn": [1.0]}
    with pytest.raises(ValueError, match=r"'sn' has 1 rounds and 'plain' has 2; a rat"):
        ratio(times, "sn", "plain")


def test_each_round_has_every_name_once_in_a_new_order():
    names = [str(i) for i in range(8)]
    found = list(in_rounds(names, 3))
    rounds = [found[i : i + 8] for i in range(0, 24, 8)]
    assert all(sorted(each) == names for each in rounds)
    assert len({tuple(each) for each in rounds}) == 3
