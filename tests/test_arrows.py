"""Each arrow of the path on its own: warm_up, power_iteration, sigma, normalize."""

import functools

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import specjax as sx
from specjax._core import vectors as _vectors
from specjax._core.krylov import _bidiagonalize
from specjax._core.rayleigh_ritz import gram, leading_eigenvector
from tests.cases import designed, norm
from tests.reference import power_steps, two_vectors

GEOMETRIES = (
    ((7, 5), sx.Matrix()),
    ((5, 7), sx.Matrix(out_axis=0)),
    ((3, 2, 4, 5), sx.Matrix()),
    ((3, 4, 2, 5), sx.Matrix(out_axis=(1, 3))),
    ((4, 3, 2, 5), sx.Matrix(in_axis=(3, 0), out_axis=(2, 1))),
)
# One program each, and not one for each operation.
power_iteration = jax.jit(sx.power_iteration, static_argnames=("linear_map", "n_steps"))
warm_up = jax.jit(sx.warm_up, static_argnames=("linear_map", "krylov_dim"))
hashed_unit_vector = jax.jit(_vectors.hashed_unit_vector, static_argnums=(0, 1))
bidiagonalize = jax.jit(_bidiagonalize, static_argnames=("linear_map", "n_steps"))
geometries = pytest.mark.parametrize(("shape", "matrix"), GEOMETRIES, ids=str)


def dense(kernel: np.ndarray, matrix: sx.Matrix) -> np.ndarray:
    """The matrix of the map, column by column, from products with unit vectors."""
    ndim = kernel.ndim
    out_axis = (
        matrix.out_axis if isinstance(matrix.out_axis, tuple) else (matrix.out_axis,)
    )
    out_axis = tuple(sorted(a % ndim for a in out_axis))
    in_axis = tuple(a for a in range(ndim) if a not in out_axis)
    n_in = int(np.prod([kernel.shape[a] for a in in_axis]))
    return kernel.transpose(in_axis + out_axis).reshape(n_in, -1)


@geometries
def test_apply_and_adjoint_are_the_matrix_and_its_adjoint(shape, matrix):
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    in_shape, out_shape = matrix.sides(shape)
    x, y = (
        rng.standard_normal(s) + 1j * rng.standard_normal(s)
        for s in (in_shape, out_shape)
    )
    w = dense(kernel, matrix)
    as_jax = functools.partial(jnp.asarray, dtype=jnp.complex64)
    applied = matrix.apply(as_jax(kernel), as_jax(x))
    adjoint = matrix.adjoint(as_jax(kernel), as_jax(y))
    assert (applied.shape, adjoint.shape) == (out_shape, in_shape)
    np.testing.assert_allclose(applied.ravel(), x.ravel() @ w, rtol=1e-4)
    np.testing.assert_allclose(adjoint.ravel(), y.ravel() @ w.conj().T, rtol=1e-4)


@geometries
def test_products_on_a_cpu_name_their_precision(shape, matrix):
    # As for GPU and TPU, whose programs test_precision reads: no default is trusted.
    in_shape, out_shape = matrix.sides(shape)
    for product, side in ((matrix.apply, in_shape), (matrix.adjoint, out_shape)):
        arrays = (jax.ShapeDtypeStruct(s, jnp.float32) for s in (shape, side))
        traced = jax.jit(product).trace(*arrays)
        text = traced.lower(lowering_platforms=("cpu",)).as_text()
        assert text.count("stablehlo.dot_general") == 1
        assert text.count("HIGHEST") == 2


@geometries
def test_power_iteration_converges_to_the_svd(shape, matrix):
    kernel = np.random.default_rng(1).standard_normal(shape)
    _, out_shape = matrix.sides(shape)
    u = hashed_unit_vector(out_shape, jnp.float32)
    kernel32, none = jnp.asarray(kernel, jnp.float32), jnp.zeros_like(u)
    found = power_iteration(kernel32, u, none, matrix, n_steps=300)
    left, s, right = np.linalg.svd(dense(kernel, matrix))
    np.testing.assert_allclose(found.sigma, s[0], rtol=1e-5)
    np.testing.assert_allclose(abs(found.v.ravel() @ left[:, 0]), 1, rtol=1e-4)
    np.testing.assert_allclose(abs(found.u.ravel() @ right[0]), 1, rtol=1e-4)


