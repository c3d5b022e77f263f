"""The contract of the core, N1 to N14, over the one table of kernels.

The numbers are those of `docs/design/0002-numbers.md`. The oracle is a float64 SVD of
the matrices that `cases.py` cuts out of a params tree without specjax.
"""

import contextlib
import functools
import itertools

import chex
import flax.linen as nn
import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import specjax as sx
from tests.cases import CASES, SAMPLED, Case, designed, enable_x64, norm, rows
from tests.exhaustive import exhaustive, sampled
from tests.programs import operations, trace, users
from tests.reference import assert_same_line, power_steps

# The tests of a case share its compiled functions: --dist loadfile runs them in one
# process.
whole_table = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
every_case = pytest.mark.parametrize("case", SAMPLED)
BY_NAME = {case.name: case for case in CASES}
# For what does not depend on the map: one matrix, several sides, a stack, a box.
some_cases = pytest.mark.parametrize(
    "case",
    [BY_NAME[name] for name in ("dense", "attention", "experts", "boxed")],
    ids=lambda case: case.name,
)
# For what costs a program of its own and depends on the sides alone.
few_cases = pytest.mark.parametrize(
    "case",
    sampled(CASES, ["dense", "attention", "experts"], name=lambda case: case.name),
)


def scaled(case: Case, params, factor):
    """Returns the params with every kernel times `factor`."""
    kernels = case.views.keys()

    def scale(path, leaf):
        return leaf * factor if name(path) in kernels else leaf

    return jax.tree_util.tree_map_with_path(scale, params)


def name(path) -> str:
    parts = [str(getattr(k, "key", getattr(k, "idx", None))) for k in path]
    return "/".join(part for part in parts if part != "None")


def functions(case: Case, **options) -> sx.SpectralNorm:
    """Returns the three functions, jitted, compiled once for all tests of a case."""
    return _functions(case.name, tuple(options.items()))


@functools.cache
def _functions(case_name, options) -> sx.SpectralNorm:
    kernels = BY_NAME[case_name].kernels
    init, apply, fuse = sx.spectral_norm(kernels=kernels, **dict(options))
    # The state does not depend on the options.
    init = _functions(case_name, ()).init if options else jax.jit(init)
    return sx.SpectralNorm(
        init, jax.jit(apply, static_argnames="update_stats"), jax.jit(fuse)
    )


def gradient(case: Case):
    """Returns the derivative of a sum over the result, compiled once for all tests."""
    return _gradient(case.name)


@functools.cache
def _gradient(case_name):
    apply = functions(BY_NAME[case_name]).apply
    return jax.jit(jax.grad(lambda p, state: square_sum(apply(p, state)[0])))


def assert_norms(case: Case, params, bound=1.0, rtol=1e-3):
    for path, norms in case.norms(params).items():
        np.testing.assert_allclose(norms, bound, rtol=rtol, err_msg=path)


# N1: warm from the start


SHAPES = {
    "128x128": (128, 128),
    "1024x4608": (1024, 4608),
    "3x3x512x512": (3, 3, 512, 512),
    "4x4x256x512": (4, 4, 256, 512),
}


def gaussian(n_in, n_out, rng):
    return rng.standard_normal((n_in, n_out)) * 3


def lecun(n_in, n_out, rng):
    return rng.standard_normal((n_in, n_out)) / n_in**0.5


def orthogonal(n_in, n_out, rng):
    del rng
    return designed(n_in, n_out, np.ones(min(n_in, n_out)))


def rank_one(n_in, n_out, rng):
    return np.outer(rng.standard_normal(n_in), rng.standard_normal(n_out))


def small_gap(n_in, n_out, rng):
    del rng
    rest = 0.999 * np.linspace(1, 0.2, min(n_in, n_out) - 1)
    return designed(n_in, n_out, np.concatenate([[1.0], rest]))


def norm_by_gram(matrix: np.ndarray) -> float:
    """The largest singular value by a float64 eigenvalue problem: quick when large."""
    gram = matrix.T @ matrix if matrix.shape[0] > matrix.shape[1] else matrix @ matrix.T
    return float(np.linalg.eigvalsh(gram)[-1]) ** 0.5


KINDS = {f.__name__: f for f in (gaussian, lecun, orthogonal, rank_one, small_gap)}


@pytest.mark.parametrize(
    ("shape", "kind"),
    sampled(
        itertools.product(SHAPES, KINDS),
        [
            *(("128x128", kind) for kind in KINDS),
            ("1024x4608", "gaussian"),
            ("3x3x512x512", "small_gap"),
            ("4x4x256x512", "lecun"),
        ],
    ),
)
def test_n1_warm_before_the_first_step(shape, kind):
    shape, rng = SHAPES[shape], np.random.default_rng(0)
    matrix = KINDS[kind](int(np.prod(shape[:-1])), shape[-1], rng)
    kernel = jnp.asarray(matrix.reshape(shape), jnp.float32)
    params = {"layer": {"kernel": kernel}}
    true = norm_by_gram(rows(np.asarray(kernel, np.float64)))

    state = sx.sn_init(params)
    np.testing.assert_allclose(state["layer"]["kernel"]["sigma"], true, rtol=1e-3)
    params_sn, _ = sx.sn_apply(params, state)
    got = norm_by_gram(rows(np.asarray(params_sn["layer"]["kernel"], np.float64)))
    assert got <= 1.001


@whole_table
def test_n1_every_kernel_of_the_table(case):
    params = case.make()
    state = functions(case).init(params)
    true = case.norms(params)
    for path in case.views:
        entry = functools.reduce(lambda node, key: node[key], path.split("/"), state)
        np.testing.assert_allclose(entry["sigma"], true[path], rtol=1e-3, err_msg=path)
    assert_norms(case, functions(case).apply(params, state, update_stats=False)[0])


