"""Mutations of the bounds and of the certificates, which have to stay bounds."""

from tests.mutations.mutation import Mutation

_BOUNDS = "tests/test_bounds.py"
_CONV = "tests/test_bounds_conv.py"
_DENSE = "tests/test_bounds_dense.py"
_CERTIFIED = "tests/test_certified.py"
_LIPSCHITZ = "tests/test_lipschitz.py"

MUTATIONS = (
    # Rounding.
    Mutation(
        name="half-of-the-rounding",
        file="specjax/bounds/_rounding.py",
        old="total = n * float(jnp.finfo(dtype).eps) / 2",
        new="total = n * float(jnp.finfo(dtype).eps) / 4",
        killers=(f"{_BOUNDS}::test_gamma_is_what_so_many_roundings_can_hide",),
    ),
    Mutation(
        name="a-sum-beyond-the-model-has-an-error-below-zero",
        file="specjax/bounds/_rounding.py",
        old='return total / (1 - total) if total < 1 else float("inf")',
        new="return total / (1 - total)",
        killers=(f"{_BOUNDS}::test_gamma_is_what_so_many_roundings_can_hide",),
    ),
    Mutation(
        name="a-power-of-two-is-the-number",
        file="specjax/bounds/_rounding.py",
        old="bits = bits >> info.nmant << info.nmant",
        new="bits = bits >> 1 << 1",
        killers=(f"{_BOUNDS}::test_the_power_of_two_below_a_number",),
    ),
    Mutation(
        name="a-root-of-zero-has-an-infinite-slope",
        file="specjax/bounds/_rounding.py",
        old="positive = jnp.where(value > 0, value, 1)",
        new="positive = value",
        killers=(
            f"{_BOUNDS}::test_the_gradient_of_the_bound_is_that_of_a_schatten_norm",
        ),
    ),
    Mutation(
        name="a-gram-matrix-loses-nothing",
        file="specjax/bounds/_gram.py",
        old="return up(scale * root(up(bound + lost))), None",
        new="return up(scale * root(up(bound))), None",
        killers=(f"{_BOUNDS}::test_what_rounding_can_hide_is_in_the_bound",),
    ),
    Mutation(
        name="a-complex-gram-matrix-loses-nothing",
        file="specjax/bounds/_gram.py",
        old="size = 1.5 * size",
        new="size = 0.0 * size",
        killers=(f"{_BOUNDS}::test_what_rounding_can_hide_is_in_the_bound",),
    ),
    Mutation(
        name="the-last-block-of-a-sum-is-left-out",
        file="specjax/bounds/_gram.py",
        old="missing = n_groups * per_group * length - len(left)",
        new="left, right = left[: len(left) // length * length], right[: len(left) "
        "// length * length]\n"
        "    missing = n_groups * per_group * length - len(left)",
        killers=(f"{_BOUNDS}::test_what_rounding_can_hide_is_in_the_bound",),
    ),
    # Closed forms.
    Mutation(
        name="aol-loses-nothing",
        file="specjax/bounds/_closed.py",
        old="return sums + 2 * gamma(n_roundings, most.dtype) * most",
        new="return sums",
        killers=(f"{_BOUNDS}::test_aol_of_many_equal_entries",),
    ),
    Mutation(
        name="a-complex-correlation-without-conj",
        file="specjax/bounds/_closed.py",
        old="_real_correlation(real, real) + _real_correlation(imag, imag),",
        new="_real_correlation(real, real) - _real_correlation(imag, imag),",
        killers=(f"{_BOUNDS}::test_other_dtypes",),
    ),
    Mutation(
        name="the-larger-of-two-row-sums",
        file="specjax/bounds/_closed.py",
        old="jnp.minimum(*map(jnp.max, rows))",
        new="jnp.maximum(*map(jnp.max, rows))",
        killers=(
            f"{_BOUNDS}::test_the_frobenius_norm_and_aol_are_what_they_say",
            f"{_CONV}::test_the_fantastic_four_and_aol_are_what_they_say",
        ),
    ),
    Mutation(
        name="a-fantastic-three",
        file="specjax/bounds/_closed.py",
        old="for n_left in range(n + 1):",
        new="for n_left in range(n):",
        killers=(f"{_CONV}::test_the_fantastic_four_and_aol_are_what_they_say",),
    ),
    Mutation(
        name="the-frobenius-norm-of-the-kernel-for-an-operator",
        file="specjax/bounds/_upper.py",
        old="bounds = up(whole * math.prod(window) ** 0.5)",
        new="bounds = up(whole)",
        killers=(f"{_CONV}::test_the_closed_forms_and_every_size_are_bounds",),
    ),
    # Circular convolutions.
    Mutation(
        name="a-size-rounded-down-to-the-stride",
        file="specjax/bounds/_circular.py",
        old="size = -(-size // (stride * dilation)) * stride * dilation",
        new="size = max(1, size // (stride * dilation)) * stride * dilation",
        killers=(_CONV,),
    ),
    Mutation(
        name="a-reach-of-one-point-less",
        file="specjax/bounds/_circular.py",
        old="min(max(low, 0) + max(high, 0), reach - 1)",
        new="min(max(low, 0) + max(high, 0), reach - 2)",
        killers=(_CONV,),
    ),
    Mutation(
        name="only-one-end-is-padded",
        file="specjax/bounds/_circular.py",
        old="min(max(low, 0) + max(high, 0), reach - 1)",
        new="min(max(low, 0, high), reach - 1)",
        killers=(_CONV,),
    ),
    Mutation(
        name="a-grid-is-every-frequency",
        file="specjax/bounds/_circular.py",
        old="factor *= min(by_cosine, (1 - degree / n_classes) ** -0.5)",
        new="factor *= 1.0",
        killers=(f"{_CONV}::test_between_the_frequencies_of_the_grid",),
    ),
    Mutation(
        name="a-reflected-pixel-counts-once",
        file="specjax/bounds/_circular.py",
        old="return math.prod(axis.repeats for axis in axes) ** 0.5",
        new="return 1.0",
        killers=(f"{_CONV}::test_reflected_images_count_twice",),
    ),
    Mutation(
        name="no-two-windows-overlap-and-none-is-whole",
        file="specjax/bounds/_circular.py",
        old="seen = _sees_a_whole_window(words, low, high) and dilation == 1",
        new="seen = dilation == 1",
        killers=(
            f"{_CONV}::test_the_norm_is_between_its_bounds",
            f"{_CONV}::test_every_singular_value",
        ),
    ),
    Mutation(
        name="a-circle-that-the-stride-does-not-divide",
        file="specjax/bounds/_circular.py",
        old="exact = size % stride == 0",
        new="exact = True",
        killers=(f"{_CONV}::test_the_norm_is_between_its_bounds",),
    ),
    Mutation(
        name="a-computed-block-is-the-true-one",
        file="specjax/bounds/_upper.py",
        old="return up(best + jnp.max(block_error(taps, axes)))",
        new="return up(best)",
        killers=(_CONV,),
    ),
    Mutation(
        name="half-of-the-frequencies-and-one-less",
        file="specjax/bounds/_spectrum.py",
        old="counts[-1] = counts[-1] // 2 + 1",
        new="counts[-1] = (counts[-1] + 1) // 2",
        killers=(f"{_CONV}::test_the_norm_is_between_its_bounds",),
    ),
    Mutation(
        name="half-of-the-frequencies-of-a-complex-kernel",
        file="specjax/bounds/_spectrum.py",
        old="return classes(axes, half and not jnp.issubdtype("
        "kernel.dtype, jnp.complexfloating))",
        new="return classes(axes, half)",
        killers=(f"{_CONV}::test_complex_kernels_need_both_halves_of_the_spectrum",),
    ),
    Mutation(
        name="phases-that-overflow-are-not-refused",
        file="specjax/bounds/_spectrum.py",
        old="if axis.size * axis.reach >= 2**31:",
        new="if axis.size >= 2**31:",
        killers=(f"{_CONV}::test_a_signal_too_long_for_exact_phases_is_refused",),
    ),
    Mutation(
        name="groups-of-channels-change-places",
        file="specjax/bounds/_spectrum.py",
        old="split = kernel.reshape(math.prod(window), n_in, groups, n_out // groups)\n"
        "    taps = jnp.moveaxis(split, 2, 0)",
        new="split = kernel.reshape(math.prod(window), n_in, n_out // groups, groups)\n"
        "    taps = jnp.moveaxis(split, 3, 0)",
        killers=(f"{_CONV}::test_the_norm_is_between_its_bounds",),
    ),
    Mutation(
        name="channels-of-a-transposed-kernel-as-they-lie",
        file="specjax/bounds/_dense.py",
        old="return at_place.T",
        new="return at_place",
        killers=(_DENSE,),
    ),
    # Division by a bound.
    Mutation(
        name="rounding-the-result-adds-nothing",
        file="specjax/bounds/_certified.py",
        old="return up(proved + _rounding(kernel, linear_map=linear_map), 8)",
        new="return up(proved, 8)",
        killers=(f"{_CERTIFIED}::test_rounding_the_result_is_part_of_the_proof",),
    ),
    Mutation(
        name="rounding-an-operator-as-a-matrix",
        file="specjax/bounds/_certified.py",
        old="return math.prod(window) ** 0.5 * repeats(containing(linear_map, shape))",
        new="return 1.0",
        killers=(
            f"{_CERTIFIED}::test_rounding_a_convolution_adds_in_each_place_of_its_window",
        ),
    ),
    Mutation(
        name="entries-that-underflow-add-nothing",
        file="specjax/_one_kernel.py",
        old=" - underflow(kernel, linear_map)",
        new="",
        killers=(
            f"{_CERTIFIED}::test_entries_that_are_hardly_numbers_round_up_within_the_bound",
        ),
    ),
    Mutation(
        name="subnormal-numbers-are-kept-in-bfloat16",
        file="specjax/bounds/_certified.py",
        old="limits.smallest_subnormal if half else limits.tiny",
        new="limits.smallest_subnormal",
        killers=(f"{_CERTIFIED}::test_entries_that_a_backend_may_flush_to_zero",),
    ),
    # Sizes, shapes and words.
    Mutation(
        name="a-method-may-take-any-memory",
        file="specjax/bounds/_size.py",
        old="if needed <= max_bytes:",
        new="if needed <= max_bytes**2:",
        killers=(
            f"{_BOUNDS}::test_a_kernel_too_large_says_so_before_anything_is_allocated",
        ),
    ),
    Mutation(
        name="a-stack-takes-the-memory-of-one-kernel",
        file="specjax/bounds/_exact.py",
        old="needed * (math.prod(shape) // math.prod(one)),",
        new="needed,",
        killers=(
            f"{_BOUNDS}::test_a_kernel_too_large_says_so_before_anything_is_allocated",
        ),
    ),
    Mutation(
        name="singular-values-in-ascending-order",
        file="specjax/bounds/_exact.py",
        old="half=False).ravel(), descending=True)",
        new="half=False).ravel(), descending=False)",
        killers=(f"{_CONV}::test_every_singular_value",),
    ),
    Mutation(
        name="the-number-of-steps-of-lower-is-not-passed-on",
        file="specjax/bounds/_lower.py",
        old="start, linear_map, n_steps)",
        new="start, linear_map)",
        killers=(f"{_BOUNDS}::test_a_lower_bound_takes_as_many_steps_as_it_is_told",),
    ),
    Mutation(
        name="a-shard-of-the-inputs-is-a-kernel",
        file="specjax/bounds/_views.py",
        old="if shards.over_x or shards.over_y:",
        new="if shards.over_y:",
        killers=(
            "tests/test_shard_map.py::test_what_needs_the_whole_kernel_refuses_a_shard",
        ),
    ),
    Mutation(
        name="an-operators-norm-is-labelled-a-matrix",
        file="specjax/bounds/_norm.py",
        old='return "operator" if isinstance(linear_map, Conv) else "matrix"',
        new='return "matrix"',
        killers=(f"{_CONV}::test_the_norm_is_between_its_bounds", _CONV),
    ),
    # Certificates.
    Mutation(
        name="a-root-of-a-square-may-be-too-small",
        file="specjax/certificates/_upward.py",
        old="while Fraction(found) ** 2 < square:",
        new="while False:",
        killers=(f"{_LIPSCHITZ}::test_a_root_is_never_below_the_exact_one",),
    ),
    Mutation(
        name="a-product-rounded-to-nearest",
        file="specjax/certificates/_upward.py",
        old="return nearest if nearest >= exact else math.nextafter(nearest, math.inf)",
        new="return nearest",
        killers=(
            f"{_LIPSCHITZ}::test_sums_and_products_are_never_below_the_exact_ones",
        ),
    ),
    Mutation(
        name="zero-times-unknown-is-zero",
        file="specjax/certificates/_upward.py",
        old="    factors = list(factors)\n    if math.inf in factors:\n",
        new="    factors = list(factors)\n    if math.inf in factors and 0 not in factors:\n",
        killers=(
            f"{_LIPSCHITZ}::test_a_zero_kernel_and_an_unknown_function_have_no_finite_product",
        ),
    ),
    Mutation(
        name="a-residual-is-a-product",
        file="specjax/certificates/_chain.py",
        old="constant = total(factor.constant for factor in inner)",
        new="constant = product(factor.constant for factor in inner)",
        killers=(
            f"{_LIPSCHITZ}::test_a_random_network_against_gradient_ascent",
            f"{_LIPSCHITZ}::test_the_factors_make_the_value",
        ),
    ),
    Mutation(
        name="a-repeat-takes-the-first-slice-each-time",
        file="specjax/certificates/_chain.py",
        old="factors, shape = walk(part.parts, shape, network, i)",
        new="factors, shape = walk(part.parts, shape, network, 0)",
        killers=(
            f"{_LIPSCHITZ}::test_layers_one_after_another_as_a_scan_applies_them",
        ),
    ),
    Mutation(
        name="a-bound-that-is-not-a-number-is-one",
        file="specjax/certificates/_chain.py",
        old="return math.inf if math.isnan(number) else number",
        new="return number",
        killers=(
            f"{_LIPSCHITZ}::test_a_kernel_that_is_not_finite_has_no_constant",
            f"{_LIPSCHITZ}::test_a_claim_is_listed_as_one",
            _LIPSCHITZ,
        ),
    ),
    Mutation(
        name="a-sum-that-broadcasts-is-allowed",
        file="specjax/certificates/_chain.py",
        old="if None not in shapes and shapes[0] != shapes[1]:",
        new="if None not in shapes and len(shapes[0]) != len(shapes[1]):",
        killers=(f"{_LIPSCHITZ}::test_parts_that_do_not_fit_each_other",),
    ),
    Mutation(
        name="an-operator-takes-any-leading-axes",
        file="specjax/certificates/_chain.py",
        old="if rest < 0 or (whole and rest) or shape[rest:] != before:",
        new="if rest < 0 or shape[rest:] != before:",
        killers=(f"{_LIPSCHITZ}::test_parts_that_do_not_fit_each_other",),
    ),
    Mutation(
        name="the-slope-of-elu-is-one",
        file="specjax/certificates/_activations.py",
        old='return Slope(_one_or(alpha), "f\' is alpha e^x below 0: max(1, |alpha|)")',
        new='return Slope(1.0, "f\' is alpha e^x below 0: max(1, |alpha|)")',
        killers=(
            f"{_LIPSCHITZ}::test_the_constant_is_the_steepest_slope_on_a_dense_grid",
        ),
    ),
    Mutation(
        name="the-two-forms-of-gelu-change-places",
        file="specjax/certificates/_activations.py",
        old="    if approximate:\n",
        new="    if not approximate:\n",
        killers=(
            f"{_LIPSCHITZ}::test_the_constants_of_smooth_functions_against_autodiff_at_their_maximum",
            f"{_LIPSCHITZ}::test_the_constant_is_the_steepest_slope_on_a_dense_grid",
        ),
    ),
    Mutation(
        name="arguments-of-a-partial-are-ignored",
        file="specjax/certificates/_activations.py",
        old="        if function.args:\n            return None\n",
        new="",
        killers=(f"{_LIPSCHITZ}::test_what_is_not_in_the_table_is_named_and_infinite",),
    ),
    Mutation(
        name="a-pixel-is-in-window-over-step-windows-rounded-down",
        file="specjax/certificates/_pools.py",
        old="return math.prod(-(-window // step) for window, step in pairs)",
        new="return math.prod(max(1, window // step) for window, step in pairs)",
        killers=(
            f"{_LIPSCHITZ}::test_the_maximum_of_a_window_against_pairs_of_images",
        ),
    ),
    Mutation(
        name="windows-overlap-on-one-side",
        file="specjax/certificates/_pools.py",
        old="counts *= window + 2 * sum(range(window - step, 0, -step))",
        new="counts *= window + sum(range(window - step, 0, -step))",
        killers=(
            f"{_LIPSCHITZ}::test_the_mean_of_a_window_against_its_dense_operator",
        ),
    ),
    Mutation(
        name="padding-is-never-in-the-mean",
        file="specjax/certificates/_pools.py",
        old='if self.count_include_pad or self.padding == "VALID":',
        new="if True:",
        killers=(
            f"{_LIPSCHITZ}::test_the_mean_of_a_window_against_its_dense_operator",
        ),
    ),
    Mutation(
        name="a-printed-constant-is-rounded-to-nearest",
        file="specjax/certificates/_certificate.py",
        old="_DIGITS = Context(prec=6, rounding=ROUND_CEILING)",
        new="_DIGITS = Context(prec=6)",
        killers=(f"{_LIPSCHITZ}::test_printed_numbers_are_rounded_up",),
    ),
    Mutation(
        name="a-layer-may-be-forgotten",
        file="specjax/certificates/_named_layers.py",
        old="forgotten = [path for path in leaves if path not in used]",
        new="forgotten = []",
        killers=(
            f"{_LIPSCHITZ}::test_a_name_that_does_not_exist_and_a_layer_that_is_forgotten",
        ),
    ),
    Mutation(
        name="a-lower-bound-will-do-for-a-kernel",
        file="specjax/certificates/_lipschitz.py",
        old='if norm.kind != "upper":',
        new='if norm.kind == "lower":',
        killers=(
            f"{_LIPSCHITZ}::test_another_method_for_the_kernels_must_be_an_upper_bound",
        ),
    ),
)
