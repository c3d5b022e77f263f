"""Orthogonalization against the float64 polar factor, optax' Muon, and scalars."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import specjax as sx
from specjax.constraints import (
    bjorck,
    muon_steps,
    newton_schulz_steps,
    orthogonalize,
    retract,
)
from specjax.constraints._coefficients import closest_to_one, convergent
from tests.cases import CASES, designed, enable_x64
from tests.constraints.oracle import (
    EPS,
    complex_designed,
    derivative,
    of_values,
    spectra,
    values_of,
)

STACK = {".*": sx.Matrix(batch_axis=0)}
BY_NAME = {case.name: case for case in CASES}
every_function = pytest.mark.parametrize(
    "function", [orthogonalize, bjorck, retract], ids=lambda f: f.__name__
)
# Full rank, with ties and without: where U V^H is one matrix.
FULL = ("linear", "around one", "ties", "all inside")


def of(function, kernel, **options):
    options = {"kernels": {".*": sx.Matrix()}} | options
    return function({"w": kernel}, **options)["w"]


def ones(values):
    return np.ones_like(values)


@pytest.mark.parametrize("shape", [(40, 24), (24, 40), (33, 33)])
@pytest.mark.parametrize("function", [orthogonalize, bjorck], ids=lambda f: f.__name__)
def test_designed_spectra(function, shape):
    spectrum = spectra(min(shape))
    kernels = np.float32([designed(*shape, spectrum[name]) for name in FULL])
    got = of(function, jnp.asarray(kernels), kernels=STACK)
    # A small singular value's vectors are uncertain by roundoff over its size.
    atol = 200 * EPS * 300
    np.testing.assert_allclose(got, of_values(np.float64(kernels), ones), atol=atol)
    np.testing.assert_allclose(values_of(got), 1, atol=30 * EPS)


def test_no_full_rank():
    """What is not zero comes to one, what is zero to no more."""
    kernels = [designed(24, 16, spectra(16)[n]) for n in ("rank one", "rank two")]
    got = of(orthogonalize, jnp.asarray(np.stack(kernels), jnp.float32), kernels=STACK)
    values = values_of(got)
    np.testing.assert_allclose(values[0, 0], 1, atol=30 * EPS)
    np.testing.assert_allclose(values[1, :2], 1, atol=30 * EPS)
    assert values.max() < 1 + 30 * EPS
    for kernel, found in zip(kernels, np.float64(got), strict=True):
        left, s, right = np.linalg.svd(kernel, full_matrices=False)
        left, right = left[:, s > 1e-9], right[s > 1e-9]
        np.testing.assert_allclose(
            left.T @ found @ right.T, np.eye(len(right)), atol=1e-5
        )


@every_function
def test_zero_and_not_finite(function):
    good = jnp.asarray(designed(9, 7, spectra(7)["linear"]), jnp.float32)
    stack = jnp.stack([0 * good, good.at[1, 1].set(jnp.inf), good])
    got = of(function, stack, kernels=STACK)
    np.testing.assert_array_equal(got[:2], stack[:2])
    want = np.sqrt(7 / 9) if function is retract else 1
    np.testing.assert_allclose(values_of(got[2]), want, rtol=1e-4)
    gradient = jax.grad(lambda k: jnp.sum(of(function, k) * good))(stack[0])
    assert np.isfinite(gradient).all()


def test_dtypes_and_scales():
    kernel = complex_designed(14, 9, spectra(9)["ties"])
    got = of(orthogonalize, jnp.asarray(kernel, jnp.complex64))
    np.testing.assert_allclose(got, of_values(kernel, ones), atol=1e-5)
    real = designed(14, 9, spectra(9)["ties"])
    got = of(orthogonalize, jnp.asarray(real, jnp.bfloat16))
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(values_of(got), 1, atol=2e-2)
    for scale in (1e-30, 1e30):
        got = of(orthogonalize, jnp.asarray(scale * real, jnp.float32))
        np.testing.assert_allclose(got, of_values(real, ones), atol=1e-5)
    with enable_x64():
        got = of(orthogonalize, jnp.asarray(real))
        np.testing.assert_allclose(got, of_values(real, ones), atol=1e-13)


@pytest.mark.parametrize("name", ["attention", "conv_2d", "scan_stack", "boxed"])
def test_cases(name):
    case = BY_NAME[name]
    new = orthogonalize(case.make(), kernels=case.kernels)
    for path, matrices in case.matrices(new).items():
        want = of_values(case.matrices(case.make())[path], ones)
        np.testing.assert_allclose(matrices, want, atol=1e-3)
        np.testing.assert_allclose(values_of(matrices), 1, atol=1e-5)


@pytest.mark.parametrize("shape", [(20, 12), (12, 20)])
def test_muon_is_optax_muon(shape):
    kernel = jnp.asarray(designed(*shape, spectra(12)["linear"]), jnp.float32)
    got = of(orthogonalize, kernel, steps=muon_steps(5))
    found = optax.contrib.muon(1.0, beta=0.0, nesterov=False, eps=0.0, ns_steps=5)
    updates, _ = found.update({"w": kernel}, found.init({"w": kernel}), {"w": kernel})
    scale = -np.sqrt(max(1, shape[1] / shape[0]))  # optax' own, after its steps
    np.testing.assert_allclose(got, updates["w"] / scale, atol=2e-5)
    assert 0.6 < values_of(got).min() < values_of(got).max() < 1.25


def test_the_steps_are_the_published_ones():
    # Amsel et al., the first row of their table: made for .0241, their cushion, and
    # brought to an interval around one from the true least value, .001.
    published = np.array([8.28721201814563, -23.595886519098837, 17.300387312530933])
    step, _ = closest_to_one(0.02407327424182761)
    ends = [
        sum(c * x**n for c, n in zip(step, (1, 3, 5), strict=True)) for x in (1e-3, 1)
    ]
    np.testing.assert_allclose(2 / sum(ends) * np.array(step), published, rtol=1e-9)


def test_the_steps_are_best():
    """Equal errors of alternating signs at four points: no other is closer."""
    for least in (1e-3, 0.1, 0.5, 0.9):
        (a, b, c), error = closest_to_one(least)
        x = np.linspace(least, 1, 100_001)
        off = x * (a + b * x**2 + c * x**4) - 1
        assert np.abs(off).max() < error * (1 + 1e-6)
        at = np.flatnonzero(np.abs(off) > error * (1 - 1e-6))
        signs = np.sign(off[at])
        assert np.count_nonzero(np.diff(signs)) == 3


@pytest.mark.parametrize(
    ("steps", "least", "tolerance"),
    [
        (convergent("float32"), EPS, EPS),
        (convergent("float64"), 2.3e-16, 1e-15),
        (newton_schulz_steps(1e-3, 1e-4), 1e-3, 1e-4),
    ],
    ids=["float32", "float64", "own"],
)
def test_steps_reach_one_and_stay_below(steps, least, tolerance):
    x = np.r_[0, np.geomspace(least, 1, 20_000), 1 + 1e-4]
    for a, b, c in steps:
        x = x * (a + b * x**2 + c * x**4)
        assert x.max() < 1 + 2e-4
    np.testing.assert_allclose(x[1:], 1, atol=tolerance)
    assert x[0] == 0


@pytest.mark.parametrize(("order", "n_steps"), [(1, 4), (2, 3), (4, 2)])
def test_bjorck_is_its_series(order, n_steps):
    kernel = designed(12, 20, spectra(12)["linear"])
    given = jnp.asarray(kernel, jnp.float32)
    got = of(bjorck, given, order=order, n_iterations=n_steps)
    terms = [1, 1 / 2, 3 / 8, 5 / 16, 35 / 128][: order + 1]

    def steps(values):
        values = values / np.linalg.norm(kernel)
        for _ in range(n_steps):
            rest = 1 - values**2
            values = values * sum(t * rest**k for k, t in enumerate(terms))
        return values

    np.testing.assert_allclose(got, of_values(kernel, steps), atol=1e-5)
    if order == 2:
        step = (15 / 8, -10 / 8, 3 / 8)
        same = of(orthogonalize, given, steps=[step] * n_steps)
        np.testing.assert_allclose(got, same, atol=1e-5)


@pytest.mark.parametrize("shape", [(16, 4), (4, 16)])
def test_retraction_is_scaled_by_the_shape(shape):
    kernel = jnp.asarray(designed(*shape, np.array([4, 2, 2, 0.5])), jnp.float32)
    got = of(retract, kernel, bound=0.7)
    want = 0.7 * np.sqrt(shape[1] / shape[0]) * of_values(np.float64(kernel), ones)
    np.testing.assert_allclose(got, want, atol=1e-5)
    # From root mean square to root mean square, of the input that grows most.
    x = np.linalg.svd(np.float64(got))[0][:, 0]
    rms = lambda v: np.sqrt(np.mean(v**2))  # noqa: E731
    np.testing.assert_allclose(rms(x @ np.float64(got)) / rms(x), 0.7, rtol=1e-5)


@pytest.mark.parametrize("function", [orthogonalize, bjorck], ids=lambda f: f.__name__)
def test_derivative_at_ties(function):
    kernel = designed(12, 8, np.array([2, 2, 2, 1.5, 1, 1, 0.5, 0.5]))
    change = np.random.default_rng(4).standard_normal((12, 8))
    _, got = jax.jvp(
        lambda k: of(function, k), (jnp.float32(kernel),), (jnp.float32(change),)
    )
    want = derivative(ones, kernel, change)
    np.testing.assert_allclose(got, want, atol=2e-4 * np.abs(want).max())
    gradient = jax.grad(lambda k: jnp.sum(of(function, k) * change))
    got = gradient(jnp.float32(kernel))
    # The derivative is symmetric.
    np.testing.assert_allclose(got, want, atol=2e-4 * np.abs(want).max())


def test_jit_and_vmap():
    kernels = np.float32([designed(9, 7, spectra(7)[name]) for name in FULL])
    call = jax.jit(lambda k: of(orthogonalize, k))
    each = jnp.stack([call(kernel) for kernel in kernels])
    assert call._cache_size() == 1
    stacked = of(orthogonalize, jnp.asarray(kernels), kernels=STACK)
    np.testing.assert_allclose(jax.vmap(call)(kernels), each, atol=1e-5)
    np.testing.assert_allclose(stacked, each, atol=1e-5)


def test_errors():
    params = {
        "a": {"kernel": jnp.ones((3, 4))},
        "b": {"kernel": jnp.ones((3, 3, 2, 4))},
    }
    for error, function, options, text in (
        (ValueError, orthogonalize, {"steps": []}, "steps: got []; need rows of three"),
        (ValueError, orthogonalize, {"steps": [(1, 2)]}, "steps: got [(1, 2)]; need"),
        (ValueError, retract, {"steps": [(1, 2, np.nan)]}, "need rows of three finite"),
        (ValueError, retract, {"bound": -1}, "bound: got -1; need a number above 0"),
        (ValueError, bjorck, {"order": 0}, "order: got 0; need a static int of 1"),
        (TypeError, bjorck, {"order": 1.5}, "order: got 1.5; need a static int of 1"),
        (ValueError, bjorck, {"n_iterations": -1}, "n_iterations: got -1; need 0 or"),
        (TypeError, bjorck, {"kernels": {"b.*": sx.Conv((8, 8))}}, "b/kernel: got"),
    ):
        with pytest.raises(error) as caught:
            inspect.unwrap(function)(params, **options)
        assert text in str(caught.value)
    for options in ({"least": 0.0}, {"least": 2.0}, {"least": 0.1, "tolerance": 0.0}):
        with pytest.raises(ValueError, match="need a number between 0 and 1"):
            newton_schulz_steps(**options)
    with pytest.raises(ValueError, match="n_steps: got -1"):
        muon_steps(-1)
