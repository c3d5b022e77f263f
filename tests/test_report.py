"""`report`: every number against a float64 SVD, and the table that shows them."""

import dataclasses
import decimal
import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import specjax as sx
from specjax.diagnostics._table import _number
from specjax.errors import MissingLibraryError
from tests.cases import designed
from tests.test_conv import GEOMETRIES, dense, make_kernel
from tests.test_metrics import Own

RNG = np.random.default_rng(1)
STRIDED = GEOMETRIES["strides"]
KERNELS = {
    "Dense_0/kernel": designed(12, 7, np.linspace(3, 0.5, 7)),
    "Conv_0/kernel": RNG.standard_normal((3, 3, 2, 4)),
    "heads/w": np.stack([designed(6, 5, np.geomspace(i, 0.1, 5)) for i in (1, 2, 3)]),
    "operator/w": make_kernel(STRIDED),
}
RULE = {
    "heads/w": sx.Matrix(batch_axis=0),
    "operator/w": STRIDED.conv,
    ".*": sx.flax_kernels,
}
MATRICES = {
    "Dense_0/kernel": KERNELS["Dense_0/kernel"],
    "Conv_0/kernel": KERNELS["Conv_0/kernel"].reshape(-1, 4),
    "heads/w": KERNELS["heads/w"],
    "operator/w": dense(STRIDED, KERNELS["operator/w"].astype(np.float32)),
}


def tree_of(kernels, dtype=np.float32):
    tree = {}
    for path, kernel in kernels.items():
        name, leaf = path.split("/")
        tree.setdefault(name, {"bias": np.ones(3)})[leaf] = np.asarray(kernel, dtype)
    return tree


@pytest.fixture(scope="module")
def whole():
    return sx.report(tree_of(KERNELS), kernels=RULE)


@pytest.fixture(scope="module")
def too_large():
    return sx.report(tree_of(KERNELS), kernels=RULE, max_bytes=16)


def rows_of(report):
    return {row.path: row for row in report.rows}


