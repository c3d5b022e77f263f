"""The GAN example with each constraint: one step against what it is by definition."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import specjax as sx
from examples.gan.__main__ import main
from examples.gan.constraint import NAMES, parse
from examples.gan.errors import UserError
from examples.gan.games import SETTINGS
from examples.gan.mesh import first_state, make_mesh
from examples.gan.optimizers import optimizer
from examples.gan.parametrizations import PARAMETRIZATIONS
from examples.gan.report import kernel_rows
from examples.gan.train import make_train_step
from tests.examples.gan_by_hand import (
    between,
    config_of,
    divided,
    images_of,
    kernels_of,
    one_step,
    score,
    slopes,
    values,
)
from tests.exhaustive import exhaustive, sampled


def off(kernel: Any) -> np.ndarray:
    gram = kernel.T @ kernel
    return gram - np.diag(np.diag(gram))


def of_kernels(function: Any) -> Any:
    return lambda params, real, fake: sum(
        function(kernel.astype(np.float64)) for kernel in kernels_of(params).values()
    )


PENALTIES = {
    "gp": lambda p, x, y: 10 * np.mean((slopes(p, between(x, y)) - 1) ** 2),
    "gp-one-sided": lambda p, x, y: (
        10 * np.mean(np.maximum(slopes(p, between(x, y)) - 1, 0) ** 2)
    ),
    "r1": lambda p, x, y: 5 * np.mean(slopes(p, x) ** 2),
    "r2": lambda p, x, y: 5 * np.mean(slopes(p, y) ** 2),
    "orthogonal": of_kernels(
        lambda w: 1e-4 * np.sum((w.T @ w - np.eye(w.shape[1])) ** 2)
    ),
    "off-diagonal": of_kernels(lambda w: 1e-4 * np.sum(off(w) ** 2)),
    "spectral-penalty": of_kernels(lambda w: 0.005 * values(w)[0] ** 2),
}
USED = {
    "sn": lambda w: values(w)[0],
    "sngp": lambda w: max(1.0, values(w)[0]),
}
# Each penalty, parametrization and normalization is in one of them.
SR = "sr+gp-one-sided+r2+off-diagonal+spectral-penalty"
STEPS = (
    "none",
    "gp+r1+orthogonal",
    SR,
    "sn+gp",
    "sngp+mean-only",
    "wn+layer-norm",
)


@exhaustive
@pytest.mark.parametrize("constraint", STEPS)
def test_the_first_loss_by_hand(constraint: str):
    config, parts = config_of(constraint), parse(constraint)
    before, _, metrics = one_step(constraint)
    real, fake = images_of(config, before)
    # What splits a kernel in two leaves the function as it was.
    raw = before.discriminator.get("v", before.discriminator)
    by = USED.get(parts.parametrization)
    used = divided(raw, by) if by else raw
    scores = (score(used, x, parts.normalization) for x in (real, fake))
    want = float(-jnp.mean(next(scores)) + jnp.mean(next(scores)))
    penalties = [float(PENALTIES[name](raw, real, fake)) for name in parts.penalties]
    if by and parts.penalties == ("gp",):
        penalties = [float(PENALTIES["gp"](used, real, fake))]
    assert all(penalty > 1e-3 for penalty in penalties)
    assert metrics["d_loss"] == pytest.approx(want + sum(penalties), rel=2e-3, abs=1e-4)
    assert metrics.get("penalty", 0) == pytest.approx(sum(penalties), rel=1e-3)
    assert ("penalty" in metrics) == bool(penalties)
    norms = {name.split("/")[0]: values(w)[0] for name, w in kernels_of(raw).items()}
    assert metrics["sigma"]["Dense_0"] == pytest.approx(norms["Dense_0"], rel=1e-2)


def test_both_ways_of_a_convolution_count():
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((3, 3, 2, 12)).astype(np.float32)
    params, rules = {"Conv_0": {"kernel": jnp.asarray(kernel)}}, sx.flax_kernels
    way = PARAMETRIZATIONS["bsn"]
    trained, carried = way.init(params, rules)
    held = sx.sn_init(params), carried
    used, *after = way.apply(trained, *held, rules, True)
    both = values(kernel)[0], values(np.moveaxis(kernel, -2, -1))[0]
    assert abs(both[0] / both[1] - 1) > 0.1
    want = kernel / np.mean(both)
    np.testing.assert_allclose(used["Conv_0"]["kernel"], want, rtol=1e-2)
    for old, new in zip(held, after, strict=True):
        moved = jax.tree.map(lambda x, y: not np.array_equal(x, y), old, new)
        assert any(jax.tree.leaves(moved))


@exhaustive
@pytest.mark.parametrize("constraint", [SR, "wn+layer-norm"])
def test_gain_and_direction_are_both_trained(constraint: str):
    before, after, _ = one_step(constraint)
    for half in "gv":
        for name, kernel in kernels_of(before.discriminator[half]).items():
            moved = kernels_of(after.discriminator[half])[name]
            assert not np.array_equal(kernel, moved), (half, name)
    rows = kernel_rows(config_of(constraint), after)
    gains = kernels_of(after.discriminator["g"])
    for row, (name, kernel) in zip(
        rows, kernels_of(after.discriminator["v"]).items(), strict=True
    ):
        norm = values(kernel)[0] if constraint == SR else np.linalg.norm(kernel, axis=0)
        want = values(kernel * gains[name] / norm)[0]
        assert row["in_d"] == pytest.approx(want, rel=1e-2)


@exhaustive
def test_running_means_are_kept():
    before, after, _ = one_step("sngp+mean-only")
    before, after = (each.carried["batch_stats"] for each in (before, after))
    assert not np.any([np.any(leaf) for leaf in jax.tree.leaves(before)])
    assert all(np.any(leaf) for leaf in jax.tree.leaves(after))


def cap(s: np.ndarray) -> np.ndarray:
    """The soft cap for updates of 256 times the digits' rate; its a by bisection."""
    k, low, high = 1 + 256 * 4e-4, 0.0, 1 / 3

    def p(x: Any, a: float) -> Any:
        y = x - a * x**3
        return y + a * y**3

    for _ in range(60):
        a = (low + high) / 2
        low, high = (a, high) if p(k, a) > 1 else (low, a)
    return p(s * min(1, k / s[0]), a)