def test_n1_costs_no_svd_of_the_kernel():
    params = {"layer": {"kernel": jnp.zeros((512, 768))}}
    compiled = jax.jit(sx.sn_init).lower(params).compile()
    # 64 steps of two products and two reorthogonalizations, against an SVD's 10 n^3.
    products = 64 * 2 * 2 * 512 * 768
    assert compiled.cost_analysis()["flops"] < 4 * products
    assert "768,768" not in compiled.as_text()
    assert "512,512" not in compiled.as_text()


# N2: tracking


def drifting_norms(shape, seed, steps=200):
    """Yields the norm of the normalized kernel while the weights drift 1 % per step."""
    rng = np.random.default_rng(seed)
    kernel = rng.standard_normal(shape)
    step = jax.jit(sx.sn_apply)
    state = sx.sn_init({"layer": {"kernel": jnp.asarray(kernel, jnp.float32)}})
    for _ in range(steps):
        drift = rng.standard_normal(shape)
        kernel += 0.01 * drift * np.linalg.norm(kernel) / np.linalg.norm(drift)
        params = {"layer": {"kernel": jnp.asarray(kernel, jnp.float32)}}
        params_sn, state = step(params, state)
        yield norm_by_gram(rows(np.asarray(params_sn["layer"]["kernel"], np.float64)))


# Among these the second singular value overtakes the first in (128, 128) with seed 4,
# (216, 48) with seed 1 and (10, 64) with seed 5: one vector lags by 2e-3 to 3e-3 there.
OVERTAKEN = [((128, 128), 4), ((216, 48), 1), ((10, 64), 5)]
DRIFTS = [
    *OVERTAKEN, ((128, 128), 0), ((128, 128), 2), ((3, 3, 32, 64), 0),
    ((3, 3, 32, 64), 1), ((64, 256), 0),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "seed"), sampled(DRIFTS, DRIFTS[:4]), ids=str)
def test_n2_one_step_per_update_tracks_drifting_weights(shape, seed):
    norms = list(drifting_norms(shape, seed))
    assert max(norms) <= 1.0005
    assert min(norms) >= 1 - 1e-5


def test_n2_a_direction_that_grows_out_of_the_bulk_is_found():
    # As in the first updates of Adam, which move each weight by the learning rate. With
    # a u2 that only follows the second singular value it is .7 % (and .4 to 1 % each).
    assert np.median([growing(seed).mean() for seed in range(5)]) < 2e-3


def growing(seed):
    """Returns by how much the norm exceeds the bound in updates 11 to 60.

    The gradient is a few directions that come and go, and as much noise.
    """
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((288, 64)) / np.sqrt(288)
    left, right = (rng.standard_normal((n, 6)) for n in weights.shape)
    params = {"layer": {"kernel": jnp.asarray(weights, jnp.float32)}}
    step = jax.jit(sx.sn_apply)
    state, excess = sx.sn_init(params), []
    for t in range(60):
        waves = np.cos((0.1 * t + 1) * np.arange(6))
        noise = rng.standard_normal(weights.shape)
        weights = weights + 2e-3 * np.sign((left * waves) @ right.T + noise)
        params = {"layer": {"kernel": jnp.asarray(weights, jnp.float32)}}
        _, state = step(params, state)
        excess.append(norm(weights) / state["layer"]["kernel"]["sigma"] - 1)
    return np.array(excess[10:])


# N3: scale-free


@few_cases
def test_n3_result_does_not_depend_on_the_scale(case):
    sn, params = functions(case), case.make()
    want = case.matrices(sn.apply(params, sn.init(params))[0])
    for factor in (1e-12, 1e-6, 1e-3, 1e3, 1e6, 1e12):
        other = scaled(case, params, factor)
        got = case.matrices(sn.apply(other, sn.init(other))[0])
        chex.assert_trees_all_close(got, want, rtol=1e-5, atol=1e-6)


@some_cases
def test_n3_scale_may_change_under_the_same_state(case):
    sn, params = functions(case), case.make()
    state = sn.init(params)
    want = case.matrices(sn.apply(params, state)[0])
    for factor in (1e-12, 1e12):
        other = scaled(case, params, factor)
        got = case.matrices(sn.apply(other, state)[0])
        chex.assert_trees_all_close(got, want, rtol=1e-5, atol=1e-6)


# N4: zero kernel


@every_case
def test_n4_zero_kernel_stays_and_is_normalized_once_it_is_not_zero(case):
    sn, params = functions(case), case.make()
    zero = scaled(case, params, 0.0)
    state = sn.init(zero)
    for _ in range(3):
        zero_sn, state = sn.apply(zero, state)
        chex.assert_trees_all_equal(zero_sn, zero)
    for path, leaf in leaves(state).items():
        if path.endswith("sigma"):
            np.testing.assert_array_equal(leaf, 0.0)
    params_sn, state = sn.apply(params, state)
    for path, before in case.norms(params).items():  # at once, if not exactly
        assert np.all(case.norms(params_sn)[path] < 2.5), (path, before)
    for _ in range(400):
        params_sn, state = sn.apply(params, state)
    assert_norms(case, params_sn)


@few_cases
def test_n4_gradient_at_a_zero_kernel_is_finite(case):
    zero = scaled(case, case.make(), 0.0)
    chex.assert_tree_all_finite(gradient(case)(zero, functions(case).init(zero)))


def test_n4_zero_kernel_after_a_warm_start_keeps_u():
    params = {"Dense_0": {"kernel": jnp.asarray(designed(20, 12, DECAY), jnp.float32)}}
    state = sx.sn_init(params)
    zero = jax.tree.map(jnp.zeros_like, params)
    _, after = sx.sn_apply(zero, state)
    chex.assert_trees_all_equal(
        after["Dense_0"]["kernel"]["u"], state["Dense_0"]["kernel"]["u"]
    )
    params_sn, _ = sx.sn_apply(params, after)
    assert norm(np.asarray(params_sn["Dense_0"]["kernel"], np.float64)) <= 1.001


