"""Layers whose product is scaled in place of their kernel, where it is the smaller."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

import specjax as sx
from benchmarks.accuracy.passes import writes
from specjax import linen as sx_linen
from specjax import nnx as sx_nnx
from tests.cases import designed, enable_x64

KEY = jax.random.key(0)


class Case(NamedTuple):
    """A layer of both libraries; `small` is an input whose result is the smaller."""

    linen: Callable[..., nn.Module]
    nnx: Callable[..., Any]
    product: Callable[[Any, Any], Any]
    kernel_shape: tuple[int, ...]
    small: tuple[int, ...]
    large: tuple[int, ...]


CASES = {
    "dense": Case(
        lambda **o: nn.Dense(32, **o),
        lambda **o: nnx.Linear(192, 32, rngs=nnx.Rngs(0), **o),
        lambda x, kernel: x @ kernel,
        (192, 32),
        (2, 192),
        (512, 192),
    ),
    "conv": Case(
        lambda **o: nn.Conv(32, (3, 3), 2, **o),
        lambda **o: nnx.Conv(16, 32, (3, 3), 2, rngs=nnx.Rngs(0), **o),
        lambda x, kernel: lax.conv_general_dilated(
            x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        ),
        (3, 3, 16, 32),
        (1, 6, 6, 16),
        (8, 20, 20, 16),
    ),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
each_library = pytest.mark.parametrize("library", ["linen", "nnx"])


def wrapped(case, library, *, n_steps=1, **options):
    """Returns the wrapped layer in training: a function of params, state and input."""
    if library == "linen":
        model = sx_linen.SpectralNorm(case.linen(**options), n_steps=n_steps)

        def call(params, state, x):
            held = {"params": {"layer_instance": params}, "batch_stats": state}
            return model.apply(held, x, mutable=["batch_stats"])[0]

        return call

    def call(params, state, x):
        layer = case.nnx(**options)
        layer.kernel, layer.bias = map(nnx.Param, (params["kernel"], params["bias"]))
        model = sx_nnx.SpectralNorm(layer, n_steps=n_steps)
        model.stats = nnx.data(jax.tree.map(sx_nnx.SpectralStat, state))
        return model(x)

    return call


def params_of(case, norm=3.7, dtype=np.float32):
    *window, n_out = case.kernel_shape
    spectrum = norm * np.linspace(1, 0.1, n_out)
    kernel = designed(math.prod(window), n_out, spectrum).reshape(case.kernel_shape)
    bias = np.linspace(-1, 2, n_out)
    return jax.tree.map(lambda a: a.astype(dtype), {"kernel": kernel, "bias": bias})


def normalized(params):
    kernel = np.float64(params["kernel"])
    sigma = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), compute_uv=False)[0]
    return kernel / sigma


def sine(shape, dtype=np.float32):
    return np.sin(np.arange(math.prod(shape)) ** 1.3).reshape(shape).astype(dtype)


def assert_near(got, want, tol):
    def check(a, b):
        np.testing.assert_allclose(a, b, rtol=0, atol=tol * np.abs(b).max())

    jax.tree.map(check, got, want)


@each_library
@each_case
@pytest.mark.parametrize("size", ["small", "large"])
def test_value_and_gradient_are_those_through_the_svd(case, library, size):
    def by_svd(params, state, x):
        del state
        matrix = params["kernel"].reshape(-1, case.kernel_shape[-1])
        sigma = jnp.linalg.svd(matrix, compute_uv=False)[0]
        return case.product(x, params["kernel"] / sigma) + params["bias"]

    def value_and_gradients(function, *args):
        def loss(*args):
            y = function(*args)
            return jnp.sum(jnp.sin(y)), y

        grads, y = jax.jit(jax.grad(loss, argnums=(0, 2), has_aux=True))(*args)
        return y, grads

    with enable_x64():
        params, x = params_of(case, dtype=np.float64), sine(getattr(case, size))
        args = params, sx.sn_init(params), x.astype(np.float64)
        call = wrapped(case, library, n_steps=300, param_dtype=jnp.float64)
        got = value_and_gradients(call, *args)
        assert_near(got, value_and_gradients(by_svd, *args), 1e-9)


@pytest.mark.fast
@each_library
@each_case
def test_no_kernel_is_written_where_the_result_is_smaller(case, library):
    params = params_of(case)
    args = params, sx.sn_init(params)
    kernel = params["kernel"]

    def program(shape):
        lowered = jax.jit(wrapped(case, library)).lower(*args, sine(shape))
        return lowered.compile()

    small, large = program(case.small), program(case.large)
    # Half of it is more than any vector.
    assert small.memory_analysis().temp_size_in_bytes < kernel.nbytes / 2
    assert writes(small.as_text(), kernel.size) == 0
    assert writes(large.as_text(), kernel.size) == 1


@each_library
@each_case
def test_a_scale_between_two_bfloat16_numbers_is_not_rounded(case, library):
    # 1 / 3.751 is halfway between two of them: it would be wrong by .4 %, everywhere.
    params, x = params_of(case, norm=3.751), sine(case.small)
    params["bias"] *= 0
    call = jax.jit(wrapped(case, library, n_steps=100, dtype=jnp.bfloat16))
    got = np.float64(call(params, sx.sn_init(params), x))
    rounded = (jnp.float32(jnp.bfloat16(a)) for a in (x, params["kernel"]))
    want = np.float64(case.product(*rounded)) / 3.751
    assert abs(np.sum(got * want) / np.sum(want**2) - 1) < 5e-4


@each_library
@each_case
@pytest.mark.parametrize("norm", [1e-16, 1e18])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_every_norm_and_dtype(case, library, norm, dtype):
    # In float16 such a kernel is zero or infinite before it is normalized.
    params, x = params_of(case, norm), sine(case.small)
    call = jax.jit(wrapped(case, library, n_steps=100, dtype=dtype))
    got = call(params, sx.sn_init(params), x)
    assert got.dtype == dtype
    want = case.product(x, jnp.float32(normalized(params))) + params["bias"]
    assert_near(np.float64(got), want, 4 * float(jnp.finfo(dtype).eps) + 1e-5)


@each_library
def test_a_zero_kernel_gives_the_bias(library):
    case = CASES["dense"]
    params = params_of(case, norm=0)
    call = wrapped(case, library)
    y = call(params, sx.sn_init(params_of(case)), sine(case.small))
    np.testing.assert_array_equal(y, np.broadcast_to(params["bias"], y.shape))


@each_library
def test_the_layers_own_product_is_called(library):
    def twice(*args, **kwargs):
        return 2 * lax.dot_general(*args, **kwargs)

    case = CASES["dense"]
    params, x = params_of(case), sine(case.small)
    call = wrapped(case, library, n_steps=100, dot_general=twice)
    want = 2 * x @ normalized(params) + params["bias"]
    assert_near(call(params, sx.sn_init(params), x), want, 1e-5)


@each_library
def test_a_kernel_that_the_layer_changes_is_the_one_that_is_used(library):
    """As a layer for quantized training does."""

    def halved(arrays, *, dtype=None):
        x, kernel, *bias = arrays
        return x, 0.5 * kernel, *bias

    def halved_in_linen(x, kernel, bias, *, dtype=None):
        return halved((x, kernel, bias))

    case = CASES["dense"]
    params, x = params_of(case), sine(case.small)
    promote = halved_in_linen if library == "linen" else halved
    call = wrapped(case, library, n_steps=100, promote_dtype=promote)
    want = 0.5 * x @ normalized(params) + params["bias"]
    assert_near(call(params, sx.sn_init(params), x), want, 1e-5)


@each_library
@pytest.mark.parametrize("norm", [1e-6, 1e6])
def test_a_float16_kernel_is_cast_after_it_is_normalized(library, norm):
    """Its product may be in float32: it is still the kernel that has to be finite."""
    wide = {"preferred_element_type": jnp.float32}
    words = {"dtype": jnp.float16}
    if library == "linen":
        words["dot_general"] = functools.partial(lax.dot_general, **wide)
    else:
        words |= wide
    case = CASES["dense"]
    params, x = params_of(case, norm), sine(case.small)
    call = jax.jit(wrapped(case, library, n_steps=100, **words))
    want = x @ jnp.float32(normalized(params)) + params["bias"]
    got = np.float64(call(params, sx.sn_init(params), x))
    assert_near(got, want, 4 * float(jnp.finfo(jnp.float16).eps))


def test_a_product_that_counts_its_calls():
    class Counting(nn.Module):
        @nn.compact
        def __call__(self, *args, **kwargs):
            calls = self.variable("counts", "calls", lambda: 0)
            calls.value += 1
            return lax.dot_general(*args, **kwargs)

    case = CASES["dense"]
    x = sine(case.small)
    model = sx_linen.SpectralNorm(nn.Dense(32, dot_general=Counting()))
    held = model.init(KEY, x)
    _, after = model.apply(held, x, mutable=["batch_stats", "counts"])
    (before,), (after,) = (jax.tree.leaves(tree["counts"]) for tree in (held, after))
    assert after == before + 1


@each_library
def test_a_mask_stays(library):
    case = CASES["conv"]
    params, x = params_of(case), sine(case.small)
    mask = (sine(case.kernel_shape) > 0).astype(np.float32)
    call = wrapped(case, library, n_steps=100, mask=mask)
    want = case.product(x, jnp.float32(normalized(params) * mask)) + params["bias"]
    assert_near(call(params, sx.sn_init(params), x), want, 1e-5)


@each_library
def test_a_kernel_that_is_normalized_in_slices(library):
    """Each row of the window by itself: one number can not be taken out of it."""
    case = CASES["conv"]
    words = {"n_steps": 100, "kernels": {"kernel": sx.Matrix(batch_axis=0)}}
    x, params = sine(case.small), params_of(case)
    if library == "linen":
        model = sx_linen.SpectralNorm(case.linen(), **words)
        held = model.init(KEY, x)
        held["params"] = {"layer_instance": params}
        got = model.apply(held, x, mutable=["batch_stats"])[0]
    else:
        layer = case.nnx()
        layer.kernel, layer.bias = map(nnx.Param, (params["kernel"], params["bias"]))
        got = sx_nnx.SpectralNorm(layer, **words)(x)
    kernel = np.stack([normalized({"kernel": row}) for row in params["kernel"]])
    want = case.product(x, jnp.float32(kernel)) + params["bias"]
    assert_near(got, want, 1e-5)


class Doubled(nn.Dense):
    """A subclass, which uses its product for something else."""

    @nn.compact
    def __call__(self, inputs):
        kernel = self.param("kernel", self.kernel_init, (inputs.shape[-1], 32))
        return inputs @ (2 * kernel)


def test_a_subclass_gets_its_normalized_kernel():
    case = CASES["dense"]
    params, x = params_of(case), sine(case.small)
    doubled = case._replace(linen=lambda: Doubled(32))
    call = wrapped(doubled, "linen", n_steps=100)
    got = call({"kernel": params["kernel"]}, sx.sn_init(params), x)
    assert_near(got, 2 * x @ normalized(params), 1e-5)


def test_two_sizes_of_input_in_one_pass_meet_one_kernel():
    class Twice(nn.Module):
        @nn.compact
        def __call__(self, x, more):
            layer = sx_linen.SpectralNorm(nn.Dense(32))
            return layer(x), layer(more)

    case = CASES["dense"]
    x, more = sine(case.small), sine(case.large)
    more[:2] = x
    # u has not converged: another step would give another kernel.
    model, held = Twice(), Twice().init(KEY, x, more)
    u = held["batch_stats"]["SpectralNorm_0"]["kernel"]["u"]
    held["batch_stats"]["SpectralNorm_0"]["kernel"]["u"] = jnp.eye(32)[0]
    assert u.shape == (32,)
    (y, z), _ = model.apply(held, x, more, mutable=["batch_stats"])
    assert_near(y, z[:2], 1e-6)


@pytest.mark.fast
def test_a_product_is_equal_to_one_of_the_same_word_and_the_same_kernels():
    # What is traced for one kernel's scale must not be found for another's.
    from specjax._fast.outputs import Factor, WhereGiven

    factors, others = ([Factor(*jnp.ones((3, 2)))] for _ in range(2))
    product = WhereGiven("dot_general", factors)
    same = WhereGiven("dot_general", factors)
    assert product == same
    assert hash(product) == hash(same)
    assert product != WhereGiven("dot_general", others)
    assert product != WhereGiven("conv_general_dilated", factors)
    assert product != jax.lax.dot_general
