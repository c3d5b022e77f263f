"""Kernels with alike outputs are turned in one batch: as if each was turned alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import specjax as sx
from specjax._core.rayleigh_ritz import ritz_pair as turn
from specjax._fast.batch import Parts, Vectors, together
from tests.exhaustive import sampled

N_KERNELS, N_IN, N_OUT = 5, 12, 7
ZERO, NAN, INF = 1, 2, 4

apply = jax.jit(sx.sn_apply, static_argnames="update_stats")


def params_of(seed: int, dtype: str) -> dict[str, dict[str, jax.Array]]:
    rng = np.random.default_rng(seed)
    kernels = rng.standard_normal((N_KERNELS, N_IN, N_OUT))
    return {
        f"Dense_{i}": {"kernel": jnp.asarray(k, dtype)} for i, k in enumerate(kernels)
    }


def only(tree: dict, i: int) -> dict:
    return {f"Dense_{i}": tree[f"Dense_{i}"]}


@pytest.mark.parametrize(
    "dtype", sampled(["float32", "bfloat16", "complex64"], ["bfloat16"])
)
def test_a_batch_of_kernels_against_each_alone(dtype: str):
    state = sx.sn_init(params_of(0, dtype))
    moved = params_of(1, dtype)
    bad = {ZERO: 0.0, NAN: jnp.nan, INF: jnp.inf}
    for i, value in bad.items():
        moved[f"Dense_{i}"]["kernel"] *= 0
        moved[f"Dense_{i}"]["kernel"] += value
    used, after = apply(moved, state)
    for i in range(N_KERNELS):
        # Of one kernel there is no batch.
        alone = apply(only(moved, i), only(state, i))
        jax.tree.map(assert_close, (only(used, i), only(after, i)), alone)
        if i in bad:
            was, now = (tree[f"Dense_{i}"]["kernel"] for tree in (state, after))
            np.testing.assert_array_equal(now["u"], was["u"])
            np.testing.assert_array_equal(now["u2"], was["u2"])


def assert_close(got: jax.Array, want: jax.Array) -> None:
    wide = (np.asarray(x, complex) for x in (got, want))
    np.testing.assert_allclose(*wide, rtol=2e-5, atol=2e-5)


def test_the_gradient_of_a_batch_against_that_of_each_alone():
    params, weights = params_of(2, "float32"), params_of(3, "float32")
    state = sx.sn_init(params_of(0, "float32"))

    def loss(params: dict, weights: dict, state: dict) -> jax.Array:
        used, _ = sx.sn_apply(params, state)
        return sum(
            jnp.sum(jnp.tanh(a * b))
            for a, b in zip(
                jax.tree.leaves(used), jax.tree.leaves(weights), strict=True
            )
        )

    gradient = jax.jit(jax.grad(loss))
    whole = gradient(params, weights, state)
    for i in range(N_KERNELS):
        alone = gradient(*(only(tree, i) for tree in (params, weights, state)))
        np.testing.assert_allclose(
            only(whole, i)[f"Dense_{i}"]["kernel"],
            alone[f"Dense_{i}"]["kernel"],
            rtol=1e-4,
            atol=1e-6,
        )


def test_nothing_is_made_of_nothing():
    """What `together` may take for granted, and what a state of zeros comes to."""
    nothing = jnp.zeros(N_OUT)
    for leaf in jax.tree.leaves(turn(*[nothing] * 4)):
        np.testing.assert_array_equal(leaf, np.zeros(leaf.shape))
    params = params_of(0, "float32")
    state = jax.tree.map(jnp.zeros_like, sx.sn_init(params))
    used, after = apply(params, state)
    jax.tree.map(np.testing.assert_array_equal, used, params)
    jax.tree.map(np.testing.assert_array_equal, after, state)


def test_the_program_has_one_turn_for_all_of_them():
    """The roots are in no loop: each would be there once for each kernel."""

    def roots(n: int) -> int:
        params = {f"Dense_{i}": {"kernel": jnp.ones((N_IN, N_OUT))} for i in range(n)}
        program = apply.lower(params, sx.sn_init(params)).compile().as_text()
        return program.count(" rsqrt(") + program.count(" sqrt(")

    assert 0 < roots(3) == roots(9)


def test_a_batch_of_vectors_with_zeros_in_them():
    """One column that is not zero: only there are u, u2 and their products not."""
    params = {
        name: {"kernel": jnp.zeros((N_IN, N_OUT)).at[:, 3].set(layer["kernel"][:, 3])}
        for name, layer in params_of(0, "float32").items()
    }
    one = {"u": jnp.eye(N_OUT)[3], "u2": jnp.zeros(N_OUT), "sigma": jnp.ones(())}
    used, after = apply(params, {name: {"kernel": one} for name in params})
    for name, layer in params.items():
        norm = np.linalg.norm(np.float64(layer["kernel"]))
        np.testing.assert_allclose(after[name]["kernel"]["sigma"], norm, rtol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(used[name]["kernel"]), 1, rtol=1e-6)


@pytest.mark.parametrize("place", range(4))
def test_a_batch_in_which_only_one_of_the_arrays_is_not_zero(place):
    vector = jnp.asarray(np.random.default_rng(0).standard_normal(5), jnp.float32)
    arrays = [vector if i == place else jnp.zeros(5) for i in range(4)]
    parts = Parts(lambda *x: jnp.sum(x[place]), lambda total, *x: total * x[place])
    found = together(parts, [Vectors(tuple(arrays)), Vectors(tuple(arrays))])
    want = jnp.sum(vector) * vector
    for got in found:
        np.testing.assert_allclose(got, want, rtol=1e-6)


def test_a_kernel_in_no_batch_has_its_own_function():
    one, other = jnp.arange(3.0), jnp.arange(4.0)
    stack = Vectors((jnp.ones((2, 3)),), n_batch=1)
    vectors = [Vectors((one,)), Vectors((other,)), Vectors((one,)), stack]
    found = together(lambda x, _: 2 * x, vectors, lambda x, _: 2 * x + 1)
    want = [2 * one, 2 * other + 1, 2 * one, 2 * stack.arrays[0]]
    jax.tree.map(np.testing.assert_array_equal, found, want)