def test_n4_sigma_of_a_zero_kernel_is_zero_and_u_a_unit_vector():
    params = {"layer": {"kernel": jnp.asarray(designed(20, 12, DECAY), jnp.float32)}}
    zero = jax.tree.map(jnp.zeros_like, params)
    _, after_warm = sx.sn_apply(zero, sx.sn_init(params))
    for state in (sx.sn_init(zero), after_warm):
        entry = state["layer"]["kernel"]
        assert entry["sigma"] == 0
        np.testing.assert_allclose(np.linalg.norm(entry["u"]), 1, rtol=1e-5)
    pair = jnp.eye(12)[3:5]
    u, u2, v, sigma = sx.power_iteration(jnp.zeros((20, 12)), *pair)
    np.testing.assert_array_equal(jnp.stack([u, u2]), pair)
    assert (sigma, np.abs(v).max()) == (0, 0)


# N5: non-finite kernel


@every_case
def test_n5_bad_kernel_comes_back_and_the_last_good_state_stays(case):
    sn, params = functions(case), case.make()
    state = sn.init(params)
    for bad in (np.nan, np.inf, -np.inf):
        assert_a_bad_kernel_passes(case, sn, params, state, bad)


def assert_a_bad_kernel_passes(case, sn, params, state, bad):
    poisoned = jax.tree_util.tree_map_with_path(
        lambda path, x: x.at[(0,) * x.ndim].set(bad) if name(path) in case.views else x,
        params,
    )
    out, after = sn.apply(poisoned, state)
    # A stack is poisoned in its first slice only; the others go on.
    for path, view in case.matrices(poisoned).items():
        got = case.matrices(out)[path]
        if view.ndim == 2:
            np.testing.assert_array_equal(got, view)
        else:
            np.testing.assert_array_equal(got[0], view[0])
            np.testing.assert_allclose(norm(got[1:]), 1.0, rtol=1e-3)
    chex.assert_tree_all_finite(after)
    for path, old in leaves(state).items():
        new, (kernel, _) = leaves(after)[path], path.rsplit("/", 1)
        stacked = case.matrices(params)[kernel].ndim > 2
        np.testing.assert_array_equal(*((a[0] if stacked else a) for a in (new, old)))
        np.testing.assert_allclose(new, old, rtol=1e-3, atol=1e-3)
    assert_norms(case, sn.apply(params, after)[0])


def test_n5_bad_kernel_at_init():
    bad = {"Dense_0": {"kernel": jnp.full((8, 5), jnp.nan)}}
    good = {"Dense_0": {"kernel": jnp.asarray(designed(8, 5, DECAY[:5]), jnp.float32)}}
    state = sx.sn_init(bad)
    chex.assert_tree_all_finite(state)
    step = jax.jit(sx.sn_apply)
    for _ in range(100):
        good_sn, state = step(good, state)
    assert abs(norm(np.asarray(good_sn["Dense_0"]["kernel"], np.float64)) - 1) < 1e-3


# N6: u cannot get stuck


def blocks(first: float, second: float) -> np.ndarray:
    kernel = np.zeros((40, 24))
    kernel[:20, :12] = first * designed(20, 12, np.linspace(1, 0.1, 12))
    kernel[20:, 12:] = second * designed(20, 12, np.linspace(1, 0.1, 12), seed=1)
    return kernel


def permuted(first: float, second: float) -> np.ndarray:
    return np.diag(np.concatenate([[first], [second], 0.3 * DECAY]))


@pytest.mark.parametrize("make", [blocks, permuted], ids=lambda f: f.__name__)
def test_n6_u_leaves_a_direction_that_no_longer_leads(make):
    before = {"layer": {"kernel": jnp.asarray(make(2.0, 1.0), jnp.float32)}}
    after = {"layer": {"kernel": jnp.asarray(make(1.0, 1.5), jnp.float32)}}
    state = sx.sn_init(before)
    step = jax.jit(sx.sn_apply)
    for _ in range(200):  # as converged as it gets: nothing left on the second block
        _, state = step(before, state)
    for _ in range(24):
        after_sn, state = step(after, state)
    assert norm(np.asarray(after_sn["layer"]["kernel"], np.float64)) <= 1.001


def test_n6_u_leaves_the_null_space():
    kernel = jnp.asarray(np.diag([0.0, 1.0, 0.7, 0.5]), jnp.float32)
    state = {"u": jnp.eye(4)[0], "u2": jnp.zeros(4), "sigma": jnp.float32(1.0)}
    state = {"layer": {"kernel": state}}
    params = {"layer": {"kernel": kernel}}
    step = jax.jit(sx.sn_apply)
    for _ in range(40):
        params_sn, state = step(params, state)
    assert abs(norm(np.asarray(params_sn["layer"]["kernel"], np.float64)) - 1) < 1e-3


# N7: gradient

DECAY = np.array([1.0, 0.97, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05])


def converged(case: Case, sn: sx.SpectralNorm, params, steps: int = 60):
    state = sn.init(params)
    step = jax.jit(
        lambda s: jax.lax.fori_loop(0, steps, lambda _, s: sn.apply(params, s)[1], s)
    )
    return step(state)


def square_sum(tree):
    return sum(
        jnp.sum(jnp.sin(x.astype(jnp.float32)) ** 2) for x in jax.tree.leaves(tree)
    )


@pytest.mark.parametrize("bound", [1.0, 0.7])
@pytest.mark.parametrize("shape", [(30, 12), (12, 30), (3, 3, 4, 12)], ids=str)
def test_n7_gradient_is_miyatos_and_the_svds(shape, bound):
    matrix = designed(int(np.prod(shape[:-1])), shape[-1], DECAY)
    params = {"layer": {"kernel": jnp.asarray(matrix.reshape(shape) * 3, jnp.float32)}}
    cotangent = np.random.default_rng(5).standard_normal(shape)
    sn = sx.spectral_norm(bound=bound)
    state = converged(CASES[0], sn, params, 400)

    def loss(p):
        kernel = sn.apply(p, state)[0]["layer"]["kernel"]
        return jnp.sum(kernel * jnp.asarray(cotangent, jnp.float32))

    got = np.asarray(jax.grad(loss)(params)["layer"]["kernel"], np.float64)
    # dL/dW = bound (G - <G, W/sigma> v u^T) / sigma with the SVD's sigma, v, u.
    w = np.asarray(params["layer"]["kernel"], np.float64)
    left, s, right = np.linalg.svd(rows(w), full_matrices=False)
    pair = np.outer(left[:, 0], right[0]).reshape(shape)
    want = bound * (cotangent - np.sum(cotangent * w / s[0]) * pair) / s[0]
    np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())
    assert abs(np.sum(got * w)) <= 1e-5 * np.linalg.norm(got) * np.linalg.norm(w)


