"""Bounds of matrices: float64 SVD below, and none above, of 10,000 matrices."""

import functools
import re
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import specjax as sx
from specjax import bounds
from specjax.bounds._gram import adjoint_times_self
from specjax.bounds._rounding import gamma, power_of_two
from specjax.errors import TooLargeError
from specjax.linear_maps import ResolvedMap
from tests.cases import Own, designed, enable_x64
from tests.exhaustive import sampled

STACK = sx.Matrix(batch_axis=0)


def spectra(rank: int, rng: np.random.Generator) -> np.ndarray:
    """Returns the kinds of spectra that a bound must hold for, one a row."""
    flat = np.ones(rank)
    return np.stack([
        flat,
        np.where(np.arange(rank) < max(1, rank // 2), 1.0, 0.0),
        np.where(np.arange(rank) == 0, 1.0, 0.0),
        np.where(np.arange(rank) == 0, 1.0, 1 - 1e-7),
        np.linspace(1, 0.5, rank),
        np.logspace(0, -12, rank),
        np.logspace(0, -3, rank),
        1 / np.arange(1, rank + 1),
        rng.uniform(size=rank),
    ])  # fmt: skip


def many_matrices(n: int, rows: int, columns: int, seed: int) -> np.ndarray:
    """Returns n float32 matrices: random, designed, sparse, of many scales."""
    rng = np.random.default_rng(seed)
    rank = min(rows, columns)
    left = np.linalg.qr(rng.standard_normal((n, rows, rank)))[0]
    right = np.linalg.qr(rng.standard_normal((n, columns, rank)))[0]
    kinds = spectra(rank, rng)
    values = kinds[np.arange(n) % len(kinds)]
    matrices = (left * values[:, None]) @ np.swapaxes(right, 1, 2)
    third = n // 3
    matrices[:third] = rng.standard_normal((third, rows, columns))
    # Every other one of these is sparse, and every fourth has small integers.
    matrices[:third:2] *= rng.uniform(size=matrices[:third:2].shape) < 0.05
    matrices[1:third:4] = np.round(matrices[1:third:4])
    scales = 10.0 ** rng.integers(-25, 25, (n, 1, 1))
    return (matrices * scales).astype(np.float32)


SHAPES = {
    (1, 1): 1500,
    (1, 40): 1500,
    (40, 2): 1500,
    (7, 5): 1500,
    (16, 16): 1750,
    (32, 64): 1500,
    (70, 40): 730,
    (128, 128): 20,
}
assert sum(SHAPES.values()) == 10_000


@pytest.mark.parametrize(
    ("shape", "n"),
    sampled(
        SHAPES.items(), [(1, 40), (7, 5), (32, 64), (128, 128)], lambda pair: pair[0]
    ),
    ids=str,
)
def test_no_matrix_is_above_its_bound(shape, n):
    matrices = many_matrices(n, *shape, seed=n)
    true = np.linalg.svd(matrices.astype(np.float64), compute_uv=False)[:, 0]
    stack = jnp.asarray(matrices)
    bound = np.asarray(bounds.upper(stack, STACK).value, np.float64)
    assert np.all(bound >= true)
    assert np.all(bound <= true * (1 + 2e-3))
    for method in ("aol", "frobenius"):
        bound = np.asarray(bounds.upper(stack, STACK, method=method).value, np.float64)
        assert np.all(bound >= true), method
        assert np.all(bound <= true * 1.0001 * min(shape) ** 0.5), method


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_the_frobenius_norm_and_aol_are_what_they_say(dtype):
    matrix = np.random.default_rng(1).standard_normal((24, 17))
    if dtype == "complex64":
        matrix = matrix + 1j * np.random.default_rng(2).standard_normal((24, 17))
    kernel = jnp.asarray(matrix, dtype)
    got = bounds.upper(kernel, method="frobenius").value
    np.testing.assert_allclose(got, np.linalg.norm(matrix), rtol=1e-5)
    adjoint = matrix.conj().T
    rows = min(np.abs(g).sum(1).max() for g in (matrix @ adjoint, adjoint @ matrix))
    got = bounds.upper(kernel, method="aol").value
    np.testing.assert_allclose(got, rows**0.5, rtol=1e-4)


def test_aol_of_many_equal_entries():
    # The roundings of their sum go to one side, and there is no slack to hide them.
    for entry in np.float32([0.53, 0.6, 0.71, 0.77, 0.85, 0.97]):
        bound = bounds.upper(jnp.full((1, 1000), entry), method="aol").value
        assert float(bound) >= float(entry) * 1000**0.5


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gamma_is_what_so_many_roundings_can_hide(dtype):
    unit = Fraction(float(jnp.finfo(dtype).eps)) / 2
    for n in (1, 2, 3, 100, 10**4, 10**6):
        want = n * unit / (1 - n * unit)
        assert abs(Fraction(gamma(n, dtype)) / want - 1) < 1e-9
    # Beyond the model nothing is known.
    assert gamma(int(1 / unit), dtype) == gamma(int(2 / unit), dtype) == np.inf


@pytest.mark.parametrize("kind", ["flat", "gaussian"])
def test_a_large_matrix(kind):
    rng = np.random.default_rng(3)
    matrix = rng.standard_normal((256, 384))
    if kind == "flat":
        matrix = designed(256, 384, np.ones(256))
    kernel = jnp.asarray(matrix, jnp.float32)
    true = np.linalg.norm(np.asarray(kernel, np.float64), 2)
    bound = float(bounds.upper(kernel).value)
    assert true <= bound <= true * 1.002
    low = float(bounds.lower(kernel).value)
    assert true * 0.999 <= low <= true * (1 + 1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
def test_the_power_of_two_below_a_number(dtype):
    with enable_x64():
        info = jnp.finfo(dtype)
        powers = 2.0 ** np.arange(info.minexp, info.maxexp)
        numbers = np.concatenate([powers, powers * (2 - float(info.eps))])
        found = jax.vmap(power_of_two)(jnp.array([-numbers, numbers / 2], dtype).T)
        assert found.dtype == dtype
        _, exponents = np.frexp(numbers)
        np.testing.assert_array_equal(np.float64(found), 2.0 ** (exponents - 1))
        none = [0, float(info.smallest_subnormal), np.inf, np.nan]
        assert jnp.all(jax.vmap(power_of_two)(jnp.array(none, dtype)[:, None]) == 1)


@pytest.mark.parametrize("shape", [(40, 6), (1000, 12)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_what_rounding_can_hide_is_in_the_bound(shape, dtype):
    rng = np.random.default_rng(6)
    matrix = rng.uniform(0.5, 1.1, shape)
    if dtype == "complex64":
        matrix = matrix * np.exp(2j * rng.uniform(size=shape))
    matrix = np.asarray(matrix / np.abs(matrix).max(), dtype)
    gram, lost = adjoint_times_self(jnp.asarray(matrix))
    wide = matrix.astype(np.complex128)
    error = np.linalg.norm(np.asarray(gram) - wide.conj().T @ wide, 2)
    assert 0 < error <= lost
    # And no more than what is said: some 100 units of roundoff of the squared norm.
    assert lost <= 100 * 2.0**-24 * 3 * np.linalg.norm(wide) ** 2
    bound = float(bounds.upper(jnp.asarray(matrix)).value)
    assert bound**2 >= np.linalg.norm(wide, 2) ** 2 + lost


def test_the_published_number_in_double_precision():
    # Delattre et al. (2023): 500x400, standard normal, 15 iterations: 3.6e-12.
    matrix = np.random.default_rng(0).standard_normal((500, 400))
    true = np.linalg.norm(matrix, 2)
    with enable_x64():
        bound = float(bounds.upper(jnp.asarray(matrix), n_squarings=15).value)
    assert 0 <= bound / true - 1 < 3.6e-12


def test_fewer_steps_leave_the_slack_that_the_rank_allows():
    kernel = jnp.asarray(designed(40, 40, np.ones(40)), jnp.float32)
    for n_steps in (1, 2, 5):
        slack = float(bounds.upper(kernel, n_squarings=n_steps).value)
        np.testing.assert_allclose(slack, 40 ** (1 / 2 ** (n_steps + 1)), rtol=1e-3)


def test_the_gradient_of_the_bound_is_that_of_a_schatten_norm():
    # In exact arithmetic t squarings give the Schatten norm of order 2^(t+1).
    n_steps, p = 4, 2**5
    matrix = np.random.default_rng(2).standard_normal((9, 6))
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    weights = (values / np.sum(values**p) ** (1 / p)) ** (p - 1)
    want = (left * weights) @ right
    grad = jax.grad(lambda w: bounds.upper(w, n_squarings=n_steps).value)
    got = grad(jnp.asarray(matrix, jnp.float32))
    np.testing.assert_allclose(got, want, atol=2e-6)
    wide = jax.grad(lambda w: bounds.upper(w, n_squarings=n_steps).value)(
        jnp.asarray(matrix.T, jnp.float32)
    )
    np.testing.assert_allclose(wide, want.T, atol=2e-6)
    assert np.all(grad(jnp.zeros((3, 2))) == 0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "complex64"])
def test_other_dtypes(dtype):
    rng = np.random.default_rng(4)
    matrix = rng.standard_normal((20, 30)) + (
        1j * rng.standard_normal((20, 30)) if dtype == "complex64" else 0
    )
    with enable_x64():
        kernel = jnp.asarray(matrix, dtype)
        wide = np.asarray(kernel).astype(np.complex128)
        true = np.linalg.norm(wide, 2)
        for method in ("gram", "aol", "frobenius"):
            assert float(bounds.upper(kernel, method=method).value) >= true
        assert float(bounds.upper(kernel).value) <= true * 1.001
        np.testing.assert_allclose(bounds.exact(kernel).value, true, rtol=1e-5)
        values = np.linalg.svd(wide, compute_uv=False)
        got = bounds.singular_values(kernel)
        np.testing.assert_allclose(got, values, atol=1e-5 * true)


def test_a_stack_of_several_axes_has_a_norm_for_each_slice():
    stack = np.random.default_rng(5).standard_normal((5, 3, 6, 2)).astype(np.float32)
    linear_map = sx.Matrix(in_axis=0, out_axis=2, batch_axis=(1, 3))
    matrices = stack.transpose(1, 3, 0, 2).astype(np.float64)
    true = np.linalg.svd(matrices, compute_uv=False)
    kernel = jnp.asarray(stack)
    assert bounds.exact(kernel, linear_map).value.shape == (3, 2)
    np.testing.assert_allclose(
        bounds.singular_values(kernel, linear_map), true, rtol=1e-4
    )
    for function in (bounds.exact, bounds.lower, bounds.upper):
        got = function(kernel, linear_map).value
        np.testing.assert_allclose(got, true[..., 0], rtol=1e-3)


def test_zero_is_zero_and_what_is_not_finite_shows():
    for function in (bounds.exact, bounds.lower, bounds.upper):
        assert float(function(jnp.zeros((4, 3))).value) == 0
        bad = jnp.ones((4, 3)).at[1, 1].set(jnp.nan)
        assert not np.isfinite(function(bad).value)
    for method in ("aol", "frobenius"):
        assert float(bounds.upper(jnp.zeros((4, 3)), method=method).value) == 0


def test_a_norm_says_what_it_is_and_goes_through_jit_and_vmap():
    kernel = jnp.ones((4, 3))
    got = jax.jit(bounds.upper)(kernel)
    assert (got.kind, got.of, got.method) == ("upper", "matrix", "Gram iteration")
    assert bounds.exact(kernel).kind == "exact"
    assert bounds.lower(kernel).kind == "lower"
    both = jax.vmap(bounds.exact)(jnp.stack([kernel, 2 * kernel]))
    np.testing.assert_allclose(both.value, [12**0.5, 48**0.5], rtol=1e-6)
    assert re.fullmatch(r"3\.46\d+ \(exact, matrix, SVD\)", str(bounds.exact(kernel)))


def test_a_kernel_too_large_says_so_before_anything_is_allocated():
    # On a machine with 24 GiB none of these could be allocated.
    wide = jax.ShapeDtypeStruct((2**20, 2**18), jnp.float32)
    for function in (bounds.exact, bounds.singular_values, bounds.upper):
        with pytest.raises(TooLargeError, match=r"takes \d+\.\d GiB; need at most"):
            jax.eval_shape(function, wide)
    kernel = jax.ShapeDtypeStruct((3, 3, 64, 64), jnp.float32)
    with pytest.raises(TooLargeError, match=r"dense SVD.*Try: .*bounds\.lower"):
        jax.eval_shape(lambda k: bounds.exact(k, sx.Conv((256, 256))), kernel)
    stack = jax.ShapeDtypeStruct((5, 64, 64), jnp.float32)
    for function in (bounds.exact, bounds.singular_values):
        use = functools.partial(function, linear_map=STACK)
        jax.eval_shape(functools.partial(use, max_bytes=5 * 4 * 64**2), stack)
        with pytest.raises(TooLargeError, match=r"takes 80\.0 KiB; need at most"):
            jax.eval_shape(functools.partial(use, max_bytes=5 * 4 * 64**2 - 1), stack)
    with pytest.raises(ValueError, match="max_bytes=1000 "):
        bounds.upper(jnp.ones((64, 64)), max_bytes=1000)


def test_a_lower_bound_takes_as_many_steps_as_it_is_told():
    kernel = jnp.asarray(designed(90, 80, np.linspace(1, 0.9, 80)), jnp.float32)
    found = [float(bounds.lower(kernel, krylov_dim=n).value) for n in (1, 2, 4, 16, 64)]
    assert found == sorted(found)
    assert found[0] < 0.98
    assert found[2] < 0.995 < found[-1] <= 1 + 1e-6
    assert float(bounds.lower(kernel).value) == found[-1]


def test_a_map_of_ones_own_has_every_bound():
    rng = np.random.default_rng(0)
    for shape in ((2, 3), (40, 30), (5, 5)):
        kernel = jnp.asarray(rng.standard_normal(shape), jnp.float32)
        values = np.linalg.svd(np.float64(kernel), compute_uv=False)
        low, exact = bounds.lower(kernel, Own()), bounds.exact(kernel, Own())
        upper = bounds.upper(kernel, Own())
        assert low.value <= values[0] <= upper.value <= values[0] * (1 + 1e-3)
        np.testing.assert_allclose(exact.value, values[0], rtol=1e-5)
        found = bounds.singular_values(kernel, Own())
        np.testing.assert_allclose(found, values, rtol=1e-4, atol=1e-5)
        for method in ("aol", "frobenius"):
            assert bounds.upper(kernel, Own(), method=method).value >= values[0]
        assert {low.of, exact.of, upper.of} == {"operator"}


def test_entries_that_are_sums_of_the_kernels_are_rounded_up():
    """A map of ones own: the circulant matrix of a window beyond the circle."""
    kernel = np.random.default_rng(1).uniform(0.5, 1, 300).astype(np.float32)
    rows = np.float64(kernel).reshape(100, 3).sum(0)
    circulant = np.stack([np.roll(rows, i) for i in range(3)])
    true = np.linalg.norm(circulant, 2)
    upper = float(bounds.upper(jnp.asarray(kernel), Folded()).value)
    assert true * (1 + 2e-5) < upper < true * (1 + 2e-3)
    assert bounds.lower(jnp.asarray(kernel), Folded()).value <= true


class Folded:
    def resolve(self, shape, where="kernel"):
        return Circulant(shape=shape, in_shape=(3,), out_shape=(3,))


class Circulant(ResolvedMap):
    def apply(self, kernel, x):
        rows = jnp.sum(kernel.astype(x.dtype).reshape(-1, 3), axis=0)
        return jnp.stack([jnp.roll(rows, i) for i in range(3)]).T @ x


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "svd"}, "method='svd' for a matrix 3x2; need one of 'gram', 'aol'"),
        ({"method": "fantastic_four"}, "need one of 'gram', 'aol', 'frobenius'"),
        ({"n_squarings": 0}, "n_squarings=0; need 1 or more. Try: n_squarings=13"),
        ({"n_squarings": -1}, "n_squarings: got -1; need 0 or more"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        bounds.upper(jnp.ones((3, 2)), **options)