@pytest.mark.parametrize("n_steps", [0, 1, 2])
def test_v_of_a_complex_kernel_is_what_u_is_the_image_of(n_steps):
    """``v W = sigma u`` after a step; ``v = u W^H / sigma`` without one."""
    rng = np.random.default_rng(5)
    kernel, pair = (
        rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
        for shape in ((9, 6), (2, 6))
    )
    u, u2 = (jnp.asarray(x / np.linalg.norm(x), jnp.complex64) for x in pair)
    found = power_iteration(jnp.asarray(kernel, jnp.complex64), u, u2, n_steps=n_steps)
    v, u = np.asarray(found.v), np.asarray(found.u)
    np.testing.assert_allclose(np.linalg.norm(v), 1, rtol=1e-5)
    if n_steps:
        np.testing.assert_allclose(v @ kernel, found.sigma * u, rtol=1e-4, atol=1e-4)
    else:
        np.testing.assert_allclose(u @ kernel.conj().T, found.sigma * v, rtol=1e-4)
    value = sx.sigma(jnp.asarray(kernel, jnp.complex64), found.u, found.v)
    np.testing.assert_allclose(value, found.sigma, rtol=1e-5)


def test_power_iteration_never_exceeds_the_norm_and_grows():
    kernel = jnp.asarray(designed(40, 30, np.linspace(1, 0.9, 30)), jnp.float32)
    pair = hashed_unit_vector((30,), jnp.float32), jnp.eye(30)[0]
    values = [
        float(power_iteration(kernel, *pair, n_steps=n).sigma) for n in (0, 1, 2, 3, 8)
    ]
    assert values == sorted(values)
    assert values[0] < 0.97
    assert values[-1] <= 1 + 1e-6


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("ratio", [0.0, 1e-4, 0.9, 1.0, 1.1, 1e4])
@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_longest_vector_of_a_plane(dtype, ratio, scale):
    rng = np.random.default_rng(7)
    pair = rng.standard_normal((2, 9)) + 1j * rng.standard_normal((2, 9))
    pair = scale * np.array([[1], [ratio]]) * pair
    pair = (pair if dtype == np.complex64 else pair.real).astype(dtype)
    c, s, length, beside = leading_eigenvector(gram(*jnp.asarray(pair)))
    first, second = np.asarray(pair, np.complex128)
    turned = c * first + s * second
    across = np.conj(c) * second - np.conj(s) * first
    want = np.linalg.svd([first, second], compute_uv=False)
    np.testing.assert_allclose(abs(c) ** 2 + abs(s) ** 2, 1, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(turned), want[0], rtol=1e-6)
    np.testing.assert_allclose(length, want[0], rtol=1e-6)
    np.testing.assert_allclose(beside, want[1], rtol=1e-4)
    np.testing.assert_allclose(np.vdot(turned, across), 0, atol=3e-6 * want[0] ** 2)


def test_what_two_nearly_parallel_vectors_have_across_is_no_rounding():
    # Squares in float32 tell a length down to about 3e-4 of the other. Below it, zero.
    rng = np.random.default_rng(8)
    for share in 10.0 ** np.arange(-7, -1.4, 0.25):
        first, second = rng.standard_normal((2, 9))
        pair = np.stack([first, first + share * second]).astype(np.float32)
        across = float(leading_eigenvector(gram(*jnp.asarray(pair))).across)
        want = np.linalg.svd(pair.astype(np.float64), compute_uv=False)[1]
        assert across == 0 or abs(across - want) < 0.2 * want, share
    assert across > 0


@pytest.mark.parametrize("dtype", [np.float32, np.complex64])
def test_two_vectors_find_a_kernel_of_rank_two_at_once(dtype):
    # From any two vectors: the plane of its two singular vectors is all there is.
    rng = np.random.default_rng(4)
    factors = [rng.standard_normal((2, n, 2)) for n in (30, 20)]
    left, right = (real + 1j * imaginary for real, imaginary in factors)
    kernel = (left @ right.T).astype(dtype) if dtype == np.complex64 else (
        left.real @ right.real.T
    ).astype(dtype)  # fmt: skip
    pair = jnp.asarray(rng.standard_normal((2, 20)).astype(dtype))
    found = power_iteration(jnp.asarray(kernel), *pair)
    want_left, values, want_right = np.linalg.svd(np.asarray(kernel, np.complex128))
    np.testing.assert_allclose(found.sigma, values[0], rtol=1e-5)
    # u2 is, too, once u does not turn any more.
    second = power_iteration(jnp.asarray(kernel), found.u, found.u2).u2
    for got, want in (
        (found.u, want_right[0]),
        (second, want_right[1]),
        (found.v, want_left[:, 0].conj()),
    ):
        np.testing.assert_allclose(abs(np.vdot(got, want)), 1, rtol=2e-3)
    np.testing.assert_allclose(abs(np.vdot(found.u, want_right[0])), 1, 1e-5)