@few_cases
def test_n7_gradient_is_orthogonal_to_the_kernel_at_a_cold_u(case):
    sn, params = functions(case), case.make()
    state = sn.init(params, jax.random.key(1))
    cold = jax.tree.map(
        lambda x: x + 0.5 * np.cos(np.arange(x.size, dtype="f4")).reshape(x.shape),
        jax.device_get(state),
    )
    grads = gradient(case)(params, jax.device_put(cold))
    kernels, slopes = case.matrices(params), case.matrices(grads)
    for path in case.views:
        inner = np.sum(kernels[path] * slopes[path], axis=(-2, -1))
        size = np.linalg.norm(kernels[path]) * np.linalg.norm(slopes[path])
        np.testing.assert_allclose(inner / size, 0.0, atol=1e-6, err_msg=path)


@few_cases
def test_n7_forward_mode_agrees_with_reverse_mode(case):
    sn, params = functions(case), case.make()
    state = sn.init(params)
    direction = jax.tree.map(np.cos, params)

    def loss(p):
        return square_sum(sn.apply(p, state)[0])

    slope, tangent = gradient(case)(params, state), direction
    reverse = sum(
        np.vdot(g, t)
        for g, t in zip(jax.tree.leaves(slope), jax.tree.leaves(tangent), strict=True)
    )
    forward = jax.jit(lambda p, t: jax.jvp(loss, (p,), (t,))[1])(params, direction)
    np.testing.assert_allclose(forward, reverse, rtol=2e-4, atol=1e-5)


def test_n7_hessian_is_symmetric_and_that_of_constant_u_and_v():
    kernel = jnp.asarray(designed(5, 4, DECAY[:4]) * 2, jnp.float32)
    state = converged(CASES[0], sx.spectral_norm(), {"layer": {"kernel": kernel}})
    u = np.asarray(state["layer"]["kernel"]["u"], np.float64)
    weights = jnp.cos(jnp.arange(20.0)).reshape(5, 4)

    def loss(w):
        params_sn, _ = sx.sn_apply({"layer": {"kernel": w}}, state)
        return jnp.sum(weights * params_sn["layer"]["kernel"] ** 2)

    # u and v as the step leaves them, from numpy; sigma(W) = v W u with both constant.
    w64 = np.asarray(kernel, np.float64)
    v = w64 @ u / np.linalg.norm(w64 @ u)
    u = v @ w64 / np.linalg.norm(v @ w64)

    def reference(w):
        sigma = jnp.asarray(v, jnp.float32) @ w @ jnp.asarray(u, jnp.float32)
        return jnp.sum(weights * (w / sigma) ** 2)

    got = np.asarray(jax.jit(jax.hessian(loss))(kernel)).reshape(20, 20)
    want = np.asarray(jax.jit(jax.hessian(reference))(kernel)).reshape(20, 20)
    np.testing.assert_allclose(got, got.T, atol=1e-5 * np.abs(got).max())
    np.testing.assert_allclose(got, want, atol=1e-4 * np.abs(want).max())


@pytest.mark.parametrize("penalty", ["r1", "wgan_gp"])
def test_n7_double_backward_of_gradient_penalties(penalty):
    model = nn.Sequential([nn.Dense(16), nn.tanh, nn.Dense(1)])
    x = jax.random.normal(jax.random.key(0), (6, 8))
    params = model.init(jax.random.key(1), x)["params"]
    state = converged(CASES[0], sx.spectral_norm(), params, 100)

    def with_sigma(p):
        return sx.sn_apply(p, state)[0]

    def reference(p):
        # u and v constant: the SVD's pair held fixed.
        def one(kernel):
            left, _, right = jnp.linalg.svd(jax.lax.stop_gradient(kernel))
            return kernel / (left[:, 0] @ kernel @ right[0])

        return {k: {**v, "kernel": one(v["kernel"])} for k, v in p.items()}

    def loss(p, normalize):
        def critic(one):
            return model.apply({"params": normalize(p)}, one[None])[0, 0]

        slopes = jax.vmap(jax.grad(critic))(x)
        squares = jnp.sum(slopes**2, axis=-1)
        if penalty == "r1":
            return squares.mean()
        return jnp.mean((jnp.sqrt(squares) - 1) ** 2)

    got = jax.jit(jax.grad(lambda p: loss(p, with_sigma)))(params)
    want = jax.jit(jax.grad(lambda p: loss(p, reference)))(params)
    chex.assert_trees_all_close(got, want, rtol=1e-3, atol=1e-5)


def test_n7_stopped_sigma():
    params = {"layer": {"kernel": jnp.asarray(designed(9, 6, DECAY[:6]), jnp.float32)}}
    state = sx.sn_init(params)
    sigma = state["layer"]["kernel"]["sigma"]

    def loss(p):
        out, _ = sx.sn_apply(p, state, grad_sigma=False)
        return out["layer"]["kernel"].sum()

    got = jax.grad(loss)(params)["layer"]["kernel"]
    np.testing.assert_allclose(got, np.full((9, 6), 1 / sigma), rtol=1e-4)


# N8: dtypes


DTYPES = {"float32": 1e-5, "bfloat16": 1e-2, "float16": 2e-3}


@pytest.mark.parametrize("dtype", sampled(["float32", "bfloat16"], ["bfloat16"]))
@few_cases
def test_n8_result_in_the_kernels_dtype_state_in_float32(case, dtype):
    assert_dtypes(case, dtype)


@exhaustive
@some_cases
def test_n8_float16(case):
    assert_dtypes(case, "float16")


