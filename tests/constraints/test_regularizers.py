"""Orthogonal and spectral norm regularization against numpy and float64 SVDs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import specjax as sx
from specjax.constraints import orthogonal_penalty, spectral_penalty
from tests.cases import CASES, SAMPLED, Own, designed, enable_x64

every_case = pytest.mark.parametrize("case", SAMPLED)
FORMS = ("off_diagonal", "squared", "absolute")


def in_numpy(matrices, form):
    """Returns the penalty of one matrix or of a stack of them."""
    gram = np.conj(np.swapaxes(matrices, -2, -1)) @ matrices
    eye = np.eye(gram.shape[-1])
    match form:
        case "off_diagonal":
            return np.sum(np.abs(gram * (1 - eye)) ** 2)
        case "squared":
            return np.sum(np.abs(gram - eye) ** 2)
        case "absolute":
            return np.sum(np.abs(gram - eye))


@every_case
def test_orthogonal_penalty_is_that_of_the_matrices(case):
    params = case.make()

    @jax.jit
    def penalties(params):
        call = functools.partial(orthogonal_penalty, params, kernels=case.kernels)
        return [call(form=form) for form in FORMS]

    for form, got in zip(FORMS, penalties(params), strict=True):
        want = sum(in_numpy(m, form) for m in case.matrices(params).values())
        np.testing.assert_allclose(got, want, rtol=2e-6)


def test_orthogonal_penalty_is_zero_where_it_should_be():
    w = jnp.asarray(designed(12, 5, np.ones(5)), jnp.float32)
    for form in FORMS:
        assert orthogonal_penalty({"kernel": w}, form=form) < 1e-4
    lengths = w * jnp.arange(1.0, 6.0)
    assert orthogonal_penalty({"kernel": lengths}) < 1e-4
    assert orthogonal_penalty({"kernel": lengths}, form="squared") > 100
    # More outputs than inputs: the floor that the docstring tells.
    wide = jnp.asarray(designed(5, 12, np.ones(5)), jnp.float32)
    got = orthogonal_penalty({"kernel": wide}, form="squared")
    np.testing.assert_allclose(got, 7, rtol=1e-5)


def test_orthogonal_gradient_is_that_of_biggan():
    # As BigGAN's own code adds it to the gradient, without forming the penalty.
    with enable_x64():
        w = np.random.default_rng(0).standard_normal((3, 3, 4, 6))
        rows = w.reshape(-1, 6)
        want = 4 * rows @ (rows.T @ rows * (1 - np.eye(6)))
        got = jax.grad(orthogonal_penalty)({"kernel": jnp.asarray(w)})["kernel"]
        np.testing.assert_allclose(got.reshape(-1, 6), want, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["bfloat16", "complex64", "float64"])
def test_orthogonal_dtypes(dtype):
    with enable_x64():
        values = np.random.default_rng(0).standard_normal((7, 4))
        w = jnp.asarray(values + (1j * values[::-1] if dtype == "complex64" else 0))
        w = w.astype(dtype)
        for form in FORMS:
            got = orthogonal_penalty({"kernel": w}, form=form)
            assert got.dtype == ("float64" if dtype == "float64" else "float32")
            want = in_numpy(np.asarray(w, np.complex128), form)
            np.testing.assert_allclose(got, want, rtol=1e-5)


def test_orthogonal_values_and_vmap():
    for value, finite in ((0.0, True), (jnp.nan, False), (jnp.inf, False)):
        w = {"kernel": jnp.full((3, 2), value)}
        for form in FORMS:
            found = jax.value_and_grad(functools.partial(orthogonal_penalty, form=form))
            assert jnp.isfinite(found(w)[0]) == finite
            assert jnp.isfinite(found(w)[1]["kernel"]).all() == finite
    stack = jax.random.normal(jax.random.key(0), (3, 5, 4))
    many = jax.vmap(orthogonal_penalty)({"kernel": stack})
    np.testing.assert_allclose(many, [in_numpy(w, FORMS[0]) for w in stack], rtol=1e-5)


def text_of(error, call):
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


def test_bad_input():
    params = {"Dense_0": {"kernel": jnp.ones((2, 3))}}
    text = text_of(ValueError, lambda: orthogonal_penalty(params, form="l1"))
    assert text == (
        "form: got 'l1'; need 'off_diagonal' or 'squared' or 'absolute'. Try: "
        "form='off_diagonal'."
    )
    own = {"Dense_[01].*": Own(), ".*": sx.Matrix()}
    three = {f"Dense_{i}": params["Dense_0"] for i in range(3)}
    text = text_of(TypeError, lambda: orthogonal_penalty(three, kernels=own))
    assert text.splitlines() == [
        f"Dense_{i}/kernel: got {own['Dense_[01].*']!r}; need a Matrix or a Conv, "
        "which name the axes of the output units. Try: specjax.Matrix(out_axis=...)."
        for i in range(2)
    ]
    for function in (orthogonal_penalty, lambda p: spectral_penalty(p, {})):
        text = text_of(ValueError, lambda f=function: f({"a": jnp.ones(3)}))
        assert "no kernel among 1 leaves" in text
    text = text_of(ValueError, lambda: spectral_penalty(params, {}))
    assert "state Dense_0/kernel/u: got nothing; need float32[3]" in text
    state = sx.sn_init(params)
    text = text_of(ValueError, lambda: spectral_penalty(params, state, n_steps=-1))
    assert text.startswith("n_steps: got -1")


@pytest.mark.parametrize("name", ["conv_2d", "attention", "vmap_stack", "boxed"])
def test_spectral_penalty_is_half_the_squares_of_the_norms(name):
    case = next(case for case in CASES if case.name == name)
    params = case.make()

    @jax.jit
    def compute(params):
        state = sx.sn_init(params, kernels=case.kernels)
        return spectral_penalty(params, state, kernels=case.kernels)

    got, _ = compute(params)
    want = sum(np.sum(norms**2) for norms in case.norms(params).values()) / 2
    np.testing.assert_allclose(got, want, rtol=2e-3)


def test_spectral_gradient_is_the_leading_part():
    with enable_x64():
        w = designed(9, 6, np.array([3, 2.5, 2, 1, 0.5, 0.1]))
        left, values, right = np.linalg.svd(w)
        want = values[0] * np.outer(left[:, 0], right[0])
        params = {"kernel": jnp.asarray(w)}
        state = sx.sn_init(params)

        def penalty(params):
            return spectral_penalty(params, state, n_steps=3)[0]

        got = jax.jit(jax.grad(penalty))(params)["kernel"]
        np.testing.assert_allclose(got, want, atol=1e-7)


def test_u_is_carried_and_follows_the_weights():
    step = jax.jit(spectral_penalty)
    key = jax.random.key(0)
    params = {"kernel": jax.random.normal(key, (40, 30))}
    state = sx.sn_init(params)
    for i in range(60):
        noise = jax.random.normal(jax.random.fold_in(key, i), (40, 30))
        params = {"kernel": params["kernel"] + 0.01 * noise}
        penalty, state = step(params, state)
        true = np.linalg.svd(np.float64(params["kernel"]))[1][0]
        np.testing.assert_allclose(penalty, true**2 / 2, rtol=4e-3)
    np.testing.assert_allclose(state["kernel"]["sigma"], true, rtol=2e-3)
    assert step._cache_size() == 1
    penalty, same = spectral_penalty(params, state, update_stats=False)
    jax.tree.map(np.testing.assert_array_equal, same, state)
    np.testing.assert_allclose(penalty, true**2 / 2, rtol=4e-3)
    # Of other params, u stays what it is.
    other = {"kernel": params["kernel"][::-1, ::-1]}
    penalty, _ = spectral_penalty(other, state, update_stats=False, n_steps=50)
    held = np.linalg.norm(other["kernel"] @ state["kernel"]["u"])
    assert held < 0.9 * true
    np.testing.assert_allclose(penalty, held**2 / 2, rtol=1e-4)


def test_training_with_it_lowers_the_norm_and_leaves_the_rest():
    w = designed(9, 6, np.array([4, 2, 1.5, 1, 0.5, 0.1]))
    params = {"kernel": jnp.asarray(w, jnp.float32)}
    state = sx.sn_init(params)

    @jax.jit
    def step(params, state):
        gradient, state = jax.grad(spectral_penalty, has_aux=True)(params, state)
        return jax.tree.map(lambda p, g: p - 0.05 * g, params, gradient), state

    for _ in range(10):
        params, state = step(params, state)
    values = np.linalg.svd(params["kernel"])[1]
    want = [4 * 0.95**10, 2, 1.5, 1, 0.5, 0.1]
    np.testing.assert_allclose(values, want, rtol=1e-4)


@pytest.mark.parametrize("value", [0.0, jnp.nan, jnp.inf])
def test_spectral_penalty_of_zero_and_what_is_not_finite(value):
    good = {"kernel": jax.random.normal(jax.random.key(0), (5, 4))}
    state = sx.sn_init(good)
    bad = {"kernel": jnp.full((5, 4), value)}
    (penalty, after), gradient = jax.value_and_grad(spectral_penalty, has_aux=True)(
        bad, state
    )
    if value == 0:
        assert penalty == 0
        np.testing.assert_array_equal(gradient["kernel"], 0)
    else:
        assert jnp.isnan(penalty)
        kept = after["kernel"]["sigma"], state["kernel"]["sigma"]
        np.testing.assert_array_equal(*kept)
    np.testing.assert_array_equal(after["kernel"]["u"], state["kernel"]["u"])
    again, _ = spectral_penalty(good, after)
    true = np.linalg.svd(good["kernel"])[1][0]
    np.testing.assert_allclose(again, true**2 / 2, rtol=1e-4)