PROJECTED = {
    "ball": lambda s, shape: np.minimum(s, 1),
    "orthogonalize": lambda s, shape: np.ones_like(s),
    "bjorck": lambda s, shape: np.ones_like(s),
    "retract": lambda s, shape: np.full_like(s, np.sqrt(shape[1] / shape[0])),
    "soft-cap": lambda s, shape: cap(s),
    "hammer": lambda s, shape: np.sort([1, *s[1:]])[::-1],
}


@pytest.mark.parametrize("name", sampled(PROJECTED, ("ball", "hammer")))
def test_a_kernel_is_put_back_after_adam(name: str):
    """Against the same update of Adam alone, and the singular values it has left."""
    rng = np.random.default_rng(0)
    shapes = {"Dense_0": (24, 10), "Dense_1": (10, 1)}
    draw = {k: {"kernel": rng.standard_normal(s)} for k, s in shapes.items()}
    params = jax.tree.map(lambda x: jnp.asarray(0.5 * x, jnp.float32), draw)
    gradient = jax.tree.map(jnp.sign, params)
    ends = []
    for projection in (None, name):
        adam: Any = optimizer(config_of("none"), projection)
        updates, held = adam.update(gradient, adam.init(params), params)
        ends.append(optax.apply_updates(params, updates))
        denied, _ = adam.update(
            jax.tree.map(lambda g: g * np.nan, gradient), held, params
        )
        assert not np.any([np.any(leaf) for leaf in jax.tree.leaves(denied)])
    for layer, shape in shapes.items():
        alone, put_back = (values(end[layer]["kernel"]) for end in ends)
        assert alone[0] > 1.2
        tolerance = 2e-2 if name == "soft-cap" else 1e-4
        want = PROJECTED[name](alone, shape)
        np.testing.assert_allclose(put_back, want, rtol=tolerance)


