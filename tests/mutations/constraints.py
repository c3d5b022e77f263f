"""Mutations of the other constraints."""

from tests.mutations.mutation import Mutation

_DIR = "tests/constraints"
_BALL = f"{_DIR}/test_ball.py"
_CAP = f"{_DIR}/test_soft_cap.py"
_HAMMER = f"{_DIR}/test_hammer.py"
_ORTHOGONAL = f"{_DIR}/test_orthogonal.py"
_PENALTY = f"{_DIR}/test_gradient_penalty.py"
_REGULARIZERS = f"{_DIR}/test_regularizers.py"
_VARIANTS = f"{_DIR}/test_variants.py"
_WEIGHT_NORM = f"{_DIR}/test_weight_norm.py"
_SORT = f"{_DIR}/test_group_sort.py"
_LOSSES = f"{_DIR}/test_losses.py"
_ON_A_MESH = f"{_DIR}/test_on_a_mesh.py"

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
        killers=(f"{_BALL}::test_every_case", _ORTHOGONAL),
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
        old="n_steps=8",
        new="n_steps=2",
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
        old="return change * jnp.conj(linear_map.outer(v, u))",
        new="return change * linear_map.outer(v, u)",
        killers=(f"{_HAMMER}::test_dtypes_scales_and_bad_values", _HAMMER),
    ),
    Mutation(
        name="a-hammer-lifts-what-is-below-the-bound",
        file="specjax/constraints/_hammer.py",
        old="usable &= value > bound",
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
    # Penalties.
    Mutation(
        name="inner-products-without-conj",
        file="specjax/constraints/_orthogonal.py",
        old="        jnp.conj(wide),\n",
        new="        wide,\n",
        killers=(f"{_REGULARIZERS}::test_orthogonal_dtypes", _REGULARIZERS),
    ),
    Mutation(
        name="all-lengths-are-penalized",
        file="specjax/constraints/_orthogonal.py",
        old='gram * (1 - diagonal) if form == "off_diagonal" else gram - diagonal',
        new="gram - diagonal",
        killers=(f"{_REGULARIZERS}::test_orthogonal_penalty_is_that_of_the_matrices",),
    ),
    Mutation(
        name="units-that-are-split-are-not-refused",
        file="specjax/constraints/_orthogonal.py",
        old="        if shards_of(linear_map.one()).over_y\n",
        new="        if shards_of(linear_map.one()).over_y and not path\n",
        killers=(f"{_ON_A_MESH}::test_outputs_split_by_hand_have_no_inner_products",),
    ),
    Mutation(
        name="a-penalty-of-a-bad-kernel-keeps-its-sigma",
        file="specjax/constraints/_spectral_penalty.py",
        old="kept = jnp.where(jnp.isfinite(new), new, carried.sigma)",
        new="kept = new",
        killers=(
            f"{_REGULARIZERS}::test_spectral_penalty_of_zero_and_what_is_not_finite",
        ),
    ),
    Mutation(
        name="a-penalty-in-evaluation-takes-a-step",
        file="specjax/constraints/_spectral_penalty.py",
        old="steps = n_steps if update_stats else 0",
        new="steps = n_steps",
        killers=(f"{_REGULARIZERS}::test_u_is_carried_and_follows_the_weights",),
    ),
    Mutation(
        name="slices-on-other-devices-are-left-out",
        file="specjax/constraints/_over_stack.py",
        old="return total(values, tuple(name for names in split for name in names))",
        new="return total(values, tuple(name for names in split for name in names)[:0])",
        killers=(f"{_ON_A_MESH}::test_penalties_by_hand",),
    ),
    Mutation(
        name="one-weight-for-a-batch-of-pairs",
        file="specjax/constraints/_gradient_penalty.py",
        old="shape = (len(real), *(1 for _ in real.shape[1:]))",
        new="shape = ()",
        killers=(f"{_PENALTY}::test_between_is_on_the_line_of_each_pair",),
    ),
    Mutation(
        name="a-penalty-on-both-sides",
        file="specjax/constraints/_gradient_penalty.py",
        old="jnp.maximum(excess, 0) if one_sided else excess",
        new="jnp.minimum(excess, 0) if one_sided else excess",
        killers=(f"{_PENALTY}::test_closed_forms_of_a_quadratic_critic",),
    ),
    Mutation(
        name="squares-of-gradients-in-half-precision",
        file="specjax/constraints/_gradient_penalty.py",
        old="wide = gradient.astype(vector_dtype(gradient.dtype))",
        new="wide = gradient",
        killers=(f"{_PENALTY}::test_half_precision_is_summed_in_float32",),
    ),
    Mutation(
        name="points-are-drawn-in-half-precision",
        file="specjax/constraints/_gradient_penalty.py",
        old="weight = jax.random.uniform(key, shape, vector_dtype(real.dtype))",
        new="weight = jax.random.uniform(key, shape, real.dtype)",
        killers=(f"{_PENALTY}::test_half_precision_is_summed_in_float32",),
    ),
    Mutation(
        name="a-root-without-its-guard",
        file="specjax/constraints/_root.py",
        old="jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, square)))",
        new="jnp.where(zero, 0, jnp.sqrt(square))",
        killers=(f"{_PENALTY}::test_a_gradient_of_zero_has_finite_derivatives",),
    ),
    Mutation(
        name="real-and-fake-change-places",
        file="specjax/constraints/_losses.py",
        old='return jnp.mean(_wide("fake", fake)) - jnp.mean(_wide("real", real))',
        new='return jnp.mean(_wide("real", real)) - jnp.mean(_wide("fake", fake))',
        killers=(f"{_LOSSES}::test_values_and_slopes",),
    ),
    Mutation(
        name="scores-in-half-precision",
        file="specjax/constraints/_losses.py",
        old="return scores.astype(vector_dtype(scores.dtype))",
        new="return scores",
        killers=(f"{_LOSSES}::test_half_precision_scores_are_summed_in_float32",),
    ),
    Mutation(
        name="a-tie-of-two-is-turned",
        file="specjax/constraints/_group_sort.py",
        old="pair = jnp.where(swap, second, first), jnp.where(swap, first, second)",
        new="pair = jnp.maximum(first, second), jnp.minimum(first, second)",
        killers=(f"{_SORT}::test_the_jacobian_is_a_permutation_ties_included",),
    ),
    Mutation(
        name="an-axis-from-the-end-is-one-off",
        file="specjax/constraints/_group_sort.py",
        old="    axis %= ndim\n",
        new="    axis = axis + ndim - 1 if axis < -1 else axis % ndim\n",
        killers=(f"{_SORT}::test_every_group_is_sorted",),
    ),
    # Split kernels.
    Mutation(
        name="a-mean-that-is-not-finite-goes-to-the-bias",
        file="specjax/constraints/_data_init.py",
        old="mean = jnp.where(jnp.isfinite(mean), mean, 0)",
        new="pass",
        killers=(_WEIGHT_NORM,),
    ),
    Mutation(
        name="a-unit-that-does-not-vary-is-divided-by-zero",
        file="specjax/constraints/_data_init.py",
        old="usable = jnp.isfinite(variance) & (variance > 0)",
        new="usable = jnp.isfinite(variance)",
        killers=(
            f"{_WEIGHT_NORM}::test_data_init_of_a_stack_and_of_units_that_do_not_vary",
        ),
    ),
    Mutation(
        name="one-pass-of-data-init-for-a-stack",
        file="specjax/constraints/_data_init.py",
        old="        math.prod(v.shape[axis] for axis in linear_map.batch_axis)\n",
        new="        math.prod(1 for axis in linear_map.batch_axis)\n",
        killers=(
            f"{_WEIGHT_NORM}::test_data_init_of_a_stack_and_of_units_that_do_not_vary",
        ),
    ),
    Mutation(
        name="a-unit-of-zeros-is-divided",
        file="specjax/constraints/_weight_norm.py",
        old="usable = jnp.isfinite(norm) & (norm > 0)",
        new="usable = jnp.isfinite(norm)",
        killers=(
            f"{_WEIGHT_NORM}::test_a_unit_of_zeros_comes_back_with_a_finite_derivative",
        ),
    ),
    Mutation(
        name="a-fused-kernel-has-a-derivative",
        file="specjax/constraints/_weight_norm.py",
        old="return wn_apply(jax.lax.stop_gradient(split), kernels=kernels)",
        new="return wn_apply(split, kernels=kernels)",
        killers=(f"{_WEIGHT_NORM}::test_fused_params_are_plain_and_constant",),
    ),
    Mutation(
        name="numbers-of-units-in-the-order-of-the-kernel",
        file="specjax/constraints/_units.py",
        old="return root(jnp.transpose(squares, [order.index(i) for i in range(len(kept))]))",
        new="return root(squares)",
        killers=(f"{_WEIGHT_NORM}::test_axes_in_any_order",),
    ),
    Mutation(
        name="units-of-a-flipped-convolution-are-its-inputs",
        file="specjax/constraints/_units.py",
        old="return (channels[0 if transposed else 1],)",
        new="return (channels[1],)",
        killers=(
            f"{_WEIGHT_NORM}::test_units_of_a_convolution_are_its_output_channels",
        ),
    ),
    Mutation(
        name="a-gain-in-integers-fits",
        file="specjax/constraints/_split.py",
        old="return floats and gain.shape in shapes",
        new="return dtype is not None and gain.shape in shapes",
        killers=(
            f"{_WEIGHT_NORM}::test_bad_input",
            f"{_VARIANTS}::test_gains_that_do_not_fit",
        ),
    ),
    Mutation(
        name="a-reparametrization-in-evaluation-takes-a-step",
        file="specjax/constraints/_sigma_reparam.py",
        old="        update_stats=update_stats,\n",
        new="        update_stats=True,\n",
        killers=(
            f"{_VARIANTS}::test_evaluation_and_steps_are_those_of_spectral_normalization",
        ),
    ),
    Mutation(
        name="the-backward-pass-is-the-forward-pass",
        file="specjax/constraints/_backward.py",
        old="return Matrix(out_axis=-2, batch_axis=forward.batch_axis)",
        new="return forward",
        killers=(f"{_VARIANTS}::test_which_map_is_the_backward_pass",),
    ),
    Mutation(
        name="an-attentions-output-is-a-convolution",
        file="specjax/constraints/_backward.py",
        old='(n_own == 3 and path[-2:-1] == ("out",))',
        new='(n_own == 3 and path[-2:-1] == ("query",))',
        killers=(f"{_VARIANTS}::test_which_map_is_the_backward_pass",),
    ),
    Mutation(
        name="a-bad-kernel-spoils-the-state-of-both-ways",
        file="specjax/constraints/_two_norms.py",
        old="jnp.where(jnp.isfinite(new), new, old.sigma)",
        new="new",
        killers=(f"{_VARIANTS}::test_zero_and_what_is_not_finite", _VARIANTS),
    ),
    Mutation(
        name="both-ways-in-evaluation-take-a-step",
        file="specjax/constraints/_bidirectional.py",
        old="n_steps=n_steps if update_stats else 0,",
        new="n_steps=n_steps,",
        killers=(
            f"{_VARIANTS}::test_bidirectional_evaluation_uses_both_u_as_they_are",
        ),
    ),
    Mutation(
        name="fuse-starts-from-a-blind-vector",
        file="specjax/_one_kernel.py",
        old="start = u + generic_direction(u.shape, u.dtype, split_axes(linear_map, u.ndim))",
        new="start = u",
        killers=(
            "tests/test_contract.py::test_n11_fuse_with_a_state_that_is_blind_to_these_params",
        ),
    ),
    Mutation(
        name="init-keeps-a-sigma-that-is-not-finite",
        file="specjax/_one_kernel.py",
        old="return jnp.where(jnp.isfinite(new), new, old)",
        new="return new",
        killers=("tests/test_contract.py::test_n5_bad_kernel_at_init",),
    ),
)
