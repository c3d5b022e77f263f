"""`metrics` against float64 numpy, and the operator's Frobenius norm against Flax."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import specjax as sx
from specjax.diagnostics._frobenius import frobenius
from tests.cases import CASES, Own, designed, enable_x64
from tests.test_conv import GEOMETRIES, dense, make_kernel

NAMES = ("sigma", "residual", "frobenius", "stable_rank")
TREES = [
    case
    for case in CASES
    if case.name in ("attention", "experts", "boxed", "nnx_state")
]


def random_state(params, kernels, n_batch=0):
    """Returns a state as `sn_init` makes it, but with a random u: not converged."""
    shapes = jax.eval_shape(functools.partial(sx.sn_init, kernels=kernels), params)
    rng = np.random.default_rng(7)

    def unit(leaf):
        vectors = rng.standard_normal(leaf.shape).reshape(*leaf.shape[:n_batch], -1)
        vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
        return jnp.asarray(vectors.reshape(leaf.shape), leaf.dtype)

    return jax.tree.map(unit, shapes)


def noisy(params, amount=0.3):
    """Returns other params near these: the state is then no longer exact."""
    rng = np.random.default_rng(5)
    return jax.tree.map(
        lambda x: x + amount * np.float32(rng.standard_normal(x.shape)), params
    )


def expected(matrix, u):
    """Returns the four numbers of a matrix (in, out) and a u, in float64."""
    u = np.asarray(u).ravel().astype(np.result_type(matrix, np.float64))
    v = matrix @ u.conj()
    sigma = np.linalg.norm(v)
    v = v.conj() / sigma
    residual = np.linalg.norm(v @ matrix - sigma * u) / sigma
    size = np.linalg.norm(matrix)
    return dict(zip(NAMES, (sigma, residual, size, (size / sigma) ** 2), strict=True))


def at(tree, path):
    for name in path.split("/"):
        tree = tree[name]
    return tree


@pytest.mark.parametrize("case", TREES, ids=lambda case: case.name)
def test_numbers_are_those_of_float64(case):
    params = case.make()
    n_batch = 1 if case.name == "experts" else 0
    state = random_state(params, case.kernels, n_batch)
    found = sx.metrics(params, state, kernels=case.kernels)
    assert found.keys() == case.views.keys()
    for path, matrices in case.matrices(params).items():
        u = np.asarray(at(state, path)["u"])
        stack = matrices.shape[:-2]
        matrices = matrices.reshape(-1, *matrices.shape[-2:])
        want = [expected(m, u.reshape(len(matrices), -1)[i]) for i, m in
                enumerate(matrices)]  # fmt: skip
        for name in NAMES:
            got = found[path][name]
            assert got.shape == stack
            assert got.dtype == jnp.float32
            values = [one[name] for one in want]
            np.testing.assert_allclose(np.ravel(got), values, rtol=2e-5, err_msg=name)


def test_some_singular_value_is_inside_of_the_error_bar():
    kernel = designed(20, 12, np.linspace(1, 2, 12))
    spectrum = np.linalg.svd(kernel, compute_uv=False)
    params = {"Dense_0": {"kernel": jnp.asarray(kernel, jnp.float32)}}
    state = random_state(params, sx.flax_kernels)
    measure = jax.jit(sx.metrics)
    for seed in range(20):
        u = np.random.default_rng(seed).standard_normal(12)
        u = np.float32(u / np.linalg.norm(u))
        state["Dense_0"]["kernel"]["u"] = jnp.asarray(u)
        found = measure(params, state)["Dense_0/kernel"]
        error = found["sigma"] * found["residual"] / np.sqrt(2)
        assert np.abs(spectrum - found["sigma"]).min() <= error * (1 + 1e-5)


def test_sigma_is_what_evaluation_divides_by():
    params = CASES[0].make()
    state = sx.sn_init(params)
    params = noisy(params)
    (found,) = sx.metrics(params, state).values()
    normalized, _ = sx.sn_apply(params, state, update_stats=False)
    ratio = params["Dense_0"]["kernel"] / normalized["Dense_0"]["kernel"]
    np.testing.assert_allclose(ratio, found["sigma"], rtol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "valid", "circular", "reflect", "explicit", "circular and dilated",
        "dilated input", "depthwise", "causal", "transposed", "transposed explicit",
        "transposed circular flipped",
    ],
)  # fmt: skip
def test_frobenius_norm_is_the_operators(name):
    geometry = GEOMETRIES[name]
    kernel = make_kernel(geometry)
    want = np.linalg.norm(dense(geometry, kernel))
    measure = jax.jit(frobenius, static_argnames="linear_map")
    got = measure(
        jnp.asarray(kernel, jnp.float32), linear_map=geometry.conv.resolve(kernel.shape)
    )
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
@pytest.mark.parametrize(
    ("n", "window", "words"),
    [
        (3, 5, {"padding": "CIRCULAR"}),
        (3, 5, {"padding": "REFLECT"}),
        (3, 5, {"padding": "SAME"}),
        (2, 7, {"padding": "CIRCULAR", "window_strides": 2, "transposed": True}),
        (3, 7, {"padding": "CIRCULAR", "transposed": True, "transpose_kernel": True}),
    ],
    ids=str,
)
def test_taps_of_a_window_beyond_the_image_meet_one_pixel(n, window, words, dtype):
    rng = np.random.default_rng(3)
    kernel = rng.standard_normal((window, 2, 2))
    if dtype == "complex64":
        kernel = kernel + 1j * rng.standard_normal((window, 2, 2))
    kernel = jnp.asarray(kernel, dtype)
    linear_map = sx.Conv((n,), **words).resolve(kernel.shape)
    images = jnp.eye(2 * n, dtype=dtype).reshape(2 * n, n, 2)
    rows = jax.vmap(functools.partial(linear_map.one.apply, kernel))(images)
    want = np.linalg.norm(np.asarray(rows, np.complex128))
    got = jax.jit(frobenius, static_argnames="linear_map")(
        kernel, linear_map=linear_map
    )
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_numbers_of_a_convolution_are_its_operators():
    geometry = GEOMETRIES["strides"]
    kernels = {"w": geometry.conv}
    kernel = make_kernel(geometry)
    params = {"w": jnp.asarray(kernel, jnp.float32)}
    state = random_state(params, kernels)
    (found,) = sx.metrics(params, state, kernels=kernels).values()
    want = expected(dense(geometry, kernel), state["w"]["u"])
    for name in NAMES:
        np.testing.assert_allclose(found[name], want[name], rtol=2e-5, err_msg=name)


@pytest.mark.parametrize("dtype", ["bfloat16", "float64", "complex64"])
def test_dtypes(dtype):
    with enable_x64():
        kernel = np.random.default_rng(0).standard_normal((9, 7))
        wide = np.complex128 if dtype == "complex64" else np.float64
        phases = np.exp(1j * np.arange(7)) if wide is np.complex128 else 1
        kernel = jnp.asarray(kernel * phases, dtype)
        state = random_state({"kernel": kernel}, sx.flax_kernels)
        (found,) = sx.metrics({"kernel": kernel}, state).values()
    want = expected(np.asarray(kernel).astype(wide), state["kernel"]["u"])
    for name in NAMES:
        assert found[name].dtype == ("float64" if dtype == "float64" else "float32")
        rtol = 1e-12 if dtype == "float64" else 2e-5
        np.testing.assert_allclose(found[name], want[name], rtol=rtol, err_msg=name)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_scale_does_not_matter(scale):
    params = {"kernel": jnp.asarray(designed(9, 7, np.linspace(3, 1, 7)), jnp.float32)}
    state = random_state(params, sx.flax_kernels)
    (want,) = sx.metrics(params, state).values()
    (got,) = sx.metrics(jax.tree.map(lambda x: x * scale, params), state).values()
    for name, power in zip(NAMES, (1, 0, 1, 0), strict=True):
        np.testing.assert_allclose(got[name], want[name] * scale**power, rtol=1e-5)


def test_zero_blind_and_not_finite_kernels():
    kernel = jnp.zeros((4, 3)).at[0, 0].set(1.0)
    state = random_state({"a": {"kernel": kernel}}, sx.flax_kernels)
    measure = jax.jit(sx.metrics)

    def numbers(kernel):
        (found,) = measure({"a": {"kernel": kernel}}, state).values()
        return [float(found[name]) for name in NAMES]

    assert numbers(0 * kernel) == [0, 0, 0, 0]
    # u is the first axis: nothing of this kernel can be seen by it.
    state["a"]["kernel"]["u"] = jnp.asarray([1.0, 0, 0])
    assert numbers(jnp.roll(kernel, 1, axis=1)) == [0, np.inf, 1, np.inf]
    for bad in (np.nan, np.inf):
        assert np.isnan(numbers(kernel.at[2, 1].set(bad))).all()


def test_no_derivative_and_one_program_in_a_loop():
    params = CASES[0].make()
    state = sx.sn_init(params)
    gradient = jax.grad(
        lambda p: sum(map(jnp.sum, jax.tree.leaves(sx.metrics(p, state))))
    )(params)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient))

    def step(carry, noise):
        params, state = carry
        params = jax.tree.map(lambda x: x + noise, params)
        _, state = sx.sn_apply(params, state)
        return (params, state), sx.metrics(params, state)

    _, history = jax.lax.scan(step, (params, state), jnp.linspace(0, 1e-3, 3))
    assert history["Dense_0/kernel"]["sigma"].shape == (3,)
    assert np.all(history["Dense_0/kernel"]["residual"] < 1e-2)


MESHED = {
    "dense": ((16, 24), sx.Matrix(), P("a", "b"), P("b")),
    "dense on in": ((16, 24), sx.Matrix(), P("a"), P()),
    "experts": ((4, 8, 24), sx.Matrix(batch_axis=0), P("b", None, "a"), P("b", "a")),
    "conv": ((3, 3, 4, 8), sx.Conv((6, 6), padding="REFLECT"), P(None, None, "a"), P()),
}


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("name", MESHED)
def test_meshes(name, kind):
    shape, linear_map, spec, u_spec = MESHED[name]
    if name == "conv" and kind is AxisType.Explicit:
        spec = P()
    kernels = {"w": linear_map}
    params = {"w": jax.random.normal(jax.random.key(3), shape)}
    state = random_state(params, kernels, name == "experts")
    want = sx.metrics(params, state, kernels=kernels)
    mesh = jax.make_mesh((2, 2), ("a", "b"), axis_types=(kind, kind))
    with jax.set_mesh(mesh):
        params = jax.device_put(params, NamedSharding(mesh, spec))
        state = jax.tree.map(
            lambda x: jax.device_put(x, NamedSharding(mesh, P(*u_spec[: x.ndim]))),
            state,
        )
        found = jax.jit(functools.partial(sx.metrics, kernels=kernels))(params, state)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, want)


def test_a_map_of_ones_own_has_what_its_products_tell():
    kernel = np.random.default_rng(0).standard_normal((5, 7))
    params, kernels = {"w": jnp.asarray(kernel, jnp.float32)}, {"w": Own()}
    state = random_state(params, kernels)
    (found,) = sx.metrics(params, state, kernels=kernels).values()
    want = expected(kernel.T, state["w"]["u"])
    assert found.keys() == {"sigma", "residual"}
    for name, value in found.items():
        np.testing.assert_allclose(value, want[name], rtol=1e-5)


@pytest.mark.skipif(
    jax.__version_info__ < (0, 10),
    reason="the CPU compiler of jaxlib 0.8.1 does not fuse a product into its sum",
)
def test_three_reads_of_the_kernel_and_no_copy():
    shape = jax.ShapeDtypeStruct((512, 768), jnp.float32)
    state = jax.eval_shape(sx.sn_init, {"kernel": shape})
    program = jax.jit(sx.metrics).lower({"kernel": shape}, state).compile()
    n_bytes = 4 * 512 * 768
    assert program.cost_analysis()["bytes accessed"] < 3.1 * n_bytes
    assert program.memory_analysis().temp_size_in_bytes < 0.1 * n_bytes
