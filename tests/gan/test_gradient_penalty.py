"""Gradient penalties against closed forms, differences in float64, and torch."""

import inspect

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import specjax as sx
from specjax import gan as sc
from specjax.gan import _gradient_penalty
from tests.cases import enable_x64


def quadratic(a):
    """Returns a critic whose gradient at x is a x."""
    return lambda x: jnp.einsum("ni,ij,nj->n", x, jnp.asarray(a), x) / 2


def symmetric(n):
    a = np.random.default_rng(0).standard_normal((n, n))
    return np.float32(a + a.T)


def test_closed_forms_of_a_quadratic_critic():
    a, x = symmetric(4), np.random.default_rng(1).standard_normal((6, 4))
    x = jnp.asarray(x, jnp.float32)
    slopes = np.linalg.norm(np.asarray(x) @ a, axis=1)
    critic = quadratic(a)
    found = jax.jit(lambda x: sc.gradient_norms(critic, x))(x)
    np.testing.assert_allclose(found, slopes, rtol=1e-5)
    for got, want in (
        (sc.gradient_penalty(critic, x), np.mean((slopes - 1) ** 2)),
        (sc.gradient_penalty(critic, x, target=3.0), np.mean((slopes - 3) ** 2)),
        (
            sc.gradient_penalty(critic, x, target=3.0, one_sided=True),
            np.mean(np.maximum(slopes - 3, 0) ** 2),
        ),
        (sc.r1(critic, x), np.mean(slopes**2) / 2),
        (sc.r2(critic, x), np.mean(slopes**2) / 2),
    ):
        np.testing.assert_allclose(got, want, rtol=1e-5)
    assert slopes.min() < 3 < slopes.max()  # both sides are seen


def test_gradients_are_sample_by_sample_over_all_axes():
    x = jax.random.normal(jax.random.key(0), (5, 4, 4, 2))

    def critic(x):  # one score in an axis of its own
        return jnp.sum(jnp.sin(x) * x, axis=(1, 2))[:, :1] ** 2

    def one(x):
        return jnp.linalg.norm(jax.grad(lambda x: critic(x[None])[0, 0])(x))

    np.testing.assert_allclose(
        sc.gradient_norms(critic, x), jax.vmap(one)(x), rtol=1e-5
    )


def test_between_is_on_the_line_of_each_pair():
    real, fake = jax.random.normal(jax.random.key(0), (2, 200, 3, 2))
    x = np.asarray(sc.interpolate(jax.random.key(1), real, fake))
    weights = (x - fake) / (real - fake)
    first = weights[:, :1, :1]
    np.testing.assert_allclose(weights, np.broadcast_to(first, x.shape), atol=1e-3)
    assert 0 <= first.min() < 0.05 < 0.95 < first.max() <= 1
    assert abs(first.mean() - 0.5) < 0.06
    key = jax.random.key(1)
    got = sc.wgan_gp(quadratic(np.eye(3)), real[..., 0], fake[..., 0], key)
    points = sc.interpolate(key, real[..., 0], fake[..., 0])
    want = np.mean((np.linalg.norm(points, axis=1) - 1) ** 2)
    np.testing.assert_allclose(got, want, rtol=1e-5)


PENALTIES = {
    "two-sided": sc.gradient_penalty,
    "one-sided": lambda critic, x: sc.gradient_penalty(critic, x, one_sided=True),
    "r1": sc.r1,
}
every_penalty = pytest.mark.parametrize("name", PENALTIES)


def in_numpy(name, first, last, x):
    """The penalty of ``4 tanh(x W1) w2``, both divided by their norms, by SVD."""
    first = first / np.linalg.svd(first)[1][0]
    last = last / np.linalg.norm(last)
    hidden = np.tanh(x @ first)
    gradient = 4 * ((1 - hidden**2) * last[:, 0]) @ first.T
    slope = np.linalg.norm(gradient, axis=1)
    assert slope.min() < 1 < slope.max()  # both sides are seen
    if name == "r1":
        return np.mean(slope**2) / 2
    excess = np.maximum(slope - 1, 0) if name == "one-sided" else slope - 1
    return np.mean(excess**2)


