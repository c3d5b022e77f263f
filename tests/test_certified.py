"""method="upper": the result's float64 norm is at most the bound: no tolerance."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import specjax as sx
from specjax import linen
from specjax import nnx as nnx_wrapper
from specjax.testing import spectral_norms
from tests.cases import CASES, enable_x64
from tests.test_conv import GEOMETRIES, dense, make_kernel

CERTIFIED = sx.spectral_norm(method="upper", bound=0.7)


def norms(kernel):
    return np.linalg.svd(np.asarray(kernel).astype(np.float64), compute_uv=False)[
        ..., 0
    ]


@pytest.mark.parametrize(
    "case",
    [c for c in CASES if c.name in ("attention", "experts", "boxed", "nnx_state")],
    ids=lambda case: case.name,
)
def test_every_kernel_of_a_tree_is_at_most_the_bound(case):
    init, apply, fuse = sx.spectral_norm(
        method="upper", bound=0.7, kernels=case.kernels
    )
    params = case.make()
    state = init(params)
    assert state == {}
    certified, after = jax.jit(apply)(params, state)
    assert after == {}
    for path, value in case.norms(certified).items():
        assert np.all(value <= 0.7), path
        assert np.all(value >= 0.7 * (1 - 3e-3)), path
    for got, want in zip(
        jax.tree.leaves(fuse(params, state)), jax.tree.leaves(certified), strict=True
    ):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_rounding_the_result_is_part_of_the_proof(dtype):
    # Equal singular values: in bfloat16 what is rounded adds up to .4 % and more.
    rng = np.random.default_rng(0)
    stack = np.linalg.qr(rng.standard_normal((300, 24, 24)))[0]
    stack[::2] = rng.standard_normal((150, 24, 24))
    kernel = jnp.asarray(stack, dtype)
    rules = {".*": sx.Matrix(batch_axis=0)}
    for bound in (1.0, 0.3, 1e-3):
        got, _ = sx.sn_apply(
            {"w": kernel}, {}, kernels=rules, method="upper", bound=bound
        )
        assert got["w"].dtype == kernel.dtype
        found = norms(got["w"])
        assert np.all(found <= bound)
        least = {"float32": 3e-3, "float16": 2e-2, "bfloat16": 3e-2}[dtype]
        assert np.all(found >= bound * (1 - least))


def test_entries_that_are_hardly_numbers_round_up_within_the_bound():
    # Equal entries of some 7 of the smallest float16: each rounds up by up to 7 %.
    params = {"Dense_0": {"kernel": jnp.ones((24, 24), jnp.float16)}}
    for bound in np.linspace(0.9e-5, 1.1e-5, 40):
        got, _ = sx.sn_apply(params, {}, method="upper", bound=float(bound))
        assert norms(got["Dense_0"]["kernel"]) <= bound


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_entries_that_a_backend_may_flush_to_zero(dtype):
    # Of two columns at right angles one entry goes to zero, and they lean together.
    tiny = float(jnp.finfo(dtype).tiny)
    divide = jax.jit(lambda w, bound: sx.sn_apply({"kernel": w}, {}, method="upper",
        bound=bound)[0]["kernel"])  # fmt: skip
    for last in np.linspace(0.9, 1, 6):
        kernel = jnp.asarray([[1, 1], [1, -last]], dtype)
        for bound in np.float32(tiny * np.linspace(1.2, 3, 20)):
            assert norms(divide(kernel, bound)) <= bound


def test_rounding_a_convolution_adds_in_each_place_of_its_window():
    # All entries of a box round to one side, and its norm is their sum.
    image = sx.Conv((8, 8), padding="CIRCULAR")
    divide = jax.jit(lambda w, bound: sx.sn_apply({"w": w}, {}, method="upper",
        bound=bound, kernels={"w": image})[0]["w"])  # fmt: skip
    for bound in np.float32(np.linspace(0.5, 1, 64)):
        box = divide(jnp.ones((3, 3, 1, 1), jnp.bfloat16), bound)
        assert 0.95 * bound < np.asarray(box, np.float64).sum() <= bound


def test_the_operator_of_a_convolution_is_at_most_the_bound():
    geometry = GEOMETRIES["circular strides"]
    kernel = make_kernel(geometry)
    rules = {"w": geometry.conv}
    got, _ = sx.sn_apply(
        {"w": jnp.asarray(kernel, jnp.float32)}, {}, kernels=rules, method="upper"
    )
    found = np.linalg.norm(dense(geometry, np.asarray(got["w"])), 2)
    assert 0.998 <= found <= 1


def test_the_state_of_an_estimate_passes_through():
    params = {"Dense_0": {"kernel": jnp.ones((4, 3))}}
    state = sx.sn_init(params)
    _, after = sx.sn_apply(params, state, method="upper")
    assert after is state


def test_cap_zero_and_what_is_not_finite():
    kernels = jnp.stack([jnp.eye(3) * 0.1, jnp.zeros((3, 3)), jnp.ones((3, 3)) * 5])
    params = {"w": kernels.at[1, 0, 0].set(jnp.nan)}
    rules = {".*": sx.Matrix(batch_axis=0)}
    got, _ = sx.sn_apply(params, {}, kernels=rules, method="upper", cap=True)
    np.testing.assert_array_equal(got["w"][0], kernels[0])
    np.testing.assert_array_equal(got["w"][1], params["w"][1])
    assert 0.999 <= norms(got["w"][2]) <= 1
    zero, _ = sx.sn_apply(
        {"w": jnp.zeros((2, 3, 3))}, {}, kernels=rules, method="upper"
    )
    np.testing.assert_array_equal(zero["w"], np.zeros((2, 3, 3)))


def test_the_gradient_is_that_of_the_division():
    matrix = np.random.default_rng(1).standard_normal((7, 5))
    weights = np.random.default_rng(2).standard_normal((7, 5))

    def loss(kernel):
        params = {"Dense_0": {"kernel": kernel}}
        certified, _ = CERTIFIED.apply(params, {})
        return jnp.sum(certified["Dense_0"]["kernel"] * weights)

    with enable_x64():
        kernel = jnp.asarray(matrix)
        grad = np.asarray(jax.grad(loss)(kernel))
        _, values, _ = np.linalg.svd(matrix)
        left, values, right = np.linalg.svd(matrix, full_matrices=False)
    # Miyato's, with the exact singular vectors.
    sigma, outer = values[0], np.outer(left[:, 0], right[0])
    want = 0.7 * (weights - np.sum(weights * matrix) / sigma * outer) / sigma
    np.testing.assert_allclose(grad, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.sum(grad * matrix), 0, atol=1e-6)
    stopped, _ = jax.vjp(
        lambda k: sx.sn_apply({"kernel": k}, {}, method="upper", grad_sigma=False)[0],
        jnp.asarray(matrix, jnp.float32),
    )
    (got,) = _(jax.tree.map(jnp.ones_like, stopped))
    np.testing.assert_allclose(got, np.full((7, 5), 1 / sigma), rtol=1e-4)


def test_the_linen_wrapper_has_no_state():
    model = linen.SpectralNorm(nn.Conv(4, (3, 3)), operator=True, method="upper")
    x = jnp.ones((1, 6, 6, 2))
    variables = model.init(jax.random.key(0), x)
    assert set(variables) == {"params"}
    y, updates = model.apply(variables, x, mutable=["batch_stats"])
    assert not jax.tree.leaves(updates)
    rules = {".*/kernel": sx.Conv((6, 6))}
    params, _ = sx.sn_apply(variables["params"], {}, kernels=rules, method="upper")
    layer_params = params["layer_instance"]
    want = nn.Conv(4, (3, 3)).apply({"params": layer_params}, x)
    np.testing.assert_allclose(y, want, atol=1e-6)
    np.testing.assert_array_equal(model.apply(variables, x), y)


def test_the_nnx_wrapper_has_no_state():
    layer = nnx.Linear(6, 4, rngs=nnx.Rngs(0))
    model = nnx_wrapper.SpectralNorm(layer, method="upper")
    assert not jax.tree.leaves(nnx.state(model, nnx.BatchStat))
    x = jnp.eye(6)
    y = model(x) - layer.bias[...]
    assert 0.998 <= norms(y) <= 1.000001
    np.testing.assert_array_equal(model(x), model(x))


def test_spectral_norms_of_the_tree_tell_the_same():
    params = {"Dense_0": {"kernel": jnp.ones((4, 3))}}
    certified = CERTIFIED.fuse(params, {})
    assert 0.699 < spectral_norms(certified)["Dense_0/kernel"] <= 0.7


@pytest.mark.parametrize(
    "call",
    [
        lambda params: sx.sn_apply(params, {}, method="svd"),
        lambda params: sx.sn_fuse(params, {}, method="svd"),
        lambda params: sx.spectral_norm(method="svd"),
        lambda params: nnx_wrapper.SpectralNorm(
            nnx.Linear(2, 2, rngs=nnx.Rngs(0)), method="svd"
        ),
    ],
)
def test_another_norm_is_refused(call):
    params = {"Dense_0": {"kernel": jnp.ones((4, 3))}}
    message = "method: got 'svd'; need 'estimate' or 'upper'. Try: method=\"estimate\""
    with pytest.raises(ValueError, match=message):
        call(params)
    with pytest.raises(ValueError, match="no kernel among"):
        CERTIFIED.init({"bias": jnp.ones(3)})
