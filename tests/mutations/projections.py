"""Mutations of what sets singular values: the ball, the caps, orthogonal kernels."""

from tests.mutations.mutation import Mutation

_BALL = "tests/constraints/test_ball.py"
_CAP = "tests/constraints/test_soft_cap.py"
_HAMMER = "tests/constraints/test_hammer.py"
_ORTHOGONAL = "tests/constraints/test_orthogonal.py"

MUTATIONS = (
    # The ball.
    Mutation(
        name="no-derivative-beside-the-rows",
        file="specjax/constraints/_excess.py",
        old="result += product(left, rates[:, None] * product(left.conj().T, beside))",
        new="pass",
        killers=(f"{_BALL}::test_derivatives_at_ties_and_without_full_rank", _BALL),
    ),
    Mutation(
        name="a-bound-far-above-the-norm-is-taken-as-it-is",
        file="specjax/constraints/_excess.py",
        old="bound = jnp.minimum(bound, frobenius(matrix))",
        new="pass",
        killers=(
            f"{_BALL}::test_scales",
            f"{_BALL}::test_inside_the_ball_nothing_changes",
            _BALL,
        ),
    ),
    Mutation(
        name="no-derivative-in-the-radius",
        file="specjax/constraints/_excess.py",
        old="inside -= jnp.diag((values > bound) * of_bound).astype(left.dtype)",
        new="pass",
        killers=(
            f"{_BALL}::test_a_traced_bound_compiles_once_and_vmap_is_a_stack",
            _BALL,
        ),
    ),
    Mutation(
        name="odd-and-even-parts-change-places",
        file="specjax/constraints/_excess.py",
        old="return (matrix + matrix.conj().T) / 2, (matrix - matrix.conj().T) / 2",
        new="return (matrix + matrix.T) / 2, (matrix - matrix.T) / 2",
        killers=(f"{_BALL}::test_complex_derivative",),
    ),
    Mutation(
        name="a-matrix-that-is-not-finite-is-projected",
        file="specjax/constraints/_matrices.py",
        old="return jnp.where(usable, result, matrix)",
        new="return result",
        killers=(f"{_BALL}::test_zero_and_not_finite",),
    ),
    Mutation(
        name="a-kernel-comes-back-in-float32",
        file="specjax/constraints/_matrices.py",
        old="result = stack.astype(kernel.dtype).reshape(moved.shape)",
        new="result = stack.reshape(moved.shape)",
        killers=(f"{_BALL}::test_dtypes",),
    ),
    Mutation(
        name="axes-come-back-in-the-order-of-the-matrix",
        file="specjax/constraints/_matrices.py",
        old="jnp.transpose(result, [order.index(a) for a in range(kernel.ndim)])",
        new="jnp.transpose(result, order)",
        killers=(f"{_BALL}::test_axes_in_an_order_that_is_not_its_own_inverse",),
    ),
    # Soft cap and hammer.
    Mutation(
        name="a-kernel-is-divided-down-below-its-bound",
        file="specjax/constraints/_soft_cap.py",
        old="max(largest, bound)",
        new="largest",
        killers=(f"{_CAP}::test_weight_decay_alone", _CAP),
    ),
    Mutation(
        name="two-steps-see-the-norm",
        file="specjax/constraints/_soft_cap.py",
        old="krylov_dim=8",
        new="krylov_dim=2",
        killers=(f"{_CAP}::test_a_kernel_far_outside_is_divided_down",),
    ),
    Mutation(
        name="a-cap-of-a-smaller-polynomial",
        file="specjax/constraints/_soft_cap.py",
        old="kept = 1 - 3 * t**2 + 3 * t**3 - t**4",
        new="kept = 1 - 3 * t**2 + 3 * t**3",
        killers=(f"{_CAP}::test_the_strength_is_the_papers_root",),
    ),
    Mutation(
        name="weight-decay-of-one-is-allowed",
        file="specjax/constraints/_soft_cap.py",
        old="if not 0 <= float(value) < top:",
        new="if not 0 <= float(value) <= top:",
        killers=(f"{_CAP}::test_errors",),
    ),
    Mutation(
        name="a-blow-without-conj",
        file="specjax/constraints/_hammer.py",
        old="change * jnp.conj(jax.grad",
        new="change * (jax.grad",
        killers=(f"{_HAMMER}::test_dtypes_scales_and_bad_values", _HAMMER),
    ),
    Mutation(
        name="a-hammer-lifts-what-is-below-the-bound",
        file="specjax/constraints/_hammer.py",
        old="wanted &= value > bound",
        new="pass",
        killers=(f"{_HAMMER}::test_cap_only_shrinks",),
    ),
    # Orthogonal kernels.
    Mutation(
        name="a-retraction-with-its-sides-changed",
        file="specjax/constraints/_orthogonalize.py",
        old="(bound * math.sqrt(n_out / n_in))",
        new="(bound * math.sqrt(n_in / n_out))",
        killers=(f"{_ORTHOGONAL}::test_retraction_is_scaled_by_the_shape",),
    ),
    Mutation(
        name="a-step-that-is-not-finite-is-allowed",
        file="specjax/constraints/_orthogonalize.py",
        old="if not rows or not all(math.isfinite(c) for row in rows for c in row):",
        new="if not rows:",
        killers=(f"{_ORTHOGONAL}::test_errors",),
    ),
    Mutation(
        name="no-room-above-one",
        file="specjax/constraints/_coefficients.py",
        old="_ROOM = 1.01",
        new="_ROOM = 1.0",
        killers=(f"{_ORTHOGONAL}::test_steps_reach_one_and_stay_below", _ORTHOGONAL),
    ),
    Mutation(
        name="the-next-interval-is-not-brought-back",
        file="specjax/constraints/_coefficients.py",
        old="a, b, c = (coefficient / top for coefficient in step)",
        new="a, b, c = step",
        killers=(f"{_ORTHOGONAL}::test_steps_reach_one_and_stay_below", _ORTHOGONAL),
    ),
    Mutation(
        name="the-square-of-a-large-kernel-overflows",
        file="specjax/constraints/_polar.py",
        old="largest = lax.stop_gradient(jnp.max(jnp.abs(matrix)))",
        new="largest = lax.stop_gradient(jnp.max(jnp.abs(matrix)) > 0).astype("
        "matrix.real.dtype)",
        killers=(f"{_ORTHOGONAL}::test_dtypes_and_scales", _ORTHOGONAL),
    ),
    Mutation(
        name="the-second-term-of-a-series-as-the-first",
        file="specjax/constraints/_bjorck.py",
        old="return math.comb(2 * k, k) / 4**k",
        new="return 0.5**k",
        killers=(f"{_ORTHOGONAL}::test_bjorck_is_its_series",),
    ),
    Mutation(
        name="a-wide-kernel-comes-back-tall",
        file="specjax/constraints/_bjorck.py",
        old="return tall if rows >= columns else tall.T",
        new="return tall if rows > columns else tall.T",
        killers=(f"{_ORTHOGONAL}::test_designed_spectra",),
    ),
)