def assert_dtypes(case, dtype):
    sn = functions(case)
    params = jax.tree.map(lambda x: x.astype(dtype), case.make())
    state = sn.init(params)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state)} == {"float32"}
    params_sn, after = sn.apply(params, state)
    chex.assert_trees_all_equal_dtypes((params, state), (params_sn, after))
    assert_norms(case, params_sn, rtol=DTYPES[dtype])


def test_n8_float64():
    with enable_x64():
        matrix = designed(40, 12, DECAY)
        params = {"layer": {"kernel": jnp.asarray(matrix)}}
        state = sx.sn_init(params)
        assert {x.dtype.name for x in jax.tree.leaves(state)} == {"float64"}
        step = jax.jit(sx.sn_apply)
        for _ in range(400):
            params_sn, state = step(params, state)
        got = norm(np.asarray(params_sn["layer"]["kernel"]))
    assert abs(got - 1) < 1e-10


def test_n8_complex64():
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((40, 24)) + 1j * rng.standard_normal((40, 24))
    params = {"layer": {"kernel": jnp.asarray(matrix, jnp.complex64)}}
    state = sx.sn_init(params)
    entry = state["layer"]["kernel"]
    assert (entry["u"].dtype, entry["sigma"].dtype) == (jnp.complex64, jnp.float32)
    np.testing.assert_allclose(entry["sigma"], norm(matrix), rtol=1e-4)
    params_sn, after = sx.sn_apply(params, state)
    assert abs(norm(np.asarray(params_sn["layer"]["kernel"])) - 1) < 1e-4
    chex.assert_trees_all_equal_dtypes((params, state), (params_sn, after))


def test_n8_complex64_gradient_is_the_svds():
    rng = np.random.default_rng(1)
    matrix = rng.standard_normal((9, 6)) + 1j * rng.standard_normal((9, 6))
    kernel = jnp.asarray(matrix, jnp.complex64)
    state = converged(CASES[0], sx.spectral_norm(), {"layer": {"kernel": kernel}}, 300)
    direction = jnp.asarray(np.exp(1j * np.arange(54.0)).reshape(9, 6), jnp.complex64)

    def got(t):
        out, _ = sx.sn_apply({"layer": {"kernel": kernel + t * direction}}, state)
        return jnp.abs(out["layer"]["kernel"] + 1) ** 2

    def want(t):
        moved = np.asarray(kernel, complex) + t * np.asarray(direction, complex)
        return np.abs(moved / norm(moved) + 1) ** 2

    step = 1e-5
    slope = (want(step) - want(-step)) / (2 * step)
    tangent = jax.jvp(got, (jnp.float32(0),), (jnp.float32(1),))[1]
    np.testing.assert_allclose(tangent, slope, atol=1e-4 * np.abs(slope).max())


def test_n8_complex64_gradient_at_a_cold_u_holds_u_and_v():
    # Far from the singular vectors v is made of two, with complex weights.
    rng = np.random.default_rng(2)
    kernel, direction, pair = (
        jnp.asarray(rng.standard_normal(s) + 1j * rng.standard_normal(s), jnp.complex64)
        for s in ((9, 6), (9, 6), (2, 6))
    )
    found = sx.power_iteration(kernel, *pair)
    entry = {"u": pair[0], "u2": pair[1], "sigma": jnp.float32(1)}

    def got(t):
        moved = {"layer": {"kernel": kernel + t * direction}}
        return sx.sn_apply(moved, {"layer": {"kernel": entry}})[0]["layer"]["kernel"]

    v, u, sigma = (np.asarray(x, complex) for x in (found.v, found.u, found.sigma))
    w, dw = np.asarray(kernel, complex), np.asarray(direction, complex)
    want = dw / sigma - w / sigma**2 * (v.conj() @ dw.conj() @ u).real
    want_of_w = w / sigma
    value, tangent = jax.jvp(got, (jnp.float32(0),), (jnp.float32(1),))
    np.testing.assert_allclose(value, want_of_w, atol=1e-5)
    np.testing.assert_allclose(tangent, want, atol=1e-5)


@pytest.mark.skipif(
    jax.__version_info__ < (0, 10),
    reason="the CPU compiler of jaxlib 0.8.1 keeps a float32 copy, barrier or not",
)
def test_n8_a_bfloat16_kernel_is_never_a_float32_array_in_memory():
    params = {"layer": {"kernel": jnp.ones((512, 768), jnp.bfloat16)}}
    compiled = jax.jit(sx.sn_apply).lower(params, sx.sn_init(params)).compile()
    wide = 4 * 512 * 768
    assert compiled.memory_analysis().temp_size_in_bytes < wide // 8
    fuse = jax.jit(sx.sn_fuse).lower(params, sx.sn_init(params)).compile()
    assert fuse.memory_analysis().temp_size_in_bytes < wide // 2  # the Krylov basis


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_n8_half_precision_is_of_the_storage_only(dtype):
    kernel = jnp.asarray(designed(300, 200, 3.3 * 0.9 ** np.arange(200.0)), dtype)
    params = {"layer": {"kernel": kernel}}
    stored = np.asarray(kernel, np.float64)
    true = norm(stored)
    params_sn, after = sx.sn_apply(params, sx.sn_init(params))
    np.testing.assert_allclose(after["layer"]["kernel"]["sigma"], true, rtol=1e-5)
    # Rounded once: the product with 1 / sigma in float32 and not in the kernel's dtype.
    want = np.asarray(jnp.asarray(stored / true, jnp.float32).astype(dtype), np.float64)
    got = np.asarray(params_sn["layer"]["kernel"], np.float64)
    assert np.mean(got == want) > 0.99


def test_n8_state_of_narrow_kernels_stays_float32_when_float64_is_enabled():
    with enable_x64():
        for dtype in (jnp.bfloat16, jnp.float16, jnp.float32):
            kernel = jnp.asarray(designed(9, 6, DECAY[:6]), dtype)
            params = {"layer": {"kernel": kernel}}
            state = sx.sn_init(params)
            params_sn, after = jax.jit(sx.sn_apply)(params, state)
            chex.assert_trees_all_equal_dtypes((params, state), (params_sn, after))
            assert {x.dtype.name for x in jax.tree.leaves(state)} == {"float32"}


