"""What is called lower is below: as returned, as printed, in every dtype.

The oracle is one vector's quotient in numpy's long double, of a float64 SVD's vector:
in exact arithmetic it is at most the norm, and the vector's error counts twice in it.
"""

import decimal
import functools
import json
import re
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import specjax as sx
from specjax import bounds
from specjax.__main__ import main
from specjax.bounds._norm import in_digits
from specjax.bounds._product import stretch
from specjax.diagnostics._row import _between
from tests.cases import Own, designed, enable_x64
from tests.exhaustive import sampled
from tests.test_bounds_geometry import Geometry, kernels_of, norms
from tests.test_report import cells_of

STACK = sx.Matrix(batch_axis=0)
SHAPES = [(1, 1), (1, 40), (40, 1), (8, 8), (7, 5), (64, 32), (32, 100)]


def drawn(shape, n=42, seed=0):
    """Returns kernels: random, of signs, sparse, of rank one, flat, of many scales."""
    rng = np.random.default_rng(seed)
    kernels = rng.standard_normal((n, *shape))
    kernels[1::6] = np.sign(kernels[1::6])
    kernels[2::6] *= rng.uniform(size=kernels[2::6].shape) < 0.1
    for i in range(3, n, 6):
        kernels[i] = np.outer(kernels[i, :, 0], kernels[i, 0])
        kernels[i - 3] *= 10.0 ** rng.integers(-28, 28)
    flat = designed(*shape, np.ones(min(shape)))
    kernels[4::6] = flat * np.exp(rng.standard_normal((len(kernels[4::6]), 1, 1)))
    return kernels


def norm_below(kernels):
    """Returns a number that the norm of each is not below, nor far above."""
    wide = np.clongdouble if np.iscomplexobj(kernels) else np.longdouble
    left = np.linalg.svd(kernels, full_matrices=False)[0][..., 0]
    long = np.swapaxes(kernels, 1, 2).astype(wide)
    image = (long @ left.conj().astype(wide)[..., None])[..., 0]
    lengths = (np.sqrt((np.abs(x) ** 2).sum(-1)) for x in (image, left.astype(wide)))
    seen, size = lengths
    return seen / size


def gaps(kernels, linear_map=STACK, true=None):
    """Returns by how much each is below, relatively; NaN for a zero kernel."""
    low = np.asarray(bounds.lower(kernels, linear_map).value)
    wide = np.asarray(kernels)
    wide = wide.astype(np.complex128 if np.iscomplexobj(wide) else np.float64)
    true = norm_below(wide) if true is None else true
    assert np.all(low <= true)
    assert np.all(low >= 0)
    zero = true == 0
    return np.asarray(1 - low[~zero].astype(np.longdouble) / true[~zero], np.float64)


@pytest.mark.parametrize(
    "shape", sampled([(s,) for s in SHAPES], [(s,) for s in SHAPES[::2]]), ids=str
)
def test_lower_is_below_the_norm_and_near_it(shape, record_property):
    found = gaps(jnp.asarray(drawn(shape), jnp.float32))
    quantiles = np.quantile(found, [0, 0.5, 0.95, 1])
    record_property("gap: least, median, 95 %, largest", quantiles.tolist())
    assert quantiles[0] >= 0
    assert quantiles[-1] <= (1.6e-6 if max(shape) <= 40 else 6e-6)


@pytest.mark.exhaustive
@pytest.mark.parametrize("shape", [*SHAPES, (256, 128), (300, 500)], ids=str)
def test_lower_is_below_the_norm_of_many(shape, record_property):
    found = np.concatenate([
        gaps(jnp.asarray(drawn(shape, seed=seed), jnp.float32)) for seed in range(50)
    ])  # fmt: skip
    quantiles = np.quantile(found, [0, 0.5, 0.95, 1])
    record_property("gap: least, median, 95 %, largest", quantiles.tolist())
    assert quantiles[-1] <= 3e-5


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64", "complex64"])
def test_lower_is_below_the_norm_in_other_dtypes(dtype):
    kernels = drawn((9, 6), seed=1)
    if dtype == "float16":
        kernels /= np.abs(kernels).max((1, 2), keepdims=True)
    if dtype == "complex64":
        kernels = kernels + 1j * drawn((9, 6), seed=2)
    with enable_x64():
        found = gaps(jnp.asarray(kernels, dtype))
    assert np.all(found <= {"float64": 4e-15, "complex64": 4e-6}.get(dtype, 2e-6))