@pytest.mark.parametrize("angle", [0.0, 0.01, 0.07, 0.5, 1.5])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_further_u_turns_the_more_of_u2_is_where_it_turns_to(seed, angle):
    rng = np.random.default_rng(seed)
    kernel = designed(30, 20, np.linspace(3, 0.1, 20))
    leading = np.linalg.svd(kernel)[2]
    aside = rng.standard_normal((2, 20)) @ leading[2:].T @ leading[2:] / 4
    pair = np.cos(angle) * leading[:2] + np.sin(angle) * aside
    found = power_iteration(*(jnp.asarray(x, jnp.float32) for x in (kernel, *pair)))
    u, u2, sigma = two_vectors(kernel, *pair)
    np.testing.assert_allclose(found.u, u, atol=1e-5)
    np.testing.assert_allclose(found.u2, u2, atol=5e-5)
    np.testing.assert_allclose(found.sigma, sigma, rtol=1e-5)
    np.testing.assert_allclose(jnp.linalg.norm(found.u2), 1, atol=2e-3)
    np.testing.assert_allclose(found.u @ found.u2, 0, atol=2e-3)


@pytest.mark.parametrize("second", [0.009, 0.002])
@pytest.mark.parametrize("seed", [2, 4])
def test_u2_does_not_follow_u_where_it_is_next_to_nothing(seed, second):
    # What u2 would be told of the turn is rounding, next to a V so much longer. In the
    # planes of these seeds lies much of the second vector.
    rng = np.random.default_rng(seed)
    left = np.linalg.qr(rng.standard_normal((30, 20)))[0]
    right = np.linalg.qr(rng.standard_normal((20, 20)))[0]
    plane = np.linalg.qr(rng.standard_normal((20, 2)))[0]
    sine, cosine = np.sin(0.1), np.cos(0.1)
    turn = np.eye(20) + plane @ np.array(
        [[cosine - 1, sine], [-sine, cosine - 1]]
    ) @ plane.T  # fmt: skip
    u, u2 = jnp.asarray(right[:, :2].T, jnp.float32)
    values = np.r_[1, second * np.linspace(1, 0.3, 19)]
    for _ in range(15):
        right = turn @ right
        kernel = jnp.asarray(left * values @ right.T, jnp.float32)
        u, u2, _, sigma = power_iteration(kernel, u, u2)
        np.testing.assert_allclose(sigma, 1, rtol=1e-5)
        assert abs(np.asarray(u2) @ right[:, 1]) > 0.95


@pytest.mark.parametrize("seed", range(3))
def test_few_steps_from_nowhere(seed):
    # Where the two leading vectors are hard to tell from the third.
    rng = np.random.default_rng(seed)
    spectrum = np.r_[1, 0.8, 0.79 * 0.999 ** np.arange(94)]
    kernel = jnp.asarray(designed(128, 96, spectrum), jnp.float32)
    pair = jnp.asarray(rng.standard_normal((2, 96)) / 10, jnp.float32)
    sigma = power_iteration(kernel, *pair, n_steps=10).sigma
    assert 1 - 1e-5 < sigma < 1 + 1e-6  # two vectors that are only turned: 1 - 2e-4


@pytest.mark.parametrize("rest", [0.0, 1e-7, 1e-3])
@pytest.mark.parametrize("share", [0.0, 1e-8, 1e-6, 1e-4])
def test_sigma_from_vectors_that_the_kernel_maps_to_rounding(rest, share):
    # u and u2 see next to nothing: what comes out is rounding, and not a norm above 1.
    rng, spectrum = np.random.default_rng(9), np.r_[1.0, np.full(15, rest)]
    for scale in 10.0 ** np.arange(-12, 13, 3):
        basis = np.linalg.qr(rng.standard_normal((16, 16)))[0]
        left = np.linalg.qr(rng.standard_normal((24, 16)))[0]
        kernel = jnp.asarray(scale * (left * spectrum) @ basis.T, jnp.float32)
        pair = basis[:, [7, 11]] + share * rng.standard_normal((16, 2))
        found = power_iteration(kernel, *jnp.asarray(pair.T, jnp.float32))
        assert found.sigma <= 1.1 * norm(np.asarray(kernel, np.float64))
        np.testing.assert_allclose(jnp.linalg.norm(found.u), 1, rtol=1e-5)