# N9: fixed point


_LISTENING: list[list[str]] = []


def _listen(event: str, duration: float, **_) -> None:
    del duration
    if event == "/jax/core/compile/backend_compile_duration":
        for seen in _LISTENING:
            seen.append(event)


jax.monitoring.register_event_duration_secs_listener(_listen)


@contextlib.contextmanager
def compilations():
    """Yields a list that grows by one entry with each compilation by the backend."""
    seen: list[str] = []
    _LISTENING.append(seen)
    try:
        yield seen
    finally:
        _LISTENING[:] = [other for other in _LISTENING if other is not seen]


@every_case
def test_n9_types_shapes_and_tree_are_a_fixed_point(case):
    sn, params = functions(case), case.make()
    state = sn.init(params)
    params_sn, after = sn.apply(params, state)
    for before, now in ((params, params_sn), (state, after)):
        assert jax.tree.structure(before) == jax.tree.structure(now)
        assert jax.tree.map(jax.typeof, before) == jax.tree.map(jax.typeof, now)


@every_case
def test_n9_second_call_does_not_compile(case):
    sn, params = functions(case), case.make()
    state = sn.init(params)
    _, state = sn.apply(params, state)
    with compilations() as compiled:
        for _ in range(3):
            _, state = sn.apply(params, state)
    assert not compiled


def test_n9_second_call_outside_of_jit_does_not_compile():
    params = {"layer": {"kernel": jnp.asarray(designed(9, 6, DECAY[:6]), jnp.float32)}}
    _, state = sx.sn_apply(params, sx.sn_init(params))
    with compilations() as compiled:
        for bound in (0.5, 1.0, 2.0):
            sx.sn_apply(params, state, bound=bound)
    assert not compiled


def test_n9_the_count_of_compilations_counts():
    with compilations() as compiled:
        jax.jit(lambda x: jnp.sin(x) + 7)(jnp.ones(3))
    assert compiled


@few_cases
def test_n9_transformations_give_what_the_plain_call_gives(case):
    sn, params = functions(case), case.make()
    state = sn.init(params)
    want = sn.apply(params, state)
    close = functools.partial(chex.assert_trees_all_close, rtol=1e-5, atol=1e-6)
    if case.name == "dense":  # op by op
        close(sx.sn_apply(params, state), want)
    close(jax.checkpoint(sn.apply)(params, state), want)
    shapes = jax.eval_shape(sn.apply, params, state)
    chex.assert_trees_all_equal_shapes_and_dtypes(shapes, want)

    twice = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), params)
    states = jax.vmap(sn.init)(twice)
    got, _ = jax.vmap(sn.apply)(twice, states)
    close(jax.tree.map(lambda x: x[0], got), want[0])
    assert_norms(case, jax.tree.map(lambda x: x[1], got))


@few_cases
def test_n9_scan_carries_the_state(case):
    sn, params = functions(case), case.make()
    state = sn.init(params)

    def step(state, _):
        params_sn, state = sn.apply(params, state)
        return state, square_sum(params_sn)

    after, _ = jax.lax.scan(step, state, length=5)
    for _ in range(5):
        _, state = sn.apply(params, state)
    chex.assert_trees_all_close(after, state, rtol=1e-5, atol=1e-6)


@few_cases
def test_n9_pmap_gives_every_replica_the_same_bits(case):
    sn, params = functions(case), case.make()
    state = sn.init(params)
    devices = jax.devices()[:4]
    n = len(devices)
    assert n == 4
    copies, states = jax.tree.map(lambda x: np.stack([x] * n), (params, state))
    apply = jax.pmap(sn.apply, devices=devices)
    for _ in range(3):
        params_sn, states = apply(copies, states)
    out = jax.device_get((params_sn, states))
    for leaf in jax.tree.leaves(out):
        np.testing.assert_array_equal(leaf, np.stack([leaf[0]] * n))
    assert_norms(case, jax.tree.map(lambda x: x[0], out[0]))


def test_n9_donated_buffers():
    # Rows of zeros: the state is small enough that only donation explains deletion.
    params = {"layer": {"kernel": jnp.asarray(designed(24, 12, DECAY), jnp.float32)}}
    state = sx.sn_init(params)
    want = jax.tree.map(np.asarray, sx.sn_apply(params, state))
    step = jax.jit(sx.sn_apply, donate_argnums=(0, 1))
    given = jax.tree.map(jnp.copy, (params, state))
    got = step(*given)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(given[0]))
    chex.assert_trees_all_close(got, want, rtol=1e-6)


@few_cases
def test_n9_strict_promotion(case):
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), case.make())
    sn = functions(case, bound=0.5, cap=True)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        state = sn.init(params)
        params_sn, _ = jax.jit(sn.apply)(params, state)
        assert jax.tree.structure(sn.fuse(params, state)) == jax.tree.structure(params)
    assert_norms(case, params_sn, bound=0.5, rtol=1e-2)


# N10: eval is pure


@every_case
def test_n10_eval_returns_the_state_and_agrees_with_itself_bit_for_bit(case):
    sn, params = functions(case), case.make()
    state = sn.init(params)
    one, after = sn.apply(params, state, update_stats=False)
    two, _ = sn.apply(params, after, update_stats=False)
    _, after_others = sn.apply(scaled(case, params, 2), state, update_stats=False)
    chex.assert_trees_all_equal(after, state)
    chex.assert_trees_all_equal(after_others, state)
    chex.assert_trees_all_equal(one, two)
    assert_norms(case, one)


def test_n10_eval_reads_each_kernel_once():
    shape = (3, 3, 64, 96)
    params = {"layer": {"kernel": jnp.ones(shape)}}
    state = sx.sn_init(params)

    def reads(update):
        apply = functools.partial(sx.sn_apply, update_stats=update)
        kernel = "x".join(map(str, shape))
        return sorted(
            users(operations(trace(apply, params, state)), f"tensor<{kernel}xf32>")
        )

    # In training two products, each of a pair of vectors, in evaluation one; and the
    # rescaling.
    product, rescaling = "stablehlo.dot_general", "stablehlo.multiply"
    assert reads(True) == [product, product, rescaling]
    assert reads(False) == [product, rescaling]