GEOMETRIES = {
    "same": Geometry((6,), (3,), (1,), n_in=2, n_out=3),
    "strided, groups": Geometry((5, 4), (3, 2), (2, 1), groups=2, n_in=2),
    "circular": Geometry((5,), (3,), (2,), taps=(2,), padding="CIRCULAR", n_in=40),
    "reflected": Geometry((3,), (3,), (1,), padding="REFLECT", n_out=2),
    "transposed": Geometry((3,), (4,), (2,), padding="SAME", n_in=2, transposed=True),
}


@pytest.mark.parametrize("name", sampled(GEOMETRIES, list(GEOMETRIES)[::2]))
def test_lower_is_below_the_norm_of_an_operator(name):
    geometry = GEOMETRIES[name]
    kernels, linear_map = kernels_of(geometry), geometry.conv(batch_axis=0)
    true = norms(geometry, kernels)
    found = gaps(jnp.asarray(kernels, jnp.float32), linear_map, true)
    assert np.all(found <= 1e-5)


def test_every_sum_may_be_rounded_up():
    # The numbers are below whatever the sums lose or gain: here each is far off.
    rng = np.random.default_rng(4)
    matrix = rng.uniform(0.5, 1, (300, 20)).astype(np.float32)
    v = np.ones(300, np.float32)
    low = float(
        stretch(
            jnp.asarray(matrix), jnp.asarray(v), sx.Matrix().resolve(matrix.shape).one
        )
    )
    sums = np.float64(v) @ np.float64(matrix)
    # 300 terms in pieces of ten, five halvings; and what the lengths may have.
    off = 15 * 2.0**-24
    true = np.linalg.norm(sums) / 300**0.5
    assert low <= true * (1 - off)
    assert low >= true * (1 - 4 * off)


def test_scales_and_what_underflows():
    # Entries below the smallest normal number may be read as zeros: others count too.
    kernels = designed(12, 9, np.linspace(1, 0.1, 9))
    for exponent in (-126, -120, -100, 0, 100, 126):
        kernel = (kernels * 2.0**exponent).astype(np.float32)
        true = float(norm_below(np.float64(kernel)[None])[0])
        low = float(bounds.lower(jnp.asarray(kernel)).value)
        assert 0 <= low <= true
        if exponent >= -100:
            assert low >= true * (1 - 3e-6)
    mixed = np.full((12, 9), 1.1e-38, np.float32)
    mixed[3, 4] = 2e-37
    low = float(bounds.lower(jnp.asarray(mixed)).value)
    assert 0 < low <= np.linalg.norm(np.float64(mixed), 2)


def test_an_entry_that_is_read_as_zero_may_have_made_the_norm_less():
    # Without the subnormal entry the norm is 1.618 times the others, with it 1.49.
    kernel = np.float32([[2e-38, 2e-38], [2e-38, -1.1e-38]])
    true = np.linalg.norm(np.float64(kernel), 2)
    for linear_map, array in ((sx.Matrix(), kernel), (sx.Conv((2,)), kernel[None])):
        assert bounds.lower(jnp.asarray(array), linear_map).value <= true


def test_the_number_of_an_svd_is_moved_between_the_bounds():
    norms_of = (
        bounds.Norm(np.float32(value), kind, "matrix", "")
        for value, kind in (
            ([1, 2, 3], "lower"),
            ([4, 1, 3.5], "exact"),
            ([3, 4, 4], "upper"),
        )
    )
    moved = _between(*norms_of)
    assert moved.kind == "exact"
    np.testing.assert_array_equal(moved.value, [3, 2, 3.5])


def test_zero_and_what_is_not_finite():
    assert bounds.lower(jnp.zeros((4, 3))).value == 0
    assert bounds.lower(jnp.zeros((3, 2, 2)), sx.Conv((5,))).value == 0
    for bad in (np.nan, np.inf):
        kernel = jnp.ones((4, 3)).at[1, 2].set(bad)
        assert not np.isfinite(bounds.lower(kernel).value)


def test_a_map_of_ones_own_and_a_large_matrix():
    kernel = np.random.default_rng(5).standard_normal((70, 900)).astype(np.float32)
    true = float(norm_below(np.float64(kernel)[None])[0])
    for linear_map in (Own(), sx.Matrix()):
        low = float(bounds.lower(jnp.asarray(kernel), linear_map).value)
        assert true * (1 - 2e-5) <= low <= true


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("spec", [P("a"), P(None, "a")], ids=str)
def test_on_a_mesh(kind, spec):
    kernel = np.random.default_rng(6).standard_normal((32, 24)).astype(np.float32)
    true = float(norm_below(np.float64(kernel)[None])[0])
    mesh = jax.make_mesh((2,), ("a",), axis_types=(kind,))
    with jax.set_mesh(mesh):
        placed = jax.device_put(kernel, NamedSharding(mesh, spec))
        low = float(jax.jit(bounds.lower)(placed).value)
    assert true * (1 - 2e-5) <= low <= true


