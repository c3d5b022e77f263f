"""What a study's record keeps: bins, digits, spectra; and what is a whole one."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.gan.errors import UserError
from examples.study.curves import FIRST, KEYS, bin_edges, bin_means, kept, line, number
from examples.study.records import read_records, whole_record, write_record
from examples.study.spectra import effective_rank, spectrum
from tests.examples.study_records import designed, kernel


@given(st.integers(1, 1000))
def test_bins_cover_every_update_once(n):
    edges = bin_edges(n)
    assert edges[0] == 0
    assert edges[-1] == n
    lengths = np.diff(edges)
    assert len(lengths) == min(n, 200)
    assert lengths.min() >= 1
    assert lengths.max() - lengths.min() <= 1


def test_a_bin_is_the_mean_of_what_is_finite_in_it():
    draw = np.random.default_rng(0)
    values = draw.standard_normal(777)
    values[100:130] = np.nan
    values[500] = np.inf
    edges = bin_edges(777)
    slow = [
        np.mean([v for v in values[a:b] if np.isfinite(v)] or [np.nan])
        for a, b in itertools.pairwise(edges)
    ]
    assert np.isnan(slow).any()
    np.testing.assert_allclose(bin_means(values, edges), slow, rtol=1e-9)


def test_a_record_keeps_each_of_the_first_updates_and_means_of_all():
    metrics = [
        line({"gradient_norm": i, "g_loss": -i, "d_loss": 2 * i, "penalty": i / 2})
        for i in range(1, 1001)
    ]
    curves = kept(metrics)
    assert curves["first"]["gradient_norm"] == list(range(1, FIRST + 1))
    assert curves["first"]["critic_loss"][9] == 15.0  # without the penalty
    assert curves["first"]["penalty"][9] == 5.0
    assert curves["binned"]["step"][:2] == [5, 10]
    assert curves["binned"]["generator_loss"][:2] == [-3.0, -8.0]
    assert len(curves["binned"]["step"]) == 200


def test_a_run_that_ends_at_once_has_empty_curves():
    curves = kept([])
    assert curves["first"] == {}
    assert curves["binned"] == {"step": []}


def test_numbers_have_five_digits_and_none_for_what_json_can_not_say():
    assert number(1 / 3) == 0.33333
    assert number(123456789.0) == 123460000.0
    assert number(np.nan) is None
    assert number(-np.inf) is None


def test_a_spectrum_of_a_kernel_with_known_singular_values():
    found = spectrum(3 * kernel((100, 90), 0.9))
    values = 0.9 ** np.arange(90)
    assert found["n"] == 90
    assert found["largest"] == pytest.approx(3.0, rel=1e-4)
    assert found["above_half"] == pytest.approx(np.mean(values > 0.5), rel=1e-4)
    assert len(found["relative"]) == 65
    assert found["relative"][0] == 1.0
    assert found["relative"][-1] == pytest.approx(values[-1], rel=1e-3)


def test_a_convolution_is_read_as_its_matrix():
    flat = kernel((18, 4), 0.5)
    assert spectrum(flat.reshape(3, 3, 2, 4)) == spectrum(flat)


def test_a_kernel_that_is_not_finite_has_no_spectrum():
    assert spectrum(np.array([[1.0, np.nan]])) == {"n": 1, "largest": None}


def test_the_effective_rank_counts_equal_values():
    assert effective_rank(np.array([2.0] * 7 + [0.0] * 5)) == pytest.approx(7)


def test_a_record_comes_back_and_a_partial_one_is_none(tmp_path):
    record = designed()
    write_record(tmp_path, record)
    name = record["name"]
    assert whole_record(tmp_path, name) == json.loads(json.dumps(record))
    path = tmp_path / "records" / f"{name}.json"
    whole = path.read_bytes()
    for cut in (0, 1, len(whole) // 2, len(whole) - 3):
        path.write_bytes(whole[:cut])
        assert whole_record(tmp_path, name) is None
    path.write_text('{"name": 1}')
    with pytest.raises(UserError, match=f"{name}.json is damaged: expected"):
        read_records(tmp_path)


def test_no_record_is_told(tmp_path):
    with pytest.raises(UserError, match="holds no record: expected"):
        read_records(tmp_path)


def test_all_records_stay_small(tmp_path):
    """54 of some 110 runs keep their first updates, half of them have a penalty."""
    draw = np.random.default_rng(0)
    spectra = {str(n): spectrum(draw.standard_normal((n, n))) for n in (256, 128, 64)}
    total = 0
    for keys, first, runs in (
        (KEYS, True, 24), (KEYS[:3], True, 30), (KEYS, False, 27), (KEYS[:3], False, 30)
    ):  # fmt: skip
        metrics = [
            dict(zip(keys, draw.standard_normal(len(keys)), strict=True))
            for _ in range(2000)
        ]
        of_both = {"start": spectra, "end": spectra}
        record = designed(curves=kept(metrics, first=first), spectra=of_both)
        write_record(tmp_path, record)
        path = tmp_path / "records" / f"{record['name']}.json"
        total += runs * path.stat().st_size
    assert total < 1.6e6