def test_n10_eval_uses_u_as_it_is():
    params = {"layer": {"kernel": jnp.asarray(designed(9, 6, DECAY[:6]), jnp.float32)}}
    u = jnp.asarray(np.random.default_rng(0).standard_normal(6), jnp.float32)
    u = u / jnp.linalg.norm(u)
    entry = {"u": u, "u2": jnp.ones(6), "sigma": jnp.float32(1)}
    state = {"layer": {"kernel": entry}}
    got, _ = sx.sn_apply(params, state, update_stats=False)
    w = np.asarray(params["layer"]["kernel"], np.float64)
    want = w / np.linalg.norm(w @ np.asarray(u, np.float64))
    np.testing.assert_allclose(got["layer"]["kernel"], want, rtol=1e-5)


# N11: other weights, old u


@few_cases
def test_n11_fuse_converges_on_these_very_params(case):
    sn, params = functions(case, bound=0.8), case.make()
    state = sn.init(params)
    rng = np.random.default_rng(4)
    other = jax.tree.map(
        lambda x: jnp.asarray(rng.standard_normal(x.shape), x.dtype), params
    )
    for given in (other, params):
        assert_norms(case, sn.fuse(given, state), bound=0.8)


@pytest.mark.parametrize("make", [blocks, permuted], ids=lambda f: f.__name__)
def test_n11_fuse_with_a_state_that_is_blind_to_these_params(make):
    before = {"layer": {"kernel": jnp.asarray(make(2.0, 1.0), jnp.float32)}}
    after = {"layer": {"kernel": jnp.asarray(make(1.0, 1.01), jnp.float32)}}
    fused = sx.sn_fuse(after, sx.sn_init(before))
    assert abs(norm(np.asarray(fused["layer"]["kernel"], np.float64)) - 1) <= 1e-3


def test_n11_fuse_with_a_cap_leaves_a_kernel_below_the_bound():
    matrix = designed(9, 6, DECAY[:6])  # of norm 1
    params = {"layer": {"kernel": jnp.asarray(matrix, jnp.float32)}}
    state = sx.sn_init(params)
    for bound, want in ((3.0, 1.0), (0.5, 0.5)):
        fused = sx.sn_fuse(params, state, bound=bound, cap=True)
        got = norm(np.asarray(fused["layer"]["kernel"], np.float64))
        np.testing.assert_allclose(got, want, rtol=1e-3)
    same = sx.sn_fuse(params, state, bound=3.0, cap=True)
    chex.assert_trees_all_equal(same, params)


# N12: what is not a kernel


def leaves(tree) -> dict[str, np.ndarray]:
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {name(path): np.asarray(leaf) for path, leaf in flat}


@whole_table
def test_n12_what_is_not_a_kernel_is_bit_equal_and_has_no_state(case):
    sn, params = functions(case), case.make()
    state = sn.init(params)
    assert_others_are_equal(case, sn.apply(params, state, update_stats=False)[0])
    owners = {path.rsplit("/", 1)[0] for path in leaves(state)}
    assert owners == set(case.views)


@few_cases
def test_n12_in_training_and_after_it(case):
    sn, params = functions(case), case.make()
    state = sn.init(params)
    assert_others_are_equal(case, sn.apply(params, state)[0])
    assert_others_are_equal(case, functions(case, bound=0.8).fuse(params, state))


def assert_others_are_equal(case, after):
    for path, before in leaves(case.make()).items():
        if path not in case.views:
            np.testing.assert_array_equal(leaves(after)[path], before)


# N13: a batch is independent


STACKS = [
    case for case in CASES if case.name in ("scan_stack", "vmap_stack", "experts")
]


@pytest.mark.parametrize("case", STACKS, ids=lambda case: case.name)
def test_n13_each_slice_of_a_stack_has_its_own_u_and_sigma(case):
    sn, params = functions(case), case.make()
    path = next(iter(case.views))
    scales = jnp.asarray([1e-6, 1.0, 1e6, 0.0, 3.0])

    def scale(p, leaf):
        if name(p) not in case.views:
            return leaf
        s = scales[: leaf.shape[0]]
        return leaf * s.reshape(-1, *[1] * (leaf.ndim - 1))

    params = jax.tree_util.tree_map_with_path(scale, params)
    state = sn.init(params)
    got = case.norms(sn.apply(params, state)[0])[path]
    want = np.where(np.asarray(scales[: len(got)]) == 0, 0.0, 1.0)
    np.testing.assert_allclose(got, want, rtol=1e-3)


def test_n13_two_batch_axes_anywhere():
    kernel = jax.random.normal(jax.random.key(0), (3, 7, 4, 5))
    kernels = {".*": sx.Matrix(in_axis=1, out_axis=3, batch_axis=(0, 2))}
    state = sx.sn_init({"w": kernel}, kernels=kernels)
    assert state["w"]["u"].shape == (3, 4, 5)
    params_sn, _ = sx.sn_apply({"w": kernel}, state, kernels=kernels)
    moved = np.moveaxis(np.asarray(params_sn["w"], np.float64), 2, 1)
    np.testing.assert_allclose(norm(moved), np.ones((3, 4)), rtol=1e-3)


# N14 is in test_linen.py: it is about the wrapper.


# The options


def test_init_with_a_key_starts_elsewhere_and_ends_at_the_same_sigma():
    # A tie of the two leading values: u is any unit vector of their plane.
    matrix = designed(9, 6, np.array([2.0, 2.0, 1.0, 0.7, 0.5, 0.1]))
    params = {"layer": {"kernel": jnp.asarray(matrix, jnp.float32)}}
    keys = (None, jax.random.key(0), jax.random.key(0), jax.random.key(1))
    entries = [sx.sn_init(params, key=key)["layer"]["kernel"] for key in keys]
    for entry in entries:
        np.testing.assert_allclose(entry["sigma"], 2, rtol=1e-5)
    fixed, one, same, other = (np.asarray(entry["u"]) for entry in entries)
    np.testing.assert_array_equal(one, same)
    assert min(abs(a - b).max() for a, b in ((fixed, one), (one, other))) > 1e-2