@pytest.mark.parametrize("spectrum", [np.ones(20), np.r_[1.0, 1.0, np.full(18, 0.5)]])
def test_a_tie_does_not_turn_u(spectrum):
    # Which of two equal directions leads must not hang on the rounding of a sum.
    kernel = jnp.asarray(7 * designed(30, 20, spectrum), jnp.float32)
    start = power_iteration(kernel, *warm_up(kernel, jnp.ones(20)), n_steps=50)
    u, u2 = start.u, start.u2
    for _ in range(100):
        u, u2, _, sigma = power_iteration(kernel, u, u2)
    np.testing.assert_allclose(u, start.u, atol=1e-4)
    np.testing.assert_allclose(sigma, 7, rtol=1e-5)


@pytest.mark.parametrize(
    "second", ["parallel", "almost parallel", "zero", "null space"]
)
def test_a_useless_second_vector_does_no_harm(second):
    kernel = jnp.asarray(designed(30, 20, np.linspace(2, 0, 20)), jnp.float32)
    u = jnp.asarray(np.random.default_rng(5).standard_normal(20), jnp.float32)
    u2 = {
        "parallel": 3 * u,
        "almost parallel": u + 1e-6 * jnp.roll(u, 1),
        "zero": 0 * u,
        "null space": np.linalg.svd(kernel)[2][-1],
    }[second]
    found = power_iteration(kernel, u, jnp.asarray(u2, jnp.float32))
    _, one = power_steps(kernel, u / jnp.linalg.norm(u), 1)
    assert one * (1 - 1e-5) <= found.sigma <= 2 * (1 + 1e-6)
    assert abs(found.u @ found.u2) < 0.5  # what it becomes is of use
    np.testing.assert_allclose(jnp.linalg.norm(found.u2), 1, atol=0.1)


@pytest.mark.parametrize("fill", ["ones", "rank one"])
def test_the_norm_of_a_kernel_of_rank_one_is_not_exceeded(fill):
    # W u2 is parallel to W u up to rounding: made a unit vector, that rounding would
    # stand for a direction of its own and add to the norm.
    rng = np.random.default_rng(6)
    left, right = np.ones((2, 64)) if fill == "ones" else rng.standard_normal((2, 64))
    kernel = jnp.asarray(np.outer(left, right), jnp.float32)
    want = np.linalg.norm(left) * np.linalg.norm(right)
    u, u2 = warm_up(kernel, hashed_unit_vector((64,), jnp.float32))
    for _ in range(20):
        u, u2, _, sigma = power_iteration(kernel, u, u2)
        np.testing.assert_allclose(sigma, want, rtol=1e-6)
        # u2, with nothing to see, stays about a unit vector across u.
        np.testing.assert_allclose(jnp.linalg.norm(u2), 1, atol=0.2)
        assert abs(u @ u2) < 0.5


@pytest.mark.parametrize("n_steps", [0, 1, 2])
@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_v_of_a_kernel_that_is_zero_or_not_finite_is_zero(bad, n_steps):
    kernel = jnp.zeros((7, 5)).at[2].set(bad)
    u, u2 = jnp.eye(5)[:2]
    found = power_iteration(kernel, u, u2, n_steps=n_steps)
    np.testing.assert_array_equal(found.v, np.zeros(7))
    np.testing.assert_array_equal(found.u, u)
    np.testing.assert_array_equal(found.u2, u2)
    assert found.sigma == 0 if bad == 0 else not np.isfinite(found.sigma)


@geometries
def test_warm_up_is_within_a_thousandth(shape, matrix):
    kernel = np.random.default_rng(2).standard_normal(shape)
    _, out_shape = matrix.sides(shape)
    start = hashed_unit_vector(out_shape, jnp.float32)
    u, _ = warm_up(jnp.asarray(kernel, jnp.float32), start, matrix)
    w = dense(kernel, matrix)
    assert u.shape == out_shape
    np.testing.assert_allclose(np.linalg.norm(w @ u.ravel()), norm(w), rtol=1e-3)