@exhaustive
def test_clipping_is_of_every_weight_and_of_the_discriminator_alone():
    before, after, _ = one_step("clip")
    for leaf in jax.tree.leaves(after.discriminator):
        assert np.abs(leaf).max() <= 0.01 * (1 + 1e-6)
    assert np.abs(before.discriminator["Dense_1"]["kernel"]).max() > 0.02
    assert np.abs(after.generator["params"]["Dense_1"]["kernel"]).max() > 0.1
    alone = one_step("none")[1].discriminator["Dense_1"]["kernel"]
    want = np.clip(alone, -0.01, 0.01)
    kernel = after.discriminator["Dense_1"]["kernel"]
    np.testing.assert_allclose(kernel, want, atol=1e-7)


@exhaustive
def test_a_mesh_makes_the_same_step():
    _, after, metrics = one_step("sn+gp")
    _, after_mesh, metrics_mesh = one_step("sn+gp", "data=2,model=2")
    for name in ("d_loss", "g_loss", "gradient_norm"):
        assert metrics_mesh[name] == pytest.approx(metrics[name], rel=1e-4, abs=1e-5)
    for name, kernel in kernels_of(after.discriminator).items():
        mine = kernels_of(after_mesh.discriminator)[name]
        # Adam's first update is the sign of the gradient, and that of a zero is noise.
        assert np.mean(np.abs(mine - kernel) < 1e-5) > 0.99


@exhaustive
def test_each_batch_is_an_update(monkeypatch: pytest.MonkeyPatch):
    """Three of them, to compile less."""
    monkeypatch.setitem(SETTINGS, "A", SETTINGS["A"]._replace(n_dis=3))
    config = config_of("none", setting="A")
    before, after, metrics = one_step("none", setting="A")
    adam = optax.adam(1e-4, b1=0.5, b2=0.9)
    params = jax.tree.map(jnp.asarray, before.discriminator)
    held = adam.init(params)

    @jax.jit
    def loss(params: Any, real: Any, fake: Any) -> Any:
        return jnp.mean(score(params, fake)) - jnp.mean(score(params, real))

    value = None
    for i in range(3):
        value, gradient = jax.value_and_grad(loss)(
            params, *images_of(config, before, i)
        )
        updates, held = adam.update(gradient, held, params)
        params = optax.apply_updates(params, updates)
    assert metrics["d_loss"] == pytest.approx(float(value), rel=1e-3)
    for name, kernel in kernels_of(params).items():
        moved = kernels_of(after.discriminator)[name]
        near = np.abs(moved - kernel) < 2e-5  # of 3e-4 that they can have moved
        assert np.mean(near) > 0.99, name


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("sm", "holds the unknown name 'sm': expected some of none, sn"),
        ("sn+", "holds the unknown name ''"),
        ("sn+wn", "sn and wn: expected one parametrization at most."),
        ("clip+ball", "clip and ball: expected one projection at most."),
        ("layer-norm+mean-only", "expected one normalization of activations"),
        ("none+gp", "none and more: expected none alone."),
        ("gp+gp", "a name twice"),
        ("wn+clip", "wn and clip: expected a projection without wn."),
        ("gp+mean-only", "gp and mean-only, whose scores depend on the whole batch"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(words: str, sentence: str):
    with pytest.raises(UserError) as found:
        parse(words)
    assert str(found.value).startswith(f"--constraint {words} ")
    assert sentence in str(found.value)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"sn", "none"}))
def test_the_operator_is_for_sn(name: str, capsys: pytest.CaptureFixture[str]):
    """Or for what does not look at a kernel as a matrix."""
    fits = {"gp", "gp-one-sided", "r1", "r2", "layer-norm", "mean-only"}
    if name in fits:
        assert parse(name, operator=True) == parse(name)
        return
    assert main(["--operator", "--constraint", name]) == 2
    assert f"--operator does not go with --constraint {name}" in capsys.readouterr().err


def test_runs_that_differ_in_seed_and_length_share_a_program():
    one, two = config_of("sn"), config_of("sn")
    object.__setattr__(two, "seed", 9)
    object.__setattr__(two, "steps", 99)
    mesh = make_mesh(None)
    assert make_train_step(one, mesh) is make_train_step(two, mesh)
    assert make_train_step(one, mesh) is not make_train_step(config_of("wn"), mesh)
    first, other = (first_state(each, mesh).discriminator for each in (one, two))
    assert not np.array_equal(first["Dense_0"]["kernel"], other["Dense_0"]["kernel"])
