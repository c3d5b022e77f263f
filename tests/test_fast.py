"""The fast path against the loop over the core: the same numbers."""

import inspect
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import specjax as sx
from specjax import transforms
from specjax._core import kernel as core
from specjax._core.rayleigh_ritz import ritz_pair
from specjax._fast import apply_all
from specjax._fast.batch import ritz_pairs
from tests.exhaustive import sampled

N_KERNELS, N_IN, N_OUT = 5, 12, 7
ZERO, NAN, INF = 1, 2, 4
OPTIONS = {
    "plain": {},
    "cap": {"cap": True, "bound": 2.0},
    "constant sigma": {"grad_sigma": False},
    "evaluation": {"n_steps": 0},
    "two steps": {"n_steps": 2},
}

apply = jax.jit(sx.sn_apply, static_argnames="update_stats")


def params_of(seed: int, dtype: str) -> dict[str, dict[str, jax.Array]]:
    rng = np.random.default_rng(seed)
    kernels = rng.standard_normal((N_KERNELS, N_IN, N_OUT))
    return {
        f"Dense_{i}": {"kernel": jnp.asarray(k, dtype)} for i, k in enumerate(kernels)
    }


def with_bad_ones(params):
    for i, value in {ZERO: 0.0, NAN: jnp.nan, INF: jnp.inf}.items():
        params[f"Dense_{i}"]["kernel"] *= 0
        params[f"Dense_{i}"]["kernel"] += value
    return params


def assert_close(got: jax.Array, want: jax.Array) -> None:
    wide = (np.asarray(x, complex) for x in (got, want))
    np.testing.assert_allclose(*wide, rtol=2e-5, atol=2e-5)


def through(path, kernels, states, maps, weights, bound, **options):
    """Returns what a path makes of all kernels, and the gradient of a sum over it."""
    options = {"cap": False, "n_steps": 1, "grad_sigma": True} | options

    def loss(kernels, bound):
        new = path(kernels, states, bound, linear_maps=maps, **options)
        parts = [
            jnp.sum((w * one.kernel).real) for w, one in zip(weights, new, strict=True)
        ]
        return sum(parts), new

    step = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
    return step(kernels, jnp.asarray(bound))


@pytest.mark.parametrize("name", sampled(sorted(OPTIONS), ["cap", "plain"]))
@pytest.mark.parametrize(
    "dtype", sampled(["float32", "bfloat16", "complex64"], ["bfloat16"])
)
def test_the_door_and_the_core_are_one_function(name, dtype):
    """Values, states and gradients, for kernels in a batch, alone and in a stack."""
    rng = np.random.default_rng(4)
    shapes = [(12, 7)] * 5 + [(9, 7), (6, 4), (3, 5, 4)]
    kernels = [jnp.asarray(rng.standard_normal(shape), dtype) for shape in shapes]
    maps = [
        sx.Matrix(batch_axis=0 if len(shape) > 2 else ()).resolve(shape)
        for shape in shapes
    ]
    pairs = zip(kernels, maps, strict=True)
    states = [core.init(kernel, None, linear_map=m) for kernel, m in pairs]
    weights = [jnp.asarray(rng.standard_normal(shape), dtype) for shape in shapes]
    moved = [
        k + jnp.asarray(0.1 * rng.standard_normal(k.shape), dtype) for k in kernels
    ]
    rest = moved, states, maps, weights
    options = {"bound": 0.7} | OPTIONS[name]
    fast, loop = (through(p, *rest, **options) for p in (apply_all, core.apply_all))
    rtol = 2e-2 if dtype == "bfloat16" else 1e-4
    for got, want in zip(jax.tree.leaves(fast), jax.tree.leaves(loop), strict=True):
        wide = np.asarray(got, complex), np.asarray(want, complex)
        scale = max(1.0, float(np.abs(wide[1]).max()))
        np.testing.assert_allclose(*wide, rtol=rtol, atol=rtol * scale)


@pytest.mark.parametrize(
    "dtype", sampled(["float32", "bfloat16", "complex64"], ["bfloat16"])
)
def test_a_batch_with_kernels_that_are_zero_or_not_finite(dtype):
    state, moved = sx.sn_init(params_of(0, dtype)), with_bad_ones(params_of(1, dtype))
    used, after = apply(moved, state)
    for i in range(N_KERNELS):
        name = f"Dense_{i}"
        alone = apply({name: moved[name]}, {name: state[name]})
        one = {name: used[name]}, {name: after[name]}
        jax.tree.map(assert_close, one, alone)
        if i in (ZERO, NAN, INF):
            was, now = (tree[name]["kernel"] for tree in (state, after))
            np.testing.assert_array_equal(now["u"], was["u"])
            np.testing.assert_array_equal(now["u2"], was["u2"])


def test_nothing_is_made_of_nothing():
    """What the CPU's form takes for granted, and what a state of zeros comes to."""
    nothing = jnp.zeros(N_OUT)
    for leaf in jax.tree.leaves(ritz_pair(*[nothing] * 4)):
        np.testing.assert_array_equal(leaf, np.zeros(leaf.shape))
    params = params_of(0, "float32")
    state = jax.tree.map(jnp.zeros_like, sx.sn_init(params))
    used, after = apply(params, state)
    jax.tree.map(np.testing.assert_array_equal, used, params)
    jax.tree.map(np.testing.assert_array_equal, after, state)


def test_the_program_has_one_rotation_for_all_of_them():
    """The roots are in no loop: each would be there once for each kernel."""

    def roots(n: int) -> int:
        params = {f"Dense_{i}": {"kernel": jnp.ones((N_IN, N_OUT))} for i in range(n)}
        program = apply.lower(params, sx.sn_init(params)).compile().as_text()
        return program.count(" rsqrt(") + program.count(" sqrt(")

    assert 0 < roots(4) == roots(9)
    assert roots(2) < roots(3)


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
    rng = np.random.default_rng(0)
    members = [
        tuple(
            jnp.asarray(rng.standard_normal(5) * (i == place), jnp.float32)
            for i in range(4)
        )
        for _ in range(3)
    ]
    for got, member in zip(jax.jit(ritz_pairs)(members), members, strict=True):
        jax.tree.map(assert_close, got, ritz_pair(*member))


def test_a_user_gets_the_fast_path():
    assert transforms._apply_all is apply_all


def test_the_drawing_is_the_program():
    """`sn_apply` of one kernel, outside of jit, calls the public arrows."""
    arrows = (sx.power_iteration, sx.sigma, sx.normalize)
    wanted = {inspect.unwrap(arrow).__code__: arrow.__name__ for arrow in arrows}
    params = {"Dense_0": {"kernel": jnp.ones((5, 4))}}
    state, called = sx.sn_init(params), []

    def note(frame, event, _):
        if event == "call" and frame.f_code in wanted:
            called.append(wanted[frame.f_code])

    jax.clear_caches()
    sys.setprofile(note)
    try:
        sx.sn_apply(params, state)
    finally:
        sys.setprofile(None)
    assert called == ["power_iteration", "sigma", "normalize"]