@pytest.mark.parametrize(
    "spectrum",
    [np.ones(20), np.r_[np.ones(10), np.zeros(10)], np.r_[1.0, np.zeros(19)]],
    ids=["orthogonal", "projection", "rank one"],
)
def test_warm_up_breaks_down_cleanly_on_a_degenerate_spectrum(spectrum):
    kernel = jnp.asarray(3 * designed(30, 20, spectrum), jnp.float32)
    u, _ = warm_up(kernel, hashed_unit_vector((20,), jnp.float32), krylov_dim=64)
    np.testing.assert_allclose(jnp.linalg.norm(u), 1, rtol=1e-5)
    np.testing.assert_allclose(jnp.linalg.norm(kernel @ u), 3, rtol=1e-5)


def test_warm_up_of_a_scaled_identity():
    # Lanczos without a breakdown test returns 5 times too much here after 30 steps.
    kernel = 3 * jnp.eye(40)
    start = hashed_unit_vector((40,), jnp.float32)
    found = power_iteration(kernel, *warm_up(kernel, start, krylov_dim=30))
    np.testing.assert_allclose(found.sigma, 3, rtol=1e-6)


@pytest.mark.parametrize("rank", [1, 3, 8, 30])
def test_warm_up_basis_is_orthonormal_and_ends_at_the_rank(rank):
    # Small values below a large one: most of each product is cancelled, so that one
    # pass of reorthogonalization leaves a basis of copies.
    small = 1e-3 * np.linspace(1, 0.5, rank - 1)
    spectrum = np.concatenate([[1.0], small, np.zeros(30 - rank)])
    kernel = jnp.asarray(designed(40, 30, spectrum), jnp.float32)
    start = hashed_unit_vector((30,), jnp.float32)
    start = start / jnp.linalg.norm(start)
    one = sx.Matrix().resolve(kernel.shape).one
    outs, alphas, betas = bidiagonalize(kernel, start, one, n_steps=30)
    n_basis = min(rank + 1, 30)  # the start also has a part that maps to zero
    gram = np.asarray(outs, np.float64) @ np.asarray(outs, np.float64).T
    np.testing.assert_allclose(gram, np.diag(np.arange(30) < n_basis), atol=1e-5)
    assert not np.any(alphas[n_basis:])
    assert not np.any(betas[n_basis:])


def test_warm_up_of_a_wide_kernel_reaches_its_rank():
    # The start has a part that the kernel maps to zero: one step more than the rank.
    for seed in range(88, 100):
        w = np.random.default_rng(seed).standard_normal((5, 7))
        u, _ = warm_up(
            jnp.asarray(w, jnp.float32), hashed_unit_vector((7,), jnp.float32)
        )
        np.testing.assert_allclose(
            np.linalg.norm(w @ np.asarray(u)), norm(w), rtol=1e-5
        )


@geometries
def test_sigma_and_its_derivative(shape, matrix):
    rng = np.random.default_rng(3)
    kernel = jnp.asarray(rng.standard_normal(shape), jnp.float32)
    in_shape, out_shape = matrix.sides(shape)
    u = jnp.asarray(rng.standard_normal(out_shape), jnp.float32)
    v = jnp.asarray(rng.standard_normal(in_shape), jnp.float32)
    w = dense(np.asarray(kernel), matrix)
    derivative = jax.value_and_grad(sx.sigma, argnums=(0, 1, 2))
    derivative = jax.jit(derivative, static_argnums=3)
    value, (grad, du, dv) = derivative(kernel, u, v, matrix)
    np.testing.assert_allclose(value, v.ravel() @ w @ u.ravel(), rtol=1e-4, atol=1e-4)
    want = np.outer(v.ravel(), u.ravel())
    np.testing.assert_allclose(dense(np.asarray(grad), matrix), want, rtol=1e-5)
    assert not du.any()
    assert not dv.any()
    # Nor do u and v have a part in the derivative of the derivative.
    mixed = jax.jit(jax.jacfwd(jax.grad(sx.sigma), argnums=(1, 2)), static_argnums=3)
    assert not any(x.any() for x in mixed(kernel, u, v, matrix))


