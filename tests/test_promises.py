"""Promises over the product of the options that they serve, not at one point of it.

One stack holds a kernel of each kind: what is promised for one must not depend on its
neighbors either. The oracle is a float64 SVD.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import specjax as sx
from specjax import constraints
from tests.cases import designed

N_IN, N_OUT, BOUND = 5, 4, 1.5
SPECTRUM = np.array([1.0, 0.6, 0.3, 0.1])
KINDS = {
    "good": 3.0 * designed(N_IN, N_OUT, SPECTRUM, seed=1),
    "zero": np.zeros((N_IN, N_OUT)),
    "below the bound": 0.7 * designed(N_IN, N_OUT, SPECTRUM, seed=2),
    "rank one": np.outer(np.arange(1.0, 6), np.arange(2.0, 6)),
    "tiny": 1e-9 * designed(N_IN, N_OUT, SPECTRUM, seed=3),
    "large": 1e9 * designed(N_IN, N_OUT, SPECTRUM, seed=4),
}
FINITE = np.float32(list(KINDS.values()))
# And two that are not finite, between the others.
NAN, INFINITE = 1, 4
POISONED = np.insert(FINITE, [1, 3], 1.0, axis=0)
POISONED[NAN, 2, 1], POISONED[INFINITE, 0, 0] = np.nan, np.inf
GOOD = [i for i in range(len(POISONED)) if i not in (NAN, INFINITE)]
WEIGHTS = np.random.default_rng(0).standard_normal((N_IN, N_OUT))
STACK = {"kernels": {".*": sx.Matrix(batch_axis=0)}}

# (update_stats, n_steps): in evaluation n_steps has no part, and must have none.
steps = pytest.mark.parametrize(
    ("update_stats", "n_steps"), [(True, 0), (True, 1), (True, 2), (False, 2)]
)


def wanted(kernel, cap, grad_sigma):
    """Returns W bound / sigma of one kernel, and the derivatives of <C, it>.

    In the kernel and in the bound.
    """
    kernel = kernel.astype(np.float64)
    left, values, right = np.linalg.svd(kernel)
    if values[0] == 0 or (cap and values[0] <= BOUND):
        return kernel, WEIGHTS, 0.0
    scale, inner = BOUND / values[0], np.sum(WEIGHTS * kernel)
    slope = scale * WEIGHTS
    if grad_sigma:
        pair = np.outer(left[:, 0], right[0])
        slope = slope - scale * inner / values[0] * pair
    return scale * kernel, slope, inner / values[0]


def applied(kernels, state, bound, **options):
    return sx.sn_apply({"w": kernels}, state, bound=bound, **STACK, **options)


@steps
@pytest.mark.parametrize("cap", [False, True])
@pytest.mark.parametrize("grad_sigma", [False, True])
def test_value_and_gradient_of_every_kind_of_kernel(
    update_stats, n_steps, cap, grad_sigma
):
    options = {
        "update_stats": update_stats,
        "n_steps": n_steps,
        "cap": cap,
        "grad_sigma": grad_sigma,
    }
    assert_every_kind(options, state=sx.sn_init({"w": FINITE}, **STACK), rtol=1e-5)


@pytest.mark.parametrize("cap", [False, True])
@pytest.mark.parametrize("grad_sigma", [False, True])
def test_value_and_gradient_of_every_kind_under_a_proved_bound(cap, grad_sigma):
    options = {"method": "upper", "cap": cap, "grad_sigma": grad_sigma}
    assert_every_kind(options, state={}, rtol=2e-3)


def assert_every_kind(options, state, rtol):
    def total(kernels, bound):
        used, _ = applied(kernels, state, bound, **options)
        return jnp.sum(used["w"] * WEIGHTS), used["w"]

    slope = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))
    (slopes, in_bound), used = slope(jnp.asarray(FINITE), jnp.float32(BOUND))
    total_in_bound = 0.0
    for kernel, got, got_slope in zip(FINITE, used, slopes, strict=True):
        value, want, rate = wanted(kernel, options["cap"], options["grad_sigma"])
        total_in_bound += rate
        np.testing.assert_allclose(got, value, atol=rtol * np.abs(value).max())
        # Where the terms cancel, the rounding is theirs.
        size = np.abs(want).max() + np.abs(got_slope).max()
        np.testing.assert_allclose(got_slope, want, atol=10 * rtol * size)
    np.testing.assert_allclose(in_bound, total_in_bound, rtol=10 * rtol)


@steps
def test_a_kernel_that_is_not_finite_is_alone(update_stats, n_steps):
    # Its neighbors get what they get without it; it comes back, and so does its state.
    state = sx.sn_init({"w": jnp.where(np.isfinite(POISONED), POISONED, 1.0)}, **STACK)
    options = {"update_stats": update_stats, "n_steps": n_steps}

    @jax.jit
    def run(kernels):
        def total(kernels):
            used, after = applied(kernels, state, BOUND, **options)
            return jnp.sum(jnp.where(jnp.isfinite(used["w"]), used["w"], 0)), (
                used["w"],
                after["w"],
            )

        return jax.grad(total, has_aux=True)(kernels)

    slopes, (used, after) = run(jnp.asarray(POISONED))
    clean = jnp.asarray(POISONED).at[jnp.array([NAN, INFINITE])].set(1.0)
    want_slopes, (want_used, want_after) = run(clean)
    for got, want in ((slopes, want_slopes), (used, want_used)):
        np.testing.assert_array_equal(got[np.array(GOOD)], want[np.array(GOOD)])
    for bad in (NAN, INFINITE):
        np.testing.assert_array_equal(used[bad], POISONED[bad])
    for name, entry in after.items():
        np.testing.assert_array_equal(
            entry[np.array(GOOD)], want_after[name][np.array(GOOD)]
        )
        for bad in (NAN, INFINITE):
            np.testing.assert_array_equal(entry[bad], state["w"][name][bad])
    if not update_stats:
        jax.tree.map(np.testing.assert_array_equal, after, state["w"])


def reparametrized(kernels, **options):
    """`sr_apply`, as a function of v."""
    split, state = constraints.sr_init({"w": kernels}, **STACK)
    split = {"g": jax.lax.stop_gradient(split["g"]), "v": {"w": kernels}}
    return constraints.sr_apply(split, state, **STACK, **options)[0]["w"]


def both_ways(kernels, **options):
    rules = {**STACK, "backward": STACK["kernels"]}
    state = constraints.bsn_init({"w": kernels}, **rules)
    return constraints.bsn_apply({"w": kernels}, state, **rules, **options)[0]["w"]


def penalty(kernels, **options):
    state = sx.sn_init({"w": kernels}, **STACK)
    return constraints.spectral_penalty({"w": kernels}, state, **STACK, **options)[0]


def normalized(kernels, **options):
    return applied(kernels, sx.sn_init({"w": kernels}, **STACK), 1.0, **options)[0]["w"]


@pytest.mark.parametrize(
    ("function", "update_stats", "n_steps"),
    [
        (normalized, True, 0),
        (normalized, True, 2),
        (reparametrized, True, 1),
        (both_ways, True, 1),
        (penalty, True, 1),
        *(
            (each, False, 1)
            for each in (normalized, reparametrized, both_ways, penalty)
        ),
    ],
)
def test_derivatives_at_a_zero_kernel_are_finite(function, update_stats, n_steps):
    assert_finite_derivatives(
        functools.partial(function, update_stats=update_stats, n_steps=n_steps)
    )


@pytest.mark.parametrize("norm", ["estimate", "upper"])
def test_derivatives_of_fused_params_at_a_zero_kernel_are_finite(norm):
    def fused(kernels):
        state = {} if norm == "upper" else sx.sn_init({"w": kernels}, **STACK)
        return sx.sn_fuse({"w": kernels}, state, method=norm, **STACK)["w"]

    assert_finite_derivatives(fused)


def assert_finite_derivatives(function):
    """Asserts it for the first and the second one, in reverse and forward mode."""
    kernels = jnp.asarray(FINITE[:3])
    slope = jax.grad(lambda kernels: jnp.sum(jnp.sin(function(kernels))))
    once, twice = jax.jit(lambda k: jax.jvp(slope, (k,), (jnp.ones_like(k),)))(kernels)
    for found in (once, twice):
        assert np.all(np.isfinite(found))
        assert np.any(found[0] != 0)


# sigma, and the vectors that it is of.

MAPS = {
    "matrix": (sx.Matrix(), (5, 4)),
    "heads": (sx.Matrix(in_axis=1, out_axis=(0, 2)), (2, 5, 2)),
    "stack": (sx.Matrix(batch_axis=1), (5, 2, 4)),
    "operator": (sx.Conv((4,), 2), (3, 2, 2)),
    "stack of operators": (sx.Conv((3,), batch_axis=0), (2, 2, 1, 2)),
}
every_map = pytest.mark.parametrize("name", MAPS)


def kernel_and_vectors(name, kind="float32"):
    linear_map, shape = MAPS[name]
    rng = np.random.default_rng(7)
    values = rng.standard_normal(shape)
    if kind == "complex64":
        values = values + 1j * rng.standard_normal(shape)
    kernel = jnp.asarray(values, kind)
    entry = sx.sn_init({"w": kernel}, kernels={".*": linear_map})["w"]
    return linear_map, kernel, entry["u"], entry["u2"]


@pytest.mark.parametrize(
    ("name", "nesting"),
    [
        *((name, "reverse of reverse") for name in MAPS),
        ("matrix", "forward of reverse"),
        ("operator", "forward of reverse"),
    ],
)
def test_the_second_derivative_of_sigma_is_that_of_a_linear_function(name, nesting):
    # With u and v constant sigma is linear: of sigma^3 the Hessian is 6 sigma d d^T,
    # with the derivative d, and nothing else.
    linear_map, kernel, u, u2 = kernel_and_vectors(name)
    _, _, v, _ = sx.power_iteration(kernel, u, u2, linear_map, n_steps=0)
    outer = {"forward of reverse": jax.jacfwd, "reverse of reverse": jax.jacrev}[
        nesting
    ]

    def cubes(kernel):
        return jnp.sum(sx.sigma(kernel, u, v, linear_map) ** 3)

    # d by the oracle: what the number does when one entry grows, for it is linear.
    unit = np.eye(kernel.size).reshape(-1, *kernel.shape)
    entries = jnp.asarray(unit, jnp.float32)
    d = jax.vmap(lambda one: sx.sigma(one, u, v, linear_map))(entries)
    d = np.asarray(d, np.float64).reshape(kernel.size, -1)
    sigmas = d.T @ np.asarray(kernel, np.float64).ravel()
    got = jax.jit(outer(jax.grad(cubes)))(kernel)
    want = 6 * (d * sigmas) @ d.T
    assert np.abs(want).max() > 0.1
    got = np.asarray(got).reshape(kernel.size, kernel.size)
    np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())


def test_the_third_derivative_of_a_normalized_kernel_is_that_of_the_formula():
    linear_map, kernel, u, u2 = kernel_and_vectors("matrix")
    _, _, v, sigma = sx.power_iteration(kernel, u, u2, linear_map, n_steps=0)
    direction = jnp.cos(jnp.arange(20.0)).reshape(kernel.shape)

    def inverse(t):
        return 1 / sx.sigma(kernel + t * direction, u, v, linear_map)

    # Of 1 / (sigma + t rate): -6 rate^3 / sigma^4.
    rate = np.float64(v) @ np.float64(direction) @ np.float64(u)
    got = jax.jit(jax.grad(jax.grad(jax.grad(inverse))))(0.0)
    np.testing.assert_allclose(got, -6 * rate**3 / np.float64(sigma) ** 4, rtol=1e-4)


@every_map
@pytest.mark.parametrize("n_steps", [0, 1, 2])
def test_no_derivative_passes_through_a_power_iteration(name, n_steps):
    linear_map, *arrays = kernel_and_vectors(name)

    def total(*arrays):
        found = sx.power_iteration(*arrays, linear_map, n_steps=n_steps)
        return sum(jnp.sum(jnp.sin(x)) for x in found)

    slopes = jax.jit(jax.grad(total, argnums=(0, 1, 2)))(*arrays)
    for slope in slopes:
        np.testing.assert_array_equal(slope, 0)
    ones = tuple(map(jnp.ones_like, arrays))
    assert jax.jit(lambda *a: jax.jvp(total, a, ones)[1])(*arrays) == 0


@every_map
def test_no_derivative_passes_through_what_is_measured(name):
    linear_map, kernel, _, _ = kernel_and_vectors(name)
    rule = {".*": linear_map}
    state = sx.sn_init({"w": kernel}, kernels=rule)

    def total(kernel):
        found = sx.metrics({"w": kernel}, state, kernels=rule)["w"]
        lower = sx.bounds.lower(kernel, linear_map, krylov_dim=3).value
        return sum(map(jnp.sum, found.values())) + jnp.sum(lower)

    np.testing.assert_array_equal(jax.jit(jax.grad(total))(kernel), 0)


# The first values of weight normalization, from data.


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e30])
@pytest.mark.parametrize("per_unit", [True, False])
@pytest.mark.parametrize("n_batch", [0, 1])
def test_data_init_with_an_output_that_is_not_finite(bad, per_unit, n_batch):
    # 3e30 is a number, and its square is not. The unit keeps its g, and a finite bias.
    rng = np.random.default_rng(3)
    batch = (2,) * n_batch
    params = {
        "kernel": jnp.asarray(rng.standard_normal((*batch, 3, 4)), jnp.float32),
        "bias": jnp.asarray(rng.standard_normal((*batch, 4)), jnp.float32),
    }
    x = jnp.asarray(rng.standard_normal((64, 3)), jnp.float32)
    rule = {"kernel": sx.Matrix(batch_axis=tuple(range(n_batch)))}
    last, unit = (-1,) * n_batch, 2

    def outputs(params):
        y = jnp.einsum("si,...io->...so", x, params["kernel"])
        y = y + params["bias"][..., None, :]
        return {"y": y.at[(*last, 5, unit)].set(bad)}

    split = constraints.wn_init(params, kernels=rule, per_unit=per_unit)
    new = constraints.wn_data_init(split, outputs, kernels=rule)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(new))
    kept = (*last, unit) if per_unit else last
    np.testing.assert_array_equal(new["g"]["kernel"][kept], split["g"]["kernel"][kept])
    if bad != 3e30:
        # Without a mean there is nothing to take away.
        there = (*last, unit)
        np.testing.assert_array_equal(new["v"]["bias"][there], params["bias"][there])
    # The others of that kernel have mean 0, and with a g of their own variance 1.
    y = np.array(outputs(constraints.wn_apply(new, kernels=rule))["y"], np.float64)
    others = np.delete(y.reshape(-1, 64, 4)[-1], unit, axis=1)
    np.testing.assert_allclose(others.mean(0), 0, atol=1e-5)
    if per_unit:
        np.testing.assert_allclose(others.var(0), 1, rtol=1e-4)
