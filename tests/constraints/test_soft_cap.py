"""The soft cap against its polynomial in float64, and its guarantee where it holds."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import specjax as sx
from specjax.constraints import soft_cap_strength, spectral_soft_cap
from tests.cases import CASES, designed, norm
from tests.constraints.oracle import complex_designed, of_values, values_of

MATRIX = {".*": sx.Matrix()}
STACK = {".*": sx.Matrix(batch_axis=0)}
# (max_update, weight_decay, bound): inside the range, up to its very end.
INSIDE = (
    (0.05, 0.0, 1.0),
    (0.3, 0.0, 1.0),
    (19 / 62, 0.0, 1.0),
    (0.4, 0.1, 1.0),
    (0.9, 0.02, 3.0),
    (1e-3, 0.0, 0.1),
)


def capped(kernel, kernels=MATRIX, **options):
    return spectral_soft_cap({"w": kernel}, kernels=kernels, **options)["w"]


def polynomial(values, strength, bound=1.0):
    x = np.asarray(values) / bound
    for sign in (-1, 1):
        x = x + sign * strength * x**3
    return bound * x


@pytest.mark.parametrize(("max_update", "decay", "bound"), INSIDE)
def test_the_strength_is_the_papers_root(max_update, decay, bound):
    k = (1 - decay) + max_update / bound
    roots = np.roots([-(k**9), 3 * k**7, -3 * k**5, 0, k - 1])
    real = roots.real[(abs(roots.imag) < 1e-4) & (roots.real >= 0)]
    strength = soft_cap_strength(max_update, decay, bound)
    np.testing.assert_allclose(strength, real.min(), rtol=1e-6)


@pytest.mark.parametrize(("max_update", "decay", "bound"), INSIDE)
def test_inside_the_range_every_value_ends_on_the_bound_or_below(
    max_update, decay, bound
):
    strength = soft_cap_strength(max_update, decay, bound)
    values = np.linspace(0, (1 - decay) * bound + max_update, 100_001)
    after = polynomial(values, strength, bound)
    assert after.max() < bound * (1 + 1e-12)
    assert after[-1] > bound * (1 - 1e-12)
    assert np.all(np.diff(after) > -1e-12)


@pytest.mark.parametrize(("max_update", "decay"), [(19 / 62 + 1e-3, 0.0), (0.5, 0.1)])
def test_outside_of_it_the_papers_strength_lets_a_value_through(max_update, decay):
    k = (1 - decay) + max_update
    roots = np.roots([-(k**9), 3 * k**7, -3 * k**5, 0, k - 1])
    real = roots.real[(abs(roots.imag) < 1e-4) & (roots.real >= 0)]
    values = np.linspace(0, k, 100_001)
    assert polynomial(values, real.min()).max() > 1 + 1e-7
    with pytest.raises(
        ValueError, match=r"need max_update of at most \(19/62 \+ weigh"
    ):
        soft_cap_strength(max_update, decay)


def test_weight_decay_alone():
    assert soft_cap_strength(0.1, 0.1) == 0
    kernel = jnp.asarray(designed(9, 7, np.linspace(1, 0.1, 7)), jnp.float32)
    got = capped(kernel, max_update=0.1, weight_decay=0.2)
    np.testing.assert_allclose(got, kernel, atol=1e-7)


@pytest.mark.parametrize("shape", [(20, 12), (12, 20)])
def test_it_is_the_polynomial_of_the_singular_values(shape):
    spectrum = 2 * np.r_[1.3, 1.3, 1.29, np.linspace(1.1, 0, 9)]
    kernel = designed(*shape, spectrum)
    options = {"max_update": 0.6, "bound": 2.0}
    strength = soft_cap_strength(**options)
    want = of_values(kernel, lambda s: polynomial(s, strength, 2.0))
    got = capped(jnp.asarray(kernel, jnp.float32), **options)
    np.testing.assert_allclose(got, want, atol=5e-6)
    got = capped(jnp.asarray(kernel, jnp.bfloat16), **options)
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float64(got), want, atol=2e-2)
    kernel = complex_designed(*shape, spectrum)
    want = of_values(kernel, lambda s: polynomial(s, strength, 2.0))
    got = capped(jnp.asarray(kernel, jnp.complex64), **options)
    np.testing.assert_allclose(got, want, atol=5e-6)


@pytest.mark.parametrize("name", ["attention", "scan_stack", "conv_2d", "nnx_state"])
def test_cases(name):
    case = next(case for case in CASES if case.name == name)
    params = case.make()
    bound = float(1.01 * max(n.max() for n in case.norms(params).values()))
    options = {"max_update": 0.2 * bound, "bound": bound}
    new = spectral_soft_cap(params, kernels=case.kernels, **options)
    strength = soft_cap_strength(**options)
    for path, matrices in case.matrices(new).items():
        before = case.matrices(params)[path]
        want = of_values(before, lambda s: polynomial(s, strength, bound))
        np.testing.assert_allclose(matrices, want, atol=5e-6)


@pytest.mark.parametrize(("max_update", "decay", "bound"), INSIDE)
def test_the_guarantee_over_many_steps(max_update, decay, bound):
    """Updates of the largest norm, in the worst direction or in any."""
    rng, size = np.random.default_rng(6), (14, 10)
    kernel = jnp.asarray(designed(*size, bound * np.linspace(1, 0, 10)), jnp.float32)
    cap = jax.jit(
        lambda k: capped(k, max_update=max_update, weight_decay=decay, bound=bound)
    )
    for step in range(12):
        update = np.float64(kernel) if step % 3 == 0 else rng.standard_normal(size)
        update = max_update * update / norm(update)
        kernel = cap((1 - decay) * kernel + jnp.asarray(update, jnp.float32))
        assert norm(np.float64(kernel)) < bound * (1 + 1e-5)


@pytest.mark.parametrize(("max_update", "decay"), [(0.2, 0.0), (0.7, 0.5)])
def test_a_kernel_far_outside_is_divided_down(max_update, decay):
    good = designed(16, 12, np.linspace(1, 0.1, 12))
    kernels = jnp.asarray(
        np.stack([s * good for s in (1.0, 1.5, 100, 1e15)]), "float32"
    )
    got = capped(kernels, STACK, max_update=max_update, weight_decay=decay)
    strength = soft_cap_strength(max_update, decay)
    for matrix, scale in zip(np.float64(got), (1.0, 1.2, 1.2, 1.2), strict=True):
        want = of_values(scale * good, lambda s: polynomial(s, strength))
        np.testing.assert_allclose(matrix, want, atol=2e-2)
        assert norm(matrix) < 1.005


def test_zero_and_not_finite():
    good = jnp.asarray(designed(9, 7, np.linspace(1.1, 0.1, 7)), jnp.float32)
    stack = jnp.stack([0 * good, good.at[1, 1].set(jnp.nan), good])
    got = capped(stack, STACK, max_update=0.2)
    np.testing.assert_array_equal(got[:2], stack[:2])
    np.testing.assert_allclose(norm(np.float64(got[2])), 0.9614, atol=1e-2)
    gradient = jax.grad(lambda k: jnp.sum(capped(k, max_update=0.2) ** 2))(0 * good)
    assert np.isfinite(gradient).all()


def test_derivative_jit_and_vmap():
    kernels = np.stack(
        [designed(9, 6, np.array([1.2, 1.2, 1, s, s, 0])) for s in (0.5, 0)]
    )
    change = np.random.default_rng(8).standard_normal((9, 6))
    call = jax.jit(lambda k: capped(k, max_update=0.3))
    _, got = jax.jvp(call, (jnp.float32(kernels[0]),), (jnp.float32(change),))
    strength, step = soft_cap_strength(0.3), 1e-6
    ends = [
        of_values(kernels[0] + s * change, lambda v: polynomial(v, strength))
        for s in (step, -step)
    ]
    np.testing.assert_allclose(got, (ends[0] - ends[1]) / (2 * step), atol=2e-5)
    given = jnp.asarray(kernels, jnp.float32)
    each = jnp.stack([call(kernel) for kernel in given])
    np.testing.assert_allclose(jax.vmap(call)(given), each, atol=1e-6)
    np.testing.assert_allclose(capped(given, STACK, max_update=0.3), each, atol=1e-6)
    assert values_of(each).max() < 1.2


def test_errors():
    bare = inspect.unwrap(spectral_soft_cap)
    params = {"a": {"kernel": jnp.ones((3, 4))}}
    with pytest.raises(TypeError, match=r"max_update: got 1.0; need a static number"):
        inspect.unwrap(soft_cap_strength)(jnp.ones(()))
    for error, options, text in (
        (
            ValueError,
            {"max_update": 0.5},
            "spectral_soft_cap: got max_update=0.5 with weight_decay=0.0 and bound=1.0"
            "; need max_update of at most (19/62 + weight_decay) * bound = 0.3065, "
            "above which no strength keeps every singular value at the bound. Try: a "
            "learning rate 1.63 times smaller, or weight_decay above 0.194, or "
            "project_spectral_ball, which takes any update.",
        ),
        (ValueError, {"max_update": -1}, "max_update: got -1; need a static number"),
        (ValueError, {"max_update": np.inf}, "max_update: got inf; need a static"),
        (ValueError, {"max_update": 0.1, "weight_decay": 1.0}, "weight_decay: got 1.0"),
        (
            ValueError,
            {"max_update": 0.1, "bound": 0.0},
            "bound: got 0.0; need a number",
        ),
        (
            ValueError,
            {"max_update": 0.1, "kernels": {"x": None}},
            "params: got no kern",
        ),
    ):
        with pytest.raises(error) as caught:
            bare(params, **options)
        assert text in str(caught.value)