def test_normalize():
    kernel = jnp.asarray(designed(9, 6, np.linspace(2, 1, 6)), jnp.float32)
    got = sx.normalize(kernel, jnp.float32(2), bound=0.5)
    np.testing.assert_allclose(norm(np.asarray(got, np.float64)), 0.5, rtol=1e-5)
    for useless in (0.0, jnp.nan, jnp.inf):
        same = sx.normalize(kernel, jnp.float32(useless))
        np.testing.assert_array_equal(same, kernel)
        slope = jax.grad(lambda s: sx.normalize(kernel, s).sum())(jnp.float32(useless))
        assert slope == 0
    np.testing.assert_array_equal(
        sx.normalize(kernel, jnp.float32(2), bound=3.0, cap=True), kernel
    )


@pytest.mark.parametrize("size", [1e-18, 1.0, 1e18])
@pytest.mark.parametrize("batch_axis", [(), (0,)])
def test_normalize_of_a_convolution(size, batch_axis):
    rng = np.random.default_rng(0)
    shape = (3, 3, 4, 5) if not batch_axis else (2, 3, 3, 4, 5)
    kernel = np.float32(size) * rng.standard_normal(shape).astype(np.float32)
    sigma = np.float32(size) * rng.uniform(1, 3, shape[: len(batch_axis)])
    sigma, weights = np.float32(sigma), rng.standard_normal(shape)

    def total(kernel, sigma):
        normalized = sx.normalize(kernel, sigma, sx.Matrix(batch_axis=batch_axis), 0.5)
        return jnp.sum(normalized * jnp.asarray(weights, jnp.float32))

    got, slopes = jax.value_and_grad(total, (0, 1))(kernel, sigma)
    divisor = np.float64(sigma).reshape(*sigma.shape, 1, 1, 1, 1)
    products = (0.5 * weights * kernel / divisor).reshape(*sigma.shape, -1).sum(-1)
    np.testing.assert_allclose(got, products.sum(), rtol=1e-4)
    np.testing.assert_allclose(
        slopes[0] * size, 0.5 * weights / divisor * size, rtol=1e-5
    )
    np.testing.assert_allclose(slopes[1], -products / np.float64(sigma), rtol=1e-4)


def test_hashed_unit_vector_misses_no_coordinate_and_is_no_pattern():
    for shape in ((1,), (7,), (4096,), (64, 64), (3, 5, 7, 11)):
        x = np.asarray(hashed_unit_vector(shape, jnp.float32), np.float64)
        size = x.size
        assert np.abs(x).min() > 0.5 / size**0.5
        assert 0.6 < np.linalg.norm(x) < 1.4
        if size > 1000:
            spectrum = np.abs(np.fft.fft(x.ravel()))
            assert spectrum.max() < 5  # white: every Fourier component is about one
            assert spectrum.min() > 1e-3
    two = hashed_unit_vector((5, 40), jnp.float32)
    assert np.linalg.matrix_rank(np.asarray(two)) == 5


shapes = st.sampled_from([(1, 1), (1, 7), (7, 1), (4, 9), (8, 8)])


@hypothesis.settings(deadline=None, max_examples=25)
@hypothesis.given(shapes, st.floats(-9, 9), st.integers(0, 10**6))
def test_law_sigma_is_homogeneous_and_orthogonally_invariant(shape, exponent, seed):
    m, n = shape
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((m, n))
    q = np.linalg.qr(rng.standard_normal((m, m)))[0]

    def measured(matrix):
        kernel = jnp.asarray(matrix, jnp.float32)
        return float(sx.sn_init({"a": {"kernel": kernel}})["a"]["kernel"]["sigma"])

    true, c = norm(w), -(10.0**exponent)
    np.testing.assert_allclose(measured(w), true, rtol=1e-4)
    np.testing.assert_allclose(measured(c * w), abs(c) * true, rtol=1e-4)
    np.testing.assert_allclose(measured(q @ w), true, rtol=1e-4)
    np.testing.assert_allclose(measured(w.T), true, rtol=1e-4)


@hypothesis.settings(deadline=None, max_examples=25)
@hypothesis.given(shapes, st.integers(0, 10**6))
def test_law_normalizing_twice_is_normalizing_once(shape, seed):
    w = jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)
    params = {"a": {"kernel": w}}
    once = sx.sn_fuse(params, sx.sn_init(params))
    twice = sx.sn_fuse(once, sx.sn_init(once))
    np.testing.assert_allclose(twice["a"]["kernel"], once["a"]["kernel"], rtol=1e-5)