@pytest.mark.parametrize("spec", [P("a"), P(None, "a")], ids=str)
def test_split_by_hand(spec):
    # What one device holds is a millionth of what the other does.
    kernel = np.random.default_rng(6).standard_normal((32, 24)).astype(np.float32)
    kernel[:16, :12] *= 1e6
    true = float(norm_below(np.float64(kernel)[None])[0])
    mesh = jax.make_mesh((2,), ("a",), axis_types=(AxisType.Auto,))
    run = jax.shard_map(
        lambda w: bounds.lower(w, sx.Matrix(spec=spec)).value,
        mesh=mesh,
        in_specs=spec,
        out_specs=P(),
        # Before jax 0.9 a kernel that is split by hand is not told from another.
        check_vma=jax.__version_info__ >= (0, 9),
    )
    assert true * (1 - 2e-5) <= float(jax.jit(run)(kernel)) <= true


# As printed.


def number(text):
    """Returns a printed number exactly."""
    return Fraction(decimal.Decimal(text))


@functools.cache
def many():
    """Returns 60 matrices of 8x8 in float32, with numbers around their norms."""
    kernels = drawn((8, 8), n=60, seed=3).astype(np.float32)
    return kernels, norm_below(kernels.astype(np.float64))


def test_between_the_three_and_in_print():
    kernels, true = many()
    array = jnp.asarray(kernels)
    low, high = bounds.lower(array, STACK), bounds.upper(array, STACK)
    assert np.all(np.asarray(low.value) <= true)
    assert np.all(np.asarray(high.value, np.longdouble) >= true)
    for i, one in enumerate(true):
        shown = [
            number(str(bounds.Norm(norm.value[i], norm.kind, "matrix", "")).split()[0])
            for norm in (low, high)
        ]
        assert shown[0] <= Fraction(float(low.value[i]))
        assert Fraction(float(high.value[i])) <= shown[1]
        assert shown[0] <= Fraction(*one.as_integer_ratio()) <= shown[1]
        # And in no more digits than numpy's.
        assert Fraction(float(low.value[i])) - shown[0] <= shown[0] / 10**6
    (inside,) = re.fullmatch(r"\[(.*)\] \(lower.*", str(low), re.DOTALL).groups()
    for text, value in zip(inside.split(), low.value, strict=True):
        assert number(text) <= Fraction(float(value))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_digits_are_rounded_as_they_are_asked_to_be(dtype):
    rng = np.random.default_rng(7)
    values = (rng.standard_normal(400) * 10.0 ** rng.integers(-4, 4, 400)).astype(dtype)
    for value in [*np.abs(values), dtype(0), dtype(2), dtype(1e-3)]:
        exact = Fraction(float(value))
        assert number(in_digits(value, decimal.ROUND_FLOOR)) <= exact
        assert number(in_digits(value, decimal.ROUND_CEILING)) >= exact
        assert in_digits(value, decimal.ROUND_HALF_EVEN) == str(value)
    for value in (np.nan, np.inf):
        assert in_digits(dtype(value), decimal.ROUND_FLOOR) == str(dtype(value))
    assert str(bounds.lower(jnp.zeros((2, 2)))) == "0.0 (lower, matrix, Golub-Kahan)"


def test_the_table_and_the_json_of_the_command_line(tmp_path, capsys):
    kernels, true = many()
    rng = np.random.default_rng(8)
    odd = rng.standard_normal((30, 1, 1)).astype(np.float32)
    arrays = {f"Dense_{i}/kernel": k for i, k in enumerate([*kernels, *odd])}
    norm = {
        name: Fraction(*one.as_integer_ratio())
        for name, one in zip(arrays, [*true, *map(abs, odd.ravel())], strict=True)
    }
    np.savez(tmp_path / "params.npz", **arrays)
    json_file = tmp_path / "report.json"
    assert main(["report", str(tmp_path / "params.npz"), "--json", str(json_file)]) == 0
    cells, plain = cells_of(capsys.readouterr().out), json.loads(json_file.read_text())
    for name, one in norm.items():
        printed = [number(text) for text in cells[name][2:5]]
        entry = plain["kernels"][name]
        kept = [Fraction(entry[kind]["value"]) for kind in ("lower", "exact", "upper")]
        for low, exact, high in (printed, kept):
            assert low <= exact <= high
            assert low <= one <= high