@every_penalty
def test_double_backward_under_spectral_normalization(name):
    rng = np.random.default_rng(0)
    first, last = rng.standard_normal((5, 7)), rng.standard_normal((7, 1))
    first[:, 0] *= 3
    x = rng.standard_normal((9, 5)) / 2
    with enable_x64():
        params = {"a": {"kernel": jnp.asarray(first)}, "b": {"kernel": last}}
        state = sx.sn_init(params)

        @jax.jit
        def penalty(params):
            used, _ = sx.sn_apply(params, state, n_steps=20)

            def critic(x):
                return 4 * jnp.tanh(x @ used["a"]["kernel"]) @ used["b"]["kernel"]

            return PENALTIES[name](critic, jnp.asarray(x))

        value, found = jax.value_and_grad(penalty)(params)
        np.testing.assert_allclose(value, in_numpy(name, first, last, x), rtol=1e-9)
        for direction in rng.standard_normal((3, first.size + last.size)):
            d_first = direction[: first.size].reshape(first.shape)
            d_last = direction[first.size :].reshape(last.shape)
            h = 1e-5
            ends = [
                in_numpy(name, first + s * h * d_first, last + s * h * d_last, x)
                for s in (1, -1)
            ]
            want = (ends[0] - ends[1]) / (2 * h)
            got = np.sum(found["a"]["kernel"] * d_first)
            got += np.sum(found["b"]["kernel"] * d_last)
            np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-11)


@every_penalty
def test_both_modes_of_derivative_agree_with_differences(name):
    with enable_x64():
        rng = np.random.default_rng(1)
        params = {
            "w": jnp.asarray(2 * rng.standard_normal((4, 6))),
            "v": jnp.asarray(2 * rng.standard_normal(6)),
        }
        x = jnp.asarray(rng.standard_normal((5, 4)))

        def penalty(params):
            return PENALTIES[name](lambda x: jnp.tanh(x @ params["w"]) @ params["v"], x)

        check_grads(jax.jit(penalty), (params,), 2, ("fwd", "rev"), rtol=1e-4)


def finite(tree):
    return all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


@every_penalty
def test_a_gradient_of_zero_has_finite_derivatives(name):
    # No slope at a zero kernel, and behind dead units; also at the top of a hill.
    x = jnp.array([[0.0, 0.0], [1.0, 2.0]])

    def penalty(params):
        def critic(x):
            return (
                nn.relu(x @ params["w"] - 9) @ params["v"] + (x**2).sum(1) * params["c"]
            )

        return PENALTIES[name](critic, x)

    params = {"w": jnp.zeros((2, 3)), "v": jnp.ones(3), "c": jnp.zeros(())}
    for c in (0.0, 2.0):
        params["c"] = jnp.float32(c)
        assert finite(jax.grad(penalty)(params))
        ones = jax.tree.map(jnp.ones_like, params)
        assert finite(jax.jvp(jax.grad(penalty), (params,), (ones,)))
    if name == "two-sided":
        # The norm of 2 c x at x = 0 is zero whatever c: only (1, 2) has a derivative.
        slope = 2 * np.sqrt(5)
        want = (2 * slope - 1) * slope
        np.testing.assert_allclose(jax.grad(penalty)(params)["c"], want, rtol=1e-5)


def test_what_is_not_finite_shows():
    x = jnp.array([[1.0, jnp.nan], [1.0, 2.0]])
    norms = sc.gradient_norms(quadratic(np.eye(2)), x)
    assert jnp.isnan(norms[0])
    np.testing.assert_allclose(norms[1], np.sqrt(5), rtol=1e-6)
    assert jnp.isnan(sc.gradient_penalty(quadratic(np.eye(2)), x))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_summed_in_float32(dtype):
    x = jnp.full((2, 1024), 30.0, dtype)  # the squares' sum is past float16
    norms = sc.gradient_norms(lambda x: jnp.sum(x * x / 2, axis=1), x)
    assert norms.dtype == jnp.float32
    np.testing.assert_allclose(norms, 960, rtol=1e-2)
    real = jnp.ones((3, 2), dtype)
    assert sc.interpolate(jax.random.key(0), real, real).dtype == dtype
    # The points are the same in each precision, rounded at the end.
    one, zero = jnp.ones((64, 1)), jnp.zeros((64, 1))
    want = sc.interpolate(jax.random.key(0), one, zero).astype(dtype)
    got = sc.interpolate(jax.random.key(0), one.astype(dtype), zero.astype(dtype))
    np.testing.assert_array_equal(got, want)


def test_vmap_over_critics_and_no_second_compilation():
    x = jax.random.normal(jax.random.key(0), (4, 3))
    w = jax.random.normal(jax.random.key(1), (5, 3))

    @jax.jit
    def penalty(w, x):
        return sc.gradient_penalty(lambda x: jnp.sin(x @ w), x)

    many = jax.vmap(penalty, (0, None))(w, x)
    np.testing.assert_allclose(many, [penalty(one, x) for one in w], rtol=1e-6)
    assert penalty._cache_size() == 1


