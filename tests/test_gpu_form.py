"""What a step is for a GPU, run on whatever is here: against numpy's products and SVD.

`lax.platform_dependent` takes the GPU's branch here; XLA compiles that for any device.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import specjax as sx
from specjax._core.batch import over_batch
from specjax._fast.products import gram_products
from tests.cases import enable_x64
from tests.exhaustive import sampled

KERNELS = {
    "matrix": ((24, 16), sx.Matrix()),
    "convolution": ((3, 3, 8, 16), sx.Matrix()),
    "window of one": ((1, 1, 8, 16), sx.Matrix()),
    "rows in groups": ((256, 16), sx.Matrix()),
    "a window of one, in groups": ((1, 1, 128, 8), sx.Matrix()),
    "few rows": ((5, 5, 2, 16), sx.Matrix()),
    "many pixels": ((16, 16, 3, 8), sx.Matrix()),
    "axes in turn": ((6, 128, 4), sx.Matrix(in_axis=(0, 2), out_axis=1)),
    "transposed": ((3, 3, 16, 8), sx.Matrix(out_axis=-2)),
    "query": ((12, 4, 6), sx.Matrix(in_axis=0, out_axis=(1, 2))),
    "attention's out": ((4, 6, 12), sx.Matrix(in_axis=(0, 1), out_axis=2)),
    "stack": ((5, 12, 7), sx.Matrix(batch_axis=0)),
    "stack, rows in groups": ((2, 128, 8), sx.Matrix(batch_axis=0)),
    "operator": ((3, 3, 4, 6), sx.Conv((8, 8))),
}
DTYPES = ("float32", "bfloat16", "float64", "complex64")
ZERO, NAN = 1, 3


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch):
    asked = []

    def on_a_gpu(*args, cuda=None, default=None, **_):
        asked.append(cuda)
        return (cuda or default)(*args)

    jax.clear_caches()
    with enable_x64():
        monkeypatch.setattr(lax, "platform_dependent", on_a_gpu)
        yield
    assert any(asked), "no branch for a GPU was asked for"
    jax.clear_caches()


def normal(rng, shape, dtype):
    real = rng.standard_normal(shape)
    if dtype == "complex64":
        real = real + 1j * rng.standard_normal(shape)
    return jnp.asarray(real, dtype)


# An operator's kernel is of real numbers.
PRODUCTS = set(itertools.product(KERNELS, DTYPES)) - {("operator", "complex64")}


# Each kernel in one dtype, and each dtype with a few kernels.
FAST = list(zip(KERNELS, itertools.cycle(DTYPES), strict=False))
FAST += [("matrix", dtype) for dtype in DTYPES[1:]]


@pytest.mark.parametrize(("name", "dtype"), sampled(sorted(PRODUCTS), FAST))
def test_a_kernels_products_are_numpys(name, dtype):
    shape, linear_map = KERNELS[name]
    rng = np.random.default_rng(0)
    kernel = normal(rng, shape, dtype)
    state = sx.sn_init({"w": kernel}, kernels={".*": linear_map})["w"]
    u = normal(rng, state["u"].shape, str(state["u"].dtype))
    u2 = normal(rng, u.shape, str(u.dtype))
    resolved = linear_map.resolve(shape)
    pairs = jax.jit(over_batch(gram_products), static_argnames="linear_map")(
        kernel, u, u2, linear_map=resolved
    )
    one = resolved.one
    n_batch = len(resolved.batch_axis)
    for i in np.ndindex(shape[:n_batch]):
        dense = dense_of(one, np.asarray(kernel, complex)[i])
        for vector, x, z in zip((u, u2), *pairs, strict=True):
            y = np.asarray(vector, complex)[i].ravel()
            want = dense.conj() @ y
            assert_near(np.asarray(x, complex)[i].ravel(), want, u.dtype)
            assert_near(np.asarray(z, complex)[i].ravel(), want @ dense, u.dtype)


def dense_of(linear_map, kernel):
    """Returns the matrix of a linear map, in numpy but for the convolution."""
    if linear_map.matrix_axes is None:
        in_shape = linear_map.in_shape
        images = np.eye(int(np.prod(in_shape))).reshape(-1, *in_shape)
        apply = jax.vmap(lambda x: linear_map.apply(jnp.asarray(kernel.real), x))
        return np.asarray(apply(jnp.asarray(images))).reshape(len(images), -1)
    axes = (*linear_map.in_axis, *linear_map.out_axis)
    n_in = int(np.prod([kernel.shape[a] for a in linear_map.in_axis]))
    return kernel.transpose(axes).reshape(n_in, -1)


def assert_near(got, want, dtype):
    eps = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(got, want, rtol=0, atol=99 * eps * np.abs(want).max())


@pytest.mark.parametrize("dtype", sampled(DTYPES, ["bfloat16", "complex64"]))
def test_kernels_in_a_batch_are_as_each_alone(dtype):
    """Of one alone there is no batch, and its step has tests of its own."""
    rng = np.random.default_rng(1)
    first, moved = (
        {f"Dense_{i}": {"kernel": normal(rng, (12, 7), dtype)} for i in range(5)}
        for _ in range(2)
    )
    state = sx.sn_init(first)
    for i, bad in {ZERO: 0.0, NAN: jnp.nan}.items():
        moved[f"Dense_{i}"]["kernel"] *= bad
    used, after = jax.jit(sx.sn_apply)(moved, state)
    for name in moved:
        only = {name: moved[name]}, {name: state[name]}
        alone = jax.jit(sx.sn_apply)(*only)
        jax.tree.map(assert_alike, ({name: used[name]}, {name: after[name]}), alone)
    for i in (ZERO, NAN):
        for word in ("u", "u2"):
            kept, was = (tree[f"Dense_{i}"]["kernel"][word] for tree in (after, state))
            np.testing.assert_array_equal(kept, was)


def assert_alike(got, want):
    wide = (np.asarray(x, complex) for x in (got, want))
    np.testing.assert_allclose(*wide, rtol=2e-5, atol=2e-5)


def test_training_holds_the_norms():
    """Six kernels that drift by 1 %: with the SVD of each the bound is held (N2)."""
    rng = np.random.default_rng(2)
    shapes = [(3, 3, 8, 16)] * 3 + [(24, 16)] * 3
    params = {
        f"{'Conv' if len(s) > 2 else 'Dense'}_{i}": {
            "kernel": normal(rng, s, "float32")
        }
        for i, s in enumerate(shapes)
    }
    state, step = sx.sn_init(params), jax.jit(sx.sn_apply)
    for _ in range(40):
        params = jax.tree.map(
            lambda w: w + 0.01 * normal(rng, w.shape, "float32"), params
        )
        used, state = step(params, state)
        for layer in used.values():
            w = np.asarray(layer["kernel"], np.float64)
            assert np.linalg.norm(w.reshape(-1, w.shape[-1]), 2) <= 1.001