@pytest.mark.parametrize("path", KERNELS)
def test_numbers_are_those_of_the_float64_svd(whole, path):
    row = rows_of(whole)[path]
    spectrum = np.linalg.svd(MATRICES[path], compute_uv=False)
    norm = spectrum[..., 0]
    assert (row.shape, row.dtype) == (KERNELS[path].shape, "float32")
    np.testing.assert_allclose(row.spectrum, spectrum, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(row.exact.value, norm, rtol=1e-6)
    np.testing.assert_allclose(row.lower.value, norm, rtol=1e-3)
    lower = sx.bounds.lower(jnp.asarray(KERNELS[path], "float32"), row.linear_map)
    np.testing.assert_allclose(row.lower.value, lower.value, rtol=1e-6)
    assert np.all(row.lower.value <= norm * (1 + 1e-6))
    assert np.all(row.upper.value >= norm)
    assert np.all(row.upper.value <= norm * 1.2)
    stable_rank = np.sum(spectrum**2, -1) / norm**2
    np.testing.assert_allclose(row.stable_rank, stable_rank, rtol=1e-5)
    condition_number = norm / spectrum[..., -1]
    np.testing.assert_allclose(row.condition_number, condition_number, rtol=1e-4)
    of = "operator" if path == "operator/w" else "matrix"
    assert {row.lower.of, row.exact.of, row.upper.of} == {of}
    kinds = (row.lower.kind, row.exact.kind, row.upper.kind)
    assert kinds == ("lower", "exact", "upper")
    assert np.all(row.finite)


@pytest.mark.parametrize("path", KERNELS)
def test_a_kernel_too_large_has_its_bounds(too_large, path):
    row = rows_of(too_large)[path]
    spectrum = np.linalg.svd(MATRICES[path], compute_uv=False)
    norm = spectrum[..., 0]
    assert row.exact is row.spectrum is row.condition_number is None
    np.testing.assert_allclose(row.lower.value, norm, rtol=1e-3)
    assert row.upper.method == "Frobenius norm"
    assert np.all(row.upper.value >= norm)
    stable_rank = np.sum(spectrum**2, -1) / norm**2
    np.testing.assert_allclose(row.stable_rank, stable_rank, rtol=2e-3)
    assert np.all(row.stable_rank >= stable_rank * (1 - 1e-6))


def test_a_kernel_in_double_precision_is_measured_in_it():
    kernel = designed(12, 7, np.linspace(3, 0.5, 7))
    (row,) = sx.report({"Dense_0": {"kernel": kernel}}).rows
    norm = np.linalg.norm(kernel, 2)
    assert row.dtype == "float64"
    np.testing.assert_allclose(row.exact.value, norm, rtol=1e-13)
    assert norm <= row.upper.value < norm * (1 + 1e-3)


def test_a_complex_kernel_is_measured_in_its_own_precision():
    kernel = designed(9, 6, np.linspace(3, 0.5, 6)) * np.exp(0.3j)
    norm = np.linalg.norm(kernel, 2)
    for dtype, rtol in ((np.complex128, 1e-13), (np.complex64, 1e-6)):
        (row,) = sx.report({"Dense_0": {"kernel": kernel.astype(dtype)}}).rows
        assert row.dtype == np.dtype(dtype).name
        np.testing.assert_allclose(row.exact.value, norm, rtol=rtol)
        assert row.spectrum.dtype == np.finfo(dtype).dtype


def test_zero_singular_and_narrow_kernels():
    kernels = {
        "Dense_0": np.zeros((2, 2)),
        "Dense_1": np.diag([2.0, 0.0]),
        "Dense_2": np.ones((4, 1)),
    }
    params = {name: {"kernel": np.float32(k)} for name, k in kernels.items()}
    zero, singular, narrow = sx.report(params).rows
    assert zero.exact.value == zero.stable_rank == zero.upper.value == 0
    assert np.isnan(zero.condition_number)
    assert singular.condition_number == np.inf
    assert singular.stable_rank == 1
    assert narrow.condition_number == narrow.stable_rank == 1


BAD = np.float32(RNG.standard_normal((10, 5, 4)))
BAD[3, 1, 2] = np.nan
ODD = {
    "inf": {"kernel": np.float32([[1, np.inf], [2, 3]])},
    "few": {"w": BAD[2:4]},
    "many": {"w": BAD},
    "undecided": {"kernel": np.ones((2, 3, 4), np.float32)},
    "ints": {"kernel": np.ones((2, 3), np.int8)},
    "unfit": {"v": np.ones((2, 3), np.float32)},
    "text": {"kernel": "a word"},
    "half": {"kernel": jnp.ones((3, 2), jnp.bfloat16)},
    "a [red] one": {"kernel": jnp.ones((3, 2), jnp.bfloat16)},
}
ODD_RULE = {
    ".*/w": sx.Matrix(batch_axis=0),
    ".*/v": sx.Matrix(out_axis=5),
    ".*": sx.flax_kernels,
}


@pytest.fixture(scope="module")
def odd():
    return sx.report(ODD, kernels=ODD_RULE)


def test_what_can_not_be_measured_is_listed(odd):
    rows = rows_of(odd)
    half = {"half/kernel", "a [red] one/kernel"}
    assert rows.keys() == {"inf/kernel", "few/w", "many/w"} | half
    assert odd.undecided.keys() == {"undecided/kernel", "ints/kernel", "unfit/v"}
    assert "float32[2,3,4] that its name" in odd.undecided["undecided/kernel"]
    assert "need axes from -2 to 1" in odd.undecided["unfit/v"]
    assert not rows["inf/kernel"].finite
    assert rows["many/w"].finite.tolist() == [i != 3 for i in range(10)]
    text = str(odd)
    for reason in odd.undecided.values():
        assert f"Not in the table: {reason}" in " ".join(text.split())


def cells_of(text):
    """Returns the cells of a printed table by their first column."""
    lines = [line for line in text.splitlines() if line.startswith("│")]
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    return {row[0]: row[1:] for row in rows}


def test_the_table_shows_the_numbers(whole):
    cells = cells_of(str(whole))
    assert cells["Dense_0/kernel"][:2] == ["12x7", "matrix 12x7"]
    assert cells["Conv_0/kernel"][:2] == ["3x3x2x4", "matrix 18x4"]
    assert cells["operator/w"][:2] == ["4x4x2x3", "convolution of 7x6, strides 2x3"]
    for i in range(3):
        assert cells[f"heads/w[{i}]"][:2] == ["3x6x5", "matrix 6x5"]
    printed = [float(cells[f"heads/w[{i}]"][3]) for i in range(3)]
    np.testing.assert_allclose(printed, [1, 2, 3], rtol=1e-4)
    norm = np.linalg.norm(MATRICES["operator/w"], 2)
    lower, exact, upper, stable_rank, _ = map(float, cells["operator/w"][2:])
    assert lower <= norm <= upper
    assert exact == pytest.approx(norm, rel=1e-4)
    assert stable_rank == pytest.approx(
        (np.linalg.norm(MATRICES["operator/w"]) / norm) ** 2, rel=1e-4
    )


def test_the_table_explains_itself(whole, too_large):
    text = " ".join(str(whole).split())
    assert "found by Golub-Kahan, SVD or dense SVD, Gram" in text
    assert "For a convolution that is not its own norm" in text
    assert "convolution: the operator on images of that size." in text
    assert "too large" not in text
    text = str(too_large)
    assert "-: not computed, because its matrix would be too large." in text
    assert cells_of(text)["Dense_0/kernel"][3] == "-"
    assert cells_of(text)["Dense_0/kernel"][5].startswith("<= ")


def test_eight_slices_have_a_line_each_and_nine_one_together():
    stack = np.float32(RNG.standard_normal((9, 3, 2)))
    rule = {"w": sx.Matrix(batch_axis=0)}
    eight, nine = (sx.report({"w": stack[:n]}, kernels=rule) for n in (8, 9))
    assert [*cells_of(str(eight))] == [f"w[{i}]" for i in range(8)]
    assert [*cells_of(str(nine))] == ["w, 9 slices"]


def test_the_table_shows_what_is_not_finite(odd):
    cells = cells_of(str(odd))
    assert cells["inf/kernel"][2:] == ["not finite"] * 5
    assert cells["few/w[1]"][2:] == ["not finite"] * 5
    finite = np.linalg.norm(BAD[[0, 1, 2, *range(4, 10)]].astype(np.float64), 2, (1, 2))
    low, high = cells["many/w, 10 slices, 1 not finite"][3].split(" to ")
    assert float(low) == pytest.approx(finite.min(), rel=1e-4)
    assert float(high) == pytest.approx(finite.max(), rel=1e-4)
    assert cells["half/kernel"] == cells["a [red] one/kernel"]
    assert cells["half/kernel"][0] == "3x2 bfloat16"


@pytest.mark.parametrize("value", [1.23454999, 1234567.8, 1.00009999e-9, 5.0, 0.0])
def test_printed_bounds_are_bounds(value):
    low = float(_number(value, decimal.ROUND_FLOOR))
    high = float(_number(value, decimal.ROUND_CEILING))
    assert low <= value <= high <= low * (1 + 1.1e-4)


def test_the_table_rounds_bounds_away_from_the_norm(whole):
    row = rows_of(whole)["Dense_0/kernel"]
    norms = {
        name: dataclasses.replace(getattr(row, name), value=np.float32(value))
        for name, value in (("lower", 1.23456), ("exact", 1.23456), ("upper", 1.23461))
    }
    cells = cells_of(str(sx.Report((row._replace(**norms),))))["Dense_0/kernel"]
    assert cells[2:5] == ["1.2345", "1.2346", "1.2347"]


def test_a_map_of_ones_own_has_a_lower_bound():
    kernel = np.float32(RNG.standard_normal((5, 7)))
    result = sx.report({"w": kernel}, kernels={"w": Own()})
    (row,) = result.rows
    norm = np.linalg.norm(kernel.astype(np.float64), 2)
    assert 0.999 * norm < row.lower.value < norm * (1 + 1e-6)
    assert row.exact.method == "dense SVD"
    assert row.lower.value <= row.exact.value <= row.upper.value < norm * (1 + 1e-4)
    assert cells_of(str(result))["w"][1] == "Own"
    assert "-" not in cells_of(str(result))["w"][3:]
    (row,) = sx.report({"w": kernel}, kernels={"w": Own()}, max_bytes=1).rows
    assert row.exact is row.upper is row.stable_rank is None


def test_maps_in_words():
    conv = sx.Conv((8, 8), transposed=True, window_strides=2).resolve((4, 4, 3, 5))
    assert conv.one.name == "transposed convolution of 8x8, strides 2"
    heads = sx.Matrix(in_axis=0, out_axis=(1, 2)).resolve((6, 2, 4))
    assert heads.one.name == "matrix 6x8"


def test_plain_dict_is_json_of_every_number(whole, odd):
    plain = json.loads(json.dumps(whole.as_dict(), allow_nan=False))
    found = plain["kernels"]["Dense_0/kernel"]
    (row,) = (row for row in whole.rows if row.path == "Dense_0/kernel")
    assert found["shape"] == [12, 7]
    assert found["exact"] == {
        "value": float(row.exact.value),
        "of": "matrix",
        "method": "SVD",
    }
    assert found["spectrum"] == row.spectrum.tolist()
    assert len(plain["kernels"]["heads/w"]["condition_number"]) == 3
    plain = json.loads(json.dumps(odd.as_dict(), allow_nan=False))
    assert plain["kernels"]["inf/kernel"]["exact"]["value"] == "nan"
    assert plain["kernels"]["inf/kernel"]["lower"]["value"] == "nan"
    lower = plain["kernels"]["many/w"]["lower"]["value"]
    assert [i for i, value in enumerate(lower) if value == "nan"] == [3]
    assert plain["undecided"].keys() == odd.undecided.keys()


def test_nothing_selected_is_an_error():
    with pytest.raises(ValueError, match="no kernel among 1 leaves"):
        sx.report({"a": {"bias": np.ones(3)}})


def test_a_narrow_terminal_keeps_the_numbers(whole):
    console = Console(width=80, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(whole)
    assert "17.49" in captured.get() or "condition" in captured.get()
    assert all(len(line) <= 80 for line in captured.get().splitlines())


def test_without_rich_the_table_is_one_sentence(whole, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "rich"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingLibraryError, match=r"specjax: got no library rich; need "
        r"it for this. Try: pip install 'specjax\[report\]'."):  # fmt: skip
        str(whole)
    assert whole.as_dict()["kernels"]
