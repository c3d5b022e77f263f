"""Params on the bound after each update, against the float64 SVD and optax's own."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import specjax as sx
from specjax.constraints import project_spectral_ball
from specjax.optax import keep_projected, keep_spectral_norm, renormalize
from tests.cases import designed, norm

SPECTRUM = np.array([1, 0.97, 0.9, 0.5, 0.1])


def params_with_norms(one=3.0, two=0.5, dtype=jnp.float32):
    """Returns two kernels of those norms and a bias."""
    return {
        "Dense_0": {
            "kernel": jnp.asarray(designed(7, 5, one * SPECTRUM), dtype),
            "bias": jnp.ones(5, dtype),
        },
        "Dense_1": {"kernel": jnp.asarray(designed(5, 6, two * SPECTRUM, 1), dtype)},
    }


def random_grads(params, seed=2):
    rng = np.random.default_rng(seed)
    draw = lambda p: jnp.asarray(0.1 * rng.standard_normal(p.shape), p.dtype)  # noqa: E731
    return jax.tree.map(draw, params)


def kernels_of(params):
    return [np.float64(params[name]["kernel"]) for name in ("Dense_0", "Dense_1")]


def by_svd(target, bound=1.0, cap=False):
    """Returns the kernels of the tree with their norms brought to the bound."""
    norms = [norm(kernel) for kernel in kernels_of(target)]
    factors = [min(1, bound / n) if cap else bound / n for n in norms]
    return [k * factor for k, factor in zip(kernels_of(target), factors, strict=True)]


def assert_kernels(params, want, tol=1e-3):
    for got, kernel in zip(kernels_of(params), want, strict=True):
        np.testing.assert_allclose(got, kernel, 0, tol)


def assert_norms(params, want, rtol=1e-3):
    np.testing.assert_allclose([*map(norm, kernels_of(params))], want, rtol)


jitted = functools.cache(jax.jit)


def one_update(tx, params, grads, state=None):
    state = tx.init(params) if state is None else state
    updates, state = jitted(tx.update)(grads, state, params)
    return optax.apply_updates(params, updates), state


@pytest.mark.parametrize("cap", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda **options: renormalize(optax.adam(0.002), **options),
        lambda **options: optax.chain(optax.adam(0.002), keep_spectral_norm(**options)),
    ],
    ids=["renormalize", "chain"],
)
def test_update_is_that_of_the_inner_one_and_then_on_the_bound(make, cap):
    params = params_with_norms()
    grads = random_grads(params)
    inner = optax.apply_updates(
        params, optax.adam(0.002).update(grads, optax.adam(0.002).init(params))[0]
    )
    new, _ = one_update(make(bound=2.0, cap=cap), params, grads)
    assert_kernels(new, by_svd(inner, bound=2.0, cap=cap), 3e-3)
    inner_norms = [*map(norm, kernels_of(inner))]
    assert_norms(new, [min(2, n) for n in inner_norms] if cap else [2, 2], 3e-3)
    np.testing.assert_allclose(new["Dense_0"]["bias"], inner["Dense_0"]["bias"], 1e-6)


def test_alone_it_projects():
    params = params_with_norms()
    zero = jax.tree.map(jnp.zeros_like, params)
    new, state = one_update(keep_spectral_norm(), params, zero)
    assert_kernels(new, by_svd(params), 1e-4)
    sigma = state.power_iteration["Dense_0"]["kernel"]["sigma"]
    np.testing.assert_allclose(sigma, 3, 1e-4)


def test_masked_leaves_the_others_alone():
    params = params_with_norms()
    mask = {"Dense_0": True, "Dense_1": False}
    tx = optax.chain(optax.sgd(0.02), optax.masked(keep_spectral_norm(), mask))
    grads = jax.tree.map(jnp.zeros_like, params)
    new, _ = one_update(tx, params, grads)
    assert_norms(new, [1, 0.5])
    np.testing.assert_array_equal(new["Dense_1"]["kernel"], params["Dense_1"]["kernel"])


def test_partition_gives_each_label_its_own_bound():
    params = params_with_norms()
    labels = {"Dense_0": "tight", "Dense_1": "loose"}
    tx = optax.partition(
        {
            "tight": renormalize(optax.sgd(0.005), bound=0.7),
            "loose": renormalize(optax.sgd(0.005), bound=4.0),
        },
        labels,
    )
    grads, state = random_grads(params), None
    for _ in range(10):
        params, state = one_update(tx, params, grads, state)
    assert_norms(params, [0.7, 4.0], 3e-3)


def test_multi_steps_renormalizes_when_it_updates():
    params = params_with_norms()
    tx = optax.MultiSteps(renormalize(optax.sgd(0.02)), every_k_schedule=2)
    grads = random_grads(params)
    middle, state = one_update(tx, params, grads)
    assert_norms(middle, [3, 0.5], 1e-5)
    new, _ = one_update(tx, middle, grads, state)
    assert_norms(new, [1, 1], 2e-2)
    inner = jax.tree.map(lambda p, g: p - 0.02 * g, params, grads)
    assert_kernels(new, by_svd(inner), 2e-2)


def test_a_step_that_is_not_finite_is_skipped_and_the_next_is_good():
    params = params_with_norms()
    tx = optax.apply_if_finite(renormalize(optax.adam(0.001)), 5)
    good = random_grads(params)
    params, state = one_update(tx, params, good)
    bad = jax.tree.map(lambda g: g.at[0].set(jnp.nan), good)
    same, after = one_update(tx, params, bad, state)
    assert int(after.notfinite_count) == 1
    for old, new in (params, same), (state.inner_state, after.inner_state):
        jax.tree.map(np.testing.assert_array_equal, old, new)
    new, _ = one_update(tx, same, good, after)
    want, _ = one_update(
        renormalize(optax.adam(0.001)), params, good, state.inner_state
    )
    jax.tree.map(np.testing.assert_array_equal, new, want)
    assert_norms(new, [1, 1], 5e-3)


def test_a_bad_step_alone_does_not_poison_the_state():
    params = params_with_norms()
    tx = renormalize(optax.sgd(0.01))
    state = tx.init(params)
    bad = jax.tree.map(lambda p: jnp.full_like(p, jnp.nan), params)
    broken, state = one_update(tx, params, bad, state)
    assert np.isnan(broken["Dense_0"]["kernel"]).all()  # the loss shows it
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    new, _ = one_update(tx, params, jax.tree.map(jnp.zeros_like, params), state)
    assert_norms(new, [1, 1])


@pytest.mark.parametrize("with_options", [False, True])
def test_inject_hyperparams_schedules_the_bound(with_options):
    def rule(path, leaf):
        return sx.flax_kernels(path, leaf)

    options = {"kernels": rule, "n_steps": 2} if with_options else {}
    tx = optax.inject_hyperparams(keep_spectral_norm, static_args=("cap", *options))(
        bound=optax.linear_schedule(1.0, 3.0, 2), **options
    )
    params, state = params_with_norms(), None
    grads = jax.tree.map(jnp.zeros_like, params)
    for bound in (1.0, 2.0, 3.0):
        params, state = one_update(tx, params, grads, state)
        assert_norms(params, [bound, bound])


def test_nnx_optimizer():
    model = nnx.Linear(6, 4, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, renormalize(optax.adam(0.002)), wrt=nnx.Param)
    x = jax.random.normal(jax.random.key(1), (16, 6))

    @nnx.jit
    def step(model, optimizer):
        grads = nnx.grad(lambda model: jnp.mean((model(x) - x[:, :4] ** 2) ** 2))(model)
        optimizer.update(model, grads)

    before = np.array(model.bias[...])
    for _ in range(10):
        step(model, optimizer)
        np.testing.assert_allclose(norm(np.float64(model.kernel[...])), 1, 1e-3)
    assert np.abs(before - model.bias[...]).max() > 0.01


def test_donated_state_without_a_second_compilation():
    params = params_with_norms()
    tx = renormalize(optax.adam(0.001))
    grads, state = random_grads(params), tx.init(params)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(6):
        old, (params, state) = (params, state), step(params, state)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old))
    assert step._cache_size() == 1
    assert_norms(params, [1, 1])


def test_training_stays_on_the_bound():
    """200 Adam steps of a Linen model on a regression."""

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.tanh(nn.Dense(24)(x[..., None] * jnp.ones(8)).mean(-2))
            return nn.Dense(1)(nn.tanh(nn.Dense(16)(x)))[..., 0]

    x = jax.random.normal(jax.random.key(1), (64, 8)) * jnp.arange(1, 9)
    y = jnp.tanh(x[:, 0]) - 0.5 * jnp.tanh(x[:, 1] + x[:, 7])
    model, tx = Model(), renormalize(optax.adam(2e-4))
    params = model.init(jax.random.key(0), x)["params"]

    @jax.jit
    def step(params, state):
        def loss(params):
            return jnp.mean((model.apply({"params": params}, x) - y) ** 2)

        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    state, losses = tx.init(params), []
    for _ in range(200):
        params, state, value = step(params, state)
        losses.append(float(value))
        norms = [norm(np.float64(layer["kernel"])) for layer in params.values()]
        np.testing.assert_allclose(norms, 1, 3e-3)
    np.testing.assert_allclose(norms, 1, 1e-3)
    assert losses[-1] < 0.95 * losses[1]


def test_updates_have_the_dtype_of_the_gradients():
    params = params_with_norms(dtype=jnp.bfloat16)
    tx = renormalize(optax.sgd(0.02))
    updates, state = tx.update(random_grads(params), tx.init(params), params)
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype("bfloat16")}
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("float32")}
    assert_norms(optax.apply_updates(params, updates), [1, 1], 2e-2)
    # Those of a wide optimizer stay wide, over narrow params, and the other way around.
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), random_grads(params))
    updates, _ = tx.update(narrow, tx.init(params), params)
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype("float32")}
    params = params_with_norms()
    grads = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), random_grads(params))
    updates, _ = tx.update(grads, tx.init(params), params)
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype("bfloat16")}


def test_the_state_is_carried_from_update_to_update():
    # One step of each update: together they arrive, from the state of other kernels.
    params = params_with_norms()
    others = jax.tree.map(lambda p: jnp.roll(p, 1, 0)[::-1] ** 3, params)
    zero = jax.tree.map(jnp.zeros_like, params)
    tx, inner = keep_spectral_norm(), optax.identity()
    for make in (tx, renormalize(inner)):
        state, new = make.init(others), params
        for _ in range(30):
            new, state = one_update(make, new, zero, state)
        assert_norms(new, [1, 1])


def test_steps_are_those_of_each_update():
    # The state is of other kernels: one step does not get there, fifty do.
    params = params_with_norms()
    state_of = jax.tree.map(lambda p: jnp.roll(p, 1, 0)[::-1] ** 3, params)
    zero = jax.tree.map(jnp.zeros_like, params)
    for make in (
        lambda **options: renormalize(optax.sgd(1.0), **options),
        keep_spectral_norm,
    ):
        off = {}
        for n_steps in (None, 1, 50):
            tx = make(n_steps=n_steps)
            new, _ = one_update(tx, params, zero, tx.init(state_of))
            off[n_steps] = max(abs(norm(k) - 1) for k in kernels_of(new))
        assert off[None] == off[1] > 5e-3
        assert off[50] < 1e-3


def test_update_without_params_says_what_to_do():
    params = params_with_norms()
    tx = renormalize(optax.sgd(0.02))
    need = r"got an update without params; .*Try: tx.update\(grads, opt_state, params\)"
    with pytest.raises(ValueError, match=need):
        tx.update(random_grads(params), tx.init(params))


def test_extra_arguments_reach_the_inner_optimizer():
    def update(updates, state, params=None, *, factor):
        del params
        return jax.tree.map(lambda u: -factor * u, updates), state

    inner = optax.GradientTransformationExtraArgs(optax.sgd(0.02).init, update)
    params = params_with_norms()
    grads, tx = random_grads(params), renormalize(inner)
    updates, _ = tx.update(grads, tx.init(params), params, factor=0.3)
    want = -0.3 * grads["Dense_0"]["bias"]
    np.testing.assert_allclose(updates["Dense_0"]["bias"], want, 1e-5)


@pytest.mark.parametrize(
    "keep", [keep_spectral_norm(), keep_projected(project_spectral_ball)]
)
def test_what_is_no_kernel_has_the_inner_optimizers_update_bit_for_bit(keep):
    """As a difference, (p + u) - p, an update of 1e-9 beside a bias of 1 would be 0."""
    params = params_with_norms()
    inner = optax.sgd(1.0)
    tx = optax.chain(inner, keep)
    grads = jax.tree.map(lambda x: 1e-9 * x, random_grads(params))
    updates, _ = tx.update(grads, tx.init(params), params)
    want, _ = inner.update(grads, inner.init(params))
    np.testing.assert_array_equal(updates["Dense_0"]["bias"], want["Dense_0"]["bias"])
    assert jnp.all(updates["Dense_0"]["bias"] != 0)


@pytest.mark.parametrize(("scale", "off"), [(1e2, 1e-4), (1e4, 1e-3)])
def test_an_update_is_a_difference_and_as_exact_as_one(scale, off):
    params = params_with_norms()
    params = jax.tree.map(lambda x: scale * x, params)
    tx = renormalize(optax.sgd(0.0))
    updates, _ = tx.update(params, tx.init(params), params)
    assert_norms(optax.apply_updates(params, updates), [1, 1], off)