def test_equal_to_torch_in_the_gradient_of_the_penalty():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    w, v, x = (np.float32(rng.standard_normal(s)) for s in ((4, 6), (6, 1), (5, 4)))
    tensors = [torch.tensor(leaf, requires_grad=True) for leaf in (w, v, x)]
    scores = torch.tanh(tensors[2] @ tensors[0]) @ tensors[1]
    (slope,) = torch.autograd.grad(scores.sum(), tensors[2], create_graph=True)
    loss = ((slope.norm(dim=1) - 1) ** 2).mean()
    loss.backward()

    def penalty(w, v):
        return sc.gradient_penalty(lambda x: jnp.tanh(x @ w) @ v, jnp.asarray(x))

    value, found = jax.value_and_grad(penalty, (0, 1))(jnp.asarray(w), jnp.asarray(v))
    np.testing.assert_allclose(value, loss.item(), rtol=1e-5)
    for got, tensor in zip(found, tensors, strict=False):
        np.testing.assert_allclose(got, tensor.grad.numpy(), rtol=1e-4, atol=1e-5)


def text_of(error, call):
    with pytest.raises(error) as caught:
        call()
    return str(caught.value)


def test_bad_input():
    x = jnp.ones((4, 3))
    for scores, got in (
        (jnp.ones((4, 3)), "float32[4,3]"),
        (jnp.ones(()), "float32[]"),
    ):
        text = text_of(ValueError, lambda s=scores: sc.r1(lambda x: s + 0 * x.sum(), x))
        need = "need one score for each sample of x, float32[4,3]"
        assert text.startswith(f"critic(x): got {got}; {need}. Try: critic=")
    # Without the tests' own check of shapes, which would be first.
    interpolate = inspect.unwrap(sc.interpolate)
    text = text_of(ValueError, lambda: interpolate(jax.random.key(0), x, x[:2]))
    assert text == (
        "fake: got shape (2, 3); need the shape of real, (4, 3). Try: as many samples "
        "of each."
    )
    ints = jnp.ones((4, 3), int)
    text = text_of(TypeError, lambda: inspect.unwrap(sc.r1)(quadratic(np.eye(3)), ints))
    assert text.startswith("x: got int32[4,3]; need an array of floats")


def test_samples_of_integers_are_all_in_one_message(monkeypatch):
    # Without the tests' own check of kinds, which would be first.
    interpolate, wgan_gp = inspect.unwrap(sc.interpolate), inspect.unwrap(sc.wgan_gp)
    monkeypatch.setattr(_gradient_penalty, "interpolate", interpolate)
    key, critic = jax.random.key(0), quadratic(np.eye(3))
    ints = jnp.ones((4, 3), int)
    lines = [
        f"{name}: got int32[4,3]; need an array of floats to differentiate in. Try: "
        f"{name}.astype(jnp.float32)."
        for name in ("real", "fake")
    ]
    for call in (
        lambda real, fake: interpolate(key, real, fake),
        lambda real, fake: wgan_gp(critic, real, fake, key),
    ):
        text = text_of(TypeError, lambda c=call: c(ints, ints))
        assert text.splitlines() == lines
        text = text_of(TypeError, lambda c=call: c(jnp.ones((4, 3)), ints))
        assert text.splitlines() == lines[1:]


def test_a_target_that_is_no_slope():
    penalty = inspect.unwrap(sc.gradient_penalty)
    x, critic = jnp.full((4, 3), 2.0), quadratic(np.eye(3))
    for bad in (-0.5, np.nan, np.inf, jnp.float32(-1)):
        text = text_of(ValueError, lambda t=bad: penalty(critic, x, target=t))
        assert text == (
            f"target: got {bad}; need a finite number of 0 or more. Try: target=1.0."
        )
    for bad in ("1", jnp.ones(4)):
        text = text_of(TypeError, lambda t=bad: penalty(critic, x, target=t))
        assert text == f"target: got {bad}; need one number. Try: target=1.0."
    # Zero is a slope, and a traced one is not looked at.
    np.testing.assert_allclose(penalty(critic, x, target=0), 12, rtol=1e-6)
    traced = jax.jit(lambda target: penalty(critic, x, target=target))
    want = (np.sqrt(12) + 1) ** 2
    np.testing.assert_allclose(traced(-1.0), want, rtol=1e-6)
