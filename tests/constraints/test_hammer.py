"""The hammer against the float64 SVD."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import specjax as sx
from specjax.constraints import spectral_hammer
from tests.cases import SAMPLED, designed
from tests.constraints.oracle import complex_designed, of_values, values_of

STACK = {".*": sx.Matrix(batch_axis=0)}
SPECTRUM = np.array([3, 2.6, 2.5, 0.9, 0.5, 0.1])


def hammered(kernel, kernels=None, **options):
    kernels = {".*": sx.Matrix()} if kernels is None else kernels
    return spectral_hammer({"w": kernel}, kernels=kernels, **options)["w"]


def first_at(bound):
    return lambda s: np.concatenate([np.full_like(s[..., :1], bound), s[..., 1:]], -1)


@pytest.mark.parametrize("case", SAMPLED)
def test_every_case(case):
    params = case.make()
    new = spectral_hammer(params, kernels=case.kernels, bound=0.3)
    before = case.matrices(params)
    for path, matrices in case.matrices(new).items():
        want = of_values(before[path], first_at(0.3))
        np.testing.assert_allclose(matrices, want, atol=2e-3)
        values = np.sort(values_of(want))
        np.testing.assert_allclose(np.sort(values_of(matrices)), values, atol=1e-5)
    assert jax.tree.structure(new) == jax.tree.structure(params)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_stacks_keep_their_axis(axis):
    kernels = np.stack([designed(9, 6, s * SPECTRUM) for s in (1, 0.1, 20)])
    given = jnp.moveaxis(jnp.asarray(kernels, jnp.float32), 0, axis)
    out_axis = 1 if axis == 2 else 2
    linear_map = sx.Matrix(out_axis=out_axis, batch_axis=axis)
    got = hammered(given, {".*": linear_map}, bound=2.0)
    want = np.moveaxis(of_values(kernels, first_at(2.0)), 0, axis)
    np.testing.assert_allclose(got, want, atol=2e-4)


def test_cap_only_shrinks():
    kernels = np.stack([designed(9, 6, s * SPECTRUM) for s in (1, 0.1)])
    given = jnp.asarray(kernels, jnp.float32)
    got = hammered(given, STACK, bound=2.0, cap=True)
    want = of_values(kernels[0], first_at(2.0))
    np.testing.assert_allclose(got[0], want, atol=2e-5)
    np.testing.assert_array_equal(got[1], given[1])


def test_dtypes_scales_and_bad_values():
    kernel = designed(9, 6, SPECTRUM)
    got = hammered(jnp.asarray(kernel, jnp.bfloat16))
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(values_of(got)[0], 2.6, rtol=1e-2)
    kernel = complex_designed(9, 6, SPECTRUM)
    got = hammered(jnp.asarray(kernel, jnp.complex64))
    np.testing.assert_allclose(got, of_values(kernel, first_at(1)), atol=2e-5)
    kernel = designed(9, 6, SPECTRUM)
    for scale in (1e-12, 1e12):
        got = hammered(jnp.asarray(scale * kernel, jnp.float32), bound=scale)
        want = of_values(kernel, first_at(1))
        np.testing.assert_allclose(np.float64(got) / scale, want, atol=2e-5)
    good = jnp.asarray(kernel, jnp.float32)
    stack = jnp.stack([0 * good, good.at[0, 0].set(jnp.nan), good])
    got = hammered(stack, STACK)
    np.testing.assert_array_equal(got[:2], stack[:2])
    np.testing.assert_allclose(got[2], of_values(kernel, first_at(1)), atol=2e-5)
    gradient = jax.grad(lambda k: jnp.sum(hammered(k) ** 2))(stack[0])
    assert np.isfinite(gradient).all()


def test_derivative_holds_u_and_v():
    kernel = designed(9, 6, SPECTRUM)
    weights = np.random.default_rng(1).standard_normal((9, 6))
    left, _, right = np.linalg.svd(kernel, full_matrices=False)
    leading = np.outer(left[:, 0], right[0])
    want = weights - np.sum(weights * leading) * leading
    got = jax.grad(lambda k: jnp.sum(hammered(k) * weights))(jnp.float32(kernel))
    np.testing.assert_allclose(got, want, atol=2e-5)


def test_jit_and_vmap():
    kernels = jnp.asarray(
        np.stack([designed(9, 6, s * SPECTRUM) for s in (1, 2)]), jnp.float32
    )
    call = jax.jit(lambda k, b: hammered(k, bound=b))
    each = jnp.stack([call(kernel, 0.5) for kernel in kernels])
    call(kernels[0], 2.0)
    assert call._cache_size() == 1
    np.testing.assert_allclose(
        jax.vmap(lambda k: call(k, 0.5))(kernels), each, atol=1e-5
    )


def test_errors():
    bare = inspect.unwrap(spectral_hammer)
    params = {
        "a": {"kernel": jnp.ones((3, 4))},
        "b": {"kernel": jnp.ones((3, 3, 2, 4))},
    }
    for error, options, text in (
        (ValueError, {"bound": 0}, "bound: got 0; need a number above 0"),
        (ValueError, {"krylov_dim": -1}, "krylov_dim: got -1; need 0 or more"),
        (TypeError, {"cap": 1}, "cap: got 1; need a static bool"),
        (TypeError, {"kernels": {"b.*": sx.Conv((8, 8))}}, "b/kernel: got Conv"),
    ):
        with pytest.raises(error) as caught:
            bare(params, **options)
        assert text in str(caught.value)
