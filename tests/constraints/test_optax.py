"""Constraints after the update, as links of an optax chain."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import specjax as sx
from specjax import constraints
from specjax.optax import clip_weights, keep_projected
from tests.cases import designed, norm
from tests.constraints.oracle import of_values, values_of

ALL = {".*": sx.Matrix()}
FUNCTIONS = (
    (constraints.project_spectral_ball, {"bound": 0.8}),
    (constraints.spectral_soft_cap, {"max_update": 0.2, "bound": 1.1}),
    (constraints.spectral_hammer, {"cap": True}),
    (constraints.orthogonalize, {"steps": constraints.muon_steps(3)}),
    (constraints.bjorck, {"order": 2, "n_iterations": 5}),
    (constraints.retract, {}),
)
every_function = pytest.mark.parametrize(
    ("function", "options"), FUNCTIONS, ids=lambda value: getattr(value, "__name__", "")
)


def make_params(dtype=jnp.float32):
    spectrum = np.array([1.2, 1.2, 0.9, 0.2, 0])
    return {
        "Dense_0": {
            "kernel": jnp.asarray(designed(7, 5, spectrum), dtype),
            "bias": jnp.linspace(-1, 1, 5).astype(dtype),
        },
        "Conv_0": {
            "kernel": jnp.asarray(designed(18, 5, spectrum, 1), dtype).reshape(
                3, 3, 2, 5
            )
        },
    }


def make_grads(params):
    rng = np.random.default_rng(2)
    return jax.tree.map(
        lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), params
    )


def step(tx, params, grads, state=None):
    state = tx.init(params) if state is None else state
    updates, state = jax.jit(tx.update)(grads, state, params)
    return optax.apply_updates(params, updates), state


@every_function
def test_the_params_after_the_update_are_projected(function, options):
    params, sgd = make_params(), optax.sgd(0.05)
    grads = make_grads(params)
    inner, _ = step(sgd, params, grads)
    got, state = step(
        optax.chain(sgd, keep_projected(function, **options)), params, grads
    )
    want = function(inner, **options)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, want)
    np.testing.assert_array_equal(got["Dense_0"]["bias"], inner["Dense_0"]["bias"])
    assert not jax.tree.leaves(state)
    assert np.abs(got["Conv_0"]["kernel"] - inner["Conv_0"]["kernel"]).max() > 1e-3


def test_every_step_of_a_training_ends_in_the_ball():
    params = make_params()
    ball = keep_projected(constraints.project_spectral_ball, bound=0.7)
    tx = optax.chain(optax.adam(0.02), ball)
    state, target = tx.init(params), make_grads(params)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def train(params, state):
        grads = jax.tree.map(lambda p, t: p - t, params, target)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(20):
        params, state = train(params, state)
        for layer in params.values():
            assert norm(np.float64(layer["kernel"]).reshape(-1, 5)) < 0.7 * (1 + 1e-5)
    assert train._cache_size() == 1
    assert np.count_nonzero(values_of(params["Dense_0"]["kernel"]) > 0.699) > 1


def test_muon_with_its_soft_cap_keeps_the_bound():
    params = {"w": jnp.asarray(designed(12, 9, np.linspace(1, 0, 9)), jnp.float32)}
    rate, decay = 0.1, 0.02
    # The most that Muon's five steps make of a singular value is below 1.21.
    cap = keep_projected(
        constraints.spectral_soft_cap,
        max_update=1.21 * rate,
        weight_decay=decay,
        kernels=ALL,
    )
    muon = optax.contrib.muon(rate, weight_decay=decay / rate)
    tx = optax.chain(muon, cap)
    state, grads = tx.init(params), make_grads(params)
    for _ in range(10):
        params, state = step(tx, params, grads, state)
        assert norm(np.float64(params["w"])) < 1 + 1e-5
    assert norm(np.float64(params["w"])) > 0.9


def test_masked_none_and_dtypes():
    params = make_params(jnp.bfloat16)
    ball = keep_projected(constraints.project_spectral_ball, bound=0.5)
    mask = {"Dense_0": {"kernel": True, "bias": True}, "Conv_0": {"kernel": False}}
    zero = jax.tree.map(jnp.zeros_like, params)
    got, _ = step(optax.masked(ball, mask), params, zero)
    assert {leaf.dtype for leaf in jax.tree.leaves(got)} == {jnp.dtype("bfloat16")}
    want = of_values(
        np.float64(params["Dense_0"]["kernel"]), lambda s: np.minimum(s, 0.5)
    )
    np.testing.assert_allclose(np.float64(got["Dense_0"]["kernel"]), want, atol=8e-3)
    np.testing.assert_array_equal(got["Conv_0"]["kernel"], params["Conv_0"]["kernel"])
    halves = jax.tree.map(lambda leaf: leaf.astype(jnp.float16), zero)
    updates, _ = ball.update(halves, ball.init(params), params)
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype("float16")}
    params, zero = ({**tree, "Conv_0": {"kernel": None}} for tree in (params, zero))
    updates, _ = ball.update(zero, ball.init(params), params)
    assert updates["Conv_0"]["kernel"] is None


def test_a_bad_step_shows_and_leaves_nothing_behind():
    params = make_params()
    tx = keep_projected(constraints.project_spectral_ball)
    bad = jax.tree.map(lambda p: jnp.full_like(p, jnp.nan), params)
    broken, state = step(tx, params, bad)
    assert np.isnan(broken["Dense_0"]["kernel"]).all()
    good, _ = step(tx, params, jax.tree.map(jnp.zeros_like, params), state)
    np.testing.assert_allclose(
        norm(np.float64(good["Dense_0"]["kernel"])), 1, rtol=1e-5
    )


@pytest.mark.parametrize("kernels", [None, ALL], ids=["flax_kernels", "all leaves"])
def test_clipping_is_optax_box(kernels):
    params = make_params()
    grads = make_grads(params)
    inner, _ = step(optax.sgd(0.05), params, grads)
    tx = optax.chain(optax.sgd(0.05), clip_weights(0.2, kernels=kernels))
    got, _ = step(tx, params, grads)
    low, high = (jax.tree.map(lambda p, c=c: c, inner) for c in (-0.2, 0.2))
    want = optax.projections.projection_box(inner, low, high)
    if kernels is None:
        want["Dense_0"]["bias"] = inner["Dense_0"]["bias"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), got, want)
    assert norm(np.float64(got["Dense_0"]["kernel"])) <= 0.2 * np.sqrt(35)


def test_clipping_of_the_first_wgan():
    params = make_params(jnp.bfloat16)
    tx, zero = clip_weights(kernels=ALL), jax.tree.map(jnp.zeros_like, params)
    got, state = step(tx, params, zero)
    # The first update is long, and rounded to bfloat16; the second is not.
    got, _ = step(tx, got, zero, state)
    for leaf in jax.tree.leaves(got):
        assert leaf.dtype == jnp.bfloat16
        assert np.abs(np.float64(leaf)).max() <= 0.01 * 1.01
    assert np.count_nonzero(got["Dense_0"]["bias"]) == 4


def test_a_schedule_of_the_limit():
    params = make_params()
    zero = jax.tree.map(jnp.zeros_like, params)
    tx = optax.inject_hyperparams(clip_weights)(optax.linear_schedule(0.3, 0.1, 2))
    state = None
    for limit in (0.3, 0.2, 0.1):
        params, state = step(tx, params, zero, state)
        largest = np.abs(params["Dense_0"]["kernel"]).max()
        np.testing.assert_allclose(largest, limit, rtol=1e-5)


def test_errors():
    params = make_params()
    zero = jax.tree.map(jnp.zeros_like, params)
    cap = keep_projected(constraints.spectral_soft_cap, max_update=0.5)
    with pytest.raises(ValueError, match="need max_update of at most"):
        cap.init(params)
    with pytest.raises(ValueError, match="params: got no kernel among"):
        keep_projected(constraints.orthogonalize, kernels={}).init(params)
    halves = keep_projected(lambda tree: jax.tree.map(jnp.float16, tree))
    with pytest.raises(TypeError, match="which changes the tree, a shape or a dtype"):
        halves.init(params)
    gone = keep_projected(lambda tree: tree["Dense_0"])
    with pytest.raises(TypeError, match="need a function from params to params like"):
        gone.init(params)
    for name, tx in (("keep_projected", keep_projected(constraints.retract)),):
        with pytest.raises(ValueError, match=f"{name}: got an update without params"):
            tx.update(zero, tx.init(params))
    with pytest.raises(ValueError, match="got 0; need a number above 0"):
        clip_weights(0)
    with pytest.raises(ValueError, match="clip_weights: got no kernel among 3 leaves"):
        clip_weights(kernels={}).init(params)
    for dtype in ("int8", "complex64"):
        wrong = {"a": {"kernel": jnp.ones((2, 3), dtype)}}
        need = rf"a/kernel: got {dtype}\[2,3\]; need a kernel of real"
        with pytest.raises(TypeError, match=need):
            clip_weights().init(wrong)
