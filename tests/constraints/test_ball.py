"""The projection on the spectral ball against the float64 SVD."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import specjax as sx
from specjax.constraints import project_spectral_ball
from specjax.constraints._excess import SMALL, excess
from tests.cases import SAMPLED, designed, enable_x64, norm
from tests.constraints.oracle import (
    EPS,
    complex_designed,
    derivative,
    of_values,
    spectra,
    values_of,
)

both = pytest.mark.parametrize("method", ["svd", "polar"])
SHAPES = ((40, 24), (24, 40), (33, 33))


def clipped(values, bound=1.0):
    return np.minimum(values, bound)


def projected(kernel, linear_map=sx.Matrix(), **options):
    options = {"kernels": {".*": linear_map}} | options
    return project_spectral_ball({"w": kernel}, **options)["w"]


@both
@pytest.mark.parametrize("shape", SHAPES)
def test_designed_spectra(shape, method):
    kernels = [designed(*shape, s) for s in spectra(min(shape)).values()]
    found = projected(
        jnp.asarray(np.stack(kernels), jnp.float32),
        sx.Matrix(batch_axis=0),
        method=method,
    )
    for kernel, got in zip(kernels, np.float64(found), strict=True):
        rounded = np.float64(np.float32(kernel))
        off = norm(got - of_values(rounded, clipped)) / norm(kernel)
        assert off < 25 * EPS
        assert norm(got) < 1 + 25 * EPS * norm(kernel)


@pytest.mark.parametrize("case", SAMPLED)
def test_every_case(case):
    params = case.make()
    bound = float(np.median(np.concatenate([*map(np.ravel, _values(case, params))])))
    new = project_spectral_ball(params, kernels=case.kernels, bound=bound)
    before, after = case.matrices(params), case.matrices(new)
    for path, matrices in before.items():
        want = of_values(matrices, functools.partial(clipped, bound=bound))
        np.testing.assert_allclose(after[path], want, atol=30 * EPS * norm(want).max())
        assert np.abs(want - matrices).max() > 1e-3
    changed = [
        bool(np.any(np.asarray(a) != np.asarray(b)))
        for a, b in zip(*map(jax.tree.leaves, (params, new)), strict=True)
    ]
    assert sum(changed) == len(case.views)
    assert jax.tree.structure(new) == jax.tree.structure(params)


def test_axes_in_an_order_that_is_not_its_own_inverse():
    names = ("linear", "ties", "rank one")
    stack = np.float32([designed(6, 4, spectra(4)[name]) for name in names])
    want = projected(jnp.asarray(stack), sx.Matrix(batch_axis=0), bound=0.5)
    moved = jnp.asarray(stack.transpose(1, 2, 0))
    got = projected(moved, sx.Matrix(in_axis=0, out_axis=1, batch_axis=2), bound=0.5)
    np.testing.assert_allclose(got.transpose(2, 0, 1), want, atol=1e-6)
    kernel = np.float32(designed(12, 5, np.linspace(2, 0.5, 5))).reshape(3, 4, 5)
    want = projected(jnp.asarray(kernel))
    moved = sx.Matrix(in_axis=(1, 2), out_axis=0)
    got = projected(jnp.asarray(kernel.transpose(2, 0, 1)), moved)
    np.testing.assert_allclose(got.transpose(1, 2, 0), want, atol=1e-6)


def _values(case, params):
    return [values_of(m) for m in case.matrices(params).values()]


@both
def test_dtypes(method):
    spectrum = spectra(12)["ties"]
    for dtype, tol in ((jnp.bfloat16, 2e-2), (jnp.float16, 3e-3)):
        kernel = jnp.asarray(designed(16, 12, spectrum), dtype)
        got = projected(kernel, method=method)
        assert got.dtype == dtype
        want = of_values(np.float64(kernel), clipped)
        np.testing.assert_allclose(np.float64(got), want, atol=tol)
    kernel = complex_designed(16, 12, spectrum)
    got = projected(jnp.asarray(kernel, jnp.complex64), method=method)
    np.testing.assert_allclose(got, of_values(kernel, clipped), atol=50 * EPS)
    with enable_x64():
        kernel = designed(16, 12, spectrum)
        got = projected(jnp.asarray(kernel), method=method)
        np.testing.assert_allclose(got, of_values(kernel, clipped), atol=1e-13)


@both
@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
def test_scales(scale, method):
    kernel = designed(16, 12, spectra(12)["linear"])
    given = jnp.asarray(scale * kernel, jnp.float32)
    got = projected(given, bound=scale, method=method)
    want = of_values(kernel, clipped)
    np.testing.assert_allclose(np.float64(got) / scale, want, atol=60 * EPS)
    # A bound far above or below the norm.
    same = projected(given, bound=1e6 * scale, method=method)
    np.testing.assert_allclose(np.float64(same) / scale, kernel, atol=60 * EPS)


@both
def test_it_is_the_projection_on_a_convex_set(method):
    """Once is enough, and no two kernels end farther apart than they were."""
    rng = np.random.default_rng(7)
    pairs = jnp.asarray(rng.standard_normal((2, 10, 12, 8)) / 2, jnp.float32)
    project = functools.partial(
        projected, linear_map=sx.Matrix(batch_axis=0), method=method
    )
    first, second = map(project, pairs)
    np.testing.assert_allclose(project(first), first, atol=2e-6)
    distance = lambda a, b: np.linalg.norm(np.float64(a - b), axis=(1, 2))  # noqa: E731
    before, after = distance(*pairs), distance(first, second)
    assert np.all(after < before * (1 + 1e-6))
    assert np.any(after < 0.9 * before)
    # The law of a projection: what is taken off points away from the whole set.
    off = np.sum(np.float64(pairs[0] - first) * np.float64(second - first), axis=(1, 2))
    assert np.all(off < 1e-5)


def test_inside_the_ball_nothing_changes():
    kernel = jnp.asarray(designed(16, 12, np.linspace(0.999, 0.1, 12)), jnp.float32)
    np.testing.assert_array_equal(projected(kernel, method="svd"), kernel)
    np.testing.assert_allclose(projected(kernel, method="polar"), kernel, atol=3e-6)


@both
def test_zero_and_not_finite(method):
    good = jnp.asarray(designed(16, 12, spectra(12)["linear"]), jnp.float32)
    bad = good.at[3, 4].set(jnp.nan).at[2, 2].set(jnp.inf)
    stack = jnp.stack([jnp.zeros_like(good), bad, good])
    got = projected(stack, sx.Matrix(batch_axis=0), method=method)
    np.testing.assert_array_equal(got[:2], stack[:2])
    np.testing.assert_allclose(norm(np.float64(got[2])), 1, rtol=1e-5)

    def loss(stack):
        new = projected(stack, sx.Matrix(batch_axis=0), method=method)
        return jnp.sum(jnp.where(jnp.isfinite(new), new, 0) * good)

    # What comes back as it is has the identity's derivative.
    gradient = jax.grad(loss)(stack)
    np.testing.assert_allclose(gradient[0], good, atol=1e-6)
    np.testing.assert_array_equal(gradient[1], jnp.where(jnp.isfinite(bad), good, 0))


@both
@pytest.mark.parametrize("shape", [(12, 8), (8, 12)])
def test_derivatives_at_ties_and_without_full_rank(shape, method):
    rng = np.random.default_rng(2)
    change, weights = rng.standard_normal((2, *shape))
    smooth = jax.jit(lambda k, b: excess(k, b, method))
    tangent = jax.jit(lambda k, d, b, db: jax.jvp(smooth, (k, b), (d, db))[1])
    gradient = jax.jit(jax.grad(lambda k, b: jnp.sum(smooth(k, b) * weights)))
    one, zero = jnp.float32(1), jnp.float32(0)
    for spectrum in (
        np.linspace(3, 0.11, 8),
        np.array([2, 2, 2, 0.9, 0.5, 0.5, 0.5, 0.1]),
        np.array([3, 1.5, 1.5, 0.5, 0.5, 0, 0, 0]),
    ):
        kernel = designed(*shape, spectrum)
        above = lambda s: np.maximum(s - 1, 0)  # noqa: E731
        want = derivative(above, kernel, change)
        given = jnp.asarray(kernel, jnp.float32)
        got = tangent(given, jnp.float32(change), one, zero)
        np.testing.assert_allclose(got, want, atol=2e-5)
        got = gradient(given, one)
        np.testing.assert_allclose(
            np.sum(got * change), np.sum(want * weights), rtol=1e-4, atol=1e-4
        )
        of_bound = tangent(given, 0 * given, one, one)
        want = of_values(kernel, lambda s: -(s > 1).astype(float))
        np.testing.assert_allclose(of_bound, want, atol=2e-5)


def test_complex_derivative():
    kernel = complex_designed(9, 6, np.array([2, 2, 1.4, 0.7, 0.3, 0]))
    rng = np.random.default_rng(3)
    change = rng.standard_normal((9, 6)) + 1j * rng.standard_normal((9, 6))
    _, got = jax.jvp(
        lambda k: excess(k, jnp.float32(1), "svd"),
        (jnp.asarray(kernel, jnp.complex64),),
        (jnp.asarray(change, jnp.complex64),),
    )
    want = derivative(lambda s: np.maximum(s - 1, 0), kernel, change)
    np.testing.assert_allclose(got, want, atol=2e-5)


def test_a_traced_bound_compiles_once_and_vmap_is_a_stack():
    kernels = jnp.asarray(
        np.stack([designed(9, 7, s) for s in spectra(7).values()]), jnp.float32
    )
    call = jax.jit(lambda k, b: projected(k, bound=b))
    for bound in (0.5, 2.0):
        got = call(kernels[0], bound)
        want = of_values(np.float64(kernels[0]), lambda s, b=bound: clipped(s, b))
        np.testing.assert_allclose(got, want, atol=1e-5)
    assert call._cache_size() == 1
    stacked = projected(kernels, sx.Matrix(batch_axis=0))
    np.testing.assert_allclose(jax.vmap(projected)(kernels), stacked, atol=1e-6)


@pytest.mark.parametrize(("size", "found"), [(SMALL, True), (SMALL + 1, False)])
def test_an_accelerator_multiplies_what_is_not_small(size, found):
    kernel = jax.ShapeDtypeStruct((2 * size, size), jnp.float32)
    traced = jax.jit(projected).trace(kernel)
    programs = {
        platform: traced.lower(lowering_platforms=(platform,)).as_text()
        for platform in ("cpu", "cuda")
    }
    assert "sgesdd" in programs["cpu"]
    assert ("gesvd" in programs["cuda"].replace("syevd", "gesvd")) == found


def test_errors():
    bare = inspect.unwrap(project_spectral_ball)
    params = {
        "a": {"kernel": jnp.ones((3, 4))},
        "b": {"kernel": jnp.ones((3, 3, 2, 4))},
    }
    for error, text, options in (
        (ValueError, "bound: got 0; need a number above 0", {"bound": 0}),
        (ValueError, "method: got 'qr'; need 'svd', 'polar' or None", {"method": "qr"}),
        (TypeError, "b/kernel: got Conv", {"kernels": {"b.*": sx.Conv((8, 8))}}),
        (ValueError, "params: got no kernel", {"kernels": {"x": sx.Matrix()}}),
    ):
        with pytest.raises(error) as caught:
            bare(params, **options)
        assert text in str(caught.value)
