"""Mutations of the core: the power step, sigma, linear maps, vectors, state, rules."""

from tests.mutations.mutation import Mutation

_ARROWS = "tests/test_arrows.py"
_CONTRACT = "tests/test_contract.py"
_CONV = "tests/test_conv.py"
_KERNELS = "tests/test_kernels.py"
_MESSAGES = "tests/test_messages.py"
_SHARD_MAP = "tests/test_shard_map.py"

MUTATIONS = (
    # The power step.
    Mutation(
        name="no-push-of-u2",
        file="specjax/_turn.py",
        old="PUSH = 1e-3",
        new="PUSH = 0.0",
        killers=(
            f"{_ARROWS}::test_the_further_u_turns_the_more_of_u2_is_where_it_turns_to",
        ),
    ),
    Mutation(
        name="no-cut-of-a-rounded-product",
        file="specjax/_turn.py",
        old="return lax.rsqrt(jnp.maximum(too_small, 1)).astype(c.dtype)",
        new="return jnp.ones_like(too_small).astype(c.dtype)",
        killers=(
            f"{_ARROWS}::test_sigma_from_vectors_that_the_kernel_maps_to_rounding",
        ),
    ),
    Mutation(
        name="a-vector-next-to-nothing-is-no-rounding",
        file="specjax/_turn.py",
        old="clear = PARALLEL * sigma * jnp.abs(c2) < 1",
        new="clear = sigma > -1",
        killers=(f"{_ARROWS}::test_u2_does_not_follow_u_where_it_is_next_to_nothing",),
    ),
    Mutation(
        name="the-same-push-where-nothing-is-beside-u",
        file="specjax/_turn.py",
        old="push=jnp.where(beside > 0, PUSH, rest)",
        new="push=jnp.full_like(rest, PUSH)",
        killers=(f"{_ARROWS}::test_the_norm_of_a_kernel_of_rank_one_is_not_exceeded",),
    ),
    Mutation(
        name="the-tangent-has-the-other-sign",
        file="specjax/_turn.py",
        old="n.ahead * (new_u - made_from)",
        new="n.ahead * (made_from - new_u)",
        killers=(
            f"{_ARROWS}::test_the_further_u_turns_the_more_of_u2_is_where_it_turns_to",
        ),
    ),
    Mutation(
        name="no-conj-of-the-weights-in-the-outputs",
        file="specjax/_turn.py",
        old="outputs = jnp.conj(first) * u, jnp.conj(second) * u",
        new="outputs = first * u, second * u",
        killers=(f"{_CONTRACT}::test_n8_complex64_gradient_at_a_cold_u_holds_u_and_v",),
    ),
    Mutation(
        name="a-tie-turns-u",
        file="specjax/_gram.py",
        old="half, off = half + tie, jnp.where(jnp.abs(off) > tie, off, 0)",
        new="half, off = half, off",
        killers=(f"{_ARROWS}::test_a_tie_does_not_turn_u",),
    ),
    Mutation(
        name="a-second-length-of-rounding-is-kept",
        file="specjax/_gram.py",
        old="left - both > SHORT**2 * left",
        new="left - both > 0",
        killers=(
            f"{_ARROWS}::test_what_two_nearly_parallel_vectors_have_across_is_no_rounding",
        ),
    ),
    Mutation(
        name="sums-of-a-pair-without-conj",
        file="specjax/_gram.py",
        old="products = [jnp.conj(first) * second for first, second in pairs]",
        new="products = [first * second for first, second in pairs]",
        killers=(
            f"{_ARROWS}::test_longest_vector_of_a_plane",
            f"{_CONTRACT}::test_n8_complex64",
        ),
    ),
    Mutation(
        name="no-guard-of-zero-in-evaluation",
        file="specjax/_power.py",
        old="weight = jnp.where(usable, 1 / jnp.where(usable, sigma, 1), 0)",
        new="weight = 1 / sigma",
        killers=(f"{_CONTRACT}::test_n4_gradient_at_a_zero_kernel_is_finite",),
    ),
    Mutation(
        name="a-derivative-through-the-power-step",
        file="specjax/_power.py",
        old="Start(*lax.stop_gradient((s.kernel, s.u, s.u2)), linear_map=s.linear_map)",
        new="Start(*(s.kernel, s.u, s.u2), linear_map=s.linear_map)",
        killers=(_ARROWS,),
    ),
    Mutation(
        name="one-step-less-in-the-loop",
        file="specjax/_power.py",
        old="lax.fori_loop(0, n_steps - 1, next_pairs, pairs)",
        new="lax.fori_loop(0, n_steps - 2, next_pairs, pairs)",
        killers=(f"{_CONTRACT}::test_n_steps_are_power_steps",),
    ),
    Mutation(
        name="v-of-a-bad-kernel-is-not-zero",
        file="specjax/_power.py",
        old="return SingularVectors(step.u, step.u2, jnp.where(usable, v, 0), step.sigma)",
        new="return SingularVectors(step.u, step.u2, v, step.sigma)",
        killers=(f"{_ARROWS}::test_v_of_a_kernel_that_is_zero_or_not_finite_is_zero",),
    ),
    # sigma and the division by it.
    Mutation(
        name="no-second-derivative-of-sigma",
        file="specjax/_sigma.py",
        old="return _sigma(linear_map, *primals), tangent",
        new="return value, tangent",
        killers=(_ARROWS,),
    ),
    Mutation(
        name="a-derivative-in-u-and-v",
        file="specjax/_sigma.py",
        old="kernel, *map(lax.stop_gradient, (value, u, v)))",
        new="kernel, *(value, u, v))",
        killers=(f"{_ARROWS}::test_sigma_and_its_derivative",),
    ),
    Mutation(
        name="no-guard-of-zero-in-the-division",
        file="specjax/_rescale.py",
        old="jnp.where(usable, sigma, 1)",
        new="sigma",
        killers=(f"{_ARROWS}::test_normalize",),
    ),
    Mutation(
        name="cap-raises-what-is-below-the-bound",
        file="specjax/_rescale.py",
        old="usable = usable & (ratio < 1)",
        new="usable = usable & (ratio > 0)",
        killers=(f"{_CONTRACT}::test_bound_and_cap",),
    ),
    Mutation(
        name="a-scale-in-the-kernels-narrow-dtype",
        file="specjax/_rescale.py",
        old="scale = jnp.expand_dims(scale, others).astype(wide)",
        new="scale = jnp.expand_dims(scale, others).astype(kernel.dtype).astype(wide)",
        killers=(f"{_CONTRACT}::test_n8_half_precision_is_of_the_storage_only",),
    ),
    Mutation(
        name="a-capped-kernel-keeps-its-derivative",
        file="specjax/_all_kernels.py",
        old="return scale, jnp.where(scale < 1, tangent, 0) if cap else tangent",
        new="return scale, tangent",
        killers=(f"{_CONTRACT}::test_derivatives_in_kernel_and_bound",),
    ),
    Mutation(
        name="no-derivative-in-the-bound",
        file="specjax/_all_kernels.py",
        old="tangent = scale / bound * (tangents[1] - scale * d_sigma)",
        new="tangent = -scale / bound * scale * d_sigma",
        killers=(f"{_CONTRACT}::test_derivatives_in_kernel_and_bound",),
    ),
    Mutation(
        name="no-second-derivative-of-the-scale",
        file="specjax/_all_kernels.py",
        old="    scale = _scale(linear_map, cap, *primals)\n",
        new="    scale = primals[2]\n",
        killers=(
            f"{_CONTRACT}::test_n7_hessian_is_symmetric_and_that_of_constant_u_and_v",
        ),
    ),
    # The warm-up.
    Mutation(
        name="orthogonalized-once",
        file="specjax/_warmup.py",
        old="for _ in range(2):",
        new="for _ in range(1):",
        killers=(_ARROWS,),
    ),
    Mutation(
        name="no-breakdown",
        file="specjax/_warmup.py",
        old="BREAKDOWN = 1e-5",
        new="BREAKDOWN = 0.0",
        killers=(_ARROWS, "tests/test_bounds.py"),
    ),
    Mutation(
        name="a-krylov-space-of-the-rank",
        file="specjax/_warmup.py",
        old="n_steps = max(1, min(n_steps, n_in + 1, n_out))",
        new="n_steps = max(1, min(n_steps, n_in, n_out))",
        killers=(_ARROWS, "tests/test_bounds.py"),
    ),
    Mutation(
        name="a-krylov-space-of-one-shards-size",
        file="specjax/_warmup.py",
        old="n_out = math.prod(out_shape) * count(shards.over_y)",
        new="n_out = math.prod(out_shape)",
        killers=(f"{_SHARD_MAP}::test_shards_give_what_the_whole_kernel_gives",),
    ),
    Mutation(
        name="coordinates-without-conj",
        file="specjax/_warmup.py",
        old="jnp.sum(jnp.conj(basis) * vector[None], axis=axes)",
        new="jnp.sum(basis * vector[None], axis=axes)",
        killers=(f"{_CONTRACT}::test_n8_complex64", _ARROWS),
    ),
    # Vectors.
    Mutation(
        name="a-hash-without-the-sizes",
        file="specjax/_vectors.py",
        old="index = index * np.uint32(size) + here",
        new="index = index + here",
        killers=(
            f"{_ARROWS}::test_generic_direction_misses_no_coordinate_and_is_no_pattern",
        ),
    ),
    Mutation(
        name="each-device-starts-with-the-same-shard",
        file="specjax/_vectors.py",
        old="start = place(names) * shape[axis]\n        vector",
        new="start = 0 * place(names)\n        vector",
        killers=(f"{_SHARD_MAP}::test_a_random_start_is_the_single_devices",),
    ),
    Mutation(
        name="a-shard-has-the-norm-of-the-whole",
        file="specjax/_vectors.py",
        old="scale = (12 / 7 / max(1, math.prod(whole))) ** 0.5",
        new="scale = (12 / 7 / max(1, math.prod(shape))) ** 0.5",
        killers=(
            f"{_SHARD_MAP}::test_a_shard_of_a_generic_direction_is_that_of_the_whole",
        ),
    ),
    # Linear maps.
    Mutation(
        name="the-adjoint-of-a-matrix-without-conj",
        file="specjax/_linear_map.py",
        old="summed(_contract(jnp.conj(kernel), y, *sides), whole.shards().over_y)",
        new="summed(_contract(kernel, y, *sides), whole.shards().over_y)",
        killers=(f"{_ARROWS}::test_apply_and_adjoint_are_the_matrix_and_its_adjoint",),
    ),
    Mutation(
        name="an-outer-product-without-conj",
        file="specjax/_linear_map.py",
        old="jnp.expand_dims(jnp.conj(y), in_axis)",
        new="jnp.expand_dims(y, in_axis)",
        killers=(f"{_CONTRACT}::test_n8_complex64_gradient_is_the_svds",),
    ),
    Mutation(
        name="a-product-at-the-default-precision",
        file="specjax/_linear_map.py",
        old="highest, own = lax.Precision.HIGHEST, tuple(range(len(over)))",
        new="highest, own = None, tuple(range(len(over)))",
        killers=(f"{_ARROWS}::test_products_on_a_cpu_name_their_precision",),
    ),
    Mutation(
        name="an-axis-may-be-left-out",
        file="specjax/_linear_map.py",
        old="elif self.in_axis is not None and rest:",
        new="elif self.in_axis is not None and not rest and False:",
        killers=(f"{_MESSAGES}::test_axes_that_do_not_fit_the_kernel",),
    ),
    Mutation(
        name="a-batch-of-two-axes-in-the-other-order",
        file="specjax/_batch.py",
        old="for gone, axis in reversed(list(enumerate(whole.batch_axis))):",
        new="for gone, axis in [(0, a) for a in whole.batch_axis[::-1]]:",
        killers=(f"{_CONTRACT}::test_n13_two_batch_axes_anywhere",),
    ),
    Mutation(
        name="one-cast-of-the-kernel-for-all-uses",
        file="specjax/_batch.py",
        old="return lax.optimization_barrier((kernel, vector))[0]",
        new="return kernel",
        killers=(
            f"{_CONTRACT}::test_n8_a_bfloat16_kernel_is_never_a_float32_array_in_memory",
        ),
    ),
    Mutation(
        name="no-wall-between-there-and-back",
        file="specjax/_both_ways.py",
        old="v, v2 = lax.optimization_barrier((v, v2))\n        once",
        new="pass\n        once",
        killers=(
            "tests/tpu/test_kernels.py::test_an_update_of_a_convolution_reads_the_kernel_twice",
        ),
    ),
    Mutation(
        name="a-batch-is-nothing-if-its-first-array-is",
        file="specjax/_together.py",
        old="[jnp.any(x != 0) for x in batch])",
        new="[jnp.any(x != 0) for x in batch[:1]])",
        killers=(
            "tests/test_together.py::test_a_batch_in_which_only_one_of_the_arrays_is_not_zero",
        ),
    ),
    Mutation(
        name="a-member-gets-its-neighbors-vectors",
        file="specjax/_together.py",
        old="places = lax.cond(anything, lambda: each, lambda: each[:1] * len(each))",
        new="places = lax.cond(anything, lambda: each[::-1], lambda: each[:1] * len(each))",
        killers=("tests/test_together.py::test_a_batch_of_kernels_against_each_alone",),
    ),
    Mutation(
        name="real-and-imaginary-sums-change-places",
        file="specjax/_columns.py",
        old="return sums.real, sums.imag",
        new="return sums.imag, sums.real",
        killers=("tests/test_gpu_form.py::test_a_kernels_products_are_numpys",),
    ),
    # Convolutions.
    Mutation(
        name="circular-ends-change-places",
        file="specjax/_conv.py",
        old="[(r, 0) if causal else (r // 2, (r + 1) // 2) for r in reach]",
        new="[(r, 0) if causal else ((r + 1) // 2, r // 2) for r in reach]",
        killers=(f"{_CONV}::test_apply_and_adjoint_are_the_layer_and_its_adjoint",),
    ),
    Mutation(
        name="causal-zeros-at-the-end",
        file="specjax/_conv.py",
        old="[(r, 0) if causal else (r // 2, (r + 1) // 2) for r in reach]",
        new="[(0, r) if causal else (r // 2, (r + 1) // 2) for r in reach]",
        killers=(f"{_CONV}::test_apply_and_adjoint_are_the_layer_and_its_adjoint",),
    ),
    Mutation(
        name="periods-aligned-at-the-other-end",
        file="specjax/_conv.py",
        old="(less, more) if odd_at_end else (more, less)",
        new="(more, less) if odd_at_end else (less, more)",
        killers=(f"{_CONV}::test_apply_and_adjoint_are_the_layer_and_its_adjoint",),
    ),
    Mutation(
        name="the-adjoint-of-a-convolution-without-conj",
        file="specjax/_conv.py",
        old="self._convolve(jnp.conj(kernel), x)",
        new="self._convolve(kernel, x)",
        killers=(f"{_CONV}::test_complex_kernel_is_its_own_adjoint_pair",),
    ),
    Mutation(
        name="a-convolution-at-the-default-precision",
        file="specjax/_conv.py",
        old="            feature_group_count=self.feature_group_count,\n"
        "            precision=lax.Precision.HIGHEST",
        new="            feature_group_count=self.feature_group_count,\n"
        "            precision=lax.Precision.DEFAULT",
        killers=("tests/test_precision.py",),
    ),
    Mutation(
        name="an-output-of-no-pixels-is-allowed",
        file="specjax/_conv.py",
        old="if min(out_shape) < 1:",
        new="if min(out_shape) < 0:",
        killers=(f"{_CONV}::test_words_that_do_not_fit",),
    ),
    # State, rules, options.
    Mutation(
        name="a-state-of-another-dtype-fits",
        file="specjax/_state.py",
        old='getattr(held, "shape", None) == need.shape and held.dtype == need.dtype',
        new='getattr(held, "shape", None) == need.shape',
        killers=(f"{_MESSAGES}::test_a_state_that_does_not_fit_names_every_path",),
    ),
    Mutation(
        name="the-state-of-vectors-is-narrow",
        file="specjax/_vectors.py",
        old="return jnp.dtype(jnp.float32) if narrow else jnp.dtype(dtype)",
        new="return jnp.dtype(dtype)",
        killers=(f"{_CONTRACT}::test_n8_result_in_the_kernels_dtype_state_in_float32",),
    ),
    Mutation(
        name="a-stack-of-remat-scan-is-guessed",
        file="specjax/_kernels.py",
        old="if rank not in ranks or shared or unknown:",
        new="if rank not in ranks or shared:",
        killers=(f"{_MESSAGES}::test_an_undecided_kernel_says_what_to_pass",),
    ),
    Mutation(
        name="a-shared-kernel-is-guessed",
        file="specjax/_kernels.py",
        old="if rank not in ranks or shared or unknown:",
        new="if rank not in ranks or unknown:",
        killers=(f"{_MESSAGES}::test_an_undecided_kernel_says_what_to_pass",),
    ),
    Mutation(
        name="a-pattern-matches-the-beginning",
        file="specjax/_kernels.py",
        old="matches = (value for p, value in patterns if p.fullmatch(join(path)))",
        new="matches = (value for p, value in patterns if p.match(join(path)))",
        killers=(f"{_KERNELS}::test_first_match_of_a_mapping_wins_and_must_be_full",),
    ),
    Mutation(
        name="scan-anywhere-in-a-name-is-a-stack",
        file="specjax/_kernels.py",
        old="len(_STACKING.findall(name[: lifted.end() + 1]))",
        new="len(_STACKING.findall(name))",
        killers=(
            f"{_KERNELS}::test_scan_or_vmap_inside_of_a_users_own_name_is_no_stack",
        ),
    ),
    Mutation(
        name="value-is-read-as-out",
        file="specjax/_kernels.py",
        old='module in ("query", "key", "value")',
        new='module in ("query", "key")',
        killers=(f"{_KERNELS}::test_flax_kernels",),
    ),
    Mutation(
        name="integers-are-kernels",
        file="specjax/_kernels.py",
        old="elif not jnp.issubdtype(leaf.dtype, jnp.inexact):",
        new="elif not jnp.issubdtype(leaf.dtype, jnp.number):",
        killers=(f"{_MESSAGES}::test_kinds_are_type_errors",),
    ),
    Mutation(
        name="only-the-first-bad-leaf-is-named",
        file="specjax/_errors.py",
        old='raise error("\\n".join(complaints))',
        new="raise error(complaints[0])",
        killers=(f"{_MESSAGES}::test_every_bad_leaf_is_in_one_message",),
    ),
    Mutation(
        name="a-bound-of-zero-is-allowed",
        file="specjax/_options.py",
        old='"a number above 0", lambda x: 0 < x < math.inf)',
        new='"a number above 0", lambda x: 0 <= x < math.inf)',
        killers=(f"{_MESSAGES}::test_bound_out_of_range",),
    ),
    Mutation(
        name="an-infinite-bound-is-allowed",
        file="specjax/_options.py",
        old='"a number above 0", lambda x: 0 < x < math.inf)',
        new='"a number above 0", lambda x: 0 < x)',
        killers=(f"{_MESSAGES}::test_bound_out_of_range",),
    ),
    Mutation(
        name="a-bool-is-a-number-of-steps",
        file="specjax/_options.py",
        old="if isinstance(n_steps, bool) or not isinstance(n_steps, numbers.Integral):",
        new="if not isinstance(n_steps, numbers.Integral):",
        killers=(f"{_MESSAGES}::test_options_that_must_be_static",),
    ),
    Mutation(
        name="two-leaves-of-one-name-are-one",
        file="specjax/_tree.py",
        old="if len(named) < len(leaves):",
        new="if len(named) < 0:",
        killers=(f"{_MESSAGES}::test_two_leaves_of_one_name",),
    ),
    Mutation(
        name="the-box-of-nnx-has-a-name-of-its-own",
        file="specjax/_tree.py",
        old='_BOXED = ("value", "raw_value")',
        new='_BOXED = ("value",)',
        killers=(f"{_KERNELS}::test_a_leaf_in_a_box_has_the_path_of_the_box",),
    ),
    # Presets.
    Mutation(
        name="a-transposed-convolution-of-haiku-as-a-plain-one",
        file="specjax/_presets.py",
        old="out_axis=-2 if transposed else -1",
        new="out_axis=-1",
        killers=(f"{_KERNELS}::test_haiku_presets_by_svd",),
    ),
    Mutation(
        name="the-second-conv1d-of-haiku-is-undecided",
        file="specjax/_presets.py",
        old=r'r".*conv1_d(_transpose)?(_\d+)?"',
        new=r'r".*conv1_d(_transpose)?"',
        killers=(f"{_KERNELS}::test_haiku_presets_by_svd",),
    ),
    Mutation(
        name="a-stack-of-equinox-has-its-outputs-in-front",
        file="specjax/_presets.py",
        old="return Matrix(out_axis=n_stacks, batch_axis=tuple(range(n_stacks)))",
        new="return Matrix(out_axis=-2, batch_axis=tuple(range(n_stacks)))",
        killers=(f"{_KERNELS}::test_equinox_preset_by_svd",),
    ),
    Mutation(
        name="a-subclass-of-an-equinox-layer-is-unknown",
        file="specjax/_presets.py",
        old="for ancestor in type(node).__mro__:",
        new="for ancestor in type(node).__mro__[:1]:",
        killers=(f"{_KERNELS}::test_equinox_preset_by_svd",),
    ),
    # Shards.
    Mutation(
        name="a-spec-of-all-params-is-not-found",
        file="specjax/_specs.py",
        old="for length in range(len(path), -1, -1):",
        new="for length in range(len(path), 0, -1):",
        killers=(
            f"{_SHARD_MAP}::test_specs_of_the_state_are_those_of_the_output_axes",
        ),
    ),
    Mutation(
        name="sigma-of-a-split-stack-is-whole",
        file="specjax/_specs.py",
        old="u, sigma = PartitionSpec(*split), PartitionSpec(*split[:n_batch])",
        new="u, sigma = PartitionSpec(*split), PartitionSpec()",
        killers=(
            f"{_SHARD_MAP}::test_specs_of_the_state_are_those_of_the_output_axes",
        ),
    ),
    Mutation(
        name="a-spec-may-leave-out-an-axis",
        file="specjax/_check_spec.py",
        old="if varies - named:",
        new="if varies and not named:",
        killers=(f"{_SHARD_MAP}::test_a_spec_that_leaves_out_an_axis_is_refused",),
    ),
    Mutation(
        name="a-spec-may-name-an-axis-twice",
        file="specjax/_check_spec.py",
        old="if len(set(names)) < len(names):",
        new="if len(set(names)) < 0:",
        killers=(f"{_SHARD_MAP}::test_a_spec_that_is_none_is_refused",),
    ),
    Mutation(
        name="sigma-may-differ-where-the-kernel-does-not",
        file="specjax/_check_spec.py",
        old='own = {"u": shards.over_y, "u2": shards.over_y, "v": shards.over_x}',
        new='own = {"u": shards.over_y, "u2": shards.over_y, "v": shards.over_x, '
        '"sigma": shards.over_y}',
        killers=(
            f"{_SHARD_MAP}::test_a_sigma_that_differs_between_shards_of_one_kernel_is_refused",
        ),
    ),
)