@pytest.mark.parametrize("bound", [0.5, 100.0])
def test_options_that_are_bound_are_those_of_the_functions(bound):
    draw = jax.random.normal
    params = {"Dense_0": {"kernel": draw(jax.random.key(0), (9, 6))}}
    other = {"Dense_0": {"kernel": draw(jax.random.key(1), (9, 6))}}
    options = {"kernels": {".*/kernel": sx.Matrix(out_axis=0)}, "bound": bound}
    steps = {"n_steps": 3, "grad_sigma": False}
    sn = sx.spectral_norm(**options, **steps, cap=True)
    same = functools.partial(jax.tree.map, np.testing.assert_array_equal)
    rule, key = {"kernels": options["kernels"]}, jax.random.key(2)
    state = sn.init(params, key)
    same(state, sx.sn_init(params, key=key, **rule))
    same(sn.init(params), sx.sn_init(params, **rule))
    same(sn.fuse(other, state), sx.sn_fuse(other, state, cap=True, **options))
    for update_stats in (True, False):
        want = functools.partial(
            sx.sn_apply, update_stats=update_stats, cap=True, **options, **steps
        )
        got = functools.partial(sn.apply, update_stats=update_stats)
        same(got(other, state), want(other, state))
        slopes = (
            jax.grad(lambda p, f=f: jnp.sum(f(p, state)[0]["Dense_0"]["kernel"] ** 3))
            for f in (got, want)
        )
        same(*(slope(other) for slope in slopes))


@some_cases
def test_bound_and_cap(case):
    params = case.make()
    state = functions(case).init(params)

    def capped(bound):  # outside of jit one program serves every bound
        options = {"kernels": case.kernels, "bound": bound, "cap": True}
        return sx.sn_apply(params, state, **options)[0]

    for bound in (0.5, 100.0):
        got = case.norms(capped(bound))
        for path, before in case.norms(params).items():
            np.testing.assert_allclose(got[path], np.minimum(before, bound), rtol=1e-3)
    chex.assert_trees_all_equal(capped(1e3), params)


@pytest.mark.parametrize("n_kernels", [1, 2])
@pytest.mark.parametrize("cap", [False, True])
def test_derivatives_in_kernel_and_bound(cap, n_kernels):
    # Of a kernel of norm 1: W b / s below the bound's cap, W itself above it.
    rng = np.random.default_rng(0)
    w, dw = designed(9, 6, DECAY[:6]), rng.standard_normal((9, 6))
    left, _, right = np.linalg.svd(w)
    d_sigma = left[:, 0] @ dw @ right[0]
    names = [f"layer_{i}" for i in range(n_kernels)]
    params, tangents = (
        {name: {"kernel": jnp.asarray(x, jnp.float32)} for name in names}
        for x in (w, dw)
    )
    state = sx.sn_init(params)

    @jax.jit
    def apply(params, bound):
        return sx.sn_apply(params, state, bound=bound, cap=cap)[0]

    for bound in (0.5, 2.0):
        primals, rates = (params, jnp.float32(bound)), (tangents, jnp.float32(1))
        _, got = jax.jvp(apply, primals, rates)
        want = bound * (dw - w * d_sigma) + w
        if cap and bound > 1:
            want = dw
        for name in names:
            np.testing.assert_allclose(got[name]["kernel"], want, atol=2e-3)


def test_bound_may_be_traced():
    params = {"layer": {"kernel": jnp.asarray(designed(9, 6, DECAY[:6]), jnp.float32)}}
    state = sx.sn_init(params)
    apply = jax.jit(lambda b: sx.sn_apply(params, state, bound=b)[0])
    got = [
        norm(np.asarray(apply(b)["layer"]["kernel"], np.float64)) for b in (0.5, 2.0)
    ]
    np.testing.assert_allclose(got, [0.5, 2.0], rtol=1e-3)


@pytest.mark.parametrize("second", [False, True], ids=["one vector", "two vectors"])
@pytest.mark.parametrize("n_steps", [1, 2, 5])
def test_n_steps_are_power_steps(n_steps, second):
    matrix = designed(12, 9, np.linspace(1, 0.3, 9))
    params = {"layer": {"kernel": jnp.asarray(matrix, jnp.float32)}}
    u, u2 = np.ones(9) / 3, np.eye(9)[2] if second else None
    entry = {"u": u, "u2": np.eye(9)[2] if second else np.zeros(9), "sigma": 0}
    state = {"layer": {"kernel": jax.tree.map(jnp.float32, entry)}}
    _, after = sx.sn_apply(params, state, n_steps=n_steps)
    u, sigma = power_steps(matrix, u, n_steps, u2)
    if second or n_steps == 1:
        assert_same_line(after["layer"]["kernel"]["u"], u, 1e-3)
        # The push of u2 is not in the reference.
        np.testing.assert_allclose(after["layer"]["kernel"]["sigma"], sigma, rtol=1e-4)
    else:  # from the second step on there are two vectors, and they are better
        assert sigma < after["layer"]["kernel"]["sigma"] <= 1 + 1e-6


def test_a_whole_nnx_model_with_the_functions_alone():
    model = nnx.Sequential(
        nnx.Linear(8, 16, rngs=nnx.Rngs(0)),
        nnx.tanh,
        nnx.Linear(16, 3, rngs=nnx.Rngs(1)),
    )
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    params_sn, _ = sx.sn_apply(params, sx.sn_init(params))
    normalized = nnx.merge(graphdef, params_sn, rest)
    for layer in (normalized.layers[0], normalized.layers[2]):
        np.testing.assert_allclose(
            norm(np.asarray(layer.kernel[...], np.float64)), 1, rtol=1e-3
        )
    x = jnp.ones((2, 8))
    assert not np.allclose(model(x), normalized(x))
