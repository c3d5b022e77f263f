"""Losses against numpy in float64 and against torch; no score is too large."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from specjax.gan import hinge, non_saturating, wasserstein

PAIRS = {"non_saturating": non_saturating, "hinge": hinge, "wasserstein": wasserstein}
every_pair = pytest.mark.parametrize("name", PAIRS)


def in_numpy(name, real, fake):
    """Returns the critic's and the generator's loss."""
    if name == "non_saturating":
        critic = np.logaddexp(0, -real).mean() + np.logaddexp(0, fake).mean()
        return critic, np.logaddexp(0, -fake).mean()
    if name == "hinge":
        critic = np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + fake).mean()
        return critic, -fake.mean()
    return fake.mean() - real.mean(), -fake.mean()


@every_pair
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_values_and_slopes(name, scale):
    rng = np.random.default_rng(0)
    real, fake = np.float32(scale * rng.standard_normal((2, 9, 1)) + 0.3)
    fake = fake[:7]  # their numbers may differ
    real, fake = jnp.asarray(real), jnp.asarray(fake)
    loss, wide = PAIRS[name], (np.float64(real), np.float64(fake))
    critic, generator = in_numpy(name, *wide)
    np.testing.assert_allclose(loss.critic(real, fake), critic, rtol=1e-5)
    np.testing.assert_allclose(loss.generator(fake), generator, rtol=1e-5)
    slopes = jax.jit(jax.grad(loss.critic, (0, 1)))(real, fake)
    slopes += (jax.jit(jax.grad(loss.generator))(fake),)
    h = 1e-5 * scale
    for got, place, which in ((slopes[0], 0, 0), (slopes[1], 1, 0), (slopes[2], 1, 1)):
        for i in range(len(got)):
            moved = []
            for sign in (1, -1):
                scores = [wide[0].copy(), wide[1].copy()]
                scores[place][i] += sign * h
                moved.append(in_numpy(name, *scores)[which])
            want = (moved[0] - moved[1]) / (2 * h)
            np.testing.assert_allclose(got[i, 0], want, rtol=1e-3, atol=1e-5)


def test_equal_to_torch():
    torch = pytest.importorskip("torch")
    real, fake = np.float32(np.random.default_rng(0).standard_normal((2, 8)) * 30)
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    t_real, t_fake = torch.tensor(real), torch.tensor(fake)
    ones, zeros = torch.ones(8), torch.zeros(8)
    want = bce(t_real, ones) + bce(t_fake, zeros)
    real, fake = jnp.asarray(real), jnp.asarray(fake)
    np.testing.assert_allclose(non_saturating.critic(real, fake), want, rtol=1e-6)
    np.testing.assert_allclose(
        non_saturating.generator(fake), bce(t_fake, ones), rtol=1e-6
    )


@every_pair
def test_half_precision_scores_are_summed_in_float32(name):
    scores = jnp.full((4096,), -100.0, jnp.float16)  # their sum is past float16
    loss = PAIRS[name]
    for value, want in zip(
        (loss.critic(scores, -scores), loss.generator(scores)),
        in_numpy(name, np.full(2, -100.0), np.full(2, 100.0))[:1]
        + in_numpy(name, np.zeros(1), np.full(2, -100.0))[1:],
        strict=True,
    ):
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(value, want, rtol=1e-6)


@every_pair
def test_nan_shows_and_kinds_are_checked(name):
    loss, bad = PAIRS[name], jnp.array([1.0, jnp.nan])
    assert jnp.isnan(loss.generator(bad))
    assert jnp.isnan(loss.critic(bad, bad[:1]))
    for place, call in (("real", loss.critic), ("fake", loss.generator)):
        given = (jnp.arange(3),) * (2 if place == "real" else 1)
        with pytest.raises(TypeError) as caught:
            inspect.unwrap(call)(*given)
        assert "got int32[3]; need an array of scores, as floats" in str(caught.value)
